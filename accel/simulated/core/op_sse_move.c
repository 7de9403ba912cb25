/* SSE moves between vector registers and memory. */
#include "vector.h"

OP(movaps_load_r) {
    set_x(cpu, i->reg, get_x(cpu, i->rm));
    NEXT(cpu, i);
}
OP(movaps_store_r) {
    set_x(cpu, i->rm, get_x(cpu, i->reg));
    NEXT(cpu, i);
}
GEN_LOAD_X(movups_load_m, 1, set_x(cpu, i->reg, x))
GEN_STORE_X(movups_store_m, 1, get_x(cpu, i->reg))
