/* Near JMP, Jcc, CALL, RET, LOOP, JCXZ, and the synthetic ends of blocks.
 *
 * A target beyond the limit of CS is a #GP(0) of the branch itself.  A link to a block that was found once stays good
 * as long as map_gen does, so the check is made when a link is not there yet.
 */
#include "chain.h"
#include "flags.h"
#include "ops.h"

static NOINLINE void bad_target(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    raise_gp0(cpu);
}
static inline void check_target(sim_vcpu *cpu, const struct insn *i, u64 ip) {
    if (unlikely(!ip_ok(cpu, ip)))
        bad_target(cpu, i);
}
static inline u64 target(const struct insn *i) { return (insn_next_ip(i) + i->imm) & width_mask(i->osz); }

void take_unlinked(sim_vcpu *cpu, const struct insn *i) {
    u64 ip = target(i);
    check_target(cpu, i, ip);
    FOLLOW(cpu, i, 0, ip);
}
void fall_unlinked(sim_vcpu *cpu, const struct insn *i) { FALL_THROUGH(cpu, i); }

#define GEN_JCC(cc)                                                                                                    \
    OP(j##cc) {                                                                                                        \
        if (COND_##cc)                                                                                                 \
            TAKE(cpu, i);                                                                                              \
        FALL_THROUGH(cpu, i);                                                                                          \
    }                                                                                                                  \
    OP(jn##cc) {                                                                                                       \
        if (!(COND_##cc))                                                                                              \
            TAKE(cpu, i);                                                                                              \
        FALL_THROUGH(cpu, i);                                                                                          \
    }
GEN_JCC(o)
GEN_JCC(b)
GEN_JCC(z)
GEN_JCC(be)
GEN_JCC(s)
GEN_JCC(p)
GEN_JCC(l)
GEN_JCC(le)

#define GEN_BRANCH(_, W)                                                                                               \
    OP(jmp_J##W) { TAKE(cpu, i); }                                                                                     \
    OP(call_J##W) {                                                                                                    \
        u64 ip = target(i);                                                                                            \
        check_target(cpu, i, ip);                                                                                      \
        push_w(cpu, i, LOG2_##W, insn_next_ip(i));                                                                     \
        FOLLOW(cpu, i, 0, ip);                                                                                         \
    }                                                                                                                  \
    OP(jmp_r##W) {                                                                                                     \
        u64 ip = RD##W(i->rm);                                                                                         \
        check_target(cpu, i, ip);                                                                                      \
        DISPATCH(cpu, i, ip);                                                                                          \
    }                                                                                                                  \
    OP(jmp_m##W) {                                                                                                     \
        u64 ip = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        check_target(cpu, i, ip);                                                                                      \
        DISPATCH(cpu, i, ip);                                                                                          \
    }                                                                                                                  \
    OP(call_r##W) {                                                                                                    \
        u64 ip = RD##W(i->rm);                                                                                         \
        check_target(cpu, i, ip);                                                                                      \
        push_w(cpu, i, LOG2_##W, insn_next_ip(i));                                                                     \
        DISPATCH(cpu, i, ip);                                                                                          \
    }                                                                                                                  \
    OP(call_m##W) {                                                                                                    \
        u64 ip = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        check_target(cpu, i, ip);                                                                                      \
        push_w(cpu, i, LOG2_##W, insn_next_ip(i));                                                                     \
        DISPATCH(cpu, i, ip);                                                                                          \
    }                                                                                                                  \
    OP(ret##W) {                                                                                                       \
        u64 ip = (u##W)stack_top(cpu, i, LOG2_##W);                                                                    \
        check_target(cpu, i, ip);                                                                                      \
        drop(cpu, i, W / 8);                                                                                           \
        DISPATCH(cpu, i, ip);                                                                                          \
    }                                                                                                                  \
    OP(ret_I##W) {                                                                                                     \
        u64 ip = (u##W)stack_top(cpu, i, LOG2_##W);                                                                    \
        check_target(cpu, i, ip);                                                                                      \
        drop(cpu, i, W / 8 + (unsigned)i->imm);                                                                        \
        DISPATCH(cpu, i, ip);                                                                                          \
    }                                                                                                                  \
    /* here W is the address size: the width of the counter; it must not change when the target is bad */              \
    OP(loop##W) {                                                                                                      \
        u##W n = (u##W)(RD##W(RCX) - 1u);                                                                              \
        if (n)                                                                                                         \
            check_target(cpu, i, target(i));                                                                           \
        WR##W(RCX, n);                                                                                                 \
        if (n)                                                                                                         \
            TAKE(cpu, i);                                                                                              \
        FALL_THROUGH(cpu, i);                                                                                          \
    }                                                                                                                  \
    OP(loopz##W) {                                                                                                     \
        u##W n = (u##W)(RD##W(RCX) - 1u);                                                                              \
        bool taken = n && get_zf(cpu);                                                                                 \
        if (taken)                                                                                                     \
            check_target(cpu, i, target(i));                                                                           \
        WR##W(RCX, n);                                                                                                 \
        if (taken)                                                                                                     \
            TAKE(cpu, i);                                                                                              \
        FALL_THROUGH(cpu, i);                                                                                          \
    }                                                                                                                  \
    OP(loopnz##W) {                                                                                                    \
        u##W n = (u##W)(RD##W(RCX) - 1u);                                                                              \
        bool taken = n && !get_zf(cpu);                                                                                \
        if (taken)                                                                                                     \
            check_target(cpu, i, target(i));                                                                           \
        WR##W(RCX, n);                                                                                                 \
        if (taken)                                                                                                     \
            TAKE(cpu, i);                                                                                              \
        FALL_THROUGH(cpu, i);                                                                                          \
    }                                                                                                                  \
    OP(jcxz##W) {                                                                                                      \
        if (RD##W(RCX) == 0)                                                                                           \
            TAKE(cpu, i);                                                                                              \
        FALL_THROUGH(cpu, i);                                                                                          \
    }
enum { LOG2_16 = W16, LOG2_32 = W32, LOG2_64 = W64 };
WORD_WIDTHS(GEN_BRANCH, _)

/* CALL and RET with a stack pointer of the operand's width; the general forms do what is not a TLB hit. */
#define GEN_SAME(_, W)                                                                                                 \
    OP(call_J_s##W) {                                                                                                  \
        u##W sp = (u##W)(RD##W(RSP) - W / 8), next = (u##W)insn_next_ip(i);                                            \
        u8 *p = STACK_WRITE(cpu, sp, W);                                                                               \
        u64 ip = target(i);                                                                                            \
        if (unlikely(p == NULL || !ip_ok(cpu, ip))) {                                                                  \
            op_call_J##W(cpu, i);                                                                                      \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(p, &next, W / 8);                                                                                       \
        WR##W(RSP, sp);                                                                                                \
        FOLLOW(cpu, i, 0, ip);                                                                                         \
    }                                                                                                                  \
    OP(ret_s##W) {                                                                                                     \
        u##W sp = RD##W(RSP), ip;                                                                                      \
        const u8 *p = STACK_READ(cpu, sp, W);                                                                          \
        if (unlikely(p == NULL)) {                                                                                     \
            op_ret##W(cpu, i);                                                                                         \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(&ip, p, W / 8);                                                                                         \
        if (unlikely(!ip_ok(cpu, ip))) {                                                                               \
            op_ret##W(cpu, i);                                                                                         \
            return;                                                                                                    \
        }                                                                                                              \
        WR##W(RSP, (u##W)(sp + W / 8));                                                                                \
        DISPATCH(cpu, i, ip);                                                                                          \
    }
WORD_WIDTHS(GEN_SAME, _)

/* Synthetic, after the last instruction of a block that does not end by itself.  It is no instruction: its idx is the
 * number of those before it; FOLLOW counts with the instruction before it. */
OP(block_end) { FOLLOW(cpu, i - 1, 1, insn_ip(i)); }

/* In the place of the first of a block that is new. */
OP(warm) {
    struct block *b = insn_block(i);
    if (unlikely(++b->runs >= cpu->vm->translate_after))
        code_translate(cpu, b);
    else {
        b->first(cpu, i);
        return;
    }
    i->fn(cpu, i);
}

/* What the instructions of a dropped block become: look again from here. */
OP(resync) {
    cpu->icount += i->idx;
    cpu->rip = insn_ip(i);
    cpu->cur = NULL;
    cpu->chain_miss = 1;
}
