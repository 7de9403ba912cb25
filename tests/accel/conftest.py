"""Both accelerators for the same tests."""

from collections.abc import Iterator

import pytest
from accel_guest import TRANSPORTS, Guest

from accel.handles import SystemHandle
from qom.errors import AccelError


@pytest.fixture(params=sorted(TRANSPORTS))
def system(request: pytest.FixtureRequest) -> Iterator[SystemHandle]:
    try:
        handle = TRANSPORTS[request.param]()
    except AccelError as error:
        pytest.skip(str(error))
    with handle:
        yield handle


@pytest.fixture
def guest(system: SystemHandle) -> Guest:
    return Guest(system)
