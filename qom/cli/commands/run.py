"""`qom run`: build the machine in a file and run it; with `--dump FILE`, write it as a file as it is at its end.

With `--watch`, a device whose source file is edited gets its new code while the machine runs (qom/vm/reload.py), told in
one line on standard error.  With `--exits`, the exits per reason and device are shown as a table while it runs, and with
`--exits-svg FILE` as a picture at the end.
"""

from __future__ import annotations

from pathlib import Path

from qom.cli.arguments import file_and_options, value_of
from qom.cli.options import usage
from qom.cli.system import answer, run
from qom.errors import ConfigError

PROGRAM = "qom"
OWN = {
    "--dump FILE": "write the machine as a file, as it is at its end",
    "--watch": "give devices whose source file is edited their new code while the machine runs",
    "--exits": "show exits per reason, processor and device as a table while it runs",
    "--exits-svg FILE": "draw them as a picture at the end",
}
"""The options of `qom run` itself, with what they do."""
HELP = ("-h", "-help", "--help")


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    if any(word in HELP for word in argv[:2]):  # also behind a file, which need not be there
        print(usage("qom run FILE", OWN))
        return 0
    if not argv or argv[0].startswith("-"):
        own = " ".join(f"[{option}]" for option in OWN)
        raise ConfigError(f"run: no file: expected qom run FILE {own} [system options]")
    into, argv = value_of(argv, "--dump")
    picture, argv = value_of(argv, "--exits-svg")
    for option, name in (("--dump", into), ("--exits-svg", picture)):  # said now, not when the machine has run
        if name is not None and not Path(name).parent.is_dir():
            raise ConfigError(f"cannot be written: '{Path(name).parent}' is no folder", f"{option} {name}")
    watch, exits = "--watch" in argv, "--exits" in argv
    argv = [word for word in argv if word not in ("--watch", "--exits")]
    line = file_and_options(argv)
    if line.help_for is not None:
        return answer(line.help_for)
    return run(line.builder.finish(), PROGRAM, dump_into=into, watch=watch, exits=exits, picture=picture)
