"""The firmware's half of `etc/table-loader`, written from its description, to check what we hand over."""

from __future__ import annotations

import struct

ALLOCATE, ADD_POINTER, ADD_CHECKSUM, WRITE_POINTER = 1, 2, 3, 4
HIGH, FSEG = 1, 2


class Placed:
    """Files put in place in a pretended memory."""

    def __init__(self, files: dict[str, bytes], script: bytes) -> None:
        self.memory: dict[str, bytearray] = {}
        self.address: dict[str, int] = {}
        self.told: dict[tuple[str, int], bytes] = {}
        self.next = {HIGH: 0x0300_0000, FSEG: 0x000F_5000}
        assert len(script) % 128 == 0
        for at in range(0, len(script), 128):
            entry = script[at : at + 128]
            (command,) = struct.unpack_from("<I", entry)
            if command == ALLOCATE:
                self._allocate(files, *struct.unpack_from("<56sIB", entry, 4))
            elif command == ADD_POINTER:
                self._pointer(*struct.unpack_from("<56s56sIB", entry, 4))
            elif command == ADD_CHECKSUM:
                self._checksum(*struct.unpack_from("<56sIII", entry, 4))
            elif command == WRITE_POINTER:
                name, target, offset, plus, size = struct.unpack_from("<56s56sIIB", entry, 4)
                self.told[text(name), offset] = (self.address[text(target)] + plus).to_bytes(size, "little")
            else:
                assert command == 0, f"unknown command {command}"

    def _allocate(self, files: dict[str, bytes], name: bytes, align: int, zone: int) -> None:
        file = text(name)
        assert file not in self.memory and align & (align - 1) == 0
        self.address[file] = self.next[zone] = -(-self.next[zone] // align) * align
        self.memory[file] = bytearray(files[file])
        self.next[zone] += len(files[file])

    def _pointer(self, name: bytes, target: bytes, offset: int, size: int) -> None:
        data = self.memory[text(name)]
        assert size in (1, 2, 4, 8) and offset + size <= len(data)
        value = int.from_bytes(data[offset : offset + size], "little")
        assert value < len(self.memory[text(target)]), "the pointer starts as an offset into its target"
        data[offset : offset + size] = (value + self.address[text(target)]).to_bytes(size, "little")

    def _checksum(self, name: bytes, offset: int, start: int, length: int) -> None:
        data = self.memory[text(name)]
        assert start <= offset < start + length <= len(data)
        data[offset] = (data[offset] - sum(data[start : start + length])) & 0xFF

    def read(self, address: int, length: int) -> bytes:
        """Bytes at an address some file covers."""
        for file, base in self.address.items():
            if base <= address and address + length <= base + len(self.memory[file]):
                return bytes(self.memory[file][address - base : address - base + length])
        raise AssertionError(f"nothing at {address:#x}")

    def table(self, address: int) -> bytes:
        """The table at `address`, whose checksum must hold unless it is the FACS."""
        signature, length = struct.unpack("<4sI", self.read(address, 8))
        data = self.read(address, length)
        assert signature == b"FACS" or sum(data) & 0xFF == 0, signature
        return data

    def tables(self, rsdp_file: str = "etc/acpi/rsdp") -> dict[str, bytes]:
        """Every table that the RSDP leads to, by signature."""
        rsdp = bytes(self.memory[rsdp_file])
        assert rsdp[:8] == b"RSD PTR " and sum(rsdp[:20]) & 0xFF == 0
        rsdt = self.table(int.from_bytes(rsdp[16:20], "little"))
        found = {"RSDT": rsdt}
        if rsdp[15] >= 2:
            assert len(rsdp) == int.from_bytes(rsdp[20:24], "little") and sum(rsdp) & 0xFF == 0
            found["XSDT"] = xsdt = self.table(int.from_bytes(rsdp[24:32], "little"))
            assert [a for (a,) in struct.iter_unpack("<Q", xsdt[36:])] == [
                a for (a,) in struct.iter_unpack("<I", rsdt[36:])
            ]
        for (address,) in struct.iter_unpack("<I", rsdt[36:]):
            table = self.table(address)
            found[table[:4].decode()] = table
        facs, dsdt = struct.unpack_from("<II", found["FACP"], 36)
        assert facs % 64 == 0
        found["FACS"], found["DSDT"] = self.table(facs), self.table(dsdt)
        if len(found["FACP"]) > 148:
            assert struct.unpack_from("<Q", found["FACP"], 140)[0] in (0, dsdt)
        return found


def text(raw: bytes) -> str:
    """A file name of the script."""
    return raw.split(b"\0")[0].decode()
