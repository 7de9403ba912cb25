"""The journey of an `out` (docs/journey-of-an-out.md) is what happens: its functions exist and are called in that order."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from types import FrameType

from plugins.firmware import EMBEDDED
from qom import VirtualMachine, default_registry
from qom.cli.options import CommandLine

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "journey-of-an-out.md").read_text()
STEPS = re.findall(r"^\| `([\w./]+)` `(\w+)` \|", PAGE, flags=re.MULTILINE)


def test_every_function_on_the_way_exists() -> None:
    assert len(STEPS) > 10
    for file, function in STEPS:
        text = (TOP / file).read_text()
        pattern = rf"def {function}\(" if file.endswith(".py") else rf"^[\w*\s]*\b{function}\("
        assert re.search(pattern, text, flags=re.MULTILINE), f"{file}: no function {function}"


def test_the_python_half_is_called_in_that_order(tmp_path: Path) -> None:
    """The first byte that the embedded firmware writes to COM1."""
    line = CommandLine().parse(
        ["-M", "pc", "-accel", "simulated", "-m", "16", "-bios", str(EMBEDDED), "-nodefaults", "-S",
         "-serial", f"file:{tmp_path / 'out'}"]
    )  # fmt: skip
    calls: list[tuple[str, str]] = []
    wanted = [step for step in STEPS if step[0].endswith(".py")]
    found = threading.Event()

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and not found.is_set():
            name = (
                (str(Path(frame.f_code.co_filename).relative_to(TOP)), frame.f_code.co_name) if inside(frame) else None
            )
            if name in wanted:
                calls.append(name)
                if name == wanted[-1]:
                    found.set()

    def inside(frame: FrameType) -> bool:
        return frame.f_code.co_filename.startswith(str(TOP))

    threading.setprofile(watch)  # threads made from here on: the vCPU's
    try:
        with VirtualMachine(line.builder.finish(), default_registry(load_external=False)).build() as vm:
            threading.setprofile(None)
            vm.start_loop()
            vm.cont()
            assert found.wait(60)
    finally:
        threading.setprofile(None)
        sys.setprofile(None)
    way = iter(calls[::-1])  # from the end: the last time each step was taken before the byte was out
    for step in reversed(wanted):
        assert step in way, f"{step} was not called before what follows it: {calls[-20:]}"
