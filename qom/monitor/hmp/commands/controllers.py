"""Commands about interrupt controllers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from qom.hw.interrupt_report import IoApicReport, LapicReport, PicReport
from qom.monitor.hmp.arguments import Expression
from qom.monitor.hmp.declare import CommandError, Hmp, hmp_command
from qom.monitor.hmp.interrupts import ioapic_text, lapic_text, pic_text
from qom.vm.cpu import Cpu


def _reports(hmp: Hmp) -> Iterator[tuple[Any, Any]]:
    """Every controller with each thing that it reports."""
    for device in hmp.vm.root.walk():
        report = getattr(device, "interrupt_reports", None)
        for found in report() if callable(report) else ():
            yield device, found


@hmp_command("info pic")
def info_pic(hmp: Hmp) -> str:
    """show PIC state"""
    found = [report for _, report in _reports(hmp)]
    lines = [
        ioapic_text(report, number)
        for number, report in enumerate(report for report in found if isinstance(report, IoApicReport))
    ]
    pics = sorted((report for report in found if isinstance(report, PicReport)), key=lambda report: -report.number)
    return "\n".join([*lines, *(pic_text(report) for report in pics)]) or "this machine has no interrupt controllers"


@hmp_command("info lapic")
def info_lapic(hmp: Hmp, apic_id: Annotated[int, Expression("apic-id", bits=32)] = -1) -> str:
    """show local apic state (apic-id: local apic to read, default is which of current CPU)"""
    fits = [found for found in hmp.vm.cpus if found.apic_id == apic_id] if apic_id >= 0 else [hmp.cpu]
    if not fits:
        raise CommandError("No CPU available")
    cpu: Cpu = fits[0]
    for device, report in _reports(hmp):
        if isinstance(report, LapicReport) and getattr(device, "cpu", None) is cpu:
            return lapic_text(report, cpu.index)
    raise CommandError(f"CPU {cpu.index} has no local APIC")


@hmp_command("info irq")
def info_irq(hmp: Hmp) -> str:
    """show the interrupts statistics (how often each input of a controller was raised)"""
    lines: list[str] = []
    for device in hmp.vm.root.walk():
        counts = getattr(device, "interrupt_counts", None)
        if callable(counts):
            lines.append(f"IRQ statistics for {device.type_name} at {device.path}:")
            lines += [f"{n:2}: {count}" for n, count in enumerate(counts()) if count]
    return "\n".join(lines) or "no interrupt controller of this machine counts"
