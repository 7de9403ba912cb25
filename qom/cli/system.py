"""`qom-system-x86_64`: build the machine the command line describes, and run it until it ends.

Exit status: the machine's own, 1 for anything wrong (one line on stderr), 0 for help and version.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enumerations when imported: that takes a while
import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from qom import __version__
from qom.cli.exit_options import EXIT_OPTIONS, ExitsAsked, take_exits
from qom.cli.options import WITH_ARGUMENT, CommandLine, log_help, trace_help, usage
from qom.cli.session import current, take
from qom.errors import QomError
from qom.registry import GlobalProperty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

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
        _nobody_reads()
        return 1
    except OSError as error:
        return complain(
            program, f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        )
    except KeyboardInterrupt:
        return complain(program, "interrupted")
    return status


def _nobody_reads() -> None:
    """Whoever read our output has gone; keep the interpreter from finding that out again while it shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(text: str) -> None:
    """Print what was asked for; whoever reads no further (`| head -1`) has got what they wanted."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _nobody_reads()


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
    with contextlib.suppress(OSError):  # nobody reads it
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
        tell(version() if line.show == "version" else usage(PROGRAM, own))
        return 0
    if line.help_for is not None:
        return answer(line.help_for)
    return run(line.builder.finish(), PROGRAM, exits=exits)


def version() -> str:
    """What `-version` prints; programs that start a QEMU look for the second half."""
    from qom.monitor.version import QEMU_VERSION

    return f"{PROGRAM} version {__version__} (compatible with QEMU emulator version {'.'.join(map(str, QEMU_VERSION))})"


def answer(question: tuple[str, str]) -> int:
    """Print what `-device help` and the like ask for."""
    if question[0] == "log":
        tell(log_help())
        return 0
    if question[0] == "trace":
        tell(trace_help())
        return 0
    if question[0] == "L":
        from plugins.firmware import firmware_folders

        tell("\n".join(map(str, firmware_folders())))
        return 0
    from qom.cli.help import help_text

    tell(help_text(registry(), *question))
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
def machine(
    config: MachineConfig,
    program: str,
    *,
    inert: bool = False,
    made: Callable[[VirtualMachine], None] = lambda vm: None,
) -> Iterator[VirtualMachine]:
    """The machine that `config` describes, built and not running; nothing of it remains afterwards.

    inert: it is only to be looked at, and touches nothing outside.  made: is given the machine before it is built.
    """
    from qom.vm.pauses import quick_start
    from qom.vm.vm import VirtualMachine

    types = registry(program)
    for entry in config.globals:
        types.check_global(GlobalProperty(entry.driver, entry.property, entry.value, entry.origin))
    vm = VirtualMachine(config, types, inert=inert)
    vm.announce = lambda text: print(f"{program}: {text}", file=sys.stderr, flush=True)
    vm.redirected = lambda text: print(text, flush=True)  # where, and as, programs that start QEMU look for it
    if config.msg:
        vm.report = lambda text: print(f"{program}: {text}", file=sys.stderr, flush=True)
    made(vm)
    try:
        with quick_start():
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
    try:
        return _run(config, Messages(program, config), dump_into, watch=watch, exits=exits)
    except QomError as error:
        return complain(str(Messages(program, config)), str(error))
    except Killed as error:
        return SIGNALLED + error.number


def _run(
    config: MachineConfig,
    program: Messages,
    dump_into: str | None,
    *,
    watch: bool,
    exits: ExitsAsked | None,
) -> int:
    if dump_into is not None:
        from qom.config.write import dumps, format_of

        format = format_of(dump_into)
    with contextlib.ExitStack() as outside:
        background = None
        if config.daemonize:
            from qom.cli import process

            process.check(config)
            dump_into = os.path.abspath(dump_into) if dump_into is not None else None
            forked = process.go_to_background()
            if isinstance(forked, int):
                return forked
            background = forked
        if config.process is not None:
            from qom.cli import process

            process.named(config.process)
        signals = outside.enter_context(_Signals(program))
        if config.pidfile is not None:
            from qom.cli import process

            outside.enter_context(process.pidfile(config.pidfile, config.origin_of("pidfile")))
        with machine(config, program, made=signals.serve) as vm:
            if config.debug_threads:
                from qom.cli import process

                process.name_threads()
            if watch:
                from qom.vm.reload import SourceWatch

                SourceWatch(vm, lambda line: print(f"{program}: {line}", file=sys.stderr, flush=True))
            with contextlib.ExitStack() as around:
                if exits:
                    from qom.cli.exits import watching_exits

                    around.enter_context(watching_exits(vm, table=exits.table, picture=exits.picture))
                if background is not None:
                    background.ready()
                status = vm.run()
            signals.over()
            if dump_into is not None:
                text = dumps(vm.dump(), format, vm.registry)
                with open(dump_into, "w", encoding="utf-8") as file:
                    file.write(text)
            return status
    raise AssertionError("a block above returns")


class Messages(str):
    """The program's name as messages begin with it: `-msg` has the date and the machine's name before it."""

    __slots__ = ("_config",)
    _config: MachineConfig

    def __new__(cls, program: str, config: MachineConfig) -> Messages:
        """`program`: the name alone."""
        made = super().__new__(cls, program)
        made._config = config
        return made

    def __str__(self) -> str:
        head, msg = "", self._config.msg
        if msg.get("timestamp"):
            import datetime

            now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
            head = f"{now.isoformat(timespec='microseconds')}Z "
        if msg.get("guest-name") and self._config.name:
            head += f"{self._config.name} "
        return head + super().__str__()

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


SIGNALS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
"""Signals that end the program in good order."""

SIGNALLED = 128
"""With a signal's number added: the status of a program that was killed before its machine was there, as shells show it."""


class Killed(KeyboardInterrupt):
    """A signal that ends the program came while the machine was being built."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Signals:
    """SIGINT, SIGTERM and SIGHUP end the machine in good order: by a shutdown when it is there, else what was built goes."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._vm: VirtualMachine | None = None
        self._asked = False
        self._over = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = _signal.signal(number, self._came)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            _signal.signal(number, handler)

    def serve(self, vm: VirtualMachine) -> None:
        """This machine is the one to end."""
        self._vm = vm

    def over(self) -> None:
        """It has ended; let what remains be done in peace."""
        self._over = True

    def _came(self, number: int, frame: FrameType | None) -> None:
        again, self._asked = self._asked, True
        if again and number == _signal.SIGINT:  # something keeps the main loop, or the lock that it waits for
            raise KeyboardInterrupt
        if again or self._over:
            return
        with contextlib.suppress(OSError):
            os.write(2, f"{self._program}: terminating on signal {number}\n".encode())
        vm = self._vm
        if vm is None or not (vm.served or vm.closed):
            raise Killed(number)
        vm.main_loop.call_soon_threadsafe(lambda: vm.request_shutdown("host-signal"))


if __name__ == "__main__":
    sys.exit(main())
