/* BT BTS BTR BTC BSF BSR.  Flags left undefined: BTx changes only CF; BSF and BSR as Intel's processors, see set_scan.
 */
#include "access.h"
#include "flags.h"
#include "ops.h"

static inline void set_cf(sim_vcpu *cpu, u32 cf) { cpu->cc_oca = (cpu->cc_oca & ~FL_CF) | (cf & 1); }

#define DO_bts(a, m) ((a) | (m))
#define DO_btr(a, m) ((a) & ~(m))
#define DO_btc(a, m) ((a) ^ (m))

/* rmw_slow's b is the bit number */
#define GEN_BTX(name, W)                                                                                               \
    static u64 fn_##name##W(sim_vcpu *cpu, u64 a, u64 b) {                                                             \
        set_cf(cpu, (u32)(a >> b & 1));                                                                                \
        return DO_##name(a, (u64)1 << b);                                                                              \
    }                                                                                                                  \
    static void mem_##name##W(sim_vcpu *cpu, const struct insn *i, u64 ea, unsigned b) {                               \
        u8 *p = rmw_ptr(cpu, i, i->seg, ea, W / 8);                                                                    \
        if (likely(p != NULL && !(i->flags & IF_LOCK))) {                                                              \
            u##W a;                                                                                                    \
            memcpy(&a, p, W / 8);                                                                                      \
            a = (u##W)fn_##name##W(cpu, a, b);                                                                         \
            memcpy(p, &a, W / 8);                                                                                      \
        } else                                                                                                         \
            rmw_slow(cpu, i, ea, W / 8, p, b, fn_##name##W);                                                           \
    }                                                                                                                  \
    OP(name##_G_r##W) {                                                                                                \
        WR##W(i->rm, (u##W)fn_##name##W(cpu, RD##W(i->rm), RD##W(i->reg) % W));                                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_I_r##W) {                                                                                                \
        WR##W(i->rm, (u##W)fn_##name##W(cpu, RD##W(i->rm), i->imm % W));                                               \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_G_m##W) {                                                                                                \
        mem_##name##W(cpu, i, bit_ea##W(cpu, i), RD##W(i->reg) % W);                                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_I_m##W) {                                                                                                \
        mem_##name##W(cpu, i, insn_ea(cpu, i), i->imm % W);                                                            \
        NEXT(cpu, i);                                                                                                  \
    }

#define GEN_BIT(_, W)                                                                                                  \
    /* with a register bit number, memory is a bit string around the operand */                                        \
    static inline u64 bit_ea##W(sim_vcpu *cpu, const struct insn *i) {                                                 \
        s64 n = (s##W)RD##W(i->reg);                                                                                   \
        return (insn_ea(cpu, i) + (u64)((n >> (W == 16 ? 4 : W == 32 ? 5 : 6)) * (W / 8))) & width_mask(i->asz);       \
    }                                                                                                                  \
    OP(bt_G_r##W) {                                                                                                    \
        set_cf(cpu, (u32)(RD##W(i->rm) >> (RD##W(i->reg) % W)));                                                       \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(bt_I_r##W) {                                                                                                    \
        set_cf(cpu, (u32)(RD##W(i->rm) >> (i->imm % W)));                                                              \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(bt_G_m##W) {                                                                                                    \
        u##W a = ld##W(cpu, i, i->seg, bit_ea##W(cpu, i));                                                             \
        set_cf(cpu, (u32)(a >> (RD##W(i->reg) % W)));                                                                  \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(bt_I_m##W) {                                                                                                    \
        u##W a = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        set_cf(cpu, (u32)(a >> (i->imm % W)));                                                                         \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_BTX(bts, W)                                                                                                    \
    GEN_BTX(btr, W)                                                                                                    \
    GEN_BTX(btc, W)                                                                                                    \
    OP(bsf_r##W) {                                                                                                     \
        u64 v = RD##W(i->rm);                                                                                          \
        unsigned n = v ? (unsigned)__builtin_ctzll(v) : 0;                                                             \
        if (v)                                                                                                         \
            WR##W(i->reg, n);                                                                                          \
        set_scan(cpu, v, n);                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(bsf_m##W) {                                                                                                     \
        u64 v = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                                \
        unsigned n = v ? (unsigned)__builtin_ctzll(v) : 0;                                                             \
        if (v)                                                                                                         \
            WR##W(i->reg, n);                                                                                          \
        set_scan(cpu, v, n);                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(bsr_r##W) {                                                                                                     \
        u64 v = RD##W(i->rm);                                                                                          \
        unsigned n = v ? 63u - (unsigned)__builtin_clzll(v) : 0;                                                       \
        if (v)                                                                                                         \
            WR##W(i->reg, n);                                                                                          \
        set_scan(cpu, v, n);                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(bsr_m##W) {                                                                                                     \
        u64 v = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                                \
        unsigned n = v ? 63u - (unsigned)__builtin_clzll(v) : 0;                                                       \
        if (v)                                                                                                         \
            WR##W(i->reg, n);                                                                                          \
        set_scan(cpu, v, n);                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }

/* ZF by the source (the destination keeps its value when it is 0), PF by the bit number, the rest clear. */
static inline void set_scan(sim_vcpu *cpu, u64 v, unsigned n) {
    cpu->cc_oca = v && n == 0 ? CC_FLIP_PF : 0; /* for ZF = 0 with PF = 1: parity of 1, inverted */
    cpu->cc_res = !v ? 0 : n ? (s64)n : 1;
}

WORD_WIDTHS(GEN_BIT, _)
