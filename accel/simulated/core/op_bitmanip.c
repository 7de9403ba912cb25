/* POPCNT LZCNT TZCNT, BMI1, BMI2, MOVBE, ADCX, ADOX, CRC32.
 *
 * Flags left undefined: AF, PF (and SF, OF where the manual says no more) come from the result as after a logical
 * operation.
 */
#include "access.h"
#include "flags.h"
#include "ops.h"
#include "vector.h"

/* The source operand at the operand size, zero-extended. */
static inline u64 source(sim_vcpu *cpu, const struct insn *i) {
    return i->flags & IF_MEM ? ld_w(cpu, i, i->seg, insn_ea(cpu, i), i->osz) : get_reg(cpu, i->rm, i->osz);
}
static inline unsigned bits(const struct insn *i) { return 8u << i->osz; }
/* SF, ZF, PF by the result at the operand size, CF as given, OF and AF clear. */
static inline void result_flags(sim_vcpu *cpu, const struct insn *i, u64 result, bool carry) {
    unsigned unused = 64 - bits(i);
    cpu->cc_oca = carry ? FL_CF : 0;
    cpu->cc_res = (s64)(result << unused) >> unused;
}

#define BOTH(name)                                                                                                     \
    OP(name##_r) { do_##name(cpu, i); }                                                                                \
    OP(name##_m) { do_##name(cpu, i); }

/* ---- counting -----------------------------------------------------------------------------------------------------
 */

static inline void do_popcnt(sim_vcpu *cpu, const struct insn *i) {
    u64 v = source(cpu, i);
    set_reg(cpu, i->reg, i->osz, (u64)__builtin_popcountll(v));
    cpu->cc_res = v ? 1 : 0; /* 1 is odd: PF clear; 0 is even, so PF is inverted */
    cpu->cc_oca = v ? 0 : CC_FLIP_PF;
    NEXT(cpu, i);
}
BOTH(popcnt)

/* CF when the source is 0, ZF when the result is. */
static inline void count_done(sim_vcpu *cpu, const struct insn *i, u64 v, unsigned n) {
    set_reg(cpu, i->reg, i->osz, n);
    cpu->cc_oca = v ? 0 : FL_CF;
    cpu->cc_res = n;
    NEXT(cpu, i);
}
static inline void do_tzcnt(sim_vcpu *cpu, const struct insn *i) {
    u64 v = source(cpu, i);
    count_done(cpu, i, v, v ? (unsigned)__builtin_ctzll(v) : bits(i));
}
BOTH(tzcnt)
static inline void do_lzcnt(sim_vcpu *cpu, const struct insn *i) {
    u64 v = source(cpu, i);
    count_done(cpu, i, v, v ? (unsigned)__builtin_clzll(v) - (64 - bits(i)) : bits(i));
}
BOTH(lzcnt)

/* What their encodings mean without the feature: the prefix is ignored. */
#define GEN_SCAN(name)                                                                                                 \
    OP(name##_any) {                                                                                                   \
        static const op_fn by_width[2][4] = {{NULL, op_##name##_r16, op_##name##_r32, op_##name##_r64},                \
                                             {NULL, op_##name##_m16, op_##name##_m32, op_##name##_m64}};               \
        by_width[(i->flags & IF_MEM) != 0][i->osz](cpu, i);                                                            \
    }
GEN_SCAN(bsf)
GEN_SCAN(bsr)

/* ---- BMI1 ---------------------------------------------------------------------------------------------------------
 */

static inline void do_andn(sim_vcpu *cpu, const struct insn *i) {
    u64 v = ~get_reg(cpu, vex_vvvv(i), i->osz) & source(cpu, i);
    set_reg(cpu, i->reg, i->osz, v);
    result_flags(cpu, i, v, false);
    NEXT(cpu, i);
}
BOTH(andn)

/* Destination is vvvv.  CF: the source is 0, or with BLSI that it is not. */
#define GEN_LOWEST(name, EXPR, CARRY)                                                                                  \
    static inline void do_##name(sim_vcpu *cpu, const struct insn *i) {                                                \
        u64 v = source(cpu, i), r = (EXPR)&width_mask(i->osz);                                                         \
        set_reg(cpu, vex_vvvv(i), i->osz, r);                                                                          \
        result_flags(cpu, i, r, CARRY);                                                                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    BOTH(name)
GEN_LOWEST(blsr, v &(v - 1), v == 0)
GEN_LOWEST(blsmsk, v ^ (v - 1), v == 0)
GEN_LOWEST(blsi, v &(0 - v), v != 0)

static inline void do_bextr(sim_vcpu *cpu, const struct insn *i) {
    u64 v = source(cpu, i), control = cpu->regs[vex_vvvv(i)];
    unsigned start = control & 0xff, length = control >> 8 & 0xff;
    v = start < bits(i) ? v >> start : 0;
    if (length < 64)
        v &= ((u64)1 << length) - 1;
    set_reg(cpu, i->reg, i->osz, v);
    result_flags(cpu, i, v, false);
    NEXT(cpu, i);
}
BOTH(bextr)

/* ---- BMI2 ---------------------------------------------------------------------------------------------------------
 */

static inline void do_bzhi(sim_vcpu *cpu, const struct insn *i) {
    u64 v = source(cpu, i);
    unsigned n = cpu->regs[vex_vvvv(i)] & 0xff;
    if (n < bits(i))
        v &= ((u64)1 << n) - 1;
    set_reg(cpu, i->reg, i->osz, v);
    result_flags(cpu, i, v, n >= bits(i));
    NEXT(cpu, i);
}
BOTH(bzhi)

static inline void do_pdep(sim_vcpu *cpu, const struct insn *i) {
    u64 mask = source(cpu, i), v = get_reg(cpu, vex_vvvv(i), i->osz), r = 0;
    for (; mask; mask &= mask - 1, v >>= 1)
        if (v & 1)
            r |= mask & (0 - mask);
    set_reg(cpu, i->reg, i->osz, r);
    NEXT(cpu, i);
}
BOTH(pdep)

static inline void do_pext(sim_vcpu *cpu, const struct insn *i) {
    u64 mask = source(cpu, i), v = get_reg(cpu, vex_vvvv(i), i->osz), r = 0;
    for (unsigned n = 0; mask; mask &= mask - 1, n++)
        if (v & mask & (0 - mask))
            r |= (u64)1 << n;
    set_reg(cpu, i->reg, i->osz, r);
    NEXT(cpu, i);
}
BOTH(pext)

/* The high half goes to ModRM.reg and wins when both are one register. */
static inline void do_mulx(sim_vcpu *cpu, const struct insn *i) {
    unsigned __int128 r = (unsigned __int128)get_reg(cpu, RDX, i->osz) * source(cpu, i);
    set_reg(cpu, vex_vvvv(i), i->osz, (u64)r);
    set_reg(cpu, i->reg, i->osz, (u64)(r >> bits(i)));
    NEXT(cpu, i);
}
BOTH(mulx)

static inline void do_rorx(sim_vcpu *cpu, const struct insn *i) {
    u64 v = source(cpu, i);
    unsigned n = vex_imm8(i) & (bits(i) - 1);
    set_reg(cpu, i->reg, i->osz, n ? v >> n | v << (bits(i) - n) : v);
    NEXT(cpu, i);
}
BOTH(rorx)

#define GEN_SHIFTX(name, EXPR)                                                                                         \
    static inline void do_##name(sim_vcpu *cpu, const struct insn *i) {                                                \
        u64 v = source(cpu, i);                                                                                        \
        unsigned n = cpu->regs[vex_vvvv(i)] & (bits(i) - 1), unused = 64 - bits(i);                                    \
        (void)unused;                                                                                                  \
        set_reg(cpu, i->reg, i->osz, (u64)(EXPR));                                                                     \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    BOTH(name)
GEN_SHIFTX(shlx, v << n)
GEN_SHIFTX(shrx, v >> n)
GEN_SHIFTX(sarx, (s64)(v << unused) >> unused >> n)

/* ---- ADX: one carry each, all other flags stay --------------------------------------------------------------------
 */

static inline u64 add_carry(sim_vcpu *cpu, const struct insn *i, bool *carry) {
    unsigned __int128 r = (unsigned __int128)source(cpu, i) + get_reg(cpu, i->reg, i->osz) + *carry;
    *carry = r >> bits(i) & 1;
    return (u64)r;
}
static inline void do_adcx(sim_vcpu *cpu, const struct insn *i) {
    bool carry = get_cf(cpu) != 0;
    u64 r = add_carry(cpu, i, &carry);
    set_reg(cpu, i->reg, i->osz, r);
    cpu->cc_oca = (cpu->cc_oca & ~FL_CF) | (carry ? FL_CF : 0);
    NEXT(cpu, i);
}
BOTH(adcx)
static inline void do_adox(sim_vcpu *cpu, const struct insn *i) {
    bool carry = get_of(cpu);
    u64 r = add_carry(cpu, i, &carry);
    set_reg(cpu, i->reg, i->osz, r);
    cpu->cc_oca = (cpu->cc_oca & ~FL_OF) | (carry ? FL_OF : 0);
    NEXT(cpu, i);
}
BOTH(adox)

/* ---- MOVBE --------------------------------------------------------------------------------------------------------
 */

static inline u64 reversed(const struct insn *i, u64 v) { return __builtin_bswap64(v) >> (64 - bits(i)); }

OP(movbe_load) {
    set_reg(cpu, i->reg, i->osz, reversed(i, source(cpu, i)));
    NEXT(cpu, i);
}
OP(movbe_store) {
    st_w(cpu, i, i->seg, insn_ea(cpu, i), i->osz, reversed(i, get_reg(cpu, i->reg, i->osz)));
    NEXT(cpu, i);
}

/* ---- CRC32: the Castagnoli polynomial, bits in reverse --------------------------------------------------------------
 */

#define CASTAGNOLI_REVERSED 0x82f63b78u

static u32 crc32c(u32 crc, u64 v, unsigned bytes) {
    for (unsigned n = 0; n < bytes; n++) {
        crc ^= (u8)(v >> 8 * n);
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (CASTAGNOLI_REVERSED & (0 - (crc & 1)));
    }
    return crc;
}
static inline void do_crc32(sim_vcpu *cpu, const struct insn *i) {
    u64 v = source(cpu, i);
    WR32(i->reg, crc32c(RD32(i->reg), v, 1u << i->osz));
    NEXT(cpu, i);
}
BOTH(crc32)
OP(crc32_byte_r) {
    WR32(i->reg, crc32c(RD32(i->reg), RD8(i->rm), 1));
    NEXT(cpu, i);
}
OP(crc32_byte_m) {
    u8 v = ld8(cpu, i, i->seg, insn_ea(cpu, i));
    WR32(i->reg, crc32c(RD32(i->reg), v, 1));
    NEXT(cpu, i);
}

/* ---- CLFLUSH CLFLUSHOPT CLWB: there are no caches, but the address must be one that may be read ---------------------
 */

OP(clflush) {
    BEGIN(cpu, i);
    mem_probe(cpu, i->seg, insn_ea(cpu, i), 1, false);
    NEXT(cpu, i);
}
