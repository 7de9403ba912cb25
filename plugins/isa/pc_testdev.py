"""pc-testdev: the ISA test device by which kvm-unit-tests try ports, memory that is no RAM, and interrupt lines.

Modelled: a register of four ports, and 64 KiB of memory-mapped registers, which keep what is written, also over a reset,
as in QEMU; the interrupt lines, which fall at a reset.
Not modelled: the port that takes a guest page away from the processor for a moment (E4h), which a guest can only tell by
the time that its next access takes: writes to it do nothing.
Guest view: ports E0h-E3h and, the same register, E8h-EBh; E4h; ports 2000h-2017h, of which the first sixteen set ISA line n
when written with other than 0 and release it with 0; memory at FF000000h.
"""

from __future__ import annotations

from qom import IsaDevice, Region, state, type_init
from qom.hw import ISA_IRQS

REGISTER, FLUSH, REGISTER_AGAIN = 0xE0, 0xE4, 0xE8
REGISTER_SIZE = 4
LINES, LINE_PORTS = 0x2000, 24
MEMORY, MEMORY_SIZE = 0xFF00_0000, 0x10000


@type_init("pc-testdev")
class PcTestdev(IsaDevice):
    """Something to test accesses and interrupts with."""

    register: bytearray = state(factory=lambda: bytearray(REGISTER_SIZE), keep=True, desc="Ports E0h-E3h")
    memory: bytearray = state(factory=lambda: bytearray(MEMORY_SIZE), keep=True, desc="The memory")
    levels: int = state(desc="Levels of the ISA lines")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Test device for kvm-unit-tests", "misc"

    def realize(self) -> None:
        """Claim ports, lines and memory."""
        self._lines = [self.isa.irq(n) for n in range(ISA_IRQS)]
        for base in (REGISTER, REGISTER_AGAIN):
            region = Region("pc-testdev-register", REGISTER_SIZE, self._read_register, self._write_register, (1, 4))
            self.isa.map_ports(base, region)
        self.isa.map_ports(FLUSH, Region("pc-testdev-flush", 4, lambda offset, size: 0, None, (1, 4)))
        lines = Region("pc-testdev-lines", LINE_PORTS, lambda offset, size: 0, self._write_line, (1, 1))
        self.isa.map_ports(LINES, lines)
        memory = Region("pc-testdev-memory", MEMORY_SIZE, self._read_memory, self._write_memory, (1, 4))
        self.isa.map_memory(MEMORY, memory)

    def place(self) -> str | None:
        """Its first port, for its automatic name."""
        return f"{REGISTER:x}"

    def reset(self) -> None:
        """All lines are released."""
        super().reset()
        self._drive()

    def state_loaded(self) -> None:
        """The lines follow the state."""
        super().state_loaded()
        self._drive()

    def _drive(self) -> None:
        for n, line in enumerate(self._lines):
            line.set(self.levels >> n & 1)

    def _read_register(self, offset: int, size: int) -> int:
        return int.from_bytes(self.register[offset : offset + size], "little")

    def _write_register(self, offset: int, value: int, size: int) -> None:
        self.register[offset : offset + size] = value.to_bytes(size, "little")

    def _write_line(self, offset: int, value: int, size: int) -> None:
        if offset >= ISA_IRQS:
            self.guest_error("line", f"there is no ISA line {offset}: expected 0..{ISA_IRQS - 1}")
            return
        self.levels = self.levels & ~(1 << offset) | (1 << offset if value else 0)
        self._lines[offset].set(1 if value else 0)

    def _read_memory(self, offset: int, size: int) -> int:
        return int.from_bytes(self.memory[offset : offset + size], "little")

    def _write_memory(self, offset: int, value: int, size: int) -> None:
        self.memory[offset : offset + size] = value.to_bytes(size, "little")
