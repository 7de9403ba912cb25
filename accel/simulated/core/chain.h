/* From one block to the next: op_branch.c and the run loop. */
#ifndef SIM_CHAIN_H
#define SIM_CHAIN_H
#include "access.h"

static inline bool may_chain(const sim_vcpu *cpu) {
#ifdef SIM_NO_CHAIN /* builds without tail calls: back to the run loop after every block */
    (void)cpu;
    return false;
#else
    return likely(atomic_load_explicit(&cpu->stop, memory_order_relaxed) == 0);
#endif
}

/* The two links of the block that ends with branch `i`: [0] taken, [1] fall-through. */
static inline struct block_link *branch_links(const struct insn *i) { return (struct block_link *)(uintptr_t)(i + 2); }

/* The block's last instruction is done; go on at `ip`, over link `which`. */
#define FOLLOW(cpu, i, which, ip)                                                                                      \
    do {                                                                                                               \
        struct block_link *link_ = &branch_links(i)[which];                                                            \
        (cpu)->icount += (i)->idx + 1u;                                                                                \
        if (likely(link_->gen == (cpu)->map_gen) && may_chain(cpu)) {                                                  \
            const struct insn *first_ = link_->to->insns;                                                              \
            first_->fn(cpu, first_);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        (cpu)->rip = (ip);                                                                                             \
        (cpu)->want_link = link_;                                                                                      \
        (cpu)->chain_miss = 1;                                                                                         \
        return;                                                                                                        \
    } while (0)

/* The same for a target that differs from time to time. */
#define DISPATCH(cpu, i, ip)                                                                                           \
    do {                                                                                                               \
        u64 ip_ = (ip);                                                                                                \
        struct jc_entry *jc_ = &(cpu)->jc[jc_hash(ip_)];                                                               \
        (cpu)->icount += (i)->idx + 1u;                                                                                \
        if (likely(jc_->ip == ip_ && jc_->gen == (cpu)->map_gen) && may_chain(cpu)) {                                  \
            const struct insn *first_ = jc_->block->insns;                                                             \
            first_->fn(cpu, first_);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        (cpu)->rip = ip_;                                                                                              \
        (cpu)->chain_miss = 1;                                                                                         \
        return;                                                                                                        \
    } while (0)

/* The branch `i` is taken: over its link, or, with no link yet, to where it leads. */
void take_unlinked(sim_vcpu *cpu, const struct insn *i);
/* The conditional branch `i` is not taken, and its link is of no use. */
void fall_unlinked(sim_vcpu *cpu, const struct insn *i);
#define TAKE(cpu, i)                                                                                                   \
    do {                                                                                                               \
        struct block_link *l_ = &branch_links(i)[0];                                                                   \
        if (likely(l_->gen == (cpu)->map_gen) && may_chain(cpu)) {                                                     \
            const struct insn *first_ = l_->to->insns;                                                                 \
            (cpu)->icount += (i)->idx + 1u;                                                                            \
            first_->fn(cpu, first_);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        take_unlinked(cpu, i);                                                                                         \
        return;                                                                                                        \
    } while (0)
#define FALL_THROUGH(cpu, i) FOLLOW(cpu, i, 1, insn_next_ip(i))

/* Conditions by their names, on the flags as they are. */
#define COND_o  get_of(cpu)
#define COND_b  get_cf(cpu)
#define COND_z  get_zf(cpu)
#define COND_be (get_cf(cpu) || get_zf(cpu))
#define COND_s  get_sf(cpu)
#define COND_p  get_pf(cpu)
#define COND_l  (get_sf(cpu) != get_of(cpu))
#define COND_le (get_zf(cpu) || get_sf(cpu) != get_of(cpu))

#endif
