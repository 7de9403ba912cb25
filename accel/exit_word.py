"""The one word that `VcpuHandle.enter` returns for an exit: the reason, and for an access its direction, size and port.

The layout is kvmabi.h's.  The loop works on the bare word, with the masks below; `ExitWord` is for everybody else.
"""

from typing import Final, Self

from accel._kvmabi import lib
from accel.handles import EXIT_NAMES
from qom import records

REASON: Final = lib.ABI_REASON_MASK
MMIO: Final = lib.KVM_EXIT_MMIO
WRITE: Final = lib.ABI_WRITE
STRING: Final = lib.ABI_STRING
PORT_SHIFT: Final = lib.ABI_PORT_SHIFT
SIZE_SHIFT: Final = lib.ABI_SIZE_SHIFT
INTERRUPTED: Final = lib.ABI_EXIT_INTERRUPTED

SIZE_MASK: Final = 0xF
PORT_MASK: Final = 0xFFFF


@records.frozen
class ExitWord:
    """An exit, taken apart.

    reason: KVM's number.  name: its name ("KVM_EXIT_IO").  write, size: of a port or memory access, size in bytes.
    string: a string instruction's access, whose data are in the run page.  port: of a port access.
    """

    reason: int
    name: str
    write: bool
    string: bool
    size: int
    port: int

    @classmethod
    def of(cls, word: int) -> Self:
        """What `word` says.  Where the reason has no access, what belongs to one is 0 and False."""
        reason = word & REASON
        return cls(
            reason,
            EXIT_NAMES.get(reason, f"exit {reason}"),
            bool(word & WRITE),
            bool(word & STRING),
            word >> SIZE_SHIFT & SIZE_MASK,
            word >> PORT_SHIFT & PORT_MASK if reason == lib.KVM_EXIT_IO else 0,
        )
