"""`qom-system-x86_64`: build the machine the command line describes, and run it until it ends.

Exit status: the machine's own, 1 for anything wrong (one line on stderr), 0 for help and version.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from qom import __version__
from qom.cli.exit_options import EXIT_OPTIONS, ExitsAsked, take_exits
from qom.cli.options import WITH_ARGUMENT, CommandLine, log_help, usage
from qom.cli.session import current, take
from qom.errors import QomError
from qom.registry import GlobalProperty

if TYPE_CHECKING:
    from qom.config import MachineConfig
    from qom.registry import TypeRegistry
    from qom.vm.vm import VirtualMachine

PROGRAM = "qom-system-x86_64"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; `argv` without the program's name."""
    return guarded(PROGRAM, lambda: _main(sys.argv[1:] if argv is None else argv))


def guarded(program: str, body: Callable[[], int]) -> int:
    """Run `body`, turning what is the user's business into one line on stderr and status 1."""
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a character the terminal's encoding lacks is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = body()
        sys.stdout.flush()
    except QomError as error:
        return complain(program, str(error))
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from finding that out again while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return complain(
            program, f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        )
    except KeyboardInterrupt:
        return complain(program, "interrupted")
    return status


def _open_standard_streams() -> None:
    """Let standard input, output and error that were closed (`>&-`) lead nowhere; their numbers are not taken by others."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def complain(program: str, text: str) -> int:
    """One line on stderr; the status for it."""
    print(f"{program}: {' '.join(text.split())}", file=sys.stderr)
    return 1


def _main(words: Sequence[str]) -> int:
    session, argv = take(words, WITH_ARGUMENT)
    with session.active():
        return _system(argv)


def parse(argv: Sequence[str]) -> tuple[CommandLine, ExitsAsked]:
    """What the words say of the machine, and of how it is to be run.  Raises ConfigError."""
    exits, argv = take_exits(argv)
    return CommandLine().parse(argv), exits


def _system(argv: list[str]) -> int:
    line, exits = parse(argv)
    if line.show:
        own = {f"-{option}": text for option, text in EXIT_OPTIONS.items()}
        print(f"{PROGRAM} version {__version__}" if line.show == "version" else usage(PROGRAM, own))
        return 0
    if line.help_for is not None:
        return answer(line.help_for)
    return run(line.builder.finish(), PROGRAM, exits=exits)


def answer(question: tuple[str, str]) -> int:
    """Print what `-device help` and the like ask for."""
    if question[0] == "log":
        print(log_help())
        return 0
    from qom.cli.help import help_text

    print(help_text(registry(), *question))
    return 0


def registry(program: str | None = None) -> TypeRegistry:
    """The types of this run; with `program`, a line on stderr for every plugin that was wanted and could not be loaded."""
    made = current().registry()
    if program is not None:
        for row in made.plugins:
            if row.status != "loaded" and not row.by_choice:
                complain(program, f"plugin '{row.name}' of {row.source} is {row.status}: {row.reason}")
    return made


@contextlib.contextmanager
def machine(config: MachineConfig, program: str, *, inert: bool = False) -> Iterator[VirtualMachine]:
    """The machine that `config` describes, built and not running; nothing of it remains afterwards.

    inert: it is only to be looked at, and touches nothing outside.
    """
    from qom.vm.vm import VirtualMachine

    types = registry(program)
    for entry in config.globals:
        types.check_global(GlobalProperty(entry.driver, entry.property, entry.value, entry.origin))
    vm = VirtualMachine(config, types, inert=inert)
    vm.announce = lambda text: print(f"{program}: {text}", file=sys.stderr, flush=True)
    try:
        vm.build()
        yield vm
    finally:
        vm.close()


def run(
    config: MachineConfig,
    program: str,
    dump_into: str | None = None,
    *,
    watch: bool = False,
    exits: ExitsAsked | None = None,
) -> int:
    """Build the machine and run it; its exit status.

    dump_into: a file to write the machine into at its end.  watch: exchange the code of devices whose source changes.
    exits: whether to show the exits per reason and device while it runs, and to draw them at the end.
    """
    if dump_into is not None:
        from qom.config.write import dumps, format_of

        format = format_of(dump_into)
    with machine(config, program) as vm, _signals(vm, program):
        if watch:
            from qom.vm.reload import SourceWatch

            SourceWatch(vm, lambda line: print(f"{program}: {line}", file=sys.stderr, flush=True))
        with contextlib.ExitStack() as around:
            if exits:
                from qom.cli.exits import watching_exits

                around.enter_context(watching_exits(vm, table=exits.table, picture=exits.picture))
            status = vm.run()
        if dump_into is not None:
            text = dumps(vm.dump(), format, vm.registry)
            with open(dump_into, "w", encoding="utf-8") as file:
                file.write(text)
        return status


@contextlib.contextmanager
def _signals(vm: VirtualMachine, program: str) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the machine in good order while it runs."""

    import signal  # its names are made into enumerations when it is imported: not before the monitors greet

    asked = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:  # something keeps the main loop, or the lock that it waits for
            raise KeyboardInterrupt
        asked = True
        print(f"{program}: terminating on signal {number}", file=sys.stderr)
        vm.main_loop.call_soon_threadsafe(lambda: vm.request_shutdown("host-signal"))

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
