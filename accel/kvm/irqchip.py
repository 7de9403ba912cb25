"""Interrupt controllers in the kernel, as devices: "kvm-i8259", "kvm-ioapic", "kvm-apic" (`kernel-irqchip=on` or split).

Each stands for a controller that KVM_CREATE_IRQCHIP (or the split capability) made; the device itself only passes lines
on and carries state.  Lines: input n of kvm-i8259 (0 to 15, both chips as one) is KVM's line n; the routing table takes
it to the PIC and to the I/O APIC, so kvm-ioapic passes on only its inputs 16 to 23.

Guest view: the kernel's, at ports 20h, A0h, 4D0h, 4D1h, memory FEC00000h and FEE00000h.
Not modelled: reset of the I/O APIC's id; edge detection across a state load.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from accel._kvmabi import ffi, lib
from accel.accel import Accel
from accel.handles import VmHandle
from accel.kvm.kvm_accel import KvmAccel
from qom import RealizeError, SysBusDevice, link, prop, state, type_init
from qom.hw import Route

PIC_STATE_SIZE = ffi.sizeof("struct kvm_pic_state")
IOAPIC_STATE_SIZE = ffi.sizeof("struct kvm_ioapic_state")
PIC_LINES = 16
IOAPIC_LINES = lib.KVM_IOAPIC_NUM_PINS
REDIRECTION_MASKED = 1 << 16


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
