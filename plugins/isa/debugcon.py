"""ISA debug console: a port that firmware writes characters to.

A read gives `readback`, by which firmware finds the port.  The port has no ready bit, so what the back end has no room
for is kept, up to a limit, and what exceeds that is lost and counted.

Guest view: one 8-bit port at `iobase`.
"""

from __future__ import annotations

import functools

from qom import Chardev, IsaDevice, Region, link, prop, state, type_init

KEPT_MAX = 1 << 16  # bytes
BYTES = tuple(bytes((n,)) for n in range(256))


@type_init("isa-debugcon")
class IsaDebugcon(IsaDevice):
    """What SeaBIOS and others call the Bochs debug port."""

    chardev: Chardev | None = link("chardev", "Back end that output goes to; none: output is lost")
    iobase: int = prop(0xE9, "I/O port", type="uint16", base=16)
    readback: int = prop(0xE9, "Value that a read of the port gives", type="uint8", base=16)

    kept: bytearray = state(factory=bytearray)
    lost: int = state()

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Debug console port", "char"

    def realize(self) -> None:
        """Claim the port, attach to the back end."""
        self._chr = self.chardev
        self.isa.map_ports(self.iobase, Region("debugcon", 1, self._read, self._write, (1, 1)))
        if self._chr is not None:
            self._chr.set_frontend(on_writable=self._flush, owner=self.path)
            self.on_unrealize(functools.partial(self._chr.unset_frontend, self.path))

    def _read(self, offset: int, size: int) -> int:
        return self.readback

    def _write(self, offset: int, value: int, size: int) -> None:
        if self._chr is None:
            return
        data = BYTES[value]
        if not self.kept and self._chr.write(data):
            return
        if len(self.kept) < KEPT_MAX:
            self.kept += data
        else:
            self.lost += 1

    def _flush(self) -> None:
        if self._chr is not None:
            del self.kept[: self._chr.write(bytes(self.kept))]
