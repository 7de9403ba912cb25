"""QEMU's standard VGA: a PCI display adapter with the VGA's registers and the Bochs display interface.

Modelled: BAR 0 the frame buffer, BAR 2 registers (EDID, VGA ports at 400h, Bochs registers at 500h, byte order at 604h), the
expansion ROM, the VGA's own ports and its window at A0000h, the Bochs interface's ports 1CEh and 1CFh (data also at 1D0h).
Not modelled: that COMMAND switches the VGA's own ports and window, palette snooping, several heads.
Guest view: PCI 1234:1111, class 0300h; see vga_registers.py, planes.py, dispi.py for the parts, raster.py for the picture.

Source: QEMU's "docs/specs/standard-vga.txt".
"""

from __future__ import annotations

import struct
from typing import Any, Final

from plugins.display import edid, raster
from plugins.display.dispi import DAC_8, ENABLE
from plugins.display.planes import WINDOW, Planes
from plugins.display.vga_registers import ATTRIBUTE_WRITE, FIRST_PORT, PORTS
from plugins.firmware import find_firmware
from qom import RealizeError, StateError, prop, state, type_init
from qom.hw import PciDevice, Region
from qom.vm import DisplayConsole, Surface

ROM: Final = "vgabios-stdvga.bin"
DISPI_PORT, DISPI_PORTS, DISPI_INDEX = 0x1CE, 4, 0  # its data is a word at the port after the index, and at the next
MMIO_SIZE, EDID_AT, EDID_SIZE, PORTS_AT, DISPI_AT, EXTENSION_AT = 0x1000, 0x000, 0x100, 0x400, 0x500, 0x600
PORTS_SHOWN, DISPI_SHOWN, EXTENSION_SIZE, BYTE_ORDER = 0x20, 0x16, 8, 4
BIG, LITTLE = 0xBEBEBEBE, 0x1E1E1E1E  # BYTE_ORDER
PAGE: Final = 4096
MIB: Final = 1 << 20
SIZES: Final = tuple(1 << n for n in range(9))  # MiB: a BAR has a power of two
CLASS_VGA: Final = 0x0300


@type_init("VGA")
class VgaPci(Planes, PciDevice, DisplayConsole):
    """The adapter."""

    vendor_id, device_id, revision, class_code = 0x1234, 0x1111, 0x02, CLASS_VGA
    subsystem_vendor_id, subsystem_id = 0x1AF4, 0x1100
    listed_as = "display-console"

    vgamem_mb: int = prop(16, "Video memory", type="uint32", among=SIZES, unit="MiB")
    mmio: bool = prop(True, "Whether BAR 2 has the registers")
    edid: bool = prop(True, "Whether the guest can read what monitor there is")
    xres: int = prop(1280, "Width the monitor prefers", type="uint32", min=8, max=4095, unit="dots")
    yres: int = prop(800, "Height the monitor prefers", type="uint32", min=8, max=4095, unit="dots")
    romfile: str = prop(
        ROM, "Image of the expansion ROM, empty: none; the default one is left out where it is not installed"
    )

    memory_pages: bytes = state(reset=b"", keep=True, desc="Video memory in saved state: number and bytes of its pages")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "Standard VGA with the Bochs display interface", "display"

    def realize(self) -> None:
        """Make the memory and the registers, take the VGA's own ports and window."""
        self.memory_size = self.vgamem_mb * MIB
        self.vram = Region.ram("vga.vram", self.memory_size, owner=self)
        block = self.vram.ram_block
        assert block is not None
        self.on_unrealize(block.close)
        self.map(self.pci.memory, WINDOW, self.make_window(), 1)
        self.on_unrealize(self.cells.release)
        self.on_unrealize(self.halves.release)
        self.register_bar(0, self.vram, prefetch=True)
        if self.mmio:
            self.register_bar(2, self._registers())
        image = self._rom_image()
        if image:
            size = max(2048, 1 << (len(image) - 1).bit_length())
            rom = Region.rom("vga.rom", image, size, owner=self)
            assert rom.ram_block is not None
            self.on_unrealize(rom.ram_block.close)
            self.register_rom(rom)
        self.map(self.pci.io, FIRST_PORT, Region("vga-ports", PORTS, self.read_port, self.write_port, (1, 1)))
        bochs = Region("vbe-ports", DISPI_PORTS, self._read_bochs, self._write_bochs, (1, 2), unaligned=True)
        self.map(self.pci.io, DISPI_PORT, bochs)

    def reset(self) -> None:
        """Registers to their first values; memory keeps what is in it."""
        super().reset()
        self.memory_changed()

    def surface(self) -> Surface:
        """What the screen shows now."""
        return raster.picture(self)

    @property
    def dac_bits(self) -> int:
        """How many bits a component of a colour has."""
        return 8 if self.dispi[ENABLE] & DAC_8 else 6

    def dispi_switched(self, clear: int) -> None:
        """The Bochs interface went on or off, or shows another bank."""
        if clear:
            self.block.view[:clear] = bytes(clear)
            self.block.written(0, clear)
        self.memory_changed()

    # -- saved state: video memory goes along, without the pages that hold nothing

    def save_state(self) -> dict[str, Any]:
        """As for any device, with the pages of video memory that hold something."""
        view, nothing = self.block.view, bytes(PAGE)
        pages = []
        for at in range(0, self.memory_size, 16 * PAGE):
            chunk = bytes(view[at : at + 16 * PAGE])
            if chunk.count(0) != len(chunk):
                for inside in range(0, len(chunk), PAGE):
                    page = chunk[inside : inside + PAGE]
                    if page != nothing:
                        pages += [struct.pack("<I", (at + inside) // PAGE), page]
        self.memory_pages = b"".join(pages)
        try:
            return super().save_state()
        finally:
            self.memory_pages = b""

    def load_state(self, saved: dict[str, Any]) -> None:
        """As for any device; the pages must be whole, and pages that this adapter has."""
        pages = saved.get("memory_pages", b"")
        if isinstance(pages, bytes):
            whole = len(pages) % (4 + PAGE) == 0
            places = range(0, len(pages) if whole else 0, 4 + PAGE)
            last = max((struct.unpack_from("<I", pages, at)[0] for at in places), default=0)
            if not whole or last * PAGE >= self.memory_size:
                text = f"page {last}" if whole else f"{len(pages)} bytes"
                raise StateError(
                    f"{self.path}: memory_pages: saved state has {text}: expected whole pages below {self.memory_size // PAGE}"
                )
        super().load_state(saved)

    def state_loaded(self) -> None:
        """Video memory, what shows of it, and the BARs are as the state says."""
        super().state_loaded()
        view, saved = self.block.view, self.memory_pages
        view[:] = bytes(self.memory_size)
        for at in range(0, len(saved), 4 + PAGE):
            (page,) = struct.unpack_from("<I", saved, at)
            view[page * PAGE : (page + 1) * PAGE] = saved[at + 4 : at + 4 + PAGE]
        self.memory_pages = b""
        self.block.written(0, self.memory_size)
        self.memory_changed()

    # -- the ROM

    def _rom_image(self) -> bytes:
        if not self.romfile:
            return b""
        try:
            path = find_firmware(self.romfile)
            data = path.read_bytes()
        except FileNotFoundError as error:
            if "romfile" not in self.user_set:
                return b""
            raise RealizeError(f"{self.path}: romfile: {error}: expected an option ROM, or nothing") from None
        except OSError as error:
            raise RealizeError(f"{self.path}: romfile '{self.romfile}' cannot be read: {error.strerror}") from None
        if data[:2] != b"\x55\xaa":
            raise RealizeError(f"{self.path}: romfile '{path}' is no option ROM: expected it to begin with 55h AAh")
        return data

    # -- the Bochs interface's ports

    def _read_bochs(self, offset: int, size: int) -> int:
        return self.dispi_index if offset == DISPI_INDEX else self.read_dispi(self.dispi_index)

    def _write_bochs(self, offset: int, value: int, size: int) -> None:
        if offset == DISPI_INDEX:
            self.dispi_index = value
        else:
            self.write_dispi(self.dispi_index, value)

    # -- BAR 2

    def _registers(self) -> Region:
        bar = Region.container("vga.mmio", MMIO_SIZE, owner=self)
        monitor = edid.block(self.xres, self.yres).ljust(EDID_SIZE, b"\0") if self.edid else bytes(EDID_SIZE)

        def read_edid(offset: int, size: int) -> int:
            return int.from_bytes(monitor[offset : offset + size], "little")

        def read_port(offset: int, size: int) -> int:
            return self.read_port(ATTRIBUTE_WRITE + offset, size)

        def write_port(offset: int, value: int, size: int) -> None:
            self.write_port(ATTRIBUTE_WRITE + offset, value, size)

        bar.add(EDID_AT, Region("vga.edid", EDID_SIZE, read_edid, None, (1, 4), owner=self))
        bar.add(PORTS_AT, Region("vga.mmio-ports", PORTS_SHOWN, read_port, write_port, (1, 1), owner=self))
        bar.add(
            DISPI_AT,
            Region(
                "vga.mmio-vbe",
                DISPI_SHOWN,
                lambda offset, size: self.read_dispi(offset >> 1),
                lambda offset, value, size: self.write_dispi(offset >> 1, value),
                (2, 2),
                narrow="widen",
                owner=self,
            ),
        )
        extension = Region(
            "vga.mmio-ext", EXTENSION_SIZE, self._read_extension, self._write_extension, (4, 4), owner=self
        )
        bar.add(EXTENSION_AT, extension)
        return bar

    def _read_extension(self, offset: int, size: int) -> int:
        if offset == BYTE_ORDER:
            return BIG if self.big_endian else LITTLE
        return EXTENSION_SIZE

    def _write_extension(self, offset: int, value: int, size: int) -> None:
        if offset == BYTE_ORDER and value in (BIG, LITTLE):
            self.big_endian = value == BIG
