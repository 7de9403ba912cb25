"""Message-signalled interrupts from a PCI function to a processor's local APIC, wherever that is.

No guest runs: the test programs the function through the configuration ports, raises a vector, and looks into the
request register (IRR) of each local APIC; in the kernel through KVM_GET_LAPIC.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pcs import Pc, need, pc, registry

from qom import type_init
from qom.hw import PciDevice

SVR, IRR = 0xF0, 0x200
SVR_ENABLE = 0x100
BAR = 0xFEB00000
EVERYWHERE = [("simulated", "off"), ("kvm", "off"), ("kvm", "on"), ("kvm", "split")]


@type_init("message-card")
class MessageCard(PciDevice):
    """MSI and MSI-X, nothing else."""

    vendor_id, device_id, interrupt_pin = 0x1AF4, 0x1237, 1

    def realize(self) -> None:
        self.add_msi(4, maskable=True)
        self.add_msix(4, bar=0)


class Driver:
    """What a guest's driver would do, from outside, on a paused machine of two processors."""

    def __init__(self, machine: Pc, inside: bool) -> None:
        self.vm, self.inside = machine.vm, inside
        self.card: MessageCard = machine.vm.root.resolve("/machine/peripheral/card")
        self.config(0x04, 6)
        for cpu in self.vm.cpus:  # an APIC takes nothing until software enables it
            if inside:
                page = bytearray(cpu.vcpu.get_lapic())
                page[SVR : SVR + 4] = (SVR_ENABLE | 0xFF).to_bytes(4, "little")
                cpu.vcpu.set_lapic(bytes(page))
            else:
                cpu.memory.write(0xFEE00000 + SVR, SVR_ENABLE | 0xFF, 4)

    def config(self, offset: int, value: int) -> None:
        self.vm.ports.write(0xCF8, 0x80000000 | self.card.devfn << 8 | offset, 4)
        self.vm.ports.write(0xCFC, value, 4)

    def requested(self) -> list[list[int]]:
        """Vectors in the IRR of each processor."""
        found = []
        for cpu in self.vm.cpus:
            if self.inside:
                page = cpu.vcpu.get_lapic()
                words = [page[IRR + 16 * n : IRR + 16 * n + 4] for n in range(8)]
            else:
                words = [cpu.memory.read(0xFEE00000 + IRR + 16 * n, 4).to_bytes(4, "little") for n in range(8)]
            bits = int.from_bytes(b"".join(words), "little")
            found.append([n for n in range(256) if bits >> n & 1])
        return found


@pytest.fixture(params=EVERYWHERE, ids=lambda where: f"{where[0]}-{where[1]}")
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    accel, irqchip = request.param
    types = registry()
    types.register(MessageCard)
    chosen = need(accel) + (f",kernel-irqchip={irqchip}" if accel == "kvm" else "")
    words = ("-accel", chosen, "-smp", "2", "-m", "16", "-device", "message-card,id=card,addr=5")
    with pc(*words, types=types) as machine, machine.vm.lock:
        yield Driver(machine, irqchip != "off")


def test_msi_reaches_the_processor_it_names(driver: Driver) -> None:
    assert driver.card.msi is not None
    at = driver.card.msi.offset
    driver.config(at + 4, 0xFEE01000)
    driver.config(at + 8, 0)
    driver.config(at + 12, 0x4040)
    driver.config(at, 0x21 << 16)  # on, two vectors
    assert driver.requested() == [[], []]
    driver.card.msi_notify(1)
    assert driver.requested() == [[], [0x41]]
    driver.config(at + 4, 0xFEE00000)
    driver.card.msi_notify(0)
    assert driver.requested() == [[0x40], [0x41]]
    driver.config(at + 16, 1)
    driver.config(at + 4, 0xFEE01000)
    driver.card.msi_notify(0)
    assert driver.requested() == [[0x40], [0x41]], "masked"
    driver.config(at + 16, 0)
    assert driver.requested() == [[0x40], [0x40, 0x41]]


def test_every_msix_vector_has_its_own_target(driver: Driver) -> None:
    assert driver.card.msix is not None
    at = driver.card.msix.offset
    driver.config(0x10, BAR)
    driver.config(at, 0x8000 << 16)
    memory = driver.vm.memory
    for n, (address, data) in enumerate(((0xFEE00000, 0x50), (0xFEE01000, 0x61), (0xFEE01000, 0x62))):
        for place, value in ((0, address), (4, 0), (8, data), (12, n == 2)):
            memory.write(BAR + 16 * n + place, value, 4)
    for n in range(3):
        driver.card.msix_notify(n)
    assert driver.requested() == [[0x50], [0x61]]
    memory.write(BAR + 16 * 2 + 12, 0, 4)
    assert driver.requested() == [[0x50], [0x61, 0x62]]
    driver.config(0x04, 2)  # no bus master: the message goes nowhere
    driver.card.msix_notify(0)
    memory.write(BAR + 8, 0x77, 4)
    driver.card.msix_notify(0)
    assert driver.requested() == [[0x50], [0x61, 0x62]]
