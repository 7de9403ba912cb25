"""What a user has a PC's firmware told besides: boot pictures and times, fw_cfg items, option ROMs, ACPI tables, SMBIOS fields.

Only imported when a configuration says any of it.
"""

from __future__ import annotations

import os
import struct
import uuid
from typing import TYPE_CHECKING, Any, Final

import attrs

from plugins.firmware import acpi, fw_cfg, smbios
from qom import ConfigError, QomError, placed

if TYPE_CHECKING:
    from machines.pc import PcMachine

__all__ = ["acpi_tables", "add_boot_items", "add_items", "add_option_roms", "with_smbios"]

BMP, JPEG = b"BM", b"\xff\xd8"  # how pictures begin
BMP_DEPTH_AT, BMP_DEPTH = 28, 24  # bits of a pixel, which firmware wants
ROM_GRANULE: Final = 512
ROM_MAX: Final = 1 << 20
FILE_MAX: Final = 64 << 20  # bytes of an item


def add_boot_items(machine: PcMachine, cfg: fw_cfg.FwCfgIo) -> None:
    """`-boot splash=,splash-time=,reboot-timeout=`."""
    config = machine.vm.config
    boot, origin = config.boot, config.origin_of("boot")
    if (ms := boot.get("splash-time")) is not None:
        cfg.add_file("etc/boot-menu-wait", struct.pack("<H", ms))
    if (ms := boot.get("reboot-timeout")) is not None:
        cfg.add_file("etc/boot-fail-wait", struct.pack("<I", ms))
    if (name := boot.get("splash")) is not None:
        picture = _content(machine, "boot", "splash", name, origin)
        if picture.startswith(JPEG):
            cfg.add_file("bootsplash.jpg", picture)
        elif picture.startswith(BMP) and picture[BMP_DEPTH_AT : BMP_DEPTH_AT + 2] == struct.pack("<H", BMP_DEPTH):
            cfg.add_file("bootsplash.bmp", picture)
        else:
            text = (
                f"boot: 'splash': '{name}' is no picture that firmware shows: expected JPEG, or BMP of 24 bits a pixel"
            )
            with placed(origin, "splash"):
                raise ConfigError(text)


def add_items(machine: PcMachine, cfg: fw_cfg.FwCfgIo) -> None:
    """`-fw_cfg`."""
    for entry in machine.vm.config.fw_cfg:
        name = entry.said["name"]
        if not name.startswith("opt/"):
            machine.vm.log("warning", f"fw_cfg: item '{name}': names of a user's items should begin with opt/")
        text = entry.said.get("string")
        content = text.encode() if text is not None else _said_file(machine, "fw_cfg", entry, "file")
        with placed(entry.origin):
            cfg.add_file(name, content)


def add_option_roms(machine: PcMachine, cfg: fw_cfg.FwCfgIo) -> list[str]:
    """`-option-rom`; what `bootorder` calls those that have a place in the boot order, by that."""
    order: list[tuple[int, str]] = []
    for entry in machine.vm.config.option_roms:
        image = _said_file(machine, "option-rom", entry, "file")
        if len(image) > ROM_MAX:
            with placed(entry.origin, "file"):
                raise ConfigError(f"option-rom: '{entry.said['file']}' has {len(image)} bytes: expected at most 1M")
        name = f"genroms/{os.path.basename(entry.said['file'])}"
        with placed(entry.origin):
            cfg.add_file(name, image + bytes(-len(image) % ROM_GRANULE))
        if "bootindex" in entry.said:
            order.append((entry.said["bootindex"], f"/rom@{name}"))
    return [path for _, path in sorted(order)]


def acpi_tables(machine: PcMachine) -> list[bytes]:
    """`-acpitable`: each table with its header; lengths are right, checksums are the firmware's to make."""
    return [_acpi_table(machine, entry) for entry in machine.vm.config.acpi_tables]


def _acpi_table(machine: PcMachine, entry: Any) -> bytes:
    said = entry.said
    key = "data" if "data" in said else "file"
    body = b"".join(_content(machine, "acpitable", key, name, entry.origin) for name in said[key].split(":"))
    head = [b"QEMU", 0, 1, 0, b"QOM", b"QOMPC", 1, b"QOM ", 1]
    if key == "file":
        if len(body) < acpi.HEADER.size:
            text = f"acpitable: '{said[key]}' has {len(body)} bytes: expected a header of {acpi.HEADER.size}, and what follows"
            with placed(entry.origin, key):
                raise ConfigError(text)
        head = list(acpi.HEADER.unpack_from(body))
        body = body[acpi.HEADER.size :]
    elif "sig" not in said:
        raise ConfigError("acpitable: 'sig' is required with 'data': expected 4 characters, such as SSDT", entry.origin)
    places = ("sig", "", "rev", "", "oem_id", "oem_table_id", "oem_rev", "asl_compiler_id", "asl_compiler_rev")
    for n, name in enumerate(places):
        if name and (value := said.get(name)) is not None:
            head[n] = value.encode() if isinstance(value, str) else value
    head[1], head[3] = acpi.HEADER.size + len(body), 0
    return acpi.HEADER.pack(*head) + body


def with_smbios(machine: PcMachine, config: smbios.SmbiosConfig) -> smbios.SmbiosConfig:
    """`-smbios`: what is said of each type of structure, and whole structures out of files."""
    fields: dict[int, dict[str, Any]] = {}
    texts: list[str] = []
    ports: list[dict[str, Any]] = []
    whole: list[bytes] = []
    for entry in machine.vm.config.smbios:
        said = dict(entry.said)
        if "file" in said:
            whole.append(_structure(machine, entry))
            continue
        kind = int(said.pop("type"))
        if kind == 11:
            values = said.get("value", [])
            texts += [values] if isinstance(values, str) else values
            if "path" in said:
                texts.append(_said_file(machine, "smbios", entry, "path").decode("utf-8", "replace"))
        elif kind == 8:
            ports.append(said)
        else:
            fields.setdefault(kind, {}).update(said)
    named = fields.get(1, {})
    system = uuid.UUID(named["uuid"]) if "uuid" in named else config.system_uuid
    return attrs.evolve(config, system_uuid=system, fields=fields, texts=texts, ports=ports, whole=whole)


def _structure(machine: PcMachine, entry: Any) -> bytes:
    data = _said_file(machine, "smbios", entry, "file")
    with placed(entry.origin, "file"):
        try:
            smbios.check_structure(data)
        except QomError as error:
            raise ConfigError(f"smbios: '{entry.said['file']}' {error}") from None
    return data


def _said_file(machine: PcMachine, what: str, entry: Any, key: str) -> bytes:
    return _content(machine, what, key, entry.said[key], entry.origin)


def _content(machine: PcMachine, what: str, key: str, name: str, origin: str) -> bytes:
    """A file that the user named.

    Raises:
        ConfigError: it cannot be read, or is too large.
    """
    with placed(origin, key):
        try:
            data = machine.vm.read_file(name)
        except OSError as error:
            raise ConfigError(f"{what}: '{key}': '{name}' cannot be read: {error.strerror}") from None
        if len(data) > FILE_MAX:
            raise ConfigError(f"{what}: '{key}': '{name}' is larger than {FILE_MAX >> 20}M")
    return data
