"""While a machine runs in `run`, the garbage collector leaves alone what was there before."""

import gc
import sys

import pytest

from qom.vm.pauses import quick_start, short_pauses


@pytest.fixture(autouse=True)
def thawed() -> None:
    gc.unfreeze()


def test_what_exists_is_left_alone_until_the_end() -> None:
    with short_pauses():
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


def test_an_error_thaws_too() -> None:
    with pytest.raises(ValueError, match=r"^x$"), short_pauses():
        raise ValueError("x")
    assert gc.get_freeze_count() == 0


def test_what_somebody_froze_stays_frozen() -> None:
    mine: list[object] = []

    def frozen() -> bool:
        return all(one is not mine for one in gc.get_objects())

    assert not frozen()
    gc.freeze()
    try:
        with short_pauses():
            assert frozen()
        assert frozen()
    finally:
        gc.unfreeze()
    assert not frozen()


def test_a_quick_start_leaves_things_as_they_were() -> None:
    before = sys.getswitchinterval(), gc.isenabled()
    with quick_start():
        assert not gc.isenabled() and sys.getswitchinterval() < before[0]
    assert (sys.getswitchinterval(), gc.isenabled()) == before
    gc.disable()
    try:
        with quick_start():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
