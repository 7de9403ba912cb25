"""Every command with no, wrong, missing, extra and random arguments: each is answered in words, and the machine lives on."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hmp_machine import made

from qom.monitor.hmp.declare import Hmp
from qom.monitor.hmp.table import HmpTable, hmp_table
from qom.vm import VirtualMachine

ENDS_IT = {"quit", "exit_preconfig"}
"""Commands that a fuzz gives no right arguments."""
WORDS = (
    "0", "1", "-1", "0x10", "0xffffffffffffffff", "99999999999999999999", "/4xw", "/3i", "/zz", "/99999999999x", "$eip",
    "$", "1+", "(", "4k", "1.5G", "-f", "-z", "--", "on", "off", '"', '"a b"', '"\\q"', "/machine", "/nosuch", "type",
    "isa-debug-exit,id=x", "id=", ",,,", "=", "{", "\x00", "é", "a" * 300, "%s%n", "../..", ".", "cpu0", "serial0",
    "none", "help", "raw",
)  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualMachine]:
    """A PC with something of everything; files that a command writes are in a directory of the test's."""
    image = tmp_path_factory.mktemp("fuzz") / "fd.img"
    image.write_bytes(bytes(1474560))
    words = ["-m", "16", "-smp", "2", "-accel", "simulated", "-S", "-vga", "std", "-fda", str(image)]
    with made(*words, "-device", "isa-debug-exit,id=ex") as vm:
        yield vm


@pytest.fixture
def table(machine: VirtualMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HmpTable:
    monkeypatch.chdir(tmp_path)
    return hmp_table(machine)


def give(vm: VirtualMachine, line: str) -> str:
    """Give a command; its answer, which has to be words for a person."""
    hmp = Hmp(vm, hmp_table(vm))
    with vm.lock:
        answer = hmp_table(vm).run(line, hmp)
    assert "Traceback" not in answer
    assert "internal error" not in answer, (line, answer)
    assert "' failed: " not in answer, (line, answer)  # what a command's own code raised
    assert answer == "" or answer.endswith("\n")
    return answer


def test_every_command_with_random_arguments(machine: VirtualMachine, table: HmpTable) -> None:
    rng = random.Random(20)
    names = [name for name in table.names() if name not in ENDS_IT]
    for name in names:
        give(machine, name)
        for _ in range(25):
            words = [rng.choice(WORDS) for _ in range(rng.randrange(1, 6))]
            give(machine, name + rng.choice((" ", "", "\t")) + rng.choice((" ", "  ", ",")).join(words))
    for name in ENDS_IT:
        give(machine, f"{name} {rng.choice(WORDS)}")
    assert give(machine, "p/x 1") == "0x1\n"
    assert machine.shutdown_reason is None


def test_lines_of_random_characters(machine: VirtualMachine, table: HmpTable) -> None:
    rng = random.Random(21)
    for _ in range(2000):
        line = "".join(rng.choice(string.printable) for _ in range(rng.randrange(60)))
        give(machine, line)


def test_completion_of_anything_gives_words_or_nothing(machine: VirtualMachine, table: HmpTable) -> None:
    from qom.monitor.hmp.completion import completions

    rng = random.Random(22)
    hmp = Hmp(machine, table)
    for name in (*table.names(), "nosuch", "help", "help info", "info"):
        for _ in range(6):
            words = [rng.choice(WORDS) for _ in range(rng.randrange(4))]
            line = " ".join([name, *words]) + rng.choice(("", " "))
            length, found = completions(hmp, line)
            begun = line[len(line) - length :]
            assert all(word.startswith(begun) for word in found)


def test_every_name_of_the_index_is_there_and_has_its_help(machine: VirtualMachine, table: HmpTable) -> None:
    for name in table.names():
        command = table.get(name)
        assert command is not None
        assert command.name == name
        assert command.help
        first = give(machine, f"help {name}")
        if name == "info":
            continue  # its help is that of all below it
        assert first == f"{command.line}\n"
        assert first.startswith(f"{command.shown} ")
    aliases = {other for name in table.names() for other in table.get(name).aliases}  # type: ignore[union-attr]
    assert aliases == set(table.first_words()) - {n for n in table.names() if not n.startswith("info ")}
    shown = give(machine, "help").splitlines() + give(machine, "info").splitlines()
    assert len(shown) == len(table.names())


def test_what_is_not_modelled_says_so(machine: VirtualMachine, table: HmpTable) -> None:
    from qom.monitor.hmp.not_modelled import NOT_MODELLED

    for name, subject in NOT_MODELLED.items():
        assert name not in table.names()
        assert give(machine, f"{name} a b") == f"{name}: not modelled: there is nothing here of {subject}\n"
