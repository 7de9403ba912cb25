/* What the parts of the silicon comparison share.  See silicon_main.c. */
#ifndef SILICON_H
#define SILICON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Linear addresses, the same in the native process and in the guest. */
#define DATA       0x20000000u /* two pages to write, one to read, nothing on either side */
#define DATA_RW    0x2000u
#define DATA_SIZE  0x3000u
#define CODE       0x20010000u /* two pages, not writable, nothing behind them */
#define CODE_SIZE  0x2000u
#define CODE_W     0x4000u /* from CODE: a page of code that a case may write, for those that change themselves */
#define FS_BASE    (DATA + 0x400u)
#define GS_BASE    (DATA + 0x1240u)
#define LINE       64
#define LINES_KEPT 12
#define BATCH      256

/* Linux's selectors for user mode. */
#define USER_CS64 0x33
#define USER_CS32 0x23
#define USER_SS   0x2b

/* Not vectors of the processor. */
#define VECTOR_HANG 0xfd
#define VECTOR_LOST 0xfe

struct cpu_state {
    uint64_t gpr[16]; /* in the order of their numbers */
    uint64_t rip, rflags, cr2;
    uint32_t vector, error;
    uint16_t fcw, fsw, ftw; /* ftw: a bit for each physical register in use, as FXSAVE has it */
    uint32_t mxcsr;
    uint8_t st[8][16]; /* ST(0) first; ten bytes count */
    uint8_t xmm[16][16], ymmh[16][16];
};

struct patch { /* bytes that the case puts into memory first; within the writable pages and one line long at most */
    uint16_t offset, size;
    uint8_t bytes[LINE];
};

#define CODE_MOST  384
#define STEPS_MOST 60
#define NO_STEP    (-1)
enum { STEP_PLAIN, STEP_CALL, STEP_RETURN, STEP_END, STEP_WRITTEN };
struct step { /* an instruction of a sequence */
    uint16_t at;
    uint8_t size, kind;
    bool leaves;              /* never goes on to the next step */
    int32_t template, target; /* or NO_STEP; target: the step it may jump to, of a return its routine's first */
    uint16_t defines, undefined, reads; /* flags */
};

struct test_case {
    uint64_t number;
    struct cpu_state in;
    struct patch patch[3];
    uint16_t code_offset, code_size;
    uint8_t mode32, steps; /* steps: 0 for a single instruction */
    uint32_t template;
    uint32_t shift_count; /* for the flags that depend on it */
    uint32_t translate;   /* executions after which the core translates a block; see core_run */
    bool forgets;         /* the core's TLB is empty at the start */
    struct step step[STEPS_MOST];
    uint8_t code[CODE_MOST];
};

struct outcome {
    struct cpu_state state;
    uint64_t code;  /* digest of the writable page of code */
    uint32_t lines; /* of memory changed */
    uint64_t digest;
    struct {
        uint16_t index;
        uint8_t bytes[LINE];
    } line[LINES_KEPT];
};

struct shared { /* between the two processes */
    uint32_t count;
    uint8_t image[DATA_SIZE];
    struct test_case cases[BATCH];
    struct outcome native[BATCH];
};

/* One side's memory: where a page of DATA lies, and what it holds before a case. */
struct window {
    uint8_t *page[3];
    uint8_t before[DATA_SIZE];
};

static inline uint8_t *window_at(const struct window *w, uint32_t offset) {
    return w->page[offset >> 12] + (offset & 0xfff);
}
static inline void copy_bytes(void *to, const void *from, size_t size) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}
static inline bool line_differs(const uint8_t *a, const uint8_t *b) {
    const uint64_t *x = (const uint64_t *)(const void *)a, *y = (const uint64_t *)(const void *)b;
    uint64_t d = 0;
    for (unsigned n = 0; n < LINE / 8; n++)
        d |= x[n] ^ y[n];
    return d != 0;
}
static inline void window_load(struct window *w, const uint8_t *image) {
    copy_bytes(w->before, image, DATA_SIZE);
    for (unsigned n = 0; n < 3; n++)
        copy_bytes(w->page[n], image + 4096 * n, 4096);
}
static inline void window_begin(struct window *w, const struct test_case *c) {
    for (unsigned n = 0; n < 3; n++)
        for (unsigned k = 0; k < c->patch[n].size; k++) {
            unsigned at = c->patch[n].offset + k;
            *window_at(w, at) = w->before[at] = c->patch[n].bytes[k];
        }
}
static inline bool writes_code(const struct test_case *c) { return c->code_offset >= CODE_W; }
/* What is in the writable page of code after a case in it, and INT3 again. */
static inline uint64_t empty_code(uint8_t *page) {
    uint64_t digest = 0;
    for (unsigned n = 0; n < 4096; n++) {
        digest = (digest ^ page[n]) * 0x100000001b3u;
        page[n] = 0xcc;
    }
    return digest;
}
/* What the case changed, and back to the image. */
static inline void window_end(struct window *w, const struct test_case *c, const uint8_t *image, struct outcome *o) {
    o->lines = 0;
    o->digest = 0;
    for (unsigned at = 0; at < DATA_RW; at += LINE) {
        uint8_t *now = window_at(w, at);
        if (!line_differs(now, w->before + at))
            continue;
        for (unsigned k = 0; k < LINE; k++)
            o->digest = (o->digest ^ now[k]) * 0x100000001b3u + at;
        if (o->lines < LINES_KEPT) {
            o->line[o->lines].index = (uint16_t)(at / LINE);
            copy_bytes(o->line[o->lines].bytes, now, LINE);
        }
        o->lines++;
        copy_bytes(now, image + at, LINE);
    }
    for (unsigned n = 0; n < 3; n++)
        for (unsigned k = 0; k < c->patch[n].size; k++) {
            unsigned at = c->patch[n].offset + k;
            *window_at(w, at) = w->before[at] = image[at];
        }
}

/* silicon_native.c: the other process.  Its two ends of pipes: a byte in for a batch to run, a byte out when it is
 * done. */
_Noreturn void native_main(struct shared *shared, int from, int to);

/* silicon_core.c */
struct core;
extern bool core_all_features; /* announce what is not whole yet, too; set before anything else */
extern bool core_kicks;        /* another thread makes KVM_RUN end all the time */
struct core *core_open(void);
void core_run(struct core *core, const struct test_case *c, const uint8_t *image, struct outcome *o);
void core_image(struct core *core, const uint8_t *image);
/* CPUID as the core supports it: eax, ebx, ecx, edx of a leaf; zeros when it has none. */
void core_cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4]);

#endif
