/* DAA DAS AAA AAS AAM AAD: the manual's pseudo-code.  Undefined flags as Intel's processors leave them. */
#include "access.h"
#include "flags.h"
#include "ops.h"

#define REG_AL RD8(0)
#define REG_AH RD8(1)

static void result(sim_vcpu *cpu, u8 al, u32 cf, u32 af) {
    WR8(0, al);
    cpu->cc_res = (s8)al;
    cpu->cc_oca = (cf ? FL_CF : 0) | (af ? FL_AF : 0);
}

OP(daa) {
    u8 old = REG_AL, al = old;
    u32 cf = get_cf(cpu), af = cpu->cc_oca & FL_AF;
    if ((al & 15) > 9 || af) {
        al = (u8)(al + 6);
        af = 1;
    }
    if (old > 0x99 || cf) {
        al = (u8)(al + 0x60);
        cf = 1;
    }
    result(cpu, al, cf, af);
    NEXT(cpu, i);
}
OP(das) {
    u8 old = REG_AL, al = old;
    u32 cf = get_cf(cpu), old_cf = cf, af = cpu->cc_oca & FL_AF;
    cf = 0;
    if ((al & 15) > 9 || af) {
        cf = old_cf || al < 6;
        al = (u8)(al - 6);
        af = 1;
    }
    if (old > 0x99 || old_cf) {
        al = (u8)(al - 0x60);
        cf = 1;
    }
    result(cpu, al, cf, af);
    NEXT(cpu, i);
}
OP(aaa) {
    u32 adjust = (REG_AL & 15) > 9 || (cpu->cc_oca & FL_AF);
    if (adjust)
        WR16(RAX, RD16(RAX) + 0x106);
    result(cpu, REG_AL & 15, adjust, adjust);
    NEXT(cpu, i);
}
OP(aas) {
    u32 adjust = (REG_AL & 15) > 9 || (cpu->cc_oca & FL_AF);
    if (adjust)
        WR16(RAX, RD16(RAX) - 0x106);
    result(cpu, REG_AL & 15, adjust, adjust);
    NEXT(cpu, i);
}
OP(aam) {
    u8 al = REG_AL, base = (u8)i->imm;
    if (!base) {
        BEGIN(cpu, i);
        raise_fault(cpu, EXC_DE, 0);
    }
    WR8(1, al / base);
    result(cpu, al % base, 0, 0);
    NEXT(cpu, i);
}
OP(aad) {
    u8 a = REG_AL, b = (u8)(REG_AH * i->imm), r = (u8)(a + b);
    WR16(RAX, r);
    FLAGS_ADD(cpu, u8, s8, a, b, r, 0); /* CF, AF, OF as of the addition */
    NEXT(cpu, i);
}
