"""`qom graph`: a machine as a picture (SVG), or the same as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qom import show
from qom.cli.arguments import looked_at
from qom.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine


View = Callable[["VirtualMachine"], str]
KINDS: Final[dict[str, tuple[View, View]]] = {
    "tree": (lambda vm: show.tree_svg(vm.root), lambda vm: show.tree_text(vm.root)),
    "buses": (show.bus_svg, show.bus_text),
    "memory": (show.memory_svg, show.memory_text),
    "interrupts": (show.wiring_svg, show.wiring_text),
}
"""By name: the picture, and the same as text."""


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    kind, output, text, rest = "tree", "", False, []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("--kind", "-o"):
            if not words:
                raise ConfigError(f"graph: {word}: an argument is missing: expected {_expected(word)}")
            if word == "--kind":
                kind = words.pop(0)
            else:
                output = words.pop(0)
        elif word == "--text":
            text = True
        else:
            rest.append(word)
    if kind not in KINDS:
        raise ConfigError(
            f"graph: --kind: cannot be '{kind}': expected {_expected('--kind')}{did_you_mean(kind, KINDS)}"
        )
    with looked_at(rest) as vm:
        shown = KINDS[kind][text](vm)
    if output and output != "-":
        Path(output).write_text(shown if shown.endswith("\n") else shown + "\n", encoding="utf-8")
    else:
        print(shown.rstrip("\n"))
    return 0


def _expected(word: str) -> str:
    return "a file name" if word == "-o" else f"one of {', '.join(KINDS)}"
