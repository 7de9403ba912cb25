"""The device that the exit benchmark talks to: one port, that keeps what is written.

Not a device of any machine; the benchmark plugs it in.
"""

from qom import IsaDevice, prop, state, type_init
from qom.hw import Region


@type_init("benchmark-port")
class BenchmarkPort(IsaDevice):
    """A latch."""

    iobase: int = prop(0x240, "I/O port", type="uint16")

    latch: int = state()

    @classmethod
    def class_init(cls) -> None:
        cls.desc, cls.category = "Port for measurements", "misc"

    def realize(self) -> None:
        self.isa.map_ports(self.iobase, Region("benchmark-port", 1, self._read, self._write, (1, 1)))

    def _read(self, offset: int, size: int) -> int:
        return self.latch

    def _write(self, offset: int, value: int, size: int) -> None:
        self.latch = value
