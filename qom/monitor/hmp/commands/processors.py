"""Commands about processors: which there are, their registers, what their page tables map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from qom.monitor.hmp.arguments import Expression, Flag
from qom.monitor.hmp.declare import CommandError, Hmp, hmp_command
from qom.monitor.paging import PAGE_BITS, Mapping, mappings, paging_levels

LINES_LIMIT = 1 << 16
"""Lines that one answer of `info tlb` can have."""
_ENTRY_BITS = ((63, "X"), (8, "G"), (7, "P"), (6, "D"), (5, "A"), (4, "C"), (3, "T"), (2, "U"), (1, "W"))


@hmp_command("cpu")
def cpu(hmp: Hmp, index: Annotated[int, Expression(bits=32)]) -> None:
    """set the default CPU"""
    if index not in [found.index for found in hmp.vm.cpus]:
        raise CommandError("invalid CPU index")
    hmp.cpu_index = index


@hmp_command("info cpus")
def info_cpus(hmp: Hmp) -> str:
    """show infos for each CPU"""
    lines = []
    for found in hmp.vm.cpus:
        mark = "*" if found.index == hmp.cpu_index else " "
        thread = found.thread.native_id if found.thread is not None else None
        lines.append(f"{mark} CPU #{found.index}: thread_id={thread if thread is not None else 'none'}")
    return "\n".join(lines)


@hmp_command("info registers", usage="[-a|vcpu]")
def info_registers(
    hmp: Hmp,
    all_: Annotated[bool, Flag("a", "of all processors")] = False,
    vcpu: Annotated[int, Expression(bits=32)] = -1,
) -> str:
    """show the cpu registers"""
    from qom.monitor.hmp.registers import registers_text

    if all_:
        shown = hmp.vm.cpus
    elif vcpu >= 0:
        shown = [found for found in hmp.vm.cpus if found.index == vcpu]
        if not shown:
            raise CommandError(f"CPU#{vcpu} not available")
    else:
        shown = [hmp.cpu]
    return "".join(f"\nCPU#{found.index}\n{registers_text(found)}\n" for found in shown)


@hmp_command("info mem")
def info_mem(hmp: Hmp) -> str:
    """show the active virtual memory mappings"""
    if paging_levels(hmp.registers()) is None:
        return "PG disabled"
    lines: list[str] = []
    for start, end, allowed in _stretches(mappings(hmp.cpu.memory, hmp.registers())):
        rights = f"{'u' if allowed & 4 else '-'}r{'w' if allowed & 2 else '-'}"
        lines.append(f"{start:016x}-{end & (1 << 64) - 1:016x} {end - start:016x} {rights}")
        _check(lines)
    return "\n".join(lines)


def _stretches(found: Iterator[Mapping]) -> Iterator[tuple[int, int, int]]:
    """Pages one after the other with the same rights, as one."""
    start = end = allowed = -1
    for page in found:
        rights = page.allowed & 6
        if page.linear == end and rights == allowed:
            end += page.size
            continue
        if start >= 0:
            yield start, end, allowed
        start, end, allowed = page.linear, page.linear + page.size, rights
    if start >= 0:
        yield start, end, allowed


@hmp_command("info tlb")
def info_tlb(hmp: Hmp) -> str:
    """show virtual to physical memory mappings"""
    if paging_levels(hmp.registers()) is None:
        return "PG disabled"
    lines: list[str] = []
    for page in mappings(hmp.cpu.memory, hmp.registers()):
        large = page.size > 1 << PAGE_BITS
        marks = "".join(letter if page.entry >> bit & 1 and (bit != 7 or large) else "-" for bit, letter in _ENTRY_BITS)
        lines.append(f"{page.linear:016x}: {page.physical:016x} {marks}")
        _check(lines)
    return "\n".join(lines)


def _check(lines: list[str]) -> None:
    if len(lines) > LINES_LIMIT:
        raise CommandError(f"the page tables map more than {LINES_LIMIT} pages; gva2gpa looks up one address")
