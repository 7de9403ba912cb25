"""The accelerator type "kvm-accel": the kernel's /dev/kvm.

Option `kernel-irqchip`: where the interrupt controllers are.  "off": all in user space; "on": both i8259, the I/O APIC
and the local APICs in the kernel; "split": only the local APICs in the kernel.
"""

from typing import Any, ClassVar, cast

from accel._kvmabi import lib
from accel.accel import Accel, AccelClass, IrqChip
from accel.kvm.handles import KvmSystem
from qom import prop, type_init

IOAPIC_PINS = lib.KVM_IOAPIC_NUM_PINS
PIC_PINS = 8
MSI_LEVEL = 1 << 15

# Guest-physical pages KVM may need for itself on processors that cannot run real mode: below the firmware, as on
# QEMU's PC.
IDENTITY_MAP_ADDRESS = 0xFEFFC000
TSS_ADDRESS = 0xFEFFD000


@type_init("kvm-accel")
class KvmAccel(Accel):
    """KVM."""

    kernel_irqchip: str = prop(
        "off",
        "Where the interrupt controllers are: in user space, in the kernel, or split",
        among=("on", "off", "split"),
    )

    @classmethod
    def class_init(cls) -> None:
        """Fill the class facts."""
        cls.desc, cls.category = "KVM (/dev/kvm)", "accel"
        cls.accel_class = AccelClass("KVM", kvm_init)
        cls.native = True

    instance_defaults: ClassVar[dict[str, Any]] = {"irqchip": "off", "end_of_interrupt": None}

    def instance_init(self) -> None:
        """No level-triggered message was seen yet."""
        self._level_routes: dict[int, tuple[int, int]] = {}  # vector -> MSI address, data; oldest first

    def deliver_message(self, address: int, data: int) -> None:
        """Deliver an interrupt message to the local APICs in the kernel.

        With an I/O APIC in user space the kernel must know which vectors are level-triggered, to report their end
        (KVM_EXIT_IOAPIC_EOI): it looks for them in the routing table, where such a message is put before its first use.
        """
        assert self.vm is not None
        if self.irqchip == "split" and data & MSI_LEVEL and self._level_routes.get(data & 0xFF) != (address, data):
            self._level_routes.pop(data & 0xFF, None)
            if len(self._level_routes) == IOAPIC_PINS:
                del self._level_routes[next(iter(self._level_routes))]
            self._level_routes[data & 0xFF] = address, data
            self.vm.set_gsi_routing((), [(gsi, *message) for gsi, message in enumerate(self._level_routes.values())])
        self.vm.signal_msi(address, data)

    def chip_types(self) -> dict[str, str]:
        """The kernel's controllers where they are in use."""
        if self.irqchip == "on":
            return {"pic": "kvm-i8259", "ioapic": "kvm-ioapic", "apic": "kvm-apic"}
        if self.irqchip == "split":
            return {"pic": "isa-i8259", "ioapic": "ioapic", "apic": "kvm-apic"}
        return super().chip_types()

    def default_routes(self) -> list[tuple[int, int, int]]:
        """(gsi, chip, pin): ISA lines reach the PICs and the I/O APIC, line 0 its pin 2; the rest the I/O APIC
        alone."""
        routes = []
        for gsi in range(IOAPIC_PINS):
            if gsi < PIC_PINS:
                routes.append((gsi, lib.KVM_IRQCHIP_PIC_MASTER, gsi))
            elif gsi < 2 * PIC_PINS:
                routes.append((gsi, lib.KVM_IRQCHIP_PIC_SLAVE, gsi - PIC_PINS))
            if gsi != 2:  # the cascade has no line of its own
                routes.append((gsi, lib.KVM_IRQCHIP_IOAPIC, 2 if gsi == 0 else gsi))
        return routes


def kvm_init(accel: KvmAccel, machine: Any) -> None:
    """Open /dev/kvm, check its version, make a VM (QEMU: `kvm_init`; SEED.md row 5).

    Raises:
        AccelError: no usable /dev/kvm, or it lacks what was asked for.
    """
    system = KvmSystem()
    try:
        vm = accel.start(machine, system)
        if vm.check_extension("KVM_CAP_SET_IDENTITY_MAP_ADDR"):
            vm.set_identity_map_addr(IDENTITY_MAP_ADDRESS)
        if vm.check_extension("KVM_CAP_SET_TSS_ADDR"):
            vm.set_tss_addr(TSS_ADDRESS)
        if accel.kernel_irqchip == "on":
            vm.create_irqchip()
            vm.set_gsi_routing(accel.default_routes())
        elif accel.kernel_irqchip == "split":
            vm.split_irqchip(IOAPIC_PINS)
        else:
            accel.serve_msrs()
        accel.irqchip = cast("IrqChip", accel.kernel_irqchip)
    except BaseException:
        accel.stop()
        system.close()
        raise
