"""The plugin interface: what a plugin module may declare and implement.

A plugin is a module (or an object) named by an entry point in the group `qom.plugins`:

    [project.entry-points."qom.plugins"]
    stopwatch = "qom_stopwatch"

Every class of that module marked by `@type_init` is a type of the plugin, without further ado.  What else it may hold:

- `QOM_API = "1.0"`: the plugin API it was written for (below).
- `QOM_MODULES = ("i8254", "i8259")`: submodules to collect from as well.
- `QOM_DEPRECATED = (Deprecated(...),)`: types and properties of its own that will go.
- `QOM_COMMANDS = {"lights": ("query-lights", "light-set")}`: monitor commands by the submodule that holds them, functions
  marked by `qom.monitor.declare`; the submodule is imported when one of them is first asked for.
- `QOM_HMP_COMMANDS = {"people": ("lights|l", "info lights")}`: commands of the monitor for people, likewise, marked by
  `qom.monitor.hmp.hmp_command`.
- `QOM_BOARDS = ("tiny.toml",)`: board files beside the module; each becomes a machine type.
- functions marked by `@hookimpl` named as the hook specifications below.

Compatibility.  The plugin API is what `qom`, `qom.hw`, `qom.vm`, `qom.board`, `qom.testing` and `accel` export by
`__all__`, the hooks here, and the names above.  Its version is MAJOR.MINOR.  An addition raises the minor number; what was
there keeps its meaning.  Only a new major number may take something away, and only what was deprecated in a minor version
before (`qom.deprecated`).  So a plugin is loaded if its major number is ours and its minor number is not later than ours.
One without `QOM_API` counts as written for 1.0, the first.  Every other is refused: a row of `qom plugins` names the
distribution, the version it needs and the version there is; nothing of it is registered (or even imported, if `QOM_API` is
a plain text in its source), and everything else goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import pluggy

    from qom.extensions import MonitorCommand, SystemOption
    from qom.monitor.declare import MonitorEvent
    from qom.registry import TypeInfo, TypeRegistry
    from qom.vm.vm import VirtualMachine

PROJECT = "qom"
API_VERSION = (1, 0)
"""Major: incompatible changes.  Minor: additions."""
FIRST_API = (1, 0)
"""What a plugin without `QOM_API` counts as written for."""

if TYPE_CHECKING:
    hookspec = pluggy.HookspecMarker(PROJECT)
    hookimpl = pluggy.HookimplMarker(PROJECT)
else:
    # pluggy's markers only note options on a function; importing pluggy for that would take longer than a start may.

    def hookspec(function: Callable[..., Any]) -> Callable[..., Any]:
        """Mark a hook's specification."""
        function.qom_spec = {"firstresult": False, "historic": False, "warn_on_impl": None, "warn_on_impl_args": None}
        return function

    def hookimpl(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        """Mark a function as the plugin's implementation of the hook of that name.

        options: pluggy's: tryfirst, trylast, wrapper, hookwrapper, optionalhook (False each), specname (None).
        """
        known = {
            "wrapper": False, "hookwrapper": False, "optionalhook": False,
            "tryfirst": False, "trylast": False, "specname": None,
        }  # fmt: skip
        for name in options.keys() - known.keys():
            raise TypeError(f"hookimpl() got an unexpected keyword argument '{name}'")
        known.update(options)

        def mark(function: Callable[..., Any]) -> Callable[..., Any]:
            function.qom_impl = dict(known)
            return function

        return mark if function is None else mark(function)


@hookspec
def qom_types() -> Iterable[type | TypeInfo]:  # type: ignore[empty-body]
    """Types of this plugin beyond the marked classes of its modules: classes made by a function, or records."""


@hookspec
def qom_register_types(registry: TypeRegistry) -> None:
    """Register by hand: aliases, types that depend on what the host has.  Called after `qom_types`.

    `registry` notes what is registered with this plugin's distribution as its origin.
    """


@hookspec
def qom_system_options() -> Iterable[SystemOption]:  # type: ignore[empty-body]
    """Command-line options of this plugin's own; see `SystemOption`.

    They are shown by `-help` and understood wherever system options are.  A name that is taken makes the plugin a broken
    one.  Plugins are loaded for the command line only when a word in it is no option of ours.
    """


@hookspec
def qom_monitor_commands() -> Iterable[MonitorCommand]:  # type: ignore[empty-body]
    """Commands for running machines; see `MonitorCommand`.

    Collected and checked when the plugin is loaded, listed by `vm.monitor_commands()`, carried out by
    `vm.monitor_command(name, **arguments)`.  A name that is taken makes the plugin a broken one.
    """


@hookspec
def qom_monitor_events() -> Iterable[MonitorEvent]:  # type: ignore[empty-body]
    """Events that this plugin emits (`vm.emit`) and that monitors pass on to their clients; see `qom.monitor.MonitorEvent`."""


@hookspec
def qom_machine_created(vm: VirtualMachine) -> None:
    """A virtual machine exists, with nothing in it yet: the moment to add observers of all that comes (`vm.observe`).

    An implementation that raises is reported on standard error; the machine and the other plugins go on.
    """


@hookspec
def qom_machine_built(vm: VirtualMachine) -> None:
    """The machine has all its parts and devices, is about to be reset for the first time, and does not run yet."""


@hookspec
def qom_machine_closed(vm: VirtualMachine) -> None:
    """The machine was closed: unrealized, its threads ended, its tree empty."""


@hookspec
def qom_machine_event(vm: VirtualMachine, event: str, data: dict[str, Any]) -> None:
    """Something happened to a virtual machine.

    event: "RESUME", "STOP", "RESET", "SHUTDOWN", "POWERDOWN", "SUSPEND", "WAKEUP".  data: `time` in seconds since the epoch,
    and what belongs to the event (`reason`, `guest`).  Called on the thread it happens on; an implementation that raises
    is reported.
    """
