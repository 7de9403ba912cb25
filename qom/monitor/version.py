"""The version that monitors tell, and their greeting."""

from __future__ import annotations

from qom import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["QEMU_VERSION", "greeting", "version_info"]

QEMU_VERSION = (7, 2, 22)
"""The QEMU whose protocol this is: clients look at it to know which commands and arguments to expect."""


def version_info() -> dict[str, Any]:
    """What the greeting and query-version say."""
    major, minor, micro = QEMU_VERSION
    return {"qemu": {"micro": micro, "minor": minor, "major": major}, "package": f"qom {__version__}"}


def greeting() -> bytes:
    """What a client is told first, on one line; put together by hand, so that it does not wait for the JSON library."""
    major, minor, micro = QEMU_VERSION
    version = f'{{"qemu": {{"micro": {micro}, "minor": {minor}, "major": {major}}}, "package": "qom {__version__}"}}'
    return f'{{"QMP": {{"version": {version}, "capabilities": ["oob"]}}}}\r\n'.encode()
