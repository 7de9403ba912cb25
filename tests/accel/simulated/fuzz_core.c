/* Random bytes as guest code, for a sanitizer build of the core: nothing the guest does may hurt the host.
 *
 *   fuzz_core one SEED COUNT    COUNT machines of one vCPU: real mode, protected mode 16/32, paging, V8086; random
 * descriptor and interrupt tables, debug registers, interrupts, NMIs, devices that answer anything fuzz_core many SEED
 * COUNT   COUNT machines of three vCPUs on the same code, rewriting it, while slots come and go, the dirty log is
 * fetched and memory is declared written
 *
 * Exit status 0 when every run came back: a guest that does not react to kicks hangs the program, and its caller's
 * timeout reports that.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core.h"

#define RAM_SIZE 0x100000
#define GDT      0x1000
#define IDT      0x3000
#define TSS      0x5000
#define PAGE_DIR 0x10000
#define VCPUS    3

typedef uint64_t u64;

static unsigned next(u64 *state) { /* xorshift */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (unsigned)(*state >> 11);
}
static u64 seeded(u64 seed) {
    u64 state = seed * 0x9e3779b97f4a7c15u + 1;
    next(&state);
    next(&state);
    return state;
}
static bool one_in(u64 *state, unsigned n) { return next(state) % n == 0; }

static uint8_t *ram;
static sim_vcpu *volatile running; /* for the alarm */

static void on_alarm(int number) {
    (void)number;
    if (running)
        sim_vcpu_kick(running);
}
static long vcpu(sim_vcpu *cpu, unsigned long request, void *arg) {
    return sim_vcpu_ioctl(cpu, request, (uintptr_t)arg);
}
static long set_slot(sim_vm *vm, unsigned id, u64 base, u64 size, unsigned flags) {
    struct kvm_userspace_memory_region r = {id, flags, base, size, (uintptr_t)ram + base};
    return sim_vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, (uintptr_t)&r);
}
static void store32(unsigned at, unsigned value) { memcpy(ram + at, &value, 4); }

/* ---- one vCPU -----------------------------------------------------------------------------------------------------
 */

static void random_tables(u64 *s) {
    static const uint8_t types[] = {0x9b, 0x93, 0xfb, 0xf3, 0x9f, 0x97, 0x8c, 0x84, 0x85, 0x89, 0x81, 0x8b,
                                    0x82, 0xec, 0xe5, 0xe4, 0xff, 0x90, 0x98, 0xbb, 0xb3, 0x13, 0x83, 0xe9};
    static const uint8_t gates[] = {0x8e, 0x8f, 0xee, 0x86, 0xef, 0x85, 0xe5, 0x0e};
    for (unsigned n = 1; n < 64; n++) {
        unsigned type = types[next(s) % sizeof types], base = next(s) & 0x7ffff;
        bool gate = (type & 0x14) == 0x04 && (type & 0xf) != 2;
        if (gate) { /* selector, parameters */
            store32(GDT + 8 * n, (next(s) & 0xffff) | (next(s) & 0x1ff) << 16);
            store32(GDT + 8 * n + 4, (next(s) & 0x1f) | type << 8 | (next(s) & 7) << 16);
        } else {
            store32(GDT + 8 * n, (next(s) & 0xffff) | (base & 0xffff) << 16);
            store32(GDT + 8 * n + 4, base >> 16 | type << 8 | (next(s) & 0xdf) << 16);
        }
    }
    for (unsigned n = 0; n < 256; n++) {
        store32(IDT + 8 * n, (next(s) & 0xffff) | (next(s) & 0x1ff) << 16);
        store32(IDT + 8 * n + 4, (unsigned)gates[next(s) % sizeof gates] << 8 | (next(s) & 7) << 16);
    }
}

static void random_pages(u64 *s) {
    for (unsigned n = 0; n < 1024; n++) {
        store32(PAGE_DIR + 4 * n, next(s) & 3 ? 0x11007u | (next(s) & 0x20) : next(s));
        store32(PAGE_DIR + 0x1000 + 4 * n,
                ((next(s) & 7 ? n & 0x7f : next(s) & 0xff) << 12) | (next(s) & 15 ? 7 : next(s) & 0xfff));
    }
}

static void random_state(sim_vcpu *cpu, u64 *s) {
    struct kvm_regs r;
    struct kvm_sregs q;
    enum { REAL, FLAT32, PROTECTED, PAGED, PAGED_OR_V86 } mode = next(s) % 5;
    unsigned code = next(s) % 0x70000;
    static const uint8_t liked[] = {0x0f, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x8e,
                                    0xcf, 0xcb, 0xca, 0xcd, 0xea, 0x9a, 0xc8, 0xff};
    bool v86 = mode == PAGED_OR_V86 && one_in(s, 2);
    vcpu(cpu, KVM_GET_REGS, &r);
    vcpu(cpu, KVM_GET_SREGS, &q);
    for (unsigned n = 0; n < 300; n++)
        if (one_in(s, 2))
            ram[(code + next(s) % 2000) & 0x7ffff] = liked[next(s) % sizeof liked];
    struct kvm_segment *seg[6] = {&q.cs, &q.ds, &q.es, &q.fs, &q.gs, &q.ss};
    for (unsigned n = 0; n < 6; n++) {
        seg[n]->base = mode == REAL ? (next(s) & 0x7fff) << 4 : next(s) & 3 ? 0 : next(s) & 0xfffff;
        seg[n]->limit = mode != REAL && (next(s) & 3) ? 0xffffffff : 0xffff;
        seg[n]->g = mode != REAL;
        seg[n]->db = mode == FLAT32 || mode >= PAGED || (mode == PROTECTED && one_in(s, 2));
    }
    q.cs.base = mode == REAL || mode == PROTECTED ? code & 0xffff0 : 0;
    r.rip = code - q.cs.base;
    q.gdt.base = GDT;
    q.gdt.limit = 0xfff;
    q.idt.base = one_in(s, 2) ? IDT : 0;
    q.idt.limit = next(s) & 3 ? 0x7ff : next(s) & 0x7ff;
    r.rflags = 2 | (next(s) & 0x3ed5 & ~0x100u) | (one_in(s, 4) ? 0x100 : 0) | (one_in(s, 8) ? 0x40000 : 0) |
               (one_in(s, 8) ? 0x4000 : 0) | (v86 ? 0x20000 : 0);
    if (mode != REAL) {
        unsigned cpl = one_in(s, 2) ? 0 : 3;
        q.cr0 = 0x11 | (one_in(s, 2) ? 0x10000 : 0) | (one_in(s, 8) ? 0x40000 : 0);
        random_tables(s);
        q.tr.base = TSS;
        q.tr.limit = next(s) & 3 ? 0x2067 : 0x40;
        q.tr.type = next(s) & 3 ? 11 : 3;
        q.tr.selector = next(s) & 0xf8;
        q.ss.dpl = q.cs.dpl = cpl;
        q.cs.selector = 8 | cpl;
        q.ss.selector = 16 | cpl;
        q.cs.type = 11;
        q.ss.type = 3;
        q.ldt.base = 0x2000;
        q.ldt.limit = 0xfff;
        q.ldt.selector = 0x28;
    }
    if (mode >= PAGED) {
        q.cr0 |= 0x80000000;
        q.cr3 = PAGE_DIR;
        q.cr4 = (one_in(s, 2) ? 0x10 : 0) | (one_in(s, 2) ? 0x80 : 0) | (one_in(s, 4) ? 0x20 : 0);
        random_pages(s);
    }
    if (v86)
        for (unsigned n = 0; n < 6; n++)
            *seg[n] = (struct kvm_segment){
                .selector = next(s) & 0x7fff, .limit = 0xffff, .type = 3, .dpl = 3, .s = 1, .present = 1};
    for (unsigned n = 0; v86 && n < 6; n++)
        seg[n]->base = (u64)seg[n]->selector << 4;
    u64 *general = (u64 *)&r; /* rax first, rsp the seventh */
    for (unsigned n = 0; n < 8; n++)
        general[n] = one_in(s, 2) ? next(s) & 0xffff : next(s);
    r.rsp = next(s) & 3 ? 0x7000 + (next(s) & 0xff) : next(s);
    if (vcpu(cpu, KVM_SET_SREGS, &q) < 0)
        abort();
    vcpu(cpu, KVM_SET_REGS, &r);
    if (one_in(s, 8)) {
        struct kvm_debugregs d = {.dr6 = 0xffff0ff0, .dr7 = next(s)};
        for (unsigned n = 0; n < 4; n++)
            d.db[n] = next(s) & 0x7ffff;
        vcpu(cpu, KVM_SET_DEBUGREGS, &d);
    }
}

static u64 run_one(sim_system *system, u64 seed, unsigned long exits[64]) {
    u64 s = seeded(seed), instructions;
    int error;
    sim_vm *vm = sim_create_vm(system, &error);
    sim_vcpu *cpu = sim_create_vcpu(vm, 0, &error);
    struct kvm_run *run = sim_vcpu_run_page(cpu);
    for (unsigned at = 0; at < 0x80000; at += 4)
        if ((at & 0xff00) == 0 || at < 0x28000)
            store32(at, next(&s));
    set_slot(vm, 0, 0, 0x80000, 0);
    set_slot(vm, 1, 0x90000, 0x10000, KVM_MEM_READONLY);
    random_state(cpu, &s);
    running = cpu;
    for (unsigned n = 0; n < 40; n++) {
        struct kvm_interrupt irq = {next(&s) & 0xff};
        if (run->ready_for_interrupt_injection && one_in(&s, 2))
            vcpu(cpu, KVM_INTERRUPT, &irq);
        if (one_in(&s, 8))
            vcpu(cpu, KVM_NMI, NULL);
        run->request_interrupt_window = one_in(&s, 2);
        run->immediate_exit = one_in(&s, 16);
        ualarm(20000, 0);
        long result = vcpu(cpu, KVM_RUN, NULL);
        if (result < 0) { /* kicked */
            if (run->immediate_exit)
                continue;
            break;
        }
        exits[run->exit_reason & 63]++;
        if (run->exit_reason == KVM_EXIT_SHUTDOWN || run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
            break;
        if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
            for (unsigned k = 0; k < run->io.size * run->io.count; k++)
                ((uint8_t *)run)[run->io.data_offset + k] = (uint8_t)next(&s);
        if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
            for (unsigned k = 0; k < 8; k++)
                run->mmio.data[k] = (uint8_t)next(&s);
        if (one_in(&s, 32))
            set_slot(vm, 0, 0, 0x80000, one_in(&s, 2) ? KVM_MEM_LOG_DIRTY_PAGES : 0);
    }
    ualarm(0, 0);
    running = NULL;
    instructions = sim_vcpu_instructions(cpu);
    sim_vcpu_close(cpu);
    sim_vm_close(vm);
    return instructions;
}

/* ---- several vCPUs --------------------------------------------------------------------------------------------------
 */

struct worker {
    sim_vcpu *cpu;
    unsigned number;
    u64 s;
    pthread_t thread;
};
static volatile bool stop;

/* Back to flat 32-bit code somewhere in the shared 16 KiB. */
static void restart(struct worker *w) {
    struct kvm_regs r;
    struct kvm_sregs q;
    vcpu(w->cpu, KVM_GET_REGS, &r);
    vcpu(w->cpu, KVM_GET_SREGS, &q);
    q.cr0 = 0x11;
    q.cr3 = 0;
    q.cs = (struct kvm_segment){.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
    q.ds = q.es = q.fs = q.gs = q.ss = q.cs;
    q.ds.type = q.es.type = q.fs.type = q.gs.type = q.ss.type = 3;
    q.idt.base = IDT;
    q.idt.limit = 0x7ff;
    q.gdt.base = GDT;
    q.gdt.limit = 0xfff;
    u64 *general = (u64 *)&r;
    for (unsigned n = 0; n < 8; n++)
        general[n] = 0x20000 + (next(&w->s) & 0x3fff);
    r.rsp = 0x7000 + 0x1000 * w->number;
    r.rip = 0x20000 + (next(&w->s) & 0x3fff);
    r.rflags = 2;
    if (vcpu(w->cpu, KVM_SET_SREGS, &q) < 0)
        abort();
    vcpu(w->cpu, KVM_SET_REGS, &r);
}

static void *work(void *arg) {
    struct worker *w = arg;
    struct kvm_run *run = sim_vcpu_run_page(w->cpu);
    restart(w);
    while (!stop) {
        run->request_interrupt_window = one_in(&w->s, 2);
        long result = vcpu(w->cpu, KVM_RUN, NULL);
        if (result < 0)
            continue;
        if (run->exit_reason == KVM_EXIT_SHUTDOWN || run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
            restart(w);
        if (run->exit_reason == KVM_EXIT_IRQ_WINDOW_OPEN) {
            struct kvm_interrupt irq = {next(&w->s) & 0xff};
            vcpu(w->cpu, KVM_INTERRUPT, &irq);
        }
    }
    return NULL;
}

static u64 run_many(sim_system *system, u64 seed) {
    static const char *const liked[] = {"\xeb\xf0", "\x88\x03", "\x89\x06",    "\xf0\x01\x07", "\xf0\x0f\xb1\x0b",
                                        "\xaa",     "\xf3\xaa", "\x87\x06",    "\x75\xd0",     "\xe2\xe0",
                                        "\x0f\xa2", "\xc3",     "\x0f\x01\x3b"};
    u64 s = seeded(seed), instructions = 0;
    unsigned flags = KVM_MEM_LOG_DIRTY_PAGES;
    uint64_t bitmap[4];
    struct kvm_dirty_log log = {.slot = 1, .dirty_bitmap = bitmap};
    struct worker w[VCPUS];
    int error;
    sim_vm *vm = sim_create_vm(system, &error);
    memset(ram, 0, RAM_SIZE);
    for (unsigned at = 0x20000; at < 0x24000; at++)
        ram[at] = (uint8_t)next(&s);
    for (unsigned n = 0; n < 1200; n++) {
        const char *text = liked[next(&s) % (sizeof liked / sizeof liked[0])];
        memcpy(ram + 0x20000 + (next(&s) & 0x3fff), text, strlen(text));
    }
    for (unsigned n = 1; n < 64; n++)
        store32(GDT + 8 * n, 0xffff), store32(GDT + 8 * n + 4, n == 1 ? 0xcf9b00 : 0xcf9300);
    for (unsigned n = 0; n < 256; n++) {
        unsigned target = 0x20000 + (next(&s) & 0x3fff);
        store32(IDT + 8 * n, (target & 0xffff) | 8 << 16);
        store32(IDT + 8 * n + 4, 0x8e00 | (target & 0xffff0000));
    }
    set_slot(vm, 0, 0, 0x20000, 0);
    set_slot(vm, 1, 0x20000, 0x10000, flags);
    stop = false;
    for (unsigned n = 0; n < VCPUS; n++) {
        w[n] = (struct worker){.cpu = sim_create_vcpu(vm, n, &error), .number = n, .s = seeded(seed * VCPUS + n)};
        pthread_create(&w[n].thread, NULL, work, &w[n]);
    }
    for (unsigned n = 0; n < 60; n++) {
        usleep(500);
        switch (next(&s) % 6) {
        case 0:
            sim_vm_ioctl(vm, KVM_GET_DIRTY_LOG, (uintptr_t)&log);
            break;
        case 1:
            set_slot(vm, 1, 0x20000, 0, flags);
            if (one_in(&s, 2))
                usleep(300);
            set_slot(vm, 1, 0x20000, 0x10000, flags);
            break;
        case 2:
            set_slot(vm, 1, 0x20000, 0x10000, flags ^= KVM_MEM_LOG_DIRTY_PAGES);
            break;
        case 3:
            sim_vm_memory_written(vm, 0x20000 + (next(&s) & 0x3000), 4096);
            break;
        case 4:
            vcpu(w[next(&s) % VCPUS].cpu, KVM_NMI, NULL);
            break;
        default:
            for (unsigned k = 0; k < VCPUS; k++)
                sim_vcpu_kick(w[k].cpu);
        }
    }
    stop = true;
    for (unsigned n = 0; n < VCPUS; n++) {
        sim_vcpu_kick(w[n].cpu);
        pthread_join(w[n].thread, NULL);
        instructions += sim_vcpu_instructions(w[n].cpu);
    }
    for (unsigned n = 0; n < VCPUS; n++)
        sim_vcpu_close(w[n].cpu);
    sim_vm_close(vm);
    return instructions;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return fprintf(stderr, "usage: fuzz_core one|many SEED COUNT\n"), 2;
    bool one = strcmp(argv[1], "one") == 0;
    u64 seed = strtoull(argv[2], NULL, 0), count = strtoull(argv[3], NULL, 0), instructions = 0;
    unsigned long exits[64] = {0};
    sim_system *system = sim_open();
    ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    signal(SIGALRM, on_alarm);
    for (u64 n = 0; n < count; n++)
        instructions += one ? run_one(system, seed + n, exits) : run_many(system, seed + n);
    printf("%llu machines, %llu instructions", (unsigned long long)count, (unsigned long long)instructions);
    for (unsigned n = 0; n < 64; n++)
        if (exits[n])
            printf(", exit %u: %lu", n, exits[n]);
    puts("");
    sim_system_close(system);
    return 0;
}
