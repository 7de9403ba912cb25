/* The tables behind 0F with mandatory prefixes, 0F38, 0F3A, VEX and the x87 escapes: what decode.c asks them. */
#ifndef SIM_DECODE_VECTOR_H
#define SIM_DECODE_VECTOR_H
#include "cpu.h"

enum { PP_NP, PP_66, PP_F3, PP_F2 }; /* the mandatory prefix, as VEX.pp numbers it */
enum { MAP_0F = 1, MAP_0F38, MAP_0F3A };

/* One encoding.  reg is its handler when ModRM.rm is a register, mem when it is memory; NULL: no such form, #UD. */
struct vrow {
    op_fn reg, mem;
    u8 unit, feature;
    u16 attr;     /* V_* */
    op_fn absent; /* see struct decode_info */
};
#define V_IMM     0x001  /* an imm8 follows */
#define V_NDS     0x002  /* VEX.vvvv is an operand; without this it must be unused (1111b) */
#define V_NDSR    0x1000 /* VEX.vvvv is an operand of the register form only */
#define V_AVX2R   0x2000 /* the register form came with AVX2 */
#define V_MMREG   0x004  /* ModRM.reg is an MMX register: REX.R means nothing */
#define V_MMRM    0x008  /* ModRM.rm likewise */
#define V_NOMODRM 0x010  /* no ModRM byte */
#define V_NEUT    0x020 /* register form: EFFECT_NEUTRAL (cannot fault, #XM and #MF included, and leaves EFLAGS alone) */
#define V_END     0x040 /* ends its block */
#define V_OSZ     0x080 /* i->osz goes by 66 and W as for integer code; without this it is W64 with W, else W32 */
#define V_GPR     0x100 /* W is the size of a general register: outside 64-bit code it counts as 0 */
#define V_RM8     0x200 /* ModRM.rm is a byte register: i->rm is a byte offset (reg8()) */
#define V_VSIB    0x400 /* memory operand with a vector index: i->index is its number; insn_ea() is not for it */
#define V_LOCK    0x800 /* LOCK allowed with a memory operand */

/* The row for an opcode of a map, or NULL.  wl: W << 1 | L (legacy: L is 0).  modrm counts only for groups. */
const struct vrow *vector_row(bool vex, unsigned map, unsigned pp, unsigned op, unsigned wl, unsigned modrm);
/* Does the row depend on ModRM.reg? */
bool vector_group(unsigned map, unsigned op);

/* decode_x87.c: the handler for escape D8..DF with this ModRM byte, or NULL (#UD).  It may set info->effect,
 * info->end, and info->feature.  The handler finds the opcode in i->opcode, ModRM in i->imm, ModRM.rm in i->rm; memory
 * forms have IF_MEM.
 */
op_fn x87_handler(unsigned op, unsigned modrm, struct decode_info *info);

#endif
