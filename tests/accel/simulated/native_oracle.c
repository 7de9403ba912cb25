/* Runs single 32-bit instructions on the processor itself, for comparison with the simulated one.
 *
 * A 64-bit process enters a 32-bit code segment (selector 23h, which Linux keeps in the GDT), loads the case's
 * registers and flags, executes its bytes, stores the registers and comes back.  Faults arrive as signals.  Cases are
 * read from standard input and written, changed, to standard output.  Address layout: data, code and stack at fixed
 * places below 4 GiB, the same as the test gives the simulated processor.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define DATA  0x20000000u
#define CODE  0x20010000u
#define STATE 0x20020000u
#define STACK 0x20031000u
#define NONE  0xffffffffu

struct test_case {
    uint32_t regs[8]; /* eax ecx edx ebx esp ebp esi edi */
    uint32_t eflags, vector;
    uint8_t code[64]; /* the last byte is the length */
    uint8_t mem[512];
};
struct state {
    uint32_t in[8], in_flags, out[8], out_flags;
    uint32_t far_back[2], far_in[2];
    uint64_t rsp;
};
#define S ((volatile struct state *)(uintptr_t)STATE)

static sigjmp_buf back;
static volatile uint32_t vector;

static void handler(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    static const int order[8] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI};
    (void)number;
    (void)info;
    for (int k = 0; k < 8; k++)
        S->out[k] = (uint32_t)u->uc_mcontext.gregs[order[k]];
    S->out_flags = (uint32_t)u->uc_mcontext.gregs[REG_EFL];
    vector = (uint32_t)u->uc_mcontext.gregs[REG_TRAPNO];
    siglongjmp(back, 1);
}

extern char entry32[], entry32_end[], exit32[], exit32_end[];
void enter(void);
__asm__(".text\n"
        "enter:\n"
        " push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        " mov %rsp, 0x20020058\n"
        " mov $0x2b, %eax; mov %eax, %ds; mov %eax, %es\n"
        " ljmp *0x20020050\n"
        "come_back:\n"
        " mov 0x20020058, %rsp\n"
        " cld\n"
        " pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        " ret\n"
        ".code32\n"
        "entry32:\n"
        " mov $0x20031000, %esp\n"
        " pushl 0x20020020\n"
        " popf\n"
        " mov 0x20020000, %eax; mov 0x20020004, %ecx; mov 0x20020008, %edx; mov 0x2002000c, %ebx\n"
        " mov 0x20020014, %ebp; mov 0x20020018, %esi; mov 0x2002001c, %edi; mov 0x20020010, %esp\n"
        "entry32_end:\n"
        "exit32:\n"
        " mov %eax, 0x20020024; mov %ecx, 0x20020028; mov %edx, 0x2002002c; mov %ebx, 0x20020030\n"
        " mov %esp, 0x20020034; mov %ebp, 0x20020038; mov %esi, 0x2002003c; mov %edi, 0x20020040\n"
        " mov $0x20031000, %esp\n"
        " pushf\n"
        " popl 0x20020044\n"
        " ljmp *0x20020048\n"
        "exit32_end:\n"
        ".code64\n");
extern char come_back[];

static void *map(uint32_t at, size_t size, int prot) {
    void *p = mmap((void *)(uintptr_t)at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED)
        perror("mmap");
    return p;
}

int main(void) {
    static char alternate[65536];
    stack_t ss = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS};
    struct test_case c;
    uint8_t *data = map(DATA, 0x4000, PROT_READ | PROT_WRITE);
    uint8_t *code = map(CODE, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC);
    map(STATE, 0x1000, PROT_READ | PROT_WRITE);
    map(STACK - 0x1000, 0x2000, PROT_READ | PROT_WRITE);
    size_t entry_size = (size_t)(entry32_end - entry32);

    _Static_assert(offsetof(struct state, far_back) == 0x48 && offsetof(struct state, far_in) == 0x50 &&
                       offsetof(struct state, rsp) == 0x58,
                   "layout");
    sigaltstack(&ss, NULL);
    for (unsigned k = 0; k < sizeof signals / sizeof *signals; k++)
        sigaction(signals[k], &sa, NULL);
    memcpy(code, entry32, entry_size);
    memcpy(code + 0x800, exit32, (size_t)(exit32_end - exit32));
    S->far_in[0] = CODE;
    S->far_in[1] = 0x23;
    S->far_back[0] = (uint32_t)(uintptr_t)come_back;
    S->far_back[1] = 0x33;
    while (fread(&c, sizeof c, 1, stdin) == 1) {
        uint8_t *insn = code + 0x400, *jump = code + entry_size;
        int32_t to_insn = (int32_t)(0x400 - (entry_size + 5)), to_exit;
        unsigned length = c.code[63];
        memcpy(data, c.mem, sizeof c.mem);
        jump[0] = 0xe9;
        memcpy(jump + 1, &to_insn, 4);
        memset(insn, 0xcc, 96);
        memcpy(insn, c.code, length);
        insn[length] = 0xe9;
        to_exit = (int32_t)(0x800 - (0x400 + length + 5));
        memcpy(insn + length + 1, &to_exit, 4);
        for (int k = 0; k < 8; k++)
            S->in[k] = c.regs[k];
        S->in_flags = c.eflags;
        vector = NONE;
        if (sigsetjmp(back, 1) == 0)
            enter();
        for (int k = 0; k < 8; k++)
            c.regs[k] = S->out[k];
        c.eflags = S->out_flags;
        c.vector = vector;
        memcpy(c.mem, data, sizeof c.mem);
        fwrite(&c, sizeof c, 1, stdout);
    }
    return 0;
}
