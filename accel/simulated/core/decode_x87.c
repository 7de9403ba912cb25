/* x87 escapes: which handler an opcode and its ModRM byte name. */
#include "decode_vector.h"
#include "ops.h"

/* [opcode & 7][ModRM.reg of a memory form, or 8 + the low six bits of ModRM].  FSTP1, FFREEP and the further codes of
 * FCOM, FCOMP, FXCH and FSTP are in no manual, but every processor has them. */
// clang-format off
#define ROW(n, fn) [8 + 8 * (n)] = fn, fn, fn, fn, fn, fn, fn, fn /* ST(0) to ST(7) */
#define ONE(modrm, fn) [8 + (modrm) - 0xc0] = fn

static const op_fn table[8][8 + 64] = {
    [0] = {op_fadd_m32, op_fmul_m32, op_fcom_m32, op_fcomp_m32, op_fsub_m32, op_fsubr_m32, op_fdiv_m32, op_fdivr_m32,
           ROW(0, op_fadd_0i), ROW(1, op_fmul_0i), ROW(2, op_fcom), ROW(3, op_fcomp),
           ROW(4, op_fsub_0i), ROW(5, op_fsubr_0i), ROW(6, op_fdiv_0i), ROW(7, op_fdivr_0i)},
    [1] = {op_fld_m32, NULL, op_fst_m32, op_fstp_m32, op_fldenv, op_fldcw, op_fnstenv, op_fnstcw,
           ROW(0, op_fld), ROW(1, op_fxch), ONE(0xd0, op_fnop), ROW(3, op_fstp1),
           ONE(0xe0, op_fchs), ONE(0xe1, op_fabs), ONE(0xe4, op_ftst), ONE(0xe5, op_fxam),
           ONE(0xe8, op_fld1), ONE(0xe9, op_fldl2t), ONE(0xea, op_fldl2e), ONE(0xeb, op_fldpi),
           ONE(0xec, op_fldlg2), ONE(0xed, op_fldln2), ONE(0xee, op_fldz),
           ONE(0xf0, op_f2xm1), ONE(0xf1, op_fyl2x), ONE(0xf2, op_fptan), ONE(0xf3, op_fpatan),
           ONE(0xf4, op_fxtract), ONE(0xf5, op_fprem1), ONE(0xf6, op_fdecstp), ONE(0xf7, op_fincstp),
           ONE(0xf8, op_fprem), ONE(0xf9, op_fyl2xp1), ONE(0xfa, op_fsqrt), ONE(0xfb, op_fsincos),
           ONE(0xfc, op_frndint), ONE(0xfd, op_fscale), ONE(0xfe, op_fsin), ONE(0xff, op_fcos)},
    [2] = {op_fadd_i32, op_fmul_i32, op_fcom_i32, op_fcomp_i32, op_fsub_i32, op_fsubr_i32, op_fdiv_i32, op_fdivr_i32,
           ROW(0, op_fcmovb), ROW(1, op_fcmove), ROW(2, op_fcmovbe), ROW(3, op_fcmovu), ONE(0xe9, op_fucompp)},
    [3] = {op_fild_m32, op_fisttp_m32, op_fist_m32, op_fistp_m32, NULL, op_fld_m80, NULL, op_fstp_m80,
           ROW(0, op_fcmovnb), ROW(1, op_fcmovne), ROW(2, op_fcmovnbe), ROW(3, op_fcmovnu),
           ONE(0xe0, op_fpu_ignored), ONE(0xe1, op_fpu_ignored), ONE(0xe2, op_fnclex), ONE(0xe3, op_fninit),
           ONE(0xe4, op_fpu_ignored), ROW(5, op_fucomi), ROW(6, op_fcomi)},
    [4] = {op_fadd_m64, op_fmul_m64, op_fcom_m64, op_fcomp_m64, op_fsub_m64, op_fsubr_m64, op_fdiv_m64, op_fdivr_m64,
           ROW(0, op_fadd_i0), ROW(1, op_fmul_i0), ROW(2, op_fcom), ROW(3, op_fcomp),
           ROW(4, op_fsub_i0), ROW(5, op_fsubr_i0), ROW(6, op_fdiv_i0), ROW(7, op_fdivr_i0)},
    [5] = {op_fld_m64, op_fisttp_m64, op_fst_m64, op_fstp_m64, op_frstor, NULL, op_fnsave, op_fnstsw,
           ROW(0, op_ffree), ROW(1, op_fxch), ROW(2, op_fst), ROW(3, op_fstp), ROW(4, op_fucom), ROW(5, op_fucomp)},
    [6] = {op_fadd_i16, op_fmul_i16, op_fcom_i16, op_fcomp_i16, op_fsub_i16, op_fsubr_i16, op_fdiv_i16, op_fdivr_i16,
           ROW(0, op_faddp), ROW(1, op_fmulp), ROW(2, op_fcomp), ONE(0xd9, op_fcompp),
           ROW(4, op_fsubp), ROW(5, op_fsubrp), ROW(6, op_fdivp), ROW(7, op_fdivrp)},
    [7] = {op_fild_m16, op_fisttp_m16, op_fist_m16, op_fistp_m16, op_fbld, op_fild_m64, op_fbstp, op_fistp_m64,
           ROW(0, op_ffreep), ROW(1, op_fxch), ROW(2, op_fstp), ROW(3, op_fstp), ONE(0xe0, op_fnstsw_ax),
           ROW(5, op_fucomip), ROW(6, op_fcomip)},
};
// clang-format on

op_fn x87_handler(unsigned op, unsigned modrm, struct decode_info *info) {
    op_fn fn = table[op & 7][modrm >= 0xc0 ? 8 + (modrm & 63) : modrm >> 3 & 7];
    bool conditional = (op & 6) == 2 && modrm >= 0xc0 && modrm < 0xe0; /* FCMOVcc */
    bool to_flags = fn == op_fcomi || fn == op_fcomip || fn == op_fucomi || fn == op_fucomip;
    bool truncating = fn == op_fisttp_m16 || fn == op_fisttp_m32 || fn == op_fisttp_m64;
    if (conditional || to_flags || truncating) {
        info->feature = truncating ? FEAT_FISTTP : FEAT_FCMOV;
        info->absent = NULL;
    }
    return fn;
}
