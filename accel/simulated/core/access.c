/* Memory access off the inline path: segment and alignment checks, page crossings, pages with code, devices.
 *
 * A device access leaves the guest (EPT_VIOLATION); exits.c appends its result to the replay log, the instruction
 * starts again and finds it there.  A log that does not match any more (the guest's state was changed between) is cut
 * off.
 */
#include <string.h>
#include "access.h"
#include "system.h"

bool seg_in_limit(const struct seg *s, u64 ea, unsigned size) {
    u64 last = ea + size - 1;
    if ((s->attr & (SA_S | SA_CODE | SA_DOWN)) == (SA_S | SA_DOWN))
        return ea > s->limit && last <= ((s->attr & SA_DB) ? 0xffffffffu : 0xffffu);
    return last <= s->limit;
}

static bool seg_rights(const sim_vcpu *cpu, const struct seg *s, bool write) {
    if (real_mode(cpu))
        return !write || (s->attr & SA_CODE) || (s->attr & SA_RW);
    if (s->attr & SA_UNUSABLE)
        return false;
    if (write)
        return (s->attr & (SA_CODE | SA_RW)) == SA_RW;
    return !(s->attr & SA_CODE) || (s->attr & SA_RW);
}

/* Offset to linear address, or the segment's fault; no look at the alignment. */
static u64 linear_unaligned(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, bool write) {
    const struct seg *s = &cpu->seg[seg];
    u64 lin;
    if (cpu->mode == MODE64) {
        lin = s->fbase + ea;
        if (unlikely(!canonical(lin) || !canonical(lin + size - 1)))
            raise_fault(cpu, seg == SS ? EXC_SS : EXC_GP, 0);
    } else {
        if (unlikely(!seg_rights(cpu, s, write) || !seg_in_limit(s, ea, size)))
            raise_fault(cpu, seg == SS ? EXC_SS : EXC_GP, 0);
        lin = (u32)(s->base + ea);
    }
    return lin;
}
static u64 linear(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, bool write) {
    u64 lin = linear_unaligned(cpu, seg, ea, size, write);
    if (alignment_checked(cpu) && unlikely(size <= 8 && (size & (size - 1)) == 0 && (lin & (size - 1))))
        raise_fault(cpu, EXC_AC, 0);
    return lin;
}

/* Data breakpoints: note a hit, the trap comes when the instruction is complete. */
static void watch(sim_vcpu *cpu, u64 lin, unsigned size, bool write) {
    static const u8 bytes[4] = {1, 2, 8, 4};
    const u64 *dr = active_dr(cpu);
    for (unsigned n = 0; n < 4; n++) {
        unsigned rw = (dr[7] >> (16 + 4 * n)) & 3, len = (dr[7] >> (18 + 4 * n)) & 3;
        if (!((dr[7] >> (2 * n)) & 3) || !(rw == 3 || (rw == 1 && write)))
            continue;
        u64 first = dr[n] & ~(u64)(bytes[len] - 1);
        if (lin < first + bytes[len] && first < lin + size)
            cpu->db_pending |= 1u << n;
    }
}
static inline void watch_data(sim_vcpu *cpu, u64 lin, unsigned size, bool write) {
    if (unlikely(sys_state(cpu)->data_breakpoints))
        watch(cpu, lin, size, write);
}

/* ---- devices ---- */

static u64 device_read(sim_vcpu *cpu, u64 gpa, unsigned size) {
    struct replay *r = &cpu->replay;
    if (r->pos < r->n) {
        if (r->e[r->pos].gpa == gpa && r->e[r->pos].size == size && !r->e[r->pos].write)
            return r->e[r->pos++].value;
        r->n = r->pos;
    }
    cpu->exit.gpa = gpa;
    cpu->exit.size = (u8)size;
    cpu->exit.write = 0;
    cpu->exit.value = 0;
    vm_exit(cpu, EXIT_REASON_EPT_VIOLATION);
}

static void device_write(sim_vcpu *cpu, u64 gpa, unsigned size, u64 value) {
    struct replay *r = &cpu->replay;
    if (r->pos < r->n) {
        if (r->e[r->pos].gpa == gpa && r->e[r->pos].size == size && r->e[r->pos].write) {
            r->pos++;
            return;
        }
        r->n = r->pos;
    }
    cpu->exit.gpa = gpa;
    cpu->exit.size = (u8)size;
    cpu->exit.write = 1;
    cpu->exit.value = value;
    vm_exit(cpu, EXIT_REASON_EPT_VIOLATION);
}

/* ---- by linear address ---- */

static inline bool writable_ram(const struct tlb_info *t) { return t->slot && !(t->slot->flags & KVM_MEM_READONLY); }

/* [lin, lin+size) lies within one page. */
static u64 page_read(sim_vcpu *cpu, u64 lin, unsigned size, unsigned level) {
    struct tlb_info *t = tlb_get(cpu, lin, ACCESS_READ, level);
    u64 gpa = t->gpa | (lin & ~PAGE_MASK), v = 0;
    if (!t->slot)
        return device_read(cpu, gpa, size);
    const u8 *p = slot_host(t->slot, gpa);
    switch (size) { /* a single load each, so that other vCPUs' aligned stores are seen whole */
    case 1:
        return *p;
    case 2: {
        u16 x;
        memcpy(&x, p, 2);
        return x;
    }
    case 4: {
        u32 x;
        memcpy(&x, p, 4);
        return x;
    }
    case 8:
        memcpy(&v, p, 8);
        return v;
    default:
        memcpy(&v, p, size);
        return v;
    }
}

/* Where to write in host memory, code there dropped and the page marked dirty; NULL: not RAM. */
static u8 *page_write_ptr(sim_vcpu *cpu, u64 lin, unsigned size, unsigned level) {
    struct tlb_info *t = tlb_get(cpu, lin, ACCESS_WRITE, level);
    if (!writable_ram(t))
        return NULL;
    u64 gpa = t->gpa | (lin & ~PAGE_MASK);
    cpu->slow_writes |= page_bit(gpa);
    if (atomic_load(slot_code(t->slot, gpa)))
        code_written(cpu, t->slot, gpa, size);
    tlb_allow_write(cpu, t, level);
    slot_mark_dirty(t->slot, gpa);
    return slot_host(t->slot, gpa);
}

static void page_write(sim_vcpu *cpu, u64 lin, unsigned size, u64 value, unsigned level) {
    u8 *p = page_write_ptr(cpu, lin, size, level);
    if (!p) {
        const struct tlb_info *t = tlb_get(cpu, lin, ACCESS_WRITE, level);
        device_write(cpu, t->gpa | (lin & ~PAGE_MASK), size, value);
        return;
    }
    switch (size) {
    case 1:
        *p = (u8)value;
        break;
    case 2: {
        u16 x = (u16)value;
        memcpy(p, &x, 2);
        break;
    }
    case 4: {
        u32 x = (u32)value;
        memcpy(p, &x, 4);
        break;
    }
    default:
        memcpy(p, &value, size);
        break;
    }
}

static inline unsigned in_page(u64 lin, unsigned size) {
    unsigned room = PAGE_SIZE - (unsigned)(lin & ~PAGE_MASK);
    return size < room ? size : room;
}

u64 lin_read(sim_vcpu *cpu, u64 lin, unsigned size, unsigned level) {
    unsigned first = in_page(lin, size);
    if (likely(first == size))
        return page_read(cpu, lin, size, level);
    u64 second = (lin + first) & lin_mask(cpu);
    tlb_get(cpu, lin, ACCESS_READ, level);
    tlb_get(cpu, second, ACCESS_READ, level);
    u64 v = page_read(cpu, lin, first, level);
    return v | page_read(cpu, second, size - first, level) << (8 * first);
}

void lin_probe(sim_vcpu *cpu, u64 lin, unsigned size, bool write, unsigned level) {
    enum access access = write ? ACCESS_WRITE : ACCESS_READ;
    unsigned first = in_page(lin, size);
    tlb_get(cpu, lin, access, level);
    if (first != size)
        tlb_get(cpu, (lin + first) & lin_mask(cpu), access, level);
}

void lin_write(sim_vcpu *cpu, u64 lin, unsigned size, u64 value, unsigned level) {
    unsigned first = in_page(lin, size);
    if (likely(first == size)) {
        page_write(cpu, lin, size, value, level);
        return;
    }
    u64 second = (lin + first) & lin_mask(cpu);
    lin_probe(cpu, lin, size, true, level);
    /* a device before RAM: what the instruction read there must still be so when it starts again */
    bool ram = writable_ram(tlb_get(cpu, lin, ACCESS_WRITE, level));
    if (ram)
        page_write(cpu, second, size - first, value >> (8 * first), level);
    page_write(cpu, lin, first, value, level);
    if (!ram)
        page_write(cpu, second, size - first, value >> (8 * first), level);
}

/* Of a table's base and an offset into it. */
static u64 sys_linear(sim_vcpu *cpu, u64 lin, unsigned size) {
    if (!long_mode(cpu))
        return (u32)lin;
    if (unlikely(!canonical(lin) || !canonical(lin + size - 1)))
        raise_gp0(cpu);
    return lin;
}

u64 sys_read(sim_vcpu *cpu, u64 lin, unsigned size) {
    return lin_read(cpu, sys_linear(cpu, lin, size), size, LEVEL_SYSTEM);
}
void sys_write(sim_vcpu *cpu, u64 lin, unsigned size, u64 value) {
    lin_write(cpu, sys_linear(cpu, lin, size), size, value, LEVEL_SYSTEM);
}
void sys_probe(sim_vcpu *cpu, u64 lin, unsigned size, bool write) {
    lin_probe(cpu, sys_linear(cpu, lin, size), size, write, LEVEL_SYSTEM);
}

void sys_or8(sim_vcpu *cpu, u64 lin, u8 bits) {
    lin = sys_linear(cpu, lin, 1);
    u8 *p = page_write_ptr(cpu, lin, 1, LEVEL_SYSTEM);
    if (p)
        atomic_fetch_or((_Atomic u8 *)p, bits);
    else
        lin_write(cpu, lin, 1, lin_read(cpu, lin, 1, LEVEL_SYSTEM) | bits, LEVEL_SYSTEM);
}
void sys_and8(sim_vcpu *cpu, u64 lin, u8 bits) {
    lin = sys_linear(cpu, lin, 1);
    u8 *p = page_write_ptr(cpu, lin, 1, LEVEL_SYSTEM);
    if (p)
        atomic_fetch_and((_Atomic u8 *)p, bits);
    else
        lin_write(cpu, lin, 1, lin_read(cpu, lin, 1, LEVEL_SYSTEM) & bits, LEVEL_SYSTEM);
}

/* ---- by segment and offset ---- */

u64 mem_read_slow(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size) {
    u64 lin = linear(cpu, seg, ea, size, false);
    u64 v = lin_read(cpu, lin, size, access_level(cpu));
    watch_data(cpu, lin, size, false);
    return v;
}

void mem_write_slow(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, u64 value) {
    u64 lin = linear(cpu, seg, ea, size, true);
    lin_write(cpu, lin, size, value, access_level(cpu));
    watch_data(cpu, lin, size, true);
}

void *mem_rmw_slow(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size) {
    u64 lin = linear(cpu, seg, ea, size, true);
    if (!seg_rights(cpu, &cpu->seg[seg], false) && cpu->mode != MODE64)
        raise_fault(cpu, seg == SS ? EXC_SS : EXC_GP, 0);
    lin_probe(cpu, lin, size, true, access_level(cpu));
    unsigned first = in_page(lin, size);
    u8 *p = page_write_ptr(cpu, lin, first, access_level(cpu));
    if (p && first != size &&
        page_write_ptr(cpu, (lin + first) & lin_mask(cpu), size - first, access_level(cpu)) != p + first)
        return NULL;
    if (p)
        watch_data(cpu, lin, size, true);
    return p;
}

/* Pages that are not neighbours in the host's memory have no address at which the host could lock both.  One at a time
 * is all there is then: accesses that stay within one of the pages do not wait. */
bool split_lock(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size) {
    u64 lin = (cpu->seg[seg].fbase + ea) & lin_mask(cpu);
    unsigned first = in_page(lin, size), level = access_level(cpu);
    if (first == size || !writable_ram(tlb_get(cpu, lin, ACCESS_WRITE, level)) ||
        !writable_ram(tlb_get(cpu, (lin + first) & lin_mask(cpu), ACCESS_WRITE, level)))
        return false;
    pthread_mutex_lock(&cpu->vm->split_lock);
    return true;
}
void split_unlock(sim_vcpu *cpu, bool locked) {
    if (locked)
        pthread_mutex_unlock(&cpu->vm->split_lock);
}

static u64 linear_aligned(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, unsigned align, bool write) {
    if ((cpu->seg[seg].fbase + ea) & (align - 1)) /* comes first, also before #SS */
        raise_gp0(cpu);
    u64 lin = linear_unaligned(cpu, seg, ea, size, write);
    lin_probe(cpu, lin, size, write, access_level(cpu));
    return lin;
}

void mem_probe_aligned(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, unsigned align, bool write) {
    linear_aligned(cpu, seg, ea, size, align, write);
}

void mem_read_wide(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, unsigned align, void *to) {
    u64 lin = linear_aligned(cpu, seg, ea, size, align, false);
    u8 *at = to;
    for (unsigned n = 0; n < size; n += 8) {
        unsigned part = size - n < 8 ? size - n : 8;
        u64 v = lin_read(cpu, (lin + n) & lin_mask(cpu), part, access_level(cpu));
        memcpy(at + n, &v, part);
    }
    watch_data(cpu, lin, size, false);
}

void mem_write_wide(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, unsigned align, const void *from) {
    u64 lin = linear_aligned(cpu, seg, ea, size, align, true);
    const u8 *at = from;
    for (unsigned n = 0; n < size; n += 8) {
        unsigned part = size - n < 8 ? size - n : 8;
        u64 v = 0;
        memcpy(&v, at + n, part);
        lin_write(cpu, (lin + n) & lin_mask(cpu), part, v, access_level(cpu));
    }
    watch_data(cpu, lin, size, true);
}

void mem_probe(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, bool write) {
    u64 lin = linear(cpu, seg, ea, size, write);
    lin_probe(cpu, lin, size, write, access_level(cpu));
}

unsigned mem_span(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, bool write, u8 **host) {
    const struct seg *s = &cpu->seg[seg];
    u64 lin;
    if (sys_state(cpu)->data_breakpoints || alignment_checked(cpu))
        return 0;
    if (cpu->mode == MODE64) {
        lin = s->fbase + ea;
        if (!canonical(lin))
            return 0;
    } else {
        if (!seg_rights(cpu, s, write) || !seg_in_limit(s, ea, 1))
            return 0;
        u64 top = (s->attr & (SA_S | SA_CODE | SA_DOWN)) == (SA_S | SA_DOWN)
                      ? ((s->attr & SA_DB) ? 0xffffffffu : 0xffffu)
                      : s->limit;
        if (size > top - ea + 1)
            size = (unsigned)(top - ea + 1);
        lin = (u32)(s->base + ea);
    }
    size = in_page(lin, size);
    struct tlb_info *t = tlb_peek(cpu, lin, write ? ACCESS_WRITE : ACCESS_READ, access_level(cpu));
    if (!t || !t->slot)
        return 0;
    u64 gpa = t->gpa | (lin & ~PAGE_MASK);
    if (write) {
        if (!writable_ram(t))
            return 0;
        cpu->slow_writes |= page_bit(gpa);
        if (atomic_load(slot_code(t->slot, gpa)))
            code_written(cpu, t->slot, gpa, size);
        slot_mark_dirty(t->slot, gpa);
    }
    *host = slot_host(t->slot, gpa);
    return size;
}

struct slot *fetch_page(sim_vcpu *cpu, u64 lin, u64 *gpa_page, const u8 **host_page, u32 *flags) {
    struct tlb_info *t = tlb_get(cpu, lin, ACCESS_EXEC, access_level(cpu));
    *gpa_page = t->gpa;
    *flags = t->flags;
    *host_page = t->slot ? slot_host(t->slot, t->gpa) : NULL;
    return t->slot;
}

/* ---- stack frames ---- */

static u64 frame_item(const struct frame *f, unsigned n) {
    return f->size == 2 ? (u16)f->item[n] : f->size == 4 ? (u32)f->item[n] : f->item[n];
}

u64 frame_push(sim_vcpu *cpu, const struct seg *ss, u64 sp, unsigned level, u32 error, const struct frame *f) {
    u64 mask = (ss->attr & SA_DB) ? 0xffffffff : 0xffff, top = sp & mask, at = top;
    for (unsigned n = 0; n < f->n; n++) {
        at = (at - f->size) & mask;
        if (!seg_in_limit(ss, at, f->size))
            raise_fault(cpu, EXC_SS, error);
        lin_probe(cpu, (u32)(ss->base + at), f->size, true, level);
    }
    at = top;
    for (unsigned n = 0; n < f->n; n++) {
        at = (at - f->size) & mask;
        lin_write(cpu, (u32)(ss->base + at), f->size, frame_item(f, n), level);
    }
    return (sp & ~mask) | at;
}

u64 frame_push64(sim_vcpu *cpu, u64 sp, unsigned level, u32 error, const struct frame *f) {
    u64 at = sp;
    for (unsigned n = 0; n < f->n; n++) {
        at -= f->size;
        if (!canonical(at) || !canonical(at + f->size - 1))
            raise_fault(cpu, EXC_SS, error);
        lin_probe(cpu, at, f->size, true, level);
    }
    at = sp;
    for (unsigned n = 0; n < f->n; n++) {
        at -= f->size;
        lin_write(cpu, at, f->size, frame_item(f, n), level);
    }
    return at;
}
