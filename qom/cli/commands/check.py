"""`qom check`: everything that is wrong with machine files, without building anything."""

from __future__ import annotations

import json

import attrs

from qom.cli.arguments import take_variables
from qom.cli.system import registry
from qom.config.check import Problem, check
from qom.errors import ConfigError

PROGRAM = "qom"


def main(argv: list[str]) -> int:
    """The command; `argv` without its name.

    Prints a line for every problem, or "FILE: ok"; with `--json` a list of objects with the fields of `Problem`.

    Returns:
        1 when anything is wrong, else 0.

    Raises:
        ConfigError: an argument is wrong.
    """
    variables, words = take_variables(argv)
    files = [word for word in words if word != "--json"]
    for word in files:
        if word.startswith("-"):
            raise ConfigError("unknown option: expected FILE... [--var NAME=VALUE] [--json]", word)
    if not files:
        raise ConfigError("check: no file: expected qom check FILE... [--var NAME=VALUE] [--json]")
    types = registry(PROGRAM)
    found: list[Problem] = []
    for file in files:
        problems = check(file, types, variables)
        found += problems
        if "--json" not in words:
            print("\n".join(map(str, problems)) or f"{file}: ok")
    if "--json" in words:
        print(json.dumps([attrs.asdict(problem) for problem in found], indent=2))
    return 1 if found else 0
