/* Templates of instructions, and cases made from them.  See silicon_make.c. */
#ifndef SILICON_MAKE_H
#define SILICON_MAKE_H
#include "silicon.h"

enum { KIND_LEGACY, KIND_VEX };
enum {                  /* flags of a template */
       T_VSIB = 1,      /* the index is a vector */
       T_REL8 = 2,      /* the immediate is a branch displacement */
       T_REL = 4,       /* the same, 16 or 32 bits */
       T_MOFFS = 8,     /* the immediate is an address */
       T_STRING = 16,   /* uses RSI, RDI, RCX */
       T_BITS = 32,     /* a register is a bit number relative to the memory operand */
       T_APPROX = 64,   /* the manual gives a bound for the relative error instead of a value */
       T_INVALID = 128, /* an encoding without a meaning */
       T_READS = 256,   /* reads arithmetic flags */
       T_MODE32 = 512,
       T_FENV = 1024, /* reads or writes an image of the FPU */
       T_PARTS = 2048 /* accesses memory in several parts */
};
enum { SHIFT_NONE, SHIFT_LOGICAL, SHIFT_ARITHMETIC, SHIFT_ROTATE, SHIFT_DOUBLE };
enum { COUNT_NONE, COUNT_ONE, COUNT_IMM, COUNT_CL };

struct template {
    char name[40];
    int kind, map, prefix, opcode, w, l, modrm, reg, rm, mod3, imm, flags, size;
    int undefined;    /* arithmetic flags that the manual leaves undefined */
    int shift, count; /* undefined flags that depend on the count */
    int weight;
    uint64_t cases, failures;
};

struct rng {
    uint64_t a, b;
};
uint64_t rng_next(struct rng *r);
void rng_seed(struct rng *r, uint64_t seed, uint64_t number);
static inline uint64_t below(struct rng *r, uint64_t n) { return (rng_next(r) >> 11) % n; }
static inline bool percent(struct rng *r, unsigned n) { return below(r, 100) < n; }
#define PICK(r, table) ((table)[below((r), sizeof(table) / sizeof *(table))])

/* Values that find mistakes. */
uint64_t make_integer(struct rng *r);
/* An address for a memory operand of `size` bytes. */
uint64_t make_place(struct rng *r, unsigned size, bool mode32);
/* Control words, x87 and vector registers. */
void make_float_state(struct rng *r, struct cpu_state *s);
/* Something at `address` for the case's patch `which`. */
void make_patch(struct rng *r, struct test_case *c, unsigned which, uint64_t address, bool fpu_image);
uint64_t make_immediate(struct rng *r, const struct template *t);

struct coder {
    uint8_t *bytes;
    unsigned size;
};
static inline void put(struct coder *o, uint64_t value, unsigned size) {
    for (unsigned n = 0; n < size; n++)
        o->bytes[o->size++] = (uint8_t)(value >> 8 * n);
}
/* What a ModRM byte with memory needs. */
struct operand {
    uint8_t mod, rm, sib, base, index; /* base, index: full numbers */
    bool has_sib, riprel, address32;
    int segment; /* prefix or 0 */
    unsigned disp_size;
    uint64_t disp, target;
};
struct encoding {
    unsigned reg, rm, vvvv;
    struct operand memory;
    uint64_t imm;
    unsigned ignored, lock, rex; /* in percent: a segment prefix without effect, LOCK, REX where none is needed */
};
/* One instruction of a template; returns where its displacement lies. */
unsigned encode(struct rng *r, const struct template *t, const struct encoding *e, struct coder *out);

/* Fills a batch's memory image. */
void make_image(uint64_t seed, uint64_t batch, uint8_t *image);
/* Case `number` with template `t`. */
void make_case(uint64_t seed, uint64_t number, const struct template *t, uint32_t index, const uint8_t *image,
               struct test_case *c);
/* Arithmetic flags not to be compared. */
uint32_t undefined_flags(const struct template *t, uint32_t shift_count);

#endif
