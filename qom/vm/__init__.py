"""A running machine: life cycle, main loop, vCPU threads, run state."""

QOM_MODULES = ("chardev", "block", "cpu", "machine")
