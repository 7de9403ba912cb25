"""Keeping Python's garbage collector from holding up the machine's clock."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quick_start", "short_pauses"]

HANDOVER = 0.0005  # seconds


@contextmanager
def quick_start() -> Iterator[None]:
    """While a machine is put together: no garbage is looked for; other threads wait half a millisecond.

    There is none worth looking for, as nearly all that is made stays.  The monitors' thread greets meanwhile, and would wait
    ten times as long for each step of it.
    """
    interval, collecting = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(HANDOVER)
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if collecting:
            gc.enable()


@contextmanager
def short_pauses() -> Iterator[None]:
    """Have the garbage collector leave alone what exists now, until the end.

    A full pass over a process that holds a machine takes from 50 ms to half a second, in which no thread runs Python: all
    timers come late, in one heap.  A guest that counts them finds its clock broken (Linux: "8254 timer not connected to
    IO-APIC").  Only for a process that is there for one machine: what is dropped meanwhile and refers to itself stays until
    the end.  Where somebody has frozen objects already (`gc.freeze`), nothing is done.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
