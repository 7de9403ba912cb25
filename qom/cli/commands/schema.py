"""`qom schema`: the format of machine files, or of board files, as a JSON Schema for editors."""

from __future__ import annotations

import json

from qom.board.schema import board_schema
from qom.cli.arguments import deliver, value_of
from qom.cli.system import registry
from qom.config.schema import file_schema, type_schema
from qom.errors import ConfigError

PROGRAM = "qom"


def main(argv: list[str]) -> int:
    """The command; `argv` without its name.

    Raises:
        ConfigError: an argument is wrong, or the type is none that a file names.
    """
    output, rest = value_of(argv, "-o", "--output")
    name, rest = value_of(rest, "--type")
    board = "--board" in rest
    rest = [word for word in rest if word != "--board"]
    if rest:
        raise ConfigError(f"schema: unknown argument '{rest[0]}': expected [--board | --type NAME] [-o FILE]")
    if board and name is not None:
        raise ConfigError("schema: --board and --type exclude each other: expected one of them")
    types = registry(PROGRAM)
    whole = board_schema if board else file_schema
    schema = whole(types) if name is None else type_schema(types, name)
    deliver(json.dumps(schema, indent=2) + "\n", output)
    return 0
