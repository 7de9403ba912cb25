"""QEMU's `-readconfig` files: `[section "id"]` and `key = "value"` lines.

Every value is text, as on a command line.  A `#` at the start of a line makes it a comment.
"""

from __future__ import annotations

import re
from pathlib import Path

from qom.config.builder import PLAIN_IN_MACHINE, SECTIONS, TABLE_FIRST, ConfigBuilder
from qom.config.document import Node, read_text
from qom.errors import did_you_mean
from qom.options import Taker

__all__ = ["read_ini"]

_SECTION = re.compile(r'\[\s*([^\s"\]]+)\s*(?:"([^"]*)")?\s*\]')
_VALUE = re.compile(r'([^\s="]+)\s*=\s*"([^"]*)"')
_KEY = re.compile(r"([^\s=\"]+)\s*=")
_NAMES = {"smp-opts": "smp", "boot-opts": "boot", "mem": "memory", "acpi": "acpitable"}
_WITHOUT_ID = ("machine", "memory", "smp", "boot", "accel", "numa", *TABLE_FIRST)


def read_ini(builder: ConfigBuilder, path: str | Path) -> None:
    """Tell `builder` what the file at `path` says.

    Raises:
        ConfigError: unless the builder's `report` goes on; with "file:line:column".
    """
    sections: list[tuple[str, Node]] = []
    counts: dict[str, int] = {}
    known = True  # whether the section that the line is in has a name that could be read
    for number, raw in enumerate(read_text(Path(path)).split("\n"), 1):
        line = raw.strip()
        here = Node(None, str(path), number, len(raw) - len(raw.lstrip()) + 1)
        if not line or line.startswith("#"):
            continue
        if match := _SECTION.fullmatch(line):
            n = counts[match[1]] = counts.get(match[1], -1) + 1
            held = {"id": here.with_value(match[2])} if match[2] is not None else {}
            sections.append((match[1], Node(held, here.file, here.line, here.column, f"{match[1]}[{n}]")))
            known = True
        elif match := _VALUE.fullmatch(line):
            if not known:
                continue
            if not sections:
                builder.report(here.error("a value outside any section: expected [section] first"))
                continue
            section = sections[-1][1]
            place = Node(match[2], here.file, here.line, here.column, f"{section.path}.{match[1]}")
            earlier = section.value.get(match[1])
            if earlier is None:
                section.value[match[1]] = place
            elif match[1] == "cpus":  # of a NUMA node: given again, they add up
                section.value[match[1]] = earlier.with_value(f"{earlier.value}:{match[2]}")
            else:
                text = f"the key '{match[1]}' is given twice, first at {earlier.line}:{earlier.column}"
                builder.report(place.error(text))
        else:
            builder.report(here.error(f'\'{line}\' is no [section "id"] and no key = "value"'))
            known = known and not line.startswith("[")
            if known and sections and (match := _KEY.match(line)):
                name, node = sections[-1]
                sections[-1] = (name, node.with_value(node.value, [match[1]]))
    for name, node in sections:
        _section(builder, _NAMES.get(name, name), node)


def _section(builder: ConfigBuilder, name: str, node: Node) -> None:
    options, where = node.plain(), node.origin
    with builder.gathering():
        if name in SECTIONS:
            if name in _WITHOUT_ID:
                options.pop("id", None)
            if name == "machine":
                for key in PLAIN_IN_MACHINE:
                    if key in options:
                        builder.plain(key, options.pop(key), where.parts.get(key, where))
            SECTIONS[name][0](builder, options, where)
        elif name == "global":
            builder.global_(options, where)
        elif name == "cpu":
            take = Taker(options, "cpu", where, builder.report)
            model, features = take.needed("model"), take.text("features")
            take.done()
            builder.cpu(f"{model},{features}" if features else model, where)
        else:
            known = (*SECTIONS, *_NAMES, "global", "cpu")
            builder.report(node.error(f"unknown section '{name}'{did_you_mean(name, known)}"))
