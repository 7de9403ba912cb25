"""`qom run FILE --exits`, `qom-system-x86_64 -exits`: the exit table while a machine runs, on standard error.

On a terminal the table stays in the upper half, drawn anew every second; what else is written there, such as the guest's
serial console, scrolls below it.  Anywhere else the table is written once, at the end.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from qom.show.exits import exits_svg, exits_text
from qom.vm.exits import ExitSample, ExitWatch

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["watching_exits"]

EVERY: Final = 1.0  # seconds of host time
SMALLEST: Final = 12  # lines of a terminal that is worth dividing


@contextmanager
def watching_exits(
    vm: VirtualMachine, *, table: bool, picture: str | None, out: TextIO | None = None
) -> Iterator[None]:
    """Count exits of a built machine inside the `with`.

    table: show them on `out` (standard error), live if that is a terminal.  picture: the file for the SVG at the end.
    """
    out = sys.stderr if out is None else out
    watch = ExitWatch(vm)
    watch.sample()
    pane = _Pane(out) if table and out.isatty() else None
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(watch, pane, ended), name="exit table", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        last = watch.sample()
        watch.close()
        if pane is not None:
            pane.close()
        if table:
            print("\n".join(exits_text(last, width=_size(out)[0])), file=out, flush=True)
        if picture is not None:
            name = vm.config.name
            title = f"Why the processors of {name} left the guest" if name else "Why the processors left the guest"
            Path(picture).write_text(exits_svg(watch.samples, title), encoding="utf-8")


def _follow(watch: ExitWatch, pane: _Pane | None, ended: threading.Event) -> None:
    before: ExitSample | None = None
    while not ended.wait(EVERY):
        now = watch.sample()
        if pane is not None:
            pane.draw(now, before)
        before = now


def _size(out: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal; what is common where it is none, or does not know them (0)."""
    try:
        found = os.get_terminal_size(out.fileno())
    except (OSError, ValueError):
        return 120, 40
    return found.columns or 120, found.lines or 40


class _Pane:
    """The upper part of a terminal, kept from scrolling (DECSTBM); the cursor is put back where it was."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.lines = 0

    def draw(self, sample: ExitSample, before: ExitSample | None) -> None:
        columns, lines = _size(self.out)
        height = lines // 2
        if lines < SMALLEST:
            return
        text = exits_text(sample, before, width=columns - 1, height=height - 1)
        begin = "" if self.lines == lines else f"\x1b[2J\x1b[{height + 1};{lines}r\x1b[{lines};1H"
        self.lines = lines
        rows = [*text, *[""] * (height - 1 - len(text)), "─" * (columns - 1)]
        drawn = "".join(f"\x1b[{n};1H\x1b[2K{row}" for n, row in enumerate(rows[:height], 1))
        self.out.write(f"{begin}\x1b7{drawn}\x1b8")
        self.out.flush()

    def close(self) -> None:
        """Give the whole terminal back, the cursor under everything."""
        if self.lines:
            self.out.write(f"\x1b[r\x1b[{self.lines};1H\n")
            self.out.flush()
