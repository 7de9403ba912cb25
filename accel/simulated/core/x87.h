/* What the x87 handlers share: registers of the stack, exceptions, and how an instruction runs on the host's unit.
 *
 * Every instruction of the guest is executed by the same instruction of the host, on values loaded for it (fpu.h has
 * the control word).  With all exceptions masked that is all there is to it.  With one unmasked, the guest's own
 * control word is loaded around the instruction: the host then does what an unmasked exception does (leave the
 * destination alone, or write a result with a wrapped exponent), and its flags are cleared before it can trap, which
 * x87 does only at the next waiting instruction.
 *
 * FOP follows unmasked exceptions only, as processors since the Pentium 4 have it (SDM volume 1, 8.1.9.1).
 */
#ifndef SIM_X87_H
#define SIM_X87_H
#include "access.h"
#include "flags.h"
#include "fpu.h"
#include "ops.h"

#define FSW_SF  0x0040u
#define FSW_C0  0x0100u
#define FSW_C1  0x0200u
#define FSW_C2  0x0400u
#define FSW_TOP 0x3800u
#define FSW_C3  0x4000u
#define FSW_CC  (FSW_C0 | FSW_C2 | FSW_C3)

/* Unmasked, these keep the destination from being written and the stack from being popped. */
#define FP_BEFORE (FP_IE | FP_DE | FP_ZE)

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* #MF for the exception that is pending. */
_Noreturn void x87_pending(sim_vcpu *cpu, const struct insn *i);
/* The instruction's exception is not masked: ES, B and FOP. */
void x87_unmasked(sim_vcpu *cpu, const struct insn *i);
/* Stack overflow (c1) or underflow.  Returns whether it is masked: then a default result is to be written. */
bool x87_stack_fault(sim_vcpu *cpu, const struct insn *i, bool c1);

static inline void x87_start(sim_vcpu *cpu, const struct insn *i) {
    if (unlikely(cpu->fpu.fsw & FSW_ES))
        x87_pending(cpu, i);
}
/* Once nothing can fault any more: the instruction's address, and its memory operand's. */
static inline void x87_note(sim_vcpu *cpu, const struct insn *i) {
    cpu->fpu.fip = insn_ip(i);
    cpu->fpu.fcs = cpu->seg[CS].selector;
}
static inline void x87_note_memory(sim_vcpu *cpu, const struct insn *i, u64 ea) {
    x87_note(cpu, i);
    cpu->fpu.fdp = ea;
    cpu->fpu.fds = cpu->seg[i->seg].selector;
}

/* ---- the stack: registers by physical number ---- */

static inline unsigned x87_top(const sim_vcpu *cpu) { return cpu->fpu.fsw >> FPU_TOP_SHIFT & 7; }
static inline unsigned x87_reg(const sim_vcpu *cpu, unsigned n) { return (x87_top(cpu) + n) & 7; }
static inline bool x87_empty(const sim_vcpu *cpu, unsigned reg) { return !(cpu->fpu.ftw >> reg & 1); }
static inline void x87_set_top(sim_vcpu *cpu, unsigned top) {
    cpu->fpu.fsw = (u16)((cpu->fpu.fsw & ~FSW_TOP) | (top & 7) << FPU_TOP_SHIFT);
}
static inline void x87_pop(sim_vcpu *cpu) {
    cpu->fpu.ftw &= (u8) ~(1u << x87_top(cpu));
    x87_set_top(cpu, x87_top(cpu) + 1);
}
/* Makes room: the number of the new ST(0), whose value the caller writes. */
static inline unsigned x87_push(sim_vcpu *cpu) {
    unsigned top = (x87_top(cpu) - 1) & 7;
    x87_set_top(cpu, top);
    cpu->fpu.ftw |= (u8)(1u << top);
    return top;
}
/* By parts: a load of 16 bytes would have to wait for both of the host's stores. */
static inline void x87_copy(union st_reg *to, const union st_reg *from) {
    to->mant = from->mant;
    to->exp = from->exp;
}
/* The default result of an invalid operation. */
static inline void x87_indefinite(sim_vcpu *cpu, unsigned reg) {
    cpu->fpu.st[reg].mant = 0xc000000000000000;
    cpu->fpu.st[reg].exp = 0xffff;
    cpu->fpu.ftw |= (u8)(1u << reg);
}

/* ---- status ---- */

static inline bool x87_plain(const sim_vcpu *cpu) { return (cpu->fpu.fcw & FP_FLAGS) == FP_FLAGS; }
/* Take over what the host's status word says after the instruction: flags, C1, and the condition bits in `conditions`.
 */
static inline void x87_status(sim_vcpu *cpu, const struct insn *i, u16 sw, u16 conditions) {
    cpu->fpu.fsw = (u16)((cpu->fpu.fsw & ~(FSW_C1 | conditions)) | (sw & (FP_FLAGS | FSW_C1 | conditions)));
    if (unlikely(sw & FSW_ES))
        x87_unmasked(cpu, i);
}
/* Whether what the host reported stops the instruction before its result. */
static inline bool x87_stopped(const sim_vcpu *cpu, u16 sw, u16 by) {
    return unlikely(sw & FSW_ES) && (sw & ~cpu->fpu.fcw & by);
}

/* ---- the host's unit at work ----
 * HOST_X87(name, type, load, code, store): name(cpu, a, b, out), where *b is a `type`, loads *a and *b as `load` says,
 * executes `code`, stores *out as `store` says, and returns the status word.  The host's stack is empty before and
 * after. */
#define HOST_X87(name, type, load, code, store)                                                                        \
    static ALWAYS_INLINE u16 name(const sim_vcpu *cpu, const union st_reg *a, const void *b, union st_reg *out) {      \
        u16 sw;                                                                                                        \
        if (likely(x87_plain(cpu)))                                                                                    \
            __asm__ volatile(load code "fnstsw %%ax\n" store                                                           \
                             : "=&a"(sw), [out] "=m"(*out)                                                             \
                             : [a] "m"(*a), [b] "m"(*(const type *)b)                                                  \
                             : "cc");                                                                                  \
        else {                                                                                                         \
            u16 control = cpu->fpu.fcw | FP_FLAGS;                                                                     \
            __asm__ volatile(                                                                                          \
                "fnclex\n" load "fldcw %[guest]\n" code "fnstsw %%ax\nfnclex\nfldcw %[control]\n" store                \
                : "=&a"(sw), [out] "=m"(*out)                                                                          \
                : [a] "m"(*a), [b] "m"(*(const type *)b), [guest] "m"(cpu->fpu.fcw), [control] "m"(control)            \
                : "cc");                                                                                               \
        }                                                                                                              \
        return sw;                                                                                                     \
    }
typedef u16 (*host_x87)(const sim_vcpu *cpu, const union st_reg *a, const void *b, union st_reg *out);

#endif
