"""Named pipes as a character back end: PATH.in for input and PATH.out for output, or one PATH for both.

They are opened for reading and writing, so that it does not matter whether or when somebody has the other end open; output
that nobody reads waits in the pipe, and when that is full, in the guest.
"""

from __future__ import annotations

import os

from qom import REQUIRED, prop, type_init
from qom.vm import FdChardev


@type_init("chardev-pipe")
class PipeChardev(FdChardev):
    """A pair of named pipes, or one for both directions."""

    pipe_path: str = prop(REQUIRED, "Path of the pipes without .in and .out, or of the one pipe", name="path")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Named pipes"

    def open_end(self) -> None:
        """Open the pair, else the one."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK
        fds: list[int] = []
        try:
            for suffix in (".in", ".out"):
                fds.append(self.open_file(self.pipe_path + suffix, flags, 0))
        except OSError:
            for fd in fds:
                os.close(fd)
            try:
                fd = self.open_file(self.pipe_path, flags, 0)
            except OSError as error:
                raise self.failure(
                    f"open pipe '{self.pipe_path}', nor '{self.pipe_path}.in' and '.out'", error
                ) from None
            fds = [fd, fd]
        self.attach_fds(*fds)
