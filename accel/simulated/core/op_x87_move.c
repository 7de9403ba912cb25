/* x87 loads, stores, conversions and constants. */
#include "x87.h"

#define DROP "fstp %%st(0)\n"

/* ---- loads ----------------------------------------------------------------------------------------------------------
 */

/* ST(7) must be empty for a push.  Returns false after a stack fault that has been dealt with. */
static ALWAYS_INLINE bool room(sim_vcpu *cpu, const struct insn *i) {
    if (likely(x87_empty(cpu, x87_reg(cpu, 7))))
        return true;
    if (x87_stack_fault(cpu, i, true))
        x87_indefinite(cpu, x87_push(cpu));
    return false;
}

/* Push what the host makes of *b; whether it pushed at all tells bit 11, the lowest of TOP. */
static ALWAYS_INLINE void load(sim_vcpu *cpu, const struct insn *i, host_x87 run, const void *b) {
    if (room(cpu, i)) {
        unsigned reg = x87_reg(cpu, 7);
        u16 sw = run(cpu, &cpu->fpu.st[reg], b, &cpu->fpu.st[reg]);
        x87_status(cpu, i, sw, 0);
        if (sw & 0x0800)
            x87_push(cpu);
    }
}
#define HOST_LOAD(name, type, code) HOST_X87(name, type, "", code, "testb $8, %%ah\njz 1f\nfstpt %[out]\n1:\n")
#define LOAD_MEMORY(name, code, bits)                                                                                  \
    HOST_LOAD(host_##name, u##bits, code " %[b]\n")                                                                    \
    OP_APART(name) {                                                                                                   \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        u##bits m;                                                                                                     \
        x87_start(cpu, i);                                                                                             \
        m = ld##bits(cpu, i, i->seg, ea);                                                                              \
        x87_note_memory(cpu, i, ea);                                                                                   \
        load(cpu, i, host_##name, &m);                                                                                 \
    }
LOAD_MEMORY(fld_m32, "flds", 32)
LOAD_MEMORY(fld_m64, "fldl", 64)
LOAD_MEMORY(fild_m16, "filds", 16)
LOAD_MEMORY(fild_m32, "fildl", 32)
LOAD_MEMORY(fild_m64, "fildll", 64)

#define CONSTANT(name)                                                                                                 \
    HOST_LOAD(host_##name, union st_reg, #name "\n")                                                                   \
    OP_APART(name) {                                                                                                   \
        x87_start(cpu, i);                                                                                             \
        x87_note(cpu, i);                                                                                              \
        load(cpu, i, host_##name, &cpu->fpu.st[0]);                                                                    \
    }
CONSTANT(fld1)
CONSTANT(fldl2t)
CONSTANT(fldl2e)
CONSTANT(fldpi)
CONSTANT(fldlg2)
CONSTANT(fldln2)
CONSTANT(fldz)

/* Ten bytes, in the two parts they are accessed in. */
static inline u64 second_part(const struct insn *i, u64 ea) {
    return i->asz == W64 ? ea + 8 : i->asz == W32 ? (u32)(ea + 8) : (u16)(ea + 8);
}
static ALWAYS_INLINE void read80(sim_vcpu *cpu, const struct insn *i, u64 ea, union st_reg *m) {
    m->mant = ld64(cpu, i, i->seg, ea);
    m->exp = ld16(cpu, i, i->seg, second_part(i, ea));
}
static inline void probe(sim_vcpu *cpu, const struct insn *i, u64 ea, unsigned size) {
    if (unlikely(!hit_write(cpu, i->seg, ea, size))) {
        cpu->cur = i;
        mem_probe(cpu, i->seg, ea, size, true);
    }
}
static ALWAYS_INLINE void write80(sim_vcpu *cpu, const struct insn *i, u64 ea, const union st_reg *m) {
    probe(cpu, i, ea, 10);
    st64(cpu, i, i->seg, ea, m->mant);
    st16(cpu, i, i->seg, second_part(i, ea), m->exp);
}

OP_APART(fld_m80) {
    u64 ea = insn_ea(cpu, i);
    union st_reg m;
    x87_start(cpu, i);
    read80(cpu, i, ea, &m);
    x87_note_memory(cpu, i, ea);
    if (room(cpu, i)) {
        cpu->fpu.fsw &= (u16)~FSW_C1;
        x87_copy(&cpu->fpu.st[x87_push(cpu)], &m);
    }
}

HOST_LOAD(host_fbld, union st_reg, "fbld %[b]\n")
OP_APART(fbld) {
    u64 ea = insn_ea(cpu, i);
    union st_reg m;
    x87_start(cpu, i);
    read80(cpu, i, ea, &m);
    x87_note_memory(cpu, i, ea);
    load(cpu, i, host_fbld, &m);
}

OP_APART(fld) {
    unsigned from = x87_reg(cpu, i->rm);
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, from))) {
        if (x87_stack_fault(cpu, i, false))
            x87_indefinite(cpu, x87_push(cpu));
    } else if (room(cpu, i)) {
        cpu->fpu.fsw &= (u16)~FSW_C1;
        x87_copy(&cpu->fpu.st[x87_push(cpu)], &cpu->fpu.st[from]);
    }
}

/* ---- stores ---------------------------------------------------------------------------------------------------------
 */

static ALWAYS_INLINE void store_register(sim_vcpu *cpu, const struct insn *i, bool pop) {
    unsigned top = x87_top(cpu), to = (top + i->rm) & 7;
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, top))) {
        if (!x87_stack_fault(cpu, i, false)) {
            return;
        }
        x87_indefinite(cpu, to);
    } else {
        cpu->fpu.fsw &= (u16)~FSW_C1;
        x87_copy(&cpu->fpu.st[to], &cpu->fpu.st[top]);
        cpu->fpu.ftw |= (u8)(1u << to);
    }
    if (pop)
        x87_pop(cpu);
}
OP_APART(fst) { store_register(cpu, i, false); }
OP_APART(fstp) { store_register(cpu, i, true); }

/* FSTP1 (D9 D8+i), which no manual has: as FSTP, but from an empty ST(0) it only pops. */
OP_APART(fstp1) {
    unsigned top = x87_top(cpu), to = (top + i->rm) & 7;
    x87_start(cpu, i);
    x87_note(cpu, i);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    if (!x87_empty(cpu, top)) {
        x87_copy(&cpu->fpu.st[to], &cpu->fpu.st[top]);
        cpu->fpu.ftw |= (u8)(1u << to);
    }
    x87_pop(cpu);
}

OP_APART(fxch) {
    unsigned top = x87_top(cpu), other = (top + i->rm) & 7;
    union st_reg a;
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, top) || x87_empty(cpu, other))) {
        if (!x87_stack_fault(cpu, i, false)) {
            return;
        }
        if (x87_empty(cpu, top))
            x87_indefinite(cpu, top);
        if (x87_empty(cpu, other))
            x87_indefinite(cpu, other);
    } else
        cpu->fpu.fsw &= (u16)~FSW_C1;
    x87_copy(&a, &cpu->fpu.st[top]);
    x87_copy(&cpu->fpu.st[top], &cpu->fpu.st[other]);
    x87_copy(&cpu->fpu.st[other], &a);
}

/* To memory: nothing is written when an exception that is not masked has to do with the value; inexact is not one. */
#define FP_STORE (FP_BEFORE | FP_OE | FP_UE)

/* An unmasked exception comes before the memory is touched.  When the write faults, the host has flags that the guest
 * has not: fpu_faulted().
 * ST(0) as `run` stores it, to *out; `indefinite` is what a masked stack underflow stores.  False: nothing is to be
 * written or popped, the exception has been dealt with.  Else its status is in *sw for done(), after the write. */
static ALWAYS_INLINE bool convert(sim_vcpu *cpu, const struct insn *i, u64 ea, host_x87 run, unsigned size,
                                  u64 indefinite, union st_reg *out, u16 *sw) {
    unsigned top = x87_top(cpu);
    if (unlikely(x87_empty(cpu, top))) {
        out->mant = indefinite;
        out->exp = 0xffff;
        *sw = 0;
        if (cpu->fpu.fcw & FP_IE)
            probe(cpu, i, ea, size); /* the write's faults come before the status changes */
        if (x87_stack_fault(cpu, i, false))
            return true;
    } else {
        *sw = run(cpu, &cpu->fpu.st[top], &cpu->fpu.st[top], out);
        if (!x87_stopped(cpu, *sw, FP_STORE))
            return true;
        x87_status(cpu, i, *sw, 0);
    }
    x87_note_memory(cpu, i, ea);
    return false;
}
static ALWAYS_INLINE void done(sim_vcpu *cpu, const struct insn *i, u64 ea, u16 sw, bool pop) {
    x87_note_memory(cpu, i, ea);
    x87_status(cpu, i, sw, 0);
    if (pop)
        x87_pop(cpu);
}

#define STORE(name, run, bits, pop, indefinite)                                                                        \
    OP_APART(name) {                                                                                                   \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        union st_reg out;                                                                                              \
        u16 sw;                                                                                                        \
        x87_start(cpu, i);                                                                                             \
        if (convert(cpu, i, ea, run, bits / 8, indefinite, &out, &sw)) {                                               \
            st##bits(cpu, i, i->seg, ea, (u##bits)out.mant);                                                           \
            done(cpu, i, ea, sw, pop);                                                                                 \
        }                                                                                                              \
    }
#define STORE_BOTH(form, code, bits, indefinite)                                                                       \
    HOST_X87(host_##form, union st_reg, "fldt %[a]\n", code " %[out]\n", DROP)                                         \
    STORE(form, host_##form, bits, false, indefinite)
/* The host pops, too, unless it stopped. */
#define HOST_POPPING(name, code)                                                                                       \
    HOST_X87(name, union st_reg, "fldt %[a]\n", code, "testb $8, %%ah\njz 1f\n" DROP "1:\n")

STORE_BOTH(fst_m32, "fsts", 32, 0xffc00000)
STORE(fstp_m32, host_fst_m32, 32, true, 0xffc00000)
STORE_BOTH(fst_m64, "fstl", 64, 0xfff8000000000000)
STORE(fstp_m64, host_fst_m64, 64, true, 0xfff8000000000000)
STORE_BOTH(fist_m16, "fists", 16, 0x8000)
STORE(fistp_m16, host_fist_m16, 16, true, 0x8000)
STORE_BOTH(fist_m32, "fistl", 32, 0x80000000)
STORE(fistp_m32, host_fist_m32, 32, true, 0x80000000)
HOST_POPPING(host_fistp_m64, "fistpll %[out]\n")
STORE(fistp_m64, host_fistp_m64, 64, true, 0x8000000000000000)

HOST_POPPING(host_fbstp, "fbstp %[out]\n")
OP_APART(fbstp) {
    u64 ea = insn_ea(cpu, i);
    union st_reg out;
    u16 sw;
    x87_start(cpu, i);
    if (convert(cpu, i, ea, host_fbstp, 10, 0xc000000000000000, &out, &sw)) {
        write80(cpu, i, ea, &out);
        done(cpu, i, ea, sw, true);
    }
}

OP_APART(fstp_m80) {
    u64 ea = insn_ea(cpu, i);
    unsigned top = x87_top(cpu);
    union st_reg out = {.mant = 0xc000000000000000, .exp = 0xffff};
    x87_start(cpu, i);
    if (unlikely(x87_empty(cpu, top))) {
        if (cpu->fpu.fcw & FP_IE)
            probe(cpu, i, ea, 10);
        if (!x87_stack_fault(cpu, i, false)) {
            x87_note_memory(cpu, i, ea);
            return;
        }
    } else
        x87_copy(&out, &cpu->fpu.st[top]);
    write80(cpu, i, ea, &out);
    done(cpu, i, ea, 0, true);
}

/* FISTTP, by FISTP with another control word: the host need not have it.  C1 is always cleared. */
#define HOST_TRUNCATING(name, code)                                                                                    \
    static u16 name(const sim_vcpu *cpu, const union st_reg *a, const void *b, union st_reg *out) {                    \
        u16 sw, guest = cpu->fpu.fcw | FP_FLAGS, control = guest | 0x0c00;                                             \
        (void)b;                                                                                                       \
        if (!x87_plain(cpu))                                                                                           \
            __asm__ volatile("fnclex");                                                                                \
        __asm__ volatile("fldt %[a]\nfldcw %[control]\n" code " %[out]\nfnstsw %%ax\nfldcw %[guest]\n"                 \
                         : "=&a"(sw), [out] "=m"(*out)                                                                 \
                         : [a] "m"(*a), [guest] "m"(guest), [control] "m"(control));                                   \
        return (sw & ~cpu->fpu.fcw & FP_FLAGS ? sw | FSW_ES : sw) & (u16)~FSW_C1;                                      \
    }
HOST_TRUNCATING(host_fisttp_m16, "fistps")
HOST_TRUNCATING(host_fisttp_m32, "fistpl")
HOST_TRUNCATING(host_fisttp_m64, "fistpll")
STORE(fisttp_m16, host_fisttp_m16, 16, true, 0x8000)
STORE(fisttp_m32, host_fisttp_m32, 32, true, 0x80000000)
STORE(fisttp_m64, host_fisttp_m64, 64, true, 0x8000000000000000)
