"""What the commands of `qom` share in reading their arguments."""

from __future__ import annotations

from qom.cli.options import CommandLine
from qom.config import MachineConfig


def file_and_options(argv: list[str]) -> CommandLine:
    """`[FILE] [--var NAME=VALUE]... [system options]`: the file first, then what the options add or replace.

    Raises:
        ConfigError: the file or an option is wrong.
    """
    line = CommandLine()
    if argv and not argv[0].startswith("-"):
        line.file, argv = argv[0], argv[1:]
    return line.parse(argv)


def quiet(argv: list[str]) -> MachineConfig:
    """The configuration to look at: back ends on stdio are left out, since nothing will run."""
    config = file_and_options(argv).builder.finish()
    for chardev in config.chardevs:
        if chardev.backend == "stdio":
            chardev.backend, chardev.props = "null", {}
    return config
