"""What plugins add besides types: options, monitor commands and an ear for machine events, checked when they are loaded."""

from __future__ import annotations

import importlib
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qom import MonitorCommand, PluginManager, QomError, TypeRegistry, VirtualMachine, default_registry, prop
from qom.cli.options import OPTIONS, CommandLine
from qom.cli.session import PLUGIN_CHOICE
from qom.extensions import RESERVED_OPTIONS, Extensions

Load = Callable[..., TypeRegistry]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """load(one=source, two=source): a registry with these files as plugins ext_one, ext_two."""

    def make(**sources: str) -> TypeRegistry:
        paths = []
        for name, source in sources.items():
            path = tmp_path / f"ext_{name}.py"
            path.write_text("from qom import *\n" + textwrap.dedent(source))
            paths.append(str(path))
        importlib.invalidate_caches()
        return default_registry(load_external=False, paths=paths)

    yield make
    for name in [n for n in sys.modules if n.startswith("ext_")]:
        del sys.modules[name]


def row(registry: TypeRegistry, name: str) -> Any:
    (found,) = [r for r in registry.plugins if r.name == f"ext_{name}"]
    return found


def machine(registry: TypeRegistry, *argv: str) -> VirtualMachine:
    config = CommandLine().parse(["-M", "none", "-nodefaults", *argv]).builder.finish()
    return VirtualMachine(config, registry)


RING = """
def ring(vm, args):
    if args["count"] == 13:
        raise ZeroDivisionError("of all numbers")
    if args["count"] == 12:
        raise SystemExit("of all ends")
    if args["count"] == 14:
        raise QomError("no bell")
    return {"state": vm.run_state.value, **args}

@hookimpl
def qom_monitor_commands():
    return [MonitorCommand("ring", "Ring the bell", ring, {
        "count": prop(1, "How often", type="uint8", max=20),
        "loud": prop(False, "Whether to wake everybody", type="bool"),
        "bell-name": prop(REQUIRED, "Which one", type="str", among=("big", "small")),
    })]
"""


def test_a_monitor_command_is_listed_checked_and_carried_out(load: Load) -> None:
    registry = load(bell=RING)
    found = row(registry, "bell")
    assert (found.status, found.commands) == ("loaded", ("ring",)), found.reason
    with machine(registry).build() as vm:
        (command,) = [c for c in vm.monitor_commands().values() if c.origin == found.dist]
        assert (command.name, command.help) == ("ring", "Ring the bell")
        assert [(p.name, p.type, p.default_text) for p in command.arguments.values()] == [
            ("count", "uint8", "1"),
            ("loud", "bool", "off"),
            ("bell-name", "str", "required"),
        ]
        assert vm.monitor_command("ring", bell_name="big", count="0x10") == {
            "state": "prelaunch",
            "count": 16,
            "loud": False,
            "bell-name": "big",
        }
        big, ring = {"bell_name": "big"}, "monitor command 'ring'"
        for given, message in (
            ({}, f"{ring}: argument 'bell-name' is required: expected one of 'big', 'small'"),
            ({"bell_name": "bigg"}, f"{ring}: argument 'bell-name' cannot be 'bigg': expected one of 'big', 'small'"),
            ({**big, "count": 21}, f"{ring}: argument 'count' cannot be 21: expected an integer in 0..20"),
            ({**big, "cuont": 1}, f"{ring} has no argument 'cuont'; did you mean 'count'?"),
            (
                {**big, "count": 13},
                f"{ring} of {found.dist} failed: ZeroDivisionError: of all numbers, at {found.dist}:5",
            ),
            ({**big, "count": 12}, f"{ring} of {found.dist} failed: SystemExit: of all ends, at {found.dist}:7"),
            ({**big, "count": 14}, "no bell"),
        ):
            with pytest.raises(QomError) as error:
                vm.monitor_command("ring", **given)
            assert str(error.value) == message
        with pytest.raises(QomError, match=r"^The command rign has not been found; did you mean 'ring'\?$"):
            vm.monitor_command("rign")


def held(vm: VirtualMachine) -> bool:
    """Whether this thread has the machine lock, as another one finds out."""
    got: list[bool] = []

    def attempt() -> None:
        got.append(vm.lock.acquire(blocking=False))
        if got[0]:
            vm.lock.release()

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return not got[0]


def test_a_command_runs_with_the_machine_lock_held() -> None:
    with machine(default_registry(load_external=False)).build() as vm:
        seen = []
        MonitorCommand("look", "Look at the lock", lambda vm, args: seen.append(held(vm))).call(vm)
        assert seen == [True] and not held(vm)


OPTION = """
@hookimpl
def qom_system_options():
    return [SystemOption({name!r}, {argument!r}, {help!r}, lambda builder, text, origin: None)]
"""
BROKEN = {
    "reserved": (
        OPTION.format(name="monitor", argument="", help="mine"),
        "option '-monitor' is a system option: expected another name",
    ),
    "qemu's": (
        OPTION.format(name="netdev", argument="X", help="mine"),
        "option '-netdev' is a system option: expected another name",
    ),
    "dashes": (
        OPTION.format(name="--mine", argument="", help="mine"),
        "option name '--mine' is not legal: expected small letters, digits and single dashes",
    ),
    "no help": (
        OPTION.format(name="mine", argument="", help=""),
        "option 'mine' has the help '': expected one line that says what it does",
    ),
    "taken": (
        OPTION.format(name="first-one", argument="", help="mine"),
        "option '-first-one' is already brought by {first}",
    ),
    "no option": (
        "@hookimpl\ndef qom_system_options():\n    return [3]\n",
        "qom_system_options gave 3: expected SystemOption",
    ),
    "no iterable": (
        "@hookimpl\ndef qom_system_options():\n    return 3\n",
        "TypeError: 'int' object is not iterable",
    ),
    "twice": (
        "@hookimpl\ndef qom_system_options():\n    return [SystemOption('dup', '', 'Help', print)] * 2\n",
        "option '-dup' is already brought by {here}",
    ),
    "command taken": (
        RING.replace("How often", "How many times"),
        "monitor command 'ring' is already brought by {first}",
    ),
    "no command": (
        "@hookimpl\ndef qom_monitor_commands():\n    return ['ring']\n",
        "qom_monitor_commands gave 'ring': expected MonitorCommand",
    ),
    "no declaration": (
        "@hookimpl\ndef qom_monitor_commands():\n    return [MonitorCommand('x', 'Help', print, {'n': 3})]\n",
        "monitor command 'x': argument 'n' is 3: expected prop(default, desc, type=...)",
    ),
    "no type": (
        "@hookimpl\ndef qom_monitor_commands():\n    return [MonitorCommand('x', 'Help', print, {'n': prop(3, 'N')})]\n",
        "monitor command 'x': property 'n': no property type follows from the annotation None: give type=",
    ),
    "late": (
        OPTION.format(name="late", argument="", help="mine")
        + "@hookimpl\ndef qom_types():\n    return [TypeInfo(name='late-type', parent='nobody-has-this')]\n",
        "type 'late-type' (from {here}) names the unknown parent 'nobody-has-this'",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=list(BROKEN))
def test_a_wrong_one_breaks_its_plugin_and_no_other(load: Load, source: str, reason: str) -> None:
    gadget = "\n@type_init('{0}-gadget')\nclass Gadget(Object):\n    'A gadget.'\n"
    registry = load(
        first=RING + OPTION.format(name="first-one", argument="", help="the first") + gadget.format("first"),
        second=source + gadget.format("second"),
    )
    first, second = row(registry, "first"), row(registry, "second")
    assert (first.status, first.options, first.commands) == ("loaded", ("first-one",), ("ring",)), first.reason
    assert (second.status, second.types, second.options, second.commands) == ("broken", (), (), ())
    assert second.reason == reason.format(first=first.dist, here=second.dist)
    assert "second-gadget" not in registry and "first-gadget" in registry
    assert (list(registry.extensions.options), list(registry.extensions.commands)) == (["first-one"], ["ring"])


def test_every_option_of_ours_is_reserved() -> None:
    ours = {name for option in OPTIONS for name in (option.name, *option.aliases)}
    assert ours <= RESERVED_OPTIONS and PLUGIN_CHOICE.keys() <= RESERVED_OPTIONS


WATCH = """
seen = []

@hookimpl
def qom_machine_event(event, vm, data):
    seen.append((vm.config.name, event, sorted(data)))
    data.clear()
"""


def test_a_plugin_hears_what_machines_do_and_cannot_stop_them(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    registry = load(
        angry="@hookimpl\ndef qom_machine_event(event):\n    raise ValueError('not ' + event)\n",
        watch=WATCH,
    )
    assert [r.status for r in registry.plugins if r.name.startswith("ext_")] == ["loaded", "loaded"]
    heard: list[str] = []
    with machine(registry, "-name", "one").build() as vm:
        vm.events.append(lambda event, data: heard.append(f"{event} {sorted(data)}"))
        vm.cont()
        vm.stop()
        vm.reset()
        angry = row(registry, "angry").dist
        reports = [line for line in vm.log_lines if "not STOP" in line]
    assert len(reports) == 1
    assert reports[0].startswith(f"plugin '{angry}:ext_angry': qom_machine_event raised ValueError: not STOP")
    assert reports[0] in capsys.readouterr().err
    seen = sys.modules["ext_watch"].seen
    assert [(name, event) for name, event, _ in seen] == [
        ("one", "RESUME"),
        ("one", "STOP"),
        ("one", "RESET"),
    ]
    assert heard[2] == "RESET ['guest', 'reason', 'source', 'time']" and seen[2][2] == [
        "guest",
        "reason",
        "source",
        "time",
    ]


def test_without_plugins_there_is_nothing() -> None:
    manager = PluginManager(load_external=False)
    manager.load()
    assert manager.registry.fork().extensions is manager.registry.extensions
    assert (manager.registry.extensions.commands, manager.registry.extensions.options) == ({}, {})


def test_dropping_forgets_all_of_one_plugin() -> None:
    made = Extensions()
    made.add_commands([MonitorCommand("a", "Help", print)], "d", "d:one")
    made.add_commands([MonitorCommand("b", "Help", print, {"n": prop(1, "N", type="uint8")})], "d", "d:two")
    made.drop("d:one")
    assert list(made.commands) == ["b"]
    made.drop("d:two")
    assert made.commands == {}
