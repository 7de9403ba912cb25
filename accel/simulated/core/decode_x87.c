/* x87 escapes: which handler an opcode and its ModRM byte name. */
#include "decode_vector.h"
#include "ops.h"

op_fn x87_handler(unsigned op, unsigned modrm, struct decode_info *info) {
    (void)op;
    (void)modrm;
    (void)info;
    return op_fpu;
}
