"""KVM's three handles as Python objects: `SystemHandle`, `VmHandle`, `VcpuHandle`.

Every call of KVM's user-space interface that this project uses is a typed method here, written once over one primitive,
`ioctl(request, argument)`.  A transport gives each handle its primitive: accel/kvm/handles.py (file descriptors on
/dev/kvm) and accel/simulated/handles.py (functions of the C core).  Both use the structures of <linux/kvm.h>.

State crosses this interface as KVM's own structures (cffi objects, e.g. `struct kvm_regs`); CPUID as a list of
`CpuidEntry`, MSRs as a dict from index to value.  Whatever is optional in KVM is probed with CHECK_EXTENSION before
use; without it the method raises MissingExtension.  A failed call raises HandleError.

No locking: KVM (and the core) serialise calls on one handle themselves, but the calls on a vCPU belong to its thread,
save `kick`, which any thread may use.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from accel._kvmabi import ffi, lib
from accel.errors import HandleError, MissingExtension
from qom import records

PAGE_SIZE = 4096
CData = Any  # a cffi object; cffi has no static types

EXIT_NAMES: dict[int, str] = {
    getattr(lib, name): name
    for name in dir(lib)
    if name.startswith("KVM_EXIT_") and not name.startswith(("KVM_EXIT_IO_", "KVM_EXIT_HYPERV_", "KVM_EXIT_XEN_"))
}
EXIT_NAMES[lib.ABI_EXIT_INTERRUPTED] = "KVM_EXIT_INTR"  # what KVM itself calls leaving for a signal
EXIT_NAMES[lib.ABI_EXIT_ERROR] = "KVM_RUN failed"

GENERAL_REGISTERS = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"),
)  # fields of struct kvm_regs
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")  # of struct kvm_sregs
CONTROL_REGISTERS = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")


@records.frozen
class CpuidEntry:
    """One leaf of CPUID (struct kvm_cpuid_entry2)."""

    function: int
    index: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int


def address_of(buffer: Any) -> int:
    """Host address of a writable buffer (mmap, bytearray, memoryview); the caller keeps the buffer alive."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer, require_writable=True)))


class Handle(ABC):
    """What the three handles share: the call primitive, probing, and closing (children first, idempotent)."""

    where: str  # for messages: "kvm", "kvm vCPU 0"

    def __init__(self, where: str, parent: "Handle | None") -> None:
        self.where = where
        self.closed = False
        self._parent = parent
        self._children: list[Handle] = []
        self._extensions: dict[str, int] = {}
        if parent is not None:
            parent._children.append(self)

    @abstractmethod
    def ioctl(self, request: int, argument: int) -> int:
        """Do one call; negative results are -errno."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what the handle owns."""

    def close(self) -> None:
        """Close the handles made from this one, then this one."""
        if self.closed:
            return
        for child in list(self._children):
            child.close()
        self.closed = True
        if self._parent is not None:
            self._parent._children.remove(self)
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def call(self, name: str, argument: int | CData = 0) -> int:
        """Call `name` (a KVM_* request) with an integer or a pointer; raise HandleError when it fails."""
        value = argument if isinstance(argument, int) else int(ffi.cast("uintptr_t", argument))
        result = self.ioctl(getattr(lib, name), value)
        if result < 0:
            raise HandleError(self.where, name, -result)
        return result

    def fetch(self, name: str, structure: str) -> CData:
        """Call `name` with a fresh `struct structure` for the answer."""
        answer = ffi.new(f"struct {structure} *")
        self.call(name, answer)
        return answer

    def check_extension(self, capability: str) -> int:
        """CHECK_EXTENSION of a KVM_CAP_* by name: 0 = absent.  Unknown to our header: 0."""
        known = self._extensions.get(capability)
        if known is None:
            number = getattr(lib, capability, None)
            known = 0 if number is None else max(0, self._probe(number))
            self._extensions[capability] = known
        return known

    def _probe(self, number: int) -> int:
        assert self._parent is not None
        return self._parent._probe(number)

    def need(self, call: str, capability: str) -> int:
        """Raise MissingExtension when `capability`, without which there is no `call`, is absent."""
        value = self.check_extension(capability)
        if not value:
            raise MissingExtension(self.where, call, capability)
        return value

    def _growing(self, name: str, structure: str, count: str, start: int) -> CData:
        """A call whose answer is a list of unknown length: E2BIG means a longer one."""
        size = start
        while True:
            answer = ffi.new(f"struct {structure} *", {count: size, _LISTS[structure]: size})
            result = self.ioctl(getattr(lib, name), int(ffi.cast("uintptr_t", answer)))
            if result >= 0:
                return answer
            if -result != _E2BIG or size > 4096:
                raise HandleError(self.where, name, -result)
            size = max(size * 2, getattr(answer, count))

    def stats(self) -> dict[str, int | list[int]]:
        """The transport's own counters for this handle, by name; empty where there are none."""
        return {}


_E2BIG = 7
_LISTS = {"kvm_msr_list": "indices", "kvm_cpuid2": "entries"}


def _read_cpuid(table: CData) -> list[CpuidEntry]:
    return [
        CpuidEntry(e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx)
        for e in (table.entries[i] for i in range(table.nent))
    ]


class SystemHandle(Handle):
    """The accelerator as a whole: what it can do, and new VMs."""

    def _probe(self, number: int) -> int:
        return self.ioctl(lib.KVM_CHECK_EXTENSION, number)

    def api_version(self) -> int:
        """KVM_GET_API_VERSION; 12 since 2007."""
        return self.call("KVM_GET_API_VERSION")

    def vcpu_mmap_size(self) -> int:
        """Bytes of the run page that every vCPU shares with us."""
        return self.call("KVM_GET_VCPU_MMAP_SIZE")

    def msr_index_list(self) -> list[int]:
        """The MSRs that make up a vCPU's state."""
        return self._msr_list("KVM_GET_MSR_INDEX_LIST")

    def msr_feature_index_list(self) -> list[int]:
        """The MSRs that describe features, readable on this handle."""
        self.need("KVM_GET_MSR_FEATURE_INDEX_LIST", "KVM_CAP_GET_MSR_FEATURES")
        return self._msr_list("KVM_GET_MSR_FEATURE_INDEX_LIST")

    def _msr_list(self, name: str) -> list[int]:
        answer = self._growing(name, "kvm_msr_list", "nmsrs", 256)
        return [answer.indices[i] for i in range(answer.nmsrs)]

    def supported_cpuid(self) -> list[CpuidEntry]:
        """What a guest's CPUID may announce here."""
        self.need("KVM_GET_SUPPORTED_CPUID", "KVM_CAP_EXT_CPUID")
        return _read_cpuid(self._growing("KVM_GET_SUPPORTED_CPUID", "kvm_cpuid2", "nent", 128))

    def emulated_cpuid(self) -> list[CpuidEntry]:
        """Features that are emulated although the processor lacks them."""
        self.need("KVM_GET_EMULATED_CPUID", "KVM_CAP_EXT_EMUL_CPUID")
        return _read_cpuid(self._growing("KVM_GET_EMULATED_CPUID", "kvm_cpuid2", "nent", 16))

    @abstractmethod
    def create_vm(self) -> "VmHandle":
        """KVM_CREATE_VM."""


class VmHandle(Handle):
    """A virtual machine: memory slots, vCPUs, and interrupt controllers where they are in the accelerator."""

    def __init__(self, where: str, system: SystemHandle) -> None:
        super().__init__(where, system)
        self.system = system

    def _probe(self, number: int) -> int:
        if not self.system.check_extension("KVM_CAP_CHECK_EXTENSION_VM"):
            return self.system._probe(number)
        return self.ioctl(lib.KVM_CHECK_EXTENSION, number)

    @abstractmethod
    def create_vcpu(self, number: int) -> "VcpuHandle":
        """KVM_CREATE_VCPU; `number` is also the local APIC id."""

    # -- memory

    def set_user_memory_region(self, slot: int, guest: int, size: int, host: int, flags: int = 0) -> None:
        """Map `size` bytes at host address `host` to guest-physical `guest`; size 0 deletes the slot."""
        region = ffi.new("struct kvm_userspace_memory_region *")
        region.slot, region.flags, region.guest_phys_addr = slot, flags, guest
        region.memory_size, region.userspace_addr = size, host
        result = self.ioctl(lib.KVM_SET_USER_MEMORY_REGION, int(ffi.cast("uintptr_t", region)))
        if result < 0:
            place = f"{self.where}: slot {slot} at {guest:#x}, {size:#x} bytes, flags {flags:#x}"
            raise HandleError(place, "KVM_SET_USER_MEMORY_REGION", -result)

    def dirty_log(self, slot: int, size: int) -> bytes:
        """Fetch and clear the slot's log: one bit a page, first page in bit 0 of byte 0, padded to 8 bytes."""
        bitmap = ffi.new("uint64_t[]", (size // PAGE_SIZE + 63) // 64)
        log = ffi.new("struct kvm_dirty_log *")
        log.slot, log.dirty_bitmap = slot, bitmap
        self.call("KVM_GET_DIRTY_LOG", log)
        return bytes(ffi.buffer(bitmap))

    def memory_written(self, guest: int, size: int) -> None:
        """Somebody other than a vCPU wrote guest memory (DMA); the accelerator may hold code decoded from there."""

    def writes_are_told(self) -> None:
        """Promise, before a vCPU runs, that `memory_written` is called for every write that no vCPU makes."""

    # -- board-wide settings of VMX that are harmless elsewhere

    def set_tss_addr(self, address: int) -> None:
        """Three pages of guest-physical space that the accelerator may use for itself."""
        self.need("KVM_SET_TSS_ADDR", "KVM_CAP_SET_TSS_ADDR")
        self.call("KVM_SET_TSS_ADDR", address)

    def set_identity_map_addr(self, address: int) -> None:
        """One page of guest-physical space for the accelerator's identity map."""
        self.need("KVM_SET_IDENTITY_MAP_ADDR", "KVM_CAP_SET_IDENTITY_MAP_ADDR")
        self.call("KVM_SET_IDENTITY_MAP_ADDR", ffi.new("uint64_t *", address))

    def enable_cap(self, capability: str, *arguments: int) -> None:
        """KVM_ENABLE_CAP on the VM."""
        self.need("KVM_ENABLE_CAP", "KVM_CAP_ENABLE_CAP_VM")
        self.need(f"KVM_ENABLE_CAP({capability})", capability)
        request = ffi.new("struct kvm_enable_cap *", {"cap": getattr(lib, capability), "args": list(arguments)})
        self.call("KVM_ENABLE_CAP", request)

    # -- model-specific registers

    def serve_msrs(self, indices: Iterable[int]) -> bool:
        """Have MSRs come to user space: those that the accelerator does not know, refuses, and all of `indices`.

        The exits are KVM_EXIT_X86_RDMSR and KVM_EXIT_X86_WRMSR.  False: the accelerator cannot do that.
        """
        reasons = self.check_extension("KVM_CAP_X86_USER_SPACE_MSR")
        if not reasons or not self.check_extension("KVM_CAP_ENABLE_CAP_VM"):
            return False
        wanted = lib.KVM_MSR_EXIT_REASON_UNKNOWN | lib.KVM_MSR_EXIT_REASON_INVAL
        if not self.check_extension("KVM_CAP_X86_MSR_FILTER"):
            self.enable_cap("KVM_CAP_X86_USER_SPACE_MSR", wanted)
            return True
        self.enable_cap("KVM_CAP_X86_USER_SPACE_MSR", wanted | lib.KVM_MSR_EXIT_REASON_FILTER)
        table = ffi.new("struct kvm_msr_filter *", {"flags": lib.KVM_MSR_FILTER_DEFAULT_ALLOW})
        nothing = ffi.new("__u8[]", 1)  # a clear bit denies, and what is denied exits
        for entry, index in zip(table.ranges, indices, strict=False):
            entry.flags = lib.KVM_MSR_FILTER_READ | lib.KVM_MSR_FILTER_WRITE
            entry.nmsrs, entry.base, entry.bitmap = 1, index, nothing
        self.call("KVM_X86_SET_MSR_FILTER", table)
        return True

    # -- interrupt controllers in the accelerator

    def create_irqchip(self) -> None:
        """Both i8259, the I/O APIC and a local APIC per vCPU, inside; before the first vCPU."""
        self.need("KVM_CREATE_IRQCHIP", "KVM_CAP_IRQCHIP")
        self.call("KVM_CREATE_IRQCHIP")

    def split_irqchip(self, routes: int = 24) -> None:
        """Only the local APICs inside; `routes` is the number of I/O APIC pins outside; before the first vCPU."""
        self.enable_cap("KVM_CAP_SPLIT_IRQCHIP", routes)

    def irq_line(self, gsi: int, level: int) -> int:
        """Set a line of the inner controllers.  Returns 0 = ignored, > 0 = delivered, < 0 = merged (where told)."""
        line = ffi.new("struct kvm_irq_level *", {"irq": gsi, "level": level})
        if self.check_extension("KVM_CAP_IRQ_INJECT_STATUS"):
            self.call("KVM_IRQ_LINE_STATUS", line)
            return int(line.status)
        self.need("KVM_IRQ_LINE", "KVM_CAP_IRQCHIP")
        self.call("KVM_IRQ_LINE", line)
        return 1

    def get_irqchip(self, chip: int) -> bytes:
        """State of one inner controller (KVM_IRQCHIP_*): a kvm_pic_state or kvm_ioapic_state."""
        request = _irqchip(chip)
        self.call("KVM_GET_IRQCHIP", request)
        return bytes(ffi.buffer(request)[8:])

    def set_irqchip(self, chip: int, state: bytes) -> None:
        """Load the state of one inner controller."""
        request = _irqchip(chip)
        ffi.buffer(request)[8 : 8 + len(state)] = state
        self.call("KVM_SET_IRQCHIP", request)

    def set_gsi_routing(
        self, pins: Iterable[tuple[int, int, int]], messages: Iterable[tuple[int, int, int]] = ()
    ) -> None:
        """Replace the table: `pins` = (gsi, chip, pin), `messages` = (gsi, MSI address, MSI data)."""
        self.need("KVM_SET_GSI_ROUTING", "KVM_CAP_IRQ_ROUTING")
        entries: list[dict[str, Any]] = [
            {"gsi": gsi, "type": lib.KVM_IRQ_ROUTING_IRQCHIP, "u": {"irqchip": {"irqchip": chip, "pin": pin}}}
            for gsi, chip, pin in pins
        ]
        entries += [
            {
                "gsi": gsi,
                "type": lib.KVM_IRQ_ROUTING_MSI,
                "u": {"msi": {"address_lo": to & 0xFFFFFFFF, "address_hi": to >> 32, "data": data}},
            }
            for gsi, to, data in messages
        ]
        table = ffi.new("struct kvm_irq_routing *", {"nr": len(entries), "entries": entries})
        self.call("KVM_SET_GSI_ROUTING", table)

    def signal_msi(self, address: int, data: int) -> int:
        """Deliver a message-signalled interrupt.  Returns > 0 when it reached a local APIC."""
        self.need("KVM_SIGNAL_MSI", "KVM_CAP_SIGNAL_MSI")
        message = ffi.new("struct kvm_msi *")
        message.address_lo, message.address_hi, message.data = address & 0xFFFFFFFF, address >> 32, data
        return self.call("KVM_SIGNAL_MSI", message)

    def set_boot_cpu_id(self, number: int) -> None:
        """Which vCPU starts; the others wait for INIT and SIPI."""
        self.need("KVM_SET_BOOT_CPU_ID", "KVM_CAP_SET_BOOT_CPU_ID")
        self.call("KVM_SET_BOOT_CPU_ID", number)

    def get_clock(self) -> CData:
        """struct kvm_clock_data."""
        self.need("KVM_GET_CLOCK", "KVM_CAP_ADJUST_CLOCK")
        return self.fetch("KVM_GET_CLOCK", "kvm_clock_data")

    def set_clock(self, nanoseconds: int) -> None:
        """Set the guest's paravirtual clock."""
        self.need("KVM_SET_CLOCK", "KVM_CAP_ADJUST_CLOCK")
        self.call("KVM_SET_CLOCK", ffi.new("struct kvm_clock_data *", {"clock": nanoseconds}))


def _irqchip(chip: int) -> CData:
    request = ffi.new("struct kvm_irqchip *")
    request.chip_id = chip
    return request


class VcpuHandle(Handle):
    """A virtual processor: its state, its run page, and `run`."""

    def __init__(self, where: str, vm: VmHandle, number: int, c_vcpu: CData) -> None:
        """`c_vcpu` is a struct abi_vcpu whose function, handle, kick and run page the transport has filled in."""
        super().__init__(where, vm)
        self.vm = vm
        self.number = number
        self.c = c_vcpu
        self.run_page = c_vcpu.run
        #: enter(self.c, value) is what `run(value)` does; the vCPU loop calls it directly.
        self.enter: Callable[[CData, int], int] = lib.abi_run
        self._interrupt = ffi.new("struct kvm_interrupt *")
        self._interrupt_address = int(ffi.cast("uintptr_t", self._interrupt))
        self._tsc = _msrs([(IA32_TSC, 0)])
        self._tsc_address = int(ffi.cast("uintptr_t", self._tsc))
        self._tsc_entry = ffi.addressof(self._tsc.entries[0])

    # -- running

    def run(self, value: int = 0) -> int:
        """Finish the last exit (a read returned `value`), run the guest, and describe the next exit (kvmabi.h)."""
        return self.enter(self.c, value)

    def attach_thread(self) -> None:
        """The calling thread is the one that will call `run`."""
        result = lib.abi_attach_thread(self.c)
        if result < 0:
            raise HandleError(self.where, "pthread_sigmask", -result)

    def kick(self) -> None:
        """Any thread: the current or next `run` returns ABI_EXIT_INTERRUPTED with all its I/O finished."""
        lib.abi_kick(self.c)

    def hold(self) -> None:
        """Any thread: take the guest off the processor; not one more instruction is executed before `release`."""
        lib.abi_hold(self.c)

    def release(self) -> None:
        """Any thread: take one `hold` back."""
        lib.abi_release(self.c)

    def close(self) -> None:
        """As every handle; a thread that is just kicking finishes first, and later kicks do nothing."""
        lib.abi_retire(self.c)
        super().close()

    def rearm(self) -> None:
        """The vCPU's thread: take back the kick, *before* looking at what was asked."""
        lib.abi_rearm(self.c)

    def exit_counts(self) -> dict[str, int]:
        """Exits to user space so far, by KVM's name of the reason; any thread, also while the guest runs."""
        exits = self.c.exits
        return {EXIT_NAMES.get(n, f"exit {n}"): exits[n] for n in range(lib.ABI_EXIT_REASONS) if exits[n]}

    def inner_exit_counts(self) -> dict[str, int]:
        """Exits of the inner half by its own names, where the accelerator tells; any thread."""
        return {}

    def fault_chain(self) -> list[int]:
        """After KVM_EXIT_SHUTDOWN: the vectors of the faults that led to it, in turn; empty where nobody tells."""
        return []

    def fault_loop(self) -> int | None:
        """The vector of the fault that is all the guest does, told once; None when there is none, or nobody can tell."""
        return None

    def instruction_count(self) -> int | None:
        """Instructions retired so far; None where the accelerator does not count them."""
        return None

    # -- registers

    def get_regs(self) -> CData:
        """struct kvm_regs."""
        return self.fetch("KVM_GET_REGS", "kvm_regs")

    def set_regs(self, regs: CData) -> None:
        """Load struct kvm_regs."""
        self.call("KVM_SET_REGS", regs)

    def get_sregs(self) -> CData:
        """struct kvm_sregs."""
        return self.fetch("KVM_GET_SREGS", "kvm_sregs")

    def set_sregs(self, sregs: CData) -> None:
        """Load struct kvm_sregs."""
        self.call("KVM_SET_SREGS", sregs)

    def get_fpu(self) -> CData:
        """struct kvm_fpu."""
        return self.fetch("KVM_GET_FPU", "kvm_fpu")

    def set_fpu(self, fpu: CData) -> None:
        """Load struct kvm_fpu."""
        self.call("KVM_SET_FPU", fpu)

    def get_xsave(self) -> CData:
        """struct kvm_xsave."""
        self.need("KVM_GET_XSAVE", "KVM_CAP_XSAVE")
        return self.fetch("KVM_GET_XSAVE", "kvm_xsave")

    def set_xsave(self, area: CData) -> None:
        """Load struct kvm_xsave."""
        self.need("KVM_SET_XSAVE", "KVM_CAP_XSAVE")
        self.call("KVM_SET_XSAVE", area)

    def get_xcrs(self) -> CData:
        """struct kvm_xcrs."""
        self.need("KVM_GET_XCRS", "KVM_CAP_XCRS")
        return self.fetch("KVM_GET_XCRS", "kvm_xcrs")

    def set_xcrs(self, xcrs: CData) -> None:
        """Load struct kvm_xcrs."""
        self.need("KVM_SET_XCRS", "KVM_CAP_XCRS")
        self.call("KVM_SET_XCRS", xcrs)

    def get_debugregs(self) -> CData:
        """struct kvm_debugregs."""
        self.need("KVM_GET_DEBUGREGS", "KVM_CAP_DEBUGREGS")
        return self.fetch("KVM_GET_DEBUGREGS", "kvm_debugregs")

    def set_debugregs(self, registers: CData) -> None:
        """Load struct kvm_debugregs."""
        self.need("KVM_SET_DEBUGREGS", "KVM_CAP_DEBUGREGS")
        self.call("KVM_SET_DEBUGREGS", registers)

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        """Values of MSRs; HandleError names the first one that cannot be read."""
        wanted = list(indices)
        request = _msrs([(index, 0) for index in wanted])
        done = self.call("KVM_GET_MSRS", request)
        if done != len(wanted):
            text = f"MSR {wanted[done]:x}h cannot be read ({done} of {len(wanted)} were)"
            raise HandleError(self.where, "KVM_GET_MSRS", _EINVAL, text)
        return {request.entries[i].index: request.entries[i].data for i in range(done)}

    def set_msrs(self, values: Mapping[int, int]) -> None:
        """Set MSRs in order; HandleError names the first one that is refused, those before it are set."""
        pairs = list(values.items())
        done = self.call("KVM_SET_MSRS", _msrs(pairs))
        if done != len(pairs):
            index, value = pairs[done]
            text = f"MSR {index:x}h refuses {value:#x} ({done} of {len(pairs)} were set)"
            raise HandleError(self.where, "KVM_SET_MSRS", _EINVAL, text)

    def get_cpuid(self) -> list[CpuidEntry]:
        """What CPUID answers the guest."""
        self.need("KVM_GET_CPUID2", "KVM_CAP_EXT_CPUID")
        return _read_cpuid(self._growing("KVM_GET_CPUID2", "kvm_cpuid2", "nent", 128))

    def set_cpuid(self, entries: Iterable[CpuidEntry]) -> None:
        """Say what CPUID answers the guest; before the first `run`."""
        self.need("KVM_SET_CPUID2", "KVM_CAP_EXT_CPUID")
        rows = [records.asdict(entry) for entry in entries]
        self.call("KVM_SET_CPUID2", ffi.new("struct kvm_cpuid2 *", {"nent": len(rows), "entries": rows}))

    # -- events

    def interrupt(self, vector: int) -> None:
        """Queue an external interrupt; only when run_page.ready_for_interrupt_injection says so."""
        self._interrupt.irq = vector
        result = self.ioctl(lib.KVM_INTERRUPT, self._interrupt_address)
        if result < 0:
            raise HandleError(self.where, "KVM_INTERRUPT", -result)

    def nmi(self) -> None:
        """Raise a non-maskable interrupt."""
        self.need("KVM_NMI", "KVM_CAP_USER_NMI")
        self.call("KVM_NMI")

    def smi(self) -> None:
        """Raise a system-management interrupt."""
        self.need("KVM_SMI", "KVM_CAP_X86_SMM")
        self.call("KVM_SMI")

    def get_vcpu_events(self) -> CData:
        """struct kvm_vcpu_events."""
        self.need("KVM_GET_VCPU_EVENTS", "KVM_CAP_VCPU_EVENTS")
        return self.fetch("KVM_GET_VCPU_EVENTS", "kvm_vcpu_events")

    def set_vcpu_events(self, events: CData) -> None:
        """Load struct kvm_vcpu_events."""
        self.need("KVM_SET_VCPU_EVENTS", "KVM_CAP_VCPU_EVENTS")
        self.call("KVM_SET_VCPU_EVENTS", events)

    def get_mp_state(self) -> int:
        """One of KVM_MP_STATE_*."""
        self.need("KVM_GET_MP_STATE", "KVM_CAP_MP_STATE")
        return int(self.fetch("KVM_GET_MP_STATE", "kvm_mp_state").mp_state)

    def set_mp_state(self, state: int) -> None:
        """Set one of KVM_MP_STATE_*."""
        self.need("KVM_SET_MP_STATE", "KVM_CAP_MP_STATE")
        self.call("KVM_SET_MP_STATE", ffi.new("struct kvm_mp_state *", {"mp_state": state}))

    def get_lapic(self) -> bytes:
        """Register page of the inner local APIC."""
        self.need("KVM_GET_LAPIC", "KVM_CAP_IRQCHIP")
        return bytes(ffi.buffer(self.fetch("KVM_GET_LAPIC", "kvm_lapic_state")))

    def set_lapic(self, page: bytes) -> None:
        """Load the register page of the inner local APIC."""
        self.need("KVM_SET_LAPIC", "KVM_CAP_IRQCHIP")
        state = ffi.new("struct kvm_lapic_state *")
        ffi.buffer(state)[:] = page
        self.call("KVM_SET_LAPIC", state)

    def set_guest_debug(self, control: int, debug_registers: tuple[int, ...] = ()) -> None:
        """Debug the guest from outside: KVM_GUESTDBG_* flags and eight debug registers."""
        self.need("KVM_SET_GUEST_DEBUG", "KVM_CAP_SET_GUEST_DEBUG")
        request = ffi.new("struct kvm_guest_debug *")
        request.control = control
        for number, value in enumerate(debug_registers):
            request.arch.debugreg[number] = value
        self.call("KVM_SET_GUEST_DEBUG", request)

    def set_signal_mask(self, mask: bytes | None) -> None:
        """Signals blocked during `run` (the kernel's 8-byte set); None: as the thread has them."""
        if mask is None:
            self.call("KVM_SET_SIGNAL_MASK", 0)
            return
        self.call("KVM_SET_SIGNAL_MASK", ffi.new("struct kvm_signal_mask *", {"len": len(mask), "sigset": list(mask)}))

    def translate(self, linear: int) -> int | None:
        """Guest-physical address of a linear one by the guest's page tables; None when not mapped."""
        request = ffi.new("struct kvm_translation *")
        request.linear_address = linear
        self.call("KVM_TRANSLATE", request)
        return int(request.physical_address) if request.valid else None

    def tsc_khz(self) -> int:
        """Frequency of the guest's TSC."""
        self.need("KVM_GET_TSC_KHZ", "KVM_CAP_GET_TSC_KHZ")
        return self.call("KVM_GET_TSC_KHZ")

    def set_tsc_khz(self, khz: int) -> None:
        """Set the frequency of the guest's TSC; 0 is the accelerator's own."""
        self.need("KVM_SET_TSC_KHZ", "KVM_CAP_TSC_CONTROL")
        self.call("KVM_SET_TSC_KHZ", khz)

    def read_tsc(self) -> int:
        """The guest's TSC now."""
        result = self.ioctl(lib.KVM_GET_MSRS, self._tsc_address)
        if result != 1:
            raise HandleError(self.where, "KVM_GET_MSRS", max(-result, 0))
        return int(self._tsc_entry.data)

    def has_tsc_offset(self) -> bool:
        """Whether `tsc_offset` and `set_tsc_offset` work."""
        if not self.check_extension("KVM_CAP_VCPU_ATTRIBUTES"):
            return False
        return self.ioctl(lib.KVM_HAS_DEVICE_ATTR, int(ffi.cast("uintptr_t", _tsc_offset(ffi.NULL)))) == 0

    def tsc_offset(self) -> int:
        """What the guest's TSC is ahead of the host's, modulo 2^64 (the host's scaled to the guest's frequency)."""
        self.need("KVM_GET_DEVICE_ATTR", "KVM_CAP_VCPU_ATTRIBUTES")
        value = ffi.new("uint64_t *")
        self.call("KVM_GET_DEVICE_ATTR", _tsc_offset(value))
        return int(value[0])

    def set_tsc_offset(self, offset: int) -> None:
        """Set it; taken modulo 2^64."""
        self.need("KVM_SET_DEVICE_ATTR", "KVM_CAP_VCPU_ATTRIBUTES")
        self.call("KVM_SET_DEVICE_ATTR", _tsc_offset(ffi.new("uint64_t *", offset & 0xFFFFFFFF_FFFFFFFF)))

    # -- for reports and comparisons

    def registers(self) -> dict[str, int]:
        """All integer registers by name: general, segment selectors and bases, tables, control."""
        regs, sregs = self.get_regs(), self.get_sregs()
        values = {name: int(getattr(regs, name)) for name in GENERAL_REGISTERS}
        for name in SEGMENTS:
            segment = getattr(sregs, name)
            values[name] = segment.selector
            values[f"{name}.base"] = segment.base
            values[f"{name}.limit"] = segment.limit
        for name in ("gdt", "idt"):
            table = getattr(sregs, name)
            values[f"{name}.base"], values[f"{name}.limit"] = table.base, table.limit
        for name in CONTROL_REGISTERS:
            values[name] = int(getattr(sregs, name))
        return values

    def register_bits(self, name: str) -> int:
        """How wide a register of `registers` is."""
        if name in SEGMENTS:
            return 16
        if name.endswith(".limit"):
            return 32 if name.partition(".")[0] in SEGMENTS else 16
        return 64

    def set_registers(self, values: Mapping[str, int]) -> None:
        """Set registers under the names that `registers` gives; the vCPU stands still or this is its thread."""
        general = {name: value for name, value in values.items() if name in GENERAL_REGISTERS}
        if len(general) < len(values):
            sregs = self.get_sregs()
            for name, value in values.items():
                first, _, part = name.partition(".")
                if part:
                    setattr(getattr(sregs, first), part, value)
                elif name in SEGMENTS:
                    getattr(sregs, name).selector = value
                elif name not in general:
                    setattr(sregs, name, value)
            self.set_sregs(sregs)
        if general:
            regs = self.get_regs()
            for name, value in general.items():
                setattr(regs, name, value)
            self.set_regs(regs)


_EINVAL = 22
IA32_TSC = 0x10


def _tsc_offset(value: CData) -> CData:
    """The attribute of a vCPU that is its TSC's offset (KVM's Documentation/virt/kvm/devices/vcpu.rst)."""
    facts = {"group": lib.KVM_VCPU_TSC_CTRL, "attr": lib.KVM_VCPU_TSC_OFFSET, "addr": int(ffi.cast("uintptr_t", value))}
    return ffi.new("struct kvm_device_attr *", facts)


def _msrs(pairs: list[tuple[int, int]]) -> CData:
    entries = [{"index": index, "data": value} for index, value in pairs]
    return ffi.new("struct kvm_msrs *", {"nmsrs": len(entries), "entries": entries})
