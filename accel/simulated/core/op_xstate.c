/* The processor's x87, SSE and AVX state as a whole: FXSAVE, FXRSTOR, the XSAVE family, XCR0, MXCSR; and the same
 * images for KVM_GET/SET_XSAVE.
 *
 * SDM volume 1, chapters 10.5 and 13.  A component counts as in use when it differs from its initial state.  The
 * "modified" optimization of XSAVEOPT and XSAVES, which a processor may do, is not done.
 */
#include <errno.h>
#include "fpu.h"
#include "vector.h"
#include "system.h"

#define LEGACY_SIZE 512
#define HEADER_AT   512
#define AVX_SIZE    (XSAVE_SIZE - XSAVE_AVX_AT)
#define COMPACTED   ((u64)1 << 63)
#define MXCSR_AT    24
#define ST_AT       32
#define XMM_AT      160
#define SUPPORTED   (XCR0_X87 | XCR0_SSE | XCR0_AVX)

/* The first 24 bytes: control, status, tags, opcode and the pointers, as 64-bit offsets or as selector and offset. */
static void put_x87_head(const sim_vcpu *cpu, u8 *to, bool wide) {
    const struct fpu *f = &cpu->fpu;
    memcpy(to, &f->fcw, 2);
    memcpy(to + 2, &f->fsw, 2);
    to[4] = f->ftw;
    to[5] = 0;
    memcpy(to + 6, &f->fop, 2);
    memcpy(to + 8, &f->fip, 8);
    memcpy(to + 16, &f->fdp, 8);
    if (!wide) {
        memcpy(to + 12, &f->fcs, 2);
        memset(to + 14, 0, 2);
        memcpy(to + 20, &f->fds, 2);
        memset(to + 22, 0, 2);
    }
}
static void put_x87_stack(const sim_vcpu *cpu, u8 *to) {
    unsigned top = cpu->fpu.fsw >> FPU_TOP_SHIFT & 7;
    memset(to, 0, 128);
    for (unsigned n = 0; n < 8; n++)
        memcpy(to + 16 * n, &cpu->fpu.st[(top + n) & 7], 10);
}
static void take_x87(sim_vcpu *cpu, const u8 *head, const u8 *stack, bool wide) {
    struct fpu *f = &cpu->fpu;
    memcpy(&f->fcw, head, 2);
    memcpy(&f->fsw, head + 2, 2);
    f->ftw = head[4];
    memcpy(&f->fop, head + 6, 2);
    f->fop &= 0x7ff;
    memcpy(&f->fip, head + 8, 8);
    memcpy(&f->fdp, head + 16, 8);
    f->fcs = f->fds = 0;
    if (wide) { /* linear addresses of 48 bits */
        f->fip = (u64)((s64)(f->fip << 16) >> 16);
        f->fdp = (u64)((s64)(f->fdp << 16) >> 16);
    } else {
        f->fip = (u32)f->fip;
        f->fdp = (u32)f->fdp;
        memcpy(&f->fcs, head + 12, 2);
        memcpy(&f->fds, head + 20, 2);
    }
    f->fcw = (f->fcw & 0x1f3f) | 0x40;
    for (unsigned n = 0, top = f->fsw >> FPU_TOP_SHIFT & 7; n < 8; n++)
        memcpy(&f->st[(top + n) & 7], stack + 16 * n, 10);
}
static void init_x87(sim_vcpu *cpu) {
    memset(&cpu->fpu, 0, sizeof cpu->fpu);
    cpu->fpu.fcw = FCW_INIT;
}

static u64 in_use(const sim_vcpu *cpu) {
    const struct fpu *f = &cpu->fpu;
    x128 low = _mm_setzero_si128(), high = low;
    u64 used = 0, st = 0;
    for (unsigned n = 0; n < 16; n++) {
        low = _mm_or_si128(low, get_x(cpu, n));
        high = _mm_or_si128(high, get_hi(cpu, n));
    }
    for (unsigned n = 0; n < 8; n++)
        st |= f->st[n].mant | f->st[n].exp;
    /* not by FCS and FDS, that the 64-bit image leaves out: what was written and read back is in use as before */
    if (st || f->fcw != FCW_INIT || f->fsw || f->ftw || f->fop || f->fip || f->fdp)
        used |= XCR0_X87;
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(low, _mm_setzero_si128())) != 0xffff)
        used |= XCR0_SSE;
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(high, _mm_setzero_si128())) != 0xffff)
        used |= XCR0_AVX;
    return used;
}

/* ---- the memory operand ---- */

struct area {
    sim_vcpu *cpu;
    const struct insn *i;
    u64 ea;
    u8 *host; /* when it is plain RAM within a page */
};

/* Check alignment and rights for all of it before anything moves. */
static struct area area_open(sim_vcpu *cpu, const struct insn *i, unsigned size, unsigned align, bool write) {
    struct area a = {cpu, i, insn_ea(cpu, i), NULL};
    mem_probe_aligned(cpu, i->seg, a.ea, size, align, write);
    if (mem_span(cpu, i->seg, a.ea, size, write, &a.host) != size)
        a.host = NULL;
    return a;
}
static void area_put(const struct area *a, unsigned at, const void *from, unsigned size) {
    if (a->host)
        memcpy(a->host + at, from, size);
    else
        mem_write_wide(a->cpu, a->i->seg, (a->ea + at) & width_mask(a->i->asz), size, 1, from);
}
static void area_get(const struct area *a, unsigned at, void *to, unsigned size) {
    if (a->host)
        memcpy(to, a->host + at, size);
    else
        mem_read_wide(a->cpu, a->i->seg, (a->ea + at) & width_mask(a->i->asz), size, 1, to);
}

/* Outside 64-bit code only the first eight XMM and YMM registers take part. */
static unsigned vector_registers(const sim_vcpu *cpu) { return cpu->mode == MODE64 ? 16 : 8; }

static void save_sse(sim_vcpu *cpu, const struct area *a) {
    u8 xmm[256];
    unsigned n = vector_registers(cpu);
    for (unsigned k = 0; k < n; k++)
        memcpy(xmm + 16 * k, &cpu->ymm[k], 16);
    area_put(a, XMM_AT, xmm, 16 * n);
}
static void save_mxcsr(sim_vcpu *cpu, const struct area *a) {
    u32 v[2] = {guest_mxcsr(cpu), MXCSR_BITS};
    area_put(a, MXCSR_AT, v, 8);
}
static void save_x87(sim_vcpu *cpu, const struct area *a, bool wide) {
    u8 head[24], stack[128];
    put_x87_head(cpu, head, wide);
    put_x87_stack(cpu, stack);
    area_put(a, 0, head, 24);
    area_put(a, ST_AT, stack, 128);
}
static void save_avx(sim_vcpu *cpu, const struct area *a) {
    u8 high[AVX_SIZE];
    unsigned n = vector_registers(cpu);
    for (unsigned k = 0; k < n; k++)
        memcpy(high + 16 * k, cpu->ymm[k].b + 16, 16);
    area_put(a, XSAVE_AVX_AT, high, 16 * n);
}
static void load_xmm(sim_vcpu *cpu, const u8 *from) {
    for (unsigned k = 0, n = vector_registers(cpu); k < n; k++)
        memcpy(&cpu->ymm[k], from + 16 * k, 16);
}
static void load_high(sim_vcpu *cpu, const u8 *from) {
    for (unsigned k = 0, n = vector_registers(cpu); k < n; k++)
        memcpy(cpu->ymm[k].b + 16, from + 16 * k, 16);
}

/* ---- FXSAVE, FXRSTOR ---- */

/* Bodies are functions of their own: a local whose address was given away would keep a handler from ending in a jump.
 */
static NOINLINE void fxsave(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    struct area a = area_open(cpu, i, LEGACY_SIZE, 16, true);
    save_x87(cpu, &a, i->osz == W64);
    save_mxcsr(cpu, &a);
    save_sse(cpu, &a);
}
static NOINLINE void fxrstor(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    struct area a = area_open(cpu, i, LEGACY_SIZE, 16, false);
    u8 image[416];
    u32 mxcsr;
    area_get(&a, 0, image, sizeof image);
    memcpy(&mxcsr, image + MXCSR_AT, 4);
    if (mxcsr & ~MXCSR_BITS)
        raise_gp0(cpu);
    take_x87(cpu, image, image + ST_AT, i->osz == W64);
    x87_changed(cpu);
    set_guest_mxcsr(cpu, mxcsr);
    load_xmm(cpu, image + XMM_AT);
}
OP(fxsave) {
    fxsave(cpu, i);
    NEXT(cpu, i);
}
OP(fxrstor) {
    fxrstor(cpu, i);
    NEXT(cpu, i);
}

/* ---- XSAVE and its kin ---- */

static u64 requested(const sim_vcpu *cpu) { return cpu->xcr0 & ((u64)get32(cpu, RDX) << 32 | get32(cpu, RAX)); }
unsigned xsave_size(u64 components) { return components & XCR0_AVX ? XSAVE_AVX_AT + AVX_SIZE : XSAVE_AVX_AT; }

static void save_components(sim_vcpu *cpu, const struct insn *i, const struct area *a, u64 which) {
    if (which & XCR0_X87)
        save_x87(cpu, a, i->osz == W64);
    if (which & XCR0_SSE)
        save_sse(cpu, a);
    if (which & XCR0_AVX)
        save_avx(cpu, a);
}

/* Standard form: components outside `wanted` and their bits stay as they are in memory. */
static NOINLINE void save_standard(sim_vcpu *cpu, const struct insn *i, bool only_used) {
    BEGIN(cpu, i);
    u64 wanted = requested(cpu), used = in_use(cpu), present;
    struct area a = area_open(cpu, i, xsave_size(wanted), 64, true);
    area_get(&a, HEADER_AT, &present, 8);
    save_components(cpu, i, &a, only_used ? wanted & used : wanted);
    if (wanted & (XCR0_SSE | XCR0_AVX))
        save_mxcsr(cpu, &a);
    present = (present & ~wanted) | (wanted & used);
    area_put(&a, HEADER_AT, &present, 8);
}
OP(xsave) {
    save_standard(cpu, i, false);
    NEXT(cpu, i);
}
OP(xsaveopt) {
    save_standard(cpu, i, true);
    NEXT(cpu, i);
}

/* AVX is the only component behind the header, so the compacted form has it in the same place. */
static NOINLINE void save_compacted(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    u64 wanted = requested(cpu), used = in_use(cpu), header[2];
    if (guest_mxcsr(cpu) != MXCSR_INIT)
        used |= XCR0_SSE;
    struct area a = area_open(cpu, i, xsave_size(wanted), 64, true);
    save_components(cpu, i, &a, wanted & used);
    if (wanted & used & XCR0_SSE)
        save_mxcsr(cpu, &a);
    header[0] = wanted & used;
    header[1] = wanted | COMPACTED;
    area_put(&a, HEADER_AT, header, sizeof header);
}
OP(xsavec) {
    save_compacted(cpu, i);
    NEXT(cpu, i);
}
OP(xsaves) {
    BEGIN(cpu, i);
    if (cpu->cpl)
        raise_gp0(cpu);
    save_compacted(cpu, i);
    NEXT(cpu, i);
}

static NOINLINE void restore(sim_vcpu *cpu, const struct insn *i, bool compacted_only) {
    u64 wanted = requested(cpu), header[8];
    struct area a = area_open(cpu, i, XSAVE_AVX_AT, 64, false);
    u8 image[416], high[AVX_SIZE];
    u32 mxcsr = MXCSR_INIT;
    area_get(&a, HEADER_AT, header, sizeof header);
    u64 present = header[0];
    bool compacted = (header[1] & COMPACTED) != 0, bad;
    if (compacted) {
        bad = !has_feature(cpu, FEAT_XSAVEC) || (header[1] & ~COMPACTED & ~cpu->xcr0) || (present & ~header[1]);
        for (unsigned n = 2; n < 8; n++)
            bad |= header[n] != 0;
    } else
        bad = compacted_only || (present & ~cpu->xcr0) || header[1] || header[2];
    if (bad || (present & COMPACTED))
        raise_gp0(cpu);
    area_get(&a, 0, image, sizeof image);
    bool load_mxcsr = compacted ? (wanted & present & XCR0_SSE) != 0 : (wanted & (XCR0_SSE | XCR0_AVX)) != 0;
    bool set_mxcsr = load_mxcsr || (compacted && (wanted & XCR0_SSE));
    if (load_mxcsr) {
        memcpy(&mxcsr, image + MXCSR_AT, 4);
        if (mxcsr & ~MXCSR_BITS)
            raise_gp0(cpu);
    }
    memset(high, 0, sizeof high);
    if (wanted & present & XCR0_AVX) {
        mem_probe(cpu, i->seg, (a.ea + XSAVE_AVX_AT) & width_mask(i->asz), 16 * vector_registers(cpu), false);
        a.host = NULL; /* it goes no further than the header */
        area_get(&a, XSAVE_AVX_AT, high, 16 * vector_registers(cpu));
    }
    if (wanted & XCR0_X87) {
        if (present & XCR0_X87)
            take_x87(cpu, image, image + ST_AT, i->osz == W64);
        else
            init_x87(cpu);
        x87_changed(cpu);
    }
    if (wanted & XCR0_SSE) {
        if (!(present & XCR0_SSE))
            memset(image + XMM_AT, 0, 256);
        load_xmm(cpu, image + XMM_AT);
    }
    if (set_mxcsr)
        set_guest_mxcsr(cpu, mxcsr);
    if (wanted & XCR0_AVX)
        load_high(cpu, high);
}
OP(xrstor) {
    BEGIN(cpu, i);
    restore(cpu, i, false);
    NEXT(cpu, i);
}
OP(xrstors) {
    BEGIN(cpu, i);
    if (cpu->cpl)
        raise_gp0(cpu);
    restore(cpu, i, true);
    NEXT(cpu, i);
}

/* ---- XCR0, MXCSR ---- */

OP(xgetbv) {
    BEGIN(cpu, i);
    u32 index = get32(cpu, RCX);
    if (index > 1 || (index == 1 && !has_feature(cpu, FEAT_XGETBV1)))
        raise_gp0(cpu);
    u64 v = index ? cpu->xcr0 & (in_use(cpu) | (guest_mxcsr(cpu) != MXCSR_INIT ? XCR0_SSE : 0)) : cpu->xcr0;
    cpu->regs[RAX] = (u32)v;
    cpu->regs[RDX] = v >> 32;
    NEXT(cpu, i);
}
OP(xsetbv) {
    BEGIN(cpu, i);
    if (cpu->cpl)
        raise_gp0(cpu);
    vm_exit(cpu, EXIT_REASON_XSETBV);
}
bool set_xcr0(sim_vcpu *cpu, u64 value) {
    if (!(value & XCR0_X87) || (value & ~(u64)xcr0_allowed(cpu)) || ((value & XCR0_AVX) && !(value & XCR0_SSE)))
        return false;
    cpu->xcr0 = value;
    cpu_mode_changed(cpu);
    return true;
}
u32 xcr0_allowed(sim_vcpu *cpu) {
    u32 out[4];
    if (!has_feature(cpu, FEAT_XSAVE))
        return XCR0_X87;
    cpuid_lookup(cpu, 13, 0, out);
    return (out[0] & SUPPORTED) | XCR0_X87;
}

OP(ldmxcsr) {
    u32 v = ld32(cpu, i, i->seg, insn_ea(cpu, i));
    if (v & ~MXCSR_BITS) {
        BEGIN(cpu, i);
        raise_gp0(cpu);
    }
    set_guest_mxcsr(cpu, v);
    NEXT(cpu, i);
}
OP(stmxcsr) {
    st32(cpu, i, i->seg, insn_ea(cpu, i), guest_mxcsr(cpu));
    NEXT(cpu, i);
}

/* ---- for user space: the standard form with everything, the guest standing still ---- */

void xsave_export(sim_vcpu *cpu, u8 *to) {
    u64 present = in_use(cpu);
    u32 mxcsr[2] = {cpu->mxcsr, MXCSR_BITS};
    if (cpu->mxcsr != MXCSR_INIT)
        present |= XCR0_SSE;
    put_x87_head(cpu, to, true);
    memcpy(to + MXCSR_AT, mxcsr, 8);
    put_x87_stack(cpu, to + ST_AT);
    for (unsigned n = 0; n < 16; n++) {
        memcpy(to + XMM_AT + 16 * n, &cpu->ymm[n], 16);
        memcpy(to + XSAVE_AVX_AT + 16 * n, cpu->ymm[n].b + 16, 16);
    }
    memcpy(to + HEADER_AT, &present, 8);
}
long xsave_import(sim_vcpu *cpu, const u8 *from) {
    u64 header[2];
    u32 mxcsr;
    memcpy(header, from + HEADER_AT, sizeof header);
    memcpy(&mxcsr, from + MXCSR_AT, 4);
    if ((header[0] & ~(u64)SUPPORTED) || header[1] || (mxcsr & ~MXCSR_BITS))
        return -EINVAL;
    if (header[0] & XCR0_X87)
        take_x87(cpu, from, from + ST_AT, true);
    else
        init_x87(cpu);
    for (unsigned n = 0; n < 16; n++) {
        memset(&cpu->ymm[n], 0, sizeof cpu->ymm[n]);
        if (header[0] & XCR0_SSE)
            memcpy(&cpu->ymm[n], from + XMM_AT + 16 * n, 16);
        if (header[0] & XCR0_AVX)
            memcpy(cpu->ymm[n].b + 16, from + XSAVE_AVX_AT + 16 * n, 16);
    }
    cpu->mxcsr = header[0] & (XCR0_SSE | XCR0_AVX) ? mxcsr : MXCSR_INIT;
    return 0;
}
