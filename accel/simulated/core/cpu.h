/* The one internal header of the simulated processor: its state, and what each file offers the others.
 *
 * Two halves.  The engine decodes and executes: decode.c cache.c run.c access.h flags.h op_arith.c op_logic.c
 * op_shift.c op_move.c op_stack.c op_string.c op_branch.c op_bit.c op_bcd.c op_muldiv.c op_io.c, and what came later:
 * decode_*.c, rows_*.h, op_*.c for x87, vectors and the rest; translate.c.  The system half is what surrounds it: vm.c
 * vcpu.c exits.c entry.c segment.c far.c task.c exception.c cpuid.c msr.c tsc.c op_system.c tlb.c paging.c access.c.
 *
 * The rewind rule.  Every access that can fault, and every access that can reach a device, comes before the first
 * change of guest-visible state (registers, flags, rip, memory).  A fault or an exit longjmps to engine_run(); the
 * instruction then simply starts again from its first byte.  Memory written before a later access of the same
 * instruction faults must first have been probed (mem_probe).  Device accesses already made are found in the replay log
 * on the second run.
 *
 * Where rip is.  rip is not stored per instruction.  Inside a handler the instruction's own address is insn_ip(i), the
 * next one's insn_next_ip(i); cpu->rip is stale.  When anything may longjmp, cpu->cur must be `i`: the inline accessors
 * in access.h set it before their slow path; a handler that calls raise_fault(), vm_exit() or a system function starts
 * with BEGIN(cpu, i), which sets cpu->cur and cpu->rip (to the start of the instruction).  Outside any instruction
 * (interrupt delivery, ioctls) cpu->cur is NULL and cpu->rip is exact.
 *
 * How a handler ends (each one `return`s it):
 *   NEXT(cpu, i)              the next instruction of the block.  Never after a change of rip, mode, CS, SS.B, CPL, IF,
 * TF, CR0/CR3/CR4, segment-wide code visibility, or interrupt shadow. RETIRE(cpu, i, new_rip)   the instruction is
 * complete, continue at new_rip through the run loop (which polls events, looks at IF, TF and the shadow).  Always
 * right, slower. (op_branch.c has faster ends of its own.)
 */
#ifndef SIM_CPU_H
#define SIM_CPU_H
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "core.h"
#include "feature_list.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "registers are accessed by parts: little-endian hosts only");

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define NOINLINE    __attribute__((noinline))

/* ---- numbers of the manual ----------------------------------------------------------------------------------------
 */

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, R_ZERO, NREGS };
enum { ES, CS, SS, DS, FS, GS, LDTR, TR, NSEGS };
enum { MODE16, MODE32, MODE64 }; /* code size; also the decoder's mode argument */
enum { W8, W16, W32, W64 };      /* operand widths: log2 of bytes */

#define FL_CF      0x00000001u
#define FL_1       0x00000002u
#define FL_PF      0x00000004u
#define FL_AF      0x00000010u
#define FL_ZF      0x00000040u
#define FL_SF      0x00000080u
#define FL_TF      0x00000100u
#define FL_IF      0x00000200u
#define FL_DF      0x00000400u
#define FL_OF      0x00000800u
#define FL_IOPL    0x00003000u
#define FL_NT      0x00004000u
#define FL_RF      0x00010000u
#define FL_VM      0x00020000u
#define FL_AC      0x00040000u
#define FL_VIF     0x00080000u
#define FL_VIP     0x00100000u
#define FL_ID      0x00200000u
#define FL_ARITH   (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)
#define IOPL_SHIFT 12

#define CR0_PE 0x00000001u
#define CR0_MP 0x00000002u
#define CR0_EM 0x00000004u
#define CR0_TS 0x00000008u
#define CR0_ET 0x00000010u
#define CR0_NE 0x00000020u
#define CR0_WP 0x00010000u
#define CR0_AM 0x00040000u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u

#define CR4_VME        0x0001u
#define CR4_PVI        0x0002u
#define CR4_TSD        0x0004u
#define CR4_DE         0x0008u
#define CR4_PSE        0x0010u
#define CR4_PAE        0x0020u
#define CR4_MCE        0x0040u
#define CR4_PGE        0x0080u
#define CR4_PCE        0x0100u
#define CR4_UMIP       0x000800u
#define CR4_PCIDE      0x020000u
#define CR4_FSGSBASE   0x010000u
#define CR4_SMEP       0x100000u
#define CR4_SMAP       0x200000u
#define CR4_OSFXSR     0x200u
#define CR4_OSXMMEXCPT 0x400u
#define CR4_OSXSAVE    0x40000u

#define XCR0_X87 0x1u
#define XCR0_SSE 0x2u
#define XCR0_AVX 0x4u

#define EFER_SCE 0x001u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define EFER_NXE 0x800u

enum {
    EXC_DE = 0,
    EXC_DB = 1,
    EXC_NMI = 2,
    EXC_BP = 3,
    EXC_OF = 4,
    EXC_BR = 5,
    EXC_UD = 6,
    EXC_NM = 7,
    EXC_DF = 8,
    EXC_TS = 10,
    EXC_NP = 11,
    EXC_SS = 12,
    EXC_GP = 13,
    EXC_PF = 14,
    EXC_MF = 16,
    EXC_AC = 17,
    EXC_MC = 18,
    EXC_XM = 19
};

/* Basic exit reasons, Intel SDM volume 3, appendix C.  exits.c has the names and the handlers. */
enum exit_reason {
    EXIT_REASON_EXCEPTION_NMI = 0,
    EXIT_REASON_EXTERNAL_INTERRUPT = 1,
    EXIT_REASON_TRIPLE_FAULT = 2,
    EXIT_REASON_INIT_SIGNAL = 3,
    EXIT_REASON_STARTUP_IPI = 4,
    EXIT_REASON_OTHER_SMI = 6,
    EXIT_REASON_INTERRUPT_WINDOW = 7,
    EXIT_REASON_NMI_WINDOW = 8,
    EXIT_REASON_TASK_SWITCH = 9,
    EXIT_REASON_CPUID = 10,
    EXIT_REASON_HLT = 12,
    EXIT_REASON_INVD = 13,
    EXIT_REASON_INVLPG = 14,
    EXIT_REASON_RDPMC = 15,
    EXIT_REASON_RDTSC = 16,
    EXIT_REASON_RSM = 17,
    EXIT_REASON_VMCALL = 18,
    EXIT_REASON_CR_ACCESS = 28,
    EXIT_REASON_DR_ACCESS = 29,
    EXIT_REASON_IO_INSTRUCTION = 30,
    EXIT_REASON_MSR_READ = 31,
    EXIT_REASON_MSR_WRITE = 32,
    EXIT_REASON_INVALID_STATE = 33,
    EXIT_REASON_MONITOR_TRAP = 37,
    EXIT_REASON_MWAIT = 36,
    EXIT_REASON_MONITOR = 39,
    EXIT_REASON_PAUSE = 40,
    EXIT_REASON_GDTR_IDTR = 46,
    EXIT_REASON_LDTR_TR = 47,
    EXIT_REASON_EPT_VIOLATION = 48,
    EXIT_REASON_EPT_MISCONFIG = 49,
    EXIT_REASON_PREEMPTION_TIMER = 52,
    EXIT_REASON_WBINVD = 54,
    EXIT_REASON_XSETBV = 55,
    EXIT_REASON_COUNT = 70
};

/* ---- decoded code -------------------------------------------------------------------------------------------------
 */

struct insn;
/* One handler signature.  `i` lies in a block's array, so the next instruction is i + 1. */
typedef void (*op_fn)(sim_vcpu *cpu, const struct insn *i);

/* A decoded instruction: 32 bytes.  Filled by decode.c, never changed afterwards but for `fn` (see code_written). */
struct insn {
    op_fn fn;
    u64 imm;  /* immediate, sign- or zero-extended as the operand code says; relative branches: displacement; far
                 pointers: offset | selector << 32; ENTER: size | level << 16 */
    s32 disp; /* displacement of the memory operand; moffs (A0..A3) in 64-bit mode has its address in imm instead */
    u16 off;  /* bytes from the start of the block to the instruction */
    u8 len;   /* its length */
    u8 idx;   /* its place in the block */
    u8 reg;   /* ModRM.reg or the register in the opcode: number, or byte offset into regs[] where width is 8 bits;
                 segment, control or debug register number where the operand is one */
    u8 rm;    /* ModRM.rm as a register, same coding */
    u8 base;  /* memory operand: register numbers, R_ZERO for none; IF_RIPREL: insn_ea() adds the next rip */
    u8 index;
    u8 seg; /* segment of the memory operand, overrides applied; string source; CS..GS */
    u8 scale : 2;
    u8 asz : 2; /* address size: W16 W32 W64 */
    u8 osz : 2; /* operand size in force: W8 W16 W32 W64 */
    u8 ssz : 2; /* stack address size: W16 W32 W64 (from SS.B; in the block key) */
    u8 flags;   /* IF_* */
    u8 opcode;  /* last opcode byte (for reports, and conditions: low four bits) */
};
#define IF_MEM    0x01 /* the E/M operand is memory */
#define IF_LOCK   0x02
#define IF_REP    0x04 /* F3 */
#define IF_REPNE  0x08 /* F2 */
#define IF_RIPREL 0x10
#define IF_REX    0x20
_Static_assert(sizeof(struct insn) == 32, "struct insn is 32 bytes");

struct block;
struct block_link {
    struct block *to;
    u64 gen; /* followed while equal to cpu->map_gen; stale, it is looked at again (code_lookup) */
};

/* A run of instructions ending with a branch, a state change, the page's end or BLOCK_MAX.  Belongs to one vCPU. */
struct block {
    u64 ip;      /* guest rip (offset in CS) of the first instruction: part of the key */
    u64 gpa;     /* guest-physical address of the first byte: part of the key */
    u32 key;     /* cpu->code_key it was decoded under: part of the key */
    u16 len;     /* bytes */
    u8 count;    /* instructions, without the synthetic end */
    u8 flags;    /* BF_* */
    u32 epoch;   /* cpu->epoch at which the bytes were last compared with memory */
    u32 runs;    /* how often it ran; not counted any more once it is machine code */
    op_fn first; /* the handler of the first instruction while op_warm stands there */
    struct block *hash_next, *page_next;
    const u8 *host; /* the bytes in host memory; first part when crossing */
    u8 *copy;       /* the bytes as decoded */
                    /* insns[count] is the synthetic end, in the place of insns[count + 1] are the links */
    struct insn insns[];
};
#define BF_DEAD    0x01
#define BF_CROSS   0x02 /* one instruction over a page boundary: never linked */
#define BF_CHECKED 0x04
#define BLOCK_MAX  48

static inline struct block *insn_block(const struct insn *i) {
    return (struct block *)((char *)(uintptr_t)(i - i->idx) - offsetof(struct block, insns));
}
static inline u64 insn_ip(const struct insn *i) { return insn_block(i)->ip + i->off; }
static inline u64 insn_next_ip(const struct insn *i) { return insn_block(i)->ip + i->off + i->len; }

/* What block building wants to know of an instruction besides. */
struct decode_info {
    bool end;     /* it ends its block */
    u8 effect;    /* EFFECT_* on the arithmetic flags */
    u8 unit;      /* UNIT_*: which control bits may forbid it */
    u8 feature;   /* FEAT_*: which CPUID flag it depends on */
    op_fn quiet;  /* the same without writing arithmetic flags, or NULL */
    op_fn absent; /* what the encoding means on a processor without the feature; NULL: #UD */
};
/* What an instruction needs of CR0, CR4 and XCR0, and what it raises without (SDM volume 3, 2.5 and 13; volume 2,
 * tables 2-18 and following).  cache.c asks for it when a block is built. */
enum {
    UNIT_NONE,
    UNIT_X87,   /* EM or TS: #NM */
    UNIT_WAIT,  /* MP and TS: #NM */
    UNIT_MMX,   /* EM: #UD; TS: #NM */
    UNIT_SSE,   /* EM, or no OSFXSR: #UD; TS: #NM */
    UNIT_AVX,   /* real or virtual-8086 mode, no OSXSAVE, XCR0 without SSE and AVX: #UD; TS: #NM */
    UNIT_VEX,   /* general registers by VEX: real or virtual-8086 mode: #UD */
    UNIT_FXSR,  /* FXSAVE, FXRSTOR; EM or TS: #NM */
    UNIT_XSAVE, /* no OSXSAVE: #UD; TS: #NM */
    UNIT_XCR    /* XGETBV, XSETBV; no OSXSAVE: #UD */
};
enum {
    EFFECT_NEEDS,   /* reads some flags, keeps some, may fault or leave: flags before it must be right */
    EFFECT_NEUTRAL, /* cannot fault, does not touch flags */
    EFFECT_KILLS    /* cannot fault, writes all arithmetic flags and reads none */
};

/* decode.c: a pure function.  `bytes` has `avail` readable bytes.  Returns the length, or 0 when more bytes are needed
 * (then avail < 15).  Illegal encodings decode to op_ud, too long ones to op_gp0. */
unsigned decode(const u8 *bytes, unsigned avail, unsigned mode, bool stack32, struct insn *out,
                struct decode_info *info);

/* Bits of cpu->code_key: what decoding and the replacement of unusable instructions depend on. */
#define KEY_MODE    0x0003u /* MODE* */
#define KEY_STACK32 0x0004u
#define KEY_STEP    0x0100u /* blocks of one instruction */
#define KEY_MP      0x0200u /* CR0.MP EM TS, in their order */
#define KEY_EM      0x0400u
#define KEY_TS      0x0800u
#define KEY_OSFXSR  0x1000u
#define KEY_OSXSAVE 0x2000u
#define KEY_AVX     0x4000u /* XCR0 has SSE and AVX */
#define KEY_REAL    0x8000u /* real or virtual-8086 mode */

/* ---- segments -----------------------------------------------------------------------------------------------------
 */

/* attr: as VMX access rights: 3:0 type, 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable */
#define SA_TYPE     0x0000fu
#define SA_S        0x00010u
#define SA_DPL      0x00060u
#define SA_P        0x00080u
#define SA_AVL      0x01000u
#define SA_L        0x02000u
#define SA_DB       0x04000u
#define SA_G        0x08000u
#define SA_UNUSABLE 0x10000u
#define SA_CODE     0x00008u /* of type, with S */
#define SA_DOWN     0x00004u /* data: expand-down; code: conforming */
#define SA_RW       0x00002u /* data: writable; code: readable */
#define SA_ACC      0x00001u

struct seg {
    u64 base;
    u64 fbase; /* the base of the fast path: in 64-bit code 0 but for FS and GS */
    u64 rmax;  /* an access of n bytes at ea may be read on the fast path when ea + n <= rmax; 0 sends all to the slow
                  path */
    u64 wmax;  /* the same for writes; all three set only by seg_update() */
    u32 limit; /* in bytes, granularity applied */
    u32 attr;
    u16 selector;
};

/* ---- TLB ----------------------------------------------------------------------------------------------------------
 */

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096u
#define PAGE_MASK  (~(u64)0xfff)
#define TLB_SIZE   2048
#define TLB_NONE   (~(u64)0) /* no address masked to a page compares equal to this */

/* Direct-mapped by linear page.  A tag is the linear page address when that kind of access needs no slow path.
 * tag_w is set only when: write allowed, dirty bit set in the page table, slot writable RAM, dirty log marked, and no
 * decoded code in the page (slot_code_lines() == 0).  host address = linear address + addend. */
struct tlb_entry {
    u64 tag_r, tag_w, tag_x;
    u64 addend;
};
/* The colder half, same index: what the slow path knows about the page. */
struct tlb_info {
    u64 page; /* linear page, TLB_NONE when the entry is empty */
    u64 gpa;
    struct slot *slot; /* NULL: no RAM there (MMIO) */
    u32 flags;         /* TI_* */
};
/* A table of the upper levels that a page walk came to (the manual's paging-structure caches), by walk_memo_index(). */
struct walk_memo {
    u64 tag;    /* linear address over what the table spans, with its level; 0: none */
    u64 table;  /* where the table lies */
    u64 rights; /* W, U and NX of the entries on the way to it */
};
#define TI_WRITE  0x1 /* page tables allow writes now (dirty bit set) */
#define TI_EXEC   0x2
#define TI_GLOBAL 0x4
#define TI_LARGE  0x8
#define TI_HUGE   0x10 /* 1 GiB */
#define TI_READ   0x20 /* not so: fetched from, but SMAP forbids to read it */

/* ---- events, exits, replay -----------------------------------------------------------------------------------------
 */

/* cpu->stop: tested at every block end; non-zero leads back to the run loop, which calls poll_events(). */
#define EV_KICK  0x01u /* sim_vcpu_kick */
#define EV_STEP  0x02u /* one instruction at a time: set by update_step() only */
#define EV_TLB   0x04u /* another thread asks: flush the TLB (slots changed, dirty log fetched) */
#define EV_CODE  0x08u /* another thread asks: cache.c has messages to take (code_messages) */
#define EV_PAUSE 0x10u /* another thread asks: stand still while it holds vm->lock (vm.c) */
#define EV_IRQ   0x20u /* an event may be deliverable: poll again (KVM_INTERRUPT, KVM_NMI from another thread) */

#define SHADOW_STI   0x1
#define SHADOW_MOVSS 0x2

/* Jump values for the run loop's setjmp. */
enum { JMP_FAULT = 1, JMP_EXIT, JMP_AGAIN };

/* Accesses to devices that the current instruction has made already.  Appended by exits.c when user space completed
 * one, consumed in order by the restarted instruction, emptied by the run loop when the instruction is complete (string
 * instructions empty it after every iteration: replay_iteration_done). */
#define REPLAY_MAX 72
struct replay {
    u32 n, pos;
    u64 lin_ip; /* cs.base + rip of the instruction: a log for another instruction is dropped at entry */
    struct {
        u64 gpa, value;
        u8 size, write;
    } e[REPLAY_MAX];
    /* port access of the current instruction: 0 none, 1 done (data at cpu->pio_data, count elements) */
    u32 pio_done, pio_count;
};

/* Why the guest was left, with what the handler needs.  Filled before vm_exit(). */
struct exit_info {
    u32 reason;
    u32 insn_len; /* of cpu->cur, 0 when none: handlers that serve an instruction advance rip by this (exit_advance) */
    u64 qualification; /* CR access: cr | type<<4 | reg<<8; DR the same; task switch: selector | source<<30; others as
                          the SDM */
    u64 gpa, value;    /* EPT violation: address, data to be written */
    u8 size, write;
    u8 reg; /* general register concerned */
    struct {
        u16 port;
        u8 size, in, string;
        u32 count;
    } io;
};

/* ---- x87, MMX, SSE, AVX state
 * ----------------------------------------------------------------------------------------- */

/* An x87 register; an MMX register is the mantissa (the exponent is then all ones). */
union st_reg {
    long double value;
    struct {
        u64 mant;
        u16 exp; /* with the sign in bit 15 */
    };
};
struct fpu {
    union st_reg st[8]; /* physical registers: ST(n) is st[(TOP + n) % 8] */
    u16 fcw, fsw;       /* TOP is bits 13:11 of fsw */
    u8 ftw;             /* a bit for each physical register that is not empty, as FXSAVE has it */
    u16 fop;            /* 11 bits */
    u64 fip, fdp;
    u16 fcs, fds;
};
#define FPU_TOP_SHIFT 11
#define FSW_B         0x8000u /* as ES */
#define FSW_ES        0x0080u /* an unmasked exception is pending: #MF at the next waiting instruction */
#define FCW_INIT      0x037fu
#define MXCSR_INIT    0x1f80u
#define MXCSR_BITS    0xffffu /* MXCSR_MASK: all, with DAZ */

union vreg {
    u8 b[32];
    u16 w[16];
    u32 d[8];
    u64 q[4];
    float s[8];
    double f[4];
} __attribute__((aligned(32)));

/* ---- a vCPU ---------------------------------------------------------------------------------------------------------
 */

#define JC_SIZE 4096 /* jump cache: rip -> block */
struct jc_entry {
    u64 ip, gen;
    struct block *block;
};

/* Which translations the links and jump cache entries of a privilege rest on. */
struct code_map {
    u64 count;     /* of changes: map_gen without its context */
    u64 pages[16]; /* filter: linear pages they lead to */
    u64 regions;   /* the same for GiBs that hold such pages within large ones */
    bool local;    /* some of these pages are not global */
};
#define MAP_CONTEXT 0xffffu
#define MAP_USER    0x0008u /* of the context: CPL 3 */

struct dtr {
    u64 base;
    u32 limit;
};

/* Where RDRAND takes its numbers from: op_random.c. */
struct random {
    bool seeded;
    u8 left;     /* unseeded: words not yet taken */
    u64 word[4]; /* seeded: the generator's state */
};

/* For reports on guests that only fault: exception.c. */
struct trouble {
    u8 chain[3]; /* the last fault, and what came while it, and then the double fault, was delivered */
    u8 chained;
    u8 vector; /* of the last fault */
    _Atomic u8 looping;
    u32 in_a_row; /* faults with next to nothing between them */
    u64 icount;   /* at the last one */
};

struct sim_vcpu {
    /* hot: the engine's own; keep within few cache lines */
    u64 regs[NREGS]; /* regs[R_ZERO] is always 0 */
    s64 cc_res;      /* flags.h */
    u32 cc_oca;
    _Atomic u32 stop; /* EV_* */
    u64 icount;       /* retired instructions, exact whenever cpu->cur is NULL */
    u64 map_gen; /* what rip -> block means: a count of its changes (map_changed) over MAP_CONTEXT bits that tell code
                    sizes and privileges apart.  Links and jump cache are good while it is what they were made under */
    const struct insn *cur;
    u64 rip;                      /* see the head of this file */
    struct tlb_entry *tlb;        /* tlb_set[access_level()] */
    struct block_link *want_link; /* the link the run loop fills with the block it finds next */
    u32 chain_miss;               /* a block ended only because its successor was not known: no need to poll */
    u32 eflags;                   /* all but FL_ARITH; read with cpu_eflags(), write with cpu_set_eflags() */
    u32 code_key;                 /* decoding mode, see cpu_mode_changed() */
    u64 ip_limit, ip_bias;        /* a near transfer may go to ip when ip + ip_bias <= ip_limit: below CS.limit, or to a
                                     canonical address (cpu_mode_changed) */
    u8 cpl;
    u8 shadow;     /* interrupt shadow in force before the next instruction */
    u8 shadow_new; /* set by STI, MOV SS, POP SS; becomes `shadow` when the instruction is complete */
    u8 mode;       /* MODE16.. of the code segment */
    struct seg seg[NSEGS];
    u32 mxcsr;      /* inside engine_run() by guest_mxcsr() and set_guest_mxcsr() only: fpu.h */
    u32 host_mxcsr; /* the process's own while the guest's are in force */
    u16 host_fcw;
    union vreg ymm[16];
    struct fpu fpu;
    u64 xcr0;
    u64 features[2]; /* a bit for each FEAT_* that CPUID announces; cpuid.c */

    struct tlb_entry tlb_set[4][TLB_SIZE]; /* by LEVEL_*; the last stays empty */
    struct tlb_info tlb_info[3][TLB_SIZE];
    struct jc_entry jc[JC_SIZE];

    /* engine, cold */
    jmp_buf jmp;
    struct code_cache *cache;    /* cache.c */
    u32 epoch;                   /* bumped at every KVM_RUN: blocks compare their bytes before the next use */
    struct code_map code_map[2]; /* [0] supervisor, [1] user */
    struct walk_memo walk_memo[64];
    u64 slow_writes; /* page_bit() of pages written off the inline path since code_messages() */
    u32 pauses;      /* PAUSE instructions */
    u32 step_flags;  /* why EV_STEP is set: STEP_* */
    struct {         /* flags before the repeated CMPS or SCAS under way; insn NULL for none */
        const struct insn *insn;
        s64 cc_res;
        u32 cc_oca;
    } rep;
    struct replay replay;
    struct exit_info exit;

    /* system registers: the system half owns these; the engine only reads */
    u64 cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    u64 pdpte[4]; /* PAE, loaded with CR3 */
    u64 dr[8];
    struct dtr gdt, idt;
    u64 tsc_offset;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 star, lstar, cstar, fmask, kernel_gs_base, tsc_aux, pat, misc_enable, mtrr_def_type, mtrr[32];

    /* exceptions and events: exception.c, entry.c */
    struct {
        u8 pending; /* a fault raised by raise_fault, being delivered by exception_deliver */
        u8 vector;
        u8 has_error;
        u8 soft; /* INT n / INT3 / INTO: delivered as a software interrupt, rip is the next instruction's */
        u32 error;
        u64 cr2;
    } fault;
    struct {
        u8 delivering;   /* an event is being delivered through the IDT */
        u8 vector;       /* which: for the double-fault rules */
        u8 contributory; /* see exception.c */
        u8 nmi_pending, nmi_masked;
        u8 irq_pending; /* KVM_INTERRUPT was called and irq_vector not yet delivered */
        u8 irq_vector;
        u8 soft;
        u32 irq_window_seen;
    } ev;
    u64 db_pending; /* DR6 bits of debug traps to raise after the instruction */

    /* user-space side: vcpu.c, exits.c */
    sim_vm *vm;
    unsigned id;
    struct kvm_run *run; /* run page; port data at run + PIO_OFFSET */
    u8 *pio_data;
    pthread_mutex_t guest_lock; /* held while executing guest code */
    u32 mp_state;
    u32 guest_debug; /* KVM_GUESTDBG_* */
    u64 guest_debug_dr[8];
    u64 exit_count[EXIT_REASON_COUNT], exit_count_user[EXIT_REASON_COUNT];
    struct kvm_cpuid_entry2 *cpuid;
    unsigned cpuid_count;
    struct random random;
    struct trouble trouble;
    void *system_private; /* anything else the system half needs */
};
#define PIO_OFFSET 4096

#define STEP_TF     0x1 /* EFLAGS.TF */
#define STEP_SHADOW 0x2
#define STEP_REPLAY 0x4
#define STEP_DEBUG  0x8  /* KVM_SET_GUEST_DEBUG single step */
#define STEP_DRX    0x10 /* an enabled instruction breakpoint */
#define STEP_RF     0x20

/* ---- VM -------------------------------------------------------------------------------------------------------------
 */

#define MAX_SLOTS 64
#define MAX_VCPUS 64
struct slot {
    u64 gpa, size;
    u8 *host;
    u32 id, flags;           /* KVM_MEM_* */
    _Atomic u64 *dirty;      /* bitmap, a bit per page; NULL when not logging */
    _Atomic u64 *code;       /* per page: a bit for every 64 bytes that some vCPU decoded code from */
    _Atomic u64 *code_exact; /* per page CODE_WORDS: a bit for every 4 bytes, within the lines marked in `code` */
};

struct sim_vm {
    sim_system *system;
    bool writes_are_told; /* set before the first KVM_RUN */
    u32 translate_after;  /* executions of a block; 0: never */
    pthread_mutex_t lock; /* slots, vcpus, pausing: vm.c */
    unsigned nslots;      /* slots[] sorted by gpa, changed only while every vCPU's guest_lock is held */
    struct slot *slots[MAX_SLOTS];
    struct slot *_Atomic last_slot; /* the last that vm_slot() found */
    unsigned nvcpus;
    sim_vcpu *vcpus[MAX_VCPUS];
    pthread_mutex_t code_lock;  /* cache.c: messages between code caches */
    pthread_mutex_t split_lock; /* split_lock() */
    bool seeded;                /* sim_vm_seed was called, with: */
    u64 seed;
    void *system_private;
};

static inline _Atomic u64 *slot_code(struct slot *s, u64 gpa) { return &s->code[(gpa - s->gpa) >> PAGE_SHIFT]; }
#define CODE_WORDS (PAGE_SIZE / 4 / 64)
static inline _Atomic u64 *slot_code_exact(struct slot *s, u64 gpa) {
    return &s->code_exact[((gpa - s->gpa) >> PAGE_SHIFT) * CODE_WORDS];
}
static inline unsigned jc_hash(u64 ip) { return (unsigned)(ip ^ ip >> 12) % JC_SIZE; }
static inline u64 page_bit(u64 gpa) { return (u64)1 << ((gpa >> PAGE_SHIFT) % 64); }

/* ---- run.c (engine) -------------------------------------------------------------------------------------------------
 */

/* Execute guest code until vm_exit(); cpu->exit says why.  Called by vcpu.c inside its enter/exit loop.  Before the
 * first instruction, and whenever cpu->stop is non-zero or an instruction ended with RETIRE, it calls poll_events(). */
void engine_run(sim_vcpu *cpu);
/* Leave engine_run.  From a handler: BEGIN first; the state is that before the instruction.  cpu->exit.reason and
 * .insn_len are set here, the rest by the caller. */
_Noreturn void vm_exit(sim_vcpu *cpu, unsigned reason);
/* To the run loop again, from anywhere inside engine_run, when cpu->rip and all else is exact (cpu->cur = NULL is done
 * here). */
_Noreturn void engine_again(sim_vcpu *cpu);
/* After any change of CS, SS, CPL, CR0, CR4, XCR0, EFER, DR7 or EFLAGS.VM: recomputes mode, code_key, tlb, seg limits;
 * drops links. */
void cpu_mode_changed(sim_vcpu *cpu);
/* After any change of TF, shadow, guest_debug, dr7: recomputes EV_STEP.  (cpu_set_eflags calls it.) */
void update_step(sim_vcpu *cpu);
/* rip -> block may mean something else from now on. */
static inline void map_changed_for(sim_vcpu *cpu, unsigned user) {
    struct code_map *map = &cpu->code_map[user];
    u64 count = map->count + MAP_CONTEXT + 1;
    memset(map, 0, sizeof *map);
    map->count = count;
    if (user == ((cpu->map_gen & MAP_USER) != 0))
        cpu->map_gen = count | (cpu->map_gen & MAP_CONTEXT);
}
static inline void map_changed(sim_vcpu *cpu) {
    map_changed_for(cpu, 0);
    map_changed_for(cpu, 1);
}
static inline u64 *code_page_word(struct code_map *map, u64 lin) {
    u64 page = lin >> PAGE_SHIFT;
    return &map->pages[(page ^ page >> 10) / 64 % 16];
}
static inline u64 code_page_bit(u64 lin) {
    u64 page = lin >> PAGE_SHIFT;
    return (u64)1 << ((page ^ page >> 10) % 64);
}
static inline u64 code_region_bit(u64 lin) { return (u64)1 << ((lin >> 30) % 64); }
/* The translation of one linear page goes: has code been found by it? */
static inline void map_page_changed(sim_vcpu *cpu, u64 lin) {
    for (unsigned user = 0; user < 2; user++) {
        struct code_map *map = &cpu->code_map[user];
        if ((*code_page_word(map, lin) & code_page_bit(lin)) || (map->regions & code_region_bit(lin)))
            map_changed_for(cpu, user);
    }
}
static inline bool ip_ok(const sim_vcpu *cpu, u64 ip) { return ip + cpu->ip_bias <= cpu->ip_limit; }
/* Recompute fbase, rmax, wmax of one segment (also called for all by cpu_mode_changed). */
void seg_update(sim_vcpu *cpu, struct seg *s);

static inline void BEGIN(sim_vcpu *cpu, const struct insn *i) {
    cpu->cur = i;
    cpu->rip = insn_ip(i);
}
#define NEXT(cpu, i) (i)[1].fn((cpu), (i) + 1)
static inline void RETIRE(sim_vcpu *cpu, const struct insn *i, u64 rip) {
    cpu->icount += i->idx + 1u;
    cpu->rip = rip;
    cpu->cur = NULL;
}
/* exits.c, when a handler has served the instruction that exited: go past it. */
static inline void exit_advance(sim_vcpu *cpu) {
    cpu->rip += cpu->exit.insn_len;
    if (cpu->mode == MODE16)
        cpu->rip &= 0xffff;
    else if (cpu->mode == MODE32)
        cpu->rip &= 0xffffffff;
    cpu->shadow = 0;
    cpu->eflags &= ~FL_RF;
    cpu->icount++;
    update_step(cpu);
}
/* A restarted string instruction finished one iteration. */
static inline void replay_iteration_done(sim_vcpu *cpu) {
    cpu->replay.n = cpu->replay.pos = 0;
    cpu->replay.pio_done = 0;
}

/* ---- cache.c (engine) -----------------------------------------------------------------------------------------------
 */

struct code_cache *code_cache_new(void); /* vcpu.c: one per vCPU; NULL when out of memory */
void code_cache_free(struct code_cache *cache);
void code_flush(sim_vcpu *cpu); /* forget all decoded code (own thread) */
/* Guest memory [gpa, gpa+size), within one page of `slot`, is about to be written by this vCPU; slot_code() of the page
 * is not 0.  Drops the code concerned, tells the other vCPUs. */
void code_written(sim_vcpu *cpu, struct slot *slot, u64 gpa, unsigned size);
void code_messages(sim_vcpu *cpu); /* EV_CODE: take what other threads posted (own thread) */
/* From any thread: [gpa, gpa+size) changed under the vCPUs. */
void code_invalidate_all(sim_vm *vm, u64 gpa, u64 size);
/* rip -> block, decoding as needed; may raise #PF, #GP or exit (no RAM there: vm_exit with EPT_VIOLATION, exit.write =
 * 2). */
struct block *code_lookup(sim_vcpu *cpu);
/* The block that is about to run does so often: make machine code of it, or let it be. */
void code_translate(sim_vcpu *cpu, struct block *b);

/* ---- access.c, tlb.c, paging.c (system) -----------------------------------------------------------------------------
 */

/* Slow paths of access.h: segment checks with the right fault (#SS for SS), alignment check, page walk, page crossing,
 * code pages (code_written), MMIO through the replay log.  size 1, 2, 4, 8. */
u64 mem_read_slow(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size);
void mem_write_slow(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, u64 value);
/* For read-modify-write: checks for writing; the host pointer when [ea, ea+size) is writable RAM in one piece (code
 * there has been dropped), else NULL: then use mem_read_slow (after this, so that write faults win) and mem_write_slow.
 */
void *mem_rmw_slow(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size);
/* Around those two, after mem_rmw_slow said NULL: when it is RAM on two pages, at most one vCPU of the VM is between
 * the calls.  Nothing between them faults or exits. */
bool split_lock(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size);
void split_unlock(sim_vcpu *cpu, bool locked);
/* 16 and 32 bytes (slow paths of vector.h) and larger areas, up to 4096 bytes: `align` (a power of two) is what the
 * linear address must be a multiple of, else #GP(0).  Everything is probed before the first byte moves; never #AC. */
void mem_read_wide(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, unsigned align, void *to);
void mem_write_wide(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, unsigned align, const void *from);
void mem_probe_aligned(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, unsigned align, bool write);
/* Raise whatever fault an access of size bytes (1 .. 4096) would raise; do nothing else.  write: bool. */
void mem_probe(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, bool write);
/* For bulk string operations: how many bytes from ea on, at most size and at most to the end of the page, are plain RAM
 * that may be accessed so; *host is where.  0: do it one by one.  Raises nothing.  For write, code in the range has
 * been dropped. */
unsigned mem_span(sim_vcpu *cpu, unsigned seg, u64 ea, unsigned size, bool write, u8 **host);
/* Descriptor tables, TSS: linear address, supervisor privilege whatever CPL is. */
u64 sys_read(sim_vcpu *cpu, u64 lin, unsigned size);
void sys_write(sim_vcpu *cpu, u64 lin, unsigned size, u64 value);
void sys_probe(sim_vcpu *cpu, u64 lin, unsigned size, bool write);
/* Code fetch: where the linear page lies, and its TI_*.  Raises #PF (instruction fetch).  Returns the slot, NULL when
 * there is no RAM. */
struct slot *fetch_page(sim_vcpu *cpu, u64 lin, u64 *gpa_page, const u8 **host_page, u32 *flags);
struct slot *vm_slot(sim_vm *vm, u64 gpa);      /* the slot containing gpa, or NULL */
void tlb_flush(sim_vcpu *cpu, bool global_too); /* also bumps map_gen */
void tlb_flush_page(sim_vcpu *cpu, u64 lin);
/* A page of this gpa got code: no direct writes to it any more.  Returns whether one was possible till now. */
bool tlb_protect_code(sim_vcpu *cpu, u64 gpa);

/* ---- segment.c, far.c, task.c, exception.c, entry.c (system)
 * --------------------------------------------------------- */

/* Longjmps; the run loop calls exception_deliver().  `error` is ignored for vectors without one.  The address of a #PF
 * goes to cpu->fault.cr2 first. */
_Noreturn void raise_fault(sim_vcpu *cpu, unsigned vector, u32 error);
/* Called by the run loop (cur = NULL, rip = the instruction) after raise_fault: IDT delivery, double and triple fault.
 */
void exception_deliver(sim_vcpu *cpu);
/* Called by the run loop between instructions, cur = NULL: async events (EV_*), debug traps, NMI, interrupt injection,
 * window exits; leaves by vm_exit() when the guest must be left.  Must not inject while the replay log is in use.
 * Called often: quick when there is nothing to do. */
void poll_events(sim_vcpu *cpu);
/* Called by the run loop after one instruction in step mode, when TF was set at its start. */
void step_trap(sim_vcpu *cpu);
/* op_io.c asks: may CPL/IOPL/TSS bitmap/VM86 use these ports?  Else #GP(0). */
void io_check(sim_vcpu *cpu, u16 port, unsigned size);

/* A pending unmasked x87 exception meets a waiting instruction: #MF.  So it is with CR0.NE clear, too: KVM has NE set
 * behind the guest's back and no FERR# line to an interrupt controller, so user space never hears of IRQ 13. */
_Noreturn void raise_mf(sim_vcpu *cpu);
static inline _Noreturn void raise_ud(sim_vcpu *cpu) { raise_fault(cpu, EXC_UD, 0); }
static inline _Noreturn void raise_gp0(sim_vcpu *cpu) { raise_fault(cpu, EXC_GP, 0); }

/* ---- small things all use
 * -------------------------------------------------------------------------------------------- */

static inline bool real_mode(const sim_vcpu *cpu) { return !(cpu->cr0 & CR0_PE); }
static inline bool v86_mode(const sim_vcpu *cpu) { return (cpu->eflags & FL_VM) != 0; }
static inline bool protected_mode(const sim_vcpu *cpu) { return (cpu->cr0 & CR0_PE) && !(cpu->eflags & FL_VM); }
static inline bool long_mode(const sim_vcpu *cpu) { return (cpu->efer & EFER_LMA) != 0; }
static inline bool stack_big(const sim_vcpu *cpu) { return (cpu->seg[SS].attr & SA_DB) != 0; }
static inline bool has_feature(const sim_vcpu *cpu, unsigned feature) {
    return cpu->features[feature / 64] >> (feature % 64) & 1;
}
static inline unsigned iopl(const sim_vcpu *cpu) { return (cpu->eflags & FL_IOPL) >> IOPL_SHIFT; }

/* Whose rights a data access of the program has: which of the TLB's sets serves it.  The processor's own accesses to
 * tables are LEVEL_SYSTEM, which SMAP keeps from user pages whatever AC is. */
enum { LEVEL_SYSTEM, LEVEL_USER, LEVEL_AC, NLEVELS };
static inline unsigned level_of(const sim_vcpu *cpu, unsigned cpl) {
    return cpl == 3 ? LEVEL_USER : (cpu->cr4 & CR4_SMAP) && (cpu->eflags & FL_AC) ? LEVEL_AC : LEVEL_SYSTEM;
}
static inline unsigned access_level(const sim_vcpu *cpu) { return level_of(cpu, cpu->cpl); }

/* Does #AC watch the program's accesses? */
static inline bool alignment_checked(const sim_vcpu *cpu) {
    return unlikely(cpu->eflags & FL_AC) && (cpu->cr0 & CR0_AM) && cpu->cpl == 3;
}

static inline u8 *reg8(sim_vcpu *cpu, unsigned offset) { return (u8 *)cpu->regs + offset; }
static inline u16 *reg16(sim_vcpu *cpu, unsigned n) { return (u16 *)&cpu->regs[n]; }
static inline u32 get32(const sim_vcpu *cpu, unsigned n) { return (u32)cpu->regs[n]; }
static inline u64 width_mask(unsigned w) { return w == W64 ? ~(u64)0 : ((u64)1 << (8u << w)) - 1; }
static inline u64 get_reg(const sim_vcpu *cpu, unsigned n, unsigned w) {
    return cpu->regs[n] & width_mask(w);
} /* not W8 */
/* 16-bit writes keep the rest, 32-bit writes clear the upper half.  Not for W8. */
static inline void set_reg(sim_vcpu *cpu, unsigned n, unsigned w, u64 v) {
    if (w == W16)
        *reg16(cpu, n) = (u16)v;
    else
        cpu->regs[n] = w == W32 ? (u32)v : v;
}
static inline u64 linear_ip(const sim_vcpu *cpu, u64 ip) {
    return cpu->mode == MODE64 ? ip : (u32)(cpu->seg[CS].base + ip);
}
/* Effective address of the memory operand (offset in its segment). */
static inline u64 insn_ea(const sim_vcpu *cpu, const struct insn *i) {
    static const u64 mask[4] = {0xff, 0xffff, 0xffffffff, ~(u64)0};
    u64 ea = cpu->regs[i->base] + (cpu->regs[i->index] << i->scale) + (u64)(s64)i->disp;
    if (i->flags & IF_RIPREL)
        ea += insn_next_ip(i);
    return ea & mask[i->asz];
}

u32 cpu_eflags(const sim_vcpu *cpu); /* complete, flags.h/run.c; bit 1 set */
/* Replace the bits in mask; calls update_step() when TF may have changed, cpu_mode_changed() when VM did. */
void cpu_set_eflags(sim_vcpu *cpu, u32 value, u32 mask);
void cpu_set_arith_flags(sim_vcpu *cpu, u32 value); /* all of FL_ARITH */

#endif
