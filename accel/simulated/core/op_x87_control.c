/* x87 control: exceptions, control and status words, the environment and the whole state in memory. */
#include "x87.h"

/* ---- exceptions -----------------------------------------------------------------------------------------------------
 */

_Noreturn NOINLINE void x87_pending(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    raise_mf(cpu);
}

NOINLINE void x87_unmasked(sim_vcpu *cpu, const struct insn *i) {
    cpu->fpu.fsw |= FSW_ES | FSW_B;
    cpu->fpu.fop = (u16)((i->opcode & 7u) << 8 | (i->imm & 0xff));
}

NOINLINE bool x87_stack_fault(sim_vcpu *cpu, const struct insn *i, bool c1) {
    cpu->fpu.fsw = (u16)((cpu->fpu.fsw & ~FSW_C1) | FP_IE | FSW_SF | (c1 ? FSW_C1 : 0));
    if (cpu->fpu.fcw & FP_IE)
        return true;
    x87_unmasked(cpu, i);
    return false;
}

OP(wait) {
    x87_start(cpu, i);
    NEXT(cpu, i);
}

/* ---- control and status words ---------------------------------------------------------------------------------------
 */

#define FCW_ONES 0x0040u /* reads as 1 */
#define FCW_BITS 0x1f7fu

static void set_fcw(sim_vcpu *cpu, u16 v) {
    cpu->fpu.fcw = (v & FCW_BITS) | FCW_ONES;
    x87_changed(cpu);
}

OP(fldcw) {
    u16 v;
    x87_start(cpu, i);
    v = ld16(cpu, i, i->seg, insn_ea(cpu, i));
    set_fcw(cpu, v);
    NEXT(cpu, i);
}
OP(fnstcw) {
    st16(cpu, i, i->seg, insn_ea(cpu, i), cpu->fpu.fcw);
    NEXT(cpu, i);
}
OP(fnstsw) {
    st16(cpu, i, i->seg, insn_ea(cpu, i), cpu->fpu.fsw);
    NEXT(cpu, i);
}
OP(fnstsw_ax) {
    *reg16(cpu, RAX) = cpu->fpu.fsw;
    NEXT(cpu, i);
}
OP(fnclex) {
    cpu->fpu.fsw &= FSW_TOP | FSW_CC | FSW_C1;
    x87_changed(cpu);
    NEXT(cpu, i);
}

static void initialise(sim_vcpu *cpu) {
    struct fpu *f = &cpu->fpu;
    f->fcw = FCW_INIT;
    f->fsw = f->fop = f->fcs = f->fds = 0;
    f->ftw = 0;
    f->fip = f->fdp = 0;
    x87_changed(cpu);
}
OP(fninit) {
    initialise(cpu);
    NEXT(cpu, i);
}

OP(fnop) {
    x87_start(cpu, i);
    x87_note(cpu, i);
    NEXT(cpu, i);
}
/* FNENI, FNDISI and FNSETPM of older parts. */
OP(fpu_ignored) { NEXT(cpu, i); }

static ALWAYS_INLINE void rotate(sim_vcpu *cpu, const struct insn *i, unsigned by) {
    x87_start(cpu, i);
    x87_note(cpu, i);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    x87_set_top(cpu, x87_top(cpu) + by);
    NEXT(cpu, i);
}
OP(fincstp) { rotate(cpu, i, 1); }
OP(fdecstp) { rotate(cpu, i, 7); }

OP(ffree) {
    x87_start(cpu, i);
    x87_note(cpu, i);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    cpu->fpu.ftw &= (u8) ~(1u << x87_reg(cpu, i->rm));
    NEXT(cpu, i);
}
/* FFREEP (DF C0+i), which no manual has. */
OP(ffreep) {
    x87_start(cpu, i);
    x87_note(cpu, i);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    cpu->fpu.ftw &= (u8) ~(1u << x87_reg(cpu, i->rm));
    x87_pop(cpu);
    NEXT(cpu, i);
}

/* ---- the environment and the state in memory (SDM volume 1, figures 8-9 to 8-12) ------------------------------------
 */

#define ENVIRONMENT_MAX 28
#define STATE_MAX       (ENVIRONMENT_MAX + 80)

/* Two bits a physical register: 0 valid, 1 zero, 2 special (not a normal number), 3 empty. */
static unsigned full_tags(const sim_vcpu *cpu) {
    unsigned tags = 0;
    for (unsigned k = 0; k < 8; k++) {
        const union st_reg *r = &cpu->fpu.st[k];
        unsigned exp = r->exp & 0x7fff, tag = 0;
        if (x87_empty(cpu, k))
            tag = 3;
        else if (exp == 0 && r->mant == 0)
            tag = 1;
        else if (exp == 0 || exp == 0x7fff || !(r->mant >> 63))
            tag = 2;
        tags |= tag << 2 * k;
    }
    return tags;
}

static bool wide(const struct insn *i) { return i->osz != W16; }
static bool by_linear_address(const sim_vcpu *cpu) { return real_mode(cpu) || v86_mode(cpu); }
static unsigned environment_size(const struct insn *i) { return wide(i) ? 28 : 14; }

/* Seven words or doublewords; in real and virtual-8086 mode pointers are linear addresses. */
static void put_environment(const sim_vcpu *cpu, const struct insn *i, u8 *to) {
    const struct fpu *f = &cpu->fpu;
    u32 ip = (u32)f->fip, dp = (u32)f->fdp;
    u32 v[7] = {f->fcw, f->fsw, full_tags(cpu), ip, f->fcs | (u32)f->fop << 16, dp, f->fds};
    unsigned halves = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 6; /* words in doublewords: the upper half is written as ones */
    if (by_linear_address(cpu)) {
        ip += (u32)f->fcs << 4;
        dp += (u32)f->fds << 4;
        v[3] = ip & 0xffff;
        v[4] = (ip >> 16) << 12 | f->fop;
        v[5] = dp & 0xffff;
        v[6] = (dp >> 16) << 12;
        halves = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5;
    }
    for (unsigned k = 0; k < 7; k++) {
        if (wide(i)) {
            v[k] |= halves >> k & 1 ? 0xffff0000 : 0;
            memcpy(to + 4 * k, &v[k], 4);
        } else
            memcpy(to + 2 * k, &v[k], 2);
    }
}

static void take_environment(sim_vcpu *cpu, const struct insn *i, const u8 *from) {
    struct fpu *f = &cpu->fpu;
    u32 v[7] = {0};
    for (unsigned k = 0; k < 7; k++)
        memcpy(&v[k], from + (wide(i) ? 4 : 2) * k, wide(i) ? 4 : 2);
    f->fsw = (u16)v[1];
    f->ftw = 0;
    for (unsigned k = 0; k < 8; k++)
        f->ftw |= (u8)((v[2] >> 2 * k & 3) != 3) << k;
    if (by_linear_address(cpu)) {
        f->fip = (v[3] & 0xffff) | (v[4] >> 12 & 0xffff) << 16;
        f->fdp = (v[5] & 0xffff) | (v[6] >> 12 & 0xffff) << 16;
        f->fop = v[4] & 0x7ff;
        f->fcs = f->fds = 0;
    } else {
        f->fip = v[3];
        f->fcs = (u16)v[4];
        f->fop = wide(i) ? v[4] >> 16 & 0x7ff : f->fop;
        f->fdp = v[5];
        f->fds = (u16)v[6];
    }
    set_fcw(cpu, (u16)v[0]);
}

/* Eight registers from ST(0) on, ten bytes each. */
static void put_registers(const sim_vcpu *cpu, u8 *to) {
    for (unsigned n = 0; n < 8; n++, to += 10)
        memcpy(to, &cpu->fpu.st[x87_reg(cpu, n)], 10);
}
static void take_registers(sim_vcpu *cpu, const u8 *from) {
    for (unsigned n = 0; n < 8; n++, from += 10)
        memcpy(&cpu->fpu.st[x87_reg(cpu, n)], from, 10);
}

/* Alignment is checked for the format's width, in 64-bit code for 4 bytes in both formats: as processors do it. */
static unsigned alignment(const sim_vcpu *cpu, const struct insn *i) { return wide(i) || cpu->mode == MODE64 ? 4 : 2; }

/* size is even; nothing changes before the last access that may fault. */
static void write_bytes(sim_vcpu *cpu, const struct insn *i, u64 ea, const u8 *from, unsigned size) {
    cpu->cur = i;
    mem_probe(cpu, i->seg, ea, alignment(cpu, i), true);
    mem_probe(cpu, i->seg, ea, size, true);
    mem_probe(cpu, i->seg, ea, wide(i) ? 4 : 2, true); /* the alignment of its words */
    for (unsigned k = 0; k < size; k += 2) {
        u16 v;
        memcpy(&v, from + k, 2);
        st16(cpu, i, i->seg, ea + k, v);
    }
}
static void read_bytes(sim_vcpu *cpu, const struct insn *i, u64 ea, u8 *to, unsigned size) {
    cpu->cur = i;
    mem_probe(cpu, i->seg, ea, alignment(cpu, i), false);
    mem_probe(cpu, i->seg, ea, size, false);
    mem_probe(cpu, i->seg, ea, wide(i) ? 4 : 2, false);
    for (unsigned k = 0; k < size; k += 2) {
        u16 v = ld16(cpu, i, i->seg, ea + k);
        memcpy(to + k, &v, 2);
    }
}

OP(fnstenv) {
    u8 bytes[ENVIRONMENT_MAX];
    put_environment(cpu, i, bytes);
    write_bytes(cpu, i, insn_ea(cpu, i), bytes, environment_size(i));
    set_fcw(cpu, cpu->fpu.fcw | FP_FLAGS);
    NEXT(cpu, i);
}
OP_APART(fldenv) {
    u8 bytes[ENVIRONMENT_MAX];
    x87_start(cpu, i);
    read_bytes(cpu, i, insn_ea(cpu, i), bytes, environment_size(i));
    take_environment(cpu, i, bytes);
}
OP(fnsave) {
    u8 bytes[STATE_MAX];
    put_environment(cpu, i, bytes);
    put_registers(cpu, bytes + environment_size(i));
    write_bytes(cpu, i, insn_ea(cpu, i), bytes, environment_size(i) + 80);
    initialise(cpu);
    NEXT(cpu, i);
}
OP_APART(frstor) {
    u8 bytes[STATE_MAX];
    x87_start(cpu, i);
    read_bytes(cpu, i, insn_ea(cpu, i), bytes, environment_size(i) + 80);
    take_environment(cpu, i, bytes);
    take_registers(cpu, bytes + environment_size(i));
}
