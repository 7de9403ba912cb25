/* ADD ADC SUB SBB CMP INC DEC NEG XADD CMPXCHG CMPXCHG8B CMPXCHG16B. */
#include "alu.h"

u64 rmw_slow(sim_vcpu *cpu, const struct insn *i, u64 ea, unsigned size, void *p, u64 b, rmw_fn fn) {
    s64 res = cpu->cc_res, new_res;
    u32 oca = cpu->cc_oca, new_oca;
    u64 a, r;

    if (p) { /* LOCK on plain RAM */
        for (;;) {
            bool done;
            switch (size) {
#define CASE(W)                                                                                                        \
    case W / 8: {                                                                                                      \
        typedef u##W __attribute__((aligned(1))) unaligned;                                                            \
        u##W old = __atomic_load_n((unaligned *)p, __ATOMIC_RELAXED);                                                  \
        a = old;                                                                                                       \
        r = fn(cpu, a, b);                                                                                             \
        done = __atomic_compare_exchange_n((unaligned *)p, &old, (u##W)r, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);  \
        break;                                                                                                         \
    }
                CASE(8)
                CASE(16)
                CASE(32)
            default:
                CASE(64)
#undef CASE
            }
            if (done)
                return a;
            cpu->cc_res = res;
            cpu->cc_oca = oca;
        }
    }
    /* Two pages, or a device. */
    bool locked = split_lock(cpu, i->seg, ea, size);
    a = mem_read_slow(cpu, i->seg, ea, size);
    r = fn(cpu, a, b);
    new_res = cpu->cc_res;
    new_oca = cpu->cc_oca;
    cpu->cc_res = res;
    cpu->cc_oca = oca;
    mem_write_slow(cpu, i->seg, ea, size, r);
    split_unlock(cpu, locked);
    cpu->cc_res = new_res;
    cpu->cc_oca = new_oca;
    return a;
}

/* CMPXCHG and CMPXCHG8B where rmw_ptr() said NULL: what was there. */
static NOINLINE u64 exchange_slow(sim_vcpu *cpu, const struct insn *i, u64 ea, unsigned size, u64 expected, u64 fresh) {
    bool locked = split_lock(cpu, i->seg, ea, size);
    u64 a = mem_read_slow(cpu, i->seg, ea, size);
    mem_write_slow(cpu, i->seg, ea, size, a == expected ? fresh : a);
    split_unlock(cpu, locked);
    return a;
}

#define QUIET_add(a, b) ((a) + (b))
#define QUIET_sub(a, b) ((a) - (b))

#define GEN_ARITH(_, W)                                                                                                \
    static inline u##W do_add##W(sim_vcpu *cpu, u##W a, u##W b) {                                                      \
        u##W r = (u##W)(a + b);                                                                                        \
        FLAGS_ADD(cpu, u##W, s##W, a, b, r, 0);                                                                        \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_adc##W(sim_vcpu *cpu, u##W a, u##W b) {                                                      \
        u32 c = get_cf(cpu);                                                                                           \
        u##W r = (u##W)(a + b + c);                                                                                    \
        FLAGS_ADD(cpu, u##W, s##W, a, b, r, c);                                                                        \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_sub##W(sim_vcpu *cpu, u##W a, u##W b) {                                                      \
        u##W r = (u##W)(a - b);                                                                                        \
        FLAGS_SUB(cpu, u##W, s##W, a, b, r, 0);                                                                        \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_sbb##W(sim_vcpu *cpu, u##W a, u##W b) {                                                      \
        u32 c = get_cf(cpu);                                                                                           \
        u##W r = (u##W)(a - b - c);                                                                                    \
        FLAGS_SUB(cpu, u##W, s##W, a, b, r, c);                                                                        \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline void do_cmp##W(sim_vcpu *cpu, u##W a, u##W b) { do_sub##W(cpu, a, b); }                              \
    static inline u##W do_inc##W(sim_vcpu *cpu, u##W a, u##W unused) {                                                 \
        u##W r = (u##W)(a + 1u);                                                                                       \
        (void)unused;                                                                                                  \
        cpu->cc_oca = (cpu->cc_oca & FL_CF) | ((u32)(a ^ r) & FL_AF) | (r == (u##W)1 << (W - 1) ? FL_OF : 0);          \
        cpu->cc_res = (s##W)r;                                                                                         \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_dec##W(sim_vcpu *cpu, u##W a, u##W unused) {                                                 \
        u##W r = (u##W)(a - 1u);                                                                                       \
        (void)unused;                                                                                                  \
        cpu->cc_oca = (cpu->cc_oca & FL_CF) | ((u32)(a ^ r) & FL_AF) | (a == (u##W)1 << (W - 1) ? FL_OF : 0);          \
        cpu->cc_res = (s##W)r;                                                                                         \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_neg##W(sim_vcpu *cpu, u##W a, u##W unused) {                                                 \
        (void)unused;                                                                                                  \
        return do_sub##W(cpu, 0, a);                                                                                   \
    }                                                                                                                  \
    GEN_ALU(add, W)                                                                                                    \
    GEN_ALU(adc, W)                                                                                                    \
    GEN_ALU(sub, W)                                                                                                    \
    GEN_ALU(sbb, W)                                                                                                    \
    GEN_COMPARE(cmp, W)                                                                                                \
    OP(cmp_GE_r##W) {                                                                                                  \
        do_cmp##W(cpu, RD##W(i->reg), RD##W(i->rm));                                                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD(cmp_GE_m##W, W, do_cmp##W(cpu, RD##W(i->reg), v))                                                         \
    GEN_QUIET(add, W)                                                                                                  \
    GEN_QUIET(sub, W)                                                                                                  \
    OP(inc_q##W) {                                                                                                     \
        WR##W(i->rm, (u##W)(RD##W(i->rm) + 1u));                                                                       \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(dec_q##W) {                                                                                                     \
        WR##W(i->rm, (u##W)(RD##W(i->rm) - 1u));                                                                       \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_UNARY(inc, W)                                                                                                  \
    GEN_UNARY(dec, W)                                                                                                  \
    GEN_UNARY(neg, W)                                                                                                  \
    OP(xadd_r##W) {                                                                                                    \
        u##W a = RD##W(i->rm), b = RD##W(i->reg), r = do_add##W(cpu, a, b);                                            \
        WR##W(i->reg, a);                                                                                              \
        WR##W(i->rm, r);                                                                                               \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(xadd_m##W) {                                                                                                    \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        u##W a, b = RD##W(i->reg), r;                                                                                  \
        u8 *p = rmw_ptr(cpu, i, i->seg, ea, W / 8);                                                                    \
        if (likely(p != NULL && !(i->flags & IF_LOCK))) {                                                              \
            memcpy(&a, p, W / 8);                                                                                      \
            r = do_add##W(cpu, a, b);                                                                                  \
            memcpy(p, &r, W / 8);                                                                                      \
        } else                                                                                                         \
            a = (u##W)rmw_slow(cpu, i, ea, W / 8, p, b, fn_add##W);                                                    \
        WR##W(i->reg, a);                                                                                              \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(cmpxchg_r##W) {                                                                                                 \
        u##W a = RD##W(i->rm), acc = RD##W(RAX);                                                                       \
        do_cmp##W(cpu, acc, a);                                                                                        \
        if (acc == a)                                                                                                  \
            WR##W(i->rm, RD##W(i->reg));                                                                               \
        else                                                                                                           \
            WR##W(RAX, a);                                                                                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(cmpxchg_m##W) {                                                                                                 \
        typedef u##W __attribute__((aligned(1))) unaligned;                                                            \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        u##W acc = RD##W(RAX), a = acc, b = RD##W(i->reg);                                                             \
        u8 *p = rmw_ptr(cpu, i, i->seg, ea, W / 8);                                                                    \
        if (likely(p != NULL)) {                                                                                       \
            __atomic_compare_exchange_n((unaligned *)p, &a, b, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);             \
        } else {                                                                                                       \
            a = (u##W)exchange_slow(cpu, i, ea, W / 8, acc, b);                                                        \
        }                                                                                                              \
        do_cmp##W(cpu, acc, a);                                                                                        \
        if (acc != a)                                                                                                  \
            WR##W(RAX, a);                                                                                             \
        NEXT(cpu, i);                                                                                                  \
    }

ALL_WIDTHS(GEN_ARITH, _)

static void set_zf(sim_vcpu *cpu, bool zf) { set_arith_flags(cpu, (get_arith_flags(cpu) & ~FL_ZF) | (zf ? FL_ZF : 0)); }

OP(cmpxchg8b) {
    typedef u64 __attribute__((aligned(1))) unaligned;
    u64 ea = insn_ea(cpu, i), acc = RD32(RAX) | (u64)RD32(RDX) << 32, a = acc, b = RD32(RBX) | (u64)RD32(RCX) << 32;
    u8 *p = rmw_ptr(cpu, i, i->seg, ea, 8);
    if (p)
        __atomic_compare_exchange_n((unaligned *)p, &a, b, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    else
        a = exchange_slow(cpu, i, ea, 8, acc, b);
    set_zf(cpu, a == acc);
    if (a != acc) {
        WR32(RAX, a);
        WR32(RDX, a >> 32);
    }
    NEXT(cpu, i);
}

/* Baseline x86-64 lacks it, every processor made since 2006 has it: the host's own, on its own. */
static bool exchange16(u8 *p, u64 *lo, u64 *hi, u64 new_lo, u64 new_hi) {
    typedef struct {
        u64 half[2];
    } pair;
    bool same;
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(same), "+m"(*(pair *)(void *)p), "+a"(*lo), "+d"(*hi)
                     : "b"(new_lo), "c"(new_hi)
                     : "memory");
    return same;
}

OP(cmpxchg16b) {
    u64 ea = insn_ea(cpu, i), lo = cpu->regs[RAX], hi = cpu->regs[RDX];
    bool same;
    BEGIN(cpu, i);
    if ((cpu->seg[i->seg].fbase + ea) & 15)
        raise_gp0(cpu);
    u8 *p = rmw_ptr(cpu, i, i->seg, ea, 16);
    if (p)
        same = exchange16(p, &lo, &hi, cpu->regs[RBX], cpu->regs[RCX]);
    else { /* a device */
        lo = mem_read_slow(cpu, i->seg, ea, 8);
        hi = mem_read_slow(cpu, i->seg, ea + 8, 8);
        same = lo == cpu->regs[RAX] && hi == cpu->regs[RDX];
        mem_write_slow(cpu, i->seg, ea, 8, same ? cpu->regs[RBX] : lo);
        mem_write_slow(cpu, i->seg, ea + 8, 8, same ? cpu->regs[RCX] : hi);
    }
    if (!same) {
        cpu->regs[RAX] = lo;
        cpu->regs[RDX] = hi;
    }
    set_zf(cpu, same);
    NEXT(cpu, i);
}
