"""What devices may ask of the system they are part of: the machine and the benches serve all of it, in the same words."""

from __future__ import annotations

import inspect

import pytest

from qom.hw import SystemControl
from qom.testing import RecordingSystem
from qom.vm import VirtualMachine


@pytest.mark.parametrize("served_by", [RecordingSystem, VirtualMachine])
def test_all_of_it_is_served(served_by: type) -> None:
    for name, asked in inspect.getmembers(SystemControl, inspect.isfunction):
        if not name.startswith("_"):
            served = inspect.signature(getattr(served_by, name)).parameters
            wanted = inspect.signature(asked).parameters
            assert [(p.name, p.kind) for p in served.values()] == [(p.name, p.kind) for p in wanted.values()], name
