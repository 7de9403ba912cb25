/* Runs single floating-point instructions on the processor itself, for comparison with the simulated one.
 *
 * Each case has the state of x87 and SSE as an FXSAVE image, rax, the flags, memory (which rsi points to) and one
 * instruction.  Cases are read from standard input and written, changed, to standard output.  Faults arrive as signals,
 * with the state in the signal frame.  Code and memory are at the addresses that the test gives the simulated
 * processor.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define DATA 0x20000000u
#define CODE 0x20010000u
#define NONE 0xffffffffu

struct test_case {
    uint8_t state[512]; /* FXSAVE */
    uint64_t rax, flags;
    uint32_t vector, length;
    uint8_t code[16];
    uint8_t mem[256];
};

static sigjmp_buf back;
static struct test_case c;
static uint8_t state[512] __attribute__((aligned(64)));
static uint64_t rax, flags;

static void handler(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    (void)number;
    (void)info;
    memcpy(state, u->uc_mcontext.fpregs, 512);
    rax = (uint64_t)u->uc_mcontext.gregs[REG_RAX];
    flags = (uint64_t)u->uc_mcontext.gregs[REG_EFL];
    c.vector = (uint32_t)u->uc_mcontext.gregs[REG_TRAPNO];
    siglongjmp(back, 1);
}

static void run(void) {
    __asm__ volatile("fxrstor %[state]\n"
                     "pushq %[flags]\n"
                     "popfq\n"
                     "movq %[rax], %%rax\n"
                     "call *%[code]\n"
                     "movq %%rax, %[rax]\n"
                     "pushfq\n"
                     "popq %[flags]\n"
                     "cld\n"
                     "fxsave %[state]\n"
                     "fninit\n"
                     : [state] "+m"(state), [flags] "+m"(flags), [rax] "+m"(rax)
                     : [code] "r"((uint64_t)CODE), "S"((uint64_t)DATA)
                     : "rax", "memory", "cc");
}

static void *map(uint32_t at, int prot) {
    void *p = mmap((void *)(uintptr_t)at, 0x1000, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED)
        perror("mmap");
    return p;
}

int main(void) {
    static char alternate[65536];
    stack_t ss = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS};
    uint8_t *data = map(DATA, PROT_READ | PROT_WRITE), *code = map(CODE, PROT_READ | PROT_WRITE | PROT_EXEC);
    const uint32_t mxcsr = 0x1f80;
    sigaltstack(&ss, NULL);
    for (unsigned k = 0; k < sizeof signals / sizeof *signals; k++)
        sigaction(signals[k], &sa, NULL);
    while (fread(&c, sizeof c, 1, stdin) == 1) {
        memcpy(data, c.mem, sizeof c.mem);
        memcpy(code, c.code, c.length);
        code[c.length] = 0xc3;
        memcpy(state, c.state, 512);
        rax = c.rax;
        flags = c.flags;
        c.vector = NONE;
        if (sigsetjmp(back, 1) == 0)
            run();
        __asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
        memcpy(c.state, state, 512);
        c.rax = rax;
        c.flags = flags;
        memcpy(c.mem, data, sizeof c.mem);
        fwrite(&c, sizeof c, 1, stdout);
    }
    return 0;
}
