/* Raw bytes as a whole machine: processor state, tables, code, and what devices answer.  For libFuzzer, and on its own.
 *
 * An input is a `struct header` (missing bytes are zero), then code; the last `answers` bytes of the input, at most
 * half of what follows the header, are given to reads of devices instead.  The machine has 128 KiB of RAM, 16 KiB of
 * ROM at 192 KiB, and devices everywhere else.  What the header does not say comes from a generator seeded with it, so
 * that an input always means the same machine; only where an endless loop is cut off depends on the host's clock.
 *
 * Built with libFuzzer this file has no main.  Otherwise (FUZZ_MAIN):
 *
 *   fuzz_bytes FILE|DIRECTORY...             run every input once
 *   fuzz_bytes --random SEED SECONDS [DIR]   make inputs at random, by changing those in DIR where it is given
 *
 * Checked besides what the sanitizers see: a run comes back; the state that can be read can be written again and is
 * then read the same.
 */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include "core.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define RAM_SIZE 0x20000u
#define ROM_BASE 0x30000u
#define ROM_SIZE 0x4000u
#define GDT      0x1000u
#define IDT      0x2000u
#define TSS      0x3000u
#define LDT      0x4000u
#define TABLES   0x5000u /* PML4, PDPT, page directory, two page tables */
#define CODE     0x10000u
#define CODE_MAX 0x1000u
#define STACK    0x18000u
#define RUNS     24
#define LOOP_NS  4000000 /* an endless loop is kicked out after this time */
#define ENTRIES  128     /* CPUID */

enum mode { REAL, PROTECTED16, PROTECTED32, PAGED32, PAE32, V86, LONG64, COMPAT32, COMPAT16, MODES };

struct header {
    u8 mode;   /* enum mode, modulo; bit 7: privilege level 0 */
    u8 events; /* bits: 0 interrupts, 1 NMI, 2 window, 3 slots change, 4 dirty log, 5 single step, 6 debug registers */
    u8 damage; /* how many descriptors, gates and page table entries are made random */
    u8 answers;
    u16 flags; /* RFLAGS 0..15 */
    u8 flags_high;
    u8 where; /* low bits of rip: up to the end of a page */
    u32 cr0, cr4;
    u16 efer, stack;
    u32 seed;
} __attribute__((packed));

static u8 *ram;
static sim_system *the_system;
static sim_vcpu *volatile running; /* for the timer */
static timer_t timer;
static struct kvm_cpuid2 *cpuid;
static unsigned long executions;

static u32 next(u64 *state) { /* xorshift */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (u32)(*state >> 11);
}
static bool one_in(u64 *state, u32 n) { return next(state) % n == 0; }
static void store32(u32 at, u32 value) { memcpy(ram + at, &value, 4); }
static void store64(u32 at, u64 value) { memcpy(ram + at, &value, 8); }
static long vcpu(sim_vcpu *cpu, unsigned long request, void *arg) {
    return sim_vcpu_ioctl(cpu, request, (uintptr_t)arg);
}
static void fail(const char *what) {
    fprintf(stderr, "fuzz_bytes: %s\n", what);
    abort();
}

static void on_timer(int number) {
    (void)number;
    if (running)
        sim_vcpu_kick(running);
}
static void set_timer(long ns) {
    struct itimerspec t = {.it_interval.tv_nsec = ns, .it_value.tv_nsec = ns};
    timer_settime(timer, 0, &t, NULL);
}

static void start_once(void) {
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    if (the_system)
        return;
    the_system = sim_open();
    ram = mmap(NULL, RAM_SIZE + ROM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cpuid = calloc(1, sizeof *cpuid + ENTRIES * sizeof *cpuid->entries);
    cpuid->nent = ENTRIES;
    if (ram == MAP_FAILED || sim_system_ioctl(the_system, KVM_GET_SUPPORTED_CPUID, (uintptr_t)cpuid) < 0)
        fail("cannot start");
    sigaction(SIGRTMIN + 1, &action, NULL);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer))
        fail("no timer");
}

/* ---- the machine an input describes --------------------------------------------------------------------------------
 */

static bool is_long(enum mode mode) { return mode >= LONG64; }

static void make_descriptors(u64 *s, u32 damage, bool wide) {
    /* 1.. code and data of every size at both privileges, LDT, TSS, call and task gates */
    static const u64 good[] = {
        0,
        0x00cf9b000000ffff,
        0x00cf93000000ffff,
        0x00cffb000000ffff,
        0x00cff3000000ffff,
        0x00af9b000000ffff, /* 64-bit code */
        0x00affb000000ffff,
        0x008f9b000000ffff, /* 16-bit */
        0x008ffb000000ffff,
        0x008ff3000000ffff,
        0x00cf9f000000ffff, /* conforming */
        0x0000820040000fff, /* LDT */
        0,
        0x00008b0030002067, /* TSS */
        0,
        0x0000890038000067, /* another */
        0,
        0x0000e50000780000, /* task gate */
        0,
        0x0001ec0000080200, /* call gate */
        0,
    };
    const u32 count = sizeof good / sizeof good[0];
    for (u32 n = 0; n < 64; n++) {
        store64(GDT + 8 * n, good[n % count]);
        store64(LDT + 8 * n, good[(n + 1) % count]);
    }
    for (u32 n = 0; n < 256; n++) {
        u32 target = CODE + (next(s) & 0x7ff), type = 0x8e + (n & 1) + (n & 2 ? 0x60 : 0);
        u32 selector = wide ? 5 * 8 : 8;
        if (wide) {
            store64(IDT + 16 * n, (target & 0xffff) | selector << 16 |
                                      (u64)(type << 8 | (n & 4 ? n >> 3 & 7 : 0)) << 32 | (u64)(target >> 16) << 48);
            store64(IDT + 16 * n + 8, 0);
        } else
            store64(IDT + 8 * n,
                    (target & 0xffff) | selector << 16 | (u64)(type << 8) << 32 | (u64)(target >> 16) << 48);
    }
    for (u32 n = 0; n < 26; n++)
        store32(TSS + 4 * n, next(s) & 1 ? 0x10 : STACK + (next(s) & 0xff8));
    for (u32 n = 0; n < damage; n++)
        ram[GDT + next(s) % (LDT + 0x400 - GDT)] = (u8)next(s);
}

static void make_tables(u64 *s, enum mode mode, u32 damage) {
    u64 nx = 0;
    if (mode == PAGED32 || mode == V86) {
        for (u32 n = 0; n < 1024; n++) {
            store32(TABLES + 4 * n, n & 1 ? 0x87 : (TABLES + 0x3000) | 7);
            store32(TABLES + 0x3000 + 4 * n, n << 12 | 7);
        }
    } else {
        u32 top = mode == PAE32 ? TABLES + 0x1000 : TABLES;
        for (u32 n = 0; n < 512; n++) {
            store64(TABLES + 8 * n, (TABLES + 0x1000) | 7);
            store64(TABLES + 0x1000 + 8 * n, n < 4 ? (TABLES + 0x2000) | (top == TABLES ? 7 : 1) : n & 1 ? 0x87 : 0);
            store64(TABLES + 0x2000 + 8 * n, n & 3 ? (u64)n << 21 | 0x87 : (TABLES + 0x3000) | 7);
            store64(TABLES + 0x3000 + 8 * n, (u64)(n & 63) << 12 | 7 | nx);
        }
    }
    for (u32 n = 0; n < damage; n++) {
        u32 at = TABLES + (next(s) & 0x3ff8);
        u64 bit = (u64)1 << (one_in(s, 2) ? next(s) % 13 : next(s) % 64), entry;
        if (one_in(s, 2)) /* one of those in use */
            at = TABLES + 0x3000 + 8 * (next(s) % 64);
        memcpy(&entry, ram + at, 8);
        store64(at, entry ^ bit);
    }
}

static u64 nasty(u64 *s) {
    u64 wide = (u64)next(s) << 32 | next(s);
    switch (next(s) % 8) {
    case 0:
        return wide;
    case 1:
        return next(s);
    case 2:
        return (u64)0 - (next(s) & 0xff);
    case 3:
        return (u64)1 << (wide & 63);
    case 4:
        return next(s) & 0xff;
    case 5:
        return 0x00007ffffffff000 | (wide & 0x1fff);
    default:
        return next(s) & (RAM_SIZE - 1);
    }
}

static void set_segment(struct kvm_segment *seg, u16 selector, u64 base, u32 limit, u8 type, u8 dpl, int size) {
    *seg = (struct kvm_segment){.selector = selector, .base = base, .limit = limit, .type = type, .dpl = dpl, .s = 1};
    seg->present = 1;
    seg->l = size == 64;
    seg->db = size == 32;
    seg->g = limit > 0xfffff;
}

static bool load_state(sim_vcpu *cpu, const struct header *h, u64 *s) {
    struct kvm_regs r;
    struct kvm_sregs q;
    enum mode mode = (h->mode & 0x7f) % MODES;
    unsigned cpl = mode == REAL || (h->mode & 0x80) ? 0 : 3;
    int size = mode == LONG64 ? 64 : mode == PROTECTED16 || mode == COMPAT16 || mode == V86 || mode == REAL ? 16 : 32;
    u32 limit = mode == REAL || mode == V86 ? 0xffff : 0xffffffff;
    struct kvm_segment *seg[6];
    u64 *general = (u64 *)&r;

    vcpu(cpu, KVM_GET_REGS, &r);
    vcpu(cpu, KVM_GET_SREGS, &q);
    seg[0] = &q.cs, seg[1] = &q.ss, seg[2] = &q.ds, seg[3] = &q.es, seg[4] = &q.fs, seg[5] = &q.gs;
    if (mode == V86)
        cpl = 3;
    for (unsigned n = 0; n < 6; n++) {
        u16 selector = (u16)((n ? cpl ? 0x20 : 0x10 : cpl ? 0x18 : 0x08) | cpl);
        u64 base = size == 16 && n == 0 ? CODE : n >= 4 ? nasty(s) & 0xffffffff : 0;
        if (mode == V86 || mode == REAL) {
            selector = (u16)(n == 0 ? CODE >> 4 : next(s) & 0x1fff);
            base = (u64)selector << 4;
        } else if (mode == COMPAT16 && n == 0)
            base = CODE;
        set_segment(seg[n], selector, base, limit, n ? 3 : 11, (u8)cpl, n ? (size == 64 ? 32 : size) : size);
        if (mode == V86)
            seg[n]->type = 3;
    }
    if ((mode == REAL || mode == V86) && one_in(s, 2))
        set_segment(&q.ss, 0, 0, limit, 3, (u8)cpl, 16);
    q.gdt.base = GDT;
    q.gdt.limit = 0x1ff;
    q.idt.base = mode == REAL ? 0 : IDT;
    q.idt.limit = is_long(mode) ? 0xfff : mode == REAL ? 0x3ff : 0x7ff;
    q.tr = (struct kvm_segment){.selector = 13 * 8, .base = TSS, .limit = 0x2067, .type = 11, .present = 1};
    q.ldt = (struct kvm_segment){.selector = 11 * 8, .base = LDT, .limit = 0x1ff, .type = 2, .present = 1};
    q.cr0 = mode == REAL ? 0x10 : 0x11;
    q.cr4 = is_long(mode) || mode == PAE32 ? 0x20 : mode == PAGED32 ? 0x10 : 0;
    q.cr3 = mode == PAE32 ? TABLES + 0x1000 : TABLES;
    q.efer = 0;
    if (mode == PAGED32 || mode == PAE32 || is_long(mode) || (mode == V86 && (h->cr0 >> 31)))
        q.cr0 |= 0x80000000;
    q.cr0 ^= h->cr0 & 0x0005002e; /* AM WP NE TS EM MP */
    q.cr4 ^= h->cr4 & ~0x20u;     /* bits the core does not know are refused: tried again without */
    if (is_long(mode))
        q.efer = 0x500;
    q.efer |= h->efer & 0x801;
    for (unsigned n = 0; n < 16; n++)
        general[n] = nasty(s);
    r.rip = (size == 16 ? 0 : CODE) + h->where * 16u;
    r.rsp = STACK + h->stack % 0x8000;
    if (one_in(s, 8))
        r.rsp = nasty(s);
    r.rflags = 2 | (h->flags & 0x7fd5) | (u64)(h->flags_high & 0x3d) << 16 | (mode == V86 ? 0x20000 : 0);
    if (!is_long(mode)) {
        for (unsigned n = 0; n < 16; n++)
            general[n] &= 0xffffffff;
        r.rsp &= 0xffffffff;
    }
    if (vcpu(cpu, KVM_SET_SREGS, &q) < 0) {
        q.cr4 = is_long(mode) || mode == PAE32 ? 0x20 | (h->cr4 & 0x680) : h->cr4 & 0x90;
        q.efer &= ~1u;
        if (vcpu(cpu, KVM_SET_SREGS, &q) < 0) {
            q.efer &= ~0x800u;
            if (vcpu(cpu, KVM_SET_SREGS, &q) < 0)
                return false;
        }
    }
    if (vcpu(cpu, KVM_SET_REGS, &r) < 0)
        return false;
    if (h->events & 0x40) {
        struct kvm_debugregs d = {.dr6 = 0xffff0ff0, .dr7 = next(s)};
        for (unsigned n = 0; n < 4; n++)
            d.db[n] = one_in(s, 2) ? CODE + (next(s) & 0x3f) : nasty(s);
        vcpu(cpu, KVM_SET_DEBUGREGS, &d);
    }
    if (h->events & 0x20) {
        struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};
        if (one_in(s, 2))
            vcpu(cpu, KVM_SET_GUEST_DEBUG, &d);
    }
    return true;
}

/* ---- afterwards ----------------------------------------------------------------------------------------------------
 */

/* What can be read can be written, and reads the same. */
static void check_state(sim_vcpu *cpu) {
    struct kvm_regs r[2];
    struct kvm_sregs q[2];
    memset(r, 0, sizeof r);
    memset(q, 0, sizeof q);
    vcpu(cpu, KVM_GET_REGS, &r[0]);
    vcpu(cpu, KVM_GET_SREGS, &q[0]);
    if (!(q[0].efer & 0x400)) /* KVM takes no L outside long mode, though a descriptor may have it */
        q[0].cs.l = 0;
    if (vcpu(cpu, KVM_SET_SREGS, &q[0]) < 0)
        fail("KVM_SET_SREGS refuses what KVM_GET_SREGS gave");
    if (vcpu(cpu, KVM_SET_REGS, &r[0]) < 0)
        fail("KVM_SET_REGS refuses what KVM_GET_REGS gave");
    vcpu(cpu, KVM_GET_REGS, &r[1]);
    vcpu(cpu, KVM_GET_SREGS, &q[1]);
    if (memcmp(&r[0], &r[1], sizeof r[0]))
        fail("registers read differently after they were written back");
    if (memcmp(&q[0], &q[1], sizeof q[0]))
        fail("system registers read differently after they were written back");
    static struct kvm_xsave x[2];
    if (vcpu(cpu, KVM_GET_XSAVE, &x[0]) == 0) {
        if (vcpu(cpu, KVM_SET_XSAVE, &x[0]) < 0)
            fail("KVM_SET_XSAVE refuses what KVM_GET_XSAVE gave");
        vcpu(cpu, KVM_GET_XSAVE, &x[1]);
        if (memcmp(&x[0], &x[1], sizeof x[0]))
            fail("the extended state reads differently after it was written back");
    }
    struct kvm_vcpu_events e;
    vcpu(cpu, KVM_GET_VCPU_EVENTS, &e);
    if (vcpu(cpu, KVM_SET_VCPU_EVENTS, &e) < 0)
        fail("KVM_SET_VCPU_EVENTS refuses what KVM_GET_VCPU_EVENTS gave");
}

/* ---- one input -----------------------------------------------------------------------------------------------------
 */

struct answers {
    const u8 *bytes;
    size_t size, at;
};
static void answer(struct answers *a, void *to, size_t size) {
    for (size_t n = 0; n < size; n++)
        ((u8 *)to)[n] = a->size ? a->bytes[a->at++ % a->size] : 0xff;
}

static void set_slot(sim_vm *vm, unsigned id, u64 base, u64 size, unsigned flags, void *host) {
    struct kvm_userspace_memory_region region = {id, flags, base, size, (uintptr_t)host};
    sim_vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, (uintptr_t)&region);
}

static void run(sim_vm *vm, sim_vcpu *cpu, const struct header *h, u64 *s, struct answers *a) {
    struct kvm_run *page = sim_vcpu_run_page(cpu);
    unsigned kicks = 0;
    for (unsigned n = 0; n < RUNS && kicks < 2; n++) {
        if ((h->events & 1) && page->ready_for_interrupt_injection) {
            struct kvm_interrupt irq = {next(s) & 0xff};
            vcpu(cpu, KVM_INTERRUPT, &irq);
        }
        if ((h->events & 2) && one_in(s, 4))
            vcpu(cpu, KVM_NMI, NULL);
        page->request_interrupt_window = h->events >> 2 & 1;
        long result = vcpu(cpu, KVM_RUN, NULL);
        if (result < 0) {
            kicks++;
            continue;
        }
        if (page->exit_reason == KVM_EXIT_SHUTDOWN || page->exit_reason == KVM_EXIT_INTERNAL_ERROR ||
            page->exit_reason == KVM_EXIT_FAIL_ENTRY)
            break;
        if (page->exit_reason == KVM_EXIT_IO && page->io.direction == KVM_EXIT_IO_IN)
            answer(a, (u8 *)page + page->io.data_offset, (size_t)page->io.size * page->io.count);
        if (page->exit_reason == KVM_EXIT_MMIO && !page->mmio.is_write)
            answer(a, page->mmio.data, sizeof page->mmio.data);
        if ((h->events & 8) && one_in(s, 4))
            set_slot(vm, 0, 0, RAM_SIZE, one_in(s, 2) ? KVM_MEM_LOG_DIRTY_PAGES : 0, ram);
        if (h->events & 0x10) {
            u64 bitmap[(RAM_SIZE >> 12) / 64 + 1];
            struct kvm_dirty_log log = {.slot = 0, .dirty_bitmap = bitmap};
            sim_vm_ioctl(vm, KVM_GET_DIRTY_LOG, (uintptr_t)&log);
        }
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    struct header h = {0};
    struct answers a = {0};
    u64 s;
    int error;
    start_once();
    memcpy(&h, data, size < sizeof h ? size : sizeof h);
    data += size < sizeof h ? size : sizeof h;
    size -= size < sizeof h ? size : sizeof h;
    a.size = h.answers < size / 2 ? h.answers : size / 2;
    size -= a.size;
    a.bytes = data + size;
    s = h.seed * 0x9e3779b97f4a7c15u + h.mode + 1;
    next(&s);
    next(&s);

    enum mode mode = (h.mode & 0x7f) % MODES;
    u32 at = CODE + h.where * 16u, room = CODE + CODE_MAX + 0x1000 - at;
    memset(ram, 0, RAM_SIZE + ROM_SIZE);
    make_descriptors(&s, h.damage & 15, is_long(mode));
    make_tables(&s, mode, h.damage >> 4);
    if (mode == REAL || mode == V86)
        for (u32 n = 0; n < 256; n++)
            store32(4 * n, (CODE >> 4) << 16 | (next(&s) & 0x7ff));
    memset(ram + CODE, 0xf4, CODE_MAX);
    if (size > room)
        size = room;
    memcpy(ram + at, data, size);
    memcpy(ram + RAM_SIZE, ram + CODE, ROM_SIZE);

    sim_vm *vm = sim_create_vm(the_system, &error);
    sim_vm_translate(vm, h.mode & 1 ? 1 : h.where & 1 ? 3 : 0); /* machine code at once, soon, or never */
    sim_vcpu *cpu = sim_create_vcpu(vm, 0, &error);
    if (!cpu)
        fail("no vCPU");
    vcpu(cpu, KVM_SET_CPUID2, cpuid);
    set_slot(vm, 0, 0, RAM_SIZE, 0, ram);
    set_slot(vm, 1, ROM_BASE, ROM_SIZE, KVM_MEM_READONLY, ram + RAM_SIZE);
    if (load_state(cpu, &h, &s)) {
        running = cpu;
        set_timer(LOOP_NS);
        run(vm, cpu, &h, &s, &a);
        set_timer(0);
        running = NULL;
        check_state(cpu);
        executions++;
    }
    sim_vcpu_close(cpu);
    sim_vm_close(vm);
    return 0;
}

/* ---- without libFuzzer ---------------------------------------------------------------------------------------------
 */

#ifdef FUZZ_MAIN
#define INPUT_MAX 1024
struct input {
    size_t size;
    u8 bytes[INPUT_MAX];
};
static struct input *inputs;
static size_t input_count;

static void load(const char *path) {
    struct stat st;
    if (stat(path, &st)) {
        perror(path);
        exit(2);
    }
    if (S_ISDIR(st.st_mode)) {
        struct dirent **names;
        int count = scandir(path, &names, NULL, alphasort);
        for (int n = 0; n < count; n++) {
            char inner[4096];
            snprintf(inner, sizeof inner, "%s/%s", path, names[n]->d_name);
            if (names[n]->d_name[0] != '.')
                load(inner);
            free(names[n]);
        }
        free(names);
        return;
    }
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(2);
    }
    inputs = realloc(inputs, (input_count + 1) * sizeof *inputs);
    inputs[input_count].size = fread(inputs[input_count].bytes, 1, INPUT_MAX, f);
    input_count++;
    fclose(f);
}

/* A known input changed in some places, or all of it random. */
static void make(struct input *in, u64 *s) {
    if (input_count && !one_in(s, 8)) {
        *in = inputs[next(s) % input_count];
        for (u32 n = next(s) % 8; n > 0 && in->size; n--)
            in->bytes[next(s) % in->size] = one_in(s, 2) ? (u8)next(s) : (u8)(1u << next(s) % 8);
        const struct input *other = &inputs[next(s) % input_count];
        size_t at = sizeof(struct header) + next(s) % 32;
        if (one_in(s, 4) && at < in->size && at < other->size) { /* one's head, the other's tail */
            memcpy(in->bytes + at, other->bytes + at, other->size - at);
            in->size = other->size;
        }
    } else {
        in->size = sizeof(struct header) + next(s) % 64;
        for (size_t n = 0; n < in->size; n++)
            in->bytes[n] = (u8)next(s);
    }
}

int main(int argc, char **argv) {
    bool random = argc >= 4 && strcmp(argv[1], "--random") == 0;
    if (argc < 2 || (argv[1][0] == '-' && !random)) {
        fputs("usage: fuzz_bytes FILE|DIRECTORY... | --random SEED SECONDS [DIRECTORY]\n", stderr);
        return 2;
    }
    for (int n = random ? 4 : 1; n < argc; n++)
        load(argv[n]);
    if (random) {
        u64 s = (strtoull(argv[2], NULL, 0) + 1) * 0x9e3779b97f4a7c15u;
        time_t end = time(NULL) + strtol(argv[3], NULL, 0);
        struct input in;
        while (time(NULL) < end) {
            make(&in, &s);
            FILE *f = fopen("fuzz_bytes.last", "wb"); /* what a crash leaves behind */
            if (f) {
                fwrite(in.bytes, 1, in.size, f);
                fclose(f);
            }
            LLVMFuzzerTestOneInput(in.bytes, in.size);
        }
        remove("fuzz_bytes.last");
    } else
        for (size_t n = 0; n < input_count; n++)
            LLVMFuzzerTestOneInput(inputs[n].bytes, inputs[n].size);
    printf("%zu inputs, %lu machines ran\n", input_count, executions);
    return 0;
}
#endif
