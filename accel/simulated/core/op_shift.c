/* ROL ROR RCL RCR SHL SHR SAR SHLD SHRD.
 *
 * What the manual leaves undefined follows Intel's processors: OF after any count is what it would be after a count of
 * 1; AF is cleared by shifts.
 */
#include "access.h"
#include "flags.h"
#include "ops.h"

/* CF and OF only: the rotates. */
static inline void set_co(sim_vcpu *cpu, u32 cf, u32 of) {
    cpu->cc_oca = (cpu->cc_oca & ~(FL_CF | FL_OF)) | (cf & 1) | (of & 1) << 11;
}

/* ROL and ROR of a register by an immediate other than 1 leave OF alone (by CL or in memory they do not). */
#define IMMEDIATE            0x100u
#define KEEP_OF(b, n)        (((b)&IMMEDIATE) && (n) != 1)
#define TOP_TWO_DIFFER(a, W) ((u32)((a) >> (W - 1) ^ (a) >> (W - 2)) & 1)

#define GEN_SHIFTS(_, W)                                                                                               \
    static inline u##W do_rol##W(sim_vcpu *cpu, u##W a, unsigned b) {                                                  \
        unsigned n = b & (W == 64 ? 63 : 31), k = n % W;                                                               \
        u32 of = KEEP_OF(b, n) ? cpu->cc_oca >> 11 : TOP_TWO_DIFFER(a, W);                                             \
        if (!n)                                                                                                        \
            return a;                                                                                                  \
        if (k)                                                                                                         \
            a = (u##W)(a << k | a >> (W - k));                                                                         \
        set_co(cpu, (u32)a, of);                                                                                       \
        return a;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_ror##W(sim_vcpu *cpu, u##W a, unsigned b) {                                                  \
        unsigned n = b & (W == 64 ? 63 : 31), k = n % W;                                                               \
        u32 of = KEEP_OF(b, n) ? cpu->cc_oca >> 11 : (u32)(a ^ a >> (W - 1));                                          \
        if (!n)                                                                                                        \
            return a;                                                                                                  \
        if (k)                                                                                                         \
            a = (u##W)(a >> k | a << (W - k));                                                                         \
        set_co(cpu, (u32)(a >> (W - 1)), of);                                                                          \
        return a;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_rcl##W(sim_vcpu *cpu, u##W a, unsigned b) {                                                  \
        unsigned n = (b & (W == 64 ? 63 : 31)) % (W + 1);                                                              \
        u##W cf = (u##W)get_cf(cpu), r;                                                                                \
        if (!n)                                                                                                        \
            return a;                                                                                                  \
        r = n == W ? (u##W)(a >> 1 | cf << (W - 1)) : (u##W)(a << n | cf << (n - 1));                                  \
        if (n > 1 && n < W)                                                                                            \
            r |= (u##W)(a >> (W + 1 - n));                                                                             \
        cf = (u##W)(a >> (W - n) & 1);                                                                                 \
        set_co(cpu, (u32)cf, TOP_TWO_DIFFER(a, W));                                                                    \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_rcr##W(sim_vcpu *cpu, u##W a, unsigned b) {                                                  \
        u32 of;                                                                                                        \
        unsigned n = (b & (W == 64 ? 63 : 31)) % (W + 1);                                                              \
        u##W cf = (u##W)get_cf(cpu), r;                                                                                \
        if (!n)                                                                                                        \
            return a;                                                                                                  \
        r = n == W ? (u##W)(a << 1 | cf) : (u##W)(a >> n | cf << (W - n));                                             \
        if (n > 1 && n < W)                                                                                            \
            r |= (u##W)(a << (W + 1 - n));                                                                             \
        of = (u32)(cf ^ a >> (W - 1));                                                                                 \
        cf = (u##W)(a >> (n - 1) & 1);                                                                                 \
        set_co(cpu, (u32)cf, of);                                                                                      \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_shl##W(sim_vcpu *cpu, u##W a, unsigned b) {                                                  \
        unsigned n = b & (W == 64 ? 63 : 31);                                                                          \
        u64 cf;                                                                                                        \
        u##W r;                                                                                                        \
        if (!n)                                                                                                        \
            return a;                                                                                                  \
        cf = n > W ? 0 : (u64)a >> (W - n) & 1;                                                                        \
        r = (u##W)((u64)a << n);                                                                                       \
        cpu->cc_res = (s##W)r;                                                                                         \
        cpu->cc_oca = (u32)cf | TOP_TWO_DIFFER(a, W) << 11;                                                            \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_shr##W(sim_vcpu *cpu, u##W a, unsigned b) {                                                  \
        unsigned n = b & (W == 64 ? 63 : 31);                                                                          \
        u##W r;                                                                                                        \
        if (!n)                                                                                                        \
            return a;                                                                                                  \
        r = (u##W)((u64)a >> n);                                                                                       \
        cpu->cc_res = (s##W)r;                                                                                         \
        cpu->cc_oca = (u32)((u64)a >> (n - 1) & 1) | (u32)(a >> (W - 1)) << 11;                                        \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_sar##W(sim_vcpu *cpu, u##W a, unsigned b) {                                                  \
        unsigned n = b & (W == 64 ? 63 : 31);                                                                          \
        if (!n)                                                                                                        \
            return a;                                                                                                  \
        cpu->cc_oca = (u32)((s64)(s##W)a >> (n - 1) & 1);                                                              \
        cpu->cc_res = (s64)(s##W)a >> n;                                                                               \
        return (u##W)cpu->cc_res;                                                                                      \
    }                                                                                                                  \
    GEN_SHIFT(rol, W)                                                                                                  \
    GEN_SHIFT(ror, W) GEN_SHIFT(rcl, W) GEN_SHIFT(rcr, W) GEN_SHIFT(shl, W) GEN_SHIFT(shr, W) GEN_SHIFT(sar, W)

#define GEN_SHIFT(name, W)                                                                                             \
    static u64 fn_##name##W(sim_vcpu *cpu, u64 a, u64 b) { return do_##name##W(cpu, (u##W)a, (unsigned)b); }           \
    OP(name##_EI_r##W) {                                                                                               \
        WR##W(i->rm, do_##name##W(cpu, RD##W(i->rm), (unsigned)i->imm | IMMEDIATE));                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_EC_r##W) {                                                                                               \
        WR##W(i->rm, do_##name##W(cpu, RD##W(i->rm), RD8(RCX * 8)));                                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    static void mem_##name##W(sim_vcpu *cpu, const struct insn *i, unsigned n) {                                       \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        u##W a;                                                                                                        \
        u8 *p = rmw_ptr(cpu, i, i->seg, ea, W / 8);                                                                    \
        if (likely(p != NULL)) {                                                                                       \
            memcpy(&a, p, W / 8);                                                                                      \
            a = do_##name##W(cpu, a, n);                                                                               \
            memcpy(p, &a, W / 8);                                                                                      \
        } else                                                                                                         \
            rmw_slow(cpu, i, ea, W / 8, NULL, n, fn_##name##W);                                                        \
    }                                                                                                                  \
    OP(name##_EI_m##W) {                                                                                               \
        mem_##name##W(cpu, i, (u8)i->imm);                                                                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_EC_m##W) {                                                                                               \
        mem_##name##W(cpu, i, (u8)cpu->regs[RCX]);                                                                     \
        NEXT(cpu, i);                                                                                                  \
    }

ALL_WIDTHS(GEN_SHIFTS, _)

#define GEN_QUIET_SHIFTS(_, W)                                                                                         \
    OP(shl_EI_q##W) {                                                                                                  \
        WR##W(i->rm, (u##W)((u64)RD##W(i->rm) << (i->imm & (W == 64 ? 63 : 31))));                                     \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(shr_EI_q##W) {                                                                                                  \
        WR##W(i->rm, (u##W)((u64)RD##W(i->rm) >> (i->imm & (W == 64 ? 63 : 31))));                                     \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(sar_EI_q##W) {                                                                                                  \
        WR##W(i->rm, (u##W)((s64)(s##W)RD##W(i->rm) >> (i->imm & (W == 64 ? 63 : 31))));                               \
        NEXT(cpu, i);                                                                                                  \
    }
ALL_WIDTHS(GEN_QUIET_SHIFTS, _)

/* Double shifts.  16-bit counts above 16 (undefined) shift through dest:source:dest. */
static inline u64 double_shift(sim_vcpu *cpu, unsigned bits, u64 a, u64 b, unsigned n, bool left) {
    u64 r, cf, sign = (u64)1 << (bits - 1);
    n &= bits == 64 ? 63 : 31;
    if (!n)
        return a;
    if (bits == 16) {
        u64 t = a << 32 | b << 16 | a;
        r = left ? t << n >> 32 : t >> n;
        cf = left ? t >> (48 - n) : t >> (n - 1);
    } else if (left) {
        r = a << n | b >> (bits - n);
        cf = a >> (bits - n);
    } else {
        r = a >> n | b << (bits - n);
        cf = a >> (n - 1);
    }
    r &= sign | (sign - 1);
    cpu->cc_res = (s64)(r << (64 - bits)) >> (64 - bits);
    cpu->cc_oca = (cf & 1) | ((left ? a ^ a << 1 : a ^ b << (bits - 1)) & sign ? FL_OF : 0);
    return r;
}

/* Memory beyond the fast path is done by hand: rmw_slow has no room for a second source. */
#define GEN_DOUBLE(name, left, form, COUNT, W)                                                                         \
    OP(name##_##form##_r##W) {                                                                                         \
        WR##W(i->rm, (u##W)double_shift(cpu, W, RD##W(i->rm), RD##W(i->reg), COUNT, left));                            \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_##form##_m##W) {                                                                                         \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        u##W a;                                                                                                        \
        u8 *p = rmw_ptr(cpu, i, i->seg, ea, W / 8);                                                                    \
        if (likely(p != NULL)) {                                                                                       \
            memcpy(&a, p, W / 8);                                                                                      \
            a = (u##W)double_shift(cpu, W, a, RD##W(i->reg), COUNT, left);                                             \
            memcpy(p, &a, W / 8);                                                                                      \
        } else {                                                                                                       \
            s64 res = cpu->cc_res, new_res;                                                                            \
            u32 oca = cpu->cc_oca, new_oca;                                                                            \
            a = (u##W)mem_read_slow(cpu, i->seg, ea, W / 8);                                                           \
            a = (u##W)double_shift(cpu, W, a, RD##W(i->reg), COUNT, left);                                             \
            new_res = cpu->cc_res, new_oca = cpu->cc_oca;                                                              \
            cpu->cc_res = res, cpu->cc_oca = oca;                                                                      \
            mem_write_slow(cpu, i->seg, ea, W / 8, a);                                                                 \
            cpu->cc_res = new_res, cpu->cc_oca = new_oca;                                                              \
        }                                                                                                              \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_DOUBLES(_, W)                                                                                              \
    GEN_DOUBLE(shld, true, I, (unsigned)i->imm, W)                                                                     \
    GEN_DOUBLE(shld, true, C, (unsigned)cpu->regs[RCX], W)                                                             \
    GEN_DOUBLE(shrd, false, I, (unsigned)i->imm, W)                                                                    \
    GEN_DOUBLE(shrd, false, C, (unsigned)cpu->regs[RCX], W)

WORD_WIDTHS(GEN_DOUBLES, _)
