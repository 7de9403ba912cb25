"""`qom dump`: build a machine and write it back as a file."""

from __future__ import annotations

from qom.cli.arguments import deliver, looked_at, value_of
from qom.config.write import dumps, format_of


def main(argv: list[str]) -> int:
    """The command; `argv` without its name.

    Raises:
        ConfigError: an argument is wrong.
        QomError: the machine cannot be built.
    """
    output, rest = value_of(argv, "-o", "--output")
    format, rest = value_of(rest, "--format")
    format = format or format_of(output or "")
    with looked_at(rest) as vm:
        text = dumps(vm.dump(), format, vm.registry)
    deliver(text, output)
    return 0
