"""A machine for tests of the monitor for people."""

from __future__ import annotations

from collections.abc import Callable

from qom.cli.options import CommandLine
from qom.plugins import default_registry
from qom.vm import VirtualMachine

Ask = Callable[[str], str]
"""Gives a command; what it shows."""


def made(*words: str) -> VirtualMachine:
    """A built machine of this command line, not running."""
    line = CommandLine().parse(["-nodefaults", "-display", "none", "-serial", "none", *words])
    return VirtualMachine(line.builder.finish(), default_registry(load_external=False)).build()
