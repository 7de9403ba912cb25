"""What two machines or two files do not have in common, as objects, as text, and as an exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from pcs import registry

from qom import TypeRegistry
from qom.cli.main import main
from qom.cli.options import CommandLine
from qom.config import MachineConfig
from qom.errors import LifecycleError
from qom.show import Difference, diff, portrait
from qom.vm.vm import VirtualMachine

BASE = ("-nodefaults", "-M", "pc", "-accel", "simulated", "-m", "2M")


@pytest.fixture(scope="module")
def types() -> TypeRegistry:
    return registry()


def config(*argv: str) -> MachineConfig:
    return CommandLine().parse([*BASE, *argv]).builder.finish()


def between(types: TypeRegistry, first: tuple[str, ...], second: tuple[str, ...]) -> list[str]:
    with VirtualMachine(config(*first), types) as one, VirtualMachine(config(*second), types) as other:
        return [d.text for d in diff(one.build(), other.build())]


def test_equal_machines_do_not_differ(types: TypeRegistry) -> None:
    words = ("-device", "isa-serial,id=com", "-device", "piix3-ide")
    assert between(types, words, words) == []  # though their clocks started at different moments
    assert between(types, ("-M", "pc,rtc-base=2024-01-01T00:00:00"), ("-M", "pc,rtc-base=2024-01-02T00:00:00")) == [
        "~ /machine: rtc-base 2024-01-01T00:00:00 -> 2024-01-02T00:00:00",
        "~ /machine/rtc: base 2024-01-01T00:00:00 -> 2024-01-02T00:00:00",
    ]


def test_machines_that_differ(types: TypeRegistry) -> None:
    other = "isa-ide,id=x,iobase=0x1e8,iobase2=0x3e6,irq=11"
    first = ("-device", "isa-serial,id=com", "-device", other, "-chardev", "null,id=t")
    second = ("-device", "isa-serial,id=com,irq=5", "-device", "isa-debugcon,id=x", "-device", "piix3-ide", "-m", "3M")
    assert between(types, first, second) == [
        "- /chardevs/t (chardev-null)",
        "~ /machine: ram-size 2M -> 3M",
        "~ /machine/peripheral/x is isa-ide -> isa-debugcon",
        "- /machine/peripheral/x/ide.0 (ide-bus)",
        "~ /machine/peripheral/com: irq 4 -> 5",
        "+ /machine/peripheral-anon/piix3-ide@00:02.0 (piix3-ide, and 2 below it)",
        "- wire /machine/peripheral/com irq[4] -> /machine/piix3/isa.0 irq[4]",
        "- wire /machine/peripheral/x irq[11] -> /machine/piix3/isa.0 irq[11]",
        "+ wire /machine/peripheral/com irq[5] -> /machine/piix3/isa.0 irq[5]",
    ]


def test_memory_of_the_board_that_differs(types: TypeRegistry, tmp_path: Path) -> None:
    text = (
        "[machine]\ntype = 'pc'\naccel = 'simulated'\nmemory = '2M'\n"
        "[[region]]\nname = 's'\nkind = 'ram'\nat = 0xE0000000\nsize = '{}'\n"
    )
    files = []
    for size in ("64k", "128k"):
        path = tmp_path / f"{size}.toml"
        path.write_text(text.format(size))
        files.append(("-readconfig", str(path)))
    assert between(types, (), files[0]) == ["+ region: memory/s (ram at 0xe0000000, 0x10000 bytes)"]
    assert between(types, files[0], files[0]) == []
    assert between(types, *files) == [
        "~ region: memory/s (ram at 0xe0000000, 0x10000 bytes) -> (ram at 0xe0000000, 0x20000 bytes)"
    ]


def test_what_changed_in_a_machine(types: TypeRegistry) -> None:
    with VirtualMachine(config("-chardev", "null,id=c"), types) as vm:
        before = vm.build().dump()
        vm.add_chardev("chardev-null", "later", {})
        assert diff(before, vm) == [Difference("said", "chardev 'later'", "", None, "backend = 'null', id = 'later'")]
        assert diff(vm, vm) == []
        seen = portrait(vm)
        vm.root.resolve("/chardevs/c").unparent()
        assert [d.text for d in diff(seen, vm)] == ["- /chardevs/c (chardev-null)"]
        with pytest.raises(TypeError, match="a portrait cannot be compared with a configuration"):
            diff(seen, before)


def test_files_that_differ() -> None:
    first = config(
        "-device", "a,id=x,p=1", "-device", "b", "-device", "b", "-smp", "2", "-boot", "c", "-global", "a.b=c"
    )
    second = config("-device", "a,id=x,p=2,q=on", "-device", "b", "-smp", "4", "-accel", "kvm", "-S")
    assert [d.text for d in diff(first, second)] == [
        "~ accel 'simulated' -> 'simulated:kvm'",
        "~ smp: cpus 2 -> 4",
        "- boot order = 'c'",
        "~ device 'x': p '1' -> '2'",
        "+ device 'x': q 'on'",
        "- device (b) no. 2 driver = 'b'",
        "- global (a) driver = 'a', property = 'b', value = 'c'",
        "+ paused true",
    ]


def test_a_machine_that_is_not_there(types: TypeRegistry) -> None:
    with pytest.raises(LifecycleError):
        diff(VirtualMachine(config(), types), config())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.toml").write_text('nodefaults = true\nmachine = "none"\naccel = "simulated"\nname = "one"\n')
    Path("b.toml").write_text('include = "a.toml"\nname = "two"\nmemory = "1M"\n')


@pytest.mark.parametrize(
    ("argv", "status", "out", "err"),
    [
        (["a.toml", "a.toml"], 0, "", ""),
        (["a.toml", "b.toml"], 1, "~ /machine: ram-size 0 -> 1M\n", ""),
        (["--config", "a.toml", "b.toml"], 1, "~ name 'one' -> 'two'\n+ memory '1M'\n", ""),
        (["a.toml", "-m", "1M", "--", "b.toml"], 0, "", ""),
        (["a.toml", "c.toml"], 2, "",
         "qom: c.toml: cannot be read: No such file or directory; did you mean 'b.toml' or 'a.toml'?\n"),
        (["a.toml", "-m", "1M", "b.toml"], 2, "", "qom: diff: expected two files, as in A B, or A [options] -- B [options]\n"),
        (["a.toml", "--", "-M", "none", "-accel", "simulated", "-device", "isa-serial"], 2, "",
         "qom: -device isa-serial: isa-serial: this machine has no free bus of type 'isa-bus'\n"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("files")
def test_the_command(argv: list[str], status: int, out: str, err: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", *argv]) == status
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (out, err)
