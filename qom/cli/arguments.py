"""What the commands of `qom` share in reading their arguments."""

from __future__ import annotations

from qom.cli.options import CommandLine
from qom.config import MachineConfig


def file_and_options(argv: list[str]) -> CommandLine:
    """`[FILE.toml] [system options]`: the file first, then what the options add or replace."""
    line = CommandLine()
    rest = list(argv)
    if rest and not rest[0].startswith("-"):
        from qom.config import read_toml

        read_toml(line.builder, rest.pop(0))
    return line.parse(rest)


def quiet(argv: list[str]) -> MachineConfig:
    """The configuration to look at: back ends on stdio are left out, since nothing will run."""
    config = file_and_options(argv).builder.finish()
    for chardev in config.chardevs:
        if chardev.backend == "stdio":
            chardev.backend, chardev.props = "null", {}
    return config
