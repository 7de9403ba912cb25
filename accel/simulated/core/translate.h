/* Machine code for blocks that run often: translate.c. */
#ifndef SIM_TRANSLATE_H
#define SIM_TRANSLATE_H
#include "cpu.h"

#define TRANSLATE_AFTER 64 /* executions of a block, when nobody says otherwise */

struct shape;
struct translator {
    u8 *code; /* NULL: this host does not let us, or has no translator */
    size_t used;
    struct shape *shapes;
};

void translator_open(struct translator *t);
void translator_close(struct translator *t);
/* All code goes. */
void translator_reset(struct translator *t);
/* Is there room for one more block? */
bool translator_has_room(const struct translator *t);
/* `b` holds `b->count` instructions of 64-bit code with their handlers; raw and info are the same as the decoder gave
 * them.  Handlers of b are replaced where machine code takes over. */
void translate(struct translator *t, struct block *b, const struct insn *raw, const struct decode_info *info);

#endif
