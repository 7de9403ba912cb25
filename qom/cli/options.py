"""The option table of `qom-system-x86_64`: QEMU's spellings, what each takes, and where it goes in the configuration.

The order of options does not matter, except between those that add to one list.  Asking for help (`-device help`,
`-device NAME,help`) is remembered rather than answered here, so that this module needs no registry.  Plugins are loaded
only for a word that is no option of ours: a plugin may have brought it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from qom import records
from qom.cli.session import PLUGIN_CHOICE, Choice, current
from qom.config import LOG_CATEGORIES, SECTIONS, ConfigBuilder
from qom.config.builder import PLAIN_IN_MACHINE
from qom.config.model import TRACE_EVENTS, VGA_KINDS
from qom.errors import ConfigError, NotModelled, did_you_mean
from qom.options import Options, parse_options, split_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.extensions import SystemOption

OTHER_ADAPTERS = frozenset({"cg3", "cirrus", "qxl", "tcx", "virtio", "vmware", "xenfb"})
"""What QEMU's `-vga` takes besides."""

Handler = Callable[["CommandLine", str, str], None]

_DEVICE_TREE = ("dtb", "dumpdtb", "phandle_start", "phandle-start", "dt_compatible", "dt-compatible")
"""Options of QEMU's machines that are about a device tree."""


@records.frozen
class Option:
    """One option: its argument as shown in the help ("" for none), what it does, who handles it."""

    name: str
    argument: str
    help: str
    handler: Handler
    aliases: tuple[str, ...] = ()


@records.define
class CommandLine:
    """What a command line says: the configuration under construction, and what it asks to be told instead."""

    builder: ConfigBuilder = records.field(factory=ConfigBuilder)
    help_for: tuple[str, str] | None = None  # ("device", "") lists them, ("device", "isa-serial") describes one
    show: str = ""  # "help" or "version"

    file: str | None = None  # a configuration file to read before anything else
    variables: dict[str, str] = records.field(factory=dict)  # values for what the files declare

    def parse(self, argv: Sequence[str]) -> CommandLine:
        """Take in all arguments, the files of `-readconfig` first; a bare one is a disk image.  Raises ConfigError."""
        said: list[tuple[Handler, str, str]] = []
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if not word.startswith("-") or word == "-":
                said.append((_disk(0), word, word))
                continue
            name = word[2:] if word.startswith("--") else word[1:]
            option = _BY_NAME.get(name) or _from_plugin(name, word)
            value = ""
            if option.argument:
                if not rest:
                    raise ConfigError(f"an argument is missing: expected {option.argument}", word)
                value = rest.pop(0)
            said.append((option.handler, value, f"{word} {value}".rstrip()))
        for handler, value, origin in said:
            if handler in (_variable, _set):
                handler(self, value, origin)
        if self.file is not None:
            self.read(self.file)
        elif self.variables and not any(handler is _readconfig for handler, _, _ in said):
            name, value = next(iter(self.variables.items()))
            raise ConfigError("there is no file to declare this variable", f"--var {name}={value}")
        for handler, value, origin in sorted(said, key=lambda one: one[0] is not _readconfig):
            if handler not in (_variable, _set):
                handler(self, value, origin)
        return self

    def set_variable(self, text: str, origin: str) -> None:
        """Take in the NAME=VALUE of `--var`.  Raises ConfigError."""
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError("expected NAME=VALUE", origin)
        if name in self.variables:
            raise ConfigError(f"the variable '{name}' is given twice", origin)
        self.variables[name] = value

    def read(self, path: str) -> None:
        """Take in a configuration file; what comes afterwards comes on top of it.  Raises ConfigError."""
        from qom.config import read_file

        read_file(self.builder, path, self.variables)
        self.builder.on_top()


def _from_plugin(name: str, word: str) -> Option:
    """The option `name` that a plugin brings; ConfigError with near misses when none does."""
    if name in PLUGIN_CHOICE:
        raise ConfigError("expected on a command line only, where plugins are chosen before they are loaded", word)
    registry = current().registry()
    brought = registry.extensions.options
    found = brought.get(name)
    if found is None:
        from qom.cli.qemu_options import refusal

        if (why := refusal(name)) is not None:
            raise NotModelled(why, word)
        missing = [row.name for row in registry.plugins if row.status != "loaded" and not row.by_choice]
        hint = f"; not loaded: {', '.join(missing)} (`qom plugins` says why)" if missing else ""
        raise ConfigError(f"invalid option{did_you_mean(name, {*_BY_NAME, *PLUGIN_CHOICE, *brought})}{hint}", word)

    def handle(line: CommandLine, text: str, origin: str) -> None:
        found.apply(line.builder, text, origin)

    return Option(found.name, found.argument, found.help, handle)


def argument_of(name: str) -> str | None:
    """What the option `name`, ours or a plugin's, is followed by ("" for nothing); None when there is no such option."""
    option = _BY_NAME.get(name) or current().registry().extensions.options.get(name)
    return None if option is None else option.argument


def _section(name: str) -> Handler:
    section, first = SECTIONS[name]

    def handle(line: CommandLine, text: str, origin: str) -> None:
        if name in ("device", "object", "blockdev") and text.lstrip().startswith("{"):
            said = _json(text, origin)
            if name == "object":
                _known_to_be_missing(said, origin)
            section(line.builder, said, origin)
            return
        if (asked := _asks_help(text, first)) is not None:
            line.help_for = line.help_for or (name, asked)
            return
        options = parse_options(text, first, origin)
        if name == "numa" and len(cpus := [v for k, v in split_options(text) if k == "cpus" and v]) > 1:
            options["cpus"] = ":".join(cpus)  # given again, they add up, as in QEMU
        if name == "smbios" and len(values := [v for k, v in split_options(text) if k == "value" and v]) > 1:
            options["value"] = values
        if name == "machine":
            for key in _DEVICE_TREE:
                if key in options:
                    raise NotModelled(f"machine: '{key}': a PC has no device tree", origin)
        if name == "object":
            _known_to_be_missing(options, origin)
        if name in ("drive", "machine"):
            options = _in_qemus_words(name, options, origin)
        for key in PLAIN_IN_MACHINE if name == "machine" else ():
            if key in options:
                line.builder.plain(key, options.pop(key), origin)
        section(line.builder, options, origin)

    return handle


def _known_to_be_missing(options: Options, origin: str) -> None:
    """Raise NotModelled for an object of QEMU's that is known not to be here, unless a plugin brings it."""
    driver = options.get("qom-type", "")
    if isinstance(driver, str) and driver.startswith("memory-backend-"):
        from qom.config.user_objects import MEMORY_BACKENDS, unknown_object

        registry = current().registry()
        if driver in MEMORY_BACKENDS and driver not in registry:
            raise unknown_object(registry, driver, origin)


def _in_qemus_words(name: str, options: Options, origin: str) -> Options:
    """Options without what only QEMU calls so; looked for only where there is something that we do not say ourselves."""
    if not options.keys() - _SAID_OFTEN:
        return options
    from qom.cli import qemu_words

    return (qemu_words.drive if name == "drive" else qemu_words.machine)(options, origin)


_SAID_OFTEN = frozenset({"type", "accel", "file", "format", "if", "id", "index", "media", "readonly", "snapshot"})


def _asks_help(text: str, first: str | None) -> str | None:
    """What `help` or `?` in an option string is about: "" for the list, else the type named."""
    parts = list(split_options(text))
    if not any(value is None and key in ("help", "?") for key, value in parts):
        return None
    if len(parts) == 1:
        return ""
    key, value = parts[0]
    return key if value is None else value if key == first else ""


def _json(text: str, origin: str) -> Options:
    import json

    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error.msg} at character {error.pos}", origin) from None
    if not isinstance(value, dict):
        raise ConfigError("not a JSON object", origin)
    return value


def _plain(name: str) -> Handler:
    return lambda line, text, origin: line.builder.plain(name, text, origin)


def _switch(name: str) -> Handler:
    return lambda line, text, origin: line.builder.plain(name, True, origin)


def _disk(index: int, media: str = "disk") -> Handler:
    return lambda line, text, origin: line.builder.drive({"file": text, "index": index, "media": media}, origin)


def _floppy(index: int) -> Handler:
    return lambda line, text, origin: line.builder.drive({"file": text, "if": "floppy", "index": index}, origin)


def _cpu(line: CommandLine, text: str, origin: str) -> None:
    if text in ("help", "?"):
        line.help_for = line.help_for or ("cpu", "")
    else:
        line.builder.cpu(text, origin)


def _log(line: CommandLine, text: str, origin: str) -> None:
    if text in ("help", "?"):
        line.help_for = line.help_for or ("log", "")
    else:
        line.builder.log_categories(text, origin)


def _set(line: CommandLine, text: str, origin: str) -> None:
    line.builder.set_option(text, origin)


def _machine_switch(name: str) -> Handler:
    return lambda line, text, origin: line.builder.machine({name: "off"}, origin)


def _data_dir(line: CommandLine, text: str, origin: str) -> None:
    if text in ("help", "?"):
        line.help_for = line.help_for or ("L", "")
    else:
        line.builder.data_dir(text)


def _watchdog_action(line: CommandLine, text: str, origin: str) -> None:
    line.builder.table("action", {"watchdog": text}, origin)


def _action(name: str, value: str) -> Handler:
    return lambda line, text, origin: line.builder.table("action", {name: value}, origin)


def _ignored(line: CommandLine, text: str, origin: str) -> None:
    """What it asks for is so anyway."""


def _monitor(mode: str, *, pretty: bool = False) -> Handler:
    def handle(line: CommandLine, text: str, origin: str) -> None:
        said: Options = {"backend": text, "mode": mode, **({"pretty": True} if pretty else {})}
        line.builder.monitor(said, origin)

    return handle


def _variable(line: CommandLine, text: str, origin: str) -> None:
    line.set_variable(text, origin)


def _readconfig(line: CommandLine, text: str, origin: str) -> None:
    from pathlib import Path

    from qom.config import read_ini
    from qom.config.document import SUFFIXES

    if Path(text).suffix.lower() in SUFFIXES:
        line.read(text)
    else:
        read_ini(line.builder, text)
        line.builder.on_top()


def _only_none(what: str) -> Handler:
    def handle(line: CommandLine, text: str, origin: str) -> None:
        if text != "none":
            raise NotModelled(f"{what} is not modelled: expected 'none'", origin)

    return handle


def _vga(line: CommandLine, text: str, origin: str) -> None:
    if text in OTHER_ADAPTERS:
        raise NotModelled(f"the display adapter '{text}' is not modelled: expected {' or '.join(VGA_KINDS)}", origin)
    line.builder.plain("vga", text, origin)


def _snapshot(line: CommandLine, text: str, origin: str) -> None:
    line.builder.snapshot()


def _show(what: str) -> Handler:
    def handle(line: CommandLine, text: str, origin: str) -> None:
        line.show = line.show or what

    return handle


OPTIONS: tuple[Option, ...] = (
    Option("machine", "TYPE[,prop=value]", "machine type and properties; accel=A:B too", _section("machine"), ("M",)),
    Option("accel", "NAME[:NAME][,prop=value]", "accelerators to try, in order", _section("accel")),
    Option("cpu", "MODEL[,+feature][,-feature]", "processor model", _cpu),
    Option("smp", "[cpus=]N[,sockets=N][,cores=N][,threads=N][,maxcpus=N]", "processors", _section("smp")),
    Option("numa", "node[,nodeid=N][,cpus=A-B][,mem=SIZE] | dist,src=,dst=,val=", "NUMA node", _section("numa")),
    Option("m", "[size=]SIZE", "guest memory, in MiB without a suffix", _section("memory")),
    Option("bios", "FILE", "firmware image; none: a kernel starts without firmware", _plain("firmware")),
    Option("kernel", "FILE", "kernel: a Linux bzImage, an ELF file with a PVH note, a multiboot image", _plain("kernel")),
    Option("initrd", "FILE", "initial RAM disk of the kernel, or its modules", _plain("initrd")),
    Option("append", "TEXT", "command line of the kernel", _plain("append")),
    Option("boot", "[order=]LETTERS[,once=][,menu=on][,splash=FILE][,splash-time=MS][,reboot-timeout=MS][,strict=on]",
           "boot order", _section("boot")),
    Option("drive", "file=FILE[,format=][,if=ide|floppy|none][,index=N][,media=][,readonly=][,snapshot=]",
           "disk or floppy", _section("drive")),
    Option("blockdev", "[driver=]DRIVER,node-name=NAME[,file=NODE|,filename=FILE][,read-only=on]",
           "block node for a device or under another node", _section("blockdev")),
    Option("fda", "FILE", "medium in floppy drive 0", _floppy(0)),
    Option("fdb", "FILE", "medium in floppy drive 1", _floppy(1)),
    Option("hda", "FILE", "disk 0", _disk(0)),
    Option("hdb", "FILE", "disk 1", _disk(1)),
    Option("hdc", "FILE", "disk 2", _disk(2)),
    Option("hdd", "FILE", "disk 3", _disk(3)),
    Option("snapshot", "", "keep what is written to disks in memory only", _snapshot),
    Option("device", "DRIVER[,id=ID][,bus=BUS][,prop=value]", "add a device", _section("device")),
    Option("object", "TYPE,id=ID[,prop=value]", "add an object", _section("object")),
    Option("chardev", "BACKEND,id=ID[,prop=value]", "add a character back end", _section("chardev")),
    Option("serial", "BACKEND", "next serial port's back end: stdio, null, file:F, pty, unix:F, tcp:H:P, chardev:ID",
           lambda line, text, origin: line.builder.serial(text, origin)),
    Option("parallel", "BACKEND", "next parallel port's back end, as for -serial",
           lambda line, text, origin: line.builder.parallel(text, origin)),
    Option("debugcon", "BACKEND", "debug port (E9h) and its back end",
           lambda line, text, origin: line.builder.debugcon(text, origin)),
    Option("qtest", "BACKEND", "back end on which a client of QEMU's qtest protocol is",
           lambda line, text, origin: line.builder.qtest(text, origin)),
    Option("qtest-log", "FILE|none", "write what is said there to this file instead of standard error",
           lambda line, text, origin: line.builder.qtest_log(text, origin)),
    Option("global", "DRIVER.PROP=VALUE", "default of a property for all objects of a type",
           lambda line, text, origin: line.builder.global_text(text, origin)),
    Option("name", "[guest=]NAME[,process=NAME][,debug-threads=on]", "name of the machine", _section("name")),
    Option("uuid", "UUID", "identity of the machine", _plain("uuid")),
    Option("nographic", "", "no display; the first serial port and a monitor are on stdio (Ctrl-A h)", _switch("nographic")),
    Option("nodefaults", "", "no default devices", _switch("nodefaults")),
    Option("rtc", "[base=utc|localtime|DATE][,clock=host|rt|vm][,driftfix=none]", "clock that keeps the date", _section("rtc")),
    Option("smbios", "type=N[,FIELD=VALUE] | file=FILE", "what SMBIOS tables say", _section("smbios")),
    Option("fw_cfg", "[name=]NAME,file=FILE | [name=]NAME,string=TEXT", "item for the guest", _section("fw_cfg")),
    Option("acpitable", "[sig=][,rev=][,oem_id=][,...],data=FILE[:FILE] | file=FILE", "ACPI table besides ours",
           _section("acpitable")),
    Option("option-rom", "FILE[,bootindex=N]", "option ROM for the firmware", _section("option-rom")),
    Option("L", "FOLDER", "look for firmware there first; `-L help` lists the folders", _data_dir),
    Option("no-acpi", "", "the same as -machine acpi=off", _machine_switch("acpi")),
    Option("no-hpet", "", "the same as -machine hpet=off", _machine_switch("hpet")),
    Option("no-fd-bootchk", "", "the same as -machine fd-bootchk=off", _machine_switch("fd-bootchk")),
    Option("set", "SECTION.ID.OPTION=VALUE", "set an option of a -device, -drive, -chardev or -object", _set),
    Option("add-fd", "fd=FD,set=N[,opaque=TEXT]", "let /dev/fdset/N stand for a descriptor we were started with",
           _section("add-fd")),
    Option("pidfile", "FILE", "write the number of this process there while it runs", _plain("pidfile")),
    Option("daemonize", "", "go on in the background once the machine is there", _switch("daemonize")),
    Option("action", "[reboot=reset|shutdown][,shutdown=poweroff|pause][,panic=...][,watchdog=...]",
           "what to do when the guest does that", _section("action")),
    Option("watchdog-action", "ACTION", "the same as -action watchdog=ACTION", _watchdog_action),
    Option("msg", "[timestamp=on][,guest-name=on]", "what messages begin with", _section("msg")),
    Option("echr", "NUMBER", "letter (1 is A) that is a command after Ctrl on a multiplexed back end",
           lambda line, text, origin: line.builder.escape(text, origin)),
    Option("no-user-config", "", "accepted for compatibility: there is none", _ignored),
    Option("no-reboot", "", "the same as -action reboot=shutdown", _action("reboot", "shutdown")),
    Option("no-shutdown", "", "the same as -action shutdown=pause", _action("shutdown", "pause")),
    Option("preconfig", "", "wait for x-exit-preconfig before the board is built", _switch("preconfig")),
    Option("S", "", "do not start the processors", _switch("paused")),
    Option("readconfig", "FILE", "read a configuration file first: QEMU's INI, or .toml, .json, .yaml", _readconfig),
    Option("var", "NAME=VALUE", "value of a variable that the file declares", _variable),
    Option("D", "FILE", "write the log there", lambda line, text, origin: line.builder.log_file(text, origin)),
    Option("trace", "[enable=]PATTERN[,events=FILE][,file=FILE]", "write down what matches; `-trace help` lists events",
           _section("trace")),
    Option("d", "CATEGORY[,CATEGORY]", "log these; `-d help` lists them", _log),
    Option("enable-kvm", "", "the same as -accel kvm",
           lambda line, text, origin: line.builder.accel({"accel": "kvm"}, origin)),
    Option("display", "none", "accepted for compatibility", _only_none("a display")),
    Option("qmp", "BACKEND", "a QMP monitor on this back end: unix:FILE,server=on,wait=off, tcp:H:P, stdio, chardev:ID",
           _monitor("control")),
    Option("qmp-pretty", "BACKEND", "the same, over several lines", _monitor("control", pretty=True)),
    Option("monitor", "BACKEND", "a monitor for people on this back end; none: no monitor", _monitor("readline")),
    Option("mon", "[chardev=]ID[,mode=readline|control][,pretty=on]", "a monitor on a back end that is there",
           _section("monitor")),
    Option("vga", "std|none", "display adapter of the board", _vga),
    Option("net", "none", "accepted for compatibility", _only_none("a network"), ("nic",)),
    Option("version", "", "print the version", _show("version")),
    Option("help", "", "print this", _show("help"), ("h",)),
)  # fmt: skip

_BY_NAME = {name: option for option in OPTIONS for name in (option.name, *option.aliases)}

WITH_ARGUMENT = frozenset(name for name, option in _BY_NAME.items() if option.argument)
"""Options of ours that are followed by an argument."""
ALONE = frozenset(_BY_NAME) - WITH_ARGUMENT
"""Options of ours that are not."""


def usage(program: str, own: Mapping[str, str] | None = None) -> str:
    """The text of `-help`: our options, those that choose plugins, and those of plugins with where they came from.

    own: options of the command itself, each with what it does; they come first.
    """
    lines = [f"usage: {program} [options] [disk image]", ""]
    lines += [_row(f"  {head}", text) for head, text in (own or {}).items()]
    lines += [""] if own else []
    for option in OPTIONS:
        lines.append(_help_line("/".join(f"-{name}" for name in (*option.aliases, option.name)), option))
    lines += ["", "Plugins:", *(_help_line(f"--{name}", choice) for name, choice in PLUGIN_CHOICE.items())]
    brought = sorted(current().registry().extensions.options.values(), key=lambda o: (o.origin, o.name))
    for origin, options in itertools.groupby(brought, key=lambda o: o.origin):
        lines += ["", f"Options of {origin}:", *(_help_line(f"-{o.name}", o) for o in options)]
    lines += ["", "A comma inside a value is written twice.  `help` as a value lists what there is: -device help."]
    return "\n".join(lines)


def _help_line(names: str, option: Option | SystemOption | Choice) -> str:
    return _row(f"  {names} {option.argument}".rstrip(), option.help)


def _row(head: str, text: str) -> str:
    return f"{head:30} {text}" if len(head) < 30 else f"{head}\n{'':30} {text}"


def log_help() -> str:
    """The text of `-d help`."""
    rows = {**LOG_CATEGORIES, "trace:PATTERN": "as -trace PATTERN"}
    return "\n".join(["Log categories:", *(f"  {name:14} {what}" for name, what in rows.items())])


def trace_help() -> str:
    """The text of `-trace help`."""
    return "\n".join(["Events:", *(f"  {name:14} {what}" for name, what in TRACE_EVENTS.items())])
