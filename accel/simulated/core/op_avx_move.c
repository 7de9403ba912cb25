/* AVX moves: as op_sse_move.c, with three operands where two registers are merged; the upper half becomes 0. */
#include "vector.h"

OP(vmov_r) {
    set_vx(cpu, i->reg, get_x(cpu, i->rm));
    NEXT(cpu, i);
}
OP(vmov_store_r) {
    set_vx(cpu, i->rm, get_x(cpu, i->reg));
    NEXT(cpu, i);
}
OP(ymov_r) {
    set_y(cpu, i->reg, get_y(cpu, i->rm));
    NEXT(cpu, i);
}
OP(ymov_store_r) {
    set_y(cpu, i->rm, get_y(cpu, i->reg));
    NEXT(cpu, i);
}
GEN_LOAD_X(vmovu_m, 1, set_vx(cpu, i->reg, x))
GEN_LOAD_X(vmova_m, 16, set_vx(cpu, i->reg, x))
GEN_LOAD_Y(ymovu_m, 1, set_y(cpu, i->reg, y))
GEN_LOAD_Y(ymova_m, 32, set_y(cpu, i->reg, y))
GEN_STORE_Y(ymovu_store_m, 1, get_y(cpu, i->reg))
GEN_STORE_Y(ymova_store_m, 32, get_y(cpu, i->reg))

static inline x128 low64(u64 v) { return _mm_cvtsi64_si128((s64)v); }
static inline u64 get_q(const sim_vcpu *cpu, unsigned n, unsigned k) { return cpu->ymm[n].q[k]; }
static inline x128 pair(u64 low, u64 high) { return _mm_set_epi64x((s64)high, (s64)low); }
static inline x128 with_d0(x128 a, u32 v) {
    return _mm_castps_si128(_mm_move_ss(_mm_castsi128_ps(a), _mm_castsi128_ps(_mm_cvtsi32_si128((s32)v))));
}

OP(vmovss_r) {
    set_vx(cpu, i->reg, with_d0(get_x(cpu, vex_vvvv(i)), cpu->ymm[i->rm].d[0]));
    NEXT(cpu, i);
}
OP(vmovss_store_r) {
    set_vx(cpu, i->rm, with_d0(get_x(cpu, vex_vvvv(i)), cpu->ymm[i->reg].d[0]));
    NEXT(cpu, i);
}
OP(vmovsd_r) {
    set_vx(cpu, i->reg, pair(get_q(cpu, i->rm, 0), get_q(cpu, vex_vvvv(i), 1)));
    NEXT(cpu, i);
}
OP(vmovsd_store_r) {
    set_vx(cpu, i->rm, pair(get_q(cpu, i->reg, 0), get_q(cpu, vex_vvvv(i), 1)));
    NEXT(cpu, i);
}
GEN_LOAD_S(vmovd_m, 32, set_vx(cpu, i->reg, low64(v)))
GEN_LOAD_S(vmovq_m, 64, set_vx(cpu, i->reg, low64(v)))
OP(vmovq_r) {
    set_vx(cpu, i->reg, low64(get_q(cpu, i->rm, 0)));
    NEXT(cpu, i);
}
OP(vmovq_store_r) {
    set_vx(cpu, i->rm, low64(get_q(cpu, i->reg, 0)));
    NEXT(cpu, i);
}
OP(vmovd_g) {
    set_vx(cpu, i->reg, low64((u32)cpu->regs[i->rm]));
    NEXT(cpu, i);
}
OP(vmovq_g) {
    set_vx(cpu, i->reg, low64(cpu->regs[i->rm]));
    NEXT(cpu, i);
}

OP(vmovhlps) {
    set_vx(cpu, i->reg, pair(get_q(cpu, i->rm, 1), get_q(cpu, vex_vvvv(i), 1)));
    NEXT(cpu, i);
}
OP(vmovlhps) {
    set_vx(cpu, i->reg, pair(get_q(cpu, vex_vvvv(i), 0), get_q(cpu, i->rm, 0)));
    NEXT(cpu, i);
}
GEN_LOAD_S(vmovlps_m, 64, set_vx(cpu, i->reg, pair(v, get_q(cpu, vex_vvvv(i), 1))))
GEN_LOAD_S(vmovhps_m, 64, set_vx(cpu, i->reg, pair(get_q(cpu, vex_vvvv(i), 0), v)))

OP(ymovmskps) {
    struct y256 v = get_y(cpu, i->rm);
    cpu->regs[i->reg] = (u32)_mm_movemask_ps(_mm_castsi128_ps(v.lo)) | (u32)_mm_movemask_ps(_mm_castsi128_ps(v.hi))
                                                                           << 4;
    NEXT(cpu, i);
}
OP(ymovmskpd) {
    struct y256 v = get_y(cpu, i->rm);
    cpu->regs[i->reg] = (u32)_mm_movemask_pd(_mm_castsi128_pd(v.lo)) | (u32)_mm_movemask_pd(_mm_castsi128_pd(v.hi))
                                                                           << 2;
    NEXT(cpu, i);
}
OP(ypmovmskb) {
    struct y256 v = get_y(cpu, i->rm);
    cpu->regs[i->reg] = (u32)_mm_movemask_epi8(v.lo) | (u32)_mm_movemask_epi8(v.hi) << 16;
    NEXT(cpu, i);
}

/* VPINSRx: the first source with one element replaced. */
#define GEN_INSERT(name, W, PART, MASK)                                                                                \
    static inline void insert_##name(sim_vcpu *cpu, const struct insn *i, u##W v) {                                    \
        set_vx(cpu, i->reg, get_x(cpu, vex_vvvv(i)));                                                                  \
        cpu->ymm[i->reg].PART[vex_imm8(i) & MASK] = v;                                                                 \
    }                                                                                                                  \
    OP(v##name##_r) {                                                                                                  \
        insert_##name(cpu, i, (u##W)cpu->regs[i->rm]);                                                                 \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_S(v##name##_m, W, insert_##name(cpu, i, v))
GEN_INSERT(pinsrb, 8, b, 15)
GEN_INSERT(pinsrw, 16, w, 7)
GEN_INSERT(pinsrd, 32, d, 3)
GEN_INSERT(pinsrq, 64, q, 1)
OP(vinsertps_r) {
    set_vx(cpu, i->reg, do_insertps(get_x(cpu, vex_vvvv(i)), cpu->ymm[i->rm].d[vex_imm8(i) >> 6], vex_imm8(i)));
    NEXT(cpu, i);
}
GEN_LOAD_S(vinsertps_m, 32, set_vx(cpu, i->reg, do_insertps(get_x(cpu, vex_vvvv(i)), v, vex_imm8(i))))
