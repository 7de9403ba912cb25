"""Boards: which part, where, on which line.  No register logic lives here."""

QOM_MODULES = ("none", "gsi", "a20", "pc")
