/* Memory access as handlers see it: a TLB hit inline, everything else in access.c.
 *
 * ld*, st*, rmw* take the instruction, record it in cpu->cur before their slow path, and may longjmp from there.
 */
#ifndef SIM_ACCESS_H
#define SIM_ACCESS_H
#include <string.h>
#include "cpu.h"

/* Host pointer when [lin, lin+size) lies in one page that the TLB knows for this kind of access, else NULL. */
static inline u8 *tlb_hit_read(sim_vcpu *cpu, u64 lin, unsigned size) {
    struct tlb_entry *e = &cpu->tlb[(lin >> PAGE_SHIFT) % TLB_SIZE];
    return likely(((lin + size - 1) & PAGE_MASK) == e->tag_r) ? (u8 *)(uintptr_t)(lin + e->addend) : NULL;
}
static inline u8 *tlb_hit_write(sim_vcpu *cpu, u64 lin, unsigned size) {
    struct tlb_entry *e = &cpu->tlb[(lin >> PAGE_SHIFT) % TLB_SIZE];
    return likely(((lin + size - 1) & PAGE_MASK) == e->tag_w) ? (u8 *)(uintptr_t)(lin + e->addend) : NULL;
}
static inline u8 *hit_read(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size) {
    const struct seg *s = &cpu->seg[seg];
    return likely(ea + size <= s->rmax) ? tlb_hit_read(cpu, s->fbase + ea, size) : NULL;
}
static inline u8 *hit_write(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size) {
    const struct seg *s = &cpu->seg[seg];
    return likely(ea + size <= s->wmax) ? tlb_hit_write(cpu, s->fbase + ea, size) : NULL;
}

/* 64-bit code and a segment without a base: nothing but the TLB stands between an address and its memory.  (The checks
 * that remain, #AC and breakpoints, keep the TLB's tags away.) */
static inline u8 *flat_read(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size) {
    (void)seg;
    return tlb_hit_read(cpu, ea, size);
}
static inline u8 *flat_write(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size) {
    (void)seg;
    return tlb_hit_write(cpu, ea, size);
}
static inline u64 flat_ea(const sim_vcpu *cpu, const struct insn *i) {
    u64 ea = cpu->regs[i->base] + (cpu->regs[i->index] << i->scale) + (u64)(s64)i->disp;
    return likely(!(i->flags & IF_RIPREL)) ? ea : ea + insn_next_ip(i);
}
static inline u64 based_ea(const sim_vcpu *cpu, const struct insn *i) { return cpu->regs[i->base] + (u64)(s64)i->disp; }
/* A stack pointer of 64 bits is one of 64-bit code. */
#define STACK_READ(cpu, sp, W)  (W == 64 ? flat_read(cpu, SS, sp, 8) : hit_read(cpu, SS, sp, W / 8))
#define STACK_WRITE(cpu, sp, W) (W == 64 ? flat_write(cpu, SS, sp, 8) : hit_write(cpu, SS, sp, W / 8))

#define ACCESSORS(BITS)                                                                                                \
    static inline u##BITS ld##BITS(sim_vcpu *cpu, const struct insn *i, unsigned seg, u64 ea) {                        \
        const u8 *p = hit_read(cpu, seg, ea, BITS / 8);                                                                \
        if (likely(p != NULL)) {                                                                                       \
            u##BITS v;                                                                                                 \
            memcpy(&v, p, BITS / 8);                                                                                   \
            return v;                                                                                                  \
        }                                                                                                              \
        cpu->cur = i;                                                                                                  \
        return (u##BITS)mem_read_slow(cpu, seg, ea, BITS / 8);                                                         \
    }                                                                                                                  \
    static inline void st##BITS(sim_vcpu *cpu, const struct insn *i, unsigned seg, u64 ea, u##BITS v) {                \
        u8 *p = hit_write(cpu, seg, ea, BITS / 8);                                                                     \
        if (likely(p != NULL)) {                                                                                       \
            memcpy(p, &v, BITS / 8);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        cpu->cur = i;                                                                                                  \
        mem_write_slow(cpu, seg, ea, BITS / 8, v);                                                                     \
    }
ACCESSORS(8)
ACCESSORS(16)
ACCESSORS(32)
ACCESSORS(64)
#undef ACCESSORS

/* Read-modify-write: where to do it in host memory, or NULL (do it with mem_read_slow, mem_write_slow). */
static inline void *rmw_ptr(sim_vcpu *cpu, const struct insn *i, unsigned seg, u64 ea, unsigned size) {
    u8 *p = hit_write(cpu, seg, ea, size);
    if (likely(p != NULL))
        return p;
    cpu->cur = i;
    return mem_rmw_slow(cpu, seg, ea, size);
}

/* By width argument, for code that is not worth a variant per width. */
static inline u64 ld_w(sim_vcpu *cpu, const struct insn *i, unsigned seg, u64 ea, unsigned w) {
    switch (w) {
    case W8:
        return ld8(cpu, i, seg, ea);
    case W16:
        return ld16(cpu, i, seg, ea);
    case W32:
        return ld32(cpu, i, seg, ea);
    default:
        return ld64(cpu, i, seg, ea);
    }
}
static inline void st_w(sim_vcpu *cpu, const struct insn *i, unsigned seg, u64 ea, unsigned w, u64 v) {
    switch (w) {
    case W8:
        st8(cpu, i, seg, ea, (u8)v);
        break;
    case W16:
        st16(cpu, i, seg, ea, (u16)v);
        break;
    case W32:
        st32(cpu, i, seg, ea, (u32)v);
        break;
    default:
        st64(cpu, i, seg, ea, v);
        break;
    }
}

/* ---- the stack: width w of the item, i->ssz of the pointer ---- */

static inline u64 stack_mask(const struct insn *i) {
    return i->ssz == W16 ? 0xffff : i->ssz == W32 ? 0xffffffff : ~(u64)0;
}
static inline u64 get_sp(const sim_vcpu *cpu, const struct insn *i) { return cpu->regs[RSP] & stack_mask(i); }
static inline void set_sp(sim_vcpu *cpu, const struct insn *i, u64 sp) { set_reg(cpu, RSP, i->ssz, sp); }
/* push: store, then move the pointer.  pop is in two steps, so that whatever the item is for may still fault. */
static inline void push_w(sim_vcpu *cpu, const struct insn *i, unsigned w, u64 v) {
    u64 sp = (cpu->regs[RSP] - (1u << w)) & stack_mask(i);
    st_w(cpu, i, SS, sp, w, v);
    set_sp(cpu, i, sp);
}
static inline u64 stack_top(sim_vcpu *cpu, const struct insn *i, unsigned w) {
    return ld_w(cpu, i, SS, get_sp(cpu, i), w);
}
static inline void drop(sim_vcpu *cpu, const struct insn *i, unsigned bytes) { set_sp(cpu, i, cpu->regs[RSP] + bytes); }

#endif
