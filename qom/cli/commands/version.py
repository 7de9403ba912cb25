"""`qom version`: print the version."""

from __future__ import annotations

from qom import __version__
from qom.errors import ConfigError


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    if argv:
        raise ConfigError(f"version: unknown argument '{argv[0]}': expected nothing")
    print(f"qom {__version__}")
    return 0
