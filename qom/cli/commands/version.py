"""`qom version`: print the version."""

from __future__ import annotations

from qom import __version__


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    print(f"qom {__version__}")
    return 0
