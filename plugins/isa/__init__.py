"""ISA devices of a PC board: keyboard controller, port 92h, DMA controllers, debug ports."""

QOM_MODULES = ("i8042", "ps2", "port92", "i8237", "debugcon", "debug_exit")
