"""What query-qmp-schema answers: the types of all commands and events, in QEMU's introspection format.

Made from the declarations (qom/monitor/declare.py); nothing of it is written by hand.  As in QEMU a type goes by a number,
except the built-in ones; equal types share one.
"""

from __future__ import annotations

import json
from typing import Any

from qom.monitor.declare import Command, MonitorEvent
from qom.monitor.qapi import Alternate, Array, Builtin, Enum, Struct, Type
from qom.monitor.table import CommandTable

__all__ = ["schema"]

_BUILTIN_JSON = {"string": "str", "int": "int", "number": "number", "boolean": "bool", "null": "null", "value": "any"}


def schema(table: CommandTable) -> list[dict[str, Any]]:
    """The description of everything in `table`, as query-qmp-schema gives it."""
    maker = _Maker()
    out = [maker.command(each) for each in table]
    out += [maker.event(each) for each in table.events.values()]
    return out + maker.types


class _Maker:
    def __init__(self) -> None:
        self.types: list[dict[str, Any]] = []
        self._names: dict[str, str] = {}  # by what describes the type
        self._of: dict[int, str] = {}
        self._used: set[str] = set()
        self._kept: list[Type] = []  # so that no other type gets the id of one

    def command(self, command: Command) -> dict[str, Any]:
        made: dict[str, Any] = {
            "name": command.name,
            "meta-type": "command",
            "arg-type": self.name(command.arguments),
            "ret-type": self.name(command.returns),
        }
        if command.oob:
            made["allow-oob"] = True
        if command.features:
            made["features"] = list(command.features)
        return made

    def event(self, event: MonitorEvent) -> dict[str, Any]:
        return {"name": event.name, "meta-type": "event", "arg-type": self.name(event.data)}

    def name(self, type: Type) -> str:
        """The name of a type, which is described when it is new."""
        known = self._of.get(id(type))
        if known is not None:
            self._used.add(known)
            return known
        if isinstance(type, Builtin):
            json_type = type.json
            name = _BUILTIN_JSON[json_type]
            return self._add(type, name, {"meta-type": "builtin", "json-type": json_type})
        if isinstance(type, Array):
            item = self.name(type.item)
            return self._add(type, f"[{item}]", {"meta-type": "array", "element-type": item})
        if isinstance(type, Enum):
            words = list(type.values)
            return self._add(
                type, None, {"meta-type": "enum", "members": [{"name": w} for w in words], "values": words}
            )
        if isinstance(type, Alternate):
            members = [{"type": self.name(each)} for each in type.types]
            return self._add(type, None, {"meta-type": "alternate", "members": members})
        assert isinstance(type, Struct)
        return self._struct(type)

    def _struct(self, type: Struct) -> str:
        self._of[id(type)] = reserved = f"recursive-{id(type)}"  # in case that it contains itself
        made: dict[str, Any] = {"meta-type": "object", "members": []}
        for name, member in type.members.items():
            one: dict[str, Any] = {"name": name, "type": self.name(member.type)}
            if member.optional:
                one["default"] = None
            made["members"].append(one)
        if type.tag:
            made["tag"] = type.tag
            tag = type.members[type.tag].type
            cases = {word: type.cases.get(word) for word in tag.values} if isinstance(tag, Enum) else type.cases
            empty = Struct({})
            made["variants"] = [{"case": w, "type": self.name(case or empty)} for w, case in cases.items()]
        del self._of[id(type)]
        name = self._add(type, None, made)
        if reserved in self._used:
            self.types[:] = json.loads(json.dumps(self.types).replace(reserved, name))
            self._of = {key: used.replace(reserved, name) for key, used in self._of.items()}
            self._names = {key: used.replace(reserved, name) for key, used in self._names.items()}
        return name

    def _add(self, type: Type, name: str | None, made: dict[str, Any]) -> str:
        key = json.dumps([name, made])
        known = self._names.get(key)
        if known is None:
            known = self._names[key] = name if name is not None else str(len(self._names))
            self.types.append({"name": known, **made})
        self._of[id(type)] = known
        self._kept.append(type)
        return known
