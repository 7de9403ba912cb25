"""`-d` and `-trace`: what is logged of a machine, and where."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from plugins.observe.trace import KINDS
from qom import QomError, VirtualMachine, default_registry
from qom.cli import system
from qom.cli.options import CommandLine
from qom.config import MachineConfig
from qom.config.model import LOG_CATEGORIES, TRACE_EVENTS

CATEGORIES, EVENTS = ", ".join(LOG_CATEGORIES), ", ".join(TRACE_EVENTS)


def config(line: str) -> MachineConfig:
    return CommandLine().parse(shlex.split(line)).builder.finish()


def logged(line: str, folder: Path) -> list[str]:
    """What a PC writes to its log when its clock is set up and it is reset."""
    log = folder / "log"
    with VirtualMachine(
        config(f"-M pc -accel qtest -m 16 -nodefaults -D {log} {line}"), default_registry(load_external=False)
    ).build() as vm:
        vm.ports.write(0x70, 0x0B)
        vm.ports.read(0x71)
        vm.machine.chip("pm", "PIIX4_PM").power_button()
        vm.reset()
    return log.read_text().splitlines()


def test_each_category_logs_what_it_says(tmp_path: Path) -> None:
    lines = logged("-d io,reset", tmp_path)
    assert "io: out 0x70 size 1 value 0xb, /machine/rtc" in lines
    assert "io: in 0x71 size 1 value 0x2, /machine/rtc" in lines
    assert "reset: /machine/pit" in lines and not [line for line in lines if line.startswith("int: ")]
    lines = logged("-d int", tmp_path)
    assert lines and all(line.startswith("int: /machine/") for line in lines)
    assert logged("", tmp_path) == []


def test_trace_is_short_for_an_object(tmp_path: Path) -> None:
    events = tmp_path / "events"
    events.write_text("# comment\nlines\n\n-ports\n")
    made = config(f"-trace enable=*,events={events},file=out -trace life* -d trace:exits -nodefaults")
    assert [(entry.driver, entry.id, entry.props) for entry in made.objects] == [
        ("trace", "trace0", {"what": ["memory", "exits", "lifecycle", "lines"], "file": "out"}),
        ("trace", "trace1", {"what": ["lifecycle"], "file": "/dev/stderr"}),
        ("trace", "trace2", {"what": ["exits"], "file": "/dev/stderr"}),
    ]
    assert tuple(TRACE_EVENTS) == KINDS, "what the object knows"
    out = tmp_path / "trace"
    logged(f"-trace ports,file={out}", tmp_path)
    assert " out 0x70 size 1 value 0xb /machine/rtc " in out.read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-d in_asm", f"-d in_asm: log category 'in_asm' of QEMU's is not modelled: expected some of {CATEGORIES}"),
        ("-d inn", f"-d inn: unknown log category 'inn': expected some of {CATEGORIES}; did you mean 'int'?"),
        ("-trace pci_*", f"-trace pci_*: trace: no event 'pci_*': expected some of {EVENTS}, or a pattern"),
        ("-trace port", f"-trace port: trace: no event 'port': expected some of {EVENTS}, or a pattern; did you"
         " mean 'ports'?"),
        ("-trace events=/no/such", "-trace events=/no/such: trace: 'events': '/no/such' cannot be read: No such file or"
         " directory"),
        ("-trace file=x", "-trace file=x: trace: nothing to trace: expected a pattern, such as ports or *"),
        ("-dfilter 0..1", "-dfilter: instructions are not logged, so there is nothing to choose by address"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(line: str, message: str) -> None:
    with pytest.raises(QomError) as error:
        config(line)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["-trace", "help"], ["Events:", "  ports          port accesses"]),
        (["-d", "help"], ["Log categories:", "  trace:PATTERN  as -trace PATTERN"]),
        (["-L", "help"], ["/usr/share/seabios"]),
    ],
)
def test_help_says_what_there_is(argv: Sequence[str], wanted: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert system.main(argv) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line for line in wanted if line not in out] == []
