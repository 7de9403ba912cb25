"""What `qom new` writes: a distribution with a plugin that works, its tests, and what it takes to build and check it.

The files are templates in `templates/`: `common` for every kind, one directory for each kind.  `@word@` in a template
(`*.in`) is replaced by a fact about the new distribution; nothing else is done to it.  Other files are copied.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection
from pathlib import Path

import attrs

from qom.errors import ConfigError, did_you_mean

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 24  # letters in a name: the lines of what is written stay within 120 columns
_NAME = re.compile(r"[a-z]{2}[a-z0-9]*(-[a-z0-9]+)*")
_PLACE = re.compile(r"@([a-z]+)@")

BUSES = ("isa", "pci", "system")


@attrs.frozen
class Kind:
    """One kind of distribution.

    templates: its directory.  type: the type's name for a distribution called `{name}`.  what: for `description`.
    summary: what the README says of it.  files: template and the file it becomes, where that is not the same for all kinds.
    data: package data, as in pyproject.toml.
    """

    templates: str
    type: str
    what: str
    summary: str
    files: tuple[tuple[str, str], ...] = ()
    data: tuple[str, ...] = ("py.typed",)


_PYTHON = (
    ("README.md.in", "README.md"),
    ("module.py.in", "src/@module@/__init__.py"),
    ("test_module.py.in", "tests/test_@underscored@.py"),
)
_COMMON = (("gitignore.in", ".gitignore"), ("pyproject.toml.in", "pyproject.toml"))

KINDS: dict[str, Kind] = {
    "device-isa": Kind(
        "device-isa", "isa-{name}", "an ISA device", "it counts ticks and interrupts when a period is over.", _PYTHON
    ),
    "device-pci": Kind(
        "device-pci", "pci-{name}", "a PCI device", "it counts ticks and interrupts when a period is over.", _PYTHON
    ),
    "device-system": Kind(
        "device-system", "{name}", "a device of the board", "it counts ticks and interrupts when a period is over.", _PYTHON
    ),
    "accelerator": Kind(
        "accelerator", "{name}-accel", "an accelerator",
        "the simulated processor, counting why the guest was left and which ports it used.", _PYTHON,
    ),
    "machine": Kind(
        "machine", "{name}-machine", "a machine",
        "one x86 processor, RAM, a ROM, and an ISA bus with an interrupt controller, serial ports and an exit port.",
        (*_PYTHON, ("board.toml.in", "src/@module@/@name@.toml"), ("rom.py.in", "src/@module@/rom.py"),
         ("rom.bin", "src/@module@/rom.bin")),
        ("py.typed", "*.toml", "*.bin"),
    ),
}  # fmt: skip


def kind_of(kind: str, bus: str | None) -> Kind:
    """The kind a user means by `device`, `machine` or `accelerator`, and for a device its bus.

    Raises:
        ConfigError: there is no such kind or bus.
    """
    names = sorted({name.partition("-")[0] for name in KINDS})
    if kind not in names:
        raise ConfigError(f"new: no kind '{kind}'{did_you_mean(kind, names)}; expected one of {', '.join(names)}")
    if kind != "device":
        if bus is not None:
            raise ConfigError(f"new: --bus is for a device: {KINDS[kind].what} sits on none")
        return KINDS[kind]
    if bus is not None and bus not in BUSES:
        raise ConfigError(f"new: --bus cannot be '{bus}': expected one of {', '.join(BUSES)}")
    return KINDS[f"device-{bus or 'isa'}"]


def check_name(name: str, kind: Kind, taken: Collection[str]) -> str:
    """The type's name for a distribution called `name`.

    Args:
        taken: types there are.

    Raises:
        ConfigError: the name cannot be one of a type, a module and a distribution at once, or its type is there already.
    """
    rule = f"expected small letters, digits and single dashes, two letters first, {LONGEST} characters at most"
    if not _NAME.fullmatch(name):
        close = re.sub(r"-+", "-", re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower())).strip(
            "-"
        )
        hint = f"; did you mean '{close}'?" if close != name and _NAME.fullmatch(close) else ""
        raise ConfigError(f"new: the name '{name}' is not legal: {rule}{hint}")
    if len(name) > LONGEST:
        raise ConfigError(f"new: the name '{name}' has {len(name)} characters: {rule}")
    if name.startswith("qom-"):
        raise ConfigError(
            f"new: the name '{name}' begins with 'qom-': expected it without, the distribution is called so"
        )
    if keyword.iskeyword(name) or name in ("qom", "accel", "plugins", "machines"):
        raise ConfigError(f"new: the name '{name}' means something to Python or qom already: expected another")
    made = kind.type.format(name=name)
    if made in taken:
        raise ConfigError(f"new: there is a type '{made}' already (`qom types {made}`): expected another name")
    return made


def create(kind: Kind, name: str, directory: Path, version: str) -> list[Path]:
    """Write the distribution `qom-NAME` into `directory`; returns the files, in the order of their names.

    Args:
        kind: from `kind_of`.
        name: a name that passed `check_name`.
        directory: made if it is not there.
        version: the qom it needs.

    Raises:
        ConfigError: the directory holds something already.
        OSError: a file cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"new: '{directory}' is there already: expected a new or empty directory (-o DIR)")
    facts = facts_of(kind, name, version)
    texts = {target: (TEMPLATES / "common" / source) for source, target in _COMMON}
    texts |= {target: TEMPLATES / kind.templates / source for source, target in kind.files}
    written = []
    for target, source in texts.items():
        path = directory / render(target, facts)
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".in":
            path.write_text(render(source.read_text(encoding="utf-8"), facts), encoding="utf-8")
        else:
            path.write_bytes(source.read_bytes())
        written.append(path)
    marker = directory / "src" / facts["module"] / "py.typed"
    marker.touch()
    return sorted([*written, marker])


def facts_of(kind: Kind, name: str, version: str) -> dict[str, str]:
    """What the words in templates stand for."""
    words = name.split("-")
    title = name.replace("-", " ").capitalize()
    return {
        "name": name,
        "underscored": "_".join(words),
        "function": "_".join(words),
        "class": "".join(word.capitalize() for word in words),
        "title": title,
        "module": f"qom_{'_'.join(words)}",
        "dist": f"qom-{name}",
        "type": kind.type.format(name=name),
        "description": f"{title}, {kind.what} for qom",
        "summary": kind.summary,
        "data": ", ".join(f'"{pattern}"' for pattern in kind.data),
        "qom": version,
    }


def render(text: str, facts: dict[str, str]) -> str:
    """`text` with every `@word@` replaced; KeyError for a word that is no fact."""
    return _PLACE.sub(lambda match: facts[match[1]], text)
