/* Handlers chosen by an instruction's surroundings: special.c. */
#ifndef SIM_SPECIAL_H
#define SIM_SPECIAL_H
#include "cpu.h"

#define SPECIALS 2048
/* What may take the place of handler fn; NULL: nothing. */
struct special {
    op_fn fn;
    op_fn flat;        /* 64-bit code, a segment without a base */
    op_fn based;       /* the same, and the address is a base and a displacement */
    const op_fn *both; /* by condition: with the branch that follows */
};
struct specials {
    struct special at[SPECIALS]; /* by a hash of fn */
};
void specials_fill(struct specials *table);
/* The n instructions of a block that begins at rip block_ip, with their dead flags dropped. */
void specialise(struct specials *table, struct insn *insns, unsigned n, u64 block_ip, unsigned mode);

#endif
