"""The report on a vCPU that cannot go on: page walks for its instruction bytes, and the text."""

import pytest
from accel_guest import Guest

from accel._kvmabi import lib
from accel.handles import SystemHandle
from accel.report import describe_exit, linear_to_physical, registers_text

PRESENT, LARGE = 1, 0x80
PG, PAE, PSE, LMA = 1 << 31, 1 << 5, 1 << 4, 1 << 10


class Tables:
    """Guest memory that holds only page-table entries."""

    def __init__(self, **entries: int) -> None:
        self.entries = {int(at[1:], 16): value for at, value in entries.items()}

    def read(self, address: int, size: int) -> int:
        return self.entries.get(address, 0) & ((1 << size * 8) - 1)


def mode(cr0: int = PG, cr3: int = 0x1000, cr4: int = 0, efer: int = 0) -> dict[str, int]:
    return {"cr0": cr0, "cr3": cr3, "cr4": cr4, "efer": efer}


def test_without_paging_linear_is_physical() -> None:
    assert linear_to_physical(Tables(), mode(cr0=0), 0x1_0000_1234) == 0x1234


def test_two_levels() -> None:
    tables = Tables(_1004=0x2000 | PRESENT, _200C=0x77000 | PRESENT)
    assert linear_to_physical(tables, mode(), 0x00403456) == 0x77456
    assert linear_to_physical(tables, mode(), 0x00404456) is None
    assert linear_to_physical(tables, mode(), 0x00803456) is None


def test_large_page_needs_pse() -> None:
    tables = Tables(_1004=0x00C00000 | LARGE | PRESENT)
    assert linear_to_physical(tables, mode(cr4=PSE), 0x00412345) == 0x00C12345
    assert linear_to_physical(tables, mode(), 0x00412345) is None


def test_pae() -> None:
    tables = Tables(
        _1008=0x2000 | PRESENT, _2008=0x3000 | PRESENT, _3010=0x1_2345_6000 | PRESENT, _2010=0x80_0000 | LARGE | PRESENT
    )
    assert linear_to_physical(tables, mode(cr4=PAE), 0x40202ABC) == 0x1_2345_6ABC
    assert linear_to_physical(tables, mode(cr4=PAE), 0x40512ABC) == 0x91_2ABC


def test_four_levels() -> None:
    tables = Tables(
        _1FF8=0x2000 | PRESENT, _2FF0=0x3000 | PRESENT, _3000=0x4000 | PRESENT, _4008=0x9_9000 | 1 << 63 | PRESENT,
        _2FF8=0x4000_0000 | LARGE | PRESENT,
    )  # fmt: skip
    wide = mode(cr4=PAE, efer=LMA)
    assert linear_to_physical(tables, wide, 0xFFFF_FFFF_8000_1234) == 0x9_9234
    assert linear_to_physical(tables, wide, 0xFFFF_FFFF_C123_4567) == 0x4123_4567


def test_text_is_as_wide_as_the_processor_runs(system: SystemHandle) -> None:
    guest = Guest(system, b"\xf4")
    guest.set(rax=0x12345678)
    values = guest.vcpu.registers()
    narrow = registers_text(values)
    assert narrow.startswith("rax=12345678 rbx=00000000 ") and "r8=" not in narrow
    wide = registers_text({**values, "efer": LMA})
    assert wide.startswith("rax=0000000012345678 ") and "r15=0000000000000000" in wide


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("KVM_EXIT_SHUTDOWN", "KVM_EXIT_SHUTDOWN"),
        ("KVM_EXIT_FAIL_ENTRY", "KVM_EXIT_FAIL_ENTRY: hardware entry failure reason 0x0"),
        ("KVM_EXIT_UNKNOWN", "KVM_EXIT_UNKNOWN: hardware exit reason 0x0"),
        ("KVM_EXIT_EXCEPTION", "KVM_EXIT_EXCEPTION: vector 0, error code 0x0"),
        ("KVM_EXIT_HYPERCALL", "KVM_EXIT_HYPERCALL: number 0x0"),
    ],
)
def test_exits_are_named_with_what_they_carry(guest: Guest, reason: str, text: str) -> None:
    assert describe_exit(guest.vcpu, getattr(lib, reason)) == text


def test_internal_error_names_its_kind_and_data(guest: Guest) -> None:
    page = guest.vcpu.run_page
    page.internal.suberror, page.internal.ndata = lib.KVM_INTERNAL_ERROR_DELIVERY_EV, 2
    page.internal.data[0], page.internal.data[1] = 0x80000021, 7
    assert describe_exit(guest.vcpu, lib.KVM_EXIT_INTERNAL_ERROR) == (
        "KVM_EXIT_INTERNAL_ERROR: an exit while an event was being delivered; data 0x80000021 0x7"
    )
    failure = page.emulation_failure
    failure.suberror, failure.ndata = lib.KVM_INTERNAL_ERROR_EMULATION, 3
    failure.flags = lib.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
    failure.insn_size = 2
    failure.insn_bytes[0], failure.insn_bytes[1] = 0x9B, 0xDB
    assert describe_exit(guest.vcpu, lib.KVM_EXIT_INTERNAL_ERROR) == (
        "KVM_EXIT_INTERNAL_ERROR: an instruction the accelerator cannot emulate (9b db)"
    )


def test_failed_run_names_the_errno(guest: Guest) -> None:
    guest.vcpu.c.data = 14
    assert describe_exit(guest.vcpu, lib.ABI_EXIT_ERROR) == f"{guest.vcpu.where}: KVM_RUN failed: EFAULT (Bad address)"
