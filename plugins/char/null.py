"""Null character back end: takes everything, says nothing."""

from __future__ import annotations

from qom import Chardev, type_init


@type_init("chardev-null")
class NullChardev(Chardev):
    """A port with nobody on the other side."""

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Discards output, has no input"

    def write(self, data: bytes) -> int:
        """Take and forget `data`."""
        return len(data)
