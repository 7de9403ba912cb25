"""Observers as objects: what `-object` or a file adds to a machine to look into it, or to break a part of it."""

QOM_MODULES = ("trace", "fault_injector", "qtest")
