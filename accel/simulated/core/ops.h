/* Every instruction handler, by the file that defines it.  decode.c's table names them.
 *
 * Engine handlers come in families: op_<name>_<form><width>, form r (the E operand is a register) or m (memory), width
 * 8, 16, 32, 64.  System handlers are one function each: they look at i->flags & IF_MEM, i->osz, i->reg, i->rm, i->imm.
 */
#ifndef SIM_OPS_H
#define SIM_OPS_H
#include "cpu.h"

// clang-format off

/* ---- the system half's handlers ----
 * X(name): void op_name(sim_vcpu *cpu, const struct insn *i).  In all: memory operand when IF_MEM (address insn_ea(cpu, i),
 * segment i->seg, use ld16() etc. of access.h), else register i->rm; i->osz the operand size; each ends its block
 * unless marked (NEXT), so it may RETIRE; marked ones should end with NEXT. */
#define SYSTEM_OPS(X)                                                                                                        \
    /* far.c: transfers.  new CS:IP from imm (offset | selector << 32), from memory m16:16/32, or from the stack */         \
    X(jmp_far_imm)  /* EA */                                                                                                \
    X(jmp_far_mem)  /* FF /5; register form already decoded to #UD */                                                      \
    X(call_far_imm) /* 9A */                                                                                                \
    X(call_far_mem) /* FF /3 */                                                                                             \
    X(ret_far)      /* CB, CA: imm = bytes to release */                                                                    \
    X(iret)         /* CF */                                                                                                \
    X(int_n)        /* CD: imm = vector (V8086 IOPL/VME rules) */                                                           \
    X(int3)         /* CC */                                                                                                \
    X(int1)         /* F1 */                                                                                                \
    X(into)         /* CE */                                                                                                \
    X(sysenter) X(sysexit) X(syscall) X(sysret)                                                                             \
    /* segment.c: loads of segment registers */                                                                             \
    X(mov_Sw_Ew) /* 8E: i->reg = ES..GS (CS and 6, 7 already #UD); SS sets the shadow.  Source r16 or m16 */               \
    X(pop_seg)   /* 07 17 1F 0FA1 0FA9: i->reg; SS sets the shadow */                                                       \
    X(load_far)  /* LES LDS LSS LFS LGS: segment = imm, register i->reg, m16:16/32 */                                      \
    X(lldt) X(ltr) X(sldt) X(str) X(verr) X(verw) X(lar) X(lsl) X(arpl) /* (NEXT) for sldt str verr verw lar lsl arpl */    \
    /* op_system.c */                                                                                                       \
    X(pushf) /* (NEXT) */                                                                                                   \
    X(popf) X(cli) X(sti) X(hlt) X(cpuid) X(rdmsr) X(wrmsr) X(rdtsc) X(rdtscp) X(rdpmc) X(invd) X(wbinvd) X(invlpg)         \
    X(clts) X(lmsw) X(smsw) /* (NEXT) */ X(lgdt) X(lidt) X(sgdt) /* (NEXT) */ X(sidt) /* (NEXT) */                          \
    X(mov_Rd_Cd) X(mov_Cd_Rd) X(mov_Rd_Dd) X(mov_Dd_Rd) /* i->reg = CRn/DRn, i->rm = general register; always registers */  \
    X(rsm) X(swapgs) X(rdsegbase) X(wrsegbase) X(clac) X(stac) X(vmcall) X(monitor) X(mwait)                                                                             \
    X(fpu)  /* an x87 escape where there is no FPU: #NM or #UD, by CR0 */                                                    \
    X(ud)   /* illegal encoding, UD2: BEGIN, raise_ud */                                                                     \
    X(nm)   /* the unit is switched off by CR0: BEGIN, #NM */                                                               \
    X(gp0)  /* instruction longer than 15 bytes: BEGIN, raise_gp0 */

#define X(name) void op_##name(sim_vcpu *cpu, const struct insn *i);
SYSTEM_OPS(X)
#undef X

/* ---- the engine's handlers ---- */
#define OPS_R(X, n)  X(n##_r8) X(n##_r16) X(n##_r32) X(n##_r64)
#define OPS_M(X, n)  X(n##_m8) X(n##_m16) X(n##_m32) X(n##_m64)
#define OPS_RM(X, n) OPS_R(X, n) OPS_M(X, n)
#define OPS_RV(X, n) X(n##_r16) X(n##_r32) X(n##_r64)
#define OPS_MV(X, n) X(n##_m16) X(n##_m32) X(n##_m64)
#define OPS_RMV(X, n) OPS_RV(X, n) OPS_MV(X, n)
#define OPS_V(X, n)  X(n##16) X(n##32) X(n##64)
#define OPS_W(X, n)  X(n##8) X(n##16) X(n##32) X(n##64)

/* Conditions in the order of their codes. */
#define CONDITIONS(C) C(0, o) C(1, no) C(2, b) C(3, nb) C(4, z) C(5, nz) C(6, be) C(7, nbe)                                \
    C(8, s) C(9, ns) C(10, p) C(11, np) C(12, l) C(13, nl) C(14, le) C(15, nle)

#define OPS_ALU(X, n) OPS_RM(X, n##_EG) OPS_RM(X, n##_GE) OPS_RM(X, n##_EI)
#define OPS_Q(X, n)   OPS_W(X, n##_q)   /* quiet: leave no flags */
#define OPS_QM(X, n)  OPS_W(X, n##_qm)
#define OPS_ALUQ(X, n) OPS_ALU(X, n) OPS_Q(X, n##_EG) OPS_Q(X, n##_GE) OPS_Q(X, n##_EI) OPS_QM(X, n##_GE)
#define OPS_S(X, n)   OPS_V(X, n##_s)   /* stack pointer as wide as the operand */
#define OPS_SHIFT(X, n) OPS_RM(X, n##_EI) OPS_RM(X, n##_EC)

#define OPS_X87M(X, n) X(n##_m32) X(n##_m64) X(n##_i16) X(n##_i32)
#define OPS_X87(X, n)  X(n##_0i) X(n##_i0) X(n##p) OPS_X87M(X, n)

#define ENGINE_OPS(X)                                                                                                       \
    /* op_arith.c */ OPS_ALUQ(X, add) OPS_ALU(X, adc) OPS_ALUQ(X, sub) OPS_ALU(X, sbb) OPS_ALU(X, cmp)                        \
    OPS_RM(X, inc) OPS_RM(X, dec) OPS_Q(X, inc) OPS_Q(X, dec) OPS_RM(X, neg) OPS_RM(X, xadd) OPS_RM(X, cmpxchg) X(cmpxchg8b) X(cmpxchg16b)              \
    /* op_logic.c */ OPS_ALUQ(X, or) OPS_ALUQ(X, and) OPS_ALUQ(X, xor) OPS_RM(X, test_EG) OPS_RM(X, test_EI) OPS_RM(X, not)    \
    /* op_shift.c */ OPS_SHIFT(X, rol) OPS_SHIFT(X, ror) OPS_SHIFT(X, rcl) OPS_SHIFT(X, rcr) OPS_SHIFT(X, shl)              \
    OPS_SHIFT(X, shr) OPS_SHIFT(X, sar) OPS_Q(X, shl_EI) OPS_Q(X, shr_EI) OPS_Q(X, sar_EI) OPS_RMV(X, shld_I) OPS_RMV(X, shld_C) OPS_RMV(X, shrd_I) OPS_RMV(X, shrd_C)         \
    /* op_move.c */ OPS_RM(X, mov_EG) OPS_RM(X, mov_GE) OPS_RM(X, mov_EI) OPS_RM(X, xchg) OPS_RMV(X, movzx8)                \
    OPS_RMV(X, movzx16) OPS_RMV(X, movsx8) OPS_RMV(X, movsx16) OPS_RMV(X, movsx32) OPS_V(X, lea) OPS_RMV(X, cmov)           \
    OPS_RMV(X, mov_Ev_Sw) OPS_M(X, mov_AO) OPS_M(X, mov_OA) OPS_V(X, bswap) OPS_V(X, cbw) OPS_V(X, cwd)                     \
    X(setcc_r8) X(setcc_m8) X(nop) X(pause) X(xlat) X(lahf) X(sahf) X(clc) X(stc) X(cmc) X(cld) X(std) X(salc)              \
    /* op_stack.c */ OPS_S(X, push) OPS_S(X, pop) OPS_S(X, push_I) OPS_S(X, call_J) OPS_S(X, ret) OPS_RMV(X, push) OPS_V(X, push_I) OPS_RMV(X, pop) OPS_V(X, push_seg) OPS_V(X, pusha) OPS_V(X, popa)    \
    OPS_V(X, enter) OPS_V(X, leave) OPS_V(X, bound)                                                                         \
    /* op_string.c */ OPS_W(X, movs) OPS_W(X, stos) OPS_W(X, lods) OPS_W(X, cmps) OPS_W(X, scas)                            \
    /* op_branch.c */ OPS_V(X, jmp_J) OPS_RMV(X, jmp) OPS_V(X, call_J) OPS_RMV(X, call) OPS_V(X, ret) OPS_V(X, ret_I)       \
    OPS_V(X, loop) OPS_V(X, loopz) OPS_V(X, loopnz) OPS_V(X, jcxz) X(block_end) X(resync) X(warm)                                   \
    /* op_bit.c */ OPS_RMV(X, bt_G) OPS_RMV(X, bts_G) OPS_RMV(X, btr_G) OPS_RMV(X, btc_G) OPS_RMV(X, bt_I)                  \
    OPS_RMV(X, bts_I) OPS_RMV(X, btr_I) OPS_RMV(X, btc_I) OPS_RMV(X, bsf) OPS_RMV(X, bsr)                                   \
    /* op_bitmanip.c: TZCNT and LZCNT where CPUID lacks them */ X(bsf_any) X(bsr_any)                                       \
    /* op_bcd.c */ X(daa) X(das) X(aaa) X(aas) X(aam) X(aad)                                                                \
    /* op_xstate.c */ X(xgetbv) X(xsetbv)                                                                                     \
    /* op_muldiv.c */ OPS_RM(X, mul) OPS_RM(X, imul) OPS_RM(X, div) OPS_RM(X, idiv) OPS_RMV(X, imul_GE) OPS_RMV(X, imul_GEI) \
    /* op_io.c */ OPS_W(X, in) OPS_W(X, out) OPS_W(X, ins) OPS_W(X, outs)                                                    \
    /* op_x87_arith.c */ OPS_X87(X, fadd) OPS_X87(X, fmul) OPS_X87(X, fsub) OPS_X87(X, fsubr) OPS_X87(X, fdiv)                 \
    OPS_X87(X, fdivr) X(fsqrt) X(frndint) X(f2xm1) X(fsin) X(fcos) X(fscale) X(fprem) X(fprem1) X(fabs) X(fchs) X(fpatan)    \
    X(fyl2x) X(fyl2xp1) X(fptan) X(fsincos) X(fxtract)                                                                       \
    /* op_x87_compare.c */ X(fcom) X(fcomp) X(fcompp) X(fucom) X(fucomp) X(fucompp) X(ftst) X(fxam) OPS_X87M(X, fcom)          \
    OPS_X87M(X, fcomp) X(fcomi) X(fcomip) X(fucomi) X(fucomip) X(fcmovb) X(fcmove) X(fcmovbe) X(fcmovu) X(fcmovnb)           \
    X(fcmovne) X(fcmovnbe) X(fcmovnu)                                                                                        \
    /* op_x87_move.c */ X(fld_m32) X(fld_m64) X(fld_m80) X(fild_m16) X(fild_m32) X(fild_m64) X(fbld) X(fld) X(fld1) X(fldl2t)  \
    X(fldl2e) X(fldpi) X(fldlg2) X(fldln2) X(fldz) X(fst) X(fstp) X(fstp1) X(fxch) X(fst_m32) X(fstp_m32) X(fst_m64)           \
    X(fstp_m64) X(fist_m16) X(fistp_m16) X(fist_m32) X(fistp_m32) X(fistp_m64) X(fbstp) X(fstp_m80) X(fisttp_m16)            \
    X(fisttp_m32) X(fisttp_m64)                                                                                              \
    /* op_x87_control.c */ X(wait) X(fldcw) X(fnstcw) X(fnstsw) X(fnstsw_ax) X(fnclex) X(fninit) X(fnop) X(fpu_ignored)        \
    X(fincstp) X(fdecstp) X(ffree) X(ffreep) X(fnstenv) X(fldenv) X(fnsave) X(frstor)

#define X(name) void op_##name(sim_vcpu *cpu, const struct insn *i);
ENGINE_OPS(X)
#define C(code, cc) X(j##cc)
CONDITIONS(C)
#undef C
#undef X

/* ---- what handler files share: registers by width ---- */
#define RD8(n)  (*reg8(cpu, n))
#define RD16(n) (*reg16(cpu, n))
#define RD32(n) ((u32)cpu->regs[n])
#define RD64(n) (cpu->regs[n])
#define WR8(n, v)  (*reg8(cpu, n) = (u8)(v))
#define WR16(n, v) (*reg16(cpu, n) = (u16)(v))
#define WR32(n, v) (cpu->regs[n] = (u32)(v))
#define WR64(n, v) (cpu->regs[n] = (v))
#define ALL_WIDTHS(G, ...)  G(__VA_ARGS__, 8) G(__VA_ARGS__, 16) G(__VA_ARGS__, 32) G(__VA_ARGS__, 64)
#define WORD_WIDTHS(G, ...) G(__VA_ARGS__, 16) G(__VA_ARGS__, 32) G(__VA_ARGS__, 64)
#define OP(name) void op_##name(sim_vcpu *cpu, const struct insn *i)
/* A handler whose body gives away the address of a local variable: no compiler ends such a function with a jump, and the guest's
 * loops would pile up frames until the stack is full.  So the body is a function of its own, without NEXT. */
#define OP_APART(name)                                                                                                      \
    static NOINLINE void apart_##name(sim_vcpu *cpu, const struct insn *i);                                                  \
    OP(name) {                                                                                                               \
        apart_##name(cpu, i);                                                                                                \
        NEXT(cpu, i);                                                                                                        \
    }                                                                                                                        \
    static NOINLINE void apart_##name(sim_vcpu *cpu, const struct insn *i)

/* Read-modify-write of i's memory operand at `ea` with everything that is not plain RAM and unlocked: LOCK, devices, page
 * crossings.  p is what rmw_ptr() said.  fn computes the new value and the flags from the old value and b; flags change
 * only once the write is done.  Returns the old value. */
typedef u64 (*rmw_fn)(sim_vcpu *cpu, u64 a, u64 b);
u64 rmw_slow(sim_vcpu *cpu, const struct insn *i, u64 ea, unsigned size, void *p, u64 b, rmw_fn fn);

// clang-format on
#endif
