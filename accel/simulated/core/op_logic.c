/* AND OR XOR TEST NOT.  AF, undefined after the first four, is cleared as Intel's processors do. */
#include "alu.h"

#define QUIET_and(a, b) ((a) & (b))
#define QUIET_or(a, b)  ((a) | (b))
#define QUIET_xor(a, b) ((a) ^ (b))

#define GEN_LOGIC(_, W)                                                                                                \
    static inline u##W do_and##W(sim_vcpu *cpu, u##W a, u##W b) {                                                      \
        u##W r = a & b;                                                                                                \
        FLAGS_LOGIC(cpu, s##W, r);                                                                                     \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_or##W(sim_vcpu *cpu, u##W a, u##W b) {                                                       \
        u##W r = a | b;                                                                                                \
        FLAGS_LOGIC(cpu, s##W, r);                                                                                     \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline u##W do_xor##W(sim_vcpu *cpu, u##W a, u##W b) {                                                      \
        u##W r = a ^ b;                                                                                                \
        FLAGS_LOGIC(cpu, s##W, r);                                                                                     \
        return r;                                                                                                      \
    }                                                                                                                  \
    static inline void do_test##W(sim_vcpu *cpu, u##W a, u##W b) { FLAGS_LOGIC(cpu, s##W, a &b); }                     \
    static inline u##W do_not##W(sim_vcpu *cpu, u##W a, u##W unused) {                                                 \
        (void)cpu;                                                                                                     \
        (void)unused;                                                                                                  \
        return (u##W) ~a;                                                                                              \
    }                                                                                                                  \
    GEN_ALU(and, W)                                                                                                    \
    GEN_ALU(or, W)                                                                                                     \
    GEN_ALU(xor, W)                                                                                                    \
    GEN_QUIET(and, W)                                                                                                  \
    GEN_QUIET(or, W)                                                                                                   \
    GEN_QUIET(xor, W)                                                                                                  \
    GEN_COMPARE(test, W)                                                                                               \
    GEN_UNARY(not, W)

ALL_WIDTHS(GEN_LOGIC, _)
