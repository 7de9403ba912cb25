"""What a plugin adds besides types: command-line options and monitor commands.

The records here are what the hooks of `qom.hookspecs` return; `Extensions` is where the plugin manager keeps them, checked,
each with the distribution it came from.  A registry has one (`TypeRegistry.extensions`) and its forks share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from qom import records
from qom.blame import passes, place_of, shown
from qom.errors import ConfigError, PluginError, QomError, did_you_mean
from qom.properties import Property, checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qom.config import ConfigBuilder
    from qom.vm.vm import VirtualMachine

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")

_RESERVED = """
accel acpitable action add-fd append async-teardown audio audio-help audiodev bios blockdev boot cdrom chardev chroot
compat cpu d D daemonize debugcon device dfilter display drive dtb dump-vmstate echr enable-kvm enable-sync-profile exits
exits-svg fda
fdb fsdev full-screen fw_cfg g gdb global h hda hdb hdc hdd help icount incoming initrd iscsi k kernel L loadvm m M
machine mem-path mem-prealloc mon monitor msg mtdblock name net netdev nic no-acpi no-fd-bootchk no-hpet no-plugins
no-reboot no-shutdown no-user-config nodefaults nographic numa object only-migratable option-rom overcommit parallel
pflash pidfile plugin plugins portrait preconfig qmp qmp-pretty qtest qtest-log readconfig rotate rtc runas s S sandbox sd
seed serial set singlestep smbios smp snapshot spice tb-size tpmdev trace usb usbdevice uuid var version vga virtfs vnc watchdog
watchdog-action win2k-hack xen-attach xen-domid xen-domid-restrict
"""
RESERVED_OPTIONS = frozenset(_RESERVED.split())
"""Option names no plugin may take: QEMU's own, here already or not, and those for plugins, variables and exits."""


HMP_ORIGIN = "hmp: "
"""Before the name of a command of the monitor for people, where its distribution is asked for (`origin_of_command`)."""


@records.frozen
class SystemOption:
    """A command-line option of a plugin's own, in `qom-system-x86_64` and every `qom` command that takes system options.

    name: without dashes; small letters, digits and single dashes.  argument: as the help shows it ("FILE", "N[,slow=on]");
    "" for an option that takes none.  help: what it does, one line.
    handler: called as handler(builder, text, origin) whenever the option is given, in the order of the command line.
    builder: the `ConfigBuilder` to tell what follows from it; whatever an option adds, a configuration file can say, too.
    text: the argument ("" without one).  origin: the option as written, for a `ConfigError`.
    origin: the distribution it came from; filled in by the plugin manager.
    """

    name: str
    argument: str
    help: str
    handler: Callable[[ConfigBuilder, str, str], None]
    origin: str = ""

    def apply(self, builder: ConfigBuilder, text: str, origin: str) -> None:
        """Call the handler; what it raises besides a `QomError` becomes a ConfigError that names the distribution."""
        try:
            self.handler(builder, text, origin)
        except BaseException as error:
            if isinstance(error, QomError) or passes(error):
                raise
            text = f"this option of {self.origin} failed: {shown(error)}, at {place_of(error)}"
            raise ConfigError(text, origin) from error


@records.frozen
class MonitorCommand:
    """A command that a person or a program gives to a running machine.

    name: small letters, digits and single dashes.  help: what it does, one line.
    arguments: by name, declared like properties: `{"count": prop(1, "How often", type="uint8")}`; `REQUIRED` as the default
    makes one required, and so does leaving nothing else.  handler: called as handler(vm, arguments) with the machine lock
    held and every argument checked and present; what it returns is the command's answer: None, a truth value, a number,
    text, or lists and dicts of those.
    origin: the distribution it came from; filled in by the plugin manager.
    """

    name: str
    help: str
    handler: Callable[[VirtualMachine, dict[str, Any]], Any]
    arguments: Mapping[str, Property] = records.field(factory=dict)
    origin: str = ""

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given`, each value converted from text where it is text and within its bounds, and defaults for the rest.

        Raises:
            QomError: an unknown argument, one that is missing, or a value that does not fit.
        """
        where = f"monitor command '{self.name}'"
        for name in given:
            if name not in self.arguments:
                raise QomError(f"{where} has no argument '{name}'{did_you_mean(name, self.arguments)}")
        out: dict[str, Any] = {}
        for name, declared in self.arguments.items():
            if name in given:
                try:
                    out[name] = checked(declared, given[name])
                except ValueError as error:
                    raise QomError(f"{where}: argument '{name}' cannot be {given[name]!r}: expected {error}") from None
            elif declared.required:
                raise QomError(f"{where}: argument '{name}' is required: expected {declared.expected()}")
            else:
                out[name] = declared.default
        return out

    def call(self, vm: VirtualMachine, given: Mapping[str, Any] | None = None) -> Any:
        """Check the arguments, carry the command out under the machine lock, and return its answer.

        Raises:
            QomError: the arguments are wrong, or the handler failed; the text names the distribution.
        """
        arguments = self.check(given or {})
        try:
            with vm.lock:
                return self.handler(vm, arguments)
        except BaseException as error:
            if isinstance(error, QomError) or passes(error):
                raise
            text = f"monitor command '{self.name}' of {self.origin} failed: {shown(error)}, at {place_of(error)}"
            raise QomError(text) from error


@records.define
class Extensions:
    """What the plugins loaded into a registry bring besides types; each by name, with the plugin it belongs to."""

    options: dict[str, SystemOption] = records.field(factory=dict)
    commands: dict[str, MonitorCommand] = records.field(factory=dict)
    command_modules: dict[str, str] = records.field(factory=dict)
    """Where the commands are that a plugin names in `QOM_COMMANDS`: the module of each, imported when it is needed."""
    hmp_modules: dict[str, str] = records.field(factory=dict)
    """Likewise for the commands of the monitor for people (`QOM_HMP_COMMANDS`)."""
    events: dict[str, Any] = records.field(factory=dict)
    """Events that plugins declare (`qom_monitor_events`), each a `qom.monitor.MonitorEvent`."""
    _origins: dict[str, str] = records.field(factory=dict)
    _owners: dict[tuple[str, str], str] = records.field(factory=dict)

    def add_options(self, made: Iterable[object], origin: str, owner: str) -> tuple[str, ...]:
        """Check and keep options.

        Raises:
            PluginError: one is no `SystemOption`, its name is not legal or taken; none of them is kept then.
        """
        found: dict[str, SystemOption] = {}
        for option in made:
            if not isinstance(option, SystemOption):
                raise PluginError(f"qom_system_options gave {option!r}: expected SystemOption")
            self._legal("option", option.name, option.help)
            if option.name in RESERVED_OPTIONS:
                raise PluginError(f"option '-{option.name}' is a system option: expected another name")
            self._free("option", f"option '-{option.name}'", option.name, {**self.options, **found})
            found[option.name] = records.evolve(option, origin=origin)
        return self._keep("option", self.options, found, owner)

    def add_commands(self, made: Iterable[object], origin: str, owner: str) -> tuple[str, ...]:
        """Check and keep monitor commands.

        Raises:
            PluginError: one is no `MonitorCommand`, its name is not legal or taken, or an argument is no declaration.
            TypeRegistryError: an argument's declaration is wrong.
        """
        found: dict[str, MonitorCommand] = {}
        for command in made:
            if not isinstance(command, MonitorCommand):
                raise PluginError(f"qom_monitor_commands gave {command!r}: expected MonitorCommand")
            self._legal("monitor command", command.name, command.help)
            where = f"monitor command '{command.name}'"
            if command.name in self.command_modules:
                raise PluginError(
                    f"{where} is already brought by {self.origin_of_command(command.name) or 'the program'}"
                )
            self._free("command", where, command.name, {**self.commands, **found})
            for name, declared in command.arguments.items():
                if not isinstance(declared, Property) or declared.kind in ("link", "child", "alias"):
                    raise PluginError(
                        f"{where}: argument '{name}' is {declared!r}: expected prop(default, desc, type=...)"
                    )
                declared.name = name
                declared.bind(where)
            found[command.name] = records.evolve(command, origin=origin)
        return self._keep("command", self.commands, found, owner)

    def add_command_modules(self, named: object, package: str, origin: str, owner: str) -> tuple[str, ...]:
        """Keep where commands are: `named` is `QOM_COMMANDS` of `package`, names of commands by submodule.

        Raises:
            PluginError: it is no such dict, or a name is taken; none is kept then.
        """
        found = _by_name("QOM_COMMANDS", named, package)
        for name in found:
            if name in self.command_modules or name in self.commands:
                raise PluginError(f"monitor command '{name}' is already brought by {self.origin_of_command(name)}")
        self._origins.update(dict.fromkeys(found, origin))
        return self._keep("command_module", self.command_modules, found, owner)

    def add_hmp_modules(self, named: object, package: str, origin: str, owner: str) -> tuple[str, ...]:
        """The same for the monitor for people: `named` is `QOM_HMP_COMMANDS` of `package`.

        Raises:
            PluginError: it is no such dict, or a name is taken; none is kept then.
        """
        found = _by_name("QOM_HMP_COMMANDS", named, package)
        for name in found:
            if name in self.hmp_modules:
                by = self.origin_of_command(f"{HMP_ORIGIN}{name.partition('|')[0]}") or "the program"
                raise PluginError(f"command '{name}' of the monitor for people is already brought by {by}")
        self._origins.update({f"{HMP_ORIGIN}{name.partition('|')[0]}": origin for name in found})
        return self._keep("hmp_module", self.hmp_modules, found, owner)

    def add_events(self, made: Iterable[object], owner: str) -> tuple[str, ...]:
        """Keep declarations of events.

        Raises:
            PluginError: one is no `qom.monitor.MonitorEvent`, its data has no type, or its name is taken; none is kept then.
        """
        found: dict[str, Any] = {}
        for event in made:
            name = getattr(event, "name", None)
            if not isinstance(name, str) or not hasattr(event, "every"):
                raise PluginError(f"qom_monitor_events gave {event!r}: expected qom.monitor.MonitorEvent")
            if name in self.events or name in found:
                raise PluginError(f"event '{name}' exists already: expected another name")
            try:
                _ = event.data  # type: ignore[attr-defined]
            except Exception as error:
                raise PluginError(f"event '{name}': {error}") from error
            found[name] = event
        return self._keep("event", self.events, found, owner)

    def origin_of_command(self, name: str) -> str:
        """The distribution that brings a command; "" for the program itself."""
        brought = self.commands.get(name)
        return brought.origin if brought is not None else self._origins.get(name, "")

    def drop(self, owner: str) -> None:
        """Forget what the plugin `owner` brought."""
        held: dict[str, dict[str, Any]] = {
            "option": self.options,
            "command": self.commands,
            "command_module": self.command_modules,
            "hmp_module": self.hmp_modules,
            "event": self.events,
        }
        for (kind, name), whose in list(self._owners.items()):
            if whose == owner:
                del held[kind][name]
                del self._owners[kind, name]

    def command(self, name: str) -> MonitorCommand:
        """The monitor command `name`; QomError with near misses."""
        found = self.commands.get(name)
        if found is None:
            raise QomError(f"no monitor command '{name}'{did_you_mean(name, self.commands)}")
        return found

    @staticmethod
    def _legal(what: str, name: object, help: object) -> None:
        parts = name.split("-") if isinstance(name, str) else [""]
        if parts[0][:1].isdecimal() or not all(part and _LETTERS.issuperset(part) for part in parts):
            raise PluginError(f"{what} name {name!r} is not legal: expected small letters, digits and single dashes")
        if not isinstance(help, str) or not help.strip() or "\n" in help:
            raise PluginError(f"{what} '{name}' has the help {help!r}: expected one line that says what it does")

    def _free(self, kind: str, what: str, name: str, known: Mapping[str, SystemOption | MonitorCommand]) -> None:
        if name in known:
            raise PluginError(f"{what} is already brought by {known[name].origin or 'the program'}")

    def _keep(self, kind: str, into: dict[str, Any], found: dict[str, Any], owner: str) -> tuple[str, ...]:
        into.update(found)
        self._owners.update({(kind, name): owner for name in found})
        return tuple(found)


def _by_name(attribute: str, named: object, package: str) -> dict[str, str]:
    """The module of each command that a plugin names by submodule.  Raises PluginError."""
    if not isinstance(named, dict) or not all(
        isinstance(sub, str) and isinstance(names, tuple) for sub, names in named.items()
    ):
        raise PluginError(f"{attribute} is {named!r}: expected a dict from submodules to tuples of command names")
    found: dict[str, str] = {}
    for submodule, names in named.items():
        for name in names:
            if name in found:
                raise PluginError(f"{attribute} names '{name}' twice")
            found[name] = f"{package}.{submodule}"
    return found
