/* MOV XCHG MOVZX MOVSX MOVSXD LEA CMOVcc SETcc BSWAP CBW CWD XLAT LAHF SAHF NOP PAUSE and the flag instructions. */
#include <sched.h>
#include "alu.h"

static u64 fn_take(sim_vcpu *cpu, u64 a, u64 b) {
    (void)cpu;
    (void)a;
    return b;
}

/* XCHG with memory locks by itself. */
static inline u64 exchange(sim_vcpu *cpu, const struct insn *i, unsigned size, u64 b) {
    u64 ea = insn_ea(cpu, i);
    return rmw_slow(cpu, i, ea, size, rmw_ptr(cpu, i, i->seg, ea, size), b, fn_take);
}

#define GEN_MOV(_, W)                                                                                                  \
    OP(mov_EG_r##W) {                                                                                                  \
        WR##W(i->rm, RD##W(i->reg));                                                                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(mov_GE_r##W) {                                                                                                  \
        WR##W(i->reg, RD##W(i->rm));                                                                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(mov_EI_r##W) {                                                                                                  \
        WR##W(i->rm, i->imm);                                                                                          \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_STORE(mov_EG_m##W, W, RD##W(i->reg))                                                                           \
    GEN_LOAD(mov_GE_m##W, W, WR##W(i->reg, v))                                                                         \
    GEN_STORE(mov_EI_m##W, W, i->imm)                                                                                  \
    /* A0..A3: in the table the memory operand is a (OA: store) or a (AO: load) */                                     \
    OP(mov_AO_m##W) {                                                                                                  \
        u##W v = ld##W(cpu, i, i->seg, i->imm);                                                                        \
        WR##W(RAX, v);                                                                                                 \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(mov_OA_m##W) {                                                                                                  \
        st##W(cpu, i, i->seg, i->imm, RD##W(RAX));                                                                     \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(xchg_r##W) {                                                                                                    \
        u##W a = RD##W(i->rm), b = RD##W(i->reg);                                                                      \
        WR##W(i->rm, b);                                                                                               \
        WR##W(i->reg, a);                                                                                              \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(xchg_m##W) {                                                                                                    \
        u##W a = (u##W)exchange(cpu, i, W / 8, RD##W(i->reg));                                                         \
        WR##W(i->reg, a);                                                                                              \
        NEXT(cpu, i);                                                                                                  \
    }
ALL_WIDTHS(GEN_MOV, _)

#define GEN_WORD(_, W)                                                                                                 \
    OP(movzx8_r##W) {                                                                                                  \
        WR##W(i->reg, RD8(i->rm));                                                                                     \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD(movzx8_m##W, 8, WR##W(i->reg, v))                                                                         \
    OP(movzx16_r##W) {                                                                                                 \
        WR##W(i->reg, RD16(i->rm));                                                                                    \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD(movzx16_m##W, 16, WR##W(i->reg, v))                                                                       \
    OP(movsx8_r##W) {                                                                                                  \
        WR##W(i->reg, (u64)(s8)RD8(i->rm));                                                                            \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD(movsx8_m##W, 8, WR##W(i->reg, (u64)(s8)v))                                                                \
    OP(movsx16_r##W) {                                                                                                 \
        WR##W(i->reg, (u64)(s16)RD16(i->rm));                                                                          \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD(movsx16_m##W, 16, WR##W(i->reg, (u64)(s16)v))                                                             \
    OP(movsx32_r##W) {                                                                                                 \
        WR##W(i->reg, (u64)(s32)RD32(i->rm));                                                                          \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD(movsx32_m##W, 32, WR##W(i->reg, (u64)(s32)v))                                                             \
    OP(lea##W) {                                                                                                       \
        WR##W(i->reg, insn_ea(cpu, i));                                                                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(lea##W##_f) {                                                                                                   \
        WR##W(i->reg, flat_ea(cpu, i));                                                                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(lea##W##_b) {                                                                                                   \
        WR##W(i->reg, based_ea(cpu, i));                                                                               \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    /* the source is read, and a 32-bit destination zero-extended, whether or not the condition holds */               \
    OP(cmov_r##W) {                                                                                                    \
        u##W v = RD##W(i->rm);                                                                                         \
        WR##W(i->reg, condition(cpu, i->opcode & 15) ? v : RD##W(i->reg));                                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(cmov_m##W) {                                                                                                    \
        u##W v = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        WR##W(i->reg, condition(cpu, i->opcode & 15) ? v : RD##W(i->reg));                                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(mov_Ev_Sw_r##W) {                                                                                               \
        WR##W(i->rm, cpu->seg[i->reg].selector);                                                                       \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(mov_Ev_Sw_m##W) {                                                                                               \
        st16(cpu, i, i->seg, insn_ea(cpu, i), cpu->seg[i->reg].selector);                                              \
        NEXT(cpu, i);                                                                                                  \
    }
WORD_WIDTHS(GEN_WORD, _)

OP(bswap16) { /* undefined; Intel's processors clear the register's lower half */
    WR16(i->rm, 0);
    NEXT(cpu, i);
}
OP(bswap32) {
    WR32(i->rm, __builtin_bswap32(RD32(i->rm)));
    NEXT(cpu, i);
}
OP(bswap64) {
    WR64(i->rm, __builtin_bswap64(RD64(i->rm)));
    NEXT(cpu, i);
}
OP(cbw16) {
    WR16(RAX, (s8)RD8(0));
    NEXT(cpu, i);
}
OP(cbw32) {
    WR32(RAX, (s16)RD16(RAX));
    NEXT(cpu, i);
}
OP(cbw64) {
    WR64(RAX, (u64)(s64)(s32)RD32(RAX));
    NEXT(cpu, i);
}
OP(cwd16) {
    WR16(RDX, (s16)RD16(RAX) >> 15);
    NEXT(cpu, i);
}
OP(cwd32) {
    WR32(RDX, (s32)RD32(RAX) >> 31);
    NEXT(cpu, i);
}
OP(cwd64) {
    WR64(RDX, (u64)((s64)RD64(RAX) >> 63));
    NEXT(cpu, i);
}

OP(setcc_r8) {
    WR8(i->rm, condition(cpu, i->opcode & 15));
    NEXT(cpu, i);
}
OP(setcc_m8) {
    st8(cpu, i, i->seg, insn_ea(cpu, i), condition(cpu, i->opcode & 15));
    NEXT(cpu, i);
}

OP(nop) { NEXT(cpu, i); }

/* The guest spins, perhaps for a vCPU whose thread does not get a host processor; from time to time let it have ours.
 */
OP(pause) {
    if (unlikely(++cpu->pauses % 1024 == 0) && cpu->vm->nvcpus > 1)
        sched_yield();
    NEXT(cpu, i);
}

OP(xlat) {
    u64 ea = (cpu->regs[RBX] + (cpu->regs[RAX] & 0xff)) & width_mask(i->asz);
    u8 v = ld8(cpu, i, i->seg, ea);
    WR8(0, v);
    NEXT(cpu, i);
}

OP(lahf) {
    WR8(1, get_arith_flags(cpu) | FL_1); /* AH */
    NEXT(cpu, i);
}
OP(sahf) {
    set_arith_flags(cpu, (cpu->cc_oca & FL_OF) | (RD8(1) & FL_ARITH));
    NEXT(cpu, i);
}
OP(clc) {
    cpu->cc_oca &= ~FL_CF;
    NEXT(cpu, i);
}
OP(stc) {
    cpu->cc_oca |= FL_CF;
    NEXT(cpu, i);
}
OP(cmc) {
    cpu->cc_oca ^= FL_CF;
    NEXT(cpu, i);
}
OP(cld) {
    cpu->eflags &= ~FL_DF;
    NEXT(cpu, i);
}
OP(std) {
    cpu->eflags |= FL_DF;
    NEXT(cpu, i);
}
OP(salc) {
    WR8(0, get_cf(cpu) ? 0xff : 0);
    NEXT(cpu, i);
}
