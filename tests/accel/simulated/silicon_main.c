/* Compares the C core with the processor this runs on, case by case.
 *
 *   silicon TEMPLATES SEED FIRST COUNT [--sequences ROLES] [--translate N] [--only NAME] [--all-flags] [--limit N]
 *           [--verbose] [--self] [--all-features] [--kicks]
 *
 * Case n is instruction template n mod (sum of weights) with operands and state from (SEED, n), so FIRST = n and COUNT
 * = 1 repeat it.  With --sequences it is a sequence of instructions (silicon_sequence.c); one that differs is made
 * smaller, by putting NOPs in the place of steps for as long as it still differs, and printed once more as "LESS".  One
 * process runs the cases natively (silicon_native.c), this one on the core (silicon_core.c) at the same time.  Prints a
 * line "FAIL number template mode code difference" for the first --limit failures of each template, and the totals.
 * --self puts a second native process in the core's place: whatever differs then cannot be compared.  Exit status: 0
 * all equal, 1 differences, 2 it could not run.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "silicon.h"
#include "silicon_sequence.h"

static struct template *templates;
static uint32_t template_count, *wheel, wheel_size;
static bool all_flags, verbose, self;
static const char *only, *sequences;
static long translate = -1; /* for all cases, or -1 */
static unsigned limit = 3;

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "silicon: %s\n", what);
    exit(2);
}

static void load_templates(const char *path) {
    FILE *f = fopen(path, "r");
    struct template t;
    if (!f) {
        perror(path);
        exit(2);
    }
    memset(&t, 0, sizeof t);
    while (fscanf(f, "%39s %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d", t.name, &t.kind, &t.map, &t.prefix,
                  &t.opcode, &t.w, &t.l, &t.modrm, &t.reg, &t.rm, &t.mod3, &t.imm, &t.flags, &t.size, &t.undefined,
                  &t.shift, &t.count, &t.weight) == 18) {
        templates = realloc(templates, (template_count + 1) * sizeof *templates);
        templates[template_count++] = t;
    }
    if (!feof(f) || !template_count)
        fail("the template file is malformed");
    fclose(f);
    templates = realloc(templates, (template_count + 1) * sizeof *templates); /* the last one stands for a sequence */
    templates[template_count] = (struct template){.name = "sequence", .size = 8};
    for (uint32_t n = 0; n < template_count; n++)
        if (!only || strcmp(templates[n].name, only) == 0)
            wheel_size += (uint32_t)templates[n].weight;
    if (!wheel_size)
        fail("no template has that name");
    wheel = malloc(wheel_size * sizeof *wheel);
    uint32_t at = 0;
    for (uint32_t n = 0; n < template_count; n++)
        if (!only || strcmp(templates[n].name, only) == 0)
            for (int k = 0; k < templates[n].weight; k++)
                wheel[at++] = n;
    for (uint32_t n = wheel_size; n > 1; n--) { /* neighbours apart; the same order every time */
        struct rng r;
        rng_seed(&r, 77, n);
        uint32_t other = (uint32_t)(rng_next(&r) % n), kept = wheel[n - 1];
        wheel[n - 1] = wheel[other];
        wheel[other] = kept;
    }
}

/* ---- comparing -----------------------------------------------------------------------------------------------------
 */

static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
#define ARITH    0x8d5u
#define COMPARED (ARITH | 0x400u | 0x200u | 0x3000u | 0x4000u | 0x40000u)

struct text {
    char bytes[4096];
    size_t size;
};
__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int n = vsnprintf(t->bytes + t->size, sizeof t->bytes - t->size, format, list);
    va_end(list);
    t->size = t->size + (size_t)n < sizeof t->bytes ? t->size + (size_t)n : sizeof t->bytes - 1;
}
static void say_bytes(struct text *t, const uint8_t *bytes, unsigned size) { /* most significant first */
    while (size-- > 0)
        say(t, "%02x", bytes[size]);
}

static void compare_bytes(struct text *t, const char *name, unsigned n, const uint8_t *ours, const uint8_t *theirs,
                          unsigned size) {
    if (memcmp(ours, theirs, size) == 0)
        return;
    say(t, " %s%u ", name, n);
    say_bytes(t, ours, size);
    say(t, " silicon ");
    say_bytes(t, theirs, size);
    say(t, ";");
}

/* SDM volume 2, RCPPS and RSQRTPS: relative error at most 1.5 * 2^-12. */
static bool close_enough(const uint8_t *a, const uint8_t *b) {
    for (unsigned n = 0; n < 16; n += 4) {
        float x, y;
        uint32_t u, v;
        memcpy(&x, a + n, 4);
        memcpy(&y, b + n, 4);
        memcpy(&u, a + n, 4);
        memcpy(&v, b + n, 4);
        if (u == v)
            continue;
        if (!(x == x) || !(y == y) || x - y > 3 * y * (y < 0 ? -1 : 1) / 4096 ||
            y - x > 3 * y * (y < 0 ? -1 : 1) / 4096)
            return false;
    }
    return true;
}

static bool is_memory_fault(uint32_t vector) { return (vector >= 12 && vector <= 14) || vector == 17; }

static void compare(const struct test_case *c, const struct outcome *ours, const struct outcome *theirs,
                    struct text *out) {
    const struct template *t = &templates[c->template];
    const struct cpu_state *a = &ours->state, *b = &theirs->state;
    uint32_t error = b->error, undefined = c->steps ? 0 : undefined_flags(t, c->shift_count);
    int step = NO_STEP;
    if (c->steps) {
        undefined = sequence_undefined(c, b->vector, b->rip, &step);
        if (step != NO_STEP && c->step[step].template != NO_STEP)
            t = &templates[c->step[step].template];
    }
    uint32_t mask = COMPARED & ~(all_flags ? 0 : undefined);
    bool undefined_result = !c->steps && t->shift == SHIFT_DOUBLE && t->size == 2 && (c->shift_count & 31) > 16;
    if (b->vector == VECTOR_HANG && a->vector == VECTOR_HANG)
        return;
    if (a->vector == 6 && b->vector == 14 && b->error == 0x14 && (b->cr2 & 0xfff) == 0)
        return; /* an undefined opcode at the end of the last page: the processor wants its ModRM byte first */
    /* a sequence that changed its own return address and ran into the middle of a step: what is there is anything */
    bool inside = step != NO_STEP && b->rip != CODE + c->code_offset + c->step[step].at;
    if (inside && b->vector != 3 && c->step[step].kind != STEP_CALL)
        return;
    bool both_memory = is_memory_fault(a->vector) && is_memory_fault(b->vector);
    if (both_memory && (t->flags & T_PARTS))
        return;
    /* CALL to an address that is not canonical: this processor stores the return address, or faults doing so, first */
    bool calls = c->steps ? step != NO_STEP && c->step[step].kind == STEP_CALL : strcmp(t->name, "call") == 0;
    if (both_memory && a->vector == 13 && calls)
        return;
    /* an operand over the end of 4 GiB: with a limit of FFFFFFFFh the exception is left open (SDM 3, 5.3); this
     * processor goes on to page 0, or to #AC */
    if (both_memory && c->mode32 && b->vector == 17 && a->vector < 14)
        return;
    if (both_memory && c->mode32 && b->vector == 14 && (b->cr2 >= 0xffffff00 || b->cr2 == 0) && a->vector != 14)
        return;
    /* an unaligned operand over two pages with alignment checking: #AC or #PF first */
    if (both_memory && (a->vector == 17 || b->vector == 17) && a->vector + b->vector == 14 + 17)
        return;
    /* the same of two operands, one of which is no address */
    if (both_memory && (a->vector == 17 || b->vector == 17) && a->vector != b->vector && (t->flags & T_STRING))
        return;
    /* MASKMOVQ and its kin with a mask of zeros: whether memory is looked at is left open (SDM 2) */
    if ((t->flags & T_PARTS) && strstr(t->name, "maskmov") && is_memory_fault(b->vector))
        return;
    /* this processor checks no alignment for VCVTPH2PS, though the manual says so, nor in some of what takes several
     * accesses */
    if (a->vector == 17 && b->vector == 3 && (strcmp(t->name, "vcvtph2ps") == 0 || (t->flags & T_PARTS)))
        return;
    /* an undefined opcode that would be longer than 15 bytes: how long it would be is not said anywhere */
    if (a->vector == 6 && b->vector == 13 && (t->flags & T_INVALID) && c->code_size > 13)
        return;
    /* VCVTPS2PH: #XM before the store's fault */
    if (a->vector == 14 && b->vector == 19 && strcmp(t->name, "vcvtps2ph") == 0)
        return;
    if (a->vector != b->vector) {
        say(out, " vector %u(%x) at %llx, silicon %u(%x) at %llx;", a->vector, a->error, (unsigned long long)a->rip,
            b->vector, b->error, (unsigned long long)b->rip);
        return;
    }
    if (undefined_result && !all_flags)
        return;
    if (b->vector == 14 && b->cr2 >= 0x7ffffffff000) /* the kernel hides what is mapped in its half */
        error = (error & ~1u) | (a->error & 1);
    if (a->error != error)
        say(out, " vector %u error %x silicon %x;", a->vector, a->error, error);
    if (b->vector == 14 && a->cr2 != b->cr2)
        say(out, " cr2 %llx silicon %llx;", (unsigned long long)a->cr2, (unsigned long long)b->cr2);
    if (a->rip != b->rip)
        say(out, " rip %llx silicon %llx (vector %u);", (unsigned long long)a->rip, (unsigned long long)b->rip,
            b->vector);
    for (unsigned n = 0; n < 16; n++)
        if (a->gpr[n] != b->gpr[n])
            say(out, " %s %llx silicon %llx;", names[n], (unsigned long long)a->gpr[n], (unsigned long long)b->gpr[n]);
    if ((a->rflags ^ b->rflags) & mask)
        say(out, " flags %llx silicon %llx;", (unsigned long long)(a->rflags & mask),
            (unsigned long long)(b->rflags & mask));
    /* a store of an MMX register that faults has cleared TOP already on this processor */
    bool top_cleared = is_memory_fault(b->vector) && !(b->fsw & 0x3800) && (a->fsw & 0xc7ff) == (b->fsw & 0xc7ff) &&
                       t->kind == KIND_LEGACY && t->map == 1 && t->prefix == 0;
    if (a->fcw != b->fcw)
        say(out, " fcw %x silicon %x;", a->fcw, b->fcw);
    if (a->fsw != b->fsw && !top_cleared)
        say(out, " fsw %x silicon %x;", a->fsw, b->fsw);
    if (a->ftw != b->ftw)
        say(out, " ftw %x silicon %x;", a->ftw, b->ftw);
    /* the core says in sse_float.h what it does not model: PE beside an unmasked overflow or underflow.  Of a dot
     * product it raises what any of its steps found, the processor what the first of them did */
    uint32_t pe = a->vector == 19 && (b->mxcsr & 0x18) ? 0x20 : 0;
    bool steps = a->vector == 19 && strstr(t->name, "dpp");
    if (((a->mxcsr ^ b->mxcsr) & ~pe) && !steps)
        say(out, " mxcsr %x silicon %x;", a->mxcsr, b->mxcsr);
    for (unsigned n = 0; n < 8 && !top_cleared; n++)
        compare_bytes(out, "st", n, a->st[n], b->st[n], 10);
    for (unsigned n = 0; n < 16; n++) {
        if ((t->flags & T_APPROX) && close_enough(a->xmm[n], b->xmm[n]) && close_enough(a->ymmh[n], b->ymmh[n]))
            continue;
        compare_bytes(out, "xmm", n, a->xmm[n], b->xmm[n], 16);
        compare_bytes(out, "ymmh", n, a->ymmh[n], b->ymmh[n], 16);
    }
    if (ours->code != theirs->code)
        say(out, " code written;");
    if (ours->lines != theirs->lines || ours->digest != theirs->digest) {
        unsigned kept = ours->lines < LINES_KEPT ? ours->lines : LINES_KEPT;
        say(out, " memory: %u lines, silicon %u;", ours->lines, theirs->lines);
        for (unsigned n = 0; n < kept && n < theirs->lines; n++) {
            if (ours->line[n].index != theirs->line[n].index) {
                say(out, " line %x silicon %x;", ours->line[n].index * LINE, theirs->line[n].index * LINE);
                break;
            }
            for (unsigned k = 0; k < LINE; k += 8)
                if (memcmp(ours->line[n].bytes + k, theirs->line[n].bytes + k, 8)) {
                    say(out, " +%x ", ours->line[n].index * LINE + k);
                    say_bytes(out, ours->line[n].bytes + k, 8);
                    say(out, " silicon ");
                    say_bytes(out, theirs->line[n].bytes + k, 8);
                    say(out, ";");
                }
        }
    }
}

static void show_state(const char *title, const struct cpu_state *s) {
    struct text t = {.size = 0};
    say(&t, "  %s: rip %llx rflags %llx vector %u error %x cr2 %llx\n   ", title, (unsigned long long)s->rip,
        (unsigned long long)s->rflags, s->vector, s->error, (unsigned long long)s->cr2);
    for (unsigned n = 0; n < 16; n++)
        say(&t, " %s %llx", names[n], (unsigned long long)s->gpr[n]);
    say(&t, "\n    fcw %x fsw %x ftw %x mxcsr %x\n", s->fcw, s->fsw, s->ftw, s->mxcsr);
    fputs(t.bytes, stdout);
    for (unsigned n = 0; n < 8; n++) {
        t.size = 0;
        say(&t, "    st%u ", n);
        say_bytes(&t, s->st[n], 10);
        say(&t, "\n");
        fputs(t.bytes, stdout);
    }
    for (unsigned n = 0; n < 16; n++) {
        t.size = 0;
        say(&t, "    ymm%u ", n);
        say_bytes(&t, s->ymmh[n], 16);
        say(&t, "_");
        say_bytes(&t, s->xmm[n], 16);
        say(&t, "\n");
        fputs(t.bytes, stdout);
    }
}

static void print_case(const char *kind, const struct test_case *c, const char *difference) {
    struct text code = {.size = 0};
    for (unsigned n = 0; n < c->code_size; n++)
        say(&code, "%02x", c->code[n]);
    printf("%s %llu %s %s %s%s\n", kind, (unsigned long long)c->number, templates[c->template].name,
           c->mode32 ? "32" : "64", code.bytes, difference);
}

/* Whether the case failed and is one of those shown. */
static bool judge(const struct test_case *c, const struct outcome *ours, const struct outcome *theirs) {
    struct template *t = &templates[c->template];
    struct text difference = {.size = 0};
    t->cases++;
    compare(c, ours, theirs, &difference);
    bool shown = difference.size && t->failures++ < limit;
    if (shown)
        print_case("FAIL", c, difference.bytes);
    if (verbose) {
        struct text code = {.size = 0};
        for (unsigned n = 0; n < c->code_size; n++)
            say(&code, "%02x", c->code[n]);
        printf("case %llu %s %s\n", (unsigned long long)c->number, t->name, code.bytes);
        show_state("before", &c->in);
        for (unsigned n = 0; n < 3; n++)
            if (c->patch[n].size) {
                struct text bytes = {.size = 0};
                for (unsigned k = 0; k < c->patch[n].size; k++)
                    say(&bytes, "%02x", c->patch[n].bytes[k]);
                printf("    memory %x: %s\n", DATA + c->patch[n].offset, bytes.bytes);
            }
        show_state("core", &ours->state);
        show_state("silicon", &theirs->state);
    }
    return shown;
}

/* ---- the native process
 * ----------------------------------------------------------------------------------------------
 */

struct native {
    struct shared *shared;
    int to, from;
};

static struct native native_start(void) {
    int to[2], from[2];
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || pipe(to) || pipe(from))
        fail("no memory or no pipes");
    fflush(stdout);
    if (fork() == 0) {
        close(to[1]);
        close(from[0]);
        native_main(shared, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    return (struct native){shared, to[1], from[0]};
}

static void native_begin(const struct native *p) {
    char byte = 0;
    if (write(p->to, &byte, 1) != 1)
        fail("the native process is gone");
}

static void native_wait(const struct native *p) {
    char byte;
    ssize_t got;
    while ((got = read(p->from, &byte, 1)) < 0)
        continue;
    if (got == 0) {
        printf("LOST in the batch from case %llu on\n", (unsigned long long)p->shared->cases[0].number);
        fail("the native process ended");
    }
}

/* A case alone: whether it differs, and how. */
static bool differs(const struct native *reference, struct core *core, const struct test_case *c, struct text *how) {
    struct outcome ours;
    struct shared *shared = reference->shared;
    how->size = 0;
    how->bytes[0] = 0;
    shared->count = 1;
    shared->cases[0] = *c;
    native_begin(reference);
    core_run(core, c, shared->image, &ours);
    native_wait(reference);
    compare(c, &ours, &shared->native[0], how);
    return how->size != 0;
}

/* Leaves out every step without which the case still differs. */
static void make_smaller(const struct native *reference, struct core *core, const struct test_case *failed) {
    struct test_case now = *failed, less;
    struct text how, of_less;
    if (!differs(reference, core, &now, &how)) {
        printf("ALONE case %llu does not differ when it is run alone\n", (unsigned long long)now.number);
        return;
    }
    for (bool again = true; again;) {
        again = false;
        for (unsigned n = now.steps; n-- > 0;) {
            less = now;
            if (sequence_without(&less, n) && differs(reference, core, &less, &of_less))
                now = less, how = of_less, again = true;
        }
    }
    print_case("LESS", &now, how.bytes);
    if (verbose)
        printf("  translated after %u\n", now.translate);
}

/* How often the core is to run a block before it translates it: all ways in turn. */
static uint32_t choose_translate(uint64_t number) {
    static const uint32_t ways[] = {0, 1, 1, 2, 7, 1, 0, 20};
    struct rng r;
    if (translate >= 0)
        return (uint32_t)translate;
    rng_seed(&r, 4242, number);
    return sequences ? PICK(&r, ways) : (uint32_t)below(&r, 2);
}

int main(int argc, char **argv) {
    for (int n = 1; n < argc; n++)
        if (strcmp(argv[n], "--all-features") == 0)
            core_all_features = true;
    if (argc >= 2 && strcmp(argv[1], "--cpuid") == 0) {
        static const uint32_t leaves[] = {1, 7, 0x80000001};
        for (unsigned n = 0; n < 3; n++) {
            uint32_t r[4];
            core_cpuid(leaves[n], 0, r);
            printf("%08x %08x %08x %08x %08x\n", leaves[n], r[0], r[1], r[2], r[3]);
        }
        return 0;
    }
    if (argc < 5)
        fail("usage: silicon TEMPLATES SEED FIRST COUNT [--sequences ROLES] [--translate N] [--only NAME] "
             "[--all-flags] [--limit N] [--verbose] [--self] [--all-features] [--kicks]");
    for (int n = 5; n < argc; n++) {
        if (strcmp(argv[n], "--all-flags") == 0)
            all_flags = true;
        else if (strcmp(argv[n], "--verbose") == 0)
            verbose = true;
        else if (strcmp(argv[n], "--all-features") == 0)
            continue;
        else if (strcmp(argv[n], "--self") == 0)
            self = true;
        else if (strcmp(argv[n], "--kicks") == 0)
            core_kicks = true;
        else if (strcmp(argv[n], "--only") == 0 && n + 1 < argc)
            only = argv[++n];
        else if (strcmp(argv[n], "--sequences") == 0 && n + 1 < argc)
            sequences = argv[++n];
        else if (strcmp(argv[n], "--translate") == 0 && n + 1 < argc)
            translate = strtol(argv[++n], NULL, 0);
        else if (strcmp(argv[n], "--limit") == 0 && n + 1 < argc)
            limit = (unsigned)strtoul(argv[++n], NULL, 0);
        else
            fail("unknown argument");
    }
    uint64_t seed = strtoull(argv[2], NULL, 0), first = strtoull(argv[3], NULL, 0), count = strtoull(argv[4], NULL, 0);
    load_templates(argv[1]);
    if (sequences && !sequence_load(sequences, template_count))
        fail("the file of roles is malformed or does not fit the templates");
    struct native reference = native_start(), other = {0};
    struct shared *shared = reference.shared;
    if (self)
        other = native_start();
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct core *core = self ? NULL : core_open();
    static struct outcome ours[BATCH];
    uint64_t failures = 0;
    for (uint64_t number = first; number < first + count;) {
        uint64_t batch = number / BATCH;
        shared->count = 0;
        make_image(seed, batch, shared->image);
        for (; number < first + count && number / BATCH == batch; number++) {
            uint32_t index = sequences ? template_count : wheel[number % wheel_size];
            struct test_case *c = &shared->cases[shared->count++];
            if (sequences)
                make_sequence(seed, number, templates, c);
            else
                make_case(seed, number, &templates[index], index, shared->image, c);
            c->template = index;
            c->translate = choose_translate(number);
            c->forgets = sequences && number % 5 == 0;
        }
        native_begin(&reference);
        if (self) {
            memcpy(other.shared, shared, sizeof *shared);
            native_begin(&other);
            native_wait(&other);
            memcpy(ours, other.shared->native, sizeof ours);
        } else {
            core_image(core, shared->image);
            for (uint32_t n = 0; n < shared->count; n++)
                core_run(core, &shared->cases[n], shared->image, &ours[n]);
        }
        native_wait(&reference);
        uint32_t shown = 0;
        static struct test_case failed[BATCH];
        for (uint32_t n = 0; n < shared->count; n++)
            if (judge(&shared->cases[n], &ours[n], &shared->native[n]) && sequences && !self)
                failed[shown++] = shared->cases[n];
        for (uint32_t n = 0; n < shown; n++)
            make_smaller(&reference, core, &failed[n]);
    }
    uint32_t covered = 0, failing = 0;
    for (uint32_t n = 0; n <= template_count; n++) {
        covered += templates[n].cases != 0;
        failing += templates[n].failures != 0;
        failures += templates[n].failures;
        if (templates[n].failures)
            printf("SUM %s %llu of %llu\n", templates[n].name, (unsigned long long)templates[n].failures,
                   (unsigned long long)templates[n].cases);
    }
    printf("DONE seed %llu: %llu cases of %u templates, %llu differ in %u templates\n", (unsigned long long)seed,
           (unsigned long long)count, covered, (unsigned long long)failures, failing);
    return failures ? 1 : 0;
}
