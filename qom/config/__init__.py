"""The configuration of a machine: one typed model (`model`), what collects it (`builder`), what reads files (`files`)."""

from qom.config.builder import SECTIONS, ConfigBuilder, parse_chardev_shorthand, parse_cpu, parse_cpus, parse_smp
from qom.config.files import KEYS, load, read_ini, read_toml, toml_lines
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
    NumaDistance,
    NumaNode,
    ObjectEntry,
    Smp,
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
    "DriveEntry",
    "Entry",
    "GlobalEntry",
    "Log",
    "MachineConfig",
    "NumaDistance",
    "NumaNode",
    "ObjectEntry",
    "Smp",
    "load",
    "parse_chardev_shorthand",
    "parse_cpu",
    "parse_cpus",
    "parse_smp",
    "read_ini",
    "read_toml",
    "toml_lines",
]
