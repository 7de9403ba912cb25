"""Boards: which part, where, on which line.  No register logic lives here."""

QOM_MODULES = ("gsi", "a20", "pc")
QOM_BOARDS = ("none.toml",)
