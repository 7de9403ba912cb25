"""Configuration files: TOML, and QEMU's `-readconfig` INI; both become the same `MachineConfig` as a command line.

    [machine]
    type = "pc-i440fx"
    accel = "kvm:simulated"

    [[device]]
    driver = "isa-stopwatch"
    irq = 5

TOML knows two things more.  `include = ["other.toml"]` at the top takes in other files (found beside this one) first.
`repeat = 4` in a `[[section]]` makes the entry four times, with `{n}` in its strings counting from 0.  References are
ids, as everywhere.  File names are relative to where the program runs, as on a command line.

Every entry remembers its line.  tomllib gives no positions, so `toml_lines` finds them by a pass of its own over text
that tomllib has already accepted.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from qom.config.builder import SECTIONS, ConfigBuilder
from qom.config.model import MachineConfig
from qom.errors import ConfigError, did_you_mean
from qom.options import Options, Origin, Taker

Path_ = tuple[str | int, ...]

_PLAIN = {
    "name": "name",
    "uuid": "uuid",
    "firmware": "firmware",
    "bios": "firmware",
    "kernel": "kernel",
    "initrd": "initrd",
    "append": "append",
}
_SWITCHES = {
    "paused": "paused",
    "no-reboot": "no_reboot",
    "no-shutdown": "no_shutdown",
    "nographic": "nographic",
    "nodefaults": "nodefaults",
}
_LISTS = frozenset({"device", "object", "chardev", "drive", "numa", "accel"})
_OTHER = ("include", "cpu", "serial", "debugcon", "global", "log", "snapshot")
KEYS = (*_PLAIN, *_SWITCHES, *SECTIONS, *_OTHER)
"""What the top level of a configuration file may hold."""


def load(path: str | Path) -> MachineConfig:
    """The configuration in a TOML file."""
    builder = ConfigBuilder()
    read_toml(builder, path)
    return builder.finish()


# TOML


def read_toml(builder: ConfigBuilder, path: str | Path, _above: tuple[Path, ...] = ()) -> None:
    """Tell `builder` what the TOML file at `path` says."""
    path = Path(path)
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else f"{path}:{text.count(chr(10)) + 1}"
        raise ConfigError(f"not TOML: {re.sub(r' [(]at .*', '', str(error))}", where) from None
    places = toml_lines(text)

    def origin(*keys: str | int) -> Origin:
        while keys and keys not in places:
            keys = keys[:-1]
        parts = {k[-1]: f"{path}:{n}" for k, n in places.items() if k[:-1] == keys and isinstance(k[-1], str)}
        return Origin(f"{path}:{places.get(keys, 1)}", parts)

    real = path.resolve()
    if real in _above:
        raise ConfigError(
            f"the file includes itself: {' -> '.join(str(p) for p in (*_above, real))}", origin("include")
        )
    for name in _strings(data.pop("include", []), "include", origin("include")):
        inner = path.parent / name
        if not inner.exists():
            raise ConfigError(f"include: no file '{inner}'", origin("include"))
        read_toml(builder, inner, (*_above, real))
    for key, value in data.items():
        _toml_key(builder, key, value, origin)


def _toml_key(builder: ConfigBuilder, key: str, value: Any, origin: Any) -> None:
    here = origin(key)
    if key in _PLAIN:
        if not isinstance(value, str):
            raise ConfigError(f"'{key}' cannot be {value!r}: expected a string", here)
        builder.plain(_PLAIN[key], value, here)
    elif key in _SWITCHES:
        builder.plain(_SWITCHES[key], _true_or_false(key, value, here), here)
    elif key == "snapshot":
        if _true_or_false(key, value, here):
            builder.snapshot()
    elif key in SECTIONS:
        section, first = SECTIONS[key]
        entries = value if key in _LISTS and isinstance(value, list) and not _names(value) else [value]
        for n, entry in enumerate(entries):
            where = origin(key, n) if isinstance(value, list) else here
            if isinstance(entry, dict):
                for options in _repeated(entry, key, where):
                    section(builder, options, where)
            elif first is not None and key not in ("device", "object", "chardev", "numa"):
                section(builder, {first: entry}, where)
            else:
                raise ConfigError(f"'{key}' cannot be {entry!r}: expected a [[{key}]] table", where)
    elif key == "cpu":
        _toml_cpu(builder, value, here)
    elif key == "serial":
        for text in _strings(value, key, here):
            builder.serial(text, here)
    elif key == "debugcon":
        if not isinstance(value, str):
            raise ConfigError(f"'debugcon' cannot be {value!r}: expected a string", here)
        builder.debugcon(value, here)
    elif key == "global":
        for n, entry in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(entry, dict):
                raise ConfigError(f"'global' cannot be {entry!r}: expected a [[global]] table", origin(key, n))
            builder.global_(entry, origin(key, n))
    elif key == "log":
        if not isinstance(value, dict):
            raise ConfigError(f"'log' cannot be {value!r}: expected a [log] table", here)
        take = Taker(value, "log", here)
        categories, file = take.raw("categories"), take.text("file")
        take.done()
        if categories is not None:
            builder.log_categories(categories, here)
        if file is not None:
            builder.log_file(file, here)
    else:
        raise ConfigError(f"unknown key '{key}'{did_you_mean(key, KEYS)}", here)


def _toml_cpu(builder: ConfigBuilder, value: Any, here: str) -> None:
    if isinstance(value, str):
        builder.cpu(value, here)
        return
    if not isinstance(value, dict):
        raise ConfigError(f"'cpu' cannot be {value!r}: expected MODEL[,+feature] or a table", here)
    take = Taker(value, "cpu", here)
    model, features = take.needed("model"), take.raw("features") or {}
    take.done()
    if not isinstance(features, dict) or not all(isinstance(f, bool | str) for f in features.values()):
        raise take.error(f"'features' cannot be {features!r}: expected a table of feature = true or false")
    builder.cpu(model, here)
    assert builder.config.cpu is not None
    builder.config.cpu.features.update(features)


def _repeated(entry: Options, key: str, where: str) -> list[Options]:
    if "repeat" not in entry:
        return [entry]
    times = Taker({"repeat": entry["repeat"]}, key, where).number("repeat", high=4096)
    rest = {k: v for k, v in entry.items() if k != "repeat"}
    return [
        {k: v.replace("{n}", str(n)) if isinstance(v, str) else v for k, v in rest.items()} for n in range(times or 0)
    ]


def _names(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(v, str) for v in value)


def _strings(value: Any, key: str, where: str) -> list[str]:
    out = [value] if isinstance(value, str) else value
    if not isinstance(out, list) or not all(isinstance(v, str) for v in out):
        raise ConfigError(f"'{key}' cannot be {value!r}: expected a string or a list of strings", where)
    return out


def _true_or_false(key: str, value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"'{key}' cannot be {value!r}: expected true or false", where)
    return value


_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_lines(text: str) -> dict[Path_, int]:
    """The line of every table header and of every key outside inline tables, by its path in the data.

    `text` is valid TOML.  An element of an array of tables is at (name, index), and so is an element of an array.
    """
    lines: dict[Path_, int] = {}
    counts: dict[Path_, int] = {}
    table: Path_ = ()
    at, line, end = 0, 1, len(text)
    while at < end:
        char = text[at]
        if char in " \t\r\n":
            line += char == "\n"
            at += 1
        elif char == "#":
            at = _line_end(text, at)
        elif char == "[":
            array = text[at + 1] == "["
            keys, at = _key(text, at + 1 + array)
            table = _absolute(keys, counts)
            if array:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            _note(lines, table, line)
            at = _line_end(text, at)
        else:
            keys, at = _key(text, at)
            path = (*table, *keys)
            _note(lines, path, line)
            at, line = _value(text, at + 1, line, path, lines)
    return lines


def _note(lines: dict[Path_, int], path: Path_, line: int) -> None:
    for n in range(1, len(path) + 1):
        lines.setdefault(path[:n], line)


def _absolute(keys: list[str], counts: dict[Path_, int]) -> Path_:
    out: Path_ = ()
    for n, key in enumerate(keys):
        out = (*out, key)
        if n < len(keys) - 1 and out in counts:
            out = (*out, counts[out])
    return out


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found


def _key(text: str, at: int) -> tuple[list[str], int]:
    """A dotted key from `at`; the position is that of the "=" or "]" after it."""
    keys: list[str] = []
    while True:
        while text[at] in " \t.":
            at += 1
        if text[at] in "=]":
            return keys, at
        if text[at] in "\"'":
            end = _string_end(text, at)
            keys.append(next(iter(tomllib.loads(f"{text[at:end]} = 0"))))
            at = end
        else:
            match = _BARE.match(text, at)
            assert match is not None  # tomllib accepted it
            keys.append(match[0])
            at = match.end()


def _string_end(text: str, at: int) -> int:
    quote = text[at]
    if text.startswith(quote * 3, at):
        here = at + 3
        while not text.startswith(quote * 3, here):
            here += 2 if quote == '"' and text[here] == "\\" else 1
        here += 3
        while here < len(text) and text[here] == quote:  # up to two quotes may end the string's own text
            here += 1
        return here
    here = at + 1
    while text[here] != quote:
        here += 2 if quote == '"' and text[here] == "\\" else 1
    return here + 1


def _value(text: str, at: int, line: int, path: Path_, lines: dict[Path_, int]) -> tuple[int, int]:
    """Pass over a value; notes the line of each direct element of an array."""
    depth, element, fresh = 0, -1, False
    while at < len(text):
        char = text[at]
        if char == "\n" and depth == 0:
            break
        if char == "#":
            at = _line_end(text, at)
            continue
        if depth == 1 and fresh and char not in " \t\r\n,]":
            element += 1
            lines[(*path, element)] = line
            fresh = False
        if char in "\"'":
            end = _string_end(text, at)
            line += text.count("\n", at, end)
            at = end
            continue
        if char in "[{":
            if depth == 0 and char == "[":
                fresh = True
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth == 1 and element >= 0:
            fresh = True
        elif char == "\n":
            line += 1
        at += 1
    return at, line


# INI


_INI_SECTION = re.compile(r'\[\s*([^\s"\]]+)\s*(?:"([^"]*)")?\s*\]')
_INI_VALUE = re.compile(r'([^\s="]+)\s*=\s*"([^"]*)"')
_INI_NAMES = {"smp-opts": "smp", "boot-opts": "boot", "mem": "memory"}


def read_ini(builder: ConfigBuilder, path: str | Path) -> None:
    """Tell `builder` what a `-readconfig` file says: `[section "id"]` and `key = "value"` lines."""
    sections: list[tuple[str, Options, str]] = []
    for number, raw in enumerate(_read(Path(path)).splitlines(), 1):
        line, where = raw.strip(), f"{path}:{number}"
        if not line or line.startswith("#"):
            continue
        if match := _INI_SECTION.fullmatch(line):
            options: Options = {"id": match[2]} if match[2] is not None else {}
            sections.append((match[1], options, where))
        elif match := _INI_VALUE.fullmatch(line):
            if not sections:
                raise ConfigError("a value outside any section: expected [section] first", where)
            sections[-1][1][match[1]] = match[2]
        else:
            raise ConfigError(f'\'{line}\' is no [section "id"] and no key = "value"', where)
    for name, options, where in sections:
        _ini_section(builder, _INI_NAMES.get(name, name), options, where)


def _ini_section(builder: ConfigBuilder, name: str, options: Options, where: str) -> None:
    if name in SECTIONS:
        if name in ("machine", "memory", "smp", "boot", "accel", "numa"):
            options.pop("id", None)
        if name == "machine":
            for key, plain in (
                ("kernel", "kernel"),
                ("initrd", "initrd"),
                ("append", "append"),
                ("firmware", "firmware"),
            ):
                if key in options:
                    builder.plain(plain, options.pop(key), where)
        SECTIONS[name][0](builder, options, where)
    elif name == "global":
        builder.global_(options, where)
    elif name == "cpu":
        take = Taker(options, "cpu", where)
        model, features = take.needed("model"), take.text("features")
        take.done()
        builder.cpu(f"{model},{features}" if features else model, where)
    elif name == "name":
        take = Taker(options, "name", where)
        builder.plain("name", take.needed("guest"), where)
        take.done()
    else:
        known = (*SECTIONS, *_INI_NAMES, "global", "cpu", "name")
        raise ConfigError(f"unknown section '{name}'{did_you_mean(name, known)}", where)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", str(path)) from None
    except UnicodeDecodeError:
        raise ConfigError("is not a text file in UTF-8", str(path)) from None
