"""ISA devices of a PC board: keyboard controller, port 92h, DMA controllers, debug ports, pvpanic, watchdog, test device."""

QOM_MODULES = (
    "isabus_bridge",
    "ps2",
    "i8042",
    "port92",
    "i8237",
    "debugcon",
    "debug_exit",
    "pvpanic",
    "ib700",
    "pc_testdev",
)
