/* Runs cases on the C core: one vCPU in long mode, privilege level 3, four-level paging.
 *
 * A case starts with IRETQ in a supervisor page from a frame made here, and ends in the interrupt table: handler v is a
 * HLT at HANDLERS + 16 v, so the exception, its error code and the interrupted state are where the processor pushed
 * them.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include "cpu.h"
#include "silicon.h"

/* Guest-physical layout; the supervisor sees all of it from KERNEL on. */
#define KERNEL    0xffffffff80000000u
#define RAM_SIZE  0x80000u
#define TABLES    0x1000u
#define GDT_AT    0x8000u
#define IDT_AT    0x9000u
#define TSS_AT    0xa000u
#define HANDLERS  0xb000u
#define STUB      0xc000u
#define STACK_TOP 0xe000u
#define CODE_AT   0x10000u
static const u32 data_at[3] = {0x20000, 0x40000, 0x30000}; /* pages that follow one another lie apart */

#define KERNEL_CS  0x10
#define KERNEL_TSS 0x40
#define NX         ((u64)1 << 63)
#define ENTRIES    128

struct core {
    sim_system *system;
    sim_vm *vm;
    sim_vcpu *cpu;
    u8 *ram;
    struct window window;
    struct kvm_sregs sregs;
};

bool core_all_features, core_kicks;
static struct kvm_cpuid2 *supported;
static sim_vcpu *kicked;
static volatile sig_atomic_t ticks; /* since the case began */

static void fail(const char *what) {
    fprintf(stderr, "silicon: %s\n", what);
    exit(2);
}
static long vcpu(struct core *k, unsigned long request, void *arg) {
    return sim_vcpu_ioctl(k->cpu, request, (uintptr_t)arg);
}
static void store(struct core *k, u32 at, u64 value) { memcpy(k->ram + at, &value, 8); }
static void on_alarm(int number) {
    (void)number;
    ticks++;
    sim_vcpu_kick(kicked);
}
static void *kick_on(void *nothing) {
    for (u32 x = 1;; sim_vcpu_kick(kicked)) {
        x = x * 1664525 + 1013904223;
        for (volatile u32 turns = x >> 22; turns > 0;) /* some microseconds */
            turns--;
    }
    return nothing;
}

static void load_cpuid(sim_system *system) {
    if (supported)
        return;
    supported = calloc(1, sizeof *supported + ENTRIES * sizeof *supported->entries);
    supported->nent = ENTRIES;
    if (sim_system_ioctl(system, KVM_GET_SUPPORTED_CPUID, (uintptr_t)supported) < 0)
        fail("KVM_GET_SUPPORTED_CPUID");
    for (u32 n = 0; core_all_features && n < supported->nent; n++) {
        struct kvm_cpuid_entry2 *e = &supported->entries[n];
        if (e->function == 1)
            e->ecx |= 0x3ed83203, e->edx |= 0x07898101; /* SSE3 to RDRAND, x87 to SSE2 */
        else if (e->function == 7 && e->index == 0)
            e->ebx |= 0x219c0129; /* BMI, AVX2, ADX, CLFLUSHOPT, CLWB, SHA */
        else if (e->function == 0x80000001)
            e->ecx |= 0x121; /* LAHF, LZCNT, PREFETCHW */
    }
}

void core_cpuid(u32 leaf, u32 sub, u32 out[4]) {
    sim_system *system = sim_open();
    load_cpuid(system);
    sim_system_close(system);
    memset(out, 0, 4 * sizeof *out);
    for (u32 n = 0; n < supported->nent; n++) {
        const struct kvm_cpuid_entry2 *e = &supported->entries[n];
        if (e->function == leaf && e->index == sub)
            out[0] = e->eax, out[1] = e->ebx, out[2] = e->ecx, out[3] = e->edx;
    }
}

static void make_tables(struct core *k) {
    const u32 pdpt = TABLES + 0x1000, pd = TABLES + 0x2000, user = TABLES + 0x3000;
    const u32 pdpt_top = TABLES + 0x4000, pd_top = TABLES + 0x5000;
    store(k, TABLES, pdpt | 7);
    store(k, pdpt, pd | 7);
    store(k, pd + 8 * (DATA >> 21), user | 7);
    store(k, TABLES + 8 * (KERNEL >> 39 & 511), pdpt_top | 3);
    store(k, pdpt_top + 8 * (KERNEL >> 30 & 511), pd_top | 3);
    store(k, pd_top, 0x83);
    for (u32 n = 0; n < 3; n++)
        store(k, user + 8 * (DATA >> 12 & 511) + 8 * n, data_at[n] | (n < DATA_RW >> 12 ? 7 : 5) | NX);
    for (u32 n = 0; n < CODE_SIZE >> 12; n++)
        store(k, user + 8 * (CODE >> 12 & 511) + 8 * n, (CODE_AT + 0x2000 * n) | 5);
    store(k, user + 8 * ((CODE + CODE_W) >> 12 & 511), (CODE_AT + 0x2000 * (CODE_W >> 12)) | 7);
    store(k, GDT_AT + 0x10, 0x00af9b000000ffff);
    store(k, GDT_AT + 0x18, 0x00cf93000000ffff);
    store(k, GDT_AT + 0x20, 0x00cffb000000ffff);
    store(k, GDT_AT + 0x28, 0x00cff3000000ffff);
    store(k, GDT_AT + 0x30, 0x00affb000000ffff);
    store(k, TSS_AT + 4, KERNEL + STACK_TOP);
    k->ram[TSS_AT + 102] = 0x68; /* no I/O bitmap */
    for (u32 v = 0; v < 256; v++) {
        u32 target = HANDLERS + 16 * v;
        u64 gate = (target & 0xffff) | KERNEL_CS << 16 | (u64)(v == 3 || v == 4 ? 0xee00 : 0x8e00) << 32;
        store(k, IDT_AT + 16 * v, gate | ((KERNEL + target) >> 16 & 0xffff) << 48);
        store(k, IDT_AT + 16 * v + 8, KERNEL >> 32);
        k->ram[target] = 0xf4;
    }
    memcpy(k->ram + STUB, "\x48\xcf", 2);
}

static void segment(struct kvm_segment *s, unsigned selector, unsigned type, unsigned dpl, u64 base, bool wide) {
    *s = (struct kvm_segment){.base = base, .limit = 0xffffffff, .selector = (u16)selector, .type = (u8)type};
    s->dpl = (u8)dpl, s->present = s->s = s->g = 1;
    s->l = wide, s->db = !wide;
}

static void set_up(struct core *k) {
    struct kvm_sregs *s = &k->sregs;
    vcpu(k, KVM_GET_SREGS, s);
    segment(&s->cs, KERNEL_CS, 11, 0, 0, true);
    segment(&s->ss, 0x18, 3, 0, 0, false);
    segment(&s->ds, USER_SS, 3, 3, 0, false);
    segment(&s->es, USER_SS, 3, 3, 0, false);
    segment(&s->fs, 0, 3, 3, FS_BASE, false);
    segment(&s->gs, 0, 3, 3, GS_BASE, false);
    s->fs.unusable = s->gs.unusable = 1;
    s->fs.present = s->gs.present = 0;
    segment(&s->tr, KERNEL_TSS, 11, 0, KERNEL + TSS_AT, false);
    s->tr.s = s->tr.g = s->tr.db = 0;
    s->tr.limit = 0x67;
    s->ldt = (struct kvm_segment){.unusable = 1};
    s->gdt.base = KERNEL + GDT_AT, s->gdt.limit = 0x7f;
    s->idt.base = KERNEL + IDT_AT, s->idt.limit = 0xfff;
    s->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
    s->cr3 = TABLES;
    s->efer = 0xd01;  /* NXE LMA LME SCE */
    s->cr4 = 0x506a0; /* OSXSAVE FSGSBASE OSXMMEXCPT OSFXSR PGE PAE; fewer where the core knows fewer */
    for (unsigned attempt = 0; vcpu(k, KVM_SET_SREGS, s) < 0; attempt++) {
        static const u64 fewer[] = {0x406a0, 0x106a0, 0x6a0, 0x2a0, 0xa0, 0x20};
        if (attempt == sizeof fewer / sizeof *fewer)
            fail("the core refuses long mode");
        s->cr4 = fewer[attempt];
    }
}

struct core *core_open(void) {
    struct core *k = calloc(1, sizeof *k);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval tick = {{0, 500000}, {0, 500000}};
    int error;
    k->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    k->system = sim_open();
    load_cpuid(k->system);
    k->vm = sim_create_vm(k->system, &error);
    k->cpu = sim_create_vcpu(k->vm, 0, &error);
    struct kvm_userspace_memory_region region = {0, 0, 0, RAM_SIZE, (uintptr_t)k->ram};
    if (!k->cpu || sim_vm_ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, (uintptr_t)&region) < 0)
        fail("no vCPU");
    vcpu(k, KVM_SET_CPUID2, supported);
    make_tables(k);
    memset(k->ram + CODE_AT, 0xcc, 0x1000);
    memset(k->ram + CODE_AT + 0x2000, 0xcc, 0x1000);
    memset(k->ram + CODE_AT + 0x2000 * (CODE_W >> 12), 0xcc, 0x1000);
    for (unsigned n = 0; n < 3; n++)
        k->window.page[n] = k->ram + data_at[n];
    set_up(k);
    k->cpu->xcr0 = 7;
    kicked = k->cpu;
    sigaction(SIGVTALRM, &action, NULL);
    setitimer(ITIMER_VIRTUAL, &tick, NULL);
    pthread_t thread;
    if (core_kicks && pthread_create(&thread, NULL, kick_on, NULL))
        fail("no thread");
    return k;
}

void core_image(struct core *k, const u8 *image) { window_load(&k->window, image); }

static u8 *code_at(struct core *k, u32 offset) { return k->ram + CODE_AT + (offset >> 12) * 0x2000 + (offset & 0xfff); }

static void load_registers(struct core *k, const struct test_case *c) {
    const struct cpu_state *s = &c->in;
    struct kvm_regs r = {.rip = KERNEL + STUB, .rsp = KERNEL + STACK_TOP - 40, .rflags = 2};
    u64 *g = (u64 *)&r; /* rax rbx rcx rdx rsi rdi rsp rbp r8.. */
    static const u8 order[16] = {0, 3, 1, 2, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15};
    for (unsigned n = 0; n < 16; n++)
        if (order[n] != 4)
            g[n] = s->gpr[order[n]];
    vcpu(k, KVM_SET_REGS, &r);
    store(k, STACK_TOP - 40, s->rip);
    store(k, STACK_TOP - 32, c->mode32 ? USER_CS32 : USER_CS64);
    store(k, STACK_TOP - 24, s->rflags);
    store(k, STACK_TOP - 16, s->gpr[4]);
    store(k, STACK_TOP - 8, USER_SS);
    sim_vcpu *cpu = k->cpu;
    cpu->fpu.fcw = s->fcw;
    cpu->fpu.fsw = s->fsw;
    cpu->fpu.ftw = (u8)s->ftw;
    cpu->fpu.fop = cpu->fpu.fcs = cpu->fpu.fds = 0;
    cpu->fpu.fip = cpu->fpu.fdp = 0;
    unsigned top = s->fsw >> 11 & 7;
    for (unsigned n = 0; n < 8; n++)
        memcpy(&cpu->fpu.st[(top + n) & 7], s->st[n], 10);
    cpu->mxcsr = s->mxcsr;
    for (unsigned n = 0; n < 16; n++) {
        memcpy(cpu->ymm[n].b, s->xmm[n], 16);
        memcpy(cpu->ymm[n].b + 16, s->ymmh[n], 16);
    }
}

static void save_registers(struct core *k, struct cpu_state *s) {
    struct kvm_regs r;
    static const u8 order[16] = {0, 3, 1, 2, 6, 7, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15};
    static const u32 with_error = 1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17;
    u64 frame[6];
    vcpu(k, KVM_GET_REGS, &r);
    for (unsigned n = 0; n < 16; n++)
        s->gpr[order[n]] = ((u64 *)&r)[n];
    u64 handler = r.rip - KERNEL - HANDLERS;
    s->vector = handler < 4096 ? (u32)handler / 16 : VECTOR_LOST;
    unsigned has = s->vector < 32 && (with_error >> s->vector & 1);
    memcpy(frame, k->ram + STACK_TOP - 48, sizeof frame);
    if (s->vector != VECTOR_LOST && r.rsp != KERNEL + STACK_TOP - 40 - 8 * has)
        s->vector = VECTOR_LOST;
    s->error = has ? (u32)frame[0] : 0;
    s->rip = frame[1];
    s->rflags = frame[3];
    s->gpr[4] = frame[4];
    s->cr2 = k->cpu->cr2;
    sim_vcpu *cpu = k->cpu;
    s->fcw = cpu->fpu.fcw;
    s->fsw = cpu->fpu.fsw;
    s->ftw = cpu->fpu.ftw;
    unsigned top = s->fsw >> 11 & 7;
    memset(s->st, 0, sizeof s->st);
    for (unsigned n = 0; n < 8; n++)
        memcpy(s->st[n], &cpu->fpu.st[(top + n) & 7], 10);
    s->mxcsr = cpu->mxcsr;
    for (unsigned n = 0; n < 16; n++) {
        memcpy(s->xmm[n], cpu->ymm[n].b, 16);
        memcpy(s->ymmh[n], cpu->ymm[n].b + 16, 16);
    }
}

/* Blocks are translated from their n-th execution on, or never (0); a core without translation has no such function. */
void sim_vm_translate(sim_vm *vm, unsigned after) __attribute__((weak));

void core_run(struct core *k, const struct test_case *c, const u8 *image, struct outcome *o) {
    struct kvm_run *page = sim_vcpu_run_page(k->cpu);
    if (sim_vm_translate)
        sim_vm_translate(k->vm, c->translate);
    if (c->forgets)
        tlb_flush(k->cpu, true);
    window_begin(&k->window, c);
    for (unsigned n = 0; n < c->code_size; n++)
        *code_at(k, c->code_offset + n) = c->code[n];
    k->cpu->cr2 = 0;
    load_registers(k, c);
    long result = -1;
    for (ticks = 0; result < 0 && ticks < 2;) /* at the timer's second tick it hangs */
        result = vcpu(k, KVM_RUN, NULL);
    save_registers(k, &o->state);
    if (result < 0 || page->exit_reason != KVM_EXIT_HLT || o->state.vector == VECTOR_LOST) {
        o->state.vector = result < 0 ? VECTOR_HANG : VECTOR_LOST;
        o->state.error = result < 0 ? 0 : page->exit_reason;
        for (unsigned n = 0; result >= 0 && n < 8 && page->exit_reason == KVM_EXIT_IO; n++)
            result = vcpu(k, KVM_RUN, NULL);
        set_up(k);
    }
    o->code = writes_code(c) ? empty_code(code_at(k, CODE_W)) : 0;
    for (unsigned n = 0; n < c->code_size; n++)
        *code_at(k, c->code_offset + n) = 0xcc;
    window_end(&k->window, c, image, o);
}
