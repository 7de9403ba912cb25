/* Makes sequences: everyday instructions that work on what earlier ones left, with branches, and often in a loop.
 *
 * Registers have roles for the length of a case.  Pointers (RSP is one) point into the window and index registers are
 * small; instructions drawn at random write them rarely, so that most memory operands lie in the window.  Steps made
 * for it move them: pointers walk, indexes get a new small value.  The loop's counter is written by nothing else.  All
 * other registers are free; a source is often what one of the last instructions wrote, a memory operand often a word
 * that an earlier one used.
 *
 * Some have routines behind the end that they call, directly or by a register, from one place or more.
 *
 * Some change themselves: steps that write immediates of others, in a page of code that can be written.
 *
 * No step reads a flag that is undefined there (sequence_flow), and only defined ones are compared at the end or at the
 * exception that ended it.
 */
#include "silicon_sequence.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800, ALL = CF | PF | AF | ZF | SF | OF };

/* The same numbers are in silicon_sequence.py. */
enum { GENERAL = 1, WRITTEN = 2, BYTE = 4 };                                            /* of an operand */
enum { CAN_LOCK = 1, IN_OPCODE = 2, ADDRESS_ONLY = 4, ROLE_VECTOR = 8, ROLE_X87 = 16 }; /* of a role */
struct role {
    uint32_t template, weight;
    int reg, rm, implicit, defines, reads, flags;
};
static struct role *roles;
static uint32_t role_count;
static uint64_t *up_to; /* sums of the weights */

bool sequence_load(const char *path, uint32_t template_count) {
    FILE *f = fopen(path, "r");
    struct role o;
    if (!f)
        return false;
    uint64_t sum = 0;
    bool fine = true;
    while (fine && fscanf(f, "%u %u %d %d %d %d %d %d", &o.template, &o.weight, &o.reg, &o.rm, &o.implicit, &o.defines,
                          &o.reads, &o.flags) == 8) {
        fine = o.template <template_count;
        roles = realloc(roles, (role_count + 1) * sizeof *roles);
        up_to = realloc(up_to, (role_count + 1) * sizeof *up_to);
        up_to[role_count] = sum += o.weight;
        roles[role_count++] = o;
    }
    fine = fine && feof(f) && role_count;
    fclose(f);
    return fine;
}

static const struct role *draw(struct rng *r) {
    uint64_t at = below(r, up_to[role_count - 1]);
    uint32_t low = 0, high = role_count - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (up_to[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return &roles[low];
}

/* ---- flags ---------------------------------------------------------------------------------------------------------
 */

static bool flows(uint16_t *to, uint16_t flags) {
    bool news = flags & ~*to;
    *to |= flags;
    return news;
}

void sequence_flow(const struct test_case *c, uint16_t before[STEPS_MOST + 1]) {
    memset(before, 0, (STEPS_MOST + 1) * sizeof *before);
    for (bool changed = true; changed;) {
        changed = false;
        for (unsigned n = 0; n < c->steps; n++) {
            const struct step *s = &c->step[n];
            uint16_t after = (uint16_t)((before[n] & ~s->defines) | s->undefined);
            if (s->kind == STEP_CALL && s->target == NO_STEP)
                after = ALL; /* its routine is not made yet */
            for (unsigned k = 0; s->kind == STEP_RETURN && k < c->steps; k++)
                if (c->step[k].kind == STEP_CALL && c->step[k].target == s->target)
                    changed |= flows(&before[k + 1], after);
            if (s->kind != STEP_RETURN && s->target != NO_STEP)
                changed |= flows(&before[s->target], after);
            if (!s->leaves)
                changed |= flows(&before[n + 1], after);
        }
    }
}

bool sequence_valid(const struct test_case *c) {
    uint16_t before[STEPS_MOST + 1];
    sequence_flow(c, before);
    for (unsigned n = 0; n < c->steps; n++)
        if (before[n] & c->step[n].reads)
            return false;
    return true;
}

uint32_t sequence_undefined(const struct test_case *c, uint32_t vector, uint64_t rip, int *step) {
    uint16_t before[STEPS_MOST + 1];
    uint64_t at = rip - CODE - c->code_offset - (vector == 3); /* INT3 is behind it */
    sequence_flow(c, before);
    *step = NO_STEP;
    uint32_t every = 0;
    for (unsigned n = 0; n < c->steps; n++) {
        every |= before[n] | c->step[n].undefined;
        if (at >= c->step[n].at && at < c->step[n].at + c->step[n].size)
            *step = (int)n;
        if (at == c->step[n].at)
            return before[n] | c->step[n].undefined;
    }
    if (at == c->code_size)
        return before[c->steps];
    return every | before[c->steps];
}

bool sequence_without(struct test_case *c, unsigned k) {
    struct step *s = &c->step[k];
    if (s->kind == STEP_RETURN || s->kind == STEP_END || s->kind == STEP_WRITTEN)
        return false;
    bool is_nop = true;
    for (unsigned n = 0; n < s->size; n++)
        is_nop = is_nop && s->at + n < c->code_size && c->code[s->at + n] == 0x90;
    if (is_nop || s->at + s->size > c->code_size)
        return false;
    memset(c->code + s->at, 0x90, s->size);
    s->defines = s->undefined = s->reads = 0;
    s->leaves = false, s->kind = STEP_PLAIN;
    s->template = s->target = NO_STEP;
    return sequence_valid(c);
}

/* ---- making --------------------------------------------------------------------------------------------------------
 */

#define RECENT 4

struct maker {
    struct rng *r;
    const struct template *templates;
    struct test_case *c;
    struct coder out;
    uint32_t pointers, indexes, counter; /* masks of registers */
    uint64_t value[16];                  /* of pointers and indexes, when the case starts */
    unsigned recent_register[RECENT], recent_vector[RECENT];
    uint64_t recent_place[RECENT];
    unsigned registers, vectors, places; /* how many of these were ever noted */
    struct {
        unsigned step, fixup, size; /* size: of the displacement */
        unsigned steps_left;
    } jump[8];
    unsigned jumps;
    struct {
        unsigned step, fixup, routine;
    } call[8];
    unsigned calls, routines;
    bool changes; /* itself */
    struct {
        unsigned step, size;
    } written[16]; /* the first of these that have an immediate; it is their last bytes */
    unsigned immediates;
    struct {
        unsigned fixup, end;
    } writer[8]; /* displacements, and where the instruction ends that has it */
    unsigned writers;
    bool in_routine;    /* the stack pointer must come back to the return address */
    unsigned undefined; /* flags, before the step being added */
};

static unsigned pick_of(struct rng *r, uint32_t mask) { /* a register of those in mask, which is not empty */
    unsigned n = (unsigned)below(r, (unsigned)__builtin_popcount(mask));
    while (n-- > 0)
        mask &= mask - 1;
    return (unsigned)__builtin_ctz(mask);
}

static struct step *begin_step(struct maker *m, int32_t template) {
    struct step *s = &m->c->step[m->c->steps];
    *s = (struct step){.at = (uint16_t)m->out.size, .template = template, .target = NO_STEP};
    return s;
}
static void end_step(struct maker *m) {
    struct step *s = &m->c->step[m->c->steps++];
    s->size = (uint8_t)(m->out.size - s->at);
}
/* A step of given bytes. */
static struct step *plain_step(struct maker *m, uint64_t bytes, unsigned size, uint16_t defines, uint16_t undefined) {
    struct step *s = begin_step(m, NO_STEP);
    put(&m->out, bytes, size);
    s->defines = defines, s->undefined = undefined;
    end_step(m);
    return s;
}

static uint16_t undefined_now(const struct maker *m) {
    uint16_t before[STEPS_MOST + 1];
    sequence_flow(m->c, before);
    return before[m->c->steps];
}

static void resolve(struct maker *m, unsigned which) { /* this jump goes to the step that comes now */
    unsigned fixup = m->jump[which].fixup, size = m->jump[which].size;
    uint32_t distance = m->out.size - (fixup + size);
    memcpy(m->c->code + fixup, &distance, size);
    m->c->step[m->jump[which].step].target = m->c->steps;
    m->jump[which] = m->jump[--m->jumps];
}
static void step_begins(struct maker *m) {
    for (unsigned n = m->jumps; n-- > 0;)
        if (m->jump[n].steps_left-- == 0)
            resolve(m, n);
}

static uint32_t physical(unsigned number, bool is_byte, bool legacy) { /* the mask of the register written */
    return 1u << (is_byte && legacy && number >= 4 && number < 8 ? number - 4 : number);
}

/* A register number for an operand; `legacy`: without REX. */
static unsigned choose_register(struct maker *m, int operand, bool legacy, bool *fits) {
    bool is_byte = operand & BYTE;
    unsigned registers = legacy ? 8 : 16, number = 0;
    *fits = true;
    if (!(operand & GENERAL)) { /* xmm, mm, ymm: few of them, so that they meet */
        number = percent(m->r, 80) ? (unsigned)below(m->r, 5) : (unsigned)below(m->r, registers);
        return number;
    }
    uint32_t pinned = m->pointers | m->counter | m->indexes, never = m->counter | (m->in_routine ? 1u << 4 : 0);
    for (unsigned attempt = 0; attempt < 30; attempt++) {
        number = (unsigned)below(m->r, registers);
        if (m->registers && percent(m->r, operand & WRITTEN ? 40 : 60)) {
            unsigned known = m->registers < RECENT ? m->registers : RECENT;
            number = m->recent_register[below(m->r, known)];
        }
        if (number >= registers)
            continue;
        if (is_byte && legacy && number < 4 && percent(m->r, 60))
            number += 4;
        if (!(operand & WRITTEN))
            return number;
        uint32_t mask = physical(number, is_byte, legacy);
        if (!(mask & pinned) || (!(mask & never) && percent(m->r, 1)))
            return number;
    }
    *fits = false;
    return 0;
}

static void note_register(struct maker *m, uint32_t mask) {
    if (!(mask & (m->pointers | m->counter)))
        m->recent_register[m->registers++ % RECENT] = (unsigned)__builtin_ctz(mask);
}

/* A memory operand of `size` bytes.  With `any`, it is only an address. */
static bool choose_operand(struct maker *m, unsigned size, bool legacy, bool aligned, bool any, struct operand *o) {
    struct rng *r = m->r;
    unsigned registers = legacy ? 8 : 16;
    uint32_t usable = legacy ? 0xff : 0xffff;
    unsigned base = pick_of(r, m->pointers & usable), scale = (unsigned)below(r, 4), index = 4;
    uint32_t indexes = m->indexes & usable;
    if (indexes && percent(r, 45))
        index = pick_of(r, indexes);
    if (any) {
        base = (unsigned)below(r, registers);
        index = percent(r, 60) ? (unsigned)below(r, registers) : 4;
    }
    uint64_t around = m->value[base] + (index == 4 ? 0 : m->value[index] << scale), target;
    if (m->places && percent(r, 40)) {
        target = m->recent_place[below(r, m->places < RECENT ? m->places : RECENT)];
        if (percent(r, 30))
            target += below(r, 15) - 7;
    } else if (percent(r, 55))
        target = around + (percent(r, 30) ? 0 : percent(r, 50) ? 8 * below(r, 16) : below(r, 240) - 120);
    else if (percent(r, 92))
        target = DATA + 0x100 + below(r, DATA_RW - 0x200);
    else
        target = make_place(r, size, false);
    if (aligned)
        target &= ~(uint64_t)(size - 1);
    o->target = target;
    if (percent(r, 3)) {
        o->segment = percent(r, 50) ? 0x64 : 0x65;
        target -= o->segment == 0x64 ? FS_BASE : GS_BASE;
    }
    if (percent(r, 3) && target < 0xffffffff)
        o->address32 = true;
    unsigned form = (unsigned)below(r, 10);
    if (form == 0 && !o->segment && !o->address32 && target - CODE + 0x40000000 < 0x80000000) {
        o->riprel = true, o->rm = 5, o->disp_size = 4;
        return true;
    }
    if (form == 1 && (int64_t)target == (int32_t)target) {
        o->has_sib = true, o->rm = 4, o->disp_size = 4, o->disp = target;
        o->base = 5, o->index = 4;
        o->sib = (uint8_t)(below(r, 4) << 6 | 4 << 3 | 5);
        return true;
    }
    int64_t disp = (int64_t)(target - around);
    if (any && !percent(r, 20))
        disp = percent(r, 50) ? (int8_t)rng_next(r) : (int32_t)rng_next(r);
    if (disp != (int32_t)disp) {
        if (!o->address32)
            return false;
        disp = (int32_t)disp;
    }
    o->base = (uint8_t)base, o->index = (uint8_t)index, o->disp = (uint64_t)disp;
    o->mod = disp == 0 && (base & 7) != 5 && percent(r, 90) ? 0 : disp == (int8_t)disp && percent(r, 90) ? 1 : 2;
    o->disp_size = o->mod == 0 ? 0 : o->mod == 1 ? 1 : 4;
    o->has_sib = index != 4 || (base & 7) == 4 || percent(r, 3);
    o->rm = o->has_sib ? 4 : (uint8_t)(base & 7);
    o->sib = (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7));
    return true;
}

static bool fits_implicit(struct maker *m, const struct role *o, const struct template *t) {
    uint32_t written = (uint32_t)o->implicit, pinned = (m->pointers & ~(1u << 4)) | m->indexes;
    if (written & (m->counter | (m->in_routine ? 1u << 4 : 0)))
        return false;
    if (t->flags & T_STRING) {
        uint32_t used = written & 0xc0;
        if ((m->pointers & used) != used)
            return false;
        if ((t->prefix == 0xf2 || t->prefix == 0xf3) && !(m->indexes & 2))
            return false; /* RCX would be anything */
        return true;
    }
    if (strcmp(t->name, "leave") == 0)
        return m->pointers >> 5 & 1;
    return !(written & pinned) || percent(m->r, 1);
}

/* What is known of the flags behind a shift. */
static void shift_flags(const struct template *t, uint64_t imm, struct step *s) {
    bool rotates = t->shift == SHIFT_ROTATE;
    if (t->count == COUNT_CL) {
        bool wide = t->size >= 4;
        s->defines = 0;
        s->undefined = (uint16_t)(OF | (rotates ? 0 : AF));
        if (!wide && (t->shift == SHIFT_LOGICAL || t->shift == SHIFT_DOUBLE))
            s->undefined |= CF;
        return;
    }
    uint32_t count = t->count == COUNT_ONE ? 1 : (uint8_t)imm;
    if (!(count & (t->size == 8 ? 63 : 31)))
        return;
    s->undefined = (uint16_t)undefined_flags(t, count);
    s->defines = (uint16_t)((rotates ? CF | OF : ALL) & ~s->undefined);
}

/* Puts an instruction and makes it a step. */
static struct step *put_step(struct maker *m, const struct template *t, const struct encoding *e, int32_t template) {
    struct step *s = begin_step(m, template);
    unsigned fixup = encode(m->r, t, e, &m->out);
    if (e->memory.riprel) {
        uint32_t disp = (uint32_t)(e->memory.target - (m->c->in.rip + m->out.size));
        memcpy(m->c->code + fixup, &disp, 4);
    }
    end_step(m);
    return s;
}

/* MOV accumulator, [what CMPXCHG is about to compare it with]. */
static void load_accumulator(struct maker *m, const struct template *cmpxchg, const struct encoding *of) {
    struct template load = {.prefix = cmpxchg->prefix, .opcode = 0x8a | (cmpxchg->opcode & 1), .w = cmpxchg->w};
    struct encoding e = {.memory = of->memory};
    load.modrm = 1, load.reg = load.rm = -1, load.size = cmpxchg->size;
    if (percent(m->r, 30)) /* more than is compared */
        load.opcode = 0x8b, load.w = 1;
    put_step(m, &load, &e, NO_STEP);
}

/* Adds an instruction of this role; false when it does not fit here. */
static bool add(struct maker *m, const struct role *o) {
    const struct template *t = &m->templates[o->template];
    struct rng *r = m->r;
    bool memory = t->modrm && !t->mod3, byte = (o->reg | o->rm) & BYTE, fits;
    bool legacy = byte && !t->w && percent(r, 40);
    struct encoding e = {.ignored = 1, .rex = legacy ? 0 : 8};
    if ((m->undefined & (uint32_t)o->reads) || !fits_implicit(m, o, t))
        return false;
    e.vvvv = (unsigned)below(r, o->flags & ROLE_VECTOR && percent(r, 80) ? 5 : 16);
    if (o->reg) {
        e.reg = choose_register(m, o->reg, legacy, &fits);
        if (!fits)
            return false;
    } else
        e.reg = t->reg >= 0 ? (unsigned)t->reg : choose_register(m, 0, legacy, &fits);
    if (o->rm && !memory) {
        e.rm = choose_register(m, o->rm, legacy, &fits);
        if (!fits)
            return false;
    } else if (!memory && t->modrm)
        e.rm = t->rm >= 0 ? (unsigned)t->rm : choose_register(m, 0, legacy, &fits);
    if (o->flags & IN_OPCODE) {
        e.rm = ((unsigned)t->opcode & 7) | (percent(r, 50) && !legacy ? 8 : 0);
        uint32_t mask = physical(e.rm, o->rm & BYTE, legacy);
        uint32_t pinned = m->pointers | m->indexes | m->counter;
        if ((o->rm & WRITTEN) && (mask & pinned) && ((mask & m->counter) || !percent(r, 1)))
            return false;
    }
    if (byte && !legacy && (((o->reg & BYTE) && (e.reg & 12) == 4) || ((o->rm & BYTE) && (e.rm & 12) == 4)))
        e.rex = 100;
    if (memory) {
        bool any = o->flags & ADDRESS_ONLY && percent(r, 60);
        bool aligned = o->flags & ROLE_VECTOR && t->size >= 8 && percent(r, 92);
        if (!choose_operand(m, t->size ? (unsigned)t->size : 16, legacy, aligned, any, &e.memory))
            return false;
        if (t->flags & T_BITS) { /* bits near the operand */
            if (!m->indexes)
                return false;
            e.reg = pick_of(r, m->indexes);
        }
        e.lock = o->flags & CAN_LOCK ? 6 : 0;
    }
    e.imm = make_immediate(r, t);
    if (t->count == COUNT_IMM && (percent(r, 80) || t->shift == SHIFT_DOUBLE))
        e.imm = below(r, (unsigned)t->size * 8);
    else if (t->count == COUNT_IMM) /* nothing, all, one more */
        e.imm = PICK(r, ((uint8_t[]){0, 0, 1, 8, 16, 31, 32, 33, 63, 64, 65, 0x80}));
    if (t->flags & T_MOFFS) {
        e.imm = e.memory.target = DATA + 0x100 + below(r, DATA_RW - 0x200);
        if (percent(r, 5))
            e.imm = make_place(r, 8, false);
    }
    if (memory && strcmp(t->name, "cmpxchg") == 0 && !((m->pointers | m->indexes | m->counter) & 1) && percent(r, 60))
        load_accumulator(m, t, &e);
    struct step *s = put_step(m, t, &e, (int32_t)o->template);
    s->defines = (uint16_t)o->defines, s->reads = (uint16_t)o->reads, s->undefined = (uint16_t)t->undefined;
    if (t->shift != SHIFT_NONE)
        shift_flags(t, e.imm, s);
    if (m->changes && t->imm && t->count != COUNT_IMM && !(t->flags & T_MOFFS) &&
        !(o->flags & (ROLE_VECTOR | ROLE_X87)) && m->immediates < sizeof m->written / sizeof *m->written) {
        m->written[m->immediates].step = m->c->steps - 1u;
        m->written[m->immediates++].size = (unsigned)t->imm;
        s->kind = STEP_WRITTEN;
    }
    if (memory && !(o->flags & ADDRESS_ONLY) && e.memory.target - DATA < DATA_RW)
        m->recent_place[m->places++ % RECENT] = e.memory.target;
    if (o->reg & WRITTEN)
        note_register(m, physical(e.reg, o->reg & BYTE, legacy));
    if (o->rm & WRITTEN)
        note_register(m, physical(e.rm, o->rm & BYTE, legacy));
    if (o->implicit & 0xf)
        note_register(m, (uint32_t)o->implicit & 0xf);
    return true;
}

static void add_random(struct maker *m, int must_define) {
    m->undefined = undefined_now(m);
    for (unsigned attempt = 0; attempt < 400; attempt++) {
        const struct role *o = draw(m->r);
        if (must_define && (o->defines & must_define) != must_define)
            continue;
        if (add(m, o))
            return;
    }
}

/* A pointer walks, or an index gets another small value. */
static void add_move(struct maker *m) {
    struct rng *r = m->r;
    if (!m->indexes || percent(r, 60)) {
        unsigned p = pick_of(r, m->pointers);
        if (m->in_routine && p == 4)
            return;
        uint64_t rex = 0x48 | p >> 3, by = below(r, 33) - 16;
        if (percent(r, 50))
            by = percent(r, 75) ? 8 : (uint64_t)-8;
        switch (below(r, 4)) {
        case 0: /* ADD p, by */
            plain_step(m, rex | 0x83 << 8 | (0xc0 | (p & 7)) << 16 | (by & 0xff) << 24, 4, ALL, 0);
            return;
        case 1: /* SUB p, by */
            plain_step(m, rex | 0x83 << 8 | (0xe8 | (p & 7)) << 16 | (by & 0xff) << 24, 4, ALL, 0);
            return;
        case 2: /* INC p, DEC p */
            plain_step(m, rex | 0xff << 8 | (0xc0 | below(r, 2) << 3 | (p & 7)) << 16, 3, ALL & ~CF, 0);
            return;
        default: /* LEA p, [p + by] */
            rex = 0x48 | p >> 3 | p >> 3 << 2;
            if ((p & 7) == 4)
                plain_step(m, rex | 0x8d << 8 | 0x64 << 16 | (0x20u | 4) << 24 | (by & 0xff) << 32, 5, 0, 0);
            else
                plain_step(m, rex | 0x8d << 8 | (0x40 | (p & 7) << 3 | (p & 7)) << 16 | (by & 0xff) << 24, 4, 0, 0);
            return;
        }
    }
    unsigned x = pick_of(r, m->indexes), from = (unsigned)below(r, 16);
    if (percent(r, 50)) /* AND x, small */
        plain_step(m, (0x40u | x >> 3) | 0x83 << 8 | (0xe0 | (x & 7)) << 16 | (uint64_t)below(r, 128) << 24, 4,
                   ALL & ~AF, AF);
    else /* MOVZX x, low byte */
        plain_step(m,
                   (0x40u | x >> 3 << 2 | from >> 3) | 0x0f << 8 | 0xb6 << 16 |
                       (uint64_t)(0xc0 | (x & 7) << 3 | (from & 7)) << 24,
                   4, 0, 0);
}

/* Writes an immediate: of which step, connect_writers() says. */
static void add_writer(struct maker *m) {
    struct rng *r = m->r;
    if (m->writers == sizeof m->writer / sizeof *m->writer)
        return;
    struct step *s = begin_step(m, NO_STEP);
    unsigned form = (unsigned)below(r, 5), from = (unsigned)below(r, 16), imm = 1;
    if (form == 0) /* MOV r8 */
        put(&m->out, (0x40u | from >> 3 << 2) | 0x88 << 8 | (5u | (from & 7) << 3) << 16, 3), imm = 0;
    else if (form == 1) /* INC, DEC */
        put(&m->out, 0xfe | (5u | below(r, 2) << 3) << 8, 2), imm = 0, s->defines = ALL & ~CF;
    else if (form == 2) /* ADD, SUB */
        put(&m->out, 0x80 | (5u | 5 * below(r, 2) << 3) << 8, 2), s->defines = ALL;
    else if (form == 3) /* XOR */
        put(&m->out, 0x80 | (5u | 6 << 3) << 8, 2), s->defines = ALL & ~AF, s->undefined = AF;
    else /* MOV imm8 */
        put(&m->out, 0xc6 | 5 << 8, 2);
    m->writer[m->writers].fixup = m->out.size;
    put(&m->out, 0, 4);
    put(&m->out, rng_next(r), imm);
    m->writer[m->writers++].end = m->out.size;
    end_step(m);
}
static void connect_writers(struct maker *m) {
    for (unsigned n = 0; n < m->writers; n++) {
        uint64_t to = DATA + 0x800, from = m->c->in.rip + m->writer[n].end;
        if (m->immediates) {
            unsigned which = (unsigned)below(m->r, m->immediates), size = m->written[which].size;
            const struct step *s = &m->c->step[m->written[which].step];
            to = m->c->in.rip + s->at + s->size - size + below(m->r, size);
        }
        uint32_t disp = (uint32_t)(to - from);
        memcpy(m->c->code + m->writer[n].fixup, &disp, 4);
    }
}

static uint16_t condition_reads(unsigned condition) {
    static const uint16_t reads[8] = {OF, CF, ZF, CF | ZF, SF, PF, SF | OF, SF | OF | ZF};
    return reads[condition >> 1];
}

/* A register that holds nothing needed. */
static unsigned scratch(struct maker *m) { return pick_of(m->r, ~(m->pointers | m->indexes | m->counter) & 0xffff); }

/* LEA of what comes behind a displacement still to be filled in, and a jump (4) or call (2) to it; returns where the
 * displacement lies. */
static unsigned put_indirect(struct maker *m, unsigned reg_field) {
    unsigned by = scratch(m);
    put(&m->out, (0x48u | by >> 3 << 2) | 0x8d << 8 | (5u | (by & 7) << 3) << 16, 3);
    put(&m->out, 0, 4);
    unsigned fixup = m->out.size - 4;
    if (by >> 3)
        put(&m->out, 0x41, 1);
    put(&m->out, 0xff | (0xc0u | reg_field << 3 | (by & 7)) << 8, 2);
    note_register(m, 1u << by);
    return fixup;
}

static void add_call(struct maker *m) {
    if (m->calls == sizeof m->call / sizeof *m->call)
        return;
    struct step *s = begin_step(m, NO_STEP);
    s->kind = STEP_CALL, s->leaves = true;
    m->call[m->calls].step = m->c->steps, m->call[m->calls].routine = (unsigned)below(m->r, m->routines);
    if (percent(m->r, 25))
        m->call[m->calls].fixup = put_indirect(m, 2);
    else {
        put(&m->out, 0xe8, 1);
        m->call[m->calls].fixup = m->out.size;
        put(&m->out, 0, 4);
    }
    m->calls++;
    end_step(m);
}

/* A conditional jump over some of the steps that follow, often with a comparison before it. */
static void add_jump(struct maker *m) {
    struct rng *r = m->r;
    if (m->jumps == sizeof m->jump / sizeof *m->jump)
        return;
    if (percent(r, 65)) {
        add_random(m, percent(r, 70) ? CF | ZF | SF | OF : ZF | SF);
        step_begins(m);
    }
    unsigned condition = (unsigned)below(r, 16), undefined = undefined_now(m);
    for (unsigned n = 0; n < 40 && condition_reads(condition) & undefined; n++)
        condition = (unsigned)below(r, 16);
    bool always = percent(r, 6) || (condition_reads(condition) & undefined), by_rcx = !always && percent(r, 4);
    bool indirect = always && percent(r, 40), wide = indirect || (!by_rcx && percent(r, 15));
    struct step *s = begin_step(m, NO_STEP);
    s->leaves = always;
    s->reads = always || by_rcx ? 0 : condition_reads(condition);
    unsigned fixup;
    if (indirect)
        fixup = put_indirect(m, 4);
    else {
        if (wide && !always)
            put(&m->out, 0x0f, 1);
        put(&m->out, by_rcx ? 0xe3 : always ? wide ? 0xe9 : 0xeb : (wide ? 0x80 : 0x70) | condition, 1);
        fixup = m->out.size;
        put(&m->out, 0, wide ? 4 : 1);
    }
    m->jump[m->jumps].step = m->c->steps, m->jump[m->jumps].fixup = fixup;
    m->jump[m->jumps].size = wide ? 4 : 1, m->jump[m->jumps].steps_left = (unsigned)below(r, 5);
    m->jumps++;
    end_step(m);
}

static void add_some(struct maker *m, unsigned count) {
    for (unsigned n = 0; n < count && m->c->steps < STEPS_MOST / 2 && m->out.size < CODE_MOST / 2; n++) {
        step_begins(m);
        unsigned way = (unsigned)below(m->r, 100);
        if (way < 14)
            add_jump(m);
        else if (way < 22)
            add_move(m);
        else if (m->changes && way > 85)
            add_writer(m);
        else if (way < 34 && m->routines && !m->in_routine)
            add_call(m);
        else
            add_random(m, 0);
    }
}

/* Counts down, or up, and jumps back to step `head`. */
static void add_loop_end(struct maker *m, unsigned head, uint64_t times) {
    struct rng *r = m->r;
    unsigned counter = (unsigned)__builtin_ctz(m->counter), back = m->c->step[head].at, form = (unsigned)below(r, 6);
    uint64_t rex = (percent(r, 60) ? 0x48 : 0x40) | counter >> 3, low = counter & 7;
    uint64_t junk = rex & 8 ? 0 : rng_next(r) << 32; /* what 32-bit counting does not see */
    unsigned condition = 5;                          /* JNE */
    m->c->in.gpr[counter] = times | junk;
    if (form == 0 && counter == 1 && m->out.size + 2 - back <= 127) {
        struct step *s = begin_step(m, NO_STEP);
        m->c->in.gpr[1] = times;
        s->target = (int32_t)head;
        put(&m->out, 0xe2, 1);
        put(&m->out, back - (m->out.size + 1), 1);
        end_step(m);
        return;
    }
    if (form <= 2)
        plain_step(m, rex | 0xff << 8 | (0xc8 | low) << 16, 3, ALL & ~CF, 0); /* DEC */
    else if (form == 3) {
        plain_step(m, rex | 0x83 << 8 | (0xe8 | low) << 16 | 1u << 24, 4, ALL, 0); /* SUB 1 */
        condition = percent(r, 50) ? 5 : 15;                                       /* JNE, JG */
    } else if (form == 4) {
        m->c->in.gpr[counter] = junk;
        plain_step(m, rex | 0x83 << 8 | (0xc0 | low) << 16 | 1u << 24, 4, ALL, 0); /* ADD 1; CMP times; JB */
        plain_step(m, rex | 0x81 << 8 | (0xf8 | low) << 16 | times << 24, 7, ALL, 0);
        condition = percent(r, 50) ? 2 : 5;
    } else {
        uint64_t both = (rex & 0x48) | counter >> 3 | counter >> 3 << 2;
        plain_step(m, rex | 0x83 << 8 | (0xe8 | low) << 16 | 1u << 24, 4, ALL, 0); /* SUB 1; TEST; JNE */
        plain_step(m, both | 0x85 << 8 | (0xc0 | low << 3 | low) << 16, 3, ALL & ~AF, AF);
    }
    struct step *s = begin_step(m, NO_STEP);
    s->target = (int32_t)head;
    s->reads = condition_reads(condition);
    if (m->out.size + 2 - back <= 128 && percent(r, 90)) {
        put(&m->out, 0x70 | condition, 1);
        put(&m->out, back - (m->out.size + 1), 1);
    } else {
        put(&m->out, 0x0f, 1);
        put(&m->out, 0x80 | condition, 1);
        put(&m->out, (uint32_t)(back - (m->out.size + 4)), 4);
    }
    end_step(m);
}

/* A step that pushes or pops a register: `opcode` 50h or 58h. */
static void push_or_pop(struct maker *m, unsigned opcode, unsigned number) {
    begin_step(m, NO_STEP);
    if (number >> 3 || percent(m->r, 10))
        put(&m->out, 0x40 | number >> 3, 1);
    put(&m->out, opcode | (number & 7), 1);
    end_step(m);
}

/* INT3, and behind it the routines that were called. */
static void add_routines(struct maker *m) {
    struct rng *r = m->r;
    struct step *s = begin_step(m, NO_STEP);
    s->kind = STEP_END, s->leaves = true;
    put(&m->out, 0xcc, 1);
    end_step(m);
    m->in_routine = true;
    for (unsigned n = 0; n < m->routines; n++) {
        unsigned first = m->c->steps;
        for (unsigned k = 0; k < m->calls; k++)
            if (m->call[k].routine == n) {
                uint32_t distance = m->out.size - (m->call[k].fixup + 4);
                memcpy(m->c->code + m->call[k].fixup, &distance, 4);
                m->c->step[m->call[k].step].target = (int32_t)first;
            }
        bool saves = percent(r, 40);
        if (saves)
            push_or_pop(m, 0x50, (unsigned)below(r, 16));
        for (unsigned k = 0, count = (unsigned)below(r, 4); k < count; k++) {
            step_begins(m);
            unsigned way = (unsigned)below(r, 10);
            if (way == 0)
                add_jump(m);
            else if (way == 1)
                add_move(m);
            else
                add_random(m, 0);
        }
        while (m->jumps)
            resolve(m, 0);
        if (saves)
            push_or_pop(m, 0x58, scratch(m));
        s = begin_step(m, NO_STEP);
        s->kind = STEP_RETURN, s->leaves = true, s->target = (int32_t)first;
        if (percent(r, 10))
            put(&m->out, 0xf3, 1);
        if (percent(r, 8))
            put(&m->out, 0xc2 | (uint64_t)(8 * below(r, 3)) << 8, 3);
        else
            put(&m->out, 0xc3, 1);
        end_step(m);
    }
}

static void choose_roles(struct maker *m) {
    struct rng *r = m->r;
    struct cpu_state *s = &m->c->in;
    m->pointers = 1u << 4;
    for (unsigned n = 0, count = 2 + (unsigned)below(r, 3); n < count; n++)
        m->pointers |= 1u << (percent(r, 40) ? PICK(r, ((unsigned[]){3, 5, 6, 7})) : (unsigned)below(r, 16));
    for (unsigned n = 0, count = 1 + (unsigned)below(r, 2); n < count; n++)
        m->indexes |= 1u << below(r, 16);
    m->indexes &= ~m->pointers;
    uint32_t others = ~(m->pointers | m->indexes) & 0xffff;
    m->counter = percent(r, 30) && (others & 2) ? 2 : 1u << pick_of(r, others);
    for (unsigned n = 0; n < 16; n++) {
        s->gpr[n] = n && percent(r, 8) ? s->gpr[below(r, n)] : make_integer(r);
        if (m->pointers >> n & 1) {
            s->gpr[n] = DATA + 0x400 + 16 * below(r, 0x180) + (percent(r, 20) ? below(r, 16) : 0);
            if (n == 4)
                s->gpr[n] &= percent(r, 95) ? ~(uint64_t)7 : ~(uint64_t)0;
        }
        if (m->indexes >> n & 1)
            s->gpr[n] = percent(r, 85) ? below(r, 128) : (uint64_t)0 - below(r, 128);
        m->value[n] = s->gpr[n];
    }
}

static void make_one(struct rng *r, const struct template *templates, struct test_case *c) {
    struct maker m = {.r = r, .templates = templates, .c = c, .out = {c->code, 0}};
    struct cpu_state *s = &c->in;
    memset(s, 0, sizeof *s);
    memset(c->patch, 0, sizeof c->patch);
    c->steps = 0;
    choose_roles(&m);
    s->rflags = 0x202 | (rng_next(r) & 0x8d5) | (percent(r, 10) ? 0x400 : 0) | (percent(r, 1) ? 0x40000 : 0);
    make_float_state(r, s);
    if (percent(r, 80))
        s->mxcsr |= 0x1f80;
    if (percent(r, 80)) {
        s->fcw |= 0x3f;
        s->fsw &= (uint16_t)~0x8080;
    }
    c->code_offset = (uint16_t)(0x400 + below(r, 64));
    if (percent(r, 8)) /* over a page's end */
        c->code_offset = (uint16_t)((percent(r, 50) ? 0x1000 : 0x2000) - 1 - below(r, 100));
    m.changes = percent(r, 12);
    if (m.changes)
        c->code_offset = (uint16_t)(CODE_W + below(r, 0x800));
    s->rip = CODE + c->code_offset;

    unsigned length = 3 + (unsigned)below(r, 12);
    bool loops = percent(r, 75);
    m.routines = percent(r, 75) ? 0 : 1 + (unsigned)below(r, 2);
    uint64_t times = percent(r, 10) ? 1 + below(r, 4) : percent(r, 6) ? 200 + below(r, 400) : 20 + below(r, 100);
    if (loops)
        add_some(&m, (unsigned)below(r, 3));
    unsigned head = c->steps;
    add_some(&m, length);
    if (loops && c->steps > head) {
        for (unsigned n = m.jumps; n-- > 0;)
            if (percent(r, 85)) /* the others leave the loop */
                resolve(&m, n);
        add_loop_end(&m, head, times);
        step_begins(&m);
        add_some(&m, (unsigned)below(r, 3));
    }
    while (m.jumps)
        resolve(&m, 0);
    if (m.calls)
        add_routines(&m);
    connect_writers(&m);
    c->code_size = (uint16_t)m.out.size;
    if (!m.changes && c->code_offset + m.out.size > CODE_SIZE)
        c->code_size = (uint16_t)(CODE_SIZE - c->code_offset);
    for (unsigned n = 0; n < 2; n++)
        if (m.places && percent(r, 40))
            make_patch(r, c, n, m.recent_place[below(r, m.places < RECENT ? m.places : RECENT)], false);
    if (percent(r, 40))
        make_patch(r, c, 2, s->gpr[4], false);
}

void make_sequence(uint64_t seed, uint64_t number, const struct template *templates, struct test_case *c) {
    struct rng r;
    rng_seed(&r, seed ^ 0x5e90e7ce, number);
    memset(c, 0, offsetof(struct test_case, step));
    c->number = number;
    do
        make_one(&r, templates, c);
    while (!sequence_valid(c));
}
