/* The decoder: a pure function over tables in the manual's operand codes (Intel SDM volume 2, appendix A).
 *
 * The one-byte map and what of the 0F map has no mandatory prefix are here; decode_vector.c has the rows of MMX, SSE,
 * AVX and all else that goes by mandatory prefix, 0F38, 0F3A or VEX, decode_x87.c those of the x87 escapes.  Not
 * modelled: EVEX, XOP, 3DNow! (#UD).
 */
#include <string.h>
#include "decode_vector.h"
#include "ops.h"

/* Handlers of one instruction: by form of the E operand and by width. */
struct family {
    op_fn r[4], m[4];
    op_fn quiet_r[4],
        quiet_m[4]; /* variants that write no flags; or, for A_STACK, for a stack pointer of the operand's width */
};

/* Tables: one row a line. */
// clang-format off

/* Operand codes: what is encoded where, and the width suffix. */
enum {
    K_NONE,
    K_E,  /* ModRM.rm: register or memory */
    K_M,  /* ModRM.rm: memory only */
    K_R,  /* ModRM.rm: register whatever mod says */
    K_G,  /* ModRM.reg: general register */
    K_S,  /* ModRM.reg: segment register */
    K_CD, /* ModRM.reg: control or debug register */
    K_I,  /* immediate */
    K_J,  /* relative branch */
    K_A,  /* far pointer in the instruction */
    K_O,  /* address in the instruction */
    K_Z,  /* register in the opcode's low bits */
    K_ACC, /* AL, AX, EAX, RAX */
    K_ONE, /* the constant 1 */
    K_X   /* string operand or DX: nothing encoded */
};
enum { S_b = 1, S_w, S_d, S_v, S_z, S_s, S_y };
#define CODE(kind, suffix) ((kind) << 3 | (suffix))
enum {
    __ = 0,
    Eb = CODE(K_E, S_b), Ew = CODE(K_E, S_w), Ev = CODE(K_E, S_v), Ed = CODE(K_E, S_d), Ey = CODE(K_E, S_y),
    Mv = CODE(K_M, S_v), Mq = CODE(K_M, S_y),
    Ry = CODE(K_R, S_y),
    Gb = CODE(K_G, S_b), Gv = CODE(K_G, S_v), Gw = CODE(K_G, S_w),
    Sw = CODE(K_S, S_w), CD = CODE(K_CD, S_y),
    Ib = CODE(K_I, S_b),  /* zero-extended byte */
    sIb = CODE(K_I, S_s), /* sign-extended byte */
    Iw = CODE(K_I, S_w), Iz = CODE(K_I, S_z), Iv = CODE(K_I, S_v),
    Jb = CODE(K_J, S_b), Jz = CODE(K_J, S_z), Ap = CODE(K_A, S_v),
    Ob = CODE(K_O, S_b), Ov = CODE(K_O, S_v),
    Zb = CODE(K_Z, S_b), Zv = CODE(K_Z, S_v),
    AL = CODE(K_ACC, S_b), rAX = CODE(K_ACC, S_v),
    _1 = CODE(K_ONE, S_b),
    Xb = CODE(K_X, S_b), Xv = CODE(K_X, S_v), Xz = CODE(K_X, S_z), Xa = CODE(K_X, S_d)
};

#define A_END  0x001 /* ends its block */
#define A_LOCK 0x002 /* LOCK allowed with a memory operand */
#define A_I64  0x004 /* invalid in 64-bit code */
#define A_O64  0x008 /* only in 64-bit code */
#define A_D64  0x010 /* 64-bit code: operand size 64 by default, 32 impossible */
#define A_F64  0x020 /* 64-bit code: operand size 64 whatever the prefix */
#define A_GRP  0x040 /* sub: 8 rows by ModRM.reg */
#define A_GRP3 0x080 /* with A_GRP, mod = 3: sub + 8 has 64 rows by the low six bits of ModRM */
#define A_ASZ  0x100 /* the family is chosen by address size (LOOP, JCXZ) */
#define A_SS   0x200 /* ends its block when ModRM.reg (or the segment in b) is SS */
#define A_NOCS 0x400 /* segment register must be a loadable one (not CS) */
#define A_KILL 0x800 /* register form: EFFECT_KILLS (shifts by an immediate only when it is not 0) */
#define A_NEUT 0x1000 /* register form: EFFECT_NEUTRAL */
#define A_LEA 0x4000 /* with A_NEUT: neutral with its memory operand, too */
#define A_FEAT64 0x8000 /* .feature counts in 64-bit code only */
#define A_STACK 0x2000 /* quiet_r, quiet_m are for ssz == width */

struct row {
    const struct family *family;
    u8 a, b, c;
    u8 seg; /* K_S in the opcode rather than in ModRM: segment + 1 */
    u16 attr;
    u8 unit, feature; /* UNIT_*, FEAT_* */
    const struct row *sub;
};

#define F(n)    &(const struct family){{op_##n##_r8, op_##n##_r16, op_##n##_r32, op_##n##_r64}, {op_##n##_m8, op_##n##_m16, op_##n##_m32, op_##n##_m64}}
#define FQ(n)                                                                                                          \
    &(const struct family){{op_##n##_r8, op_##n##_r16, op_##n##_r32, op_##n##_r64},                                     \
                           {op_##n##_m8, op_##n##_m16, op_##n##_m32, op_##n##_m64},                                     \
                           {op_##n##_q8, op_##n##_q16, op_##n##_q32, op_##n##_q64},                                     \
                           {NULL}}
#define FQM(n)                                                                                                         \
    &(const struct family){{op_##n##_r8, op_##n##_r16, op_##n##_r32, op_##n##_r64},                                     \
                           {op_##n##_m8, op_##n##_m16, op_##n##_m32, op_##n##_m64},                                     \
                           {op_##n##_q8, op_##n##_q16, op_##n##_q32, op_##n##_q64},                                     \
                           {op_##n##_qm8, op_##n##_qm16, op_##n##_qm32, op_##n##_qm64}}
#define FV(n)   &(const struct family){{NULL, op_##n##_r16, op_##n##_r32, op_##n##_r64}, {NULL, op_##n##_m16, op_##n##_m32, op_##n##_m64}}
/* of the stack: a variant when the stack pointer is as wide as the operand */
#define FS(n)                                                                                                          \
    &(const struct family){{NULL, op_##n##_r16, op_##n##_r32, op_##n##_r64},                                           \
                           {NULL, op_##n##_m16, op_##n##_m32, op_##n##_m64},                                           \
                           {NULL, op_##n##_s16, op_##n##_s32, op_##n##_s64},                                           \
                           {NULL}}
#define FSW(n)                                                                                                         \
    &(const struct family){{NULL, op_##n##16, op_##n##32, op_##n##64},                                                 \
                           {NULL},                                                                                     \
                           {NULL, op_##n##_s16, op_##n##_s32, op_##n##_s64},                                           \
                           {NULL}}
#define FMEM(n) &(const struct family){{NULL}, {op_##n##_m8, op_##n##_m16, op_##n##_m32, op_##n##_m64}}
#define FW(n)   &(const struct family){{op_##n##8, op_##n##16, op_##n##32, op_##n##64}, {op_##n##8, op_##n##16, op_##n##32, op_##n##64}}
#define FVW(n)  &(const struct family){{NULL, op_##n##16, op_##n##32, op_##n##64}, {NULL, op_##n##16, op_##n##32, op_##n##64}}
#define F1(n)   &(const struct family){{op_##n, op_##n, op_##n, op_##n}, {op_##n, op_##n, op_##n, op_##n}}
#define F1M(n)  &(const struct family){{NULL}, {op_##n, op_##n, op_##n, op_##n}}
#define FB(n)   &(const struct family){{op_##n##_r8}, {op_##n##_m8}}

#define ALU_ROWS(op, n)                                                                                                \
    [op] = {F(n##_EG), Eb, Gb, .attr = A_LOCK}, [op + 1] = {F(n##_EG), Ev, Gv, .attr = A_LOCK},                        \
    [op + 2] = {F(n##_GE), Gb, Eb}, [op + 3] = {F(n##_GE), Gv, Ev}, [op + 4] = {F(n##_EI), AL, Ib},                    \
    [op + 5] = {F(n##_EI), rAX, Iz}
#define ALU_ROWS_Q(op, n)                                                                                              \
    [op] = {FQ(n##_EG), Eb, Gb, .attr = A_LOCK | A_KILL}, [op + 1] = {FQ(n##_EG), Ev, Gv, .attr = A_LOCK | A_KILL},    \
    [op + 2] = {FQM(n##_GE), Gb, Eb, .attr = A_KILL}, [op + 3] = {FQM(n##_GE), Gv, Ev, .attr = A_KILL},                \
    [op + 4] = {FQ(n##_EI), AL, Ib, .attr = A_KILL}, [op + 5] = {FQ(n##_EI), rAX, Iz, .attr = A_KILL}
#define ALU_GROUP(E, I)                                                                                                \
    {{FQ(add_EI), E, I, .attr = A_LOCK | A_KILL}, {FQ(or_EI), E, I, .attr = A_LOCK | A_KILL},                          \
     {F(adc_EI), E, I, .attr = A_LOCK}, {F(sbb_EI), E, I, .attr = A_LOCK},                                             \
     {FQ(and_EI), E, I, .attr = A_LOCK | A_KILL}, {FQ(sub_EI), E, I, .attr = A_LOCK | A_KILL},                         \
     {FQ(xor_EI), E, I, .attr = A_LOCK | A_KILL}, {F(cmp_EI), E, I, .attr = A_KILL}}
#define SHIFT_GROUP(form, E, I)                                                                                        \
    {{F(rol_##form), E, I}, {F(ror_##form), E, I}, {F(rcl_##form), E, I}, {F(rcr_##form), E, I},                       \
     {F(shl_##form), E, I}, {F(shr_##form), E, I}, {F(shl_##form), E, I}, {F(sar_##form), E, I}}
#define EIGHT(op, ...)                                                                                                 \
    [op] = {__VA_ARGS__}, [op + 1] = {__VA_ARGS__}, [op + 2] = {__VA_ARGS__}, [op + 3] = {__VA_ARGS__},                \
    [op + 4] = {__VA_ARGS__}, [op + 5] = {__VA_ARGS__}, [op + 6] = {__VA_ARGS__}, [op + 7] = {__VA_ARGS__}

static const struct row group1_80[8] = ALU_GROUP(Eb, Ib);
static const struct row group1_81[8] = ALU_GROUP(Ev, Iz);
static const struct row group1_83[8] = ALU_GROUP(Ev, sIb);
#define SHIFT_GROUP_Q(E, I)                                                                                            \
    {{F(rol_EI), E, I}, {F(ror_EI), E, I}, {F(rcl_EI), E, I}, {F(rcr_EI), E, I},                                       \
     {FQ(shl_EI), E, I, .attr = A_KILL}, {FQ(shr_EI), E, I, .attr = A_KILL}, {FQ(shl_EI), E, I, .attr = A_KILL},       \
     {FQ(sar_EI), E, I, .attr = A_KILL}}
static const struct row group2_c0[8] = SHIFT_GROUP_Q(Eb, Ib);
static const struct row group2_c1[8] = SHIFT_GROUP_Q(Ev, Ib);
static const struct row group2_d0[8] = SHIFT_GROUP_Q(Eb, _1);
static const struct row group2_d1[8] = SHIFT_GROUP_Q(Ev, _1);
static const struct row group2_d2[8] = SHIFT_GROUP(EC, Eb, __);
static const struct row group2_d3[8] = SHIFT_GROUP(EC, Ev, __);
static const struct row group1a[8] = {[0] = {FV(pop), Ev, .attr = A_D64}};
static const struct row group3_f6[8] = {
    {F(test_EI), Eb, Ib, .attr = A_KILL}, {F(test_EI), Eb, Ib, .attr = A_KILL}, {F(not), Eb, .attr = A_LOCK | A_NEUT}, {F(neg), Eb, .attr = A_LOCK | A_KILL},
    {F(mul), Eb, .attr = A_KILL}, {F(imul), Eb, .attr = A_KILL}, {F(div), Eb}, {F(idiv), Eb}};
static const struct row group3_f7[8] = {
    {F(test_EI), Ev, Iz, .attr = A_KILL}, {F(test_EI), Ev, Iz, .attr = A_KILL}, {F(not), Ev, .attr = A_LOCK | A_NEUT}, {F(neg), Ev, .attr = A_LOCK | A_KILL},
    {F(mul), Ev, .attr = A_KILL}, {F(imul), Ev, .attr = A_KILL}, {F(div), Ev}, {F(idiv), Ev}};
static const struct row group4[8] = {{FQ(inc), Eb, .attr = A_LOCK}, {FQ(dec), Eb, .attr = A_LOCK}};
static const struct row group5[8] = {
    {FQ(inc), Ev, .attr = A_LOCK}, {FQ(dec), Ev, .attr = A_LOCK},
    {FV(call), Ev, .attr = A_END | A_F64}, {F1M(call_far_mem), Mv, .attr = A_END},
    {FV(jmp), Ev, .attr = A_END | A_F64}, {F1M(jmp_far_mem), Mv, .attr = A_END},
    {FV(push), Ev, .attr = A_D64}};
static const struct row group6[8] = {
    {F1(sldt), Ev}, {F1(str), Ev}, {F1(lldt), Ew, .attr = A_END}, {F1(ltr), Ew, .attr = A_END}, {F1(verr), Ew}, {F1(verw), Ew}};
static const struct row group7[8 + 64] = {
    [0] = {F1M(sgdt), Mv}, [1] = {F1M(sidt), Mv}, [2] = {F1M(lgdt), Mv, .attr = A_END}, [3] = {F1M(lidt), Mv, .attr = A_END},
    [4] = {F1(smsw), Ev}, [6] = {F1(lmsw), Ew, .attr = A_END}, [7] = {F1M(invlpg), Mv, .attr = A_END},
    [8 + 001] = {F1(vmcall), __, .attr = A_END}, [8 + 010] = {F1(monitor), __, .attr = A_END, .feature = FEAT_MONITOR}, [8 + 011] = {F1(mwait), __, .attr = A_END, .feature = FEAT_MONITOR},
    [8 + 012] = {F1(clac), __, .feature = FEAT_SMAP}, [8 + 013] = {F1(stac), __, .feature = FEAT_SMAP},
    [8 + 020] = {F1(xgetbv), __, .unit = UNIT_XCR, .feature = FEAT_XSAVE},
    [8 + 021] = {F1(xsetbv), __, .attr = A_END, .unit = UNIT_XCR, .feature = FEAT_XSAVE},
    EIGHT(8 + 040, F1(smsw), Ev), EIGHT(8 + 060, F1(lmsw), Ew, .attr = A_END),
    [8 + 070] = {F1(swapgs), __, .attr = A_END | A_O64}, [8 + 071] = {F1(rdtscp), __, .attr = A_END, .feature = FEAT_RDTSCP}};
static const struct row group8[8] = {
    [4] = {FV(bt_I), Ev, Ib}, [5] = {FV(bts_I), Ev, Ib, .attr = A_LOCK}, [6] = {FV(btr_I), Ev, Ib, .attr = A_LOCK},
    [7] = {FV(btc_I), Ev, Ib, .attr = A_LOCK}};
static const struct row group9[8] = {
    [1] = {&(const struct family){{NULL}, {NULL, op_cmpxchg8b, op_cmpxchg8b, op_cmpxchg16b}}, Mv, .attr = A_LOCK, .feature = FEAT_CX8}};
static const struct row group11_c6[8] = {{F(mov_EI), Eb, Ib, .attr = A_NEUT}};
static const struct row group11_c7[8] = {{F(mov_EI), Ev, Iz, .attr = A_NEUT}};

static const struct row map1[256] = {
    ALU_ROWS_Q(0x00, add), ALU_ROWS_Q(0x08, or), ALU_ROWS(0x10, adc), ALU_ROWS(0x18, sbb),
    ALU_ROWS_Q(0x20, and), ALU_ROWS_Q(0x28, sub), ALU_ROWS_Q(0x30, xor),
    [0x38] = {F(cmp_EG), Eb, Gb, .attr = A_KILL}, [0x39] = {F(cmp_EG), Ev, Gv, .attr = A_KILL},
    [0x3a] = {F(cmp_GE), Gb, Eb, .attr = A_KILL}, [0x3b] = {F(cmp_GE), Gv, Ev, .attr = A_KILL},
    [0x3c] = {F(cmp_EI), AL, Ib, .attr = A_KILL}, [0x3d] = {F(cmp_EI), rAX, Iz, .attr = A_KILL},
    [0x06] = {FVW(push_seg), Xv, .seg = ES + 1, .attr = A_I64}, [0x07] = {F1(pop_seg), Xv, .seg = ES + 1, .attr = A_I64},
    [0x0e] = {FVW(push_seg), Xv, .seg = CS + 1, .attr = A_I64},
    [0x16] = {FVW(push_seg), Xv, .seg = SS + 1, .attr = A_I64}, [0x17] = {F1(pop_seg), Xv, .seg = SS + 1, .attr = A_I64 | A_END},
    [0x1e] = {FVW(push_seg), Xv, .seg = DS + 1, .attr = A_I64}, [0x1f] = {F1(pop_seg), Xv, .seg = DS + 1, .attr = A_I64},
    [0x27] = {F1(daa), __, .attr = A_I64}, [0x2f] = {F1(das), __, .attr = A_I64},
    [0x37] = {F1(aaa), __, .attr = A_I64}, [0x3f] = {F1(aas), __, .attr = A_I64},
    EIGHT(0x40, FQ(inc), Zv), EIGHT(0x48, FQ(dec), Zv), /* REX prefixes in 64-bit code */
    EIGHT(0x50, FS(push), Zv, .attr = A_D64 | A_STACK), EIGHT(0x58, FS(pop), Zv, .attr = A_D64 | A_STACK),
    [0x60] = {FVW(pusha), Xv, .attr = A_I64}, [0x61] = {FVW(popa), Xv, .attr = A_I64},
    [0x62] = {FVW(bound), Gv, Mv, .attr = A_I64}, [0x63] = {F1(arpl), Ew, Gw},
    [0x68] = {FSW(push_I), Iz, .attr = A_D64 | A_STACK}, [0x69] = {FV(imul_GEI), Gv, Ev, Iz, .attr = A_KILL},
    [0x6a] = {FSW(push_I), sIb, .attr = A_D64 | A_STACK}, [0x6b] = {FV(imul_GEI), Gv, Ev, sIb, .attr = A_KILL},
    [0x6c] = {FW(ins), Xb, .attr = A_END}, [0x6d] = {FW(ins), Xz, .attr = A_END},
    [0x6e] = {FW(outs), Xb, .attr = A_END}, [0x6f] = {FW(outs), Xz, .attr = A_END},
#define C(code, cc) [0x70 + code] = {F1(j##cc), Jb, .attr = A_END | A_F64},
    CONDITIONS(C)
#undef C
    [0x80] = {.attr = A_GRP, .sub = group1_80}, [0x81] = {.attr = A_GRP, .sub = group1_81},
    [0x82] = {.attr = A_GRP | A_I64, .sub = group1_80}, [0x83] = {.attr = A_GRP, .sub = group1_83},
    [0x84] = {F(test_EG), Eb, Gb, .attr = A_KILL}, [0x85] = {F(test_EG), Ev, Gv, .attr = A_KILL},
    [0x86] = {F(xchg), Eb, Gb, .attr = A_LOCK | A_NEUT}, [0x87] = {F(xchg), Ev, Gv, .attr = A_LOCK | A_NEUT},
    [0x88] = {F(mov_EG), Eb, Gb, .attr = A_NEUT}, [0x89] = {F(mov_EG), Ev, Gv, .attr = A_NEUT}, [0x8a] = {F(mov_GE), Gb, Eb, .attr = A_NEUT}, [0x8b] = {F(mov_GE), Gv, Ev, .attr = A_NEUT},
    [0x8c] = {FV(mov_Ev_Sw), Ev, Sw}, [0x8d] = {FVW(lea), Gv, Mv, .attr = A_NEUT | A_LEA}, [0x8e] = {F1(mov_Sw_Ew), Sw, Ew, .attr = A_SS | A_NOCS},
    [0x8f] = {.attr = A_GRP, .sub = group1a},
    EIGHT(0x90, F(xchg), Zv, rAX, .attr = A_NEUT),
    [0x98] = {FVW(cbw), Xv, .attr = A_NEUT}, [0x99] = {FVW(cwd), Xv, .attr = A_NEUT}, [0x9a] = {F1(call_far_imm), Ap, .attr = A_I64 | A_END},
    [0x9b] = {F1(wait), __, .unit = UNIT_WAIT}, [0x9c] = {F1(pushf), Xv, .attr = A_D64}, [0x9d] = {F1(popf), Xv, .attr = A_D64 | A_END},
    [0x9e] = {F1(sahf), __, .attr = A_FEAT64, .feature = FEAT_LAHF64}, [0x9f] = {F1(lahf), __, .attr = A_FEAT64, .feature = FEAT_LAHF64},
    [0xa0] = {FMEM(mov_AO), Ob, AL}, [0xa1] = {FMEM(mov_AO), Ov, rAX}, [0xa2] = {FMEM(mov_OA), Ob, AL}, [0xa3] = {FMEM(mov_OA), Ov, rAX},
    [0xa4] = {FW(movs), Xb}, [0xa5] = {FW(movs), Xv}, [0xa6] = {FW(cmps), Xb}, [0xa7] = {FW(cmps), Xv},
    [0xa8] = {F(test_EI), AL, Ib, .attr = A_KILL}, [0xa9] = {F(test_EI), rAX, Iz, .attr = A_KILL},
    [0xaa] = {FW(stos), Xb}, [0xab] = {FW(stos), Xv}, [0xac] = {FW(lods), Xb}, [0xad] = {FW(lods), Xv},
    [0xae] = {FW(scas), Xb}, [0xaf] = {FW(scas), Xv},
    EIGHT(0xb0, F(mov_EI), Zb, Ib, .attr = A_NEUT), EIGHT(0xb8, F(mov_EI), Zv, Iv, .attr = A_NEUT),
    [0xc0] = {.attr = A_GRP, .sub = group2_c0}, [0xc1] = {.attr = A_GRP, .sub = group2_c1},
    [0xc2] = {FVW(ret_I), Iw, .attr = A_END | A_F64}, [0xc3] = {FSW(ret), Xv, .attr = A_END | A_F64 | A_STACK},
    [0xc4] = {F1M(load_far), Gv, Mv, .seg = ES + 1, .attr = A_I64}, [0xc5] = {F1M(load_far), Gv, Mv, .seg = DS + 1, .attr = A_I64},
    [0xc6] = {.attr = A_GRP, .sub = group11_c6}, [0xc7] = {.attr = A_GRP, .sub = group11_c7},
    [0xc8] = {FVW(enter), Iw, Ib, .attr = A_D64}, [0xc9] = {FVW(leave), Xv, .attr = A_D64},
    [0xca] = {F1(ret_far), Iw, .attr = A_END}, [0xcb] = {F1(ret_far), Xv, .attr = A_END},
    [0xcc] = {F1(int3), __, .attr = A_END}, [0xcd] = {F1(int_n), Ib, .attr = A_END}, [0xce] = {F1(into), __, .attr = A_I64 | A_END},
    [0xcf] = {F1(iret), Xv, .attr = A_END},
    [0xd0] = {.attr = A_GRP, .sub = group2_d0}, [0xd1] = {.attr = A_GRP, .sub = group2_d1},
    [0xd2] = {.attr = A_GRP, .sub = group2_d2}, [0xd3] = {.attr = A_GRP, .sub = group2_d3},
    [0xd4] = {F1(aam), Ib, .attr = A_I64}, [0xd5] = {F1(aad), Ib, .attr = A_I64}, [0xd6] = {F1(salc), __, .attr = A_I64},
    [0xd7] = {F1(xlat), __}, /* d8..df: decode_x87.c */
    [0xe0] = {FVW(loopnz), Jb, .attr = A_END | A_F64 | A_ASZ}, [0xe1] = {FVW(loopz), Jb, .attr = A_END | A_F64 | A_ASZ},
    [0xe2] = {FVW(loop), Jb, .attr = A_END | A_F64 | A_ASZ}, [0xe3] = {FVW(jcxz), Jb, .attr = A_END | A_F64 | A_ASZ},
    [0xe4] = {FW(in), AL, Ib, .attr = A_END}, [0xe5] = {FW(in), Xz, Ib, .attr = A_END},
    [0xe6] = {FW(out), AL, Ib, .attr = A_END}, [0xe7] = {FW(out), Xz, Ib, .attr = A_END},
    [0xe8] = {FSW(call_J), Jz, .attr = A_END | A_F64 | A_STACK}, [0xe9] = {FVW(jmp_J), Jz, .attr = A_END | A_F64},
    [0xea] = {F1(jmp_far_imm), Ap, .attr = A_I64 | A_END}, [0xeb] = {FVW(jmp_J), Jb, .attr = A_END | A_F64},
    [0xec] = {FW(in), Xb, .attr = A_END}, [0xed] = {FW(in), Xz, .attr = A_END},
    [0xee] = {FW(out), Xb, .attr = A_END}, [0xef] = {FW(out), Xz, .attr = A_END},
    [0xf1] = {F1(int1), __, .attr = A_END}, [0xf4] = {F1(hlt), __, .attr = A_END}, [0xf5] = {F1(cmc), __},
    [0xf6] = {.attr = A_GRP, .sub = group3_f6}, [0xf7] = {.attr = A_GRP, .sub = group3_f7},
    [0xf8] = {F1(clc), __}, [0xf9] = {F1(stc), __}, [0xfa] = {F1(cli), __, .attr = A_END}, [0xfb] = {F1(sti), __, .attr = A_END},
    [0xfc] = {F1(cld), __}, [0xfd] = {F1(std), __},
    [0xfe] = {.attr = A_GRP, .sub = group4}, [0xff] = {.attr = A_GRP, .sub = group5},
};

static const struct row nop = {F1(nop), __, .attr = A_NEUT};            /* 90 without REX.B */
static const struct row movsxd = {FV(movsx32), Gv, Ed, .attr = A_NEUT}; /* 63 in 64-bit code */
static const struct row pause = {F1(pause), __};        /* F3 90 */

static const struct row map2[256] = {
    [0x00] = {.attr = A_GRP, .sub = group6}, [0x01] = {.attr = A_GRP | A_GRP3, .sub = group7},
    [0x02] = {F1(lar), Gv, Ew}, [0x03] = {F1(lsl), Gv, Ew},
    [0x05] = {F1(syscall), __, .attr = A_END, .feature = FEAT_SYSCALL}, [0x06] = {F1(clts), __, .attr = A_END}, [0x07] = {F1(sysret), Xv, .attr = A_END, .feature = FEAT_SYSCALL},
    [0x08] = {F1(invd), __, .attr = A_END}, [0x09] = {F1(wbinvd), __, .attr = A_END}, [0x0b] = {F1(ud), __, .attr = A_END},
    [0x0d] = {F1(nop), Ev, .attr = A_NEUT}, EIGHT(0x18, F1(nop), Ev, .attr = A_NEUT),
    [0x20] = {F1(mov_Rd_Cd), CD, Ry, .attr = A_END}, [0x21] = {F1(mov_Rd_Dd), CD, Ry, .attr = A_END},
    [0x22] = {F1(mov_Cd_Rd), CD, Ry, .attr = A_END}, [0x23] = {F1(mov_Dd_Rd), CD, Ry, .attr = A_END},
    [0x30] = {F1(wrmsr), __, .attr = A_END, .feature = FEAT_MSR}, [0x31] = {F1(rdtsc), __, .attr = A_END, .feature = FEAT_TSC}, [0x32] = {F1(rdmsr), __, .attr = A_END, .feature = FEAT_MSR},
    [0x33] = {F1(rdpmc), __, .attr = A_END}, [0x34] = {F1(sysenter), __, .attr = A_END, .feature = FEAT_SEP}, [0x35] = {F1(sysexit), Xv, .attr = A_END, .feature = FEAT_SEP},
#define C(code, cc)                                                                                                    \
    [0x40 + code] = {FV(cmov), Gv, Ev, .feature = FEAT_CMOV}, [0x80 + code] = {F1(j##cc), Jz, .attr = A_END | A_F64},                        \
    [0x90 + code] = {FB(setcc), Eb},
    CONDITIONS(C)
#undef C
    [0xa0] = {FVW(push_seg), Xv, .seg = FS + 1, .attr = A_D64}, [0xa1] = {F1(pop_seg), Xv, .seg = FS + 1, .attr = A_D64},
    [0xa8] = {FVW(push_seg), Xv, .seg = GS + 1, .attr = A_D64}, [0xa9] = {F1(pop_seg), Xv, .seg = GS + 1, .attr = A_D64},
    [0xa2] = {F1(cpuid), __, .attr = A_END},
    [0xa3] = {FV(bt_G), Ev, Gv}, [0xab] = {FV(bts_G), Ev, Gv, .attr = A_LOCK}, [0xb3] = {FV(btr_G), Ev, Gv, .attr = A_LOCK},
    [0xbb] = {FV(btc_G), Ev, Gv, .attr = A_LOCK}, [0xba] = {.attr = A_GRP, .sub = group8},
    [0xa4] = {FV(shld_I), Ev, Gv, Ib}, [0xa5] = {FV(shld_C), Ev, Gv}, [0xac] = {FV(shrd_I), Ev, Gv, Ib}, [0xad] = {FV(shrd_C), Ev, Gv},
    [0xaa] = {F1(rsm), __, .attr = A_END}, [0xaf] = {FV(imul_GE), Gv, Ev, .attr = A_KILL},
    [0xb0] = {F(cmpxchg), Eb, Gb, .attr = A_LOCK}, [0xb1] = {F(cmpxchg), Ev, Gv, .attr = A_LOCK},
    [0xb2] = {F1M(load_far), Gv, Mv, .seg = SS + 1, .attr = A_END}, [0xb4] = {F1M(load_far), Gv, Mv, .seg = FS + 1},
    [0xb5] = {F1M(load_far), Gv, Mv, .seg = GS + 1},
    [0xb6] = {FV(movzx8), Gv, Eb, .attr = A_NEUT}, [0xb7] = {FV(movzx16), Gv, Ew, .attr = A_NEUT}, [0xbe] = {FV(movsx8), Gv, Eb, .attr = A_NEUT}, [0xbf] = {FV(movsx16), Gv, Ew, .attr = A_NEUT},
    [0xb9] = {F1(ud), Ev, .attr = A_END}, [0xff] = {F1(ud), Ev, .attr = A_END},
    [0xbc] = {FV(bsf), Gv, Ev}, [0xbd] = {FV(bsr), Gv, Ev},
    [0xc0] = {F(xadd), Eb, Gb, .attr = A_LOCK}, [0xc1] = {F(xadd), Ev, Gv, .attr = A_LOCK},
    [0xc7] = {.attr = A_GRP, .sub = group9}, EIGHT(0xc8, FVW(bswap), Zv, .attr = A_NEUT),
};

// clang-format on

struct cursor {
    const u8 *p;
    unsigned pos, avail;
    bool short_of; /* more bytes are needed than there are */
};

static u64 take(struct cursor *c, unsigned n) {
    u64 v = 0;
    if (c->pos + n > c->avail) {
        c->short_of = true;
        return 0;
    }
    memcpy(&v, c->p + c->pos, n);
    c->pos += n;
    return v;
}
static u64 take_signed(struct cursor *c, unsigned n) {
    u64 v = take(c, n);
    return n == 8 ? v : (u64)((s64)(v << (64 - 8 * n)) >> (64 - 8 * n));
}

static u8 byte_reg(unsigned n, bool rex) { return (u8)(rex || n < 4 ? n * 8 : (n & 3) * 8 + 1); }

/* The address form of ModRM (mod != 3), 16-bit: base and index by the manual's table 2-1. */
static void address16(struct cursor *c, unsigned mod, unsigned rm, struct insn *o, bool *stack) {
    static const u8 base[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static const u8 index[8] = {RSI, RDI, RSI, RDI, R_ZERO, R_ZERO, R_ZERO, R_ZERO};
    o->base = base[rm];
    o->index = index[rm];
    if (mod == 0 && rm == 6) {
        o->base = R_ZERO;
        o->disp = (s16)take(c, 2);
    } else if (mod)
        o->disp = (s32)take_signed(c, mod == 1 ? 1 : 2);
    *stack = o->base == RBP;
}

/* 32 and 64-bit: tables 2-2 and 2-3. */
static void address32(struct cursor *c, unsigned mod, unsigned rm, unsigned rex, unsigned mode, struct insn *o,
                      bool *stack) {
    if (rm == 4) {
        unsigned sib = (unsigned)take(c, 1), index = (sib >> 3 & 7) | (rex & 2) << 2, base = (sib & 7);
        o->scale = sib >> 6;
        o->index = (u8)(index == RSP ? R_ZERO : index);
        if (base == 5 && mod == 0) {
            o->base = R_ZERO;
            o->disp = (s32)take(c, 4);
        } else
            o->base = (u8)(base | (rex & 1) << 3);
    } else if (rm == 5 && mod == 0) {
        o->base = R_ZERO;
        o->disp = (s32)take(c, 4);
        if (mode == MODE64)
            o->flags |= IF_RIPREL;
    } else
        o->base = (u8)(rm | (rex & 1) << 3);
    if (mod)
        o->disp = (s32)take_signed(c, mod == 1 ? 1 : 4);
    *stack = o->base == RSP || o->base == RBP;
}

/* What the prefixes said. */
struct prefixes {
    unsigned mode, rex;
    bool opsize, adsize, stack32;
    int seg; /* -1: none */
    bool vex;
    unsigned vvvv, l;
};

static unsigned finish(struct insn *out, op_fn fn, unsigned len, struct decode_info *info) {
    out->fn = fn;
    out->len = (u8)len;
    info->end = true;
    return len;
}

/* No such instruction.  The byte behind, a ModRM byte, may have decided that: it counts as well, so that code which
 * differs only there is seen to have changed. */
static unsigned undefined(const struct cursor *c, struct insn *out, struct decode_info *info) {
    return finish(out, op_ud, c->pos < c->avail ? c->pos + 1 : c->pos, info);
}

static unsigned more(unsigned avail, struct insn *out, struct decode_info *info) {
    return avail >= 15 ? finish(out, op_gp0, 15, info) : 0;
}

/* ModRM and the memory operand behind it.  The fields reg and rm have REX applied. */
static void operand(struct cursor *c, const struct prefixes *p, struct insn *o, bool vsib) {
    unsigned modrm = (unsigned)take(c, 1), mod = modrm >> 6, rm = modrm & 7;
    bool stack = false;
    o->reg = (u8)((modrm >> 3 & 7) | (p->rex & 4) << 1);
    o->rm = (u8)(rm | (p->rex & 1) << 3);
    if (mod != 3) {
        o->flags |= IF_MEM;
        if (vsib && c->pos < c->avail)
            o->index = (u8)((c->p[c->pos] >> 3 & 7) | (p->rex & 2) << 2);
        u8 index = o->index;
        if (o->asz == W16)
            address16(c, mod, rm, o, &stack);
        else
            address32(c, mod, rm, p->rex, p->mode, o, &stack);
        if (vsib)
            o->index = index;
    }
    o->seg = (u8)(p->seg >= 0 ? p->seg : stack ? SS : DS);
}

/* The bytes after C5 (two-byte form) or C4.  Returns the map.  Outside 64-bit code there are 8 registers only. */
static unsigned vex_prefix(struct cursor *c, bool two, struct prefixes *p, unsigned *pp) {
    unsigned first = (unsigned)take(c, 1), last = two ? first : (unsigned)take(c, 1);
    p->vex = true;
    p->rex = 0x40 | (~first >> 5 & 4);
    if (!two)
        p->rex |= (~first >> 5 & 3) | (last >> 4 & 8);
    p->vvvv = ~last >> 3 & 15;
    if (p->mode != MODE64) {
        p->rex &= 0x48;
        p->vvvv &= 7;
    }
    p->l = last >> 2 & 1;
    *pp = last & 3;
    return two ? MAP_0F : first & 31;
}

static void address_sizes(const struct prefixes *p, struct insn *o) {
    o->asz = p->mode == MODE64 ? (p->adsize ? W32 : W64) : (p->mode == MODE32) != p->adsize ? W32 : W16;
    o->ssz = p->mode == MODE64 ? W64 : p->stack32 ? W32 : W16;
}

/* An instruction of decode_vector.c's tables.  0 with *found = false: there is no such row. */
static unsigned decode_vector(struct cursor *c, unsigned avail, const struct prefixes *p, unsigned map, unsigned pp,
                              unsigned op, struct insn *out, struct decode_info *info, bool *found) {
    const struct vrow *row;
    unsigned modrm = 0, wl = (p->rex & 8) >> 2 | p->l;
    *found = true;
    if (vector_group(map, op)) {
        if (c->pos >= c->avail)
            return more(avail, out, info);
        modrm = c->p[c->pos];
    }
    row = vector_row(p->vex, map, pp, op, wl, modrm);
    if (p->mode != MODE64 && (wl & 2)) {
        const struct vrow *narrow = vector_row(p->vex, map, pp, op, p->l, modrm);
        if (narrow && (narrow->attr & V_GPR))
            row = narrow;
    }
    if (!row) {
        *found = false;
        return 0;
    }
    address_sizes(p, out);
    out->osz = (wl & 2) && p->mode == MODE64 ? W64 : W32;
    if ((row->attr & V_OSZ) && out->osz == W32 && (p->mode == MODE16) != p->opsize)
        out->osz = W16;
    out->opcode = (u8)op;
    const u8 *rm_byte = c->p + c->pos;
    if (!(row->attr & V_NOMODRM))
        operand(c, p, out, (row->attr & V_VSIB) != 0);
    if (row->attr & V_MMREG)
        out->reg &= 7;
    if ((row->attr & V_MMRM) && !(out->flags & IF_MEM))
        out->rm &= 7;
    if (row->attr & V_RM8)
        out->rm = byte_reg(out->rm, p->rex != 0);
    if (row->attr & V_IMM)
        out->imm = take(c, 1);
    if (c->short_of)
        return more(avail, out, info);
    out->imm |= p->vvvv << 8 | p->l << 12;
    out->len = (u8)c->pos;
    out->fn = out->flags & IF_MEM ? row->mem : row->reg;
    if (!out->fn || (p->vvvv && !(row->attr & (out->flags & IF_MEM ? V_NDS : V_NDS | V_NDSR))) ||
        ((out->flags & IF_LOCK) && !((row->attr & V_LOCK) && (out->flags & IF_MEM))))
        return finish(out, op_ud, c->pos, info);
    if (row->attr & V_VSIB) { /* an index is a must, and the three registers must differ */
        if (out->asz == W16 || (*rm_byte & 7) != 4 || out->reg == out->index || out->reg == p->vvvv ||
            out->index == p->vvvv)
            return finish(out, op_ud, c->pos, info);
    }
    info->unit = row->unit;
    info->feature = (row->attr & V_AVX2R) && !(out->flags & IF_MEM) ? FEAT_AVX2 : row->feature;
    info->absent = row->absent;
    info->end = (row->attr & V_END) != 0;
    if ((row->attr & V_NEUT) && !(out->flags & IF_MEM))
        info->effect = EFFECT_NEUTRAL;
    return c->pos;
}

static unsigned decode_x87(struct cursor *c, unsigned avail, const struct prefixes *p, unsigned op, struct insn *out,
                           struct decode_info *info) {
    if (c->pos >= c->avail)
        return more(avail, out, info);
    out->imm = c->p[c->pos];
    address_sizes(p, out);
    if (p->mode == MODE64)
        out->osz = p->rex & 8 ? W64 : p->opsize ? W16 : W32;
    else
        out->osz = (p->mode == MODE32) != p->opsize ? W32 : W16;
    out->opcode = (u8)op;
    operand(c, p, out, false);
    out->reg &= 7;
    if (!(out->flags & IF_MEM))
        out->rm &= 7;
    if (c->short_of)
        return more(avail, out, info);
    out->len = (u8)c->pos;
    info->feature = FEAT_FPU;
    info->absent = op_fpu;
    out->fn = x87_handler(op, (unsigned)out->imm, info);
    if (!out->fn || (out->flags & IF_LOCK))
        return finish(out, op_ud, c->pos, info);
    info->unit = UNIT_X87;
    return c->pos;
}

unsigned decode(const u8 *bytes, unsigned avail, unsigned mode, bool stack32, struct insn *out,
                struct decode_info *info) {
    struct cursor c = {bytes, 0, avail < 15 ? avail : 15, false};
    unsigned rex = 0, modrm = 0, mod = 0, reg = 0, rm = 0, width, pp, map;
    struct prefixes p;
    bool opsize = false, adsize = false, has_modrm = false, stack = false, found;
    int seg = -1;
    u8 op;
    const struct row *row;

    memset(out, 0, sizeof *out);
    out->index = out->base = R_ZERO;
    memset(info, 0, sizeof *info);
    for (;; rex = 0) {
        op = (u8)take(&c, 1);
        if (c.short_of)
            return more(avail, out, info);
        switch (op) {
        case 0x26:
            seg = mode == MODE64 ? seg : ES;
            continue;
        case 0x2e:
            seg = mode == MODE64 ? seg : CS;
            continue;
        case 0x36:
            seg = mode == MODE64 ? seg : SS;
            continue;
        case 0x3e:
            seg = mode == MODE64 ? seg : DS;
            continue;
        case 0x64:
            seg = FS;
            continue;
        case 0x65:
            seg = GS;
            continue;
        case 0x66:
            opsize = true;
            continue;
        case 0x67:
            adsize = true;
            continue;
        case 0xf0:
            out->flags |= IF_LOCK;
            continue;
        case 0xf2:
            out->flags = (u8)((out->flags & ~IF_REP) | IF_REPNE);
            continue;
        case 0xf3:
            out->flags = (u8)((out->flags & ~IF_REPNE) | IF_REP);
            continue;
        default:
            break;
        }
        if (mode == MODE64 && (op & 0xf0) == 0x40) {
            rex = op; /* counts only directly before the opcode: the loop's step clears it after any other prefix */
            op = (u8)take(&c, 1);
            if (c.short_of)
                return more(avail, out, info);
            switch (op) {
            case 0x26:
            case 0x2e:
            case 0x36:
            case 0x3e:
            case 0x64:
            case 0x65:
            case 0x66:
            case 0x67:
            case 0xf0:
            case 0xf2:
            case 0xf3:
                c.pos--;
                continue;
            default:
                break;
            }
            if ((op & 0xf0) == 0x40) {
                c.pos--;
                continue;
            }
        }
        break;
    }
    row = &map1[op];
    pp = out->flags & IF_REPNE ? PP_F2 : out->flags & IF_REP ? PP_F3 : opsize ? PP_66 : PP_NP;
    p = (struct prefixes){mode, rex, opsize, adsize, stack32, seg, .vex = false};
    if (op == 0x0f) {
        map = MAP_0F;
        op = (u8)take(&c, 1);
        if (op == 0x38 || op == 0x3a) {
            map = op == 0x38 ? MAP_0F38 : MAP_0F3A;
            op = (u8)take(&c, 1);
        }
        if (c.short_of)
            return more(avail, out, info);
        unsigned len = decode_vector(&c, avail, &p, map, pp, op, out, info, &found);
        if (found)
            return len;
        if (map != MAP_0F)
            return undefined(&c, out, info);
        row = &map2[op];
    } else if (op == 0xc4 || op == 0xc5) { /* VEX, or LES and LDS: those cannot have a register */
        if (c.pos >= c.avail)
            return more(avail, out, info);
        if (mode == MODE64 || c.p[c.pos] >= 0xc0) {
            if (rex || pp != PP_NP || opsize || (out->flags & IF_LOCK))
                return mode == MODE64 ? finish(out, op_ud, c.pos, info) : undefined(&c, out, info);
            map = vex_prefix(&c, op == 0xc5, &p, &pp);
            op = (u8)take(&c, 1);
            if (c.short_of)
                return more(avail, out, info);
            if (map < MAP_0F || map > MAP_0F3A)
                return finish(out, op_ud, c.pos, info);
            unsigned len = decode_vector(&c, avail, &p, map, pp, op, out, info, &found);
            return found ? len : undefined(&c, out, info);
        }
    } else if ((op & 0xf8) == 0xd8) {
        return decode_x87(&c, avail, &p, op, out, info);
    } else if (op == 0x63 && mode == MODE64)
        row = opsize && !(rex & 8) ? &map1[0x8b] : &movsxd;       /* of 16 bits it is a plain move */
    else if (op == 0x90 && (!(rex & 1) || (out->flags & IF_REP))) /* F3 wins over REX.B, as the processor has it */
        row = out->flags & IF_REP ? &pause : &nop;
    if (c.short_of)
        return more(avail, out, info);
    out->opcode = op;
    if (rex)
        out->flags |= IF_REX;

    if ((row->attr & A_I64) && mode == MODE64)
        return finish(out, op_ud, c.pos, info);
    /* ModRM, and the group's row */
    if (row->attr & A_GRP) {
        u16 attr = row->attr;
        if (c.pos >= c.avail)
            return more(avail, out, info);
        modrm = c.p[c.pos];
        row = (attr & A_GRP3) && modrm >= 0xc0 ? &row->sub[8 + (modrm & 63)] : &row->sub[modrm >> 3 & 7];
        has_modrm = true;
    }
    if (!row->family || ((row->attr & A_O64) && mode != MODE64))
        return undefined(&c, out, info);
    for (unsigned k = 0; k < 3; k++) {
        unsigned kind = (k == 0 ? row->a : k == 1 ? row->b : row->c) >> 3;
        if (kind >= K_E && kind <= K_CD)
            has_modrm = true;
    }
    /* sizes */
    out->asz = mode == MODE64 ? (adsize ? W32 : W64) : (mode == MODE32) != adsize ? W32 : W16;
    if (mode == MODE64) {
        out->osz = (rex & 8) ? W64 : opsize ? W16 : W32;
        if ((row->attr & A_F64) || ((row->attr & A_D64) && !opsize))
            out->osz = W64;
    } else
        out->osz = (mode == MODE32) != opsize ? W32 : W16;
    out->ssz = mode == MODE64 ? W64 : stack32 ? W32 : W16;

    if (has_modrm) {
        modrm = (unsigned)take(&c, 1);
        mod = modrm >> 6;
        reg = (modrm >> 3 & 7) | (rex & 4) << 1;
        rm = modrm & 7;
        if (row->a >> 3 == K_R || row->b >> 3 == K_R)
            mod = 3;
        if (mod != 3) {
            out->flags |= IF_MEM;
            if (out->asz == W16)
                address16(&c, mod, rm, out, &stack);
            else
                address32(&c, mod, rm, rex, mode, out, &stack);
        }
        rm |= (rex & 1) << 3;
    }
    out->seg = (u8)(seg >= 0 ? seg : stack ? SS : DS);

    /* operands */
    width = out->osz;
    for (unsigned k = 0; k < 3; k++) {
        u8 code = k == 0 ? row->a : k == 1 ? row->b : row->c;
        unsigned kind = code >> 3, suffix = code & 7;
        if (k == 0) {
            if (suffix == S_b && kind != K_J && kind != K_I)
                width = W8;
            else if (kind == K_X && suffix == S_z && width == W64)
                width = W32;
        }
        switch (kind) {
        case K_E:
        case K_R:
            out->rm = suffix == S_b ? byte_reg(rm, rex) : (u8)rm;
            break;
        case K_G:
            out->reg = suffix == S_b ? byte_reg(reg, rex) : (u8)reg;
            break;
        case K_S:
            out->reg = (u8)(modrm >> 3 & 7);
            break;
        case K_CD:
            out->reg = (u8)reg;
            break;
        case K_I:
            switch (suffix) {
            case S_b:
                if (row->a == Iw)
                    out->imm |= take(&c, 1) << 16; /* ENTER's second */
                else
                    out->imm = take(&c, 1);
                break;
            case S_s:
                out->imm = take_signed(&c, 1);
                break;
            case S_w:
                out->imm = take(&c, 2);
                break;
            case S_z:
                out->imm = out->osz == W16 ? take_signed(&c, 2) : take_signed(&c, 4);
                break;
            default:
                out->imm = take(&c, 1u << out->osz);
                break;
            }
            break;
        case K_J:
            out->imm = take_signed(&c, suffix == S_b ? 1 : out->osz == W16 ? 2 : 4);
            break;
        case K_A:
            out->imm = take(&c, out->osz == W16 ? 2 : 4);
            out->imm |= take(&c, 2) << 32;
            break;
        case K_O:
            out->flags |= IF_MEM;
            out->imm = take(&c, 1u << out->asz);
            out->disp = (s32)out->imm;
            break;
        case K_Z:
            out->rm = suffix == S_b ? byte_reg((op & 7) | (rex & 1) << 3, rex) : (u8)((op & 7) | (rex & 1) << 3);
            break;
        case K_ACC:
            if (k == 0)
                out->rm = RAX;
            else
                out->reg = RAX;
            break;
        case K_ONE:
            out->imm = 1;
            break;
        default:
            break;
        }
    }
    if (c.short_of)
        return more(avail, out, info);
    if (row->seg) {
        if (row->b >> 3 == K_M)
            out->imm = row->seg - 1u; /* LES and its kin */
        else
            out->reg = (u8)(row->seg - 1);
    }
    if (row->attr & A_ASZ)
        width = out->asz;
    out->len = (u8)c.pos;

    /* what the manual calls illegal */
    out->fn = out->flags & IF_MEM ? row->family->m[width] : row->family->r[width];
    if ((row->a >> 3 == K_M || row->b >> 3 == K_M) && mod == 3)
        return finish(out, op_ud, c.pos, info);
    if (!out->fn || ((out->flags & IF_LOCK) && !((row->attr & A_LOCK) && (out->flags & IF_MEM))))
        return finish(out, op_ud, c.pos, info);
    if (row->a == Sw || row->b == Sw) {
        if (out->reg > GS || ((row->attr & A_NOCS) && out->reg == CS))
            return finish(out, op_ud, c.pos, info);
    }
    if (row->attr & A_STACK) {
        if (width == out->ssz && row->family->quiet_r[width])
            out->fn = row->family->quiet_r[width];
    } else
        info->quiet = out->flags & IF_MEM ? row->family->quiet_m[width] : row->family->quiet_r[width];
    if (row->attr & A_NEUT && (!(out->flags & IF_MEM) || (row->attr & A_LEA)))
        info->effect = EFFECT_NEUTRAL;
    if (row->attr & A_KILL && !(out->flags & IF_MEM) && ((op & 0xfe) != 0xc0 || (out->imm & 31) != 0))
        info->effect = EFFECT_KILLS; /* a shift by 0 does nothing */
    info->unit = row->unit;
    info->feature = out->fn == op_cmpxchg16b ? FEAT_CX16 : row->feature;
    if ((row->attr & A_FEAT64) && mode != MODE64)
        info->feature = FEAT_NONE;
    info->end = (row->attr & A_END) || ((row->attr & A_SS) && out->reg == SS);
    return c.pos;
}
