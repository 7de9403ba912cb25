"""A Linux guest in the hands of a test: start it, give its shell commands, look at its log, switch it off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from initramfs import PROMPT

from qom.testing import TestMachine
from qom.vm.launch import open_machine
from qom.vm.pauses import short_pauses

BOOT_SECONDS = 300.0  # of host time, before a test gives a guest up
COMMAND_SECONDS = 120.0
CMDLINE = "console=ttyS0 earlyprintk=serial panic=-1"
DONE = re.compile(r"<<(\d+)>>")

WRONG = re.compile(
    r"\bWARNING:|\bBUG:|\bOops\b|Call Trace:|cut here|Kernel panic|general protection|unable to handle|rcu.*stall|"
    r"soft lockup|hung task|unstable|Unhandled|lost interrupt|nobody cared|\[Firmware (Bug|Warn)\]",
    re.IGNORECASE,
)
"""What no line of a good log contains."""


class Guest:
    """A machine whose first serial port is a shell's."""

    def __init__(self, machine: TestMachine) -> None:
        self.machine = machine
        self.console = machine.console()

    def wait_for_shell(self) -> None:
        """Until the prompt."""
        self.console.read_until(PROMPT, BOOT_SECONDS)

    def run(self, command: str, timeout: float = COMMAND_SECONDS) -> str:
        """What a command writes; the test fails when it does."""
        self.console.write(f'{command}; echo "<<$?>>"\n')
        text = self.console.read_until(DONE, timeout)
        found = DONE.search(text)
        assert found is not None and found[1] == "0", f"{command}:\n{text}"
        self.console.read_until(PROMPT, timeout)
        return text[: found.start()].partition("\n")[2] if command in text else text[: found.start()]

    def log(self) -> list[str]:
        """The kernel's log with levels, oldest first."""
        return self.run("dmesg -r").splitlines()

    def power_off(self) -> None:
        """Leave the shell; /init then switches the machine off."""
        self.console.write("exit\n")
        self.machine.expect_shutdown("acpi-soft-off", status=0, timeout=COMMAND_SECONDS)


@contextmanager
def linux(kernel: Path, initrd: Path, *, append: str = "", **keywords: Any) -> Iterator[Guest]:
    """A guest that has been started; keywords are those of `open_machine`."""
    keywords.setdefault("accel", "simulated")
    vm = open_machine(kernel=kernel, initrd=initrd, append=f"{CMDLINE} {append}".rstrip(), **keywords)
    with TestMachine(vm, exits=0) as machine, short_pauses():  # the process of the tests has many objects
        machine.start()
        yield Guest(machine)
