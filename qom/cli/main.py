"""`qom`: run machines from files, and look at what there is.  The commands are in `qom/cli/commands`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from qom.cli.commands import COMMANDS
from qom.cli.options import WITH_ARGUMENT
from qom.cli.session import PLUGIN_CHOICE, take
from qom.cli.system import guarded
from qom.errors import ConfigError, did_you_mean

PROGRAM = "qom"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; `argv` without the program's name."""
    return guarded(PROGRAM, lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(words: Sequence[str]) -> int:
    session, argv = take(words, WITH_ARGUMENT)
    with session.active():
        return _command(argv)


def _command(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 1
    name = {"--version": "version", "-version": "version"}.get(argv[0], argv[0])
    if name.startswith("-"):
        near = did_you_mean(name.lstrip("-"), ("help", "version", *PLUGIN_CHOICE))
        raise ConfigError(f"unknown option{near or ': expected a command; `qom help` lists them'}", name)
    if name not in COMMANDS:
        raise ConfigError(f"unknown command '{name}'{did_you_mean(name, COMMANDS)}; `qom help` lists them")
    if argv[1:2] in (["-h"], ["-help"], ["--help"]) and name != "run":  # `qom run --help` lists the system options
        print(f"usage: qom {name} {COMMANDS[name].arguments}".rstrip() + f"\n\n{COMMANDS[name].help}")
        return 0
    return int(importlib.import_module(f"qom.cli.commands.{name}").main(argv[1:]))


def _usage() -> str:
    lines = ["usage: qom COMMAND ...", ""]
    for name, command in COMMANDS.items():
        lines.append(_row(f"{name} {command.arguments}", command.help))
    lines += ["", "With every command:"]
    for name, choice in PLUGIN_CHOICE.items():
        lines.append(_row(f"--{name} {choice.argument}", choice.help))
    return "\n".join([*lines, "", "`qom-system-x86_64 -help` lists the system options."])


def _row(head: str, text: str) -> str:
    head = f"  {head}".rstrip()
    return f"{head:52} {text}" if len(head) <= 52 else f"{head}\n{'':52} {text}"


if __name__ == "__main__":
    sys.exit(main())
