/* x87 comparisons, FXAM, and the conditional moves that go with them. */
#include "x87.h"

#define DROP2 "fstp %%st(0)\nfstp %%st(0)\n"

/* An empty operand: unordered, whether that is masked or not.  Returns whether to pop. */
static bool compared_empty(sim_vcpu *cpu, const struct insn *i) {
    cpu->fpu.fsw |= FSW_CC;
    return x87_stack_fault(cpu, i, false);
}

static ALWAYS_INLINE void compare(sim_vcpu *cpu, const struct insn *i, host_x87 run, unsigned other, unsigned pops,
                                  const void *b) {
    unsigned top = x87_top(cpu);
    bool pop;
    if (unlikely(x87_empty(cpu, top) || x87_empty(cpu, other)))
        pop = compared_empty(cpu, i);
    else {
        u16 sw = run(cpu, &cpu->fpu.st[top], b, NULL);
        x87_status(cpu, i, sw, FSW_CC);
        pop = !x87_stopped(cpu, sw, FP_BEFORE);
    }
    if (pops && pop) {
        x87_pop(cpu);
        if (pops == 2)
            x87_pop(cpu);
    }
}
static ALWAYS_INLINE void compare_register(sim_vcpu *cpu, const struct insn *i, host_x87 run, unsigned n,
                                           unsigned pops) {
    unsigned other = x87_reg(cpu, n);
    x87_start(cpu, i);
    x87_note(cpu, i);
    compare(cpu, i, run, other, pops, &cpu->fpu.st[other]);
}

/* HOST_X87 without a result. */
#define HOST_COMPARE(name, type, load, code, drop)                                                                     \
    static ALWAYS_INLINE u16 name(const sim_vcpu *cpu, const union st_reg *a, const void *b, union st_reg *out) {      \
        u16 sw;                                                                                                        \
        (void)out;                                                                                                     \
        if (likely(x87_plain(cpu)))                                                                                    \
            __asm__ volatile(load code "fnstsw %%ax\n" drop : "=&a"(sw) : [a] "m"(*a), [b] "m"(*(const type *)b));     \
        else {                                                                                                         \
            u16 control = cpu->fpu.fcw | FP_FLAGS;                                                                     \
            __asm__ volatile(                                                                                          \
                "fnclex\n" load "fldcw %[guest]\n" code "fnstsw %%ax\nfnclex\nfldcw %[control]\n" drop                 \
                : "=&a"(sw)                                                                                            \
                : [a] "m"(*a), [b] "m"(*(const type *)b), [guest] "m"(cpu->fpu.fcw), [control] "m"(control));          \
        }                                                                                                              \
        return sw;                                                                                                     \
    }
#define COMPARE(name)                                                                                                  \
    HOST_COMPARE(host_##name, union st_reg, "fldt %[b]\nfldt %[a]\n", #name " %%st(1)\n", DROP2)                       \
    OP_APART(name) { compare_register(cpu, i, host_##name, i->rm, 0); }                                                \
    OP_APART(name##p) { compare_register(cpu, i, host_##name, i->rm, 1); }                                             \
    OP_APART(name##pp) { compare_register(cpu, i, host_##name, 1, 2); }
COMPARE(fcom)
COMPARE(fucom)

HOST_COMPARE(host_ftst, union st_reg, "fldt %[a]\n", "ftst\n", "fstp %%st(0)\n")
OP_APART(ftst) { compare_register(cpu, i, host_ftst, 0, 0); }

#define COMPARE_MEMORY(code, bits, form)                                                                               \
    HOST_COMPARE(host_fcom_##form, u##bits, "fldt %[a]\n", code " %[b]\n", "fstp %%st(0)\n")                           \
    static ALWAYS_INLINE void compare_##form(sim_vcpu *cpu, const struct insn *i, unsigned pops) {                     \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        u##bits m;                                                                                                     \
        x87_start(cpu, i);                                                                                             \
        m = ld##bits(cpu, i, i->seg, ea);                                                                              \
        x87_note_memory(cpu, i, ea);                                                                                   \
        compare(cpu, i, host_fcom_##form, x87_top(cpu), pops, &m);                                                     \
    }                                                                                                                  \
    OP_APART(fcom_##form) { compare_##form(cpu, i, 0); }                                                               \
    OP_APART(fcomp_##form) { compare_##form(cpu, i, 1); }
COMPARE_MEMORY("fcoms", 32, m32)
COMPARE_MEMORY("fcoml", 64, m64)
COMPARE_MEMORY("ficoms", 16, i16)
COMPARE_MEMORY("ficoml", 32, i32)

/* FCOMI and kin: into ZF, PF, CF.  C1 stays, but for a stack fault. */
static ALWAYS_INLINE void compare_flags(sim_vcpu *cpu, const struct insn *i, host_x87 run, bool pop) {
    unsigned top = x87_top(cpu), other = (top + i->rm) & 7;
    u32 flags = FL_ZF | FL_PF | FL_CF;
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, top) || x87_empty(cpu, other)))
        pop &= x87_stack_fault(cpu, i, false);
    else {
        u16 sw = run(cpu, &cpu->fpu.st[top], &cpu->fpu.st[other], NULL);
        x87_status(cpu, i, (u16)((sw & ~FSW_C1) | (cpu->fpu.fsw & FSW_C1)), 0);
        pop &= !x87_stopped(cpu, sw, FP_BEFORE);
        flags = (sw & FSW_C3 ? FL_ZF : 0) | (sw & FSW_C2 ? FL_PF : 0) | (sw & FSW_C0 ? FL_CF : 0);
    }
    set_arith_flags(cpu, flags);
    if (pop)
        x87_pop(cpu);
}
OP_APART(fcomi) { compare_flags(cpu, i, host_fcom, false); }
OP_APART(fcomip) { compare_flags(cpu, i, host_fcom, true); }
OP_APART(fucomi) { compare_flags(cpu, i, host_fucom, false); }
OP_APART(fucomip) { compare_flags(cpu, i, host_fucom, true); }

/* The class of ST(0), of an empty one too; its sign in C1. */
OP_APART(fxam) {
    unsigned top = x87_top(cpu);
    u16 sw;
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (x87_empty(cpu, top))
        sw = FSW_C3 | FSW_C0 | (cpu->fpu.st[top].exp & 0x8000 ? FSW_C1 : 0);
    else
        __asm__ volatile("fldt %[a]\nfxam\nfnstsw %%ax\nfstp %%st(0)\n" : "=&a"(sw) : [a] "m"(cpu->fpu.st[top]));
    cpu->fpu.fsw = (u16)((cpu->fpu.fsw & ~(FSW_CC | FSW_C1)) | (sw & (FSW_CC | FSW_C1)));
}

static ALWAYS_INLINE void move_if(sim_vcpu *cpu, const struct insn *i, bool yes) {
    unsigned top = x87_top(cpu), other = (top + i->rm) & 7;
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, top) || x87_empty(cpu, other))) {
        if (x87_stack_fault(cpu, i, false))
            x87_indefinite(cpu, top);
    } else if (yes)
        x87_copy(&cpu->fpu.st[top], &cpu->fpu.st[other]);
}
OP_APART(fcmovb) { move_if(cpu, i, get_cf(cpu)); }
OP_APART(fcmove) { move_if(cpu, i, get_zf(cpu)); }
OP_APART(fcmovbe) { move_if(cpu, i, get_cf(cpu) || get_zf(cpu)); }
OP_APART(fcmovu) { move_if(cpu, i, get_pf(cpu)); }
OP_APART(fcmovnb) { move_if(cpu, i, !get_cf(cpu)); }
OP_APART(fcmovne) { move_if(cpu, i, !get_zf(cpu)); }
OP_APART(fcmovnbe) { move_if(cpu, i, !get_cf(cpu) && !get_zf(cpu)); }
OP_APART(fcmovnu) { move_if(cpu, i, !get_pf(cpu)); }
