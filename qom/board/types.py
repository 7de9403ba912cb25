"""Machine types out of board files: records for the registry, and what finds `QOM_BOARDS` in a plugin module.

A board file becomes the type `<name>-machine`; one with versions becomes a type for each, `<name>-<version>-machine`, of
which the newest has the plain name and the board's aliases as aliases.  Their parent is what the board extends.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from qom.board.changes import Problems
from qom.board.files import BoardFile, BoardProperty, Version, read_board
from qom.board.machine import BoardMachine
from qom.board.parts import EMPTY, Board
from qom.errors import ConfigError, PluginError, QomError, UnknownParent
from qom.properties import REQUIRED, inner_name, prop
from qom.registry import TypeInfo, TypeRegistry, type_init

__all__ = ["board_of", "board_types", "load_boards", "machine_type", "parent_of", "register_board"]

SUFFIX: Final = "-machine"
BASE: Final = "board-machine"


def parent_of(board: BoardFile, registry: TypeRegistry) -> str:
    """The type that the board's machine types derive from.

    Raises:
        UnknownParent: it extends a machine type that is not there.
        ConfigError: it extends one whose board is not data.
    """
    if board.base is not None:
        return parent_of(board.base, registry)
    if board.extends is None:
        return BASE
    found = registry.find_any((f"{board.extends}{SUFFIX}", board.extends))
    where = getattr(board.origin, "parts", {}).get("extends", board.origin)
    if found is None or not found.is_a("machine"):
        known = [name.removesuffix(SUFFIX) for name in registry.names("machine")]
        near = registry.suggest(board.extends, known)
        raise UnknownParent(f"{where}: board '{board.name}' extends the unknown machine type '{board.extends}'{near}")
    if not found.is_a(BASE):
        raise ConfigError(
            f"board '{board.name}' extends '{found.name}', which is written in Python alone: expected a board that is a file",
            where,
        )
    return found.name


def board_of(name: str | None, registry: TypeRegistry) -> Board:
    """The board of the machine type `name`, without initialising its class."""
    if name is None or name not in registry:
        return EMPTY
    found = registry.get(name)
    below = board_of(found.parent, registry)
    data = found.info.class_data if found.info is not None else None
    return chain(data, below) if isinstance(data, BoardFile) else below


def chain(board: BoardFile, below: Board, problems: Problems | None = None) -> Board:
    """What `board` and the files it extends come to, put over `below`."""
    if board.base is not None:
        below = chain(board.base, below, problems)
    return board.over(below, problems)


def board_types(board: BoardFile, registry: TypeRegistry) -> list[TypeInfo]:
    """The machine types of a board, newest first.

    Raises:
        ConfigError: what it extends is not there, or it does not fit together with that.
    """
    parent = parent_of(board, registry)
    chain(board, board_of(parent, registry))
    plain = (f"{board.name}{SUFFIX}", *(f"{alias}{SUFFIX}" for alias in board.aliases))
    if not board.versions:
        return [_record(board, parent, plain[0], plain[1:], None)]
    names = [f"{board.name}-{version.name}{SUFFIX}" for version in board.versions]
    return [
        _record(board, parent, name, plain if n == 0 else (), n) for n, name in enumerate(names)
    ]  # fmt: skip


def _record(board: BoardFile, parent: str, name: str, aliases: tuple[str, ...], version: int | None) -> TypeInfo:
    upto: tuple[Version, ...] = () if version is None else board.versions[: version + 1]
    attributes: dict[str, Any] = {"versions": upto}
    for layer in layers(board):
        attributes.update({_attribute(item): _declaration(item) for item in layer.properties})
        if layer.default_memory is not None:
            attributes["default_ram_size"] = layer.default_memory
        if layer.max_cpus is not None:
            attributes["max_cpus"] = layer.max_cpus
        if layer.default_cpu is not None:
            attributes["default_cpu_type"] = layer.default_cpu
    desc = board.desc or board.name
    if version is not None:
        desc = f"{desc}, version {board.versions[version].name}"
    return TypeInfo(
        name=name,
        parent=parent,
        aliases=aliases,
        class_init=_class_init,
        class_data=board,
        attributes=attributes,
        desc=desc,
    )


def layers(board: BoardFile) -> list[BoardFile]:
    """The files a board is made of, the one that all others extend first."""
    return [*(layers(board.base) if board.base is not None else []), board]


def _class_init(cls: type[BoardMachine], board: BoardFile) -> None:
    cls.described = described = chain(board, cls.__mro__[1].described)  # type: ignore[attr-defined]
    model, cpus = cls.default_cpu_type, described.cpus
    if model and cpus is not None and not model.endswith(cpus.of):
        cls.default_cpu_type = f"{model}-{cpus.of}"


def _declaration(board: BoardProperty) -> Any:
    among: Any = board.among
    return prop(
        REQUIRED if board.required else board.default,
        board.desc,
        type=board.type,
        among=among,
        min=board.min,
        max=board.max,
        unit=board.unit,
        name=board.name,
    )


def check_properties(board: BoardFile, parent: str, registry: TypeRegistry) -> list[ConfigError]:
    """What is wrong with the properties of the board's own: taken names, defaults that are not what they should be.

    Args:
        board: the board, whose machine types derive from `parent`.
        parent: the name of that type.
        registry: where it is.
    """
    wrong: list[ConfigError] = []
    items = [item for layer in layers(board) for item in layer.properties]
    if not items:
        return []
    # A property of a board file may replace another board file's, but not one that Python code knows.
    python = next(found for found in registry.get(parent).lineage() if not found.is_record)
    for item in items:
        if item.name in python.properties:
            text = f"property '{item.name}': '{python.name}' has a property of that name: expected another"
            wrong.append(ConfigError(text, item.origin))
            continue
        try:
            type_init("board-property-check")(type("Check", (), {_attribute(item): _declaration(item)}))
        except QomError as error:
            wrong.append(ConfigError(str(error).removeprefix("Check: "), item.origin))
    return wrong


def _attribute(item: BoardProperty) -> str:
    """Where the value is kept: nothing of the class has such a name."""
    return f"board_{inner_name(item.name)}"


def register_board(registry: TypeRegistry, board: BoardFile, origin: str = "") -> list[str]:
    """Register the machine types of a board; returns their names, newest first.

    Raises:
        QomError: a name is taken, or the board does not fit together with what it extends.
    """
    for error in check_properties(board, parent_of(board, registry), registry):
        raise error
    return [registry.register(info, origin).name for info in board_types(board, registry)]


def board_record(path: Path, name: str, registry: TypeRegistry) -> TypeInfo | None:
    """The record of the machine type `name`, of the board file at `path`; None when it describes no such type."""
    return next((info for info in board_types(read_board(path), registry) if info.name == name), None)


def machine_type(registry: TypeRegistry, path: str | Path) -> str:
    """The machine type of the board file at `path`, registered with the program itself as its origin if it is new.

    Raises:
        ConfigError: the file is wrong.
        QomError: its name is another board's already.
    """
    board = read_board(path)
    name = f"{board.name}-{board.versions[0].name}{SUFFIX}" if board.versions else f"{board.name}{SUFFIX}"
    with contextlib.suppress(QomError):
        known = registry.get(name)
        if known.info is not None and known.info.class_data == board:
            return known.name
    return register_board(registry, board)[0]


def load_boards(plugin: object, registry: TypeRegistry) -> list[str]:
    """Register the machine types of the board files that a plugin module names in `QOM_BOARDS`; returns their names.

    Raises:
        PluginError: `QOM_BOARDS` is not a tuple of names, or not in a module that is a file.
        UnknownParent: a board extends a machine type that is not there, or not yet.
        QomError: a board file is wrong.
    """
    names = getattr(plugin, "QOM_BOARDS", ())
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise PluginError(f"QOM_BOARDS is {names!r}: expected a tuple of file names")
    file = getattr(plugin, "__file__", None)
    if not isinstance(plugin, ModuleType) or file is None:
        raise PluginError("QOM_BOARDS: expected in a module that is a file, with the board files beside it")
    return [made for name in names for made in register_board(registry, read_board(Path(file).parent / name))]
