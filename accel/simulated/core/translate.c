/* Blocks that run often become machine code of the host, where the host is an x86-64.
 *
 * What is made is a handler like any other, for a run of instructions instead of one: it stands in the place of the
 * run's first handler, is called with `cpu` and that instruction, and leaves with a jump to the handler of what comes
 * after the run, or, at a block's end, to the next block.  Registers and flags are in `cpu` at every boundary between
 * instructions.  So nothing else in the engine knows that there is machine code:
 *
 * - An access that the TLB does not answer jumps to the instruction's own handler, which does all of it, faults, exits
 *   and dropped code included, and goes on with the handlers of the instructions after it.
 * - Instructions that are not in `rows` keep their handlers, and end a run.
 * - A block that is dropped gets op_resync as every handler; a run under way ends with a jump to it.
 *
 * Within a run, up to four guest registers are kept in R8..R11 besides: every change is written to cpu->regs at once,
 * and only reading them back is saved.  RDI is cpu, RSI the run's first instruction, RAX, RCX and RDX are scratch: what
 * a C function may change, so that nothing needs saving.  Flags that nothing can see are not made (the rule of
 * drop_dead_flags()); the others are the host's own, so what the manual leaves undefined of them is as the host has it.
 *
 * 64-bit code only.  Not here: rotates and narrow shifts with flags, bit tests, multiplication and division of double
 * width, LOCK with what nobody locks, strings, x87, MMX, SSE, and all that is not the engine's own; these stay with
 * their handlers.
 */
#include "translate.h"
#include "chain.h"
#include "flags.h"
#include "ops.h"

#if defined(__x86_64__)
#include <stdlib.h>
#include <sys/mman.h>
#include "emit.h"

#ifndef CODE_SIZE /* tests make it small, so that it overflows */
#define CODE_SIZE (32u << 20)
#endif
#define CODE_FIRST 64                        /* sanitizers look at the bytes before a function */
#define BLOCK_CODE (BLOCK_MAX * 256u + 1024) /* more than any block's code */
#define SHAPES     1024

enum kind {
    NONE,
    ALU,
    TEST,
    COUNT, /* INC, DEC */
    NOT,
    NEG,
    SHIFT,
    ROTATE,
    XADD,
    CMPXCHG,
    MUL2, /* IMUL of two or three operands */
    MOVE,
    EXTEND,
    LEA,
    CMOV,
    SETCC,
    XCHG,
    BSWAP,
    CONVERT, /* CBW, CWDE, CDQE */
    SPREAD,  /* CWD, CDQ, CQO */
    PUSH,
    PUSH_IMM,
    POP,
    NOTHING,
    JCC, /* from here on the end of a block */
    JMP,
    CALL,
    RET
};
enum form { EG, GE, EI, EC };

struct shape {
    op_fn fn;
    u8 kind, sub, form, width; /* sub: /n of the opcode group, or what the kind's function says */
};

// clang-format off
#define R4(fn, kind, sub, form) {op_##fn##8, kind, sub, form, W8}, {op_##fn##16, kind, sub, form, W16},                \
                                {op_##fn##32, kind, sub, form, W32}, {op_##fn##64, kind, sub, form, W64}
#define R2(fn, kind, sub, form) {op_##fn##32, kind, sub, form, W32}, {op_##fn##64, kind, sub, form, W64}
#define RM4(fn, kind, sub, form) R4(fn##_r, kind, sub, form), R4(fn##_m, kind, sub, form)
#define RM2(fn, kind, sub, form) R2(fn##_r, kind, sub, form), R2(fn##_m, kind, sub, form)
#define ALU_SHAPES(name, n) RM4(name##_EG, ALU, n, EG), RM4(name##_GE, ALU, n, GE), RM4(name##_EI, ALU, n, EI)
enum { ADD_N, OR_N, ADC_N, SBB_N, AND_N, SUB_N, XOR_N, CMP_N };
enum { ROL_N, ROR_N, RCL_N, RCR_N, SHL_N, SHR_N, SAL_N, SAR_N };

static const struct shape rows[] = {
    ALU_SHAPES(add, ADD_N), ALU_SHAPES(or, OR_N), ALU_SHAPES(adc, ADC_N), ALU_SHAPES(sbb, SBB_N), ALU_SHAPES(and, AND_N),
    ALU_SHAPES(sub, SUB_N), ALU_SHAPES(xor, XOR_N), ALU_SHAPES(cmp, CMP_N),
    RM4(test_EG, TEST, 0, EG), RM4(test_EI, TEST, 0, EI),
    RM4(inc, COUNT, 0, EI), RM4(dec, COUNT, 1, EI), RM4(not, NOT, 2, EI), RM4(neg, NEG, 3, EI),
    R4(shl_EI_r, SHIFT, SHL_N, EI), R4(shr_EI_r, SHIFT, SHR_N, EI), R4(sar_EI_r, SHIFT, SAR_N, EI),
    R2(shl_EC_r, SHIFT, SHL_N, EC), R2(shr_EC_r, SHIFT, SHR_N, EC), R2(sar_EC_r, SHIFT, SAR_N, EC),
    R2(rol_EI_r, ROTATE, ROL_N, EI), R2(ror_EI_r, ROTATE, ROR_N, EI), R2(rol_EC_r, ROTATE, ROL_N, EC), R2(ror_EC_r, ROTATE, ROR_N, EC),
    RM2(xadd, XADD, 0, EG), R2(cmpxchg_m, CMPXCHG, 0, EG),
    RM2(imul_GE, MUL2, 0, GE), RM2(imul_GEI, MUL2, 0, EI),
    RM4(mov_EG, MOVE, 0, EG), RM4(mov_GE, MOVE, 0, GE), RM4(mov_EI, MOVE, 0, EI),
    /* sub: the source's width, and 4 for signed */
    RM2(movzx8, EXTEND, W8, GE), RM2(movzx16, EXTEND, W16, GE), RM2(movsx8, EXTEND, 4 + W8, GE),
    RM2(movsx16, EXTEND, 4 + W16, GE), RM2(movsx32, EXTEND, 4 + W32, GE),
    R2(lea, LEA, 0, GE), RM2(cmov, CMOV, 0, GE), {op_setcc_r8, SETCC, 0, EI, W8}, R2(xchg_r, XCHG, 0, EG), R2(xchg_m, XCHG, 0, EG),
    R2(bswap, BSWAP, 0, EI), R2(cbw, CONVERT, 0, EI), R2(cwd, SPREAD, 0, EI),
    {op_push_s64, PUSH, 0, EI, W64}, {op_push_I_s64, PUSH_IMM, 0, EI, W64}, {op_pop_s64, POP, 0, EI, W64},
    {op_nop, NOTHING, 0, EI, W32},
#define C(code, cc) {op_j##cc, JCC, code, EI, W64},
    CONDITIONS(C)
#undef C
    {op_jmp_J64, JMP, 0, EI, W64},
#ifndef SIM_NO_CHAIN
    {op_call_J_s64, CALL, 0, EI, W64}, {op_ret_s64, RET, 0, EI, W64},
#endif
};
// clang-format on
_Static_assert(sizeof rows / sizeof rows[0] < SHAPES / 2, "the table of shapes stays half empty");

static struct shape *find(struct shape *shapes, op_fn fn) {
    size_t at = (size_t)((uintptr_t)fn >> 4) * 0x9e3779b1u >> 7;
    for (;; at++) {
        struct shape *s = &shapes[at % SHAPES];
        if (!s->fn || s->fn == fn)
            return s;
    }
}

void translator_open(struct translator *t) {
    memset(t, 0, sizeof *t);
    t->shapes = calloc(SHAPES, sizeof *t->shapes);
    if (!t->shapes)
        return;
    for (unsigned k = 0; k < sizeof rows / sizeof rows[0]; k++)
        *find(t->shapes, rows[k].fn) = rows[k];
    void *code = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    t->code = code == MAP_FAILED ? NULL : code;
    translator_reset(t);
}
void translator_close(struct translator *t) {
    if (t->code)
        munmap(t->code, CODE_SIZE);
    free(t->shapes);
    memset(t, 0, sizeof *t);
}
void translator_reset(struct translator *t) { t->used = CODE_FIRST; }
bool translator_has_room(const struct translator *t) { return !t->code || CODE_SIZE - t->used >= BLOCK_CODE; }

/* ---- the code of one run
 * ------------------------------------------------------------------------------------------ */

#define NKEPT      4
#define FIRST_KEPT R8
#define NO_REG     0xff
#define MAX_WAYS   8

struct run {
    struct emitter e;
    struct block *b;
    const struct insn *raw;
    const bool *dead;
    unsigned first; /* of the block's instructions */
    u8 kept_in[NREGS];
    u8 kept[NKEPT];
    unsigned used[NKEPT], clock;
    bool pinned[NKEPT];
    bool host_flags; /* the host's arithmetic flags are the guest's */
    /* jumps to the own handler of the instruction at hand */
    u8 *way[MAX_WAYS];
    unsigned ways;
    /* all jumps out of the line, with what stands there */
    struct {
        u8 *at;
        u16 insn; /* of the block */
        op_fn to;
    } out[BLOCK_MAX * 4 + 16];
    unsigned outs;
};

#define CPU(member)   ((s32)offsetof(sim_vcpu, member))
#define REG_AT(g)     ((s32)(offsetof(sim_vcpu, regs) + 8 * (g)))
#define FIRST_INSN    ((s32)offsetof(struct block, insns))
#define TLB_BYTES     ((TLB_SIZE - 1) * (u32)sizeof(struct tlb_entry))
#define INSN_BYTES(n) ((s32)((n) * sizeof(struct insn)))

static void way_out(struct run *r, u8 *at, unsigned insn, op_fn to) {
    r->out[r->outs].at = at;
    r->out[r->outs].insn = (u16)insn;
    r->out[r->outs++].to = to;
}

/* A host register for guest register g, without its value. */
static unsigned reg_out(struct run *r, unsigned g) {
    unsigned best = NKEPT;
    if (r->kept_in[g] != NO_REG)
        best = r->kept_in[g];
    else {
        for (unsigned k = 0; k < NKEPT; k++)
            if (!r->pinned[k] && (best == NKEPT || r->used[k] < r->used[best]))
                best = k;
        if (r->kept[best] != NO_REG)
            r->kept_in[r->kept[best]] = NO_REG;
        r->kept[best] = (u8)g;
        r->kept_in[g] = (u8)best;
    }
    r->pinned[best] = true;
    r->used[best] = ++r->clock;
    return FIRST_KEPT + best;
}
/* The same with its value. */
static unsigned reg_in(struct run *r, unsigned g) {
    bool there = r->kept_in[g] != NO_REG;
    unsigned h = reg_out(r, g);
    if (!there)
        emit_rm(&r->e, W64, 0x8b, h, RDI, REG_AT(g));
    return h;
}
static void unpin(struct run *r) { memset(r->pinned, 0, sizeof r->pinned); }
/* Guest register g has changed in its host register. */
static void reg_store(struct run *r, unsigned g) {
    emit_rm(&r->e, W64, 0x89, FIRST_KEPT + r->kept_in[g], RDI, REG_AT(g));
}

/* Narrow operands: W8's `n` is a byte's offset in regs[], W16's a register. */
static unsigned owner(unsigned w, unsigned n) { return w == W8 ? n / 8 : n; }
static bool is_high(unsigned w, unsigned n) { return w == W8 && (n & 1); }
static s32 narrow_at(unsigned w, unsigned n) { return w == W8 ? (s32)(offsetof(sim_vcpu, regs) + n) : REG_AT(n); }
/* Into scratch register h, zero-extended. */
static void narrow_in(struct run *r, unsigned w, unsigned h, unsigned n) {
    unsigned opcode = w == W8 ? 0x0fb6 : 0x0fb7, kept = r->kept_in[owner(w, n)];
    if (kept != NO_REG && !is_high(w, n))
        emit_rr(&r->e, W32, opcode, h, FIRST_KEPT + kept);
    else
        emit_rm(&r->e, W32, opcode, h, RDI, narrow_at(w, n));
}
static void narrow_out(struct run *r, unsigned w, unsigned h, unsigned n) {
    unsigned g = owner(w, n), kept = r->kept_in[g], opcode = w == W8 ? 0x88 : 0x89;
    emit_rm(&r->e, w, opcode, h, RDI, narrow_at(w, n));
    if (kept == NO_REG)
        return;
    if (is_high(w, n)) {
        r->kept[kept] = NO_REG;
        r->kept_in[g] = NO_REG;
    } else
        emit_rr(&r->e, w, opcode, h, FIRST_KEPT + kept);
}
/* A source of any width: the kept register of a wide one, else h with it. */
static unsigned source(struct run *r, unsigned w, unsigned h, unsigned n) {
    if (w >= W32)
        return reg_in(r, n);
    narrow_in(r, w, h, n);
    return h;
}

/* The effective address of a memory operand.  To RAX for an access: a linear address then. */
static void address(struct run *r, const struct insn *i, unsigned to, unsigned w) {
    struct emitter *e = &r->e;
    if (i->flags & IF_RIPREL)
        emit_move_imm(e, to, r->b->ip + i->off + i->len + (u64)(s64)i->disp);
    else if (i->index != R_ZERO) {
        unsigned base = i->base == R_ZERO ? R_ZERO : reg_in(r, i->base), index = reg_in(r, i->index);
        emit_sib(e, w, 0x8d, to, base, index, i->scale, i->disp);
    } else if (i->base == R_ZERO)
        emit_move_imm(e, to, (u64)(s64)i->disp);
    else {
        unsigned base = reg_in(r, i->base);
        if (i->disp)
            emit_rm(e, w, 0x8d, to, base, i->disp);
        else
            emit_move(e, w, to, base);
    }
}
/* RAX is a linear address: make it the host's, or leave for the instruction's own handler. */
static void look_up(struct run *r, unsigned size, bool write) {
    struct emitter *e = &r->e;
    emit_move(e, W64, RCX, RAX);
    emit_rr(e, W64, 0xc1, 5, RCX); /* shr */
    emit8(e, PAGE_SHIFT - 5);
    emit_alu_imm(e, W32, AND_N, RCX, (s32)TLB_BYTES);
    emit_rm(e, W64, 0x03, RCX, RDI, CPU(tlb));
    if (size > 1)
        emit_rm(e, W64, 0x8d, RDX, RAX, (s32)size - 1);
    else
        emit_move(e, W64, RDX, RAX);
    emit_alu_imm(e, W64, AND_N, RDX, -(s32)PAGE_SIZE);
    emit_rm(e, W64, 0x3b, RDX, RCX,
            write ? (s32)offsetof(struct tlb_entry, tag_w) : (s32)offsetof(struct tlb_entry, tag_r));
    r->way[r->ways++] = emit_jcc(e, 5);
    emit_rm(e, W64, 0x03, RAX, RCX, (s32)offsetof(struct tlb_entry, addend));
    r->host_flags = false;
}
_Static_assert(sizeof(struct tlb_entry) == 32, "look_up() shifts by 5 less than a page's 12");
static void memory(struct run *r, const struct insn *i, unsigned size, bool write) {
    address(r, i, RAX, W64);
    if (i->seg >= FS)
        emit_rm(&r->e, W64, 0x03, RAX, RDI,
                (s32)(offsetof(sim_vcpu, seg) + i->seg * sizeof(struct seg) + offsetof(struct seg, fbase)));
    look_up(r, size, write);
}

/* cc_res from h at width w; may change RCX. */
static void keep_result(struct run *r, unsigned w, unsigned h) {
    static const unsigned extend[] = {0x0fbe, 0x0fbf, 0x63};
    if (w != W64) {
        emit_rr(&r->e, W64, extend[w], RCX, h);
        h = RCX;
    }
    emit_rm(&r->e, W64, 0x89, h, RDI, CPU(cc_res));
}
static void flags_to_rdx(struct emitter *e) {
    emit8(e, 0x9c); /* pushfq */
    emit8(e, 0x5a); /* pop rdx */
}
/* The flags of an addition or subtraction just made, with its result in h (not RDX).  Leaves the host's flags. */
static void keep_flags(struct run *r, unsigned w, unsigned h) {
    flags_to_rdx(&r->e);
    emit_rm(&r->e, W32, 0x89, RDX, RDI, CPU(cc_oca));
    keep_result(r, w, h);
    r->host_flags = true;
}
/* Those of a logic instruction. */
static void keep_logic(struct run *r, unsigned w, unsigned h) {
    emit_rm(&r->e, W32, 0xc7, 0, RDI, CPU(cc_oca));
    emit32(&r->e, 0);
    keep_result(r, w, h);
    r->host_flags = true;
}
static void keep(struct run *r, unsigned n, unsigned w, unsigned h) {
    if (n == AND_N || n == OR_N || n == XOR_N)
        keep_logic(r, w, h);
    else
        keep_flags(r, w, h);
}
/* The guest's carry into the host's. */
static void carry_in(struct run *r) {
    if (r->host_flags)
        return;
    emit_rm(&r->e, W32, 0x0fba, 4, RDI, CPU(cc_oca));
    emit8(&r->e, 0);
}
/* Make the host's flags answer condition cc; the condition code that does, or -1: not from here.  May change RCX. */
static int condition_code(struct run *r, unsigned cc) {
    if (r->host_flags)
        return (int)cc;
    switch (cc >> 1) {
    case 0:
    case 1:
        emit_rm(&r->e, W32, 0xf7, 0, RDI, CPU(cc_oca)); /* test */
        emit32(&r->e, cc >> 1 ? FL_CF : FL_OF);
        return (int)(5 - (cc & 1));
    case 2:
        emit_rm(&r->e, W64, 0x83, CMP_N, RDI, CPU(cc_res));
        emit8(&r->e, 0);
        return (int)cc;
    default:
        return -1;
    }
}
static bool answers(const struct run *r, unsigned cc) { return r->host_flags || cc >> 1 < 3; }

/* ---- instructions
 * ------------------------------------------------------------------------------------------------ */

static void emit_imm(struct emitter *e, unsigned w, u64 imm) {
    if (w == W8)
        emit8(e, (u8)imm);
    else if (w == W16) {
        emit8(e, (u8)imm);
        emit8(e, (u8)(imm >> 8));
    } else
        emit32(e, (u32)imm);
}
/* h op= source, which is host register s, or immediate */
static void alu_op(struct run *r, unsigned w, unsigned n, unsigned h, const struct insn *i, unsigned form, unsigned s) {
    if (form == EI)
        emit_alu_imm(&r->e, w, n, h, w == W8 ? (s8)i->imm : (s32)i->imm);
    else
        emit_rr(&r->e, w, n << 3 | (w == W8 ? 2 : 3), h, s);
}

/* LOCK XADD [RAX], RCX */
static void locked_add(struct run *r, unsigned w) {
    emit8(&r->e, 0xf0);
    emit_rm(&r->e, w, 0x0fc1, RCX, RAX, 0);
}

static void alu(struct run *r, const struct insn *i, const struct shape *s, bool dead) {
    struct emitter *e = &r->e;
    unsigned w = s->width, n = s->sub, to = s->form == GE ? i->reg : i->rm, from = s->form == GE ? i->rm : i->reg;
    bool with_carry = n == ADC_N || n == SBB_N;
    if (n == CMP_N && dead && !(i->flags & IF_MEM))
        return;
    if (!(i->flags & IF_MEM)) {
        if (w >= W32 && n != CMP_N) {
            unsigned h, f = 0;
            if (s->form != EI && to == from && (n == XOR_N || n == SUB_N))
                h = f = reg_out(r, to);
            else {
                h = reg_in(r, to);
                if (s->form != EI)
                    f = reg_in(r, from);
            }
            if (with_carry)
                carry_in(r);
            alu_op(r, w, n, h, i, s->form, f);
            reg_store(r, to);
            r->host_flags = false;
            if (!dead)
                keep(r, n, w, h);
            return;
        }
        unsigned f = s->form == EI ? 0 : source(r, w, RDX, from);
        if (w >= W32)
            emit_move(e, w, RCX, reg_in(r, to));
        else
            narrow_in(r, w, RCX, to);
        if (with_carry)
            carry_in(r);
        alu_op(r, w, n == CMP_N ? SUB_N : n, RCX, i, s->form, f);
        if (n != CMP_N)
            narrow_out(r, w, RCX, to);
        r->host_flags = false;
        if (!dead)
            keep(r, n, w, RCX);
        return;
    }
    bool stores = s->form != GE && n != CMP_N;
    memory(r, i, 1u << w, stores);
    if (i->flags & IF_LOCK) {
        unpin(r);
        unsigned f = s->form == EI ? 0 : reg_in(r, from);
        if (dead) {
            emit8(e, 0xf0);
            if (s->form == EI) {
                emit_rm(e, w, 0x81, n, RAX, 0);
                emit32(e, (u32)i->imm);
            } else
                emit_rm(e, w, n << 3 | 1, f, RAX, 0);
            return;
        }
        if (s->form == EI)
            emit_move_imm(e, RCX, w == W32 ? (u32)i->imm : i->imm);
        else
            emit_move(e, w, RCX, f);
        if (n == SUB_N)
            emit_rr(e, w, 0xf7, 3, RCX); /* neg */
        locked_add(r, w);
        alu_op(r, w, n, RCX, i, s->form, f);
        keep_flags(r, w, RCX);
        return;
    }
    if (s->form == GE) {
        if (n == CMP_N || w < W32) {
            if (w >= W32)
                emit_move(e, w, RCX, reg_in(r, to));
            else
                narrow_in(r, w, RCX, to);
            if (with_carry)
                carry_in(r);
            emit_rm(e, w, (n == CMP_N ? SUB_N : n) << 3 | (w == W8 ? 2 : 3), RCX, RAX, 0);
            if (n != CMP_N)
                narrow_out(r, w, RCX, to);
            if (!dead)
                keep(r, n, w, RCX);
        } else {
            unpin(r);
            unsigned h = reg_in(r, to);
            if (with_carry)
                carry_in(r);
            emit_rm(e, w, n << 3 | 3, h, RAX, 0);
            reg_store(r, to);
            if (!dead)
                keep(r, n, w, h);
        }
        return;
    }
    unpin(r);
    unsigned f = s->form == EI ? 0 : source(r, w, RDX, from);
    emit_rm(e, w, w == W8 ? 0x8a : 0x8b, RCX, RAX, 0);
    if (with_carry)
        carry_in(r);
    alu_op(r, w, n == CMP_N ? SUB_N : n, RCX, i, s->form, f);
    if (stores)
        emit_rm(e, w, w == W8 ? 0x88 : 0x89, RCX, RAX, 0);
    if (!dead)
        keep(r, n, w, RCX);
}

static void test(struct run *r, const struct insn *i, const struct shape *s, bool dead) {
    struct emitter *e = &r->e;
    unsigned w = s->width;
    if (i->flags & IF_MEM) {
        memory(r, i, 1u << w, false);
        unpin(r);
        unsigned f = s->form == EI ? 0 : source(r, w, RDX, i->reg);
        emit_rm(e, w, w == W8 ? 0x8a : 0x8b, RCX, RAX, 0);
        alu_op(r, w, AND_N, RCX, i, s->form, f);
    } else {
        if (dead)
            return;
        unsigned f = s->form == EI ? 0 : source(r, w, RDX, i->reg);
        if (w >= W32)
            emit_move(e, w, RCX, reg_in(r, i->rm));
        else
            narrow_in(r, w, RCX, i->rm);
        alu_op(r, w, AND_N, RCX, i, s->form, f);
    }
    r->host_flags = false;
    if (!dead)
        keep_logic(r, w, RCX);
}

/* INC, DEC (FE, FF), NOT, NEG (F6, F7). */
static void unary(struct run *r, const struct insn *i, const struct shape *s, bool dead) {
    struct emitter *e = &r->e;
    unsigned w = s->width, opcode = (s->kind == COUNT ? 0xfe : 0xf6) | (w != W8), h = RCX;
    bool flags = s->kind != NOT && !dead;
    if (i->flags & IF_MEM) {
        memory(r, i, 1u << w, true);
        if (i->flags & IF_LOCK) {
            emit_move_imm(e, RCX, s->sub ? (w == W32 ? (u32)-1 : ~(u64)0) : 1);
            locked_add(r, w);
        } else
            emit_rm(e, w, w == W8 ? 0x8a : 0x8b, RCX, RAX, 0);
    } else if (w >= W32)
        h = reg_in(r, i->rm);
    else
        narrow_in(r, w, RCX, i->rm);
    if (s->kind == COUNT && flags)
        carry_in(r);
    emit_rr(e, w, opcode, s->sub, h);
    if (i->flags & IF_MEM) {
        if (!(i->flags & IF_LOCK))
            emit_rm(e, w, w == W8 ? 0x88 : 0x89, RCX, RAX, 0);
    } else if (w >= W32)
        reg_store(r, i->rm);
    else
        narrow_out(r, w, RCX, i->rm);
    if (s->kind != NOT)
        r->host_flags = false;
    if (flags)
        keep_flags(r, w, h);
}

static void shift(struct run *r, const struct insn *i, const struct shape *s, bool dead) {
    struct emitter *e = &r->e;
    unsigned w = s->width, mask = w == W64 ? 63 : 31, h, count = (unsigned)i->imm & mask;
    if (w < W32) {
        narrow_in(r, w, RCX, i->rm);
        emit_rr(e, w, w == W8 ? 0xc0 : 0xc1, s->sub, RCX);
        emit8(e, count);
        narrow_out(r, w, RCX, i->rm);
        r->host_flags = false;
        return;
    }
    if (s->form == EI) {
        h = reg_in(r, i->rm);
        emit_rr(e, w, 0xc1, s->sub, h);
        emit8(e, count);
        reg_store(r, i->rm);
        if (!count)
            return;
        r->host_flags = false;
        if (!dead)
            keep_flags(r, w, h);
        return;
    }
    emit_move(e, W32, RCX, reg_in(r, RCX));
    h = reg_in(r, i->rm);
    emit_rr(e, w, 0xd3, s->sub, h);
    if (!dead)
        flags_to_rdx(e);
    reg_store(r, i->rm);
    r->host_flags = false;
    if (dead)
        return;
    emit_rr(e, W8, 0xf6, 0, RCX); /* test: nothing happens to the flags when the count is 0 */
    emit8(e, mask);
    u8 *none = emit_jcc(e, 4);
    emit_rm(e, W32, 0x89, RDX, RDI, CPU(cc_oca));
    keep_result(r, w, h);
    land(e, none);
}

/* Their flags are not made here. */
static void rotate(struct run *r, const struct insn *i, const struct shape *s) {
    struct emitter *e = &r->e;
    unsigned h;
    if (s->form == EI) {
        h = reg_in(r, i->rm);
        emit_rr(e, s->width, 0xc1, s->sub, h);
        emit8(e, (unsigned)i->imm & 63);
    } else {
        emit_move(e, W32, RCX, reg_in(r, RCX));
        h = reg_in(r, i->rm);
        emit_rr(e, s->width, 0xd3, s->sub, h);
    }
    reg_store(r, i->rm);
    r->host_flags = false;
}

static void exchange_and_add(struct run *r, const struct insn *i, const struct shape *s, bool dead) {
    struct emitter *e = &r->e;
    unsigned w = s->width, h;
    if (i->flags & IF_MEM) {
        memory(r, i, 1u << w, true);
        unpin(r);
        h = reg_in(r, i->reg);
        emit_move(e, w, RCX, h);
        if (i->flags & IF_LOCK)
            emit8(e, 0xf0);
        emit_rm(e, w, 0x0fc1, RCX, RAX, 0);
        emit_move(e, w, RAX, RCX);
        emit_rr(e, w, ADD_N << 3 | 3, RAX, h);
        emit_move(e, w, h, RCX);
    } else {
        unsigned to = reg_in(r, i->rm);
        h = reg_in(r, i->reg);
        emit_move(e, w, RCX, to);
        emit_move(e, w, RAX, h);
        emit_rr(e, w, ADD_N << 3 | 3, RAX, RCX);
        emit_move(e, w, h, RCX);
        emit_move(e, w, to, RAX); /* wins when both are one */
        reg_store(r, i->rm);
    }
    reg_store(r, i->reg);
    r->host_flags = false;
    if (!dead)
        keep_flags(r, w, RAX);
}

/* In memory.  The flags are those of CMP accumulator, memory; the accumulator keeps all of itself where they agree. */
static void compare_and_exchange(struct run *r, const struct insn *i, const struct shape *s, bool dead) {
    struct emitter *e = &r->e;
    unsigned w = s->width;
    memory(r, i, 1u << w, true);
    unpin(r);
    unsigned f = reg_in(r, i->reg), acc = reg_in(r, RAX);
    emit_move(e, W64, RDX, RAX);
    emit_move(e, w, RAX, acc);
    emit_move(e, w, RCX, acc);
    if (i->flags & IF_LOCK)
        emit8(e, 0xf0);
    emit_rm(e, w, 0x0fb1, f, RDX, 0);
    emit_rr(e, w, SUB_N << 3 | 3, RCX, RAX);
    if (!dead)
        keep_flags(r, w, RCX);
    u8 *agree = emit_jcc(e, 4);
    emit_move(e, w, acc, RAX);
    reg_store(r, RAX);
    land(e, agree);
}

/* The flags are those of mul_flags() in op_muldiv.c. */
static void multiply(struct run *r, const struct insn *i, const struct shape *s, bool dead) {
    struct emitter *e = &r->e;
    unsigned w = s->width, h;
    bool from_memory = (i->flags & IF_MEM) != 0;
    if (from_memory) {
        memory(r, i, 1u << w, false);
        unpin(r);
    }
    if (s->form == EI) {
        unsigned f = from_memory ? 0 : reg_in(r, i->rm);
        h = reg_out(r, i->reg);
        if (from_memory)
            emit_rm(e, w, 0x69, h, RAX, 0);
        else
            emit_rr(e, w, 0x69, h, f);
        emit32(e, (u32)i->imm);
    } else {
        h = reg_in(r, i->reg);
        if (from_memory)
            emit_rm(e, w, 0x0faf, h, RAX, 0);
        else
            emit_rr(e, w, 0x0faf, h, reg_in(r, i->rm));
    }
    r->host_flags = false;
    if (!dead) {
        flags_to_rdx(e);
        emit_alu_imm(e, W32, AND_N, RDX, FL_CF | FL_OF);
        if (w == W64)
            emit_move(e, W64, RCX, h);
        else
            emit_rr(e, W64, 0x63, RCX, h);
        emit_rr(e, W64, 0x85, RCX, RCX);
        u8 *some = emit_jcc(e, 5);
        emit_move_imm(e, RCX, 1);
        emit_alu_imm(e, W32, OR_N, RDX, CC_FLIP_PF);
        land(e, some);
        emit_rm(e, W32, 0x89, RDX, RDI, CPU(cc_oca));
        emit_rm(e, W64, 0x89, RCX, RDI, CPU(cc_res));
    }
    reg_store(r, i->reg);
}

static void move(struct run *r, const struct insn *i, const struct shape *s) {
    struct emitter *e = &r->e;
    unsigned w = s->width, to = s->form == GE ? i->reg : i->rm, from = s->form == GE ? i->rm : i->reg;
    if (!(i->flags & IF_MEM)) {
        if (w < W32) {
            if (s->form == EI)
                emit_move_imm(e, RCX, i->imm & width_mask(w));
            else
                narrow_in(r, w, RCX, from);
            narrow_out(r, w, RCX, to);
            return;
        }
        if (s->form == EI)
            emit_move_imm(e, reg_out(r, to), w == W32 ? (u32)i->imm : i->imm);
        else {
            unsigned f = reg_in(r, from);
            emit_move(e, w, reg_out(r, to), f);
        }
        reg_store(r, to);
        return;
    }
    memory(r, i, 1u << w, s->form != GE);
    unpin(r);
    if (s->form == EI) {
        emit_rm(e, w, w == W8 ? 0xc6 : 0xc7, 0, RAX, 0);
        emit_imm(e, w, i->imm);
    } else if (s->form == EG)
        emit_rm(e, w, w == W8 ? 0x88 : 0x89, source(r, w, RDX, from), RAX, 0);
    else if (w >= W32) {
        emit_rm(e, w, 0x8b, reg_out(r, to), RAX, 0);
        reg_store(r, to);
    } else {
        emit_rm(e, w, w == W8 ? 0x8a : 0x8b, RCX, RAX, 0);
        narrow_out(r, w, RCX, to);
    }
}

static void extend(struct run *r, const struct insn *i, const struct shape *s) {
    static const unsigned opcodes[8] = {0x0fb6, 0x0fb7, 0, 0, 0x0fbe, 0x0fbf, 0x63, 0};
    struct emitter *e = &r->e;
    unsigned opcode = opcodes[s->sub], from = s->sub & 3, w = s->width;
    if (i->flags & IF_MEM) {
        memory(r, i, 1u << from, false);
        unpin(r);
        emit_rm(e, w, opcode, reg_out(r, i->reg), RAX, 0);
    } else if (from == W32) {
        unsigned f = reg_in(r, i->rm);
        emit_rr(e, w, opcode, reg_out(r, i->reg), f);
    } else if (r->kept_in[owner(from, i->rm)] != NO_REG && !is_high(from, i->rm)) {
        unsigned f = reg_in(r, owner(from, i->rm));
        emit_rr(e, w, opcode, reg_out(r, i->reg), f);
    } else
        emit_rm(e, w, opcode, reg_out(r, i->reg), RDI, narrow_at(from, i->rm));
    reg_store(r, i->reg);
}

/* The flags answer the condition: the caller has asked. */
static void cmov(struct run *r, const struct insn *i, const struct shape *s) {
    struct emitter *e = &r->e;
    unsigned cc = i->opcode & 15;
    if (i->flags & IF_MEM) {
        memory(r, i, 1u << s->width, false);
        unpin(r);
        unsigned h = reg_in(r, i->reg);
        int code = condition_code(r, cc);
        emit_rm(e, s->width, 0x0f40 | (unsigned)code, h, RAX, 0);
    } else {
        unsigned f = reg_in(r, i->rm), h = reg_in(r, i->reg);
        int code = condition_code(r, cc);
        emit_rr(e, s->width, 0x0f40 | (unsigned)code, h, f);
    }
    reg_store(r, i->reg);
}

static void exchange(struct run *r, const struct insn *i, const struct shape *s) {
    struct emitter *e = &r->e;
    unsigned w = s->width;
    if (i->flags & IF_MEM) {
        memory(r, i, 1u << w, true);
        unpin(r);
        unsigned h = reg_in(r, i->reg);
        emit_move(e, w, RCX, h);
        emit_rm(e, w, 0x87, RCX, RAX, 0);
        emit_move(e, w, h, RCX);
        reg_store(r, i->reg);
        return;
    }
    unsigned a = reg_in(r, i->rm), b = reg_in(r, i->reg);
    emit_move(e, w, RAX, a);
    emit_move(e, w, RCX, b);
    emit_move(e, w, a, RCX);
    emit_move(e, w, b, RAX);
    reg_store(r, i->rm);
    reg_store(r, i->reg);
}

static void push(struct run *r, const struct insn *i, const struct shape *s) {
    struct emitter *e = &r->e;
    unsigned sp = reg_in(r, RSP);
    emit_rm(e, W64, 0x8d, RAX, sp, -8);
    look_up(r, 8, true);
    if (s->kind == PUSH)
        emit_rm(e, W64, 0x89, reg_in(r, i->rm), RAX, 0);
    else {
        emit_rm(e, W64, 0xc7, 0, RAX, 0);
        emit32(e, (u32)i->imm);
    }
    emit_rm(e, W64, 0x8d, sp, sp, -8);
    reg_store(r, RSP);
}
static void pop(struct run *r, const struct insn *i) {
    struct emitter *e = &r->e;
    unsigned sp = reg_in(r, RSP);
    emit_move(e, W64, RAX, sp);
    look_up(r, 8, false);
    emit_rm(e, W64, 0x8d, sp, sp, 8);
    reg_store(r, RSP);
    emit_rm(e, W64, 0x8b, reg_out(r, i->rm), RAX, 0);
    reg_store(r, i->rm);
}

/* With LOCK: where the flags are not wanted, or follow from what XADD and CMPXCHG give. */
static bool can_lock(const struct shape *s, bool dead) {
    switch (s->kind) {
    case ALU:
        return s->width >= W32 && s->sub != ADC_N && s->sub != SBB_N && (dead || s->sub == ADD_N || s->sub == SUB_N);
    case COUNT:
        return s->width >= W32;
    case XADD:
    case CMPXCHG:
    case XCHG:
        return true;
    default:
        return false;
    }
}

/* Can what is known now be made into code?  The rest is left to its handler. */
static bool can(const struct run *r, const struct insn *i, const struct shape *s, bool dead) {
    if ((i->flags & IF_MEM) && i->asz != W64)
        return false;
    if ((i->flags & IF_LOCK) && !can_lock(s, dead))
        return false;
    switch (s->kind) {
    case NONE:
        return false;
    case SHIFT:
        return s->width >= W32 || dead;
    case LEA:
        return i->asz == W64;
    case ROTATE:
        return dead;
    case CMOV:
    case SETCC:
        return answers(r, i->opcode & 15) && !((i->flags & IF_MEM) && (i->opcode & 15) >> 1 >= 3);
    case JCC:
        return answers(r, s->sub);
    default:
        return true;
    }
}

static void one(struct run *r, const struct insn *i, const struct shape *s, bool dead) {
    struct emitter *e = &r->e;
    unsigned w = s->width, h;
    switch (s->kind) {
    case ALU:
        alu(r, i, s, dead);
        break;
    case TEST:
        test(r, i, s, dead);
        break;
    case COUNT:
    case NOT:
    case NEG:
        unary(r, i, s, dead);
        break;
    case SHIFT:
        shift(r, i, s, dead);
        break;
    case ROTATE:
        rotate(r, i, s);
        break;
    case XADD:
        exchange_and_add(r, i, s, dead);
        break;
    case CMPXCHG:
        compare_and_exchange(r, i, s, dead);
        break;
    case MUL2:
        multiply(r, i, s, dead);
        break;
    case MOVE:
        move(r, i, s);
        break;
    case EXTEND:
        extend(r, i, s);
        break;
    case LEA:
        address(r, i, RAX, W64);
        emit_move(e, w, reg_out(r, i->reg), RAX);
        reg_store(r, i->reg);
        break;
    case CMOV:
        cmov(r, i, s);
        break;
    case SETCC:
        h = (unsigned)condition_code(r, i->opcode & 15);
        emit_rr(e, W8, 0x0f90 | h, 0, RCX);
        narrow_out(r, W8, RCX, i->rm);
        break;
    case XCHG:
        exchange(r, i, s);
        break;
    case BSWAP:
        h = reg_in(r, i->rm);
        emit_opcode(e, w, 0x0fc8 | (h & 7), 0, 0, h);
        reg_store(r, i->rm);
        break;
    case CONVERT:
        h = reg_in(r, RAX);
        emit_rr(e, w, w == W64 ? 0x63 : 0x0fbf, h, h);
        reg_store(r, RAX);
        break;
    case SPREAD:
        emit_move(e, w, RAX, reg_in(r, RAX));
        emit8(e, w == W64 ? 0x48 : 0x99);
        if (w == W64)
            emit8(e, 0x99);
        emit_move(e, w, reg_out(r, RDX), RDX);
        reg_store(r, RDX);
        break;
    case PUSH:
    case PUSH_IMM:
        push(r, i, s);
        break;
    case POP:
        pop(r, i);
        break;
    default: /* NOTHING */
        break;
    }
}

/* ---- the ends of blocks
 * ------------------------------------------------------------------------------------------ */

/* `retired` instructions of the block are done: to the block whose address is at [base + disp]. */
static void count_and_go(struct run *r, unsigned retired, unsigned base, s32 disp) {
    struct emitter *e = &r->e;
    emit_rm(e, W64, 0x83, ADD_N, RDI, CPU(icount));
    emit8(e, retired);
    emit_rm(e, W64, 0x8b, RSI, base, disp);
    emit_alu_imm(e, W64, ADD_N, RSI, FIRST_INSN);
    emit_rm(e, W32, 0xff, 4, RSI, 0);
}
/* Link `which` of branch `branch` must be good; when it is not, to handler `miss` with instruction `at`. */
static void check_link(struct run *r, unsigned which, unsigned branch, unsigned at, op_fn miss) {
    struct emitter *e = &r->e;
    s32 link = INSN_BYTES((s32)(branch + 2 - r->first)) + (s32)(which * sizeof(struct block_link));
    emit_rm(e, W64, 0x8b, RAX, RDI, CPU(map_gen));
    emit_rm(e, W64, 0x3b, RAX, RSI, link + (s32)offsetof(struct block_link, gen));
    way_out(r, emit_jcc(e, 5), at, miss);
    emit_rm(e, W32, 0x83, CMP_N, RDI, CPU(stop));
    emit8(e, 0);
    way_out(r, emit_jcc(e, 5), at, miss);
}
static void follow(struct run *r, unsigned which, unsigned branch, unsigned at, op_fn miss) {
#ifdef SIM_NO_CHAIN /* back to the run loop after every block */
    emit8(&r->e, 0xe9);
    emit32(&r->e, 0);
    way_out(r, r->e.p - 4, at, miss);
    return;
#endif
    check_link(r, which, branch, at, miss);
    count_and_go(r, branch + 1, RSI,
                 INSN_BYTES((s32)(branch + 2 - r->first)) + (s32)(which * sizeof(struct block_link)));
}

static void conditional(struct run *r, unsigned k, const struct shape *s) {
    u8 *taken = emit_jcc(&r->e, (unsigned)condition_code(r, s->sub));
    follow(r, 1, k, k, fall_unlinked);
    land(&r->e, taken);
    follow(r, 0, k, k, take_unlinked);
}
static void call(struct run *r, unsigned k, const struct insn *i) {
    struct emitter *e = &r->e;
    check_link(r, 0, k, k, r->b->insns[k].fn);
    unsigned sp = reg_in(r, RSP);
    emit_rm(e, W64, 0x8d, RAX, sp, -8);
    look_up(r, 8, true);
    emit_move_imm(e, RCX, r->b->ip + i->off + i->len);
    emit_rm(e, W64, 0x89, RCX, RAX, 0);
    emit_rm(e, W64, 0x8d, sp, sp, -8);
    reg_store(r, RSP);
    count_and_go(r, k + 1, RSI, INSN_BYTES((s32)(k + 2 - r->first)));
}
static void ret(struct run *r, unsigned k) {
    struct emitter *e = &r->e;
    unsigned sp = reg_in(r, RSP);
    emit_move(e, W64, RAX, sp);
    look_up(r, 8, false);
    emit_rm(e, W64, 0x8b, RDX, RAX, 0);
    emit_move(e, W64, RCX, RDX); /* jc_hash */
    emit_rr(e, W64, 0xc1, 5, RCX);
    emit8(e, 12);
    emit_rr(e, W32, 0x33, RCX, RDX);
    emit_alu_imm(e, W32, AND_N, RCX, JC_SIZE - 1);
    emit_sib(e, W32, 0x8d, RCX, RCX, RCX, 1, 0);
    emit_sib(e, W64, 0x8d, RCX, RDI, RCX, 3, CPU(jc));
    /* an address that is there under this map_gen is a good one: ip_ok() */
    emit_rm(e, W64, 0x3b, RDX, RCX, (s32)offsetof(struct jc_entry, ip));
    r->way[r->ways++] = emit_jcc(e, 5);
    emit_rm(e, W64, 0x8b, RAX, RDI, CPU(map_gen));
    emit_rm(e, W64, 0x3b, RAX, RCX, (s32)offsetof(struct jc_entry, gen));
    r->way[r->ways++] = emit_jcc(e, 5);
    emit_rm(e, W32, 0x83, CMP_N, RDI, CPU(stop));
    emit8(e, 0);
    r->way[r->ways++] = emit_jcc(e, 5);
    emit_rm(e, W64, 0x8d, sp, sp, 8);
    reg_store(r, RSP);
    count_and_go(r, k + 1, RCX, (s32)offsetof(struct jc_entry, block));
}
_Static_assert(sizeof(struct jc_entry) == 24, "ret() multiplies by 3 and by 8");

/* What stands out of the line: to a handler with its instruction. */
static void place_ways_out(struct run *r) {
    struct emitter *e = &r->e;
    for (unsigned k = 0; k < r->outs; k++) {
        if (!r->out[k].at)
            continue;
        for (unsigned other = k; other < r->outs; other++)
            if (r->out[other].at && r->out[other].insn == r->out[k].insn && r->out[other].to == r->out[k].to) {
                land(e, r->out[other].at);
                if (other != k)
                    r->out[other].at = NULL;
            }
        if (r->out[k].insn != r->first)
            emit_rm(e, W64, 0x8d, RSI, RSI, INSN_BYTES((s32)(r->out[k].insn - r->first)));
        emit_jump_abs(e, r->out[k].to);
    }
}

/* The longest run from instruction `first` on: where it ends, exclusive; `first` when there is none worth it. */
static unsigned make_run(struct translator *t, struct run *r, unsigned n) {
    unsigned k = r->first;
    bool ended = false;
    memset(r->kept_in, NO_REG, sizeof r->kept_in);
    memset(r->kept, NO_REG, sizeof r->kept);
    memset(r->used, 0, sizeof r->used);
    unpin(r);
    r->clock = 0;
    r->host_flags = false;
    r->ways = r->outs = 0;
    r->e.p = t->code + t->used;
    for (; k < n && !ended; k++) {
        const struct insn *i = &r->raw[k];
        const struct shape *s = find(t->shapes, i->fn);
        if (!s->fn || !can(r, i, s, r->dead[k]))
            break;
        unpin(r);
        r->ways = 0;
        switch (s->kind) {
        case JCC:
            conditional(r, k, s);
            ended = true;
            break;
        case JMP:
            follow(r, 0, k, k, take_unlinked);
            ended = true;
            break;
        case CALL:
            call(r, k, i);
            ended = true;
            break;
        case RET:
            ret(r, k);
            ended = true;
            break;
        default:
            one(r, i, s, r->dead[k]);
            break;
        }
        for (unsigned way = 0; way < r->ways; way++)
            way_out(r, r->way[way], k, r->b->insns[k].fn);
    }
    if (k - r->first < 2 && !ended)
        return r->first;
    if (!ended) {
        if (k == n) { /* the synthetic end: over the link of the instruction before it */
            follow(r, 1, n - 1, n, op_block_end);
        } else {
            emit_rm(&r->e, W64, 0x8d, RSI, RSI, INSN_BYTES((s32)(k - r->first)));
            emit_rm(&r->e, W32, 0xff, 4, RSI, 0);
        }
    }
    place_ways_out(r);
    return k;
}

void translate(struct translator *t, struct block *b, const struct insn *raw, const struct decode_info *info) {
    struct run r;
    bool dead[BLOCK_MAX], later = false;
    unsigned n = b->count;
    op_fn made[BLOCK_MAX] = {NULL};
    for (unsigned k = n; k--;) {
        dead[k] = later;
        later = info[k].effect == EFFECT_NEEDS ? false : later || info[k].effect == EFFECT_KILLS;
    }
    r.b = b;
    r.raw = raw;
    r.dead = dead;
    for (unsigned k = 0; k < n;) {
        r.first = k;
        unsigned end = make_run(t, &r, n);
        if (end == k) {
            k++;
            continue;
        }
        made[k] = (op_fn)(uintptr_t)(t->code + t->used);
        t->used = ((size_t)(r.e.p - t->code) + 15) & ~(size_t)15;
        k = end;
    }
    for (unsigned k = 0; k < n; k++)
        if (made[k])
            b->insns[k].fn = made[k];
}

#else /* no translator for this host */

void translator_open(struct translator *t) { memset(t, 0, sizeof *t); }
void translator_close(struct translator *t) { (void)t; }
void translator_reset(struct translator *t) { (void)t; }
bool translator_has_room(const struct translator *t) {
    (void)t;
    return true;
}
void translate(struct translator *t, struct block *b, const struct insn *raw, const struct decode_info *info) {
    (void)t, (void)b, (void)raw, (void)info;
}

#endif
