"""QEMU's firmware configuration device, in its I/O port form (QEMU: docs/specs/fw_cfg; the layout is public interface).

Modelled: selector and data ports, the DMA interface (read, write, skip, select), numbered items, the file directory,
items that firmware writes to.  Not modelled: the memory-mapped form, writing through the data port (QEMU dropped it).

Guest view: 16-bit selector at `iobase`, 8-bit data at `iobase` + 1, big-endian DMA address at `iobase` + 4 and + 8.
The board fills it through `add_*`, before the guest runs; `add_file` may also be given a function, which is called when
the guest selects the item after a reset.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from qom import IsaDevice, QomError, Region, prop, records, state, type_init

SELECTOR, DATA = 0, 1  # offsets from iobase
DMA_PORTS = 4  # offset of the DMA address register: high half, then low half

# Items with fixed numbers
SIGNATURE, ID, UUID, RAM_SIZE, NOGRAPHIC, NB_CPUS, MACHINE_ID, KERNEL_ADDR = range(8)
KERNEL_SIZE, KERNEL_CMDLINE, INITRD_ADDR, INITRD_SIZE, BOOT_DEVICE, NUMA, BOOT_MENU, MAX_CPUS = range(8, 16)
KERNEL_ENTRY, KERNEL_DATA, INITRD_DATA, CMDLINE_ADDR, CMDLINE_SIZE, CMDLINE_DATA = range(16, 22)
SETUP_ADDR, SETUP_SIZE, SETUP_DATA, FILE_DIR = range(22, 26)
FILE_FIRST = 0x20
ARCH_LOCAL = 0x8000
ACPI_TABLES, SMBIOS_ENTRIES, IRQ0_OVERRIDE, E820_TABLE, HPET = (ARCH_LOCAL | n for n in range(5))
KEY_BITS, WRITE_CHANNEL = 0xBFFF, 0x4000  # the write channel bit of the selector has no meaning any more
INVALID = 0xFFFF

ID_TRADITIONAL, ID_DMA = 0x01, 0x02
DMA_SIGNATURE = int.from_bytes(b"QEMU CFG", "big")  # what the DMA address register reads as
DMA_ERROR, DMA_READ, DMA_SKIP, DMA_SELECT, DMA_WRITE = 0x01, 0x02, 0x04, 0x08, 0x10
DMA_ACCESS = struct.Struct(">IIQ")  # control, length, address
DMA_CHUNK = 1 << 20  # bytes moved at a time

FILE_NAME_MAX = 55  # characters; the directory has 56 bytes with the final zero
DIR_ENTRY = struct.Struct(">IHH56s")  # size, key, reserved, name

E820_RAM, E820_RESERVED, E820_ACPI, E820_NVS, E820_UNUSABLE = range(1, 6)
E820_ENTRY = struct.Struct("<QQI")
STATE_THERE = 0x80  # in etc/system-states

Content = bytes | Callable[[], bytes]
WriteHook = Callable[[int, bytes], None]


class FwCfgError(QomError):
    """An item added twice, or with a name that does not fit."""


@records.define
class Item:
    """What one key holds."""

    content: Content
    name: str = ""
    on_write: WriteHook | None = None
    data: bytes | None = None  # content as the guest sees it until the next reset

    def value(self) -> bytes:
        """The bytes, made now if a function makes them."""
        if self.data is None:
            self.data = self.content() if callable(self.content) else self.content
        return self.data


@type_init("fw_cfg_io")
class FwCfgIo(IsaDevice):
    """The device; it carries no meaning of its own, only items."""

    iobase: int = prop(0x510, "First I/O port", type="uint16", max=0xFFF4, base=16)
    dma_enabled: bool = prop(True, "Offer the DMA interface")
    file_slots: int = prop(
        0x20, "Number of named items it takes", type="uint16", min=0x10, max=0x3FDF, name="x-file-slots"
    )

    key: int = state(reset=INVALID)  # item selected
    position: int = state()  # next byte of it
    dma_high: int = state()  # high half of the DMA address, written first

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Firmware configuration device", "misc"
        cls.user_creatable = False

    def instance_init(self) -> None:
        """Start with what every fw_cfg has."""
        self.items: dict[int, Item] = {}
        self.files: dict[str, int] = {}
        self._current = b""
        self.add_bytes(SIGNATURE, b"QEMU")
        self.add_bytes(FILE_DIR, self._directory)

    # --- filling it

    def add_bytes(self, key: int, content: Content) -> None:
        """Put `content` under a fixed number. Raises FwCfgError when it is taken; `replace` is for that."""
        if key in self.items:
            raise FwCfgError(f"{self.path}: item {key:#x} is there already")
        self.items[key] = Item(content)

    def replace(self, key: int, content: Content) -> None:
        """Put `content` under a fixed number, in place of what may be there."""
        self.items[key] = Item(content)

    def add_i16(self, key: int, value: int) -> None:
        """Put a 16-bit little-endian number under a fixed number."""
        self.add_bytes(key, struct.pack("<H", value))

    def add_i32(self, key: int, value: int) -> None:
        """Put a 32-bit little-endian number under a fixed number."""
        self.add_bytes(key, struct.pack("<I", value))

    def add_i64(self, key: int, value: int) -> None:
        """Put a 64-bit little-endian number under a fixed number."""
        self.add_bytes(key, struct.pack("<Q", value))

    def add_string(self, key: int, text: str) -> None:
        """Put a text with a final zero under a fixed number."""
        self.add_bytes(key, text.encode() + b"\0")

    def add_file(self, name: str, content: Content, on_write: WriteHook | None = None) -> int:
        """Put `content` under `name` in the directory; returns the number it got.

        on_write(offset, data): the guest wrote to it by DMA; without it the item is read-only.
        Raises FwCfgError when the name is taken or too long, or no slot is free.
        """
        raw = name.encode()
        if not 0 < len(raw) <= FILE_NAME_MAX or b"\0" in raw:
            raise FwCfgError(f"{self.path}: file name {name!r} must have 1 to {FILE_NAME_MAX} characters")
        if name in self.files:
            raise FwCfgError(f"{self.path}: file '{name}' is there already")
        if len(self.files) >= self.file_slots:
            raise FwCfgError(f"{self.path}: no slot for file '{name}': 'x-file-slots' is {self.file_slots}")
        key = FILE_FIRST + len(self.files)
        self.files[name] = key
        self.items[key] = Item(content, name, on_write)
        return key

    def replace_file(self, name: str, content: Content) -> None:
        """Change what `name` holds, or add it."""
        if name in self.files:
            item = self.items[self.files[name]]
            item.content, item.data = content, None
        else:
            self.add_file(name, content)

    def file(self, name: str) -> bytes:
        """What the guest would read from `name`. Raises FwCfgError when there is no such file."""
        if name not in self.files:
            raise FwCfgError(f"{self.path}: no file '{name}'")
        return self.items[self.files[name]].value()

    def _directory(self) -> bytes:
        entries = [struct.pack(">I", len(self.files))]
        for name in sorted(self.files):
            key = self.files[name]
            entries.append(DIR_ENTRY.pack(len(self.items[key].value()), key, 0, name.encode()))
        return b"".join(entries)

    # --- the device

    def realize(self) -> None:
        """Claim the ports."""
        if ID not in self.items:
            self.add_i32(ID, ID_TRADITIONAL | (ID_DMA if self.dma_enabled else 0))
        self.isa.map_ports(self.iobase, Region("fwcfg", 2, self._read, self._write, (1, 2)))
        if self.dma_enabled:
            ports = Region("fwcfg.dma", 8, self._dma_read, self._dma_write, (1, 8), endian="big", unaligned=True)
            self.isa.map_ports(self.iobase + DMA_PORTS, ports)

    def reset(self) -> None:
        """Nothing is selected, and items that functions make are made anew."""
        super().reset()
        self._current = b""
        for item in self.items.values():
            item.data = None

    def _select(self, value: int) -> bool:
        key = value & KEY_BITS
        item = self.items.get(key)
        self.position = 0
        if item is None:
            self.key, self._current = INVALID, b""
            return False
        self.key, self._current = key, item.value()
        return True

    def _read(self, offset: int, size: int) -> int:
        if size != 1:
            return 0  # the data port is a byte wide, the selector cannot be read
        position = self.position
        data = self._data()
        if position < len(data):
            self.position = position + 1
            return data[position]
        return 0

    def _write(self, offset: int, value: int, size: int) -> None:
        if size == 2 and offset == SELECTOR:
            self._select(value)

    def _data(self) -> bytes:
        if self.key != INVALID and not self._current and self.key in self.items:
            self._current = self.items[self.key].value()  # after load_state
        return self._current

    # --- DMA

    def _dma_read(self, offset: int, size: int) -> int:
        return DMA_SIGNATURE >> 8 * (8 - offset - size) & (1 << 8 * size) - 1

    def _dma_write(self, offset: int, value: int, size: int) -> None:
        if (offset, size) == (0, 4):
            self.dma_high = value
        elif (offset, size) == (4, 4):
            address, self.dma_high = self.dma_high << 32 | value, 0
            self._dma_run(address)
        elif (offset, size) == (0, 8):
            self.dma_high = 0
            self._dma_run(value)

    def _dma_run(self, access: int) -> None:
        """Carry out the access described at guest address `access`, and say there how it went."""
        memory = self.dma
        control, length, address = DMA_ACCESS.unpack(memory.read_bytes(access, DMA_ACCESS.size))
        failed = False
        if control & DMA_SELECT:
            self._select(control >> 16)
        if control & DMA_READ:
            self._dma_to_guest(address, length)
        elif control & DMA_WRITE:
            failed = not self._dma_from_guest(address, length)
        elif control & DMA_SKIP:
            self._advance(length)
        memory.write_bytes(access, struct.pack(">I", DMA_ERROR if failed else 0))

    def _advance(self, length: int) -> None:
        self.position = min(self.position + length, len(self._data()))

    def _dma_to_guest(self, address: int, length: int) -> None:
        data = memoryview(self._data())[self.position : self.position + length]
        self.dma.write_bytes(address, data)
        self._advance(length)
        done = len(data)
        while done < length:  # past the end of an item there are zeros
            n = min(length - done, DMA_CHUNK)
            if self.dma.lookup(address + done) is None:
                return  # nothing to write to: a guest that asks for gigabytes must not keep us busy
            self.dma.write_bytes(address + done, bytes(n))
            done += n

    def _dma_from_guest(self, address: int, length: int) -> bool:
        """Write to the item; the position moves on also when the item does not take it."""
        item = self.items.get(self.key)
        old, start = self._data(), self.position
        self._advance(length)
        if item is None or item.on_write is None or length > len(old) - start:
            return False
        data = self.dma.read_bytes(address, length)
        item.data = self._current = old[:start] + data + old[start + length :]
        item.on_write(start, data)
        return True


def e820(entries: list[tuple[int, int, int]]) -> bytes:
    """`etc/e820`: (address, length, type) of each range."""
    return b"".join(E820_ENTRY.pack(*entry) for entry in entries)


def system_states(s4_type: int, *, s3: bool, s4: bool) -> bytes:
    """File etc/system-states: of each of S0 to S5 the sleep type, with bit 7 if there is such a state.

    s4_type: sleep type of suspend to disk.  s3, s4: whether suspend to RAM and to disk are offered.
    """
    return bytes((STATE_THERE, 0, 0, 1 | STATE_THERE * s3, s4_type | STATE_THERE * s4, STATE_THERE))


def numa_item(max_cpus: int, cpu_nodes: dict[int, int], node_sizes: list[int]) -> bytes:
    """Item NUMA: number of nodes, the node of each of `max_cpus` processors, the bytes of memory of each node."""
    nodes = [cpu_nodes.get(n, 0) for n in range(max_cpus)]
    return struct.pack(f"<{1 + len(nodes) + len(node_sizes)}Q", len(node_sizes), *nodes, *node_sizes)
