"""Machine `none`: system bus and nothing on it.

For looking at types, for tests, and for boards put together from the outside with `-device`.
"""

from __future__ import annotations

from qom import Machine, type_init

__all__ = ["NoneMachine"]


@type_init("none-machine")
class NoneMachine(Machine):
    """An empty board: no processors, no memory, no devices."""

    @classmethod
    def class_init(cls) -> None:
        """Say what there is not."""
        cls.desc = "empty machine"
        cls.default_cpu_type = None
        cls.default_ram_size = 0
        cls.max_cpus = 1  # as in QEMU: the number means nothing to a board without processors

    def known_buses(self) -> dict[str, str]:
        """The system bus and nothing else."""
        return {"system-bus": "system-bus"}
