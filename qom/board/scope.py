"""The names that a board's expressions use, and their values for one machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qom.board.expressions import Expression, ExpressionError, Value
from qom.board.parts import Board
from qom.errors import did_you_mean
from qom.options import placed

if TYPE_CHECKING:
    from qom.board.machine import BoardMachine

__all__ = ["Scope"]

NO_VALUE = ("link", "child", "alias", "list", "dict")
"""Kinds of properties that an expression has no use for."""


class Scope:
    """Gives names their values: the board's own, sizes of regions, chips of the accelerator, properties of the machine.

    roles: for each chip that an accelerator may have its own of, its type.  size_of: the size of a region by its name,
    None when there is no such region; whoever makes the regions sets it.
    """

    def __init__(self, machine: BoardMachine, board: Board) -> None:
        self.machine, self.board = machine, board
        accel: Any = machine.accel
        self.roles: dict[str, str] = accel.chip_types() if accel is not None else {}
        self.size_of: Callable[[str], int | None] = lambda name: None
        self._values: dict[str, Value] = {}
        self._pending: list[str] = []  # what is being worked out

    def look(self, name: str) -> Value:
        """The value of a name.

        Raises:
            ExpressionError: there is none of that name, or it depends on itself.
        """
        known = self._values.get(name)
        if known is not None:
            return known
        expression = self.board.values.get(name)
        if expression is None:
            return self._look_further(name)
        with placed(self.board.origins.get(name, "")):
            self._values[name] = value = self.once(name, lambda: expression.value(self.look))
        return value

    def once(self, name: str, work: Callable[[], Value]) -> Value:
        """What `work` gives for `name`, which must not need itself.

        Raises:
            ExpressionError: it does.
        """
        if name in self._pending:
            raise ExpressionError(f"'{name}' depends on itself: {' -> '.join([*self._pending, name])}")
        self._pending.append(name)
        try:
            return work()
        finally:
            self._pending.pop()

    def _look_further(self, name: str) -> Value:
        if name.startswith("accel.") and name[6:] in self.roles:
            return self.roles[name[6:]]
        if name.endswith(".size") and (size := self.size_of(name[:-5])) is not None:
            return size
        prop = self.machine.properties().get(name)
        if prop is None:
            raise ExpressionError(f"there is no '{name}'{did_you_mean(name, self.names())}")
        value = self.machine.get(name)
        if not isinstance(value, int | str):
            raise ExpressionError(f"'{name}' is a {prop.type}: expected an integer, a switch or a string")
        return value

    def names(self) -> set[str]:
        """Every name that an expression of this board may use."""
        properties = {prop.name for prop in self.machine.properties().values() if prop.kind not in NO_VALUE}
        sizes = {f"{region.name}.size" for region in self.board.regions}
        return {*self.board.values, *sizes, *(f"accel.{role}" for role in self.roles), *properties}

    def holds(self, condition: Expression | None, origin: str) -> bool:
        """Whether the condition `when` of the entry at `origin` holds; none always does."""
        if condition is None:
            return True
        with placed(origin, "when"):
            return condition.holds(self.look)

    def fact(self, name: str) -> str:
        """A name and its value, in words."""
        prop = self.machine.properties().get(name)
        unit = f" {prop.unit}" if prop is not None and prop.unit and name not in self.board.values else ""
        return f"{name} is {self.look(name)}{unit}"
