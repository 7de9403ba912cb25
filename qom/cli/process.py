"""What the process of a machine does besides: its number in a file, its names, going on in the background.

Only imported when a configuration asks for any of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qom.errors import ConfigError

if TYPE_CHECKING:
    from qom.config import MachineConfig

__all__ = ["Background", "check", "go_to_background", "name_threads", "named", "pidfile"]

NAME_MAX = 15  # characters that Linux keeps of a name
READY = b"1"
UMASK = 0o027


def check(config: MachineConfig) -> None:
    """Raise ConfigError for what cannot be done in the background."""
    origin = config.origin_of("daemonize")
    if config.nographic:
        raise ConfigError("-nographic cannot be used with -daemonize: expected -display none", origin)
    if config.preconfig:
        raise ConfigError("-preconfig cannot be used with -daemonize, which waits for the machine", origin)
    for entry in config.chardevs:
        if entry.backend == "stdio":
            raise ConfigError("standard input and output cannot be used with -daemonize", entry.origin or origin)


class Background:
    """The side of `go_to_background` that goes on.

    Args:
        pipe: where the other side waits for a word.
    """

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ready(self) -> None:
        """The machine is there: whoever started us goes home, and we are nobody's child, on no terminal, in no folder."""
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in range(3):
            os.dup2(nowhere, number)
        os.close(nowhere)
        os.chdir("/")
        with contextlib.suppress(BrokenPipeError):  # nobody waits any more
            os.write(self._pipe, READY)
        os.close(self._pipe)


def go_to_background() -> Background | int:
    """Fork: what comes back is the new process's `Background`, or in the old one the status to end with.

    The old process waits until the new one is `ready`, or has ended, which is status 1; errors up to then go to its standard
    error.  Nothing may be open yet, and no thread may run.
    """
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return 0 if said == READY else 1
    os.close(read)
    os.setsid()
    if os.fork():
        os._exit(0)  # so that the one that goes on can never get a terminal
    os.umask(UMASK)
    for number in (signal.SIGTSTP, signal.SIGTTOU, signal.SIGTTIN):
        signal.signal(number, signal.SIG_IGN)
    return Background(write)


@contextlib.contextmanager
def pidfile(path: str, origin: str) -> Iterator[None]:
    """Have the number of this process in a file, which goes with the block; another process cannot have it meanwhile.

    Raises:
        ConfigError: it cannot be written, or is another's.
    """
    path = os.path.abspath(path)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    try:
        fd = _locked(path)
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        held = error.errno in (errno.EAGAIN, errno.EACCES) and os.access(path, os.W_OK)
        reason = "another process that runs has it" if held else error.strerror
        raise ConfigError(f"cannot create the PID file '{path}': {reason}", origin) from None
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a signal that came meanwhile finds the file to be removed
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % os.getpid())
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(fd)


def _locked(path: str) -> int:
    """The file at `path`, open and locked; another that replaced it meanwhile is not it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def named(name: str) -> None:
    """Call this process so, as the host's lists of processes show it."""
    Path("/proc/self/comm").write_bytes(name.encode()[:NAME_MAX])


def name_threads() -> None:
    """Have the host show the names of the threads that there are."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.native_id is not None:
            with contextlib.suppress(OSError):  # it ended meanwhile
                Path(f"/proc/self/task/{thread.native_id}/comm").write_bytes(thread.name.encode()[:NAME_MAX])
