"""Character back ends of a machine that is there: made, exchanged, removed, and sent a break, by their ids.

The monitor's `chardev-add`, `chardev-change`, `chardev-remove` and `chardev-send-break` are these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qom.errors import ConfigError, did_you_mean
from qom.object import check_id
from qom.vm.chardev import Chardev

if TYPE_CHECKING:
    from qom.options import Options
    from qom.vm.vm import VirtualMachine

__all__ = ["add", "change", "find", "remove", "send_break"]

BASE = "-base"
"""What follows the id of a multiplexer in the id of the back end behind it."""


def find(vm: VirtualMachine, id: str) -> Chardev:
    """The back end of that id.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    known = vm.root.container("/chardevs").children()
    found = known.get(id)
    if not isinstance(found, Chardev):
        raise ConfigError(f"Chardev '{id}' not found{did_you_mean(id, known)}")
    return found


def add(vm: VirtualMachine, id: str, backend: str, props: Options) -> Chardev:
    """Make a back end and open it, as `-chardev` does.

    Args:
        vm: the machine.
        id: its id; with `mux` on, that of the multiplexer, and the back end itself is ID-base.
        backend: its kind: "socket".
        props: its properties, `mux` among them.

    Raises:
        QomError: the id is taken or not legal, or it cannot be made as asked; nothing is left.
    """
    check_id(id)
    props = dict(props)
    mux = str(props.pop("mux", "off")).lower() in ("on", "yes", "true")
    with vm.lock:
        if vm.root.container("/chardevs").get_child(id) is not None:
            raise ConfigError(f"Chardev with id '{id}' already exists")
        made: Any = vm.add_chardev(f"chardev-{backend}", f"{id}{BASE}" if mux else id, props, tell=_silent)
        if mux:
            escape = {} if vm.config.escape is None else {"escape": vm.config.escape}
            try:
                made = vm.add_chardev("chardev-mux", id, {"chardev": f"{id}{BASE}", **escape})
            except BaseException:
                made.unparent()
                raise
        assert isinstance(made, Chardev)
        return made


def remove(vm: VirtualMachine, id: str) -> None:
    """Close a back end and take it out, with what is behind a multiplexer.

    Raises:
        ConfigError: there is none of that id, or something uses it.
    """
    with vm.lock:
        found = find(vm, id)
        if found.users():
            raise ConfigError(f"Chardev '{id}' is busy: {', '.join(found.users())} uses it")
        found.unparent()
        behind = vm.root.container("/chardevs").get_child(f"{id}{BASE}")
        if found.is_a("chardev-mux") and behind is not None:
            behind.unparent()


def change(vm: VirtualMachine, id: str, backend: str, props: Options) -> Chardev:
    """Put another back end in the place of one, for a front end that can go on with another.

    Raises:
        QomError: there is none of that id, its front end cannot, or the new one cannot be made; the old one is still there.
    """
    with vm.lock:
        old = find(vm, id)
        if str(props.get("mux", "off")).lower() not in ("off", "no", "false") or old.is_a("chardev-mux"):
            raise ConfigError("Chardev multiplexers cannot be exchanged: expected one that is not shared")
        users = old.users()
        user = next((obj for obj in vm.root.walk() if obj.path in users), None)
        changed = getattr(user, "backend_changed", None)
        if users and changed is None:
            raise ConfigError(f"Chardev user {users[0]} does not support chardev hotswap")
        new: Any = vm.add_chardev(f"chardev-{backend}", f"{id}.new", dict(props), tell=_silent)
        if user is not None and changed is not None:
            old.unset_frontend(user.path)
            for found in user.properties().values():
                if found.kind == "link" and found.read(user) is old:
                    found.setter(user, found, new)  # which a user may not do, of a device that is there
            changed()
        old.unparent()
        vm.root.container("/chardevs").rename_child(new, id)
        assert isinstance(new, Chardev)
        return new


def _silent(text: str) -> None:
    """Whoever asks has the back end itself, and the name of its terminal with it."""
    del text


def send_break(vm: VirtualMachine, id: str) -> None:
    """Have the front end of a back end see a break.  Raises ConfigError when there is none of that id."""
    with vm.lock:
        find(vm, id).send_break()
