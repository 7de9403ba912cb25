/* What handlers of vector instructions share: registers, operands, 16 and 32-byte accesses, generators.
 *
 * A handler has the forms  <name>_r and <name>_m   legacy SSE: destination and first source are ModRM.reg
 *                          v<name>_r, v<name>_m    VEX.128: first source is vvvv, the upper half becomes 0
 *                          y<name>_r, y<name>_m    VEX.256
 *                          p<name>_r, p<name>_m    MMX registers
 * The decoder has checked the encoding, the code cache the availability.  MMX handlers check for a pending #MF.
 */
#ifndef SIM_VECTOR_H
#define SIM_VECTOR_H
#include <emmintrin.h>
#include "access.h"
#include "ops.h"

/* Lanes of a 16-byte value: GCC's and clang's vector types.  V(u8, x) is x as lanes of that type. */
#define LANES(T, name) typedef T name __attribute__((vector_size(16), may_alias));
LANES(u8, v_u8)
LANES(s8, v_s8)
LANES(u16, v_u16)
LANES(s16, v_s16)
LANES(u32, v_u32)
LANES(s32, v_s32)
LANES(u64, v_u64)
LANES(s64, v_s64)
LANES(float, v_f32)
LANES(double, v_f64)
#undef LANES
typedef __m128i x128;
struct y256 {
    x128 lo, hi;
};

/* Registers.  Reading by value, so that a destination may be a source, too. */
static inline x128 get_x(const sim_vcpu *cpu, unsigned n) { return _mm_load_si128((const x128 *)&cpu->ymm[n]); }
static inline void set_x(sim_vcpu *cpu, unsigned n, x128 v) { _mm_store_si128((x128 *)&cpu->ymm[n], v); } /* legacy */
static inline x128 get_hi(const sim_vcpu *cpu, unsigned n) { return _mm_load_si128((const x128 *)&cpu->ymm[n] + 1); }
static inline void set_vx(sim_vcpu *cpu, unsigned n, x128 v) { /* VEX.128 */
    set_x(cpu, n, v);
    _mm_store_si128((x128 *)&cpu->ymm[n] + 1, _mm_setzero_si128());
}
static inline struct y256 get_y(const sim_vcpu *cpu, unsigned n) {
    return (struct y256){get_x(cpu, n), get_hi(cpu, n)};
}
static inline void set_y(sim_vcpu *cpu, unsigned n, struct y256 v) {
    set_x(cpu, n, v.lo);
    _mm_store_si128((x128 *)&cpu->ymm[n] + 1, v.hi);
}
static inline unsigned vex_vvvv(const struct insn *i) { return i->imm >> 8 & 15; }
static inline u8 vex_imm8(const struct insn *i) { return (u8)i->imm; }

/* MMX: the mantissas of the physical registers.  mmx_use() before reading operands (it may raise #MF), mmx_state() when
 * nothing can fault any more: TOP becomes 0, no register is empty. */
static inline void mmx_use(sim_vcpu *cpu, const struct insn *i) {
    if (unlikely(cpu->fpu.fsw & FSW_ES)) {
        BEGIN(cpu, i);
        raise_mf(cpu);
    }
}
static inline void mmx_top(sim_vcpu *cpu) { cpu->fpu.fsw &= (u16) ~(7u << FPU_TOP_SHIFT); }
static inline void mmx_state(sim_vcpu *cpu) {
    mmx_top(cpu);
    cpu->fpu.ftw = 0xff;
}
static inline u64 get_mm(const sim_vcpu *cpu, unsigned n) { return cpu->fpu.st[n].mant; }
static inline void set_mm(sim_vcpu *cpu, unsigned n, u64 v) {
    cpu->fpu.st[n].mant = v;
    cpu->fpu.st[n].exp = 0xffff;
}

/* ---- 16 and 32-byte accesses ----
 * align 16 or 32: #GP(0) when the linear address is not a multiple; 1: any address. */
static inline const u8 *hit_read_aligned(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, unsigned align) {
    const u8 *p = hit_read(cpu, seg, ea, size);
    return likely(((uintptr_t)p & (align - 1)) == 0) ? p : NULL; /* pages are aligned alike in guest and host */
}
static inline u8 *hit_write_aligned(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, unsigned align) {
    u8 *p = hit_write(cpu, seg, ea, size);
    return likely(((uintptr_t)p & (align - 1)) == 0) ? p : NULL;
}
static inline x128 ld128(sim_vcpu *cpu, const struct insn *i, unsigned seg, u64 ea, unsigned align) {
    const u8 *p = hit_read_aligned(cpu, seg, ea, 16, align);
    x128 v;
    if (likely(p != NULL))
        return _mm_loadu_si128((const x128 *)(const void *)p);
    cpu->cur = i;
    mem_read_wide(cpu, seg, ea, 16, align, &v);
    return v;
}
static inline void st128(sim_vcpu *cpu, const struct insn *i, unsigned seg, u64 ea, unsigned align, x128 v) {
    u8 *p = hit_write_aligned(cpu, seg, ea, 16, align);
    if (likely(p != NULL)) {
        _mm_storeu_si128((x128 *)(void *)p, v);
        return;
    }
    cpu->cur = i;
    mem_write_wide(cpu, seg, ea, 16, align, &v);
}
static inline struct y256 ld256(sim_vcpu *cpu, const struct insn *i, unsigned seg, u64 ea, unsigned align) {
    const u8 *p = hit_read_aligned(cpu, seg, ea, 32, align);
    struct y256 v;
    if (likely(p != NULL))
        return (struct y256){_mm_loadu_si128((const x128 *)(const void *)p),
                             _mm_loadu_si128((const x128 *)(const void *)(p + 16))};
    cpu->cur = i;
    mem_read_wide(cpu, seg, ea, 32, align, &v);
    return v;
}
static inline void st256(sim_vcpu *cpu, const struct insn *i, unsigned seg, u64 ea, unsigned align, struct y256 v) {
    u8 *p = hit_write_aligned(cpu, seg, ea, 32, align);
    if (likely(p != NULL)) {
        _mm_storeu_si128((x128 *)(void *)p, v.lo);
        _mm_storeu_si128((x128 *)(void *)(p + 16), v.hi);
        return;
    }
    cpu->cur = i;
    mem_write_wide(cpu, seg, ea, 32, align, &v);
}

/* op_sse_move.c: MASKMOVQ and MASKMOVDQU.  BEGIN first. */
void masked_bytes(sim_vcpu *cpu, const struct insn *i, const u8 *from, u32 mask, unsigned n);
/* INSERTPS: element v goes where the immediate says, and zeros. */
static inline x128 do_insertps(x128 a, u32 v, unsigned imm) {
    union {
        x128 x;
        u32 d[4];
    } to = {.x = a};
    to.d[imm >> 4 & 3] = v;
    for (unsigned k = 0; k < 4; k++)
        if (imm >> k & 1)
            to.d[k] = 0;
    return to.x;
}

/* ---- generators ----
 * The slow path of a memory form is a function of its own, so that the handler needs no stack frame. */

/* op_<fullname>: x is the 16-byte memory operand. */
#define GEN_LOAD_X(fullname, ALIGN, USE)                                                                               \
    static NOINLINE void slow_##fullname(sim_vcpu *cpu, const struct insn *i) {                                        \
        x128 x = ld128(cpu, i, i->seg, insn_ea(cpu, i), ALIGN);                                                        \
        USE;                                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(fullname) {                                                                                                     \
        const u8 *p = hit_read_aligned(cpu, i->seg, insn_ea(cpu, i), 16, ALIGN);                                       \
        if (unlikely(p == NULL)) {                                                                                     \
            slow_##fullname(cpu, i);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        x128 x = _mm_loadu_si128((const x128 *)(const void *)p);                                                       \
        USE;                                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_STORE_X(fullname, ALIGN, VALUE)                                                                            \
    static NOINLINE void slow_##fullname(sim_vcpu *cpu, const struct insn *i) {                                        \
        st128(cpu, i, i->seg, insn_ea(cpu, i), ALIGN, VALUE);                                                          \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(fullname) {                                                                                                     \
        u8 *p = hit_write_aligned(cpu, i->seg, insn_ea(cpu, i), 16, ALIGN);                                            \
        if (unlikely(p == NULL)) {                                                                                     \
            slow_##fullname(cpu, i);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        _mm_storeu_si128((x128 *)(void *)p, VALUE);                                                                    \
        NEXT(cpu, i);                                                                                                  \
    }
/* A load of W bits with a slow path of its own, and a store. */
#define GEN_LOAD_S(fullname, W, USE)                                                                                   \
    static NOINLINE void slow_##fullname(sim_vcpu *cpu, const struct insn *i) {                                        \
        u##W v = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        USE;                                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(fullname) {                                                                                                     \
        const u8 *p = hit_read(cpu, i->seg, insn_ea(cpu, i), W / 8);                                                   \
        u##W v;                                                                                                        \
        if (unlikely(p == NULL)) {                                                                                     \
            slow_##fullname(cpu, i);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(&v, p, W / 8);                                                                                          \
        USE;                                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_STORE_S(fullname, W, VALUE)                                                                                \
    static NOINLINE void slow_##fullname(sim_vcpu *cpu, const struct insn *i) {                                        \
        st##W(cpu, i, i->seg, insn_ea(cpu, i), VALUE);                                                                 \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(fullname) {                                                                                                     \
        u8 *p = hit_write(cpu, i->seg, insn_ea(cpu, i), W / 8);                                                        \
        u##W v = VALUE;                                                                                                \
        if (unlikely(p == NULL)) {                                                                                     \
            slow_##fullname(cpu, i);                                                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(p, &v, W / 8);                                                                                          \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_LOAD_Y(fullname, ALIGN, USE)                                                                               \
    OP(fullname) {                                                                                                     \
        struct y256 y = ld256(cpu, i, i->seg, insn_ea(cpu, i), ALIGN);                                                 \
        USE;                                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_STORE_Y(fullname, ALIGN, VALUE)                                                                            \
    OP(fullname) {                                                                                                     \
        st256(cpu, i, i->seg, insn_ea(cpu, i), ALIGN, VALUE);                                                          \
        NEXT(cpu, i);                                                                                                  \
    }

/* Destination = f(first source, second source), 16-byte lanes one by one.  EXPR computes it from x128 a and b. */
#define GEN_BINARY_FN(name, EXPR)                                                                                      \
    static inline x128 do_##name(x128 a, x128 b) { return (x128)(EXPR); }
#define GEN_BINARY_SSE(name)                                                                                           \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, do_##name(get_x(cpu, i->reg), get_x(cpu, i->rm)));                                          \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(name##_m, 16, set_x(cpu, i->reg, do_##name(get_x(cpu, i->reg), x)))
#define GEN_BINARY_AVX(name)                                                                                           \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, do_##name(get_x(cpu, vex_vvvv(i)), get_x(cpu, i->rm)));                                    \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(v##name##_m, 1, set_vx(cpu, i->reg, do_##name(get_x(cpu, vex_vvvv(i)), x)))                             \
    OP(y##name##_r) {                                                                                                  \
        struct y256 a = get_y(cpu, vex_vvvv(i)), b = get_y(cpu, i->rm);                                                \
        set_y(cpu, i->reg, (struct y256){do_##name(a.lo, b.lo), do_##name(a.hi, b.hi)});                               \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(y##name##_m) {                                                                                                  \
        struct y256 b = ld256(cpu, i, i->seg, insn_ea(cpu, i), 1), a = get_y(cpu, vex_vvvv(i));                        \
        set_y(cpu, i->reg, (struct y256){do_##name(a.lo, b.lo), do_##name(a.hi, b.hi)});                               \
        NEXT(cpu, i);                                                                                                  \
    }
/* The MMX form of the same: the low 8 bytes of the lanes. */
#define GEN_BINARY_MMX(name)                                                                                           \
    OP(p##name##_r) {                                                                                                  \
        mmx_use(cpu, i);                                                                                               \
        x128 a = _mm_cvtsi64_si128((s64)get_mm(cpu, i->reg)), b = _mm_cvtsi64_si128((s64)get_mm(cpu, i->rm));          \
        mmx_state(cpu);                                                                                                \
        set_mm(cpu, i->reg, (u64)_mm_cvtsi128_si64(do_##name(a, b)));                                                  \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(p##name##_m) {                                                                                                  \
        mmx_use(cpu, i);                                                                                               \
        x128 b = _mm_cvtsi64_si128((s64)ld64(cpu, i, i->seg, insn_ea(cpu, i)));                                        \
        x128 a = _mm_cvtsi64_si128((s64)get_mm(cpu, i->reg));                                                          \
        mmx_state(cpu);                                                                                                \
        set_mm(cpu, i->reg, (u64)_mm_cvtsi128_si64(do_##name(a, b)));                                                  \
        NEXT(cpu, i);                                                                                                  \
    }

#endif
