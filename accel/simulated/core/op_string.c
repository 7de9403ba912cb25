/* MOVS STOS LODS CMPS SCAS with REP.
 *
 * Every iteration is complete in itself: registers move after its accesses, the replay log is emptied, and when
 * somebody wants the run loop (cpu->stop) the instruction is left with rip still on it.  Where both sides are plain
 * RAM, MOVS and STOS work on whole stretches inside a page.
 */
#include "access.h"
#include "flags.h"
#include "ops.h"

#define IF_ANYREP (IF_REP | IF_REPNE)

/* The run loop is wanted in the middle of a repetition: this instruction is not complete. */
static void interrupted(sim_vcpu *cpu, const struct insn *i) {
    cpu->icount += i->idx;
    cpu->rip = insn_ip(i);
    cpu->cur = NULL;
}
static inline bool wanted(sim_vcpu *cpu) { return atomic_load_explicit(&cpu->stop, memory_order_relaxed) != 0; }
/* Single-stepping sees every iteration. */
static inline bool bulk_allowed(const sim_vcpu *cpu) {
    return !(cpu->eflags & FL_DF) && !(cpu->step_flags & (STEP_TF | STEP_DEBUG | STEP_REPLAY));
}
static inline u64 min64(u64 a, u64 b) { return a < b ? a : b; }

/* Set REG of address width to its old value plus n; asz W16 keeps the upper bits. */
static inline void advance(sim_vcpu *cpu, const struct insn *i, unsigned reg, s64 n) {
    set_reg(cpu, reg, i->asz, cpu->regs[reg] + (u64)n);
}
static inline u64 addr(const sim_vcpu *cpu, const struct insn *i, unsigned reg) {
    return cpu->regs[reg] & width_mask(i->asz);
}

/* Copy as the processor does, element by element upwards: an overlap repeats a pattern. */
static void copy_up(u8 *to, const u8 *from, u64 bytes, unsigned size) {
    if (to > from && to < from + bytes) {
        u64 k;
        if ((u64)(to - from) < size) { /* elements overlap themselves: exactly one at a time */
            for (k = 0; k < bytes; k += size) {
                u64 v = 0;
                memcpy(&v, from + k, size);
                memcpy(to + k, &v, size);
            }
            return;
        }
        for (k = 0; k < bytes;) { /* pieces no longer than the distance do not overlap */
            u64 n = min64(bytes - k, (u64)(to - from));
            n -= n % size;
            if (n == 0)
                n = size;
            memcpy(to + k, from + k, n);
            k += n;
        }
    } else
        memmove(to, from, bytes);
}

/* As many elements at once as plain RAM allows; 0: none. */
static u64 movs_bulk(sim_vcpu *cpu, const struct insn *i, u64 count, unsigned size) {
    u8 *from, *to;
    u64 want = min64(count, PAGE_SIZE / size) * size, si = addr(cpu, i, RSI), di = addr(cpu, i, RDI);
    unsigned n = mem_span(cpu, i->seg, si, (unsigned)want, false, &from);
    if (n < size)
        return 0;
    n = mem_span(cpu, ES, di, n - n % size, true, &to);
    n -= n % size;
    if (!n)
        return 0;
    copy_up(to, from, n, size);
    return n / size;
}

static u64 stos_bulk(sim_vcpu *cpu, const struct insn *i, u64 count, unsigned size) {
    u8 *to;
    u64 v = cpu->regs[RAX];
    unsigned n = mem_span(cpu, ES, addr(cpu, i, RDI), (unsigned)(min64(count, PAGE_SIZE / size) * size), true, &to);
    n -= n % size;
    if (!n)
        return 0;
    if (size == 1)
        memset(to, (u8)v, n);
    else
        for (unsigned k = 0; k < n; k += size)
            memcpy(to + k, &v, size);
    return n / size;
}

#define GEN_STRING(_, W)                                                                                               \
    static inline void one_movs##W(sim_vcpu *cpu, const struct insn *i, s64 step) {                                    \
        u##W v = ld##W(cpu, i, i->seg, addr(cpu, i, RSI));                                                             \
        st##W(cpu, i, ES, addr(cpu, i, RDI), v);                                                                       \
        advance(cpu, i, RSI, step);                                                                                    \
        advance(cpu, i, RDI, step);                                                                                    \
    }                                                                                                                  \
    static inline void one_stos##W(sim_vcpu *cpu, const struct insn *i, s64 step) {                                    \
        st##W(cpu, i, ES, addr(cpu, i, RDI), RD##W(RAX));                                                              \
        advance(cpu, i, RDI, step);                                                                                    \
    }                                                                                                                  \
    static inline void one_lods##W(sim_vcpu *cpu, const struct insn *i, s64 step) {                                    \
        u##W v = ld##W(cpu, i, i->seg, addr(cpu, i, RSI));                                                             \
        WR##W(RAX, v);                                                                                                 \
        advance(cpu, i, RSI, step);                                                                                    \
    }                                                                                                                  \
    static inline void one_cmps##W(sim_vcpu *cpu, const struct insn *i, s64 step) {                                    \
        u##W b = ld##W(cpu, i, ES, addr(cpu, i, RDI)); /* first, as faults show */                                     \
        u##W a = ld##W(cpu, i, i->seg, addr(cpu, i, RSI));                                                             \
        u##W r = (u##W)(a - b);                                                                                        \
        FLAGS_SUB(cpu, u##W, s##W, a, b, r, 0);                                                                        \
        advance(cpu, i, RSI, step);                                                                                    \
        advance(cpu, i, RDI, step);                                                                                    \
    }                                                                                                                  \
    static inline void one_scas##W(sim_vcpu *cpu, const struct insn *i, s64 step) {                                    \
        u##W a = RD##W(RAX), b = ld##W(cpu, i, ES, addr(cpu, i, RDI));                                                 \
        u##W r = (u##W)(a - b);                                                                                        \
        FLAGS_SUB(cpu, u##W, s##W, a, b, r, 0);                                                                        \
        advance(cpu, i, RDI, step);                                                                                    \
    }                                                                                                                  \
    GEN_REP(movs, W, RSI, RDI, movs_bulk(cpu, i, count, W / 8), false, false)                                          \
    GEN_REP(stos, W, RDI, RDI, stos_bulk(cpu, i, count, W / 8), false, false)                                          \
    GEN_REP(lods, W, RSI, RSI, 0, false, false)                                                                        \
    GEN_REP(cmps, W, RSI, RDI, 0, get_zf(cpu) != ((i->flags & IF_REP) != 0), true)                                     \
    GEN_REP(scas, W, RDI, RDI, 0, get_zf(cpu) != ((i->flags & IF_REP) != 0), true)

/* BULK says how many elements it did (the loop then moves register A, and B if another); DONE ends a repetition early.
 * Of CMPS and SCAS a fault gives back the flags from before the instruction (SDM 2, REP): run.c, from cpu->rep. */
#define GEN_REP(name, W, A, B, BULK, DONE, COMPARES)                                                                   \
    OP(name##W) {                                                                                                      \
        s64 step = cpu->eflags & FL_DF ? -(W / 8) : W / 8;                                                             \
        u64 count;                                                                                                     \
        if (!(i->flags & IF_ANYREP)) {                                                                                 \
            one_##name##W(cpu, i, step);                                                                               \
            NEXT(cpu, i);                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
        if (COMPARES)                                                                                                  \
            cpu->rep.insn = i, cpu->rep.cc_res = cpu->cc_res, cpu->rep.cc_oca = cpu->cc_oca;                           \
        for (count = addr(cpu, i, RCX); count;) {                                                                      \
            u64 n;                                                                                                     \
            cpu->cur = i;                                                                                              \
            n = bulk_allowed(cpu) ? (BULK) : 0;                                                                        \
            if (n) {                                                                                                   \
                advance(cpu, i, A, (s64)n *(W / 8));                                                                   \
                if (A != B)                                                                                            \
                    advance(cpu, i, B, (s64)n *(W / 8));                                                               \
            } else {                                                                                                   \
                one_##name##W(cpu, i, step);                                                                           \
                n = 1;                                                                                                 \
            }                                                                                                          \
            count -= n;                                                                                                \
            set_reg(cpu, RCX, i->asz, count | (cpu->regs[RCX] & ~width_mask(i->asz)));                                 \
            if (unlikely(cpu->replay.n))                                                                               \
                replay_iteration_done(cpu);                                                                            \
            if (DONE)                                                                                                  \
                break;                                                                                                 \
            if (count && unlikely(wanted(cpu))) {                                                                      \
                cpu->rep.insn = NULL;                                                                                  \
                interrupted(cpu, i);                                                                                   \
                return;                                                                                                \
            }                                                                                                          \
        }                                                                                                              \
        cpu->rep.insn = NULL;                                                                                          \
        NEXT(cpu, i);                                                                                                  \
    }

ALL_WIDTHS(GEN_STRING, _)
