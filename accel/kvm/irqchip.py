"""Interrupt controllers in the kernel, as devices: "kvm-i8259", "kvm-ioapic", "kvm-apic" (`kernel-irqchip=on` or split).

Each stands for a controller that KVM_CREATE_IRQCHIP (or the split capability) made; the device itself only passes lines
on and carries state.  Lines: input n of kvm-i8259 (0 to 15, both chips as one) is KVM's line n; the routing table takes
it to the PIC and to the I/O APIC, so kvm-ioapic passes on only its inputs 16 to 23.

Guest view: the kernel's, at ports 20h, A0h, 4D0h, 4D1h, memory FEC00000h and FEE00000h.
Not modelled: reset of the I/O APIC's id; edge detection across a state load.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from accel._kvmabi import ffi, lib
from accel.accel import Accel
from accel.handles import VmHandle
from accel.kvm.kvm_accel import KvmAccel
from qom import RealizeError, SysBusDevice, link, prop, state, type_init
from qom.hw import Route

if TYPE_CHECKING:
    from qom.hw import IoApicReport, LapicReport, PicReport

PIC_STATE_SIZE = ffi.sizeof("struct kvm_pic_state")
IOAPIC_STATE_SIZE = ffi.sizeof("struct kvm_ioapic_state")
PIC_LINES = 16
IOAPIC_LINES = lib.KVM_IOAPIC_NUM_PINS
REDIRECTION_MASKED = 1 << 16
IOAPIC_VERSION = 0x11  # of the kernel's
APIC_BASE_X2APIC = 0x400


class _Inside(SysBusDevice):
    """What the three share: the accelerator, checked."""

    user_creatable: ClassVar[bool] = False
    category: ClassVar[str] = "intc"
    needs: ClassVar[tuple[str, ...]] = ("on",)
    accel: Accel | None

    def routes(self) -> Iterator[Route]:
        """What arrives goes into the kernel."""
        if self.accel is not None:
            yield Route(None, self.accel, "in the kernel")

    def vm(self) -> VmHandle:
        """The VM that holds the controller."""
        accel = self.accel
        if accel is None or accel.vm is None or accel.irqchip not in self.needs:
            raise RealizeError(
                f"{self.path}: '{self.type_name}' needs an accelerator with kernel-irqchip={self.needs[0]}"
            )
        return accel.vm


@type_init("kvm-i8259")
class KvmPic(_Inside):
    """Both interrupt controllers of a PC, in the kernel."""

    accel: Accel | None = link("accel", "The accelerator that has it", required=True, strong=False)
    elcr_addr: int = prop(
        0x4D0, "First of the two edge/level ports; the kernel's are fixed", type="uint16", among=(0x4D0,)
    )

    def instance_init(self) -> None:
        """Declare the lines."""
        self.gpio_in(None, PIC_LINES, self._set_line)

    def realize(self) -> None:
        """Check that the kernel has it."""
        super().realize()
        self._vm = self.vm()

    def _set_line(self, n: int, level: int) -> None:
        self._vm.irq_line(n, 1 if level else 0)

    def interrupt_reports(self) -> list[PicReport]:
        """The registers of both chips, for people."""
        from qom.hw import PicReport

        out: list[PicReport] = []
        for number, chip in enumerate((lib.KVM_IRQCHIP_PIC_MASTER, lib.KVM_IRQCHIP_PIC_SLAVE)):
            held = ffi.from_buffer("struct kvm_pic_state *", self._vm.get_irqchip(chip)[:PIC_STATE_SIZE])
            out.append(
                PicReport(
                    number, held.irr, held.imr, held.isr, held.priority_add, held.irq_base, bool(held.read_reg_select),
                    held.elcr, bool(held.special_fully_nested_mode),
                )
            )  # fmt: skip
        return out

    def reset(self) -> None:
        """Power-up: both chips uninitialised, nothing requested."""
        super().reset()
        for chip in (lib.KVM_IRQCHIP_PIC_MASTER, lib.KVM_IRQCHIP_PIC_SLAVE):
            fresh = ffi.new("struct kvm_pic_state *")
            fresh.elcr_mask = 0xF8 if chip == lib.KVM_IRQCHIP_PIC_MASTER else 0xDE
            self._vm.set_irqchip(chip, bytes(ffi.buffer(fresh)))

    def save_state(self) -> dict[str, Any]:
        """Both chips, as the kernel gives them."""
        chips = {"master": lib.KVM_IRQCHIP_PIC_MASTER, "slave": lib.KVM_IRQCHIP_PIC_SLAVE}
        return {name: self._vm.get_irqchip(chip)[:PIC_STATE_SIZE].hex() for name, chip in chips.items()}

    def load_state(self, saved: dict[str, Any]) -> None:
        """What `save_state` gave."""
        self._vm.set_irqchip(lib.KVM_IRQCHIP_PIC_MASTER, bytes.fromhex(saved["master"]))
        self._vm.set_irqchip(lib.KVM_IRQCHIP_PIC_SLAVE, bytes.fromhex(saved["slave"]))


@type_init("kvm-ioapic")
class KvmIoapic(_Inside):
    """I/O APIC in the kernel."""

    accel: Accel | None = link("accel", "The accelerator that has it", required=True, strong=False)
    ioapic_id: int = state(reset=0)

    def instance_init(self) -> None:
        """Declare the lines."""
        self.gpio_in(None, IOAPIC_LINES, self._set_line)

    def realize(self) -> None:
        """Check that the kernel has it."""
        super().realize()
        self._vm = self.vm()

    def _set_line(self, n: int, level: int) -> None:
        if n >= PIC_LINES:  # the others reach it through kvm-i8259's input of the same number
            self._vm.irq_line(n, 1 if level else 0)

    def interrupt_reports(self) -> list[IoApicReport]:
        """The registers, for people."""
        from qom.hw import IoApicReport

        page = self._vm.get_irqchip(lib.KVM_IRQCHIP_IOAPIC)[:IOAPIC_STATE_SIZE]
        held = ffi.from_buffer("struct kvm_ioapic_state *", page)
        entries = tuple(held.redirtbl[n].bits for n in range(IOAPIC_LINES))
        return [IoApicReport(held.id, IOAPIC_VERSION, held.ioregsel, held.irr, entries)]

    def reset(self) -> None:
        """Power-up: every redirection entry masked."""
        super().reset()
        fresh = ffi.new("struct kvm_ioapic_state *")
        fresh.base_address = 0xFEC00000
        fresh.id = self.ioapic_id
        for n in range(IOAPIC_LINES):
            fresh.redirtbl[n].bits = REDIRECTION_MASKED
        self._vm.set_irqchip(lib.KVM_IRQCHIP_IOAPIC, bytes(ffi.buffer(fresh)))

    def save_state(self) -> dict[str, Any]:
        """The registers, as the kernel gives them."""
        return {**super().save_state(), "chip": self._vm.get_irqchip(lib.KVM_IRQCHIP_IOAPIC)[:IOAPIC_STATE_SIZE].hex()}

    def load_state(self, saved: dict[str, Any]) -> None:
        """What `save_state` gave."""
        rest = dict(saved)
        chip = bytes.fromhex(rest.pop("chip"))
        super().load_state(rest)
        self._vm.set_irqchip(lib.KVM_IRQCHIP_IOAPIC, chip)


@type_init("kvm-apic")
class KvmApic(_Inside):
    """Local APIC in the kernel.  Handed by the processor that makes it: `cpu`, `apic_bus`, `memory`."""

    needs: ClassVar[tuple[str, ...]] = ("on", "split")
    accel: Accel | None = link("accel", "The accelerator that has it; the processor's own if unset", strong=False)
    apic_id: int = prop(0, "Local APIC id", type="uint32")

    def instance_init(self) -> None:
        """No processor yet."""
        self.cpu: Any = None
        self.apic_bus: Any = None
        self.memory: Any = None

    def routes(self) -> Iterator[Route]:
        """It tells its processor, in the kernel."""
        if self.cpu is not None:
            yield Route(None, self.cpu, "interrupts")

    def realize(self) -> None:
        """Check that the kernel has it, and connect the bus of the APICs.  Its power-up state comes with the processor's."""
        super().realize()
        if self.accel is None and self.cpu is not None:
            self.set("accel", self.cpu.accel)
        self.vm().need("KVM_SIGNAL_MSI", "KVM_CAP_SIGNAL_MSI")
        assert isinstance(self.accel, KvmAccel)
        if self.apic_bus is not None:
            self.apic_bus.message_sink = self.accel.deliver_message
            self.accel.end_of_interrupt = self.apic_bus.end_of_interrupt

    def interrupt_reports(self) -> list[LapicReport]:
        """The registers, for people."""
        from qom.hw import LapicReport

        vcpu = self.cpu.vcpu
        page, base = self.cpu.run_on(lambda: (vcpu.get_lapic(), vcpu.get_sregs().apic_base))
        registers = {at: int.from_bytes(page[at : at + 4], "little") for at in range(0, len(page), 16)}
        return [LapicReport(registers, bool(base & APIC_BASE_X2APIC))]

    def get_interrupt(self) -> int:
        """Nothing is delivered from outside."""
        return -1

    def has_interrupt(self) -> bool:
        """Likewise."""
        return False

    def save_state(self) -> dict[str, Any]:
        """The register page, as the kernel gives it."""
        return {"page": self.cpu.vcpu.get_lapic().hex()}

    def load_state(self, saved: dict[str, Any]) -> None:
        """What `save_state` gave."""
        self.cpu.vcpu.set_lapic(bytes.fromhex(saved["page"]))
