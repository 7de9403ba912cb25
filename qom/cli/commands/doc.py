"""`qom doc`: a type's page, as text or Markdown."""

from __future__ import annotations

from typing import Final

from qom.cli.system import registry
from qom.errors import ConfigError, did_you_mean
from qom.show.page import as_markdown, as_text
from qom.show.type_page import type_page

FORMATS: Final = {"text": as_text, "md": as_markdown}
ENDINGS: Final = ("", "-machine", "-accel", "-x86_64-cpu")


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    rest = list(argv)
    style = "text"
    if "--format" in rest:
        at = rest.index("--format")
        if len(rest) < at + 2:
            raise ConfigError("doc: --format: an argument is missing: expected text or md")
        style = rest[at + 1]
        if style not in FORMATS:
            raise ConfigError(f"doc: --format: cannot be '{style}': expected text or md{did_you_mean(style, FORMATS)}")
        del rest[at : at + 2]
    if len(rest) != 1 or rest[0].startswith("-"):
        what = f"unknown argument '{rest[-1]}'" if rest else "no type"
        raise ConfigError(f"doc: {what}: expected TYPE [--format text|md]; `qom types` lists them")
    name = rest[0]
    types = registry()
    found = types.find_any([*(name + e for e in ENDINGS), f"chardev-{name}"]) or types.get(name)
    print(FORMATS[style](type_page(found)).rstrip("\n"))
    return 0
