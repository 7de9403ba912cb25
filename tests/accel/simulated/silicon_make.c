/* Makes cases: an instruction of a template with random registers, memory operand, immediate and prefixes.
 *
 * Values are liked that find mistakes: 0, -1, smallest and largest numbers of every width, powers of two, NaNs quiet
 * and signalling, infinities, denormals, 80-bit numbers that are none, shift counts around the widths.  Memory operands
 * lie aligned, unaligned, across lines and pages, half in a page that may only be read, beside the window, at addresses
 * that are not canonical.
 */
#include <string.h>
#include "silicon_make.h"

uint64_t rng_next(struct rng *r) { /* xorshift128+ */
    uint64_t x = r->a, y = r->b;
    r->a = y;
    x ^= x << 23;
    r->b = x ^ y ^ x >> 17 ^ y >> 26;
    return r->b + y;
}
void rng_seed(struct rng *r, uint64_t seed, uint64_t number) {
    r->a = (seed + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u ^ number;
    r->b = (number + 0x632be59bd9b4e019u) * 0x94d049bb133111ebu ^ seed;
    for (unsigned n = 0; n < 6; n++)
        rng_next(r);
}

/* ---- values --------------------------------------------------------------------------------------------------------
 */

uint64_t make_integer(struct rng *r) {
    static const uint64_t corners[] = {
        0,
        1,
        2,
        3,
        0x7f,
        0x80,
        0xff,
        0x100,
        0x7fff,
        0x8000,
        0xffff,
        0x10000,
        0x7fffffff,
        0x80000000,
        0xffffffff,
        0x100000000,
        0x7fffffffffffffff,
        0x8000000000000000,
        ~0ull,
        ~0ull - 1,
        0xffffffff80000000,
        0x5555555555555555,
        0xaaaaaaaaaaaaaaaa,
        0x0000800000000000,
        0x00007fffffffffff,
        0xffff800000000000,
        7,
        8,
        15,
        16,
        31,
        32,
        33,
        63,
        64,
        65,
    };
    switch (below(r, 8)) {
    case 0:
    case 1:
        return PICK(r, corners);
    case 2:
        return rng_next(r) >> below(r, 64);
    case 3:
        return (uint64_t)1 << below(r, 64);
    case 4:
        return (uint64_t)(int64_t)(int8_t)rng_next(r);
    case 5:
        return percent(r, 10) ? CODE + 64 + below(r, 0x800) : (uint64_t)(int64_t)(int32_t)rng_next(r);
    default:
        return rng_next(r);
    }
}

static uint32_t single(struct rng *r) {
    static const uint32_t corners[] = {
        0,          0x80000000, 0x3f800000, 0xbf800000, 0x40000000, 0x3f000000, 0x7f800000, 0xff800000,
        0x7fc00000, 0xffc00000, 0x7fc12345, 0x7f800001, 0xffa00001, 0x00000001, 0x80000001, 0x007fffff,
        0x00800000, 0x80800000, 0x00ffffff, 0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000, 0x4effffff,
        0x5f000000, 0xdf000000, 0x5f800000, 0x4f800000, 0x3fc00000, 0x40200000, 0x4b000001, 0x34000000,
        0x33800000, 0x477fe000, 0x477ff000, 0x38800000, 0x33000000, 0x387fc000, 0x3effffff, 0x3f7fffff,
    };
    switch (below(r, 4)) {
    case 0:
        return PICK(r, corners);
    case 1: /* near 1, so that results cancel and round */
        return (uint32_t)(0x3f000000 + (below(r, 4) << 23) + (rng_next(r) & 0x7fffff)) ^ (uint32_t)below(r, 2) << 31;
    case 2:
        return (uint32_t)(rng_next(r) & 0x807fffff) | (uint32_t)below(r, 256) << 23;
    default:
        return (uint32_t)(PICK(r, corners) + below(r, 5) - 2);
    }
}
static uint64_t twice(struct rng *r) {
    static const uint64_t corners[] = {
        0,
        0x8000000000000000,
        0x3ff0000000000000,
        0xbff0000000000000,
        0x7ff0000000000000,
        0xfff0000000000000,
        0x7ff8000000000000,
        0xfff8000000000000,
        0x7ff8000000012345,
        0x7ff0000000000001,
        0xfff4000000000001,
        1,
        0x8000000000000001,
        0x000fffffffffffff,
        0x0010000000000000,
        0x8010000000000000,
        0x7fefffffffffffff,
        0xffefffffffffffff,
        0x43e0000000000000,
        0xc3e0000000000000,
        0x43dfffffffffffff,
        0x41e0000000000000,
        0xc1e0000000200000,
        0x41dfffffffc00000,
        0x43f0000000000000,
        0x3fe0000000000000,
        0x3ff8000000000000,
        0x4330000000000001,
        0x3690000000000000,
        0x36a0000000000000,
        0x380fffffffffffff,
        0x47efffffe0000000,
        0x47effffff0000000,
        0x3ca0000000000000,
        0x3fdfffffffffffff,
    };
    switch (below(r, 4)) {
    case 0:
        return PICK(r, corners);
    case 1:
        return (0x3fe0000000000000 + (below(r, 4) << 52) + (rng_next(r) >> 12)) ^ below(r, 2) << 63;
    case 2:
        return (rng_next(r) & 0x800fffffffffffff) | below(r, 2048) << 52;
    default:
        return PICK(r, corners) + below(r, 5) - 2;
    }
}
static void extended(struct rng *r, uint8_t *to) {
    static const uint64_t mantissas[] = {
        0x8000000000000000,
        0xffffffffffffffff,
        0,
        1,
        0x8000000000000001,
        0xc000000000000000,
        0xa000000000000000,
        0x7fffffffffffffff,
        0x4000000000000000,
        0x8000000000000400,
        0xfffffffffffff800,
        0xfffffffffffffbff,
        0xffffff8000000000,
        0xc90fdaa22168c235,
    };
    static const uint16_t exponents[] = {0,      1,      2,      0x3fff, 0x3ffe, 0x4000, 0x3ffd, 0x7ffe, 0x7fff,
                                         0x403e, 0x403d, 0x401e, 0x401f, 0x400e, 0x3f80, 0x3c00, 0x43ff, 0x407f,
                                         0x3f81, 0x3fbf, 0x3fbe, 0x403f, 0x3c01, 0x3bcd, 0x4400, 0x3f6a};
    uint64_t mantissa = percent(r, 50) ? PICK(r, mantissas) : rng_next(r);
    uint16_t exponent = percent(r, 60) ? PICK(r, exponents) : (uint16_t)(0x3ff0 + below(r, 32));
    if (percent(r, 10))
        exponent = (uint16_t)below(r, 0x8000);
    if (exponent && percent(r, 90))
        mantissa |= (uint64_t)1 << 63;
    if (percent(r, 10)) { /* an integer, as ST(1) of FSCALE or a quotient */
        mantissa = (uint64_t)1 << 63 | (rng_next(r) & 0x7f) << 56;
        exponent = (uint16_t)(0x3fff + below(r, 16));
    }
    exponent |= (uint16_t)(below(r, 2) << 15);
    memcpy(to, &mantissa, 8);
    memcpy(to + 8, &exponent, 2);
}

/* `size` bytes of one kind of value. */
static void values(struct rng *r, uint8_t *to, unsigned size) {
    unsigned kind = (unsigned)below(r, 9);
    for (unsigned at = 0; at < size; at += 8) {
        uint64_t v;
        switch (kind) {
        case 0:
        case 1:
            v = single(r) | (uint64_t)single(r) << 32;
            break;
        case 2:
        case 3:
            v = twice(r);
            break;
        case 4:
            v = make_integer(r);
            break;
        case 5:
            v = (uint32_t)make_integer(r) | make_integer(r) << 32;
            break;
        case 6: /* small signed bytes, and the corners of bytes and words */
            v = rng_next(r) & rng_next(r) & 0x8181818181818181;
            v ^= percent(r, 50) ? 0x7f807f807f807f80 : 0;
            break;
        case 7:
            v = 0;
            break;
        default:
            v = rng_next(r);
        }
        memcpy(to + at, &v, size - at < 8 ? size - at : 8);
    }
}

void make_image(uint64_t seed, uint64_t batch, uint8_t *image) {
    struct rng r;
    rng_seed(&r, seed, ~batch);
    for (unsigned at = 0; at < DATA_SIZE; at += 32)
        values(&r, image + at, 32);
}

/* ---- state ---------------------------------------------------------------------------------------------------------
 */

uint64_t make_place(struct rng *r, unsigned size, bool mode32) {
    unsigned way = (unsigned)below(r, 100);
    if (way < 58)
        return DATA + 64 * (1 + below(r, 125));
    if (way < 80)
        return DATA + 64 + below(r, DATA_RW - 128 - size);
    if (way < 87)
        return DATA + 0x1000 - 1 - below(r, size < 2 ? 2 : size);
    if (way < 90)
        return DATA + DATA_RW - 1 - below(r, size < 2 ? 2 : size);
    if (way < 94)
        return DATA + DATA_RW + 16 * below(r, 128);
    if (way < 95)
        return DATA + DATA_SIZE - 1 - below(r, size < 2 ? 2 : size);
    if (way < 96)
        return DATA - below(r, size < 2 ? 2 : size);
    if (mode32 || way < 98)
        return (uint32_t)rng_next(r);
    if (way < 99)
        return rng_next(r);
    return PICK(r, ((uint64_t[]){0x00007ffffffffff8, 0x0000800000000000, 0xffff7fffffffffff, 0xffff800000000000, 0,
                                 0xfffffffffffffff8, 0x00007fffffffeffc}));
}

void make_float_state(struct rng *r, struct cpu_state *s) {
    s->mxcsr = 0x1f80;
    if (percent(r, 40))
        s->mxcsr = (uint32_t)rng_next(r) & (percent(r, 50) ? 0xffff : 0xe07f);
    if (percent(r, 60))
        s->mxcsr |= 0x1f80;
    s->fcw = 0x37f;
    if (percent(r, 50))
        s->fcw = (uint16_t)(0x40 | (rng_next(r) & 0xf3f));
    if (percent(r, 50))
        s->fcw |= 0x3f;
    s->fsw = (uint16_t)(below(r, 8) << 11);
    if (percent(r, 50))
        s->fsw |= (uint16_t)(rng_next(r) & 0x477f);
    if (percent(r, 70))
        s->fsw &= (uint16_t)~0x3f;
    if (s->fsw & ~s->fcw & 0x3f)
        s->fsw |= 0x8080;
    else
        s->fsw &= (uint16_t)~0x8080;
    s->ftw = percent(r, 60) ? 0xff : (uint8_t)rng_next(r);
    for (unsigned n = 0; n < 8; n++) {
        memset(s->st[n], 0, 16);
        if (n && percent(r, 15))
            memcpy(s->st[n], s->st[n - 1], 10);
        else
            extended(r, s->st[n]);
        if (percent(r, 12)) { /* as an MMX register leaves it */
            values(r, s->st[n], 8);
            memset(s->st[n] + 8, 0xff, 2);
        }
    }
    for (unsigned n = 0; n < 16; n++) {
        uint8_t v[32];
        values(r, v, 32);
        if (n && percent(r, 10)) {
            memcpy(v, s->xmm[n - 1], 16);
            memcpy(v + 16, s->ymmh[n - 1], 16);
        }
        memcpy(s->xmm[n], v, 16);
        memcpy(s->ymmh[n], v + 16, 16);
    }
}

static void make_state(struct rng *r, const struct template *t, struct test_case *c) {
    struct cpu_state *s = &c->in;
    bool mode32 = t->flags & T_MODE32;
    for (unsigned n = 0; n < 16; n++)
        s->gpr[n] = n && percent(r, 8) ? s->gpr[below(r, n)] : make_integer(r);
    if (percent(r, t->flags & T_STRING ? 92 : 50))
        s->gpr[6] = make_place(r, 8, mode32);
    if (percent(r, t->flags & T_STRING ? 92 : 50))
        s->gpr[7] = percent(r, 20) ? s->gpr[6] + below(r, 32) - 16 : make_place(r, 8, mode32);
    if (percent(r, t->flags & T_STRING ? 95 : 50))
        s->gpr[1] = below(r, percent(r, 80) ? 40 : 66);
    if (percent(r, 30))
        s->gpr[3] = make_place(r, 8, mode32);
    if (percent(r, 40))
        s->gpr[5] = DATA + 0x400 + 8 * below(r, 0x200);
    if (percent(r, 97))
        s->gpr[4] = DATA + 0x800 + (percent(r, 90) ? 8 * below(r, 0x200) : below(r, 0x1000));
    else
        s->gpr[4] = make_place(r, 8, mode32);
    s->rflags = 0x202 | (rng_next(r) & 0x8d5) | (percent(r, 20) ? 0x400 : 0) | (percent(r, 3) ? 0x40000 : 0);
    make_float_state(r, s);
    if (mode32)
        for (unsigned n = 0; n < 16; n++)
            s->gpr[n] &= 0xffffffff;
}

void make_patch(struct rng *r, struct test_case *c, unsigned which, uint64_t address, bool fpu_image) {
    struct patch *p = &c->patch[which];
    uint64_t offset = address - DATA;
    if (offset >= DATA_RW)
        return;
    p->offset = (uint16_t)offset;
    p->size = (uint16_t)(DATA_RW - offset < LINE ? DATA_RW - offset : LINE);
    values(r, p->bytes, LINE);
    if (percent(r, 15) || fpu_image)
        for (unsigned at = 0; at + 10 <= LINE; at += 10)
            extended(r, p->bytes + at);
    if (percent(r, 15)) { /* packed decimal */
        for (unsigned n = 0; n < 10; n++)
            p->bytes[n] = (uint8_t)(below(r, 10) << 4 | below(r, 10));
        p->bytes[9] = percent(r, 50) ? 0x80 : 0;
    }
    if (percent(r, 10)) {
        uint64_t target = CODE + 64 + below(r, 0x800);
        memcpy(p->bytes, &target, 8);
    }
}

/* ---- the instruction -----------------------------------------------------------------------------------------------
 */

static void choose_memory(struct rng *r, const struct template *t, struct test_case *c, struct operand *o) {
    bool mode32 = t->flags & T_MODE32, vsib = t->flags & T_VSIB;
    unsigned size = t->size ? (unsigned)t->size : 16, registers = mode32 ? 8 : 16;
    uint64_t target = o->target = make_place(r, size, mode32), mask = mode32 ? 0xffffffff : ~0ull;
    unsigned form = vsib ? 4 : (unsigned)below(r, 8);
    if (!mode32 && percent(r, 4)) {
        o->segment = percent(r, 50) ? 0x64 : 0x65;
        target -= o->segment == 0x64 ? FS_BASE : GS_BASE;
    }
    if (!mode32 && percent(r, 6) && target < 0xffffffff) {
        o->address32 = true;
        mask = 0xffffffff;
    }
    if (form == 0 && mode32 && target < DATA + 0x10000)
        o->disp_size = 4, o->rm = 5, o->disp = target;
    else if (form == 0 && !mode32 && !o->segment && (uint64_t)(target - CODE + 0x40000000) < 0x80000000 &&
             !o->address32)
        o->riprel = true, o->rm = 5, o->disp_size = 4;
    else if (form <= 1 && (int64_t)target == (int32_t)target && target < 0x7fffffff) {
        o->has_sib = true, o->rm = 4, o->disp_size = 4, o->disp = target;
        o->base = 5, o->index = 4; /* neither */
        o->sib = (uint8_t)(below(r, 4) << 6 | 4 << 3 | 5);
    } else {
        unsigned base = (unsigned)below(r, registers), index = (unsigned)below(r, registers);
        bool use_index = form >= 4;
        uint64_t disp = 0;
        o->base = (uint8_t)base;
        o->mod = (uint8_t)(below(r, 3));
        if ((base & 7) == 5 && o->mod == 0)
            o->mod = 1;
        o->disp_size = o->mod == 0 ? 0 : o->mod == 1 ? 1 : 4;
        if (o->mod == 1)
            disp = (uint64_t)(int64_t)(int8_t)rng_next(r);
        else if (o->mod == 2)
            disp = percent(r, 50) ? (uint64_t)(int64_t)(int32_t)rng_next(r) : (uint64_t)(int64_t)(int16_t)rng_next(r);
        o->disp = disp;
        if (vsib) {
            uint8_t narrow[32];
            unsigned scale = (unsigned)below(r, 4);
            o->has_sib = true, o->rm = 4, o->index = (uint8_t)index;
            for (unsigned n = 0; n < 32; n += t->w ? 8 : 4) {
                int64_t at = (int64_t)(below(r, 128)) - 64;
                if (percent(r, 2))
                    at = (int64_t)(rng_next(r) >> below(r, 64));
                memcpy(narrow + n, &at, t->w ? 8 : 4);
            }
            if (percent(r, 50)) /* dword indices whatever the data's width is */
                for (unsigned n = 0; n < 32; n += 4) {
                    int32_t at = (int32_t)(below(r, 128)) - 64;
                    memcpy(narrow + n, &at, 4);
                }
            memcpy(c->in.xmm[index], narrow, 16);
            memcpy(c->in.ymmh[index], narrow + 16, 16);
            o->sib = (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7));
            if (target - DATA < DATA_SIZE)
                target = o->target = DATA + 0x800 + 4 * below(r, 0x300);
            c->in.gpr[base] = target - disp;
            return;
        }
        if (use_index && index != 4 && index != base) {
            unsigned scale = (unsigned)below(r, 4);
            uint64_t value = percent(r, 70) ? below(r, 256) : c->in.gpr[index];
            o->has_sib = true, o->rm = 4, o->index = (uint8_t)index;
            o->sib = (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7));
            c->in.gpr[index] = value;
            disp += (value & mask) << scale;
        } else {
            o->index = 4;
            o->has_sib = (base & 7) == 4;
            o->rm = o->has_sib ? 4 : (uint8_t)(base & 7);
            o->sib = (uint8_t)(below(r, 4) << 6 | 4 << 3 | (base & 7));
        }
        c->in.gpr[base] = (target - disp) & (mode32 ? 0xffffffff : ~0ull);
        if (o->address32 && !mode32)
            c->in.gpr[base] = ((target - disp) & 0xffffffff) | (rng_next(r) & 0xffffffff00000000);
    }
}

uint64_t make_immediate(struct rng *r, const struct template *t) {
    if (t->flags & T_REL8)
        return percent(r, 60) ? 2 + below(r, 100) : (uint64_t)0 - 33 - below(r, 90);
    if (t->flags & T_REL)
        return percent(r, 70)   ? 2 + below(r, 200)
               : percent(r, 50) ? (uint64_t)0 - 40 - below(r, 400)
                                : rng_next(r) | 0x4000000;
    if (t->imm == 1 && percent(r, 40))
        return below(r, 80);
    return make_integer(r);
}

unsigned encode(struct rng *r, const struct template *t, const struct encoding *e, struct coder *out) {
    bool mode32 = t->flags & T_MODE32, memory = t->modrm && !t->mod3;
    const struct operand *o = &e->memory;
    unsigned reg = e->reg, rm = e->rm, vvvv = e->vvvv, rex = 0;
    if (o->segment)
        put(out, (unsigned)o->segment, 1);
    if (o->address32)
        put(out, 0x67, 1);
    /* MOVBE with 66 and REX.W forgets FS or GS on some processors when another segment's prefix follows: two of one
     * group are left open (SDM 2, 2.1.1) */
    bool one_segment = o->segment && t->prefix == 0x66 && t->w && strcmp(t->name, "movbe") == 0;
    if (percent(r, e->ignored) && !one_segment)
        put(out, PICK(r, ((uint8_t[]){0x2e, 0x36, 0x3e, 0x26, 0x3e, 0x2e})), 1);
    if (percent(r, e->lock))
        put(out, 0xf0, 1);
    if (t->kind == KIND_LEGACY) {
        if (t->prefix) {
            if (t->prefix != 0x66 && t->imm < 2 && percent(r, 4)) /* it could shorten the immediate */
                put(out, 0x66, 1);
            put(out, (unsigned)t->prefix, 1);
        }
        if (!mode32) {
            rex = (t->w ? 8u : 0) | (reg & 8 ? 4 : 0);
            if (memory)
                rex |= (o->has_sib && o->index & 8 ? 2u : 0) | (o->base & 8 && !o->riprel ? 1u : 0);
            else
                rex |= rm & 8 ? 1 : 0;
            if (rex || percent(r, e->rex))
                put(out, 0x40 | rex, 1);
        }
        if (t->map >= 1)
            put(out, 0x0f, 1);
        if (t->map >= 2)
            put(out, t->map == 2 ? 0x38 : 0x3a, 1);
        put(out, (unsigned)t->opcode + (t->rm == -2 ? rm & 7 : 0), 1);
    } else {
        unsigned pp = t->prefix == 0x66 ? 1 : t->prefix == 0xf3 ? 2 : t->prefix == 0xf2 ? 3 : 0;
        bool x = memory && o->has_sib && (o->index & 8), b = memory ? (o->base & 8) && !o->riprel : (rm & 8) != 0;
        if (percent(r, 30) && t->weight < 8)
            vvvv = 0;
        if (t->undefined & 0x10000) /* vvvv must be 1111b */
            vvvv = percent(r, 97) ? 0 : vvvv;
        unsigned low = (~vvvv & 15) << 3 | (t->l ? 4 : 0) | pp;
        if (mode32)
            low |= 0x40;
        if (t->map == 1 && !t->w && !x && !b && percent(r, 50)) {
            put(out, 0xc5, 1);
            put(out, (reg & 8 ? 0 : 0x80) | low, 1);
        } else {
            put(out, 0xc4, 1);
            put(out, (reg & 8 ? 0 : 0x80u) | (x ? 0 : 0x40u) | (b ? 0 : 0x20u) | (unsigned)t->map, 1);
            put(out, (t->w ? 0x80u : 0) | low, 1);
        }
        put(out, (unsigned)t->opcode, 1);
    }
    unsigned fixup = 0;
    if (t->modrm) {
        unsigned mod = memory ? o->mod : 3;
        put(out, mod << 6 | (reg & 7) << 3 | (memory ? o->rm : rm & 7), 1);
        if (memory && o->has_sib)
            put(out, o->sib, 1);
        fixup = out->size;
        if (memory)
            put(out, o->disp, o->disp_size);
    }
    put(out, e->imm, (unsigned)t->imm);
    return fixup;
}

void make_case(uint64_t seed, uint64_t number, const struct template *t, uint32_t index, const uint8_t *image,
               struct test_case *c) {
    struct rng r;
    struct operand o = {0};
    struct coder out = {c->code, 0};
    bool mode32 = t->flags & T_MODE32, memory = t->modrm && !t->mod3;
    unsigned reg = 0, rm = 0, vvvv = 0;
    (void)image;
    rng_seed(&r, seed, number);
    memset(c, 0, offsetof(struct test_case, step));
    c->number = number;
    c->template = index;
    c->mode32 = mode32;
    make_state(&r, t, c);

    unsigned registers = mode32 ? 8 : 16;
    reg = t->reg >= 0 ? (unsigned)t->reg : (unsigned)below(&r, registers);
    rm = t->rm >= 0 ? (unsigned)t->rm : (unsigned)below(&r, registers);
    if (t->reg >= 0 && !mode32 && percent(&r, 5))
        reg |= 8; /* REX.R with an opcode extension is ignored */
    vvvv = (unsigned)below(&r, registers);
    if (memory) {
        choose_memory(&r, t, c, &o);
        if ((t->flags & T_BITS) && percent(&r, 75))
            c->in.gpr[reg] = below(&r, 2048) - 1024;
    }
    uint64_t imm = make_immediate(&r, t);
    if (t->flags & T_MOFFS)
        imm = o.target = make_place(&r, 8, mode32);

    struct encoding e = {.reg = reg, .rm = rm, .vvvv = vvvv, .memory = o, .imm = imm, .ignored = 3, .rex = 30};
    e.lock = memory ? 5 : 1;
    unsigned fixup = encode(&r, t, &e, &out);
    c->code_size = (uint16_t)out.size;
    c->code_offset = 0x400;
    if (percent(&r, 4)) /* across or up to a page boundary */
        c->code_offset = (uint16_t)((percent(&r, 50) ? 0x1000 : 0x2000) - 1 - below(&r, out.size + 1));
    if (c->code_offset + out.size > CODE_SIZE)
        c->code_size = (uint16_t)(CODE_SIZE - c->code_offset);
    c->in.rip = CODE + c->code_offset;
    if (o.riprel) {
        uint32_t disp = (uint32_t)(o.target - (c->in.rip + out.size));
        memcpy(c->code + fixup, &disp, 4);
    }
    c->shift_count = t->count == COUNT_ONE ? 1 : t->count == COUNT_IMM ? (uint8_t)imm : (uint8_t)c->in.gpr[1];
    if (memory || (t->flags & T_MOFFS))
        make_patch(&r, c, 0, o.target, t->flags & T_FENV);
    if (percent(&r, 50))
        make_patch(&r, c, 1, c->in.gpr[4], false);
    if (percent(&r, t->flags & T_STRING ? 60 : 10))
        make_patch(&r, c, 2, c->in.gpr[7], false);
    if ((t->flags & T_STRING) && percent(&r, 50)) /* much the same, for compares that go on */
        for (unsigned n = 0; n < 2; n++)
            memset(c->patch[n + 1].bytes, (int)(c->in.gpr[0] & 0xff), LINE - below(&r, 8));
}

/* SDM volume 2, "Flags Affected" of the shifts: by the count masked to five or six bits. */
uint32_t undefined_flags(const struct template *t, uint32_t shift_count) {
    enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800 };
    uint32_t mask = (uint32_t)t->undefined & 0xffff;
    unsigned bits = (unsigned)t->size * 8, count = shift_count & (bits == 64 ? 63 : 31);
    if (t->shift == SHIFT_NONE || !count)
        return mask;
    if (t->shift != SHIFT_ROTATE)
        mask |= AF;
    if (count != 1)
        mask |= OF;
    if ((t->shift == SHIFT_LOGICAL && count >= bits) || (t->shift == SHIFT_DOUBLE && count > bits))
        mask |= CF;
    if (t->shift == SHIFT_DOUBLE && count > bits)
        mask |= CF | PF | AF | ZF | SF | OF;
    return mask;
}
