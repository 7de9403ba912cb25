"""The trace of a few instructions on a PC: what the guest did to ports, in its order."""

from pathlib import Path

import pytest
from qom_trace import TraceAccel

from qom import AccelError, ConfigBuilder, VirtualMachine, default_registry

CODE = bytes.fromhex(
    "b0 54 e6 80"  # mov $0x54,%al; out %al,$0x80
    "e4 e9"  # in $0xe9,%al
    "ba 01 05 ee"  # mov $0x501,%dx; out %al,%dx
    "f4 eb fd"  # hlt; jmp .-1
)


def built(tmp_path: Path, **options):
    rom = bytearray(65536)
    rom[0xF000 : 0xF000 + len(CODE)] = CODE
    rom[0xFFF0:0xFFF3] = b"\xe9\x0d\xf0"  # jmp 0xf000
    (tmp_path / "rom").write_bytes(rom)
    told = ConfigBuilder()
    told.machine({"type": "pc"}, "the test")
    told.accel({"name": "trace", **options}, "the test")
    told.plain("firmware", str(tmp_path / "rom"), "the test")
    told.serial("none", "the test")
    told.device({"driver": "isa-debugcon"}, "the test")
    told.device({"driver": "isa-debug-exit"}, "the test")
    registry = default_registry(load_external=False)
    registry.register(TraceAccel, origin="qom-trace")
    return VirtualMachine(told.finish(), registry).build()


WANTED = [
    "cpu0 KVM_EXIT_IO out 0x80 size 1 value 0x54",
    "cpu0 KVM_EXIT_IO in 0xe9 size 1 value 0xe9",
    "cpu0 KVM_EXIT_IO out 0x501 size 1 value 0xe9",
]


def test_every_exit_is_a_line(tmp_path):
    with built(tmp_path, file=str(tmp_path / "log")) as vm:
        assert vm.run() == 0xE9 << 1 | 1
        lines = list(vm.machine.accel.lines)
    assert [line for line in lines if "KVM_EXIT_IO" in line] == WANTED
    assert (tmp_path / "log").read_text().splitlines() == lines


def test_the_limit_stops_the_lines_and_not_the_count(tmp_path):
    with built(tmp_path, limit="2") as vm:
        vm.run()
        assert len(vm.machine.accel.lines) == 2 < vm.machine.accel.count


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(AccelError, match=r"trace: /no/such/log: No such file or directory"):
        built(tmp_path, file="/no/such/log")
