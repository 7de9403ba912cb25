/* Lazy arithmetic flags.
 *
 * An operation leaves its result, sign-extended to 64 bits, in cc_res, and CF, AF, OF at their EFLAGS places in cc_oca.
 * ZF, SF and PF are worked out from cc_res when somebody asks.  For combinations that no result has (POPF, SAHF: ZF and
 * SF both set), two bits of cc_oca invert what cc_res says.  They are bits that are 0 in any EFLAGS, and the rest of
 * cc_oca means nothing: so the host's own flags, as they are, do for it (translate.c).
 */
#ifndef SIM_FLAGS_H
#define SIM_FLAGS_H
#include "cpu.h"

#define CC_FLIP_SF 0x00000008u
#define CC_FLIP_PF 0x00000020u

static inline u32 get_cf(const sim_vcpu *cpu) { return cpu->cc_oca & FL_CF; }
static inline bool get_zf(const sim_vcpu *cpu) { return cpu->cc_res == 0; }
static inline bool get_of(const sim_vcpu *cpu) { return (cpu->cc_oca & FL_OF) != 0; }
static inline bool get_sf(const sim_vcpu *cpu) { return (cpu->cc_res < 0) != ((cpu->cc_oca & CC_FLIP_SF) != 0); }
static inline bool get_pf(const sim_vcpu *cpu) {
    return !__builtin_parity((unsigned)cpu->cc_res & 0xff) != ((cpu->cc_oca & CC_FLIP_PF) != 0);
}

static inline u32 get_arith_flags(const sim_vcpu *cpu) {
    return (cpu->cc_oca & (FL_CF | FL_AF | FL_OF)) | (get_zf(cpu) ? FL_ZF : 0) | (get_sf(cpu) ? FL_SF : 0) |
           (get_pf(cpu) ? FL_PF : 0);
}
static inline void set_arith_flags(sim_vcpu *cpu, u32 f) {
    bool zf = (f & FL_ZF) != 0, pf = (f & FL_PF) != 0;
    cpu->cc_res = zf ? 0 : 1; /* parity of 0 is even (PF = 1), of 1 odd (PF = 0) */
    cpu->cc_oca = (f & (FL_CF | FL_AF | FL_OF)) | (f & FL_SF ? CC_FLIP_SF : 0) | (pf != zf ? CC_FLIP_PF : 0);
}

/* Condition codes 0..15 as in Jcc. */
static inline bool condition(const sim_vcpu *cpu, unsigned cc) {
    bool r;
    switch (cc >> 1) {
    case 0:
        r = get_of(cpu);
        break;
    case 1:
        r = get_cf(cpu);
        break;
    case 2:
        r = get_zf(cpu);
        break;
    case 3:
        r = get_cf(cpu) || get_zf(cpu);
        break;
    case 4:
        r = get_sf(cpu);
        break;
    case 5:
        r = get_pf(cpu);
        break;
    case 6:
        r = get_sf(cpu) != get_of(cpu);
        break;
    default:
        r = get_zf(cpu) || get_sf(cpu) != get_of(cpu);
        break;
    }
    return r != (cc & 1);
}

/* What add, sub and friends leave.  `a op b (op carry) = r` at the width of type U/S. */
#define FLAGS_ADD(cpu, U, S, a, b, r, c)                                                                               \
    do {                                                                                                               \
        u32 cf_ = (c) ? (U)(r) <= (U)(a) : (U)(r) < (U)(a);                                                            \
        u32 of_ = (S)(((U)(a) ^ (U)(r)) & ((U)(b) ^ (U)(r))) < 0;                                                      \
        (cpu)->cc_oca = cf_ | ((u32)((a) ^ (b) ^ (r)) & FL_AF) | of_ << 11;                                            \
        (cpu)->cc_res = (S)(r);                                                                                        \
    } while (0)
#define FLAGS_SUB(cpu, U, S, a, b, r, c)                                                                               \
    do {                                                                                                               \
        u32 cf_ = (c) ? (U)(a) <= (U)(b) : (U)(a) < (U)(b);                                                            \
        u32 of_ = (S)(((U)(a) ^ (U)(b)) & ((U)(a) ^ (U)(r))) < 0;                                                      \
        (cpu)->cc_oca = cf_ | ((u32)((a) ^ (b) ^ (r)) & FL_AF) | of_ << 11;                                            \
        (cpu)->cc_res = (S)(r);                                                                                        \
    } while (0)
#define FLAGS_LOGIC(cpu, S, r) ((cpu)->cc_oca = 0, (cpu)->cc_res = (S)(r))

#endif
