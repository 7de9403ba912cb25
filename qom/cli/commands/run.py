"""`qom run`: build the machine in a file and run it; with `--dump FILE`, write it as a file as it is at its end.

With `--watch`, a device whose source file is edited gets its new code while the machine runs (qom/vm/reload.py), told in
one line on standard error.  With `--exits`, the exits per reason and device are shown as a table while it runs, and with
`--exits-svg FILE` as a picture at the end.
"""

from __future__ import annotations

import attrs

from qom.cli.arguments import file_and_options, value_of
from qom.cli.exit_options import EXIT_OPTIONS, ExitsAsked, take_exits, writable
from qom.cli.options import CommandLine, usage
from qom.cli.system import answer, run
from qom.errors import ConfigError

PROGRAM = "qom"
OWN = {
    "--dump FILE": "write the machine as a file, as it is at its end",
    "--watch": "give devices whose source file is edited their new code while the machine runs",
    **{f"--{option}": text for option, text in EXIT_OPTIONS.items()},
}
"""The options of `qom run` itself, with what they do."""
HELP = ("-h", "-help", "--help")


@attrs.frozen
class Request:
    """What `qom run` is asked for: the machine, and the command's own options as `run()` takes them."""

    line: CommandLine
    dump_into: str | None
    watch: bool
    exits: ExitsAsked


def parse(argv: list[str]) -> Request:
    """The command's words, of which the first is the file.

    Raises:
        ConfigError: an option or the file is wrong.
    """
    into, argv = value_of(argv, "--dump")
    exits, argv = take_exits(argv)
    if into is not None:
        writable("--dump", into)
    words = [word for word in argv if word != "--watch"]
    return Request(file_and_options(words), into, "--watch" in argv, exits)


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    if any(word in HELP for word in argv[:2]):  # also behind a file, which need not be there
        print(usage("qom run FILE", OWN))
        return 0
    if not argv or argv[0].startswith("-"):
        own = " ".join(f"[{option}]" for option in OWN)
        raise ConfigError(f"run: no file: expected qom run FILE {own} [system options]")
    asked = parse(argv)
    if asked.line.help_for is not None:
        return answer(asked.line.help_for)
    config = asked.line.builder.finish()
    return run(config, PROGRAM, dump_into=asked.dump_into, watch=asked.watch, exits=asked.exits)
