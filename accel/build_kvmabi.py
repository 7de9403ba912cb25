"""Build `accel._kvmabi`: KVM's user-space interface, taken by cffi from the C compiler's own <linux/kvm.h>.

Structure layouts are the compiler's (every structure is declared partial, so cffi asks for offsets), and every constant
is collected from the preprocessed header: no number of KVM's is written in this project.  kvmabi.c adds the helpers
that must not run Python code: the ioctl itself, the run page, kicking a vCPU's thread, and decoding an exit.

`python accel/build_kvmabi.py` builds in place; setuptools builds the same through `cffi_modules`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI

TOP = Path(__file__).resolve().parent.parent
HERE = "accel"

# Families of constants taken whole (architectures we do not build for are left out).
FAMILIES = re.compile(
    r"KVM_(CAP|EXIT|MP_STATE|INTERNAL_ERROR|SYSTEM_EVENT|MEM|GUESTDBG|VCPUEVENT|X86_SHADOW_INT|IRQCHIP|IRQ_ROUTING"
    r"|CPUID_FLAG|RUN_X86|SYNC_X86|MSR_EXIT_REASON|MSR_FILTER|CLOCK|STATS|PIT|X86_QUIRK|X86_DISABLE_EXITS"
    r"|IOEVENTFD_FLAG|IRQFD_FLAG|VCPU_TSC)_[A-Z0-9_]+$"
)
FOREIGN = re.compile(r"S390|PPC|ARM|RISCV|MIPS|SPAPR|_MAX$|XEN|HYPERV_SYN|HYPERV_HCALL|SIZE_BYTES")
SINGLE_TEXT = """
    KVM_API_VERSION KVM_NR_INTERRUPTS KVM_NR_IRQCHIPS KVM_IOAPIC_NUM_PINS KVM_APIC_REG_SIZE KVM_MAX_XCRS
    KVM_DIRTY_LOG_PAGE_OFFSET KVM_COALESCED_MMIO_PAGE_OFFSET
"""
IOCTL_TEXT = """
    KVM_GET_API_VERSION KVM_CREATE_VM KVM_GET_MSR_INDEX_LIST KVM_GET_MSR_FEATURE_INDEX_LIST KVM_CHECK_EXTENSION
    KVM_GET_VCPU_MMAP_SIZE KVM_GET_SUPPORTED_CPUID KVM_GET_EMULATED_CPUID
    KVM_CREATE_VCPU KVM_SET_USER_MEMORY_REGION KVM_GET_DIRTY_LOG KVM_CLEAR_DIRTY_LOG KVM_SET_TSS_ADDR
    KVM_SET_IDENTITY_MAP_ADDR KVM_CREATE_IRQCHIP KVM_IRQ_LINE KVM_IRQ_LINE_STATUS KVM_GET_IRQCHIP KVM_SET_IRQCHIP
    KVM_CREATE_PIT2 KVM_GET_PIT2 KVM_SET_PIT2 KVM_SET_GSI_ROUTING KVM_SIGNAL_MSI KVM_IRQFD KVM_IOEVENTFD
    KVM_SET_BOOT_CPU_ID KVM_SET_CLOCK KVM_GET_CLOCK KVM_ENABLE_CAP KVM_X86_SET_MSR_FILTER KVM_REINJECT_CONTROL
    KVM_RUN KVM_GET_REGS KVM_SET_REGS KVM_GET_SREGS KVM_SET_SREGS KVM_GET_SREGS2 KVM_SET_SREGS2 KVM_TRANSLATE
    KVM_INTERRUPT KVM_NMI KVM_SMI KVM_GET_MSRS KVM_SET_MSRS KVM_SET_SIGNAL_MASK KVM_GET_FPU KVM_SET_FPU
    KVM_GET_LAPIC KVM_SET_LAPIC KVM_SET_CPUID2 KVM_GET_CPUID2 KVM_TPR_ACCESS_REPORTING KVM_SET_VAPIC_ADDR
    KVM_GET_MP_STATE KVM_SET_MP_STATE KVM_SET_GUEST_DEBUG KVM_GET_VCPU_EVENTS KVM_SET_VCPU_EVENTS
    KVM_GET_DEBUGREGS KVM_SET_DEBUGREGS KVM_GET_XSAVE KVM_SET_XSAVE KVM_GET_XSAVE2 KVM_GET_XCRS KVM_SET_XCRS
    KVM_GET_TSC_KHZ KVM_SET_TSC_KHZ KVM_KVMCLOCK_CTRL KVM_GET_STATS_FD
    KVM_HAS_DEVICE_ATTR KVM_GET_DEVICE_ATTR KVM_SET_DEVICE_ATTR KVM_X86_SETUP_MCE KVM_X86_GET_MCE_CAP_SUPPORTED
"""
SINGLE, IOCTLS = SINGLE_TEXT.split(), IOCTL_TEXT.split()

# Partial declarations: names from the header, offsets and sizes from the compiler.
STRUCTURES = """
typedef unsigned char __u8;  typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;
typedef int __s32; typedef short __s16; typedef long long __s64;

struct kvm_userspace_memory_region {
    __u32 slot; __u32 flags; __u64 guest_phys_addr; __u64 memory_size; __u64 userspace_addr; ...; };
struct kvm_dirty_log { __u32 slot; void *dirty_bitmap; ...; };
struct kvm_clear_dirty_log { __u32 slot; __u32 num_pages; __u64 first_page; void *dirty_bitmap; ...; };
struct kvm_irq_level { __u32 irq; __s32 status; __u32 level; ...; };
struct kvm_pic_state {
    __u8 last_irr; __u8 irr; __u8 imr; __u8 isr; __u8 priority_add; __u8 irq_base; __u8 read_reg_select; __u8 poll;
    __u8 special_mask; __u8 init_state; __u8 auto_eoi; __u8 rotate_on_auto_eoi; __u8 special_fully_nested_mode;
    __u8 init4; __u8 elcr; __u8 elcr_mask; ...; };
struct kvm_ioapic_state {
    __u64 base_address; __u32 ioregsel; __u32 id; __u32 irr; __u32 pad; union { __u64 bits; } redirtbl[...]; ...; };
struct kvm_lapic_state { char regs[...]; ...; };
struct kvm_irqchip { __u32 chip_id; ...; };
struct kvm_irq_routing_irqchip { __u32 irqchip; __u32 pin; };
struct kvm_irq_routing_msi { __u32 address_lo; __u32 address_hi; __u32 data; __u32 pad; };
struct kvm_irq_routing_entry {
    __u32 gsi; __u32 type; __u32 flags;
    union { struct kvm_irq_routing_irqchip irqchip; struct kvm_irq_routing_msi msi; __u32 pad[8]; } u; ...; };
struct kvm_irq_routing { __u32 nr; __u32 flags; struct kvm_irq_routing_entry entries[]; ...; };
struct kvm_pit_config { __u32 flags; ...; };
struct kvm_msi { __u32 address_lo; __u32 address_hi; __u32 data; __u32 flags; __u32 devid; ...; };
struct kvm_signal_mask { __u32 len; __u8 sigset[]; ...; };
struct kvm_enable_cap { __u32 cap; __u32 flags; __u64 args[4]; ...; };
struct kvm_device_attr { __u32 flags; __u32 group; __u64 attr; __u64 addr; ...; };
struct kvm_msr_filter_range { __u32 flags; __u32 nmsrs; __u32 base; __u8 *bitmap; ...; };
struct kvm_msr_filter { __u32 flags; struct kvm_msr_filter_range ranges[...]; ...; };
struct kvm_clock_data { __u64 clock; __u32 flags; __u64 realtime; __u64 host_tsc; ...; };
struct kvm_interrupt { __u32 irq; ...; };
struct kvm_translation {
    __u64 linear_address; __u64 physical_address; __u8 valid; __u8 writeable; __u8 usermode; ...; };
struct kvm_tpr_access_ctl { __u32 enabled; __u32 flags; ...; };

struct kvm_regs {
    __u64 rax; __u64 rbx; __u64 rcx; __u64 rdx; __u64 rsi; __u64 rdi; __u64 rsp; __u64 rbp;
    __u64 r8; __u64 r9; __u64 r10; __u64 r11; __u64 r12; __u64 r13; __u64 r14; __u64 r15;
    __u64 rip; __u64 rflags; ...; };
struct kvm_segment {
    __u64 base; __u32 limit; __u16 selector; __u8 type; __u8 present; __u8 dpl; __u8 db; __u8 s; __u8 l; __u8 g;
    __u8 avl; __u8 unusable; ...; };
struct kvm_dtable { __u64 base; __u16 limit; ...; };
struct kvm_sregs {
    struct kvm_segment cs; struct kvm_segment ds; struct kvm_segment es; struct kvm_segment fs; struct kvm_segment gs;
    struct kvm_segment ss; struct kvm_segment tr; struct kvm_segment ldt; struct kvm_dtable gdt; struct kvm_dtable idt;
    __u64 cr0; __u64 cr2; __u64 cr3; __u64 cr4; __u64 cr8; __u64 efer; __u64 apic_base;
    __u64 interrupt_bitmap[...]; ...; };
struct kvm_fpu {
    __u8 fpr[8][16]; __u16 fcw; __u16 fsw; __u8 ftwx; __u16 last_opcode; __u64 last_ip; __u64 last_dp;
    __u8 xmm[16][16]; __u32 mxcsr; ...; };
struct kvm_msr_entry { __u32 index; __u64 data; ...; };
struct kvm_msrs { __u32 nmsrs; struct kvm_msr_entry entries[]; ...; };
struct kvm_msr_list { __u32 nmsrs; __u32 indices[]; ...; };
struct kvm_cpuid_entry2 {
    __u32 function; __u32 index; __u32 flags; __u32 eax; __u32 ebx; __u32 ecx; __u32 edx; ...; };
struct kvm_cpuid2 { __u32 nent; struct kvm_cpuid_entry2 entries[]; ...; };
struct kvm_debug_exit_arch { __u32 exception; __u32 pad; __u64 pc; __u64 dr6; __u64 dr7; };
struct kvm_guest_debug_arch { __u64 debugreg[...]; ...; };
struct kvm_guest_debug { __u32 control; struct kvm_guest_debug_arch arch; ...; };
struct kvm_vcpu_events {
    struct { __u8 injected; __u8 nr; __u8 has_error_code; __u8 pending; __u32 error_code; } exception;
    struct { __u8 injected; __u8 nr; __u8 soft; __u8 shadow; } interrupt;
    struct { __u8 injected; __u8 pending; __u8 masked; __u8 pad; } nmi;
    __u32 sipi_vector; __u32 flags;
    struct { __u8 smm; __u8 pending; __u8 smm_inside_nmi; __u8 latched_init; } smi;
    struct { __u8 pending; } triple_fault;
    __u8 exception_has_payload; __u64 exception_payload; ...; };
struct kvm_debugregs { __u64 db[4]; __u64 dr6; __u64 dr7; __u64 flags; ...; };
struct kvm_mp_state { __u32 mp_state; ...; };
struct kvm_xsave { __u32 region[...]; ...; };
struct kvm_xcr { __u32 xcr; __u64 value; ...; };
struct kvm_xcrs { __u32 nr_xcrs; __u32 flags; struct kvm_xcr xcrs[...]; ...; };
struct kvm_stats_header {
    __u32 flags; __u32 name_size; __u32 num_desc; __u32 id_offset; __u32 desc_offset; __u32 data_offset; ...; };
struct kvm_stats_desc { __u32 flags; __s16 exponent; __u16 size; __u32 offset; __u32 bucket_size; char name[]; ...; };

struct kvm_run {
    __u8 request_interrupt_window; __u8 immediate_exit; __u32 exit_reason; __u8 ready_for_interrupt_injection;
    __u8 if_flag; __u16 flags; __u64 cr8; __u64 apic_base;
    union {
        struct { __u64 hardware_exit_reason; } hw;
        struct { __u64 hardware_entry_failure_reason; __u32 cpu; } fail_entry;
        struct { __u32 exception; __u32 error_code; } ex;
        struct { __u8 direction; __u8 size; __u16 port; __u32 count; __u64 data_offset; } io;
        struct { struct kvm_debug_exit_arch arch; } debug;
        struct { __u64 phys_addr; __u8 data[8]; __u32 len; __u8 is_write; } mmio;
        struct { __u64 nr; __u64 args[6]; __u64 ret; __u32 longmode; __u32 pad; } hypercall;
        struct { __u64 rip; __u32 is_write; __u32 pad; } tpr_access;
        struct { __u32 suberror; __u32 ndata; __u64 data[16]; } internal;
        struct { __u32 suberror; __u32 ndata; __u64 flags; __u8 insn_size; __u8 insn_bytes[15]; } emulation_failure;
        struct { __u32 type; __u32 ndata; __u64 data[16]; } system_event;
        struct { __u8 vector; } eoi;
        struct { __u8 error; __u8 pad[7]; __u32 reason; __u32 index; __u64 data; } msr;
        struct { __u32 flags; } notify;
        char padding[256];
    };
    ...; };
"""


def compiler() -> list[str]:
    """The C compiler, as setuptools would choose it."""
    return shlex.split(os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc"))


def header_names() -> set[str]:
    """All object-like macros and enumerators of <linux/kvm.h> whose names begin with KVM_."""
    done = subprocess.run(
        [*compiler(), "-E", "-dM", "-include", "linux/kvm.h", "-x", "c", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {match[1] for match in re.finditer(r"^#define (KVM_\w+) ", done.stdout, re.MULTILINE)}


def interface() -> str:
    """The whole cdef: structures, constants, helpers."""
    names = header_names()
    missing = [name for name in (*SINGLE, *IOCTLS) if name not in names]
    if missing:
        raise SystemExit(f"<linux/kvm.h> is too old: it lacks {', '.join(missing)} (Linux 6.1's headers have them)")
    family = sorted(name for name in names if FAMILIES.match(name) and not FOREIGN.search(name))
    constants = "".join(f"#define {name} ...\n" for name in sorted({*family, *SINGLE, *IOCTLS}))
    header = (TOP / HERE / "kvmabi.h").read_text()
    helpers = re.sub(r"/\*.*?\*/", "", header[header.index("typedef long") : header.rindex("#endif")], flags=re.DOTALL)
    return STRUCTURES + constants + helpers


# Where users build it, a newer compiler's new warning must not stop them; in the tree every warning is an error.
COMPILE_ARGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"]

ffibuilder = FFI()
ffibuilder.cdef(interface())
ffibuilder.set_source(
    "accel._kvmabi",
    '#include "kvmabi.h"',
    sources=[f"{HERE}/kvmabi.c"],
    include_dirs=[HERE],
    depends=[f"{HERE}/kvmabi.h"],
    extra_compile_args=COMPILE_ARGS,
)


def main() -> int:
    """Build in place, in a temporary copy of the sources: only the module itself is left in the tree."""
    COMPILE_ARGS.append("-Werror")  # the list that set_source was given
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / HERE).mkdir()
        for source in ("kvmabi.c", "kvmabi.h"):
            shutil.copy(TOP / HERE / source, Path(work) / HERE / source)
        before = Path.cwd()
        os.chdir(work)
        try:
            built = Path(ffibuilder.compile(tmpdir=work))
        finally:
            os.chdir(before)
        target = TOP / HERE / built.name
        shutil.copy(built, target.with_suffix(".new"))
        target.with_suffix(".new").rename(target)  # atomic: a running process keeps the old one
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
