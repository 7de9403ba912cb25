"""File character back end: output goes to a file, input comes from another or from nowhere."""

from __future__ import annotations

import os

from qom import REQUIRED, prop, type_init
from qom.vm import FdChardev


@type_init("chardev-file")
class FileChardev(FdChardev):
    """Writes to `path`; reads `input-path` once, if given."""

    output_path: str = prop(REQUIRED, "File that output is written to", name="path")
    append: bool = prop(False, "Write after what the file holds, instead of replacing it")
    input_path: str = prop("", "File that input is read from; empty: there is no input")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Output to a file"

    def instance_init(self) -> None:
        """Start with no error."""
        self.error = ""  # why output stopped (a full disk, say)

    def open_end(self) -> None:
        """Open the output file, and the input file if there is one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_APPEND if self.append else os.O_TRUNC)
        try:
            fd_out = self.open_file(self.output_path, flags, 0o666)
        except OSError as error:
            raise self.failure(f"open '{self.output_path}' for writing", error) from None
        fd_in = -1
        if self.input_path:
            try:
                fd_in = self.open_file(self.input_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, 0)
            except OSError as error:
                os.close(fd_out)
                raise self.failure(f"open '{self.input_path}' for reading", error) from None
        self.attach_fds(fd_in, fd_out)

    def input_ended(self) -> None:
        """The input file was read; output goes on."""
        self.stop_input()

    def output_failed(self, error: OSError) -> None:
        """Note why; input goes on."""
        self.error = str(self.failure(f"write to '{self.output_path}'", error))
        self.stop_output()
