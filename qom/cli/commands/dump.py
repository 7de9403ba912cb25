"""`qom dump`: build a machine and write it back as a file."""

from __future__ import annotations

import attrs

from qom.cli.arguments import deliver, file_and_options, value_of
from qom.cli.system import machine
from qom.config import MachineConfig
from qom.config.write import dumps, format_of

PROGRAM = "qom"


def main(argv: list[str]) -> int:
    """The command; `argv` without its name.

    Raises:
        ConfigError: an argument is wrong.
        QomError: the machine cannot be built.
    """
    output, rest = value_of(argv, "-o", "--output")
    format, rest = value_of(rest, "--format")
    format = format or format_of(output or "")
    config = file_and_options(rest).builder.finish()
    with machine(_hushed(config), PROGRAM) as vm:
        text = dumps(_voiced(vm.dump(), config), format, vm.registry)
    deliver(text, output)
    return 0


def _hushed(config: MachineConfig) -> MachineConfig:
    """The configuration without anybody on standard input and output, since nothing will run."""
    silent = [attrs.evolve(c, backend="null", props={}) if c.backend == "stdio" else c for c in config.chardevs]
    return attrs.evolve(config, chardevs=silent)


def _voiced(made: MachineConfig, config: MachineConfig) -> MachineConfig:
    """Undo `_hushed` in what was read back."""
    loud = {c.id: c for c in config.chardevs if c.backend == "stdio"}
    return attrs.evolve(made, chardevs=[loud.get(c.id, c) for c in made.chardevs])
