"""Board files: a board as a TOML, JSON or YAML file.

    [board]
    name = "tinyboard"
    desc = "One processor and a ROM"

    [[region]]
    name = "ram"
    kind = "ram"
    at = 0
    size = "ram-size"

    [[part]]
    name = "pic"
    type = "isa-i8259"
    bus = "bridge.isa.0"

    [[wire]]
    from = "bridge.irq[{n}]"
    to = "pic[{n}]"
    repeat = 8

`read_board` reads one; what its names and types refer to is looked at when it is put together with what it extends and
with a registry (qom.board.types, qom.board.check).  docs/boards.md says what every key means.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from qom import records
from qom.board.changes import Problems, change
from qom.board.expressions import Expression, ExpressionError
from qom.board.parts import Board, BoardCpus, Requirement
from qom.config.document import Document, Node, read_document
from qom.config.model import PartEntry, RegionEntry, WireEntry
from qom.config.parts import parse_part, parse_region, parse_wire
from qom.errors import ConfigError, did_you_mean
from qom.options import Options, Taker, shown
from qom.properties import INT_RANGES

__all__ = ["BoardFile", "BoardProperty", "Version", "read_board"]

SECTIONS: Final = ("board", "property", "version", "values", "require", "region", "cpus", "part", "wire")
PROPERTY_TYPES: Final = ("bool", "size", "str", *INT_RANGES)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@records.frozen
class BoardProperty:
    """A property that the board's machine type has of its own."""

    name: str
    type: str
    desc: str
    default: Any = None
    required: bool = False
    unit: str | None = None
    min: int | None = None
    max: int | None = None
    among: tuple[Any, ...] | None = None
    origin: str = records.field(default="", eq=False)


@records.frozen
class Version:
    """One version of a board: `changes` is (driver, property, value, origin) against the next newer one."""

    name: str
    changes: tuple[tuple[str, str, Any, str], ...] = ()
    origin: str = records.field(default="", eq=False)


@records.frozen
class BoardFile:
    """What one board file says.

    Attributes:
        path: the file.
        name: the machine type is `<name>-machine`, or with versions `<name>-<version>-machine`.
        extends: the machine type or the file this board is built on; None for a board from nothing.
        base: the file that `extends` names, read.
        default_cpu, default_memory (bytes), max_cpus: class facts of the machine type; None: as what it extends.
        parts, wires, regions, values, requirements: put over those of what it extends; `origins` is where each of the
            values was written.
        cpus: what is said of the processors, by key; None when nothing is.
        versions: newest first; it carries the plain name and the aliases.
    """

    path: Path
    name: str
    aliases: tuple[str, ...] = ()
    desc: str = ""
    extends: str | None = None
    base: BoardFile | None = None
    default_cpu: str | None = None
    default_memory: int | None = None
    max_cpus: int | None = None
    properties: tuple[BoardProperty, ...] = ()
    versions: tuple[Version, ...] = ()
    values: Mapping[str, Expression] = records.field(factory=dict)
    origins: Mapping[str, str] = records.field(factory=dict)
    requirements: tuple[Requirement, ...] = ()
    cpus: Options | None = None
    parts: tuple[PartEntry, ...] = ()
    wires: tuple[WireEntry, ...] = ()
    regions: tuple[RegionEntry, ...] = ()
    origin: str = ""
    _made: list[tuple[Board, Board]] = records.field(factory=list, init=False, eq=False, repr=False)

    def over(self, board: Board, problems: Problems | None = None) -> Board:
        """The board this file describes; `board` is what it extends.

        Worked out once for every `board`, since each machine's registry asks for it.

        Raises:
            ConfigError: an entry is impossible, or changes what is not there (kept in `problems` where given).
        """
        for below, made in self._made:
            if below is board:
                return made
        made = self._over(board, problems)
        if not problems:
            self._made[:] = [*self._made[-3:], (board, made)]
        return made

    def _over(self, board: Board, problems: Problems | None) -> Board:
        cpus = board.cpus
        if self.cpus is not None:
            fields = {key.replace("-", "_"): value for key, value in self.cpus.items()}
            cpus = records.evolve(cpus if cpus is not None else BoardCpus(), **fields)
        board = records.evolve(
            board,
            values={**board.values, **self.values},
            origins={**board.origins, **self.origins},
            requirements=(*board.requirements, *self.requirements),
            cpus=cpus,
        )
        return change(board, self.parts, self.wires, self.regions, problems)


_read: dict[tuple[Path, Path], tuple[tuple[int, int], BoardFile]] = {}
_lock = threading.Lock()


def read_board(path: str | Path, problems: Problems | None = None, _above: tuple[Path, ...] = ()) -> BoardFile:
    """The board file at `path`.  A file that did not change since is not read again.

    Args:
        path: a `.toml`, `.json`, `.yaml` or `.yml` file.
        problems: where to note what is wrong; without it the first thing wrong is raised.

    Raises:
        ConfigError: the file cannot be read at all, or (without `problems`) anything in it is wrong.
    """
    path = Path(path)
    stamp = _stamp(path)
    with _lock:
        known = _read.get((path, path.absolute()))
    if known is not None and known[0] == stamp and known[1].base is None:
        return known[1]
    found = Problems(strict=problems is None or problems.strict)
    board = _Reader(read_document(path), found, (*_above, path.resolve())).board()
    if not found and stamp is not None:
        with _lock:
            _read[path, path.absolute()] = (stamp, board)
    if problems is not None:
        problems.extend(found)
    return board


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return None
    return facts.st_mtime_ns, facts.st_size


class _Reader:
    """Takes a document apart, one section a method."""

    def __init__(self, document: Document, problems: Problems, above: tuple[Path, ...]) -> None:
        self.path = Path(document.path)
        self.root = document.root
        self.top: dict[str, Node] = self.root.value
        self.problems = problems
        self.above = above

    def board(self) -> BoardFile:
        for key, node in self.top.items():
            if key not in SECTIONS and key != "variables":
                hint = "; a board file builds on another with 'extends'" if key == "include" else ""
                self.problems.note(f"unknown key '{key}'{did_you_mean(key, SECTIONS)}{hint}", node.origin)
        facts = self._facts()
        return BoardFile(
            path=self.path,
            properties=tuple(self._each("property", self._property)),
            versions=tuple(self._each("version", self._version)),
            values=self._values(),
            origins={name: node.origin for name, node in self._value_nodes().items()},
            requirements=tuple(self._each("require", self._requirement)),
            cpus=self._cpus(),
            parts=tuple(self._each("part", lambda node: parse_part(node.plain(), node.origin, self.problems.report))),
            wires=tuple(self._each("wire", lambda node: parse_wire(node.plain(), node.origin, self.problems.report))),
            regions=tuple(
                self._each("region", lambda node: parse_region(node.plain(), node.origin, self.problems.report))
            ),
            **facts,
        )

    def _each(self, key: str, read: Callable[[Node], Any]) -> list[Any]:
        node = self.top.get(key)
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.problems.note(f"'{key}' cannot be {shown(node.plain())}: expected [[{key}]] tables", node.origin)
            return []
        made = []
        for entry in node.value:
            with self.problems.kept():
                if not isinstance(entry.value, dict):
                    raise ConfigError(
                        f"'{key}' cannot be {shown(entry.plain())}: expected a [[{key}]] table", entry.origin
                    )
                made.append(read(entry))
        return made

    def _table(self, key: str) -> Node | None:
        node = self.top.get(key)
        if node is not None and not isinstance(node.value, dict):
            self.problems.note(f"'{key}' cannot be {shown(node.plain())}: expected a [{key}] table", node.origin)
            return None
        return node

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"name": self.path.stem, "origin": str(self.root.origin)}
        node = self._table("board")
        if node is None:
            if "board" not in self.top:
                self.problems.note("there is no [board] table: expected one with the board's 'name'", self.root.origin)
            return facts
        facts["origin"] = node.origin
        take = Taker(node.plain(), "board", node.origin, self.problems.report)
        with self.problems.kept():
            facts["name"] = _legal(take, "name", take.needed("name"))
        with self.problems.kept():
            aliases = _list(take, "aliases")
            facts["aliases"] = tuple(_legal(take, "aliases", alias) for alias in aliases)
        with self.problems.kept():
            facts["desc"] = take.text("desc") or ""
        with self.problems.kept():
            facts["default_cpu"] = take.text("default-cpu")
        with self.problems.kept():
            facts["default_memory"] = take.size("default-memory")
        with self.problems.kept():
            facts["max_cpus"] = take.number("max-cpus", low=0, high=4096)
        with self.problems.kept():
            extends = take.text("extends")
            facts["base"] = self._base(extends, node)
            facts["extends"] = extends
        with self.problems.kept():
            take.done()
        return facts

    def _base(self, extends: str | None, node: Node) -> BoardFile | None:
        """The file that `extends` names; None when it names a machine type."""
        if extends is None or Path(extends).suffix not in (".toml", ".json", ".yaml", ".yml"):
            return None
        path = self.path.parent / extends
        if not path.exists():
            raise ConfigError(f"board: 'extends': no file '{path}'", node.value["extends"].origin)
        if path.resolve() in self.above:
            trail = " -> ".join(p.name for p in (*self.above, path.resolve()))
            raise ConfigError(f"board: 'extends': the board extends itself: {trail}", node.value["extends"].origin)
        return read_board(path, None, self.above)

    def _property(self, node: Node) -> BoardProperty:
        take = Taker(node.plain(), "property", node.origin, self.problems.report)
        name = _legal(take, "name", take.needed("name"))
        take.what = f"property '{name}'"
        kind = take.text("type")
        if kind not in PROPERTY_TYPES:
            wrong = "is required" if kind is None else f"cannot be {kind!r}"
            hint = "" if kind is None else did_you_mean(kind, PROPERTY_TYPES)
            raise take.error(f"'type' {wrong}: expected one of {', '.join(PROPERTY_TYPES)}{hint}", "type")
        among = take.raw("among")
        if among is not None and not (isinstance(among, list) and among):
            raise take.error(f"'among' cannot be {shown(among)}: expected a list of values", "among")
        default, required = take.raw("default"), take.switch("required")
        if required is (default is not None):
            raise take.error("expected either a 'default' or required = true")
        made = BoardProperty(
            name,
            kind,
            take.needed("desc"),
            default,
            required,
            take.text("unit"),
            take.number("min", low=-(1 << 63)),
            take.number("max", low=-(1 << 63)),
            None if among is None else tuple(among),
            node.origin,
        )
        take.done()
        return made

    def _version(self, node: Node) -> Version:
        take = Taker(node.plain(), "version", node.origin, self.problems.report)
        name = _legal(take, "name", take.needed("name"))
        table = take.raw("set") if "set" in node.value else {}
        take.done()
        if not isinstance(table, dict):
            raise take.error(f"'set' cannot be {shown(table)}: expected a table of \"DRIVER.PROPERTY\" = value", "set")
        changes = []
        for key, value in table.items():
            driver, _, prop = key.rpartition(".")
            if not driver or not prop or isinstance(value, dict | list):
                origin = node.value["set"].value[key].origin
                raise ConfigError(
                    f"version '{name}': {key!r} = {shown(value)}: expected \"DRIVER.PROPERTY\" = value", origin
                )
            changes.append((driver, prop, value, str(node.value["set"].value[key].origin)))
        return Version(name, tuple(changes), node.origin)

    def _values(self) -> dict[str, Expression]:
        self._table("values")
        made: dict[str, Expression] = {}
        for name, held in self._value_nodes().items():
            with self.problems.kept():
                made[name] = _expression(f"value '{name}'", held)
        return made

    def _value_nodes(self) -> dict[str, Node]:
        node = self.top.get("values")
        return node.value if node is not None and isinstance(node.value, dict) else {}

    def _requirement(self, node: Node) -> Requirement:
        take = Taker(node.plain(), "require", node.origin, self.problems.report)
        take.raw("that")
        text = take.needed("else")
        take.done()
        if "that" not in node.value:
            raise take.error("'that' is required: a condition")
        return Requirement(_expression("require: 'that'", node.value["that"]), text, node.origin)

    def _cpus(self) -> Options | None:
        node = self._table("cpus")
        if node is None:
            return None
        take = Taker(node.plain(), "cpus", node.origin, self.problems.report)
        out: Options = {"origin": node.origin}
        with self.problems.kept():
            for key in ("of", "name", "apic-bus"):
                if (text := take.text(key)) is not None:
                    out[key] = text
            if "fixed" in node.value:
                out["fixed"] = take.switch("fixed")
            take.done()
        return out


def _expression(what: str, node: Node) -> Expression:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError(
            f"{what} cannot be {shown(node.plain())}: expected an integer or an expression, as a string", node.origin
        )
    try:
        return Expression(str(value))
    except ExpressionError as error:
        raise ConfigError(str(error), node.origin) from None


def _legal(take: Taker, key: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise take.error(f"'{key}' cannot be {name!r}: expected letters, digits, '-', '_', '.', '+'", key)
    return name


def _list(take: Taker, key: str) -> list[str]:
    value = take.raw(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise take.error(f"'{key}' cannot be {shown(value)}: expected a list of strings", key)
    return value
