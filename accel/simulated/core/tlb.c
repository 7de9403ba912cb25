/* The software TLB: filling it from the page walk, and everything that empties it.
 *
 * Three sets, by the rights of the access (LEVEL_*), each direct-mapped.  tlb_entry holds the tags the inline accessors
 * compare, tlb_info what is known about the page.  A tag is set only when that kind of access needs no further thought;
 * see cpu.h.
 */
#include "system.h"
#include <string.h>

static inline unsigned tlb_index(u64 lin) { return (lin >> PAGE_SHIFT) % TLB_SIZE; }

/* For every entry that holds something: `set` and `n`. */
#define EACH_USED(cpu, set, n)                                                                                         \
    for (unsigned set = 0; set < NLEVELS; set++)                                                                       \
        for (unsigned word_ = 0; word_ < TLB_SIZE / 64; word_++)                                                       \
            for (u64 bits_ = sys_state(cpu)->tlb_used[set][word_], n;                                                  \
                 bits_ && ((n = word_ * 64 + (unsigned)__builtin_ctzll(bits_)), true); bits_ &= bits_ - 1)

static void drop_entry(sim_vcpu *cpu, unsigned set, u64 n) {
    cpu->tlb_info[set][n].page = TLB_NONE;
    cpu->tlb_info[set][n].slot = NULL;
    struct tlb_entry *e = &cpu->tlb_set[set][n];
    e->tag_r = e->tag_w = e->tag_x = TLB_NONE;
    sys_state(cpu)->tlb_used[set][n / 64] &= ~((u64)1 << (n % 64));
}

void tlb_init(sim_vcpu *cpu) {
    for (unsigned set = 0; set < NLEVELS; set++)
        for (unsigned n = 0; n < TLB_SIZE; n++)
            drop_entry(cpu, set, n);
    memset(cpu->tlb_set[NLEVELS], 0xff, sizeof cpu->tlb_set[NLEVELS]); /* TLB_NONE everywhere */
}

void tlb_flush(sim_vcpu *cpu, bool global_too) {
    memset(cpu->walk_memo, 0, sizeof cpu->walk_memo);
    if (!(cpu->cr4 & CR4_PGE))
        global_too = true;
    EACH_USED(cpu, set, n) {
        if (global_too || !(cpu->tlb_info[set][n].flags & TI_GLOBAL))
            drop_entry(cpu, set, n);
    }
    if (global_too)
        sys_state(cpu)->large_pages = 0;
    for (unsigned user = 0; user < 2; user++)
        if (global_too || cpu->code_map[user].local)
            map_changed_for(cpu, user);
}

static void drop_page(sim_vcpu *cpu, u64 lin) {
    u64 page = lin & lin_mask(cpu) & PAGE_MASK;
    for (unsigned set = 0; set < NLEVELS; set++) {
        struct tlb_info *t = &cpu->tlb_info[set][tlb_index(page)];
        if (t->page == page)
            drop_entry(cpu, set, tlb_index(page));
    }
}

void tlb_flush_page(sim_vcpu *cpu, u64 lin) {
    memset(cpu->walk_memo, 0, sizeof cpu->walk_memo); /* as INVLPG does, whatever the address */
    drop_page(cpu, lin);
    if (sys_state(cpu)->large_pages &
        code_region_bit(lin & lin_mask(cpu))) { /* the address may be any one inside a large page */
        u64 page = lin & lin_mask(cpu), huge = ~(u64)0x3fffffff,
            large = (cpu->cr4 & CR4_PAE) ? ~(u64)0x1fffff : ~(u64)0x3fffff;
        EACH_USED(cpu, set, n) {
            struct tlb_info *t = &cpu->tlb_info[set][n];
            if ((t->flags & TI_LARGE) && ((t->page ^ page) & (t->flags & TI_HUGE ? huge : large)) == 0)
                drop_entry(cpu, set, n);
        }
    }
    map_page_changed(cpu, lin & lin_mask(cpu));
}

bool tlb_protect_code(sim_vcpu *cpu, u64 gpa) {
    bool was = false;
    u64 page = gpa & PAGE_MASK;
    EACH_USED(cpu, set, n) {
        if (cpu->tlb_set[set][n].tag_w != TLB_NONE && cpu->tlb_info[set][n].gpa == page) {
            cpu->tlb_set[set][n].tag_w = TLB_NONE;
            was = true;
        }
    }
    return was;
}

/* Is there an armed data breakpoint on this linear page? */
static bool page_watched(sim_vcpu *cpu, u64 page) {
    if (likely(!sys_state(cpu)->data_breakpoints))
        return false;
    const u64 *dr = active_dr(cpu);
    for (unsigned n = 0; n < 4; n++)
        if (((dr[7] >> (2 * n)) & 3) && ((dr[7] >> (16 + 4 * n)) & 3) && ((dr[n] ^ page) & PAGE_MASK) == 0)
            return true;
    return false;
}

void tlb_breakpoints_changed(sim_vcpu *cpu) {
    const u64 *dr = active_dr(cpu);
    bool any = false;
    for (unsigned n = 0; n < 4; n++)
        any |= ((dr[7] >> (2 * n)) & 3) && ((dr[7] >> (16 + 4 * n)) & 3);
    if (any || sys_state(cpu)->data_breakpoints) {
        sys_state(cpu)->data_breakpoints = any;
        tlb_flush(cpu, true);
    }
}

void tlb_allow_write(sim_vcpu *cpu, struct tlb_info *t, unsigned level) {
    struct tlb_entry *e = &cpu->tlb_set[level][tlb_index(t->page)];
    if (!(t->flags & TI_WRITE) || !t->slot || (t->slot->flags & KVM_MEM_READONLY) || page_watched(cpu, t->page))
        return;
    slot_mark_dirty(t->slot, t->gpa);
    if (!atomic_load(slot_code(t->slot, t->gpa)))
        e->tag_w = t->page;
}

static bool allows(const struct tlb_info *t, enum access access) {
    return (t->flags & (access == ACCESS_READ ? TI_READ : access == ACCESS_WRITE ? TI_WRITE : TI_EXEC)) != 0;
}

struct tlb_info *tlb_peek(sim_vcpu *cpu, u64 lin, enum access access, unsigned level) {
    struct tlb_info *t = &cpu->tlb_info[level][tlb_index(lin)];
    return t->page == (lin & PAGE_MASK) && allows(t, access) ? t : NULL;
}

struct tlb_info *tlb_get(sim_vcpu *cpu, u64 lin, enum access access, unsigned level) {
    struct tlb_info *t = &cpu->tlb_info[level][tlb_index(lin)];
    u64 page = lin & PAGE_MASK;
    if (likely(t->page == page && allows(t, access)))
        return t;
    struct walk w;
    if (!page_walk(cpu, lin, access, level, &w)) {
        cpu->fault.cr2 = lin;
        drop_page(cpu, lin); /* a fault leaves no translation of the page behind */
        map_page_changed(cpu, lin);
        raise_fault(cpu, EXC_PF, w.error);
    }
    struct slot *slot = vm_slot(cpu->vm, w.gpa);
    t->page = page;
    t->gpa = w.gpa;
    t->slot = slot;
    t->flags = w.flags;
    sys_state(cpu)->tlb_used[level][tlb_index(lin) / 64] |= (u64)1 << (tlb_index(lin) % 64);
    if (w.flags & TI_LARGE)
        sys_state(cpu)->large_pages |= code_region_bit(lin);
    struct tlb_entry *e = &cpu->tlb_set[level][tlb_index(lin)];
    e->tag_r = e->tag_w = e->tag_x = TLB_NONE;
    if (slot) {
        e->addend = (u64)(uintptr_t)slot_host(slot, w.gpa) - page;
        if ((w.flags & TI_READ) && !page_watched(cpu, page))
            e->tag_r = page;
        if (w.flags & TI_EXEC)
            e->tag_x = page;
    }
    return t;
}
