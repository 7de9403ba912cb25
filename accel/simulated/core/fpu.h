/* The host's floating-point units at work for the guest.
 *
 * Inside engine_run() the host's control registers are the guest's with every exception masked: MXCSR is the guest's
 * with 1F80h, the x87 control word the guest's with 3Fh.  So a handler executes the very instruction and nothing is
 * loaded or saved around it.
 *
 * Flags.  The MXCSR flags that instructions raise stay in the host's MXCSR, and cpu->mxcsr's are out of date till
 * guest_mxcsr() takes them over.  The host's x87 flags are always among those the guest has in fpu.fsw.  While the
 * guest has an exception unmasked, handlers take a slower way that knows the flags of each single instruction.
 *
 * For this to hold no handler does floating-point arithmetic of its own, or anything with the host's MMX registers.
 * Outside engine_run() the host's registers are the process's own, and cpu->mxcsr is exact.
 */
#ifndef SIM_FPU_H
#define SIM_FPU_H
#include "cpu.h"

/* Exception flags: the same places in MXCSR and the x87 status word, and for their masks in the x87 control word. */
#define FP_IE    0x01u
#define FP_DE    0x02u
#define FP_ZE    0x04u
#define FP_OE    0x08u
#define FP_UE    0x10u
#define FP_PE    0x20u
#define FP_FLAGS 0x3fu

#define MXCSR_DAZ        0x0040u
#define MXCSR_MASKS      0x1f80u
#define MXCSR_MASK_SHIFT 7
#define MXCSR_RC_SHIFT   13
#define MXCSR_FTZ        0x8000u

static inline u32 host_mxcsr(void) {
    u32 v;
    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
}
static inline void set_host_mxcsr(u32 v) { __asm__ volatile("ldmxcsr %0" : : "m"(v)); }
static inline u16 host_fsw(void) {
    u16 v;
    __asm__ volatile("fnstsw %0" : "=a"(v));
    return v;
}

/* Inside engine_run(): the guest's MXCSR, complete. */
static inline u32 guest_mxcsr(sim_vcpu *cpu) { return cpu->mxcsr |= host_mxcsr() & FP_FLAGS; }
/* Inside engine_run(): replace it.  Bits outside MXCSR_BITS have been refused. */
static inline void set_guest_mxcsr(sim_vcpu *cpu, u32 v) {
    cpu->mxcsr = v;
    set_host_mxcsr(v | MXCSR_MASKS);
}
static inline bool mxcsr_unmasked(const sim_vcpu *cpu) { return (~cpu->mxcsr & MXCSR_MASKS) != 0; }

/* Inside engine_run(), after any change of fpu.fcw or fpu.fsw by anything but x87 arithmetic: the host's control word
 * follows, and ES and B become what flags and masks say. */
static inline void x87_changed(sim_vcpu *cpu) {
    struct fpu *f = &cpu->fpu;
    u16 control = f->fcw | FP_FLAGS;
    if (host_fsw() & FP_FLAGS & ~f->fsw)
        __asm__ volatile("fnclex");
    __asm__ volatile("fldcw %0" : : "m"(control));
    f->fsw &= (u16) ~(FSW_ES | FSW_B);
    if (f->fsw & ~f->fcw & FP_FLAGS)
        f->fsw |= FSW_ES | FSW_B;
}

/* engine_run() begins and ends with these. */
static inline void fpu_enter(sim_vcpu *cpu) {
    cpu->host_mxcsr = host_mxcsr();
    __asm__ volatile("fnstcw %0" : "=m"(cpu->host_fcw));
    if (host_fsw() & (FP_FLAGS | 7u << FPU_TOP_SHIFT))
        __asm__ volatile("fninit");
    set_host_mxcsr(cpu->mxcsr | MXCSR_MASKS);
    x87_changed(cpu);
}
/* After a fault: an instruction that did not complete may have left x87 flags in the host. */
static inline void fpu_faulted(const sim_vcpu *cpu) {
    if (host_fsw() & FP_FLAGS & ~cpu->fpu.fsw)
        __asm__ volatile("fnclex");
}
static inline void fpu_leave(sim_vcpu *cpu) {
    guest_mxcsr(cpu);
    set_host_mxcsr(cpu->host_mxcsr);
    __asm__ volatile("fldcw %0" : : "m"(cpu->host_fcw));
}

#endif
