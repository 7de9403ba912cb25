"""`qom demo`: the default PC boots the embedded firmware and a demonstration guest, and then shows what happened.

Nothing is prepared: the machine is the one that `qom-system-x86_64 -accel simulated -smp 2 -m 64 -bios qomfw.bin -hda
demo.bin` builds, and what is shown is read from it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from plugins.firmware import DEMO_DISK, EMBEDDED
from qom.cli.options import CommandLine
from qom.cli.system import machine
from qom.errors import ConfigError, QomError
from qom.hw.mtree import format_flat
from qom.show import tree_text

PROGRAM = "qom demo"
TIME_LIMIT = 60.0  # seconds of host time; the guest needs about one
CONSOLE = "demo-console"


def main(argv: Sequence[str]) -> int:
    """Run the demonstration; `argv` may name an accelerator (`simulated`, `kvm`, `kvm:simulated`).

    Raises:
        QomError: the machine cannot be built, or the guest did not come to its end.
    """
    if len(argv) > 1 or any(a.startswith("-") for a in argv):
        raise ConfigError(f"demo: unknown argument {argv[-1]!r}: expected nothing, or an accelerator")
    accelerator = argv[0] if argv else "simulated"
    line = CommandLine().parse(
        [
            "-M", "pc", "-accel", accelerator, "-smp", "2", "-m", "64", "-bios", str(EMBEDDED), "-name", "demo",
            "-nodefaults", "-chardev", f"ringbuf,id={CONSOLE},size=65536", "-serial", f"chardev:{CONSOLE}",
            "-drive", f"file={DEMO_DISK},format=raw,if=ide,snapshot=on", "-no-reboot",
        ]
    )  # fmt: skip
    started = time.monotonic()
    with machine(line.builder.finish(), PROGRAM) as vm:
        built = time.monotonic()
        _title("The machine, as a tree of objects (name, type)")
        print(tree_text(vm.root))
        _title("Its memory, as the processor sees it")
        print(format_flat(vm.machine.system_bus.memory_space))
        console: Any = vm.root.resolve(f"/chardevs/{CONSOLE}")
        vm.start_loop()
        vm.cont()
        ended = vm.wait(TIME_LIMIT)
        ran = time.monotonic()
        _title("What the guest wrote on its serial port")
        print(console.take().decode("ascii", "replace").replace("\r", ""), end="")
        _title("Why the processors left the guest, and how often")
        accel: Any = vm.machine.accel
        print(exit_table(accel.exit_counts()))
        if vm.failure is not None:
            raise QomError(f"demo: the machine failed: {vm.failure}")
        if not ended:
            raise QomError(f"demo: the guest did not finish within {TIME_LIMIT:.0f} s")
        print(
            f"\nThe machine was built in {built - started:.2f} s and ran for {ran - built:.2f} s on {accel.type_name};"
            f" it ended by {vm.shutdown_reason}."
        )
        return vm.exit_status


def exit_table(counts: dict[str, dict[str, dict[str, int]]]) -> str:
    """Exits per reason as text: a row a reason, a column a vCPU.

    Args:
        counts: by vCPU, then "inner" (served inside the accelerator, or all it saw) and "user" (served here), by reason.
    """
    lines = []
    cpus = sorted(counts, key=int)
    for half, title in (("inner", "seen by the accelerator's inner half"), ("user", "passed on to user space")):
        reasons = sorted({reason for cpu in cpus for reason, n in counts[cpu][half].items() if n})
        if not reasons:
            continue
        width = max(map(len, (*reasons, title)))
        lines.append("  ".join([title.ljust(width), *(f"{'cpu ' + cpu:>9}" for cpu in cpus)]))
        for reason in reasons:
            numbers = (f"{counts[cpu][half].get(reason, 0):>9}" for cpu in cpus)
            lines.append("  ".join([reason.ljust(width), *numbers]))
        lines.append("")
    return "\n".join(lines[:-1])


def _title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")
    sys.stdout.flush()
