"""The configuration of a machine: one typed model (`model`), what collects it (`builder`), what reads files (`files`)."""

from qom.later import later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.config.builder import SECTIONS, ConfigBuilder, parse_chardev_shorthand, parse_cpu, parse_cpus, parse_smp
    from qom.config.document import Document, read_document
    from qom.config.files import KEYS, load, read_file
    from qom.config.ini import read_ini
    from qom.config.model import (
        LOG_CATEGORIES,
        AccelChoice,
        ChardevEntry,
        CpuChoice,
        DeviceEntry,
        DriveEntry,
        Entry,
        GlobalEntry,
        Log,
        MachineConfig,
        MonitorEntry,
        NumaDistance,
        NumaNode,
        ObjectEntry,
        PartEntry,
        RegionEntry,
        Smp,
        WireEntry,
    )


__all__ = [
    "KEYS",
    "LOG_CATEGORIES",
    "SECTIONS",
    "AccelChoice",
    "ChardevEntry",
    "ConfigBuilder",
    "CpuChoice",
    "DeviceEntry",
    "Document",
    "DriveEntry",
    "Entry",
    "GlobalEntry",
    "Log",
    "MachineConfig",
    "MonitorEntry",
    "NumaDistance",
    "NumaNode",
    "ObjectEntry",
    "PartEntry",
    "RegionEntry",
    "Smp",
    "WireEntry",
    "load",
    "parse_chardev_shorthand",
    "parse_cpu",
    "parse_cpus",
    "parse_smp",
    "read_document",
    "read_file",
    "read_ini",
]

_LATER = {
    "qom.config.builder": (
        "SECTIONS",
        "ConfigBuilder",
        "parse_chardev_shorthand",
        "parse_cpu",
        "parse_cpus",
        "parse_smp",
    ),
    "qom.config.document": ("Document", "read_document"),
    "qom.config.files": ("KEYS", "load", "read_file"),
    "qom.config.ini": ("read_ini",),
    "qom.config.model": (
        "LOG_CATEGORIES",
        "AccelChoice",
        "ChardevEntry",
        "CpuChoice",
        "DeviceEntry",
        "DriveEntry",
        "Entry",
        "GlobalEntry",
        "Log",
        "MachineConfig",
        "MonitorEntry",
        "NumaDistance",
        "NumaNode",
        "ObjectEntry",
        "PartEntry",
        "RegionEntry",
        "Smp",
        "WireEntry",
    ),
}

__getattr__, __dir__ = later(__name__, _LATER)
