/* What the files of the system half offer each other; the engine does not include it.
 *
 * Three layers of memory access, lowest first: lin_* take a linear address and a privilege, sys_* are lin_* as
 * supervisor (descriptor tables, TSS), mem_* of cpu.h take a segment and an offset.
 */
#ifndef SIM_SYSTEM_H
#define SIM_SYSTEM_H
#include "cpu.h"

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };

#define PHYS_BITS 40 /* CPUID 80000008h */
#define PHYS_MASK (((u64)1 << PHYS_BITS) - 1)

#define PF_PRESENT 0x01u
#define PF_WRITE   0x02u
#define PF_USER    0x04u
#define PF_RSVD    0x08u
#define PF_FETCH   0x10u

/* ---- paging.c ---- */
struct walk {
    u64 gpa;   /* of the 4 KiB page */
    u32 flags; /* TI_* */
    u32 error; /* #PF error code when the walk failed */
};
/* Translate the page of `lin` for an access at LEVEL_*, checking rights and setting accessed and dirty bits.  False:
 * #PF with w->error. */
bool page_walk(sim_vcpu *cpu, u64 lin, enum access access, unsigned level, struct walk *w);
/* PAE: read the four PDPTEs CR3 points to.  False when a reserved bit is set; then cpu->pdpte is unchanged. */
bool load_pdptes(sim_vcpu *cpu, u64 cr3);

/* ---- tlb.c ---- */
/* The entry for the page of `lin` for this access, walking the tables when needed; raises #PF. */
struct tlb_info *tlb_get(sim_vcpu *cpu, u64 lin, enum access access, unsigned level);
/* The entry if it is there and allows the access without a walk, else NULL. */
struct tlb_info *tlb_peek(sim_vcpu *cpu, u64 lin, enum access access, unsigned level);
/* `lin` was just written or found writable through `t`: let the inline path do it next time, if nothing forbids. */
void tlb_allow_write(sim_vcpu *cpu, struct tlb_info *t, unsigned level);
/* Empty it whatever it holds: a new vCPU. */
void tlb_init(sim_vcpu *cpu);
/* Bring the tags of both sets in line with the data breakpoints in DR7. */
void tlb_breakpoints_changed(sim_vcpu *cpu);

/* ---- access.c ---- */
static inline u8 *slot_host(const struct slot *s, u64 gpa) { return s->host + (gpa - s->gpa); }
static inline void slot_mark_dirty(struct slot *s, u64 gpa) {
    if (s->dirty) {
        u64 n = (gpa - s->gpa) >> PAGE_SHIFT, bit = (u64)1 << (n & 63);
        if (!(atomic_load_explicit(&s->dirty[n >> 6], memory_order_relaxed) & bit))
            atomic_fetch_or(&s->dirty[n >> 6], bit);
    }
}
/* Of linear addresses: tables of the system lie anywhere in long mode, whatever code is running. */
static inline u64 lin_mask(const sim_vcpu *cpu) { return long_mode(cpu) ? ~(u64)0 : 0xffffffff; }
static inline bool canonical(u64 a) { return (u64)((s64)(a << 16) >> 16) == a; }
u64 lin_read(sim_vcpu *cpu, u64 lin, unsigned size, unsigned level);
void lin_write(sim_vcpu *cpu, u64 lin, unsigned size, u64 value, unsigned level);
void lin_probe(sim_vcpu *cpu, u64 lin, unsigned size, bool write, unsigned level);
/* Atomically set bits in the byte at `lin`, as supervisor. */
void sys_or8(sim_vcpu *cpu, u64 lin, u8 bits);
void sys_and8(sim_vcpu *cpu, u64 lin, u8 bits);
/* Do size bytes at offset ea lie within the segment's limit? */
bool seg_in_limit(const struct seg *s, u64 ea, unsigned size);
/* Guest-physical accesses of the processor itself: NULL where there is no RAM. */
u8 *phys_host(sim_vcpu *cpu, u64 gpa);

/* A stack frame being pushed: every item is probed before the first is written. */
struct frame {
    unsigned n, size; /* bytes per item */
    u64 item[40];     /* in the order of pushing */
};
/* Push onto stack segment `ss` from `sp` on with the given privilege; raises #SS(error) on the limit.  Returns the new
 * pointer, not stored yet. */
u64 frame_push(sim_vcpu *cpu, const struct seg *ss, u64 sp, unsigned level, u32 error, const struct frame *f);
/* The same onto a 64-bit stack: no segment; raises #SS(error) where an address is not canonical. */
u64 frame_push64(sim_vcpu *cpu, u64 sp, unsigned level, u32 error, const struct frame *f);

/* ---- segment.c ---- */
struct desc {
    u64 raw;
    u64 lin;   /* where it lies */
    u32 upper; /* third word of a system descriptor of long mode: desc_upper() */
    struct seg seg;
};
#define SEL(s) ((u32)(s)&0xfffcu) /* a selector as an error code */
static inline bool sel_null(u16 s) { return (s & 0xfffc) == 0; }
static inline unsigned sel_rpl(u16 s) { return s & 3u; }
static inline unsigned seg_dpl(const struct seg *s) { return (s->attr & SA_DPL) >> 5; }
static inline bool seg_present(const struct seg *s) { return (s->attr & SA_P) != 0; }
static inline bool seg_is_code(const struct seg *s) { return (s->attr & (SA_S | SA_CODE)) == (SA_S | SA_CODE); }
static inline bool seg_conforming(const struct seg *s) { return (s->attr & SA_DOWN) != 0; }
static inline bool seg_is_wdata(const struct seg *s) { return (s->attr & (SA_S | SA_CODE | SA_RW)) == (SA_S | SA_RW); }
/* The descriptor a selector names; false when it lies outside its table. */
bool desc_fetch(sim_vcpu *cpu, u16 sel, struct desc *d);
/* Long mode: the second half of a system descriptor, its part of the base into d->seg.  False: beyond the table's
 * limit, or not a second half.  Elsewhere true. */
bool desc_upper(sim_vcpu *cpu, u16 sel, struct desc *d);
void desc_to_seg(u16 sel, u64 raw, struct seg *s);
/* Set the accessed bit in memory when it is clear; in d->seg too. */
void desc_set_accessed(sim_vcpu *cpu, struct desc *d);
/* MOV SS and friends, also used for data segments by IRET and the task switch.  Raises; changes state only at the end.
 */
void load_segment(sim_vcpu *cpu, unsigned seg, u16 sel);
/* Real or V8086 mode: base = selector * 16. */
void load_segment_real(sim_vcpu *cpu, unsigned seg, u16 sel);
void seg_set_v86(struct seg *s, u16 sel);
void seg_set_null(struct seg *s, u16 sel);
/* Long mode: the stack segment after a transfer to an inner level. */
void seg_set_null_ss(sim_vcpu *cpu, unsigned cpl);
/* After a change of privilege outwards: data segments the new CPL may not use become null. */
void drop_inner_segments(sim_vcpu *cpu);

/* ---- exception.c ---- */
enum event_kind { EVENT_FAULT, EVENT_TRAP, EVENT_SOFT, EVENT_ICEBP, EVENT_EXTERNAL };
/* Deliver through the IDT now; cpu->rip is the instruction (for restart), return_rip what is pushed. */
void event_deliver(sim_vcpu *cpu, unsigned vector, enum event_kind kind, bool has_error, u32 error, u64 return_rip);
bool vector_has_error(unsigned vector);
/* From an exit handler (outside engine_run): a fault of the instruction at cpu->rip, delivered at the next entry. */
void queue_fault(sim_vcpu *cpu, unsigned vector, u32 error);

/* ---- task.c ---- */
enum task_source { TASK_CALL = 0, TASK_IRET = 1, TASK_JMP = 2, TASK_GATE = 3 }; /* as in the exit qualification */
/* Leave for handle_task_switch; return_rip is what the outgoing TSS gets as EIP. */
_Noreturn void task_switch_exit(sim_vcpu *cpu, u16 sel, enum task_source source, bool has_error, u32 error,
                                u64 return_rip);
/* At the next entry: do it. */
void task_switch(sim_vcpu *cpu);

/* ---- op_random.c ---- */
void random_seed(struct random *r, u64 seed, unsigned vcpu); /* a vCPU's sequence */

/* ---- cpuid.c ---- */
unsigned cpuid_supported(struct kvm_cpuid_entry2 *out, unsigned max); /* returns how many there are */
void cpuid_lookup(sim_vcpu *cpu, u32 leaf, u32 sub, u32 out[4]);
void cpuid_changed(sim_vcpu *cpu); /* the entries are others now: cpu->features again */

/* ---- msr.c ---- */
extern const u32 msr_index_list[];
extern const unsigned msr_index_count;
/* 0, or -1: no such MSR, or a value it does not take (the guest gets #GP).  `host`: from KVM_SET_MSRS. */
int msr_read(sim_vcpu *cpu, u32 index, u64 *value);
int msr_write(sim_vcpu *cpu, u32 index, u64 value, bool host);
#define APIC_ON 0x800u /* IA32_APIC_BASE */
#define APIC_X2 0x400u
bool apic_base_ok(sim_vcpu *cpu, u64 value, bool host);

/* ---- tsc.c ---- */
#define TSC_KHZ_DEFAULT 1000000u
u64 guest_tsc(sim_vcpu *cpu);
void tsc_init(sim_vcpu *cpu);             /* a new vCPU, before it is one of the VM's */
bool tsc_set_khz(sim_vcpu *cpu, u64 khz); /* false: out of range */
u32 tsc_khz(sim_vcpu *cpu);
void tsc_write_guest(sim_vcpu *cpu, u64 value);
void tsc_write_host(sim_vcpu *cpu, u64 value);
void tsc_adjust_write(sim_vcpu *cpu, u64 value, bool host);

/* ---- op_system.c ---- */
/* What CR0, CR3, CR4, EFER take; false: #GP(0).  Used by the exit handlers; KVM_SET_SREGS has its own, looser checks.
 */
bool set_cr0(sim_vcpu *cpu, u64 value);
bool set_cr3(sim_vcpu *cpu, u64 value);
bool set_cr4(sim_vcpu *cpu, u64 value);
/* UMIP: SGDT, SIDT, SLDT, STR, SMSW are for ring 0. */
static inline void check_umip(sim_vcpu *cpu) {
    if (cpu->cpl && (cpu->cr4 & CR4_UMIP))
        raise_gp0(cpu);
}
u64 cr4_allowed(sim_vcpu *cpu);
bool efer_allowed(const sim_vcpu *cpu, u64 value);
bool set_efer(sim_vcpu *cpu, u64 value);
bool set_dr(sim_vcpu *cpu, unsigned n, u64 value);
u64 get_dr(sim_vcpu *cpu, unsigned n);

/* ---- entry.c ---- */
#define DR6_BS    0x4000u
#define DR6_FIXED 0xffff0ff0u
/* May an external interrupt be injected now? */
bool interrupts_open(const sim_vcpu *cpu);
/* Set what is wanted from outside in the cpu->stop word. */
static inline void post_event(sim_vcpu *cpu, u32 ev) { atomic_fetch_or(&cpu->stop, ev); }
/* Are accesses of a half-done instruction on record? */
static inline bool replay_active(const sim_vcpu *cpu) { return cpu->replay.n != 0 || cpu->replay.pio_done; }
void cpu_reset(sim_vcpu *cpu);
/* KVM_RUN's inner loop: enter the guest, serve exits, until one is for user space.  Returns 0 or -errno. */
long vcpu_run(sim_vcpu *cpu);

/* ---- op_xstate.c ---- */
bool set_xcr0(sim_vcpu *cpu, u64 value); /* false: #GP(0) */
u32 xcr0_allowed(sim_vcpu *cpu);         /* what CPUID leaf 0Dh offers */
unsigned xsave_size(u64 components);     /* bytes of an area with these, either form */
/* The XSAVE image of 832 bytes in the standard form with everything, for KVM_GET/SET_XSAVE.  0, or -EINVAL. */
#define XSAVE_SIZE   832
#define XSAVE_AVX_AT 576 /* in it: the upper halves of the YMM registers */
void xsave_export(sim_vcpu *cpu, u8 *to);
long xsave_import(sim_vcpu *cpu, const u8 *from);

/* ---- exits.c ---- */
/* Dispatch cpu->exit: 1 to enter again, 0 for user space with run->exit_reason filled, or -errno. */
int handle_exit(sim_vcpu *cpu);
/* What user space did with the last exit goes into the vCPU. */
void complete_user_exit(sim_vcpu *cpu);

/* ---- the private part of a vCPU ---- */
#define MC_BANKS 10 /* machine-check banks, as many as QEMU gives */
enum user_pending { PENDING_NONE, PENDING_PIO, PENDING_PIO_STRING, PENDING_MMIO, PENDING_MSR };
#define MONITOR_LINE 64
struct system_state {
    enum user_pending pending;            /* what the last exit to user space asked for */
    u64 pending_lin;                      /* and of which instruction: dropped when user space moved rip */
    u8 kind;                              /* enum event_kind of the event being delivered */
    u64 tlb_used[NLEVELS][TLB_SIZE / 64]; /* entries of the TLB that hold something */
    u64 large_pages;                      /* GiBs (code_region_bit) where the TLB has seen some since the last flush */
    bool data_breakpoints;                /* DR7 enables some: the TLB keeps those pages off the inline path */
    struct {
        bool pending, has_error;
        u8 source;
        u16 sel;
        u32 error;
        u64 return_rip;
    } task;
    bool stop_after;       /* immediate_exit: leave as soon as the instruction under way is complete */
    u64 soft_interrupt_at; /* icount after the last INT: no single-step trap there */
    u64 debug_icount;      /* single step for user space: instructions at entry */
    struct {
        bool armed;
        u64 gpa;                  /* of the line */
        u8 content[MONITOR_LINE]; /* when MONITOR looked at it */
    } monitor;
    bool amd; /* the vendor that CPUID names: a few instructions differ */
    u64 mcg_status, mcg_ctl, mc[4 * MC_BANKS], bios_sign;
    u64 tsc_mult; /* ticks a nanosecond, 32.32 */
    u64 tsc_adjust;
    u32 tsc_khz;
};
static inline struct system_state *sys_state(sim_vcpu *cpu) { return cpu->system_private; }
/* The debug registers in force: the guest's, or those of KVM_SET_GUEST_DEBUG. */
static inline u64 *active_dr(sim_vcpu *cpu) {
    const u32 hw = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    return (cpu->guest_debug & hw) == hw ? cpu->guest_debug_dr : cpu->dr;
}

/* ---- vm.c ---- */
struct vm_state { /* the private part of a VM */
    u64 tsc_last_offset;
    bool tsc_written;
    _Atomic u32 user_msr; /* KVM_MSR_EXIT_REASON_*: MSR accesses that user space wants to serve */
};
static inline struct vm_state *vm_state(sim_vm *vm) { return vm->system_private; }
/* All vCPUs out of guest code until vm_resume(); vm->lock is held between. */
void vm_pause(sim_vm *vm);
void vm_resume(sim_vm *vm);
/* From poll_events: someone waits for the vCPUs to be out of the guest. */
void vm_pause_point(sim_vcpu *cpu);
long check_extension(long capability);

/* ---- vcpu.c ---- */
#define MAX_VCPU_ID 256
#define RUN_SIZE    12288 /* KVM_GET_VCPU_MMAP_SIZE: run page, port data page, room for the coalesced ring */

#endif
