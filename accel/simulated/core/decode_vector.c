/* The tables of vector_row().  Their rows are in rows_*.h, a file for each family of instructions; a row names its
 * handlers, which it also declares.
 *
 *   LEG(pp, map, op, reg, mem, unit, feature, attr...)          legacy encoding, whatever REX.W says
 *   LEGW(pp, map, op, w, reg, mem, unit, feature, attr...)      only with this REX.W
 *   GRP(pp, group, digit, reg, mem, unit, feature, attr...)     legacy, digit is ModRM.reg; groups: see GROUPS
 *   GRPR(pp, group, digit, reg, unit...)  GRPM(pp, group, digit, mem, unit...)   where the two forms differ in more
 *   VEX(pp, map, op, wl, reg, mem, unit, feature, attr...)      wl: W0L0 W0L1 W1L0 W1L1 W0LIG W1LIG WIGL0 WIGL1 WIGLIG
 *   VGRP(pp, group, digit, wl, reg, mem, unit, feature, attr...)
 *
 * pp: NP 66 F3 F2; map: 0F 0F38 0F3A; reg, mem: handlers without their op_, `none` where there is no such form; attr:
 * V_* or'ed, then perhaps .absent = a handler.  Two rows for one encoding do not compile.
 */
#include "decode_vector.h"
#include "ops.h"

// clang-format off

/* Opcodes whose meaning depends on ModRM.reg: G(name, map, op). */
#define GROUPS(G) G(71, MAP_0F, 0x71) G(72, MAP_0F, 0x72) G(73, MAP_0F, 0x73) G(AE, MAP_0F, 0xae) G(C7, MAP_0F, 0xc7)  \
    G(0D, MAP_0F, 0x0d) G(18, MAP_0F, 0x18) G(1C, MAP_0F, 0x1c) G(1E, MAP_0F, 0x1e)                \
    G(38F3, MAP_0F38, 0xf3)
enum {
#define G(name, map, op) GROUP_##name,
    GROUPS(G)
#undef G
    GROUP_COUNT
};

/* First pass: declare the handlers. */
#define DECLARE(reg, mem) void op_##reg(sim_vcpu *, const struct insn *); void op_##mem(sim_vcpu *, const struct insn *);
#define LEG(pp, map, op, reg, mem, ...) DECLARE(reg, mem)
#define LEGW(pp, map, op, w, reg, mem, ...) DECLARE(reg, mem)
#define GRP(pp, group, digit, reg, mem, ...) DECLARE(reg, mem)
#define GRPR(pp, group, digit, reg, ...) DECLARE(reg, none)
#define GRPM(pp, group, digit, mem, ...) DECLARE(none, mem)
#define VEX(pp, map, op, wl, reg, mem, ...) DECLARE(reg, mem)
#define VGRP(pp, group, digit, wl, reg, mem, ...) DECLARE(reg, mem)
#include "rows_float.h"
#include "rows_integer.h"
#include "rows_vector.h"
#undef LEG
#undef LEGW
#undef GRP
#undef GRPR
#undef GRPM
#undef VEX
#undef VGRP

/* Further passes: a table each.  `place + n` is the row for wl = n. */
#define op_none NULL
#define ROW(reg, mem, unit, feature, ...) &(const struct vrow){op_##reg, op_##mem, UNIT_##unit, FEAT_##feature, __VA_ARGS__}
#define FILL_W0L0(p, row)   [p] = row,
#define FILL_W0L1(p, row)   [(p) + 1] = row,
#define FILL_W1L0(p, row)   [(p) + 2] = row,
#define FILL_W1L1(p, row)   [(p) + 3] = row,
#define FILL_W0LIG(p, row)  [p] = row, [(p) + 1] = row,
#define FILL_W1LIG(p, row)  [(p) + 2] = row, [(p) + 3] = row,
#define FILL_WIGL0(p, row)  [p] = row, [(p) + 2] = row,
#define FILL_WIGL1(p, row)  [(p) + 1] = row, [(p) + 3] = row,
#define FILL_WIGLIG(p, row) [p] = row, [(p) + 1] = row, [(p) + 2] = row, [(p) + 3] = row,
#define FILL_W0(p, row) [p] = row,
#define FILL_W1(p, row) [(p) + 1] = row,

#define PLACE(pp, map, op)        ((((MAP_##map - 1) * 4 + PP_##pp) * 256 + (op)))
#define GPLACE(pp, group, digit)  (((GROUP_##group * 4 + PP_##pp) * 8 + (digit)))

/* legacy, two places each: W0, W1 */
static const struct vrow *const legacy_rows[3 * 4 * 256 * 2] = {
#define LEG(pp, map, op, ...)     [PLACE(pp, map, op) * 2] = ROW(__VA_ARGS__), [PLACE(pp, map, op) * 2 + 1] = ROW(__VA_ARGS__),
#define LEGW(pp, map, op, w, ...) FILL_##w(PLACE(pp, map, op) * 2, ROW(__VA_ARGS__))
#define GRP(...)
#define GRPR(...)
#define GRPM(...)
#define VEX(...)
#define VGRP(...)
#include "rows_float.h"
#include "rows_integer.h"
#include "rows_vector.h"
#undef LEG
#undef LEGW
#undef GRP
#undef GRPR
#undef GRPM
#undef VEX
#undef VGRP
};

/* two places each: memory, register */
static const struct vrow *const legacy_groups[GROUP_COUNT * 4 * 8 * 2] = {
#define LEG(...)
#define LEGW(...)
#define GRP(pp, group, digit, ...)                                                                                     \
    [GPLACE(pp, group, digit) * 2] = ROW(__VA_ARGS__), [GPLACE(pp, group, digit) * 2 + 1] = ROW(__VA_ARGS__),
#define GRPR(pp, group, digit, reg, ...) [GPLACE(pp, group, digit) * 2 + 1] = ROW(reg, none, __VA_ARGS__),
#define GRPM(pp, group, digit, mem, ...) [GPLACE(pp, group, digit) * 2] = ROW(none, mem, __VA_ARGS__),
#define VEX(...)
#define VGRP(...)
#include "rows_float.h"
#include "rows_integer.h"
#include "rows_vector.h"
#undef GRP
#undef GRPR
#undef GRPM
#undef VEX
#undef VGRP
};

static const struct vrow *const vex_rows[3 * 4 * 256 * 4] = {
#define GRP(...)
#define GRPR(...)
#define GRPM(...)
#define VEX(pp, map, op, wl, ...) FILL_##wl(PLACE(pp, map, op) * 4, ROW(__VA_ARGS__))
#define VGRP(...)
#include "rows_float.h"
#include "rows_integer.h"
#include "rows_vector.h"
#undef VEX
#undef VGRP
};

static const struct vrow *const vex_groups[GROUP_COUNT * 4 * 8 * 4] = {
#define VEX(...)
#define VGRP(pp, group, digit, wl, ...) FILL_##wl(GPLACE(pp, group, digit) * 4, ROW(__VA_ARGS__))
#include "rows_float.h"
#include "rows_integer.h"
#include "rows_vector.h"
};

// clang-format on

static int group_of(unsigned map, unsigned op) {
    switch (map << 8 | op) {
#define G(name, map, op)                                                                                               \
    case (map) << 8 | (op):                                                                                            \
        return GROUP_##name;
        GROUPS(G)
#undef G
    default:
        return -1;
    }
}

bool vector_group(unsigned map, unsigned op) { return group_of(map, op) >= 0; }

const struct vrow *vector_row(bool vex, unsigned map, unsigned pp, unsigned op, unsigned wl, unsigned modrm) {
    int group = group_of(map, op);
    if (group >= 0) {
        unsigned place = ((unsigned)group * 4 + pp) * 8 + (modrm >> 3 & 7);
        return vex ? vex_groups[place * 4 + wl] : legacy_groups[place * 2 + (modrm >= 0xc0)];
    }
    unsigned place = ((map - 1) * 4 + pp) * 256 + op;
    return vex ? vex_rows[place * 4 + wl] : legacy_rows[place * 2 + (wl >> 1)];
}
