/* SSE to SSE4.1 moves: between registers and memory, halves, single elements, masks; non-temporal ones are plain. */
#include "vector.h"

/* ---- whole registers ---- */

OP(mov_x_r) {
    set_x(cpu, i->reg, get_x(cpu, i->rm));
    NEXT(cpu, i);
}
OP(mov_store_x_r) {
    set_x(cpu, i->rm, get_x(cpu, i->reg));
    NEXT(cpu, i);
}
GEN_LOAD_X(movu_m, 1, set_x(cpu, i->reg, x))
GEN_LOAD_X(mova_m, 16, set_x(cpu, i->reg, x))
GEN_STORE_X(movu_store_m, 1, get_x(cpu, i->reg))
GEN_STORE_X(mova_store_m, 16, get_x(cpu, i->reg))

/* ---- 4 and 8 bytes ---- */

static inline x128 low64(u64 v) { return _mm_cvtsi64_si128((s64)v); }
static inline void set_d0(sim_vcpu *cpu, unsigned n, u32 v) { cpu->ymm[n].d[0] = v; }
static inline void set_q(sim_vcpu *cpu, unsigned n, unsigned k, u64 v) { cpu->ymm[n].q[k] = v; }
static inline u64 get_q(const sim_vcpu *cpu, unsigned n, unsigned k) { return cpu->ymm[n].q[k]; }

OP(movss_r) {
    set_d0(cpu, i->reg, cpu->ymm[i->rm].d[0]);
    NEXT(cpu, i);
}
OP(movss_store_r) {
    set_d0(cpu, i->rm, cpu->ymm[i->reg].d[0]);
    NEXT(cpu, i);
}
OP(movsd_r) {
    set_q(cpu, i->reg, 0, get_q(cpu, i->rm, 0));
    NEXT(cpu, i);
}
OP(movsd_store_r) {
    set_q(cpu, i->rm, 0, get_q(cpu, i->reg, 0));
    NEXT(cpu, i);
}
GEN_LOAD_S(movss_m, 32, set_x(cpu, i->reg, low64(v)))
GEN_LOAD_S(movq_x_m, 64, set_x(cpu, i->reg, low64(v))) /* MOVSD, MOVQ, MOVD with W */
GEN_STORE_S(movss_store_m, 32, cpu->ymm[i->reg].d[0])
GEN_STORE_S(movq_store_m, 64, get_q(cpu, i->reg, 0))
OP(movq_x_r) {
    set_x(cpu, i->reg, low64(get_q(cpu, i->rm, 0)));
    NEXT(cpu, i);
}
OP(movq_store_x_r) { /* 66 0F D6 */
    set_x(cpu, i->rm, low64(get_q(cpu, i->reg, 0)));
    NEXT(cpu, i);
}
OP(movd_x_r) {
    set_x(cpu, i->reg, low64((u32)cpu->regs[i->rm]));
    NEXT(cpu, i);
}
OP(movq_x_g) {
    set_x(cpu, i->reg, low64(cpu->regs[i->rm]));
    NEXT(cpu, i);
}
OP(movd_store_x_r) {
    cpu->regs[i->rm] = cpu->ymm[i->reg].d[0];
    NEXT(cpu, i);
}
OP(movq_store_x_g) {
    cpu->regs[i->rm] = get_q(cpu, i->reg, 0);
    NEXT(cpu, i);
}

/* ---- halves ---- */

OP(movhlps) {
    set_q(cpu, i->reg, 0, get_q(cpu, i->rm, 1));
    NEXT(cpu, i);
}
OP(movlhps) {
    set_q(cpu, i->reg, 1, get_q(cpu, i->rm, 0));
    NEXT(cpu, i);
}
GEN_LOAD_S(movlps_m, 64, set_q(cpu, i->reg, 0, v))
GEN_LOAD_S(movhps_m, 64, set_q(cpu, i->reg, 1, v))
GEN_STORE_S(movhps_store_m, 64, get_q(cpu, i->reg, 1))
OP(movddup_r) {
    u64 v = get_q(cpu, i->rm, 0);
    set_x(cpu, i->reg, _mm_set1_epi64x((s64)v));
    NEXT(cpu, i);
}
GEN_LOAD_S(movddup_m, 64, set_x(cpu, i->reg, _mm_set1_epi64x((s64)v)))

/* ---- masks ---- */

OP(movmskps) {
    cpu->regs[i->reg] = (u32)_mm_movemask_ps(_mm_castsi128_ps(get_x(cpu, i->rm)));
    NEXT(cpu, i);
}
OP(movmskpd) {
    cpu->regs[i->reg] = (u32)_mm_movemask_pd(_mm_castsi128_pd(get_x(cpu, i->rm)));
    NEXT(cpu, i);
}
OP(pmovmskb) {
    cpu->regs[i->reg] = (u32)_mm_movemask_epi8(get_x(cpu, i->rm));
    NEXT(cpu, i);
}

/* MASKMOVQ, MASKMOVDQU: the bytes of `from` that the mask names, at DS:rDI. */
void masked_bytes(sim_vcpu *cpu, const struct insn *i, const u8 *from, u32 mask, unsigned n) {
    u64 ea = cpu->regs[RDI] & width_mask(i->asz);
    mem_probe_aligned(cpu, i->seg, ea, n, 1, true); /* all of it, whatever the mask says, as the processor does */
    for (unsigned k = 0; k < n; k++)
        if (mask >> k & 1)
            st8(cpu, i, i->seg, (ea + k) & width_mask(i->asz), from[k]);
}
OP(maskmovdqu) {
    BEGIN(cpu, i);
    masked_bytes(cpu, i, cpu->ymm[i->reg].b, (u32)_mm_movemask_epi8(get_x(cpu, i->rm)), 16);
    NEXT(cpu, i);
}

/* ---- single elements ---- */

OP(pinsrb_r) {
    cpu->ymm[i->reg].b[vex_imm8(i) & 15] = (u8)cpu->regs[i->rm];
    NEXT(cpu, i);
}
OP(pinsrw_r) {
    cpu->ymm[i->reg].w[vex_imm8(i) & 7] = (u16)cpu->regs[i->rm];
    NEXT(cpu, i);
}
OP(pinsrd_r) {
    cpu->ymm[i->reg].d[vex_imm8(i) & 3] = (u32)cpu->regs[i->rm];
    NEXT(cpu, i);
}
OP(pinsrq_r) {
    set_q(cpu, i->reg, vex_imm8(i) & 1, cpu->regs[i->rm]);
    NEXT(cpu, i);
}
GEN_LOAD_S(pinsrb_m, 8, cpu->ymm[i->reg].b[vex_imm8(i) & 15] = v)
GEN_LOAD_S(pinsrw_m, 16, cpu->ymm[i->reg].w[vex_imm8(i) & 7] = v)
GEN_LOAD_S(pinsrd_m, 32, cpu->ymm[i->reg].d[vex_imm8(i) & 3] = v)
GEN_LOAD_S(pinsrq_m, 64, set_q(cpu, i->reg, vex_imm8(i) & 1, v))
OP(pextrw_c5) { /* 0F C5: destination ModRM.reg */
    cpu->regs[i->reg] = cpu->ymm[i->rm].w[vex_imm8(i) & 7];
    NEXT(cpu, i);
}
OP(pextrb_r) {
    cpu->regs[i->rm] = cpu->ymm[i->reg].b[vex_imm8(i) & 15];
    NEXT(cpu, i);
}
OP(pextrw_r) {
    cpu->regs[i->rm] = cpu->ymm[i->reg].w[vex_imm8(i) & 7];
    NEXT(cpu, i);
}
OP(pextrd_r) { /* and EXTRACTPS */
    cpu->regs[i->rm] = cpu->ymm[i->reg].d[vex_imm8(i) & 3];
    NEXT(cpu, i);
}
OP(pextrq_r) {
    cpu->regs[i->rm] = get_q(cpu, i->reg, vex_imm8(i) & 1);
    NEXT(cpu, i);
}
GEN_STORE_S(pextrb_m, 8, cpu->ymm[i->reg].b[vex_imm8(i) & 15])
GEN_STORE_S(pextrw_m, 16, cpu->ymm[i->reg].w[vex_imm8(i) & 7])
GEN_STORE_S(pextrd_m, 32, cpu->ymm[i->reg].d[vex_imm8(i) & 3])
GEN_STORE_S(pextrq_m, 64, get_q(cpu, i->reg, vex_imm8(i) & 1))

OP(insertps_r) {
    set_x(cpu, i->reg, do_insertps(get_x(cpu, i->reg), cpu->ymm[i->rm].d[vex_imm8(i) >> 6], vex_imm8(i)));
    NEXT(cpu, i);
}
GEN_LOAD_S(insertps_m, 32, set_x(cpu, i->reg, do_insertps(get_x(cpu, i->reg), v, vex_imm8(i))))

/* ---- general registers to memory, fences ---- */

OP(movnti) {
    st_w(cpu, i, i->seg, insn_ea(cpu, i), i->osz, cpu->regs[i->reg]);
    NEXT(cpu, i);
}
OP(fence) { /* LFENCE MFENCE SFENCE: the host orders what the guest must see ordered */
    atomic_thread_fence(memory_order_seq_cst);
    NEXT(cpu, i);
}
