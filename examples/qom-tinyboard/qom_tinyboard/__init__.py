"""The one chip of tinyboard that is its own; the board itself is `tinyboard.toml`, beside this file."""

from collections.abc import Iterator

from qom import SysBusDevice, type_init
from qom.hw import Route

QOM_API = "1.0"
QOM_BOARDS = ("tinyboard.toml",)

LINES = 8


@type_init("tiny-isa-bridge")
class TinyIsaBridge(SysBusDevice):
    """An ISA bus `isa.0` on the system's own ports; its first eight interrupt lines come out as `irq`."""

    user_creatable = False

    @classmethod
    def class_init(cls) -> None:
        cls.desc, cls.category = "ISA bus of tinyboard", "bridge"

    def instance_init(self) -> None:
        self.isa_bus = self.new_bus("isa-bus", "isa.0")
        self._irq = self.gpio_out("irq", LINES)

    def realize(self) -> None:
        self.isa_bus.connect_spaces(self.sysbus.io, self.sysbus.memory)
        self.gpio_in("isa", LINES, lambda n, level: self._irq[n].set(level))
        self.isa_bus.connect_irqs([self.line_in("isa", n) for n in range(LINES)])

    def routes(self) -> Iterator[Route]:  # what goes on inside, for `qom graph --kind interrupts`
        for line, pin in zip(self.lines().get("isa", ()), self._irq, strict=False):
            yield Route(line, pin)
