/* Runs cases on the processor itself.
 *
 * The whole runner is one signal handler.  Every case ends with an exception (INT3 when nothing else happens), which
 * the kernel turns into a signal: the handler copies the interrupted state out, puts the next case's state into the
 * signal frame (general registers, flags, CS, and the XSAVE image with x87, SSE and AVX), and returns into it.  Nothing
 * of libc is used once the FS base is the tests'.
 */
#include <asm/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#include "silicon.h"

#define XSTATE_HEADER 512
#define XSTATE_YMMH   576
#define XSTATE_X87    1u
#define XSTATE_SSE    2u
#define XSTATE_AVX    4u
#define XSTATE_PKRU   0x200u
#define STICKY        (0x40000 | 0x200000 | 0x4000) /* AC, ID, NT: kept by the kernel */

static struct shared *shared;
static struct window window;
static uint8_t *code; /* to write; CODE is the same memory to execute */
static int pipe_in, pipe_out;
static uint32_t current, ticks_of = UINT32_MAX;
static bool started;

static long raw(long number, long a, long b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}

static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void save(const ucontext_t *u, struct cpu_state *s) {
    const greg_t *g = u->uc_mcontext.gregs;
    const uint8_t *x = (const uint8_t *)u->uc_mcontext.fpregs;
    uint64_t present;
    for (unsigned n = 0; n < 16; n++)
        s->gpr[n] = (uint64_t)g[order[n]];
    s->rip = (uint64_t)g[REG_RIP];
    s->rflags = (uint64_t)g[REG_EFL];
    s->vector = (uint32_t)g[REG_TRAPNO];
    s->error = (uint32_t)g[REG_ERR];
    s->cr2 = (uint64_t)g[REG_CR2];
    copy_bytes(&present, x + XSTATE_HEADER, 8);
    copy_bytes(&s->mxcsr, x + 24, 4);
    s->fcw = 0x37f;
    s->fsw = s->ftw = 0;
    if (present & XSTATE_X87) {
        copy_bytes(&s->fcw, x, 2);
        copy_bytes(&s->fsw, x + 2, 2);
        s->ftw = x[4];
    }
    for (unsigned n = 0; n < 8; n++)
        for (unsigned k = 0; k < 10; k++)
            s->st[n][k] = present & XSTATE_X87 ? x[32 + 16 * n + k] : 0;
    for (unsigned n = 0; n < 16; n++)
        for (unsigned k = 0; k < 16; k++) {
            s->xmm[n][k] = present & XSTATE_SSE ? x[160 + 16 * n + k] : 0;
            s->ymmh[n][k] = present & XSTATE_AVX ? x[XSTATE_YMMH + 16 * n + k] : 0;
        }
}

static void load(ucontext_t *u, const struct test_case *c) {
    const struct cpu_state *s = &c->in;
    greg_t *g = u->uc_mcontext.gregs;
    uint8_t *x = (uint8_t *)u->uc_mcontext.fpregs;
    uint64_t present;
    for (unsigned n = 0; n < 16; n++)
        g[order[n]] = (greg_t)s->gpr[n];
    g[REG_RIP] = (greg_t)s->rip;
    g[REG_EFL] = (greg_t)s->rflags;
    g[REG_CSGSFS] = (g[REG_CSGSFS] & ~(greg_t)0xffff) | (c->mode32 ? USER_CS32 : USER_CS64);
    g[REG_CR2] = 0;
    for (unsigned n = 0; n < 32; n++)
        x[n] = 0;
    copy_bytes(x, &s->fcw, 2);
    copy_bytes(x + 2, &s->fsw, 2);
    x[4] = (uint8_t)s->ftw;
    copy_bytes(x + 24, &s->mxcsr, 4);
    for (unsigned n = 0; n < 8; n++)
        copy_bytes(x + 32 + 16 * n, s->st[n], 10);
    copy_bytes(x + 160, s->xmm, sizeof s->xmm);
    copy_bytes(x + XSTATE_YMMH, s->ymmh, sizeof s->ymmh);
    copy_bytes(&present, x + XSTATE_HEADER, 8);
    present = (present & XSTATE_PKRU) | XSTATE_X87 | XSTATE_SSE | XSTATE_AVX;
    copy_bytes(x + XSTATE_HEADER, &present, 8);
}

static uint8_t *code_at(uint32_t offset) { return code + (offset < CODE_SIZE ? offset : offset - CODE_W + CODE_SIZE); }

static void begin(ucontext_t *u) {
    const struct test_case *c = &shared->cases[current];
    window_begin(&window, c);
    copy_bytes(code_at(c->code_offset), c->code, c->code_size);
    load(u, c);
}

static void next_batch(void) {
    char byte = 0;
    if (started && raw(SYS_write, pipe_out, (long)&byte, 1) != 1)
        raw(SYS_exit_group, 1, 0, 0);
    while (true) {
        long r = raw(SYS_read, pipe_in, (long)&byte, 1);
        if (r == 1)
            break;
        if (r != -4) /* EINTR */
            raw(SYS_exit_group, 0, 0, 0);
    }
    started = true;
    current = 0;
    window_load(&window, shared->image);
}

static void handler(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    (void)info;
    /* alignment checking may be on; ID and NT would come back with sigreturn */
    __asm__ volatile("pushfq; andq %0, (%%rsp); popfq" : : "i"(~(long)STICKY) : "memory", "cc");
    if (started) {
        const struct test_case *c = &shared->cases[current];
        struct outcome *o = &shared->native[current];
        if (number == SIGVTALRM && ticks_of != current) {
            ticks_of = current; /* the second time the same case is still running, it hangs */
            return;
        }
        save(u, &o->state);
        if (number == SIGVTALRM)
            o->state.vector = VECTOR_HANG;
        window_end(&window, c, shared->image, o);
        uint8_t *bytes = code_at(c->code_offset);
        o->code = writes_code(c) ? empty_code(code + CODE_SIZE) : 0;
        for (unsigned n = 0; n < c->code_size; n++)
            bytes[n] = 0xcc;
        current++;
        ticks_of = UINT32_MAX;
    }
    if (!started || current == shared->count)
        next_batch();
    begin(u);
}

static void *map(uint64_t at, size_t size, int prot, int fd, off_t offset) {
    int flags = MAP_SHARED | MAP_POPULATE | (at ? MAP_FIXED_NOREPLACE : 0);
    void *p = mmap((void *)(uintptr_t)at, size, prot, flags, fd, offset);
    if (p == MAP_FAILED) {
        perror("silicon: mmap");
        _exit(1);
    }
    return p;
}

_Noreturn void native_main(struct shared *with, int from, int to) {
    static const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS, SIGVTALRM, SIGUSR1};
    stack_t stack = {.ss_sp = malloc(1 << 17), .ss_size = 1 << 17};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    struct itimerval tick = {{0, 200000}, {0, 200000}};
    int fd = memfd_create("silicon", 0);
    if (fd < 0 || ftruncate(fd, DATA_SIZE + CODE_SIZE + 4096)) {
        perror("silicon: memfd");
        _exit(1);
    }
    shared = with;
    pipe_in = from;
    pipe_out = to;
    uint8_t *all = map(0, DATA_SIZE + CODE_SIZE + 4096, PROT_READ | PROT_WRITE, fd, 0);
    memset(all + DATA_SIZE, 0xcc, CODE_SIZE + 4096);
    map(DATA, DATA_RW, PROT_READ | PROT_WRITE, fd, 0);
    map(DATA + DATA_RW, DATA_SIZE - DATA_RW, PROT_READ, fd, DATA_RW);
    map(CODE, CODE_SIZE, PROT_READ | PROT_EXEC, fd, DATA_SIZE);
    map(CODE + CODE_W, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, fd, DATA_SIZE + CODE_SIZE);
    for (unsigned n = 0; n < 3; n++)
        window.page[n] = all + 4096 * n;
    code = all + DATA_SIZE;
    sigaddset(&action.sa_mask, SIGVTALRM);
    if (sigaltstack(&stack, NULL)) {
        perror("silicon: sigaltstack");
        _exit(1);
    }
    for (unsigned n = 0; n < sizeof signals / sizeof *signals; n++)
        sigaction(signals[n], &action, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setitimer(ITIMER_VIRTUAL, &tick, NULL);
    long process = getpid();
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(USER_SS));
    raw(SYS_arch_prctl, ARCH_SET_GS, GS_BASE, 0);
    raw(SYS_arch_prctl, ARCH_SET_FS, FS_BASE, 0);
    for (;;)
        raw(SYS_kill, process, SIGUSR1, 0);
}
