"""Runs cases of system32_cases.py without their monitor: each starts from registers set through KVM's interface.

For an accelerator whose IRET or INT n does not do as a start or an end.  A case ends at HLT: every INT3 of the code pages is
one here, and so is every stub of the IDT, so that a delivered fault stops at its vector's stub.  What is seen then are all
registers with the hidden parts of the segments, the top of the stack, and the blocks of memory the case names.
"""

from collections.abc import Iterator

import attrs
import system32_cases as layout
from runner import Bare
from system32_cases import FIXED, Case
from system_cases import descriptor

from accel.handles import GENERAL_REGISTERS, CData, SystemHandle

HLT = b"\xf4"
SEGMENT_FIELDS = ("selector", "base", "limit", "type", "present", "dpl", "db", "s", "g", "unusable")
LISTED_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt")
SECONDS = 0.3  # of a case; an emulating KVM hangs in some instructions instead of refusing them
SURROUNDINGS = 0x20000  # from GDT on: what is put back for every case
BUSY = 2


@attrs.define
class State:
    """How a case ended."""

    ending: str  # "HLT without an exit", or why it is no answer
    values: dict[str, int | str]
    event_error: int  # error code of the last exception by KVM_GET_VCPU_EVENTS

    @property
    def answered(self) -> bool:
        """It came to a HLT."""
        return self.ending.startswith("HLT")

    @property
    def vector(self) -> int | None:
        """Whose stub it stopped at; None when it is none."""
        at = int(self.values["cs base"]) + int(self.values["rip"]) - layout.STUBS
        return at >> 4 if self.answered and 0 <= at < 0x31 * 16 else None

    @property
    def error(self) -> int:
        """What lies on the stack, where a vector with an error code has it."""
        return int.from_bytes(bytes.fromhex(str(self.values["stack"])[:8]), "little")


def _load(segment: CData, selector: int, case: Case) -> None:
    segment.selector = selector
    segment.avl = segment.l = 0
    if selector & ~3 == 0:
        segment.base = segment.limit = segment.type = segment.present = segment.s = segment.dpl = segment.db = (
            segment.g
        ) = 0
        segment.unusable = 1
        return
    free = case.writes.get(layout.GDT + layout.FREE, b"")[selector - layout.FREE :][:8]
    value = int.from_bytes(free, "little") if selector >= layout.FREE else descriptor(*FIXED[selector])
    if layout.GDT + selector in case.writes:
        value = int.from_bytes(case.writes[layout.GDT + selector][:8], "little")
    base, limit = (value >> 16 & 0xFFFFFF) | value >> 56 << 24, (value & 0xFFFF) | (value >> 32 & 0xF0000)
    access, flags = value >> 40 & 0xFF, value >> 52 & 15
    segment.base, segment.limit = base, limit << 12 | 0xFFF if flags & 8 else limit
    segment.type, segment.s, segment.dpl, segment.present = access & 15, access >> 4 & 1, access >> 5 & 3, access >> 7
    segment.g, segment.db, segment.unusable = flags >> 3, flags >> 2 & 1, 0


def _start(bare: Bare, case: Case) -> None:
    vcpu = bare.vcpu
    sregs, regs, start = vcpu.get_sregs(), vcpu.get_regs(), case.start
    sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer = case.cr0, 0, case.cr3, case.cr4, case.efer
    sregs.gdt.base, sregs.gdt.limit = layout.GDT, 0x1FF
    sregs.idt.base, sregs.idt.limit = layout.IDT, 0x31 * 8 - 1
    _load(sregs.tr, case.tr, case)
    sregs.tr.type |= BUSY
    bare.ram[layout.GDT + case.tr + 5] |= BUSY  # as LTR leaves it
    _load(sregs.ldt, case.ldtr, case)
    regs.rflags = case.eflags
    if case.v86:
        cs, regs.rip, ss, regs.rsp, es, ds, fs, gs = case.v86
        regs.rflags |= layout.VM
        for name, selector in {"cs": cs, "ss": ss, "es": es, "ds": ds, "fs": fs, "gs": gs}.items():
            segment = getattr(sregs, name)
            segment.selector, segment.base, segment.limit, segment.type = selector, selector << 4, 0xFFFF, 3
            segment.s, segment.dpl, segment.present = 1, 3, 1
            segment.db = segment.g = segment.l = segment.avl = segment.unusable = 0
    else:
        regs.rip, regs.rsp = start.eip, start.esp
        for name, selector in zip(("cs", "ss", "ds", "es", "fs", "gs"), (start.cs, start.ss, *case.data), strict=True):
            _load(getattr(sregs, name), selector, case)
    for name in ("eax", "ecx", "edx", "ebx", "ebp", "esi", "edi"):
        setattr(regs, "r" + name[1:], getattr(case, name) & 0xFFFFFFFF)
    vcpu.set_sregs(sregs)
    vcpu.set_regs(regs)


def _state(bare: Bare, case: Case, ending: str) -> State:
    sregs, regs = bare.vcpu.get_sregs(), bare.vcpu.get_regs()
    values: dict[str, int | str] = {name: int(getattr(regs, name)) for name in GENERAL_REGISTERS[:8]}
    values |= {"rip": int(regs.rip), "rflags": int(regs.rflags)}
    values |= {name: int(getattr(sregs, name)) for name in ("cr0", "cr2", "cr3", "cr4")}
    for name in LISTED_SEGMENTS:
        segment = getattr(sregs, name)
        fields = ("selector", "unusable") if segment.unusable else SEGMENT_FIELDS
        values |= {f"{name} {field}": int(getattr(segment, field)) for field in fields}
    pointer = int(regs.rsp) if sregs.ss.db else int(regs.rsp) & 0xFFFF
    top = (int(sregs.ss.base) + pointer) & 0xFFFFFF
    values["stack"] = bytes(bare.ram[top : top + 32]).hex(" ", 4)
    for n, (address, count) in enumerate(case.dumps):
        values[f"memory {n}"] = bytes(bare.ram[address : address + 4 * count]).hex(" ", 4)
    return State(ending, values, int(bare.vcpu.get_vcpu_events().exception.error_code))


def prepared(data: bytes) -> bytes:
    """Memory with HLT in the place of INT3."""
    return data.replace(layout.TRAP, HLT)


def run(system: SystemHandle, image: bytes, cases: list[Case]) -> Iterator[State]:
    """Each case's end on `system`; a case that hangs or shuts down takes its VM with it, and the next gets a fresh one."""
    fixed = layout.memory([])[layout.PD]
    pages = slice(layout.TEMPLATE - layout.PD, layout.TEMPLATE - layout.PD + layout.LIVE_END - layout.GDT)
    live = prepared(fixed[pages]).ljust(SURROUNDINGS, b"\0")
    bare: Bare | None = None
    for case in cases:
        if bare is None:
            bare = Bare(system, image)
            bare.ram[layout.PD : layout.PD + len(fixed)] = fixed
            bare.ram[layout.STUBS : layout.STUBS + 0x1000] = HLT * 0x1000
        bare.ram[:0x20000] = HLT * 0x20000
        bare.ram[layout.GDT : layout.GDT + SURROUNDINGS] = live
        for address, data in case.writes.items():
            code = address in (case.start.code, layout.V86_CODE) or address < 0x20000
            bare.ram[address : address + len(data)] = prepared(data) if code else data
        _start(bare, case)
        outcome = bare.run(SECONDS)
        yield _state(bare, case, outcome.ending)
        if not outcome.ending.startswith("HLT"):
            bare.vm.close()
            bare = None
    if bare is not None:
        bare.vm.close()


def why_not(ending: str) -> str:
    """The reason a case has no answer, short enough to count by."""
    if ending.startswith("the time limit"):
        return "hangs"
    return ending.partition(":")[0]
