"""What the DSDT says of hotplug: processors and PCI slots with their methods, and the general-purpose events that use them.

The methods drive the registers of plugins/cpu/acpi_cpu_hotplug.py and plugins/pci/acpi_pci_hotplug.py.  An event looks which
places have changed and notifies their objects; the guest then calls _STA, _MAT, _EJ0 and _OST of these.  A mutex keeps a
choice of a place and what follows it together.

References: ACPI 6.4, 5.6.6 (notifications), 6.3 (_EJ0, _OST, _STA), 6.1.12 (_SUN), 6.2.10 (_MAT), 8.4 (processors).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from plugins.firmware import aml

__all__ = ["CPU_PORTS", "PCI_PORTS", "cpu_event", "cpu_name", "local_apic", "pci_event", "processors", "slots"]

PCI_EVENT, CPU_EVENT = 1, 2  # general-purpose events
PCI_PORTS, CPU_PORTS = 0x18, 0x20
PROCESSOR_ENABLED: Final = 1
DEVICE_CHECK, EJECT_REQUEST = 1, 3  # notifications
THERE: Final = 0x0F  # _STA: present, enabled, shown, working
NEXT_WITH_EVENT, OST_EVENT, OST_STATUS = 0, 1, 2  # commands of the processors' block
FIRST_BUS: Final = 0


def cpu_name(number: int) -> str:
    r"""The name of a processor in \_SB."""
    return f"C{number:03X}"


def _slot_name(slot: int) -> str:
    return f"SL{slot:02X}"


def local_apic(number: int, apic_id: int, flags: int) -> bytes:
    """A processor's entry in the MADT (5.2.12.2); its _MAT gives the same."""
    return struct.pack("<BBBBI", 0, 8, number & 0xFF, apic_id, flags)


# --- processors


def processors(port: int, apic_ids: Sequence[int]) -> list[bytes]:
    r"""The processors of all places, and what their methods share; for \_SB.

    port: first port of the controller.
    """
    block = [("CPSL", 32), ("", 32), ("CPDT", 32)]  # selector, data
    flags = [("", 32), ("CPEN", 1), ("CPIN", 1), ("CPRM", 1), ("CPEJ", 1), ("", 4), ("CPCM", 8)]
    shared = [
        aml.mutex("CPLK"),
        aml.operation_region("CPRG", aml.SYSTEM_IO, port, 12),
        aml.field("CPRG", aml.DWORD_ACCESS, block, aml.WRITE_AS_ZEROS),
        aml.field("CPRG", aml.BYTE_ACCESS, flags, aml.WRITE_AS_ZEROS),
        aml.method("_INI", 0, aml.store(aml.ZERO, aml.ref("CPSL"))),  # the block takes the bitmap's place
        _locked(
            "CPST",  # (place): its status
            1,
            aml.store(aml.ARGS[0], aml.ref("CPSL")),
            aml.store(aml.ZERO, aml.LOCALS[0]),
            aml.if_(aml.equal(aml.ref("CPEN"), aml.ONE), aml.store(aml.integer(THERE), aml.LOCALS[0])),
            result=aml.LOCALS[0],
        ),
        _locked("CPGO", 1, aml.store(aml.ARGS[0], aml.ref("CPSL")), aml.store(aml.ONE, aml.ref("CPEJ"))),  # (place)
        _locked(
            "CPTL",  # (place, event, status): what came of an event
            3,
            aml.store(aml.ARGS[0], aml.ref("CPSL")),
            aml.store(aml.integer(OST_EVENT), aml.ref("CPCM")),
            aml.store(aml.ARGS[1], aml.ref("CPDT")),
            aml.store(aml.integer(OST_STATUS), aml.ref("CPCM")),
            aml.store(aml.ARGS[2], aml.ref("CPDT")),
        ),
    ]
    tell = [
        aml.if_(aml.equal(aml.ARGS[0], aml.integer(n)), aml.notify(aml.ref(cpu_name(n)), aml.ARGS[1]))
        for n in range(len(apic_ids))
    ]
    shared.append(aml.method("CPNT", 2, *tell))  # (place, notification)
    return [*shared, *(_processor(n, apic_id) for n, apic_id in enumerate(apic_ids))]


def _processor(number: int, apic_id: int) -> bytes:
    place = aml.integer(number)
    terms = [aml.method("_STA", 0, aml.return_(aml.call("CPST", place)))]
    if apic_id < 255:
        terms.append(aml.name("_MAT", aml.buffer(local_apic(number, apic_id, PROCESSOR_ENABLED))))
    if number:  # the first one starts the machine and stays
        terms.append(aml.method("_EJ0", 1, aml.call("CPGO", place)))
    terms.append(aml.method("_OST", 3, aml.call("CPTL", place, aml.ARGS[0], aml.ARGS[1])))
    return aml.processor(cpu_name(number), number & 0xFF, *terms)


def cpu_event() -> bytes:
    """The event of processors: every place with something to say is notified, and the flag cleared."""
    more, said = aml.LOCALS[0], aml.ref("\\_SB.CPDT")
    came, goes = aml.ref("\\_SB.CPIN"), aml.ref("\\_SB.CPRM")

    def handled(flag: bytes, notification: int) -> list[bytes]:
        return [
            aml.call("\\_SB.CPNT", said, aml.integer(notification)),
            aml.store(aml.ONE, flag),
            aml.store(aml.ONE, more),
        ]

    return aml.method(
        f"\\_GPE._E{CPU_EVENT:02X}",
        0,
        aml.acquire("\\_SB.CPLK"),
        aml.store(aml.ZERO, aml.ref("\\_SB.CPSL")),
        aml.store(aml.ONE, more),
        aml.while_(
            aml.equal(more, aml.ONE),
            aml.store(aml.ZERO, more),
            aml.store(aml.integer(NEXT_WITH_EVENT), aml.ref("\\_SB.CPCM")),
            aml.if_(aml.equal(came, aml.ONE), *handled(came, DEVICE_CHECK)),
            aml.else_(aml.if_(aml.equal(goes, aml.ONE), *handled(goes, EJECT_REQUEST))),
        ),
        aml.release("\\_SB.CPLK"),
    )


def _locked(name: str, args: int, *terms: bytes, result: bytes | None = None) -> bytes:
    last = [] if result is None else [aml.return_(result)]
    return aml.method(name, args, aml.acquire("CPLK"), *terms, aml.release("CPLK"), *last)


# --- PCI slots


def slots(port: int, numbers: Sequence[int]) -> list[bytes]:
    """The slots that devices can leave, and what their methods share; for the PCI root.

    port: first port of the controller.
    """
    registers = [("PCUP", 32), ("PCDN", 32), ("PCGO", 32), ("", 32), ("PCBS", 32)]
    shared = [
        aml.mutex("PCLK"),
        aml.operation_region("PCRG", aml.SYSTEM_IO, port, PCI_PORTS),
        aml.field("PCRG", aml.DWORD_ACCESS, registers, aml.WRITE_AS_ZEROS),
        aml.method(
            "PCEJ",  # (slot)
            1,
            aml.acquire("PCLK"),
            aml.store(aml.integer(FIRST_BUS), aml.ref("PCBS")),
            aml.shift_left(aml.ONE, aml.ARGS[0], aml.ref("PCGO")),
            aml.release("PCLK"),
        ),
    ]
    return [*shared, *(_slot(number) for number in numbers)]


def _slot(number: int) -> bytes:
    return aml.device(
        _slot_name(number),
        aml.name("_ADR", aml.integer(number << 16)),
        aml.name("_SUN", aml.integer(number)),
        aml.method("_EJ0", 1, aml.call("PCEJ", aml.integer(number))),
    )


def pci_event(numbers: Sequence[int]) -> bytes:
    """The event of PCI slots: those that were filled and those that are to be emptied are notified."""
    up, down = aml.LOCALS[0], aml.LOCALS[1]
    tell = [
        aml.if_(aml.and_(changed, aml.integer(1 << number)), aml.notify(aml.ref(where), aml.integer(notification)))
        for number in numbers
        for where in (f"\\_SB.PCI0.{_slot_name(number)}",)
        for changed, notification in ((up, DEVICE_CHECK), (down, EJECT_REQUEST))
    ]
    return aml.method(
        f"\\_GPE._E{PCI_EVENT:02X}",
        0,
        aml.acquire("\\_SB.PCI0.PCLK"),
        aml.store(aml.integer(FIRST_BUS), aml.ref("\\_SB.PCI0.PCBS")),
        aml.store(aml.ref("\\_SB.PCI0.PCUP"), up),
        aml.store(aml.ref("\\_SB.PCI0.PCDN"), down),
        *tell,
        aml.release("\\_SB.PCI0.PCLK"),
    )
