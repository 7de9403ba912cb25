"""What the commands of `qom` share in reading their arguments."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from qom.cli.options import CommandLine
from qom.cli.system import machine
from qom.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine


def file_and_options(argv: list[str]) -> CommandLine:
    """`[FILE] [--var NAME=VALUE]... [system options]`: the file first, then what the options add or replace.

    Raises:
        ConfigError: the file or an option is wrong.
    """
    line = CommandLine()
    if argv and not argv[0].startswith("-"):
        line.file, argv = argv[0], argv[1:]
    return line.parse(argv)


def take_variables(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """The values that `--var NAME=VALUE` gives the variables of a file, and the other arguments.

    Raises:
        ConfigError: a `--var` is not of that form, or two are for one variable.
    """
    words = iter(argv)
    line = CommandLine()
    rest = []
    for word in words:
        if word not in ("--var", "-var"):
            rest.append(word)
            continue
        given = next(words, None)
        if given is None:
            raise ConfigError("an argument is missing: expected NAME=VALUE", word)
        line.set_variable(given, f"{word} {given}")
    return line.variables, rest


def looked_at(argv: list[str]) -> AbstractContextManager[VirtualMachine]:
    """The machine that `[FILE] [system options]` says, built to be looked at: nothing outside is opened or changed."""
    return machine(file_and_options(argv).builder.finish(), "qom", inert=True)


def value_of(argv: list[str], *names: str) -> tuple[str | None, list[str]]:
    """The value of an option of the command itself, under any of its names, and the arguments without it.

    Raises:
        ConfigError: the value is missing, or the option is given twice.
    """
    value, rest, words = None, [], iter(argv)
    for word in words:
        if word not in names:
            rest.append(word)
            continue
        if value is not None:
            raise ConfigError("is given twice", word)
        value = next(words, None)
        if value is None:
            raise ConfigError("an argument is missing", word)
    return value, rest


def deliver(text: str, output: str | None) -> None:
    """Write `text` into the file `output`, or print it if that is None or "-"."""
    if output is None or output == "-":
        print(text, end="")
    else:
        Path(output).write_text(text, encoding="utf-8")
