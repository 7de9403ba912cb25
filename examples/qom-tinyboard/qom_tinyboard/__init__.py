"""tinyboard: one x86 processor, RAM, a ROM, an ISA bus with an interrupt controller and an exit port.

Modelled: the above; debug port and serial ports as the configuration asks for them.
Not modelled: anything else a PC has.  There is no timer: put one on the bus.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

from qom import ConfigError, Machine, RealizeError, Region, SysBusDevice, type_init
from qom.board import Part, Wire, add_part, assemble

QOM_API = "1.0"

MIB: Final = 1 << 20
RESET_END: Final = 1 << 32  # the ROM ends here: the reset vector is sixteen bytes below
LOW_END: Final = 1 << 20  # and is seen a second time below here, for real mode

PARTS: Final = (
    Part("bridge", "tiny-isa-bridge"),
    Part("pic", "isa-i8259", "bridge.isa.0", {"iobase": 0x20, "elcr-addr": 0x4D0, "elcr-mask": 0xF8}),
    Part("exit", "isa-debug-exit", "bridge.isa.0", {"iobase": 0x501}),
)
WIRES: Final = (
    *(Wire(f"bridge.irq[{n}]", f"pic[{n}]") for n in range(8)),
    Wire("pic.intr", "cpu.intr"),
)


@type_init("tiny-isa-bridge")
class TinyIsaBridge(SysBusDevice):
    """The ISA bus of the board: on the system's own ports, interrupt lines out as `irq`."""

    user_creatable = False

    @classmethod
    def class_init(cls) -> None:
        cls.desc, cls.category = "ISA bus of tinyboard", "bridge"

    def instance_init(self) -> None:
        self.isa_bus = self.new_bus("isa-bus", "isa.0")
        self._irq = self.gpio_out("irq", 8)

    def realize(self) -> None:
        self.isa_bus.connect_spaces(self.sysbus.io, self.sysbus.memory)
        self.gpio_in("isa", 8, lambda n, level: self._irq[n].set(level))
        self.isa_bus.connect_irqs([self.line_in("isa", n) for n in range(8)])


@type_init("tinyboard-machine")
class TinyBoard(Machine):
    @classmethod
    def class_init(cls) -> None:
        cls.desc = "Tiny board (example)"
        cls.default_cpu_type = "qemu32-x86_64-cpu"
        cls.default_ram_size = MIB // 2
        cls.max_cpus = 1

    def init(self) -> None:
        if not 4096 <= self.ram_size <= MIB // 2:
            raise RealizeError(f"{self.path}: ram-size is {self.ram_size}: expected 4k to 512k")
        if self.accel.irqchip != "off":
            raise RealizeError(f"{self.path}: needs kernel-irqchip=off: its interrupt controller is its own")
        memory = self.system_bus.memory
        ram = Region.ram("tiny.ram", self.ram_size, owner=self)
        self.on_unrealize(ram.ram_block.close)
        self.map(memory, 0, ram)
        rom = Region.rom("tiny.rom", self._rom(), owner=self)
        self.on_unrealize(rom.ram_block.close)
        self.map(memory, RESET_END - rom.size, rom)
        self.map(memory, LOW_END - rom.size, Region.alias("tiny.rom.low", rom, 0, rom.size, readonly=True, owner=self))
        self._cpu()
        assemble(self, PARTS, WIRES, {}, {})
        self.cpus[0].interrupt_controller = self.child("pic")
        self._ports()

    def _rom(self) -> bytes:
        if not self.firmware:
            return (files(__name__) / "rom.bin").read_bytes()
        try:
            data = Path(self.firmware).read_bytes()
        except OSError as error:
            raise RealizeError(f"{self.path}: firmware {self.firmware}: {error.strerror}") from None
        if not 16 <= len(data) <= 64 << 10 or len(data) % 4096:
            raise RealizeError(
                f"{self.path}: firmware {self.firmware} has {len(data)} bytes: expected 4k to 64k, in 4k"
            )
        return data

    def _cpu(self) -> None:
        choice = self.vm.config.cpu
        if choice is not None:
            raise ConfigError("tinyboard's processor is soldered on: expected no -cpu", choice.origin)
        cpu = self.registry.new(self.cpu_type or self.default_cpu_type)
        self.add_child("cpu", cpu)
        cpu.accel, cpu.lock, cpu.cond = self.accel, self.vm.lock, self.vm.cpu_cond
        cpu.system, cpu.clock, cpu.system_bus = self.vm, self.vm.clock, self.system_bus
        self.cpus.append(cpu)
        cpu.set("realized", True)

    def _ports(self) -> None:
        config = self.vm.config
        chardevs = self.vm.root.container("/chardevs")
        if config.drives:
            raise ConfigError("tinyboard has no disk controller", config.drives[0].origin)
        wanted = [(f"serial{n}", "isa-serial", {"index": n}, id) for n, id in enumerate(config.serials)]
        wanted.append(("debugcon", "isa-debugcon", {"iobase": 0xE9}, config.debugcon))
        for name, driver, props, id in wanted:
            if id is not None:
                part = Part(name, driver, "bridge.isa.0", {**props, "chardev": chardevs.child(id)})
                add_part(self, part, {}, {})
