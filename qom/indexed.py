"""Types of the box whose modules are imported when somebody first needs them.

`qom.in_box` says which types there are, by module; from it the plugin manager registers each without importing anything.
What needs only names (lists, parents, near misses) works with that alone.  Whoever asks for a type's class, its properties or
an object of it has its module imported, and with it what that imports, and nothing else.
"""

from __future__ import annotations

import functools
import importlib

from qom import records
from qom.blame import passes, place_of, shown
from qom.errors import QomError, TypeRegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.registry import TypeInfo, TypeRegistry

RENEW = "python -m qom.cli.in_box"
"""The command that writes `qom/in_box.py` again."""

BOARDS = "qom.board.types"
"""What reads board files."""


@records.frozen
class Indexed:
    """A type as the index knows it.

    module: what to import for it.  made_by: the class in that module; "" when its hook `qom_types` makes the record; the name
    of a board file beside it.
    """

    name: str
    parent: str | None
    module: str
    made_by: str
    abstract: bool = False
    interfaces: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def is_record(self) -> bool:
        """Whether it is made from a `TypeInfo` rather than a class."""
        return not self.made_by or "." in self.made_by

    def load(self, registry: TypeRegistry) -> type | TypeInfo:
        """The class or the record of the type, its module imported.

        Raises:
            TypeRegistryError: the module cannot be imported, or does not hold what the index says.
        """
        made: object
        try:
            if not self.made_by:
                made = _records(self.module).get(self.name)
            elif self.is_record:
                from pathlib import Path

                home = importlib.import_module(self.module).__file__ or ""
                made = importlib.import_module(BOARDS).board_record(
                    Path(home).with_name(self.made_by), self.name, registry
                )
            else:
                made = getattr(importlib.import_module(self.module), self.made_by, None)
        except QomError:
            raise
        except BaseException as error:
            if passes(error):
                raise
            text = f"type '{self.name}' cannot be had: {self.module}: {shown(error)}, at {place_of(error)}"
            raise TypeRegistryError(text) from error
        if made is None:
            what = f"class {self.made_by}" if not self.is_record else "such type"
            raise TypeRegistryError(f"type '{self.name}': {self.module} has no {what}; {stale()}")
        return made  # type: ignore[return-value]  # checked by whoever registers it


@functools.cache
def _records(module: str) -> dict[str, TypeInfo]:
    """The records that the hook `qom_types` of a module in the box makes, by name; made once."""
    return {made.name: made for made in importlib.import_module(module).qom_types()}


def stale() -> str:
    """What to do when the index and the sources differ."""
    return f"qom/in_box.py is older than the sources: run `{RENEW}`"


def hint_for(name: str) -> str:
    """`"; ... marks it, ..."` when a source file of the box marks the type `name` (which its index does not have), else ""."""
    import importlib.util
    import re
    from pathlib import Path

    from qom.in_box import IN_BOX

    mark = re.compile(rf"@type_init\(\s*\"{re.escape(name)}\"")
    for package in dict.fromkeys(row[1] for row in IN_BOX if "/" not in row[0]):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in Path(folder).rglob("*.py"):
                if mark.search(path.read_text(encoding="utf-8")):
                    return f"; {path} marks it, and {stale()}"
    return ""
