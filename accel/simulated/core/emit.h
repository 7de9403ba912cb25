/* An assembler for the few x86-64 instructions that translate.c makes code of.
 *
 * Registers are by the manual's numbers (RAX.. of cpu.h), widths W8..W64.  Where a register operand is of a byte it is
 * one of AL, CL, DL, R8B..R11B; a base is never RSP, RBP, R12 or R13, whose encodings are special.
 */
#ifndef SIM_EMIT_H
#define SIM_EMIT_H
#include "cpu.h"

struct emitter {
    u8 *p; /* the next byte */
};

static inline void emit8(struct emitter *e, unsigned v) { *e->p++ = (u8)v; }
static inline void emit32(struct emitter *e, u32 v) {
    memcpy(e->p, &v, 4);
    e->p += 4;
}
static inline void emit64(struct emitter *e, u64 v) {
    memcpy(e->p, &v, 8);
    e->p += 8;
}

/* Prefixes and opcode: two-byte opcodes are 0x0fxx.  `reg`, `index` and `rm` give REX its bits. */
static inline void emit_opcode(struct emitter *e, unsigned w, unsigned opcode, unsigned reg, unsigned index,
                               unsigned rm) {
    unsigned rex = (w == W64 ? 8u : 0) | (reg & 8) >> 1 | (index & 8) >> 2 | (rm & 8) >> 3;
    if (w == W16)
        emit8(e, 0x66);
    if (rex)
        emit8(e, 0x40 | rex);
    if (opcode > 0xff)
        emit8(e, opcode >> 8);
    emit8(e, opcode);
}
static inline void emit_rr(struct emitter *e, unsigned w, unsigned opcode, unsigned reg, unsigned rm) {
    emit_opcode(e, w, opcode, reg, 0, rm);
    emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}
/* reg and [base + disp] */
static inline void emit_rm(struct emitter *e, unsigned w, unsigned opcode, unsigned reg, unsigned base, s32 disp) {
    unsigned mod = disp == 0 ? 0 : disp == (s8)disp ? 1 : 2;
    emit_opcode(e, w, opcode, reg, 0, base);
    emit8(e, mod << 6 | (reg & 7) << 3 | (base & 7));
    if (mod == 1)
        emit8(e, (u8)disp);
    else if (mod == 2)
        emit32(e, (u32)disp);
}
/* reg and [base + index * 2^scale + disp]; base R_ZERO for none */
static inline void emit_sib(struct emitter *e, unsigned w, unsigned opcode, unsigned reg, unsigned base, unsigned index,
                            unsigned scale, s32 disp) {
    bool none = base == R_ZERO;
    emit_opcode(e, w, opcode, reg, index, none ? 0 : base);
    unsigned mod = none || disp == 0 ? 0 : disp == (s8)disp ? 1 : 2;
    emit8(e, mod << 6 | (reg & 7) << 3 | 4);
    emit8(e, scale << 6 | (index & 7) << 3 | (none ? 5 : base & 7));
    if (mod == 1)
        emit8(e, (u8)disp);
    else if (mod == 2 || none)
        emit32(e, (u32)disp);
}
/* group opcodes with an immediate: 80 and 81 /n, with the short form where there is one */
static inline void emit_alu_imm(struct emitter *e, unsigned w, unsigned n, unsigned rm, s32 imm) {
    bool small = w != W8 && imm == (s8)imm;
    emit_rr(e, w, w == W8 ? 0x80 : small ? 0x83 : 0x81, n, rm);
    if (w == W8 || small)
        emit8(e, (u8)imm);
    else if (w == W16) {
        emit8(e, (u8)imm);
        emit8(e, (u8)(imm >> 8));
    } else
        emit32(e, (u32)imm);
}
static inline void emit_move(struct emitter *e, unsigned w, unsigned to, unsigned from) {
    emit_rr(e, w, 0x8b, to, from);
}
static inline void emit_move_imm(struct emitter *e, unsigned to, u64 v) {
    if (v == (u32)v) {
        emit_opcode(e, W32, 0xb8 | (to & 7), 0, 0, to);
        emit32(e, (u32)v);
    } else if (v == (u64)(s64)(s32)v) {
        emit_rr(e, W64, 0xc7, 0, to);
        emit32(e, (u32)v);
    } else {
        emit_opcode(e, W64, 0xb8 | (to & 7), 0, 0, to);
        emit64(e, v);
    }
}
/* A jump on condition cc to be filled in: returns where its displacement is. */
static inline u8 *emit_jcc(struct emitter *e, unsigned cc) {
    emit8(e, 0x0f);
    emit8(e, 0x80 | cc);
    emit32(e, 0);
    return e->p - 4;
}
/* ... to here. */
static inline void land(struct emitter *e, u8 *at) {
    u32 d = (u32)(e->p - (at + 4));
    memcpy(at, &d, 4);
}
static inline void emit_jump_abs(struct emitter *e, op_fn to) {
    emit_move_imm(e, RAX, (u64)(uintptr_t)to);
    emit8(e, 0xff);
    emit8(e, 0xe0);
}

#endif
