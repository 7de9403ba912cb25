"""`python -m qom.cli.in_box` writes `qom/in_box.py`: which types are in the box, and in which module each of them is.

It is needed whenever a type, or a module that `QOM_MODULES` names, comes, goes or changes its name, parent, interfaces or
aliases.  A test compares the file with the sources.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from qom.indexed import RENEW
from qom.plugins import IMPL_MARK, IN_BOX, PluginManager, PluginRow
from qom.registry import Type, TypeRegistry

FILE = Path(__file__).parents[1] / "in_box.py"

HEAD = f'''"""Which types are in the box, by module, so that none has to be imported to know.  Written by `{RENEW}`.

A row is the plugin's name, its module and its types; None for one that does more than bring types, and is always imported.
One without a name is no plugin: its types are there because those of plugins derive from them.
A type is (name, parent, class; "" when the module's hook makes its record, or a board file beside it), then, if there is any
of it: whether it is abstract, its interfaces, its aliases.  See `qom.indexed`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IN_BOX: tuple[tuple[str, str, tuple[tuple[Any, ...], ...] | None], ...] = (
'''


def text() -> str:
    """What the file should hold: everything in the box is imported and looked at.

    Raises:
        SystemExit: a plugin of the box cannot be loaded.
    """
    manager = PluginManager(load_external=False, whole=True)
    out = [HEAD]
    for row in manager.load():
        if row.status != "loaded":
            raise SystemExit(f"plugin '{row.name}' is {row.status}: {row.reason}")
        types = [f"        {_entry(manager.registry.get(name), manager.registry)},\n" for name in row.types]
        if _does_more(row, sys.modules[row.module]):
            out.append(f'    ("{row.name}", "{row.module}", None),\n')
        elif types:
            out += [f'    ("{row.name}", "{row.module}", (\n', *types, "    )),\n"]
        else:
            out.append(f'    ("{row.name}", "{row.module}", ()),\n')
    known = {*(name for row in manager.rows for name in row.types), *(found.name for found in TypeRegistry())}
    for found in manager.registry:
        if found.name not in known:
            entry = _entry(found, manager.registry)
            out.append(f'    ("", "{found.module}", (\n        {entry},\n    )),\n')
    return "".join([*out, ")  # fmt: skip\n"])


def _entry(found: Type, registry: TypeRegistry) -> str:
    cls, info = found.loaded_class, found.info
    if info is None and cls is not None:
        made_by = cls.__qualname__
    else:
        made_by = _board_file(info.class_data if info is not None else None)
    aliases = tuple(sorted(alias for alias in registry.aliases() if registry.canonical(alias) == found.name))
    fields: list[object] = [found.name, found.parent, made_by, found.abstract, found.interfaces, aliases]
    while len(fields) > 3 and not fields[-1]:
        fields.pop()
    return _shown(tuple(fields))


def _shown(value: object) -> str:
    """A literal as the formatter would have it."""
    if isinstance(value, tuple):
        return f"({', '.join(_shown(part) for part in value)}{',' if len(value) == 1 else ''})"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _board_file(data: object) -> str:
    from qom.board import BoardFile

    return data.path.name if isinstance(data, BoardFile) else ""


def _does_more(row: PluginRow, module: ModuleType) -> bool:
    hooks = {name for name, value in vars(module).items() if hasattr(value, IMPL_MARK)}
    facts = any(hasattr(module, name) for name in ("QOM_DEPRECATED", "QOM_HMP_COMMANDS"))
    return bool(hooks - {"qom_types"} or facts or row.options or row.commands)


def main() -> int:
    """Write the file; the exit status."""
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE}: {len(IN_BOX)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
