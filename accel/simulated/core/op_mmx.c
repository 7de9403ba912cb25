/* MMX, and what SSE, SSE2 and SSSE3 add to it: arithmetic, shuffles, moves, EMMS. */
#include "lanes.h"

MMX_ALSO(GEN_BINARY_MMX)
SHIFTS(GEN_BINARY_MMX)

static inline x128 mm(const sim_vcpu *cpu, unsigned n) { return _mm_cvtsi64_si128((s64)get_mm(cpu, n)); }
static inline u64 low(x128 v) { return (u64)_mm_cvtsi128_si64(v); }
static inline u64 high(x128 v) { return low(_mm_srli_si128(v, 8)); }

/* Register and 8-byte memory form of ModRM.reg = VALUE, which sees x128 a and b. */
#define GEN_MMX(fullname, BITS, VALUE)                                                                                 \
    static inline void do_##fullname(sim_vcpu *cpu, const struct insn *i, x128 b) {                                    \
        x128 a = mm(cpu, i->reg);                                                                                      \
        (void)a;                                                                                                       \
        mmx_state(cpu);                                                                                                \
        set_mm(cpu, i->reg, VALUE);                                                                                    \
    }                                                                                                                  \
    OP(fullname##_r) {                                                                                                 \
        mmx_use(cpu, i);                                                                                               \
        do_##fullname(cpu, i, mm(cpu, i->rm));                                                                         \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(fullname##_m) {                                                                                                 \
        mmx_use(cpu, i);                                                                                               \
        do_##fullname(cpu, i, _mm_cvtsi64_si128((s64)(u64)ld##BITS(cpu, i, i->seg, insn_ea(cpu, i))));                 \
        NEXT(cpu, i);                                                                                                  \
    }
#define HALVES(name) GEN_MMX(p##name, 64, low(do_##name(_mm_unpacklo_epi64(a, b), _mm_unpacklo_epi64(a, b))))
MMX_HALVES(HALVES)
GEN_MMX(ppunpcklbw, 32, low(do_punpcklbw(a, b)))
GEN_MMX(ppunpcklwd, 32, low(do_punpcklwd(a, b)))
GEN_MMX(ppunpckldq, 32, low(do_punpckldq(a, b)))
GEN_MMX(ppunpckhbw, 64, high(do_punpcklbw(a, b)))
GEN_MMX(ppunpckhwd, 64, high(do_punpcklwd(a, b)))
GEN_MMX(ppunpckhdq, 64, high(do_punpckldq(a, b)))
GEN_MMX(ppshufb, 64, low(do_pshufb(a, _mm_and_si128(b, _mm_set1_epi8((char)0x87)))))
GEN_MMX(ppabsb, 64, low(do_pabsb(b)))
GEN_MMX(ppabsw, 64, low(do_pabsw(b)))
GEN_MMX(ppabsd, 64, low(do_pabsd(b)))
GEN_MMX(pshufw, 64, shuffle_w(low(b), vex_imm8(i)))
GEN_MMX(ppalignr, 64, low(shift_bytes_right(_mm_unpacklo_epi64(b, a), _mm_setzero_si128(), vex_imm8(i))))

#define GEN_SHIFT_IMM(name)                                                                                            \
    OP(p##name##_i) {                                                                                                  \
        mmx_use(cpu, i);                                                                                               \
        x128 a = mm(cpu, i->rm);                                                                                       \
        mmx_state(cpu);                                                                                                \
        set_mm(cpu, i->rm, low(do_##name(a, _mm_cvtsi32_si128(vex_imm8(i)))));                                         \
        NEXT(cpu, i);                                                                                                  \
    }
SHIFTS(GEN_SHIFT_IMM)

/* ---- moves ---- */

OP(movq_p_r) { /* 6F */
    mmx_use(cpu, i);
    mmx_state(cpu);
    set_mm(cpu, i->reg, get_mm(cpu, i->rm));
    NEXT(cpu, i);
}
OP(movq_p_m) {
    mmx_use(cpu, i);
    u64 v = ld64(cpu, i, i->seg, insn_ea(cpu, i));
    mmx_state(cpu);
    set_mm(cpu, i->reg, v);
    NEXT(cpu, i);
}
OP(movq_store_p_r) { /* 7F */
    mmx_use(cpu, i);
    mmx_state(cpu);
    set_mm(cpu, i->rm, get_mm(cpu, i->reg));
    NEXT(cpu, i);
}
OP(movq_store_p_m) { /* and MOVNTQ */
    mmx_use(cpu, i);
    mmx_top(cpu); /* even when the store faults */
    st64(cpu, i, i->seg, insn_ea(cpu, i), get_mm(cpu, i->reg));
    mmx_state(cpu);
    NEXT(cpu, i);
}
OP(movd_p_r) { /* 6E; with W all 64 bits */
    mmx_use(cpu, i);
    mmx_state(cpu);
    set_mm(cpu, i->reg, get_reg(cpu, i->rm, i->osz));
    NEXT(cpu, i);
}
OP(movd_p_m) {
    mmx_use(cpu, i);
    u64 v = ld_w(cpu, i, i->seg, insn_ea(cpu, i), i->osz);
    mmx_state(cpu);
    set_mm(cpu, i->reg, v);
    NEXT(cpu, i);
}
OP(movd_store_p_r) { /* 7E */
    mmx_use(cpu, i);
    mmx_state(cpu);
    set_reg(cpu, i->rm, i->osz, get_mm(cpu, i->reg));
    NEXT(cpu, i);
}
OP(movd_store_p_m) {
    mmx_use(cpu, i);
    mmx_top(cpu); /* even when the store faults */
    st_w(cpu, i, i->seg, insn_ea(cpu, i), i->osz, get_mm(cpu, i->reg));
    mmx_state(cpu);
    NEXT(cpu, i);
}
OP(movq2dq) {
    mmx_use(cpu, i);
    mmx_state(cpu);
    set_x(cpu, i->reg, mm(cpu, i->rm));
    NEXT(cpu, i);
}
OP(movdq2q) {
    mmx_use(cpu, i);
    mmx_state(cpu);
    set_mm(cpu, i->reg, low(get_x(cpu, i->rm)));
    NEXT(cpu, i);
}
OP(pmovmskb_p) {
    mmx_use(cpu, i);
    mmx_state(cpu);
    cpu->regs[i->reg] = (u32)_mm_movemask_epi8(mm(cpu, i->rm)) & 0xff;
    NEXT(cpu, i);
}
static inline void insert_w(sim_vcpu *cpu, const struct insn *i, u16 v) {
    unsigned at = (vex_imm8(i) & 3) * 16;
    mmx_state(cpu);
    set_mm(cpu, i->reg, (get_mm(cpu, i->reg) & ~((u64)0xffff << at)) | (u64)v << at);
}
OP(pinsrw_p_r) {
    mmx_use(cpu, i);
    insert_w(cpu, i, (u16)cpu->regs[i->rm]);
    NEXT(cpu, i);
}
OP(pinsrw_p_m) {
    mmx_use(cpu, i);
    insert_w(cpu, i, ld16(cpu, i, i->seg, insn_ea(cpu, i)));
    NEXT(cpu, i);
}
OP(pextrw_p) {
    mmx_use(cpu, i);
    mmx_state(cpu);
    cpu->regs[i->reg] = get_mm(cpu, i->rm) >> (vex_imm8(i) & 3) * 16 & 0xffff;
    NEXT(cpu, i);
}
OP(maskmovq) {
    mmx_use(cpu, i);
    BEGIN(cpu, i);
    masked_bytes(cpu, i, (const u8 *)&cpu->fpu.st[i->reg].mant, (u32)_mm_movemask_epi8(mm(cpu, i->rm)) & 0xff, 8);
    mmx_state(cpu);
    NEXT(cpu, i);
}
OP(emms) {
    mmx_use(cpu, i);
    mmx_state(cpu);
    cpu->fpu.ftw = 0;
    NEXT(cpu, i);
}
