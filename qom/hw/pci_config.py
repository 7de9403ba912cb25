"""PCI configuration space as the specification names it: register offsets of the type-0 header, and their bits.

Used as `from qom.hw import pci_config`, then `pci_config.COMMAND`.  Sections cited: PCI Local Bus Specification 3.0.
"""

from __future__ import annotations

from typing import Final

CONFIG_SIZE: Final = 256
"""Bytes of configuration space a function has."""

# Type-0 header registers (6.1)
VENDOR_ID, DEVICE_ID, COMMAND, STATUS, REVISION_ID, CLASS_PROG = 0x00, 0x02, 0x04, 0x06, 0x08, 0x09
CACHE_LINE_SIZE, LATENCY_TIMER, HEADER_TYPE, BIST = 0x0C, 0x0D, 0x0E, 0x0F
BAR0, CARDBUS_CIS, SUBSYSTEM_VENDOR_ID, SUBSYSTEM_ID = 0x10, 0x28, 0x2C, 0x2E
ROM_ADDRESS, CAPABILITY_LIST, INTERRUPT_LINE, INTERRUPT_PIN = 0x30, 0x34, 0x3C, 0x3D
MIN_GNT, MAX_LAT, HEADER_END = 0x3E, 0x3F, 0x40
BARS: Final = 6
ROM_BAR: Final = 6  # number of the expansion ROM's Bar

# COMMAND bits (6.2.2)
COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER = 0x0001, 0x0002, 0x0004
COMMAND_PARITY, COMMAND_SERR, COMMAND_INTX_DISABLE = 0x0040, 0x0100, 0x0400
COMMAND_WRITABLE: Final = (
    COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_INTX_DISABLE
)

# STATUS bits (6.2.3)
STATUS_INTERRUPT, STATUS_CAP_LIST, STATUS_66MHZ, STATUS_FAST_BACK = 0x0008, 0x0010, 0x0020, 0x0080
STATUS_DEVSEL_MEDIUM = 0x0200
STATUS_CLEARED_BY_ONE: Final = 0xF900  # parity, target abort, master abort, system error

MULTIFUNCTION = 0x80  # HEADER_TYPE

# BAR bits (6.2.5)
BAR_IO, BAR_MEM_64, BAR_PREFETCH = 0x1, 0x4, 0x8
ROM_ENABLE = 0x1

# Capabilities (6.7, 6.8)
CAP_ID_MSI, CAP_ID_MSIX = 0x05, 0x11
MSI_ENABLE, MSI_64BIT, MSI_MASKING = 0x0001, 0x0080, 0x0100  # message control
MSIX_FUNCTION_MASK, MSIX_ENABLE = 0x4000, 0x8000  # message control
MSIX_VECTORS_MAX: Final = 2048
MSIX_ENTRY_SIZE: Final = 16  # of the table
MSIX_VECTOR_MASKED = 0x1  # vector control

# CONFIG_ADDRESS (3.2.2.3.2)
CONFIG_ENABLE = 0x8000_0000
CONFIG_WRITABLE = 0x80FF_FFFC
