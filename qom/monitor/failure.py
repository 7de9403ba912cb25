"""What a monitor's command fails with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qom.blame import passes, place_of, shown
from qom.errors import QomError

__all__ = ["CommandError", "failures"]


class CommandError(QomError):
    """A command failed; `error_class` is QEMU's class for it.

    Args:
        text: one line.
        error_class: "GenericError", "CommandNotFound", "DeviceNotActive", "DeviceNotFound" or "KVMMissingCap".
    """

    def __init__(self, text: str, error_class: str = "GenericError") -> None:
        self.error_class = error_class
        super().__init__(text)


@contextmanager
def failures(name: str, origin: str) -> Iterator[None]:
    """What a command's handler raises in the block, QomErrors apart, becomes a CommandError that names the command.

    Args:
        name: the command.
        origin: the distribution that brought it, "" for ours.
    """
    try:
        yield
    except QomError:
        raise
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        raise CommandError(text) from error
    except BaseException as error:
        if passes(error):
            raise
        whose = f" of {origin}" if origin else ""
        raise CommandError(f"command '{name}'{whose} failed: {shown(error)}, at {place_of(error)}") from error
