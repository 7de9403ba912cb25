"""What is said on a command line or in a file, collected into a `MachineConfig`.

`ConfigBuilder` takes option dicts, the common form of the command line, INI and TOML; the order in which it is told
things does not matter.  Whether a driver or a property exists is for whoever builds the machine to say.
"""

from __future__ import annotations

import contextlib
import os.path
from collections.abc import Callable, Iterator

from qom.config.model import (
    LOG_CATEGORIES,
    TRACE_EVENTS,
    VGA_KINDS,
    AccelChoice,
    ChardevEntry,
    CpuChoice,
    DeviceEntry,
    DriveEntry,
    GlobalEntry,
    MachineConfig,
    MonitorEntry,
    NumaDistance,
    NumaNode,
    ObjectEntry,
    Smp,
    TableEntry,
)
from qom.errors import ConfigError, NotModelled, PathError, did_you_mean
from qom.object import check_id
from qom.options import Options, Origin, Report, Reported, Taker, at, format_options, parse_options, raise_it, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MIB = 1 << 20


# Small languages inside option values


def parse_smp(options: Options, origin: str = "", report: Report = raise_it) -> Smp:
    """`-smp`: what is left out follows from the rest, as in QEMU (cores before sockets before threads)."""
    take = Taker(options, "smp", origin, report)
    names = ("cpus", "sockets", "cores", "threads", "maxcpus")
    given = {name: take.number(name, low=1, high=4096) for name in names}
    for fixed in ("dies", "clusters", "books", "drawers", "modules"):
        if (take.number(fixed, low=1) or 1) != 1:
            take.report(f"'{fixed}' must be 1: this processor topology has sockets, cores and threads", fixed)
    take.done()
    if take.failed:
        return Smp(origin=origin)
    cpus, sockets, cores, threads, maxcpus = (given[name] or 0 for name in names)
    maxcpus = maxcpus or cpus
    if not maxcpus:
        sockets, cores, threads = sockets or 1, cores or 1, threads or 1
    elif not cores:
        sockets, threads = sockets or 1, threads or 1
        cores = maxcpus // (sockets * threads)
    elif not sockets:
        threads = threads or 1
        sockets = maxcpus // (cores * threads)
    threads = threads or maxcpus // (sockets * cores)
    total = sockets * cores * threads
    maxcpus = maxcpus or total
    cpus = cpus or maxcpus
    if total != maxcpus:
        raise take.error(
            f"sockets ({sockets}) * cores ({cores}) * threads ({threads}) is {total}:"
            f" expected {maxcpus}, the number of {'cpus' if maxcpus == cpus else 'maxcpus'}"
        )
    if cpus > maxcpus:
        raise take.error(f"cpus ({cpus}) cannot be more than maxcpus ({maxcpus})")
    return Smp(cpus, sockets, cores, threads, maxcpus, origin)


def parse_cpu(text: str, origin: str = "") -> CpuChoice:
    """`-cpu MODEL[,+feature][,-feature][,feature=value]`."""
    model, _, rest = text.partition(",")
    if not model or "=" in model:
        raise ConfigError(f"cpu: no model in '{text}': expected MODEL[,+feature][,-feature][,feature=value]", origin)
    features: dict[str, bool | int | str] = {}
    for key, value in parse_options(rest, origin=origin).items():
        if key[:1] in "+-":
            if value != "on" or len(key) == 1:
                raise ConfigError(f"cpu: '{key}' cannot have a value: expected +feature or -feature", origin)
            features[key[1:]] = key[0] == "+"
        else:
            features[key] = value == "on" if value in ("on", "off") else str(value)
    return CpuChoice(model, features, origin)


def parse_cpus(value: Any, take: Taker) -> list[int]:
    """A processor list: 3, "0-3", "0,2", "0-1:4" or [0, 1]."""
    import re

    parts = value if isinstance(value, list) else re.split(r"[,:]", str(value))
    out: list[int] = []
    for part in parts:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", str(part).strip())
        if match is None or (match[2] and int(match[2]) < int(match[1])) or int(match[2] or match[1]) > 4095:
            raise take.error(f"'cpus' cannot be {shown(value)}: expected FIRST or FIRST-LAST", "cpus")
        out += range(int(match[1]), int(match[2] or match[1]) + 1)
    return out


def parse_chardev_shorthand(text: str, id: str, origin: str = "") -> ChardevEntry | None:
    """What `-serial`, `-parallel`, `-debugcon` and the like take in place of an id; None for "none".

    stdio, null, pty, ringbuf, console, none, file:PATH, pipe:PATH, unix:PATH[,server=on][,wait=off],
    tcp:[HOST]:PORT[,...], telnet:[HOST]:PORT[,...], udp:[HOST]:PORT[@[HOST]:PORT].
    """
    kind, _, rest = text.partition(":")
    if text == "none":
        return None
    plain, _, options = text.partition(",")
    if plain in ("stdio", "null", "pty", "ringbuf", "console"):
        return ChardevEntry(plain, id, _legacy(parse_options(options, origin=origin)), origin)
    if kind in ("file", "pipe") and rest:
        return ChardevEntry(kind, id, {"path": rest}, origin)
    if kind in ("unix", "tcp", "telnet") and rest:
        where, _, options = rest.partition(",")
        props = _legacy(parse_options(options, origin=origin))
        if kind == "unix":
            return ChardevEntry("socket", id, {"path": where, **props}, origin)
        if kind == "telnet":
            props["telnet"] = "on"
        return ChardevEntry("socket", id, {**_host_port(where, text, kind, origin), **props}, origin)
    if kind == "udp" and rest:
        there, at_sign, here = rest.partition("@")
        props = _host_port(there, text, kind, origin)
        if at_sign:
            local = _host_port(here, text, kind, origin)
            props |= {"localaddr": local["host"], "localport": local["port"]}
        return ChardevEntry("udp", id, {key: value for key, value in props.items() if value}, origin)
    if plain.partition(":")[0] == "vc":
        raise NotModelled(f"character device '{text}': a display is not modelled: expected null, or another", origin)
    if kind == "websocket":
        raise NotModelled(f"character device '{text}': websocket framing is not modelled: expected tcp:", origin)
    known = "stdio, null, none, pty, ringbuf, console, file:PATH, pipe:PATH, unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT"
    raise ConfigError(f"unknown character device '{text}': expected {known}, udp:HOST:PORT or chardev:ID", origin)


def _host_port(where: str, text: str, kind: str, origin: str) -> Options:
    host, colon, port = where.rpartition(":")
    if not colon or not port:
        raise ConfigError(f"character device '{text}': expected {kind}:[HOST]:PORT", origin)
    return {"host": host.strip("[]"), "port": port}


def _legacy(props: Options) -> Options:
    out = dict(props)
    for old, new in (("nowait", "wait"), ("noserver", "server")):
        if out.pop(old, None) is not None:
            out[new] = "off"
    return out


class ConfigBuilder:
    """Collects what was said, in any order; `finish()` checks how it fits together and gives the `MachineConfig`.

    Args:
        report: told of every error.  The default raises the first one; one that returns is told of all of them, and
            what was wrong is left out of the configuration.
    """

    def __init__(self, report: Report = raise_it) -> None:
        self.config = MachineConfig()
        self.report = report
        self.complete = True  # False: not all that was to be told could be read, and names may be missing for that
        self.named: set[str] = set()  # the ids that were said, also those of what makes no sense and is left out
        self._smp: tuple[Options, str] | None = None
        self._numa_cpus: list[tuple[Options, str]] = []
        self._numa_whole = True  # False: a node, or how many processors there are, could not be read
        self._serials: list[tuple[str, str]] = []
        self._parallels: list[tuple[str, str]] = []
        self._debugcon: tuple[str, str] | None = None
        self._qtest: tuple[str, str] | None = None
        self._qtest_log: tuple[str, str] | None = None
        self._no_monitor = False  # not even the one that would be there by default
        self._monitors: list[tuple[str, MonitorEntry]] = []  # with the shorthand of its back end, "" for one by id
        self._irqchip: tuple[Any, str] | None = None
        self._snapshot = False
        self._accels_replaced = False
        self._set: dict[tuple[str, str], list[tuple[str, str, str]]] = {}  # by section and id: option, value, place
        self._set_used: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Report what goes wrong inside instead of letting it out."""
        try:
            yield
        except Reported:
            pass
        except ConfigError as error:
            self.report(error)

    def on_top(self) -> None:
        """What is told from now on comes on top of a file: the accelerators named next replace the file's."""
        self._accels_replaced = True

    # Sections; each takes option dicts, and the first positional one under the name QEMU gives it

    def machine(self, options: Options, origin: str) -> None:
        """`-machine TYPE[,accel=A:B][,prop=value]`; given again, it adds."""
        take = self._take(options, "machine", origin)
        name = take.text("type")
        if name is not None:
            if name:
                self.config.machine.type = name
            else:
                take.report("'type' is empty: expected a machine type; `-M help` lists them", "type")
            self.config.machine.board = None
        if (board := take.text("board")) is not None:
            if name is not None:
                take.report("'type' and 'board' say the same thing: expected one of them", "board")
            where = at(origin, "board")
            folder = os.path.dirname(where.file) if isinstance(where, Origin) else ""
            self.config.machine.board = os.path.abspath(os.path.join(folder, board))
        if (accel := take.raw("accel")) is not None:
            with self.gathering():
                self.accel({"accel": accel}, at(origin, "accel"))
        for key in ("kernel-irqchip", "kernel_irqchip"):
            if (chip := take.raw(key)) is not None:
                self._irqchip = (chip, at(origin, key))
        if (memory := take.raw("memory")) is not None:
            self.memory({"size": memory}, at(origin, "memory"))
        self.config.machine.props.update(take.rest())
        self.config.machine.origin = origin

    def accel(self, options: Options, origin: str) -> None:
        """`-accel NAME[:NAME][,option=value]`; several are tried in the order given."""
        take = self._take(options, "accelerator", origin)
        names = take.raw("accel", "name")
        parts = names if isinstance(names, list) else str(names or "").split(":")
        if not parts or not all(isinstance(p, str) and p for p in parts):
            raise take.error(f"cannot be {shown(names)}: expected NAME or NAME:NAME, such as kvm:simulated", "accel")
        rest = take.rest()
        if self._accels_replaced:
            self.config.accelerators.clear()
            self._accels_replaced = False
        self.config.accelerators += [AccelChoice(name, dict(rest), origin) for name in parts]

    def cpu(self, text: str, origin: str) -> None:
        """`-cpu`; the last one counts."""
        self.config.cpu = parse_cpu(text, origin)

    def smp(self, options: Options, origin: str) -> None:
        """`-smp`; given again, it adds."""
        self._smp = ({**(self._smp[0] if self._smp else {}), **options}, origin)

    def memory(self, options: Options, origin: str) -> None:
        """`-m [size=]SIZE`; a bare number is in MiB."""
        take = self._take(options, "memory", origin)
        size = take.size("size", "m", low=1)
        for name in ("slots", "maxmem"):
            if take.raw(name) is not None:
                take.report(f"'{name}': memory hotplug is not modelled: expected size only", name)
        take.done()
        if size is not None:
            self.config.memory = size
            self.config.origins["memory"] = at(origin, "size")

    def numa(self, options: Options, origin: str) -> None:
        """`-numa node,...` and `-numa dist,...`."""
        take = self._take(options, "numa", origin)
        kind = take.choice("type", ("node", "dist", "cpu"), "node")
        if kind == "cpu":
            self._numa_cpus.append((take.rest(), origin))
        elif kind == "dist":
            self._numa_distance(take)
        else:
            self._numa_node(take)

    def _numa_distance(self, take: Taker) -> None:
        src, dst, val = (take.number(n, high=h) for n, h in (("src", 127), ("dst", 127), ("val", 255)))
        take.done()
        if take.failed:
            return
        if src is None or dst is None or val is None:
            raise take.error("dist: expected src=NODE,dst=NODE,val=DISTANCE")
        if val < 10 or (src == dst) != (val == 10):
            raise take.error(f"dist: 'val' cannot be {val}: expected 10 from a node to itself, else 11..255", "val")
        self.config.numa_distances.append(NumaDistance(src, dst, val, take.origin))

    def _numa_node(self, take: Taker) -> None:
        nodeid = take.number("nodeid", high=127)
        cpus = take.raw("cpus")
        mem = take.size("mem", "m")
        if take.raw("memdev") is not None:
            take.report("'memdev': memory back ends are not modelled: expected mem=SIZE", "memdev")
        take.done()
        if take.failed:
            self._numa_whole = False
            return
        used = {n.nodeid for n in self.config.numa}
        if nodeid is None:
            nodeid = next((n for n in range(128) if n not in used), None)
            if nodeid is None:
                raise take.error("there is room for 128 nodes")
        if nodeid in used:
            raise take.error(f"'nodeid' {nodeid} is given twice", "nodeid")
        numbers: list[int] = []
        try:
            numbers = parse_cpus(cpus, take) if cpus is not None else []
        except ConfigError as error:
            self._not_whole(error)
        self.config.numa.append(NumaNode(nodeid, numbers, mem, take.origin))

    def device(self, options: Options, origin: str) -> None:
        """`-device DRIVER[,id=ID][,bus=BUS][,prop=value]`."""
        take = self._take(options, "device", origin)
        origin = take.origin
        driver = take.needed("driver")
        entry = DeviceEntry(driver, self._id(take), take.text("bus"), {}, origin)
        entry.props = take.rest()
        self.config.devices.append(entry)

    def object(self, options: Options, origin: str) -> None:
        """`-object TYPE,id=ID[,prop=value]`."""
        take = self._take(options, "object", origin)
        origin = take.origin
        driver = take.needed("qom-type", "type", "driver")
        id = self._id(take, required=True)
        self.config.objects.append(ObjectEntry(driver, id or "", take.rest(), origin))

    def chardev(self, options: Options, origin: str) -> None:
        """`-chardev BACKEND,id=ID[,prop=value]`."""
        take = self._take(options, "chardev", origin)
        origin = take.origin
        backend = take.needed("backend")
        id = self._id(take, required=True)
        self._add_chardev(ChardevEntry(backend, id or "", _legacy(take.rest()), origin))

    def drive(self, options: Options, origin: str) -> None:
        """`-drive file=PATH[,if=ide|floppy|none][,index=N][,format=NAME][,media=cdrom][,readonly=on][,snapshot=on][,id=ID]`.

        A format of a plugin's takes what else is said as its properties.
        """
        take = self._take(options, "drive", origin)
        origin = take.origin
        interface = take.choice("if", ("ide", "floppy", "none"), "ide")
        file = take.needed("file")
        entry = DriveEntry(
            self._id(take) or "",
            file,
            take.text("format") or "raw",
            interface,
            take.number("index", high=3),
            take.number("bus", high=1),
            take.number("unit", high=1),
            take.choice("media", ("disk", "cdrom"), "disk"),
            take.switch("readonly"),
            take.switch("snapshot"),
            origin,
        )
        if entry.format != "raw":
            entry.props = take.rest()
        elif (locking := take.raw("locking")) is not None:
            entry.props = {"locking": locking}
        take.done()
        if entry.index is not None and (entry.bus is not None or entry.unit is not None):
            take.report("'index' cannot be combined with 'bus' and 'unit'", "index")
            entry.bus = entry.unit = None
        if interface == "floppy" and entry.media == "cdrom":
            take.report("'media' cannot be cdrom with if=floppy: expected disk", "media")
            entry.media = "disk"
        if interface == "none" and not entry.id:
            with self.gathering():
                raise take.missing("id", why=" with if=none, for a device to refer to")
        self.config.drives.append(entry)

    def blockdev(self, options: Options, origin: str) -> None:
        """`-blockdev driver=NAME,node-name=NAME[,file=NODE | ,filename=PATH][,read-only=on]`."""
        if isinstance(name := options.get("node-name"), str):
            self.named.add(name)
        from qom.config.blockdev import block_nodes

        self.config.drives += block_nodes(options, origin, self.report)

    def global_(self, options: Options, origin: str) -> None:
        """`-global DRIVER.PROPERTY=VALUE`, as driver=, property=, value=."""
        take = self._take(options, "global", origin)
        driver, name = take.needed("driver"), take.needed("property")
        value = take.raw("value")
        take.done()
        if value is None:
            raise take.missing("value")
        self.config.globals.append(GlobalEntry(driver, name, value, origin))

    def global_text(self, text: str, origin: str) -> None:
        """`-global` as written on a command line."""
        import re

        match = re.fullmatch(r"([^=,]+)\.([^.=,]+)=(.*)", text, re.DOTALL)
        if match is not None:
            self.global_({"driver": match[1], "property": match[2], "value": match[3]}, origin)
        elif text.startswith("driver="):
            self.global_(parse_options(text, origin=origin), origin)
        else:
            raise ConfigError(f"global: '{text}': expected DRIVER.PROPERTY=VALUE", origin)

    def serial(self, text: str, origin: str) -> None:
        """`-serial`: the next serial port's back end."""
        self._serials.append((text, origin))

    def parallel(self, text: str, origin: str) -> None:
        """`-parallel`: the next parallel port's back end."""
        self._parallels.append((text, origin))

    def debugcon(self, text: str, origin: str) -> None:
        """`-debugcon`: the debug port's back end."""
        self._debugcon = (text, origin)

    def qtest(self, text: str, origin: str) -> None:
        """`-qtest`: the back end on which a client of the qtest protocol is; the last one counts."""
        self._qtest = (text, origin)

    def qtest_log(self, text: str, origin: str) -> None:
        """`-qtest-log`: the file that what is said there is written to, or "none"."""
        self._qtest_log = (text, origin)

    def monitor(self, options: Options, origin: str) -> None:
        """`-mon [chardev=]ID[,mode=readline|control][,pretty=on]`; `backend` in place of `chardev` makes the back end.

        `backend=none` is no monitor, also in place of the one that `-nographic` brings.
        """
        take = self._take(options, "monitor", origin)
        id, backend = take.text("chardev"), take.text("backend")
        mode = take.choice("mode", ("readline", "control"), "readline")
        pretty = take.switch("pretty")
        take.done()
        if (id is None) == (backend is None):
            both = "both are" if id is not None else "neither is"
            raise take.error(f"'chardev' names a back end and 'backend' makes one: expected one of them, {both} there")
        if pretty and mode != "control":
            raise take.error("'pretty' is only of use with mode=control", "pretty")
        if backend == "none":
            self._no_monitor = True
            return
        self._monitors.append((backend or "", MonitorEntry(id or "", mode, pretty, origin)))

    def part(self, options: Options, origin: str) -> None:
        """A part that the machine's board has in another form, besides, or no more."""
        from qom.config.parts import parse_part

        self.config.parts.append(parse_part(options, origin, self.report))

    def wire(self, options: Options, origin: str) -> None:
        """A wire that the machine's board has besides, or no more."""
        from qom.config.parts import parse_wire

        self.config.wires.append(parse_wire(options, origin, self.report))

    def region(self, options: Options, origin: str) -> None:
        """A piece of memory that the machine's board has in another form, besides, or no more."""
        from qom.config.parts import parse_region

        self.config.regions.append(parse_region(options, origin, self.report))

    def boot(self, options: Options, origin: str) -> None:
        """`-boot [order=]LETTERS[,once=LETTERS][,menu=on][,splash=FILE][,splash-time=MS][,reboot-timeout=MS][,strict=on]`."""
        take = self._take(options, "boot", origin)
        for name in ("order", "once"):
            if (letters := take.text(name)) is not None:
                if not letters or not set(letters) <= set("acdn") or len(set(letters)) != len(letters):
                    expected = "expected letters out of a, c, d, n, each once"
                    take.report(f"'{name}' cannot be {letters!r}: {expected}", name)
                    continue
                self.config.boot[name] = letters
        for name in ("menu", "strict"):
            if name in take.options:
                self.config.boot[name] = take.switch(name)
            take.known.append(name)
        if (ms := take.number("splash-time", high=65535)) is not None:
            self.config.boot["splash-time"] = ms
        if (ms := take.number("reboot-timeout", high=65535)) is not None:
            self.config.boot["reboot-timeout"] = ms
        if (picture := take.text("splash")) is not None:
            self.config.boot["splash"] = picture
        take.done()
        self.config.origins["boot"] = origin

    def table(self, what: str, options: Options, origin: str) -> None:
        """One of the tables of qom/config/tables.py; those that are no list are put together when they are given again."""
        from qom.config.tables import parse_table

        said = parse_table(what, options, origin, self.report)
        config = self.config
        if (entries := getattr(config, TABLE_LISTS.get(what, ""), None)) is not None:
            entries.append(TableEntry(said, origin))
        elif what == "name":
            fields = {"guest": "name", "process": "process", "debug-threads": "debug_threads"}
            for key, value in said.items():
                self.plain(fields[key], value, at(origin, key))
        else:
            getattr(config, what).update(said)
            config.origins[what] = origin

    def escape(self, value: int | str, origin: str) -> None:
        """`-echr`: the number of the letter (1 is A) that is a command after Ctrl."""
        take = Taker({"echr": value}, "echr", origin, self.report)
        self.plain("escape", take.number("echr", high=255), origin)

    def data_dir(self, name: str) -> None:
        """`-L`: a folder in which firmware is looked for, after those said before."""
        self.config.data_dirs.append(name)

    def set_option(self, text: str, origin: str) -> None:
        """`-set SECTION.ID.OPTION=VALUE`: an option of an entry that is told afterwards; the last one holds."""
        import re

        match = re.fullmatch(r"([^.=]+)\.([^=]+)\.([^.=]+)=(.*)", text, re.DOTALL)
        if match is None:
            raise ConfigError(f"set: '{text}': expected SECTION.ID.OPTION=VALUE, such as device.nic0.addr=5", origin)
        section, id, option, value = match.groups()
        if section not in SETTABLE:
            known = ", ".join(SETTABLE)
            raise ConfigError(f"set: no section '{section}': expected {known}{did_you_mean(section, SETTABLE)}", origin)
        self._set.setdefault((section, id), []).append((option, value, origin))

    def log_categories(self, value: str | list[str], origin: str) -> None:
        """`-d`: categories to log, comma-separated."""
        for name in value if isinstance(value, list) else value.split(","):
            if name.startswith("trace:"):
                self.trace({"enable": name.removeprefix("trace:")}, origin)
            elif name in QEMU_LOG_ITEMS:
                text = f"log category '{name}' of QEMU's is not modelled: expected some of {', '.join(LOG_CATEGORIES)}"
                self.report(NotModelled(text, origin))
            elif name not in LOG_CATEGORIES:
                known = ", ".join(LOG_CATEGORIES)
                hint = did_you_mean(name, LOG_CATEGORIES)
                self.report(ConfigError(f"unknown log category '{name}': expected some of {known}{hint}", origin))
            elif name not in self.config.log.categories:
                self.config.log.categories.append(name)
        self.config.log.origin = origin

    def trace(self, options: Options, origin: str) -> None:
        """`-trace [enable=]PATTERN[,events=FILE][,file=FILE]`: short for an object that writes down what matches."""
        import fnmatch

        take = self._take(options, "trace", origin)
        pattern, events, file = take.text("enable"), take.text("events"), take.text("file")
        take.done()
        patterns = [] if pattern is None else [pattern]
        if events is not None:
            try:
                with open(events, encoding="utf-8", errors="replace") as lines:
                    patterns += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
            except OSError as error:
                raise take.error(f"'events': '{events}' cannot be read: {error.strerror}", "events") from None
        chosen: list[str] = []
        for one in patterns:
            wanted = one.removeprefix("-")
            found = [name for name in TRACE_EVENTS if fnmatch.fnmatchcase(name, wanted)]
            if not found:
                known = ", ".join(TRACE_EVENTS)
                hint = did_you_mean(wanted, TRACE_EVENTS)
                raise take.error(f"no event '{wanted}': expected some of {known}, or a pattern{hint}", "enable")
            chosen = [name for name in chosen if name not in found] + ([] if one.startswith("-") else found)
        if not chosen:
            raise take.error("nothing to trace: expected a pattern, such as ports or *")
        number = sum(entry.driver == "trace" for entry in self.config.objects)
        props = {"what": chosen, "file": file or "/dev/stderr"}
        self.config.objects.append(ObjectEntry("trace", f"trace{number}", props, origin))

    def log_file(self, name: str, origin: str) -> None:
        """`-D`: where the log goes."""
        self.config.log.file = name
        self.config.log.origin = origin

    def plain(self, name: str, value: Any, origin: str) -> None:
        """One of the plain values of MachineConfig: firmware, kernel, initrd, append, name, uuid and the switches."""
        setattr(self.config, name, value)
        self.config.origins[name] = origin

    def snapshot(self) -> None:
        """`-snapshot`: every drive keeps what is written in memory."""
        self._snapshot = True

    def _take(self, options: Options, what: str, origin: str) -> Taker:
        if isinstance(id := options.get("id"), str):
            self.named.add(id)
            if (given := self._set.get((what, id))) is not None:
                self._set_used.add((what, id))
                options = {**options, **{option: value for option, value, _ in given}}
                parts = {option: place for option, _, place in given}
                if isinstance(origin, Origin):
                    parts = {**origin.parts, **parts}
                    origin = Origin(origin, parts, origin.path, origin.file, origin.line, origin.column)
                else:
                    origin = Origin(origin, parts)
        return Taker(options, what, origin, self.report, whole=self.complete)

    def _id(self, take: Taker, *, required: bool = False) -> str | None:
        id = take.text("id")
        if id is None:
            if required:
                with self.gathering():
                    raise take.missing("id")
            return None
        try:
            return check_id(id)
        except PathError as error:
            take.report(str(error), "id")
            return None

    def _not_whole(self, error: ConfigError) -> None:
        """Report what leaves open which nodes or processors there are."""
        self._numa_whole = False
        self.report(error)

    # The whole

    def finish(self) -> MachineConfig:
        """Check what only shows when all is known, and fill in what follows: back ends of ports, ids, shares."""
        config = self.config
        if self._smp is not None:
            try:
                config.smp = parse_smp(*self._smp, self._not_whole)
            except ConfigError as error:
                self._not_whole(error)
        for step in (
            self._give_irqchip,
            self._place_drives,
            self._make_qtest,
            self._make_ports,
            self._give_escape,
            self._check_monitors,
            self._check_ids,
            self._check_set,
            self._check_numa,
            self._check_plain,
        ):
            with self.gathering():
                step()
        return config

    def _check_plain(self) -> None:
        config = self.config
        for name in ("initrd", "append") if config.kernel is None else ():
            if getattr(config, name) is not None:
                text = f"'{name}' is only of use with a kernel: expected -kernel too"
                self.report(ConfigError(text, config.origin_of(name)))
        if config.uuid is not None:
            import re

            if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", config.uuid):
                text = f"uuid cannot be {config.uuid!r}: expected 8-4-4-4-12 hexadecimal digits"
                self.report(ConfigError(text, config.origin_of("uuid")))
        if config.vga not in (None, *VGA_KINDS):
            text = f"vga cannot be {config.vga!r}: expected {' or '.join(VGA_KINDS)}{did_you_mean(str(config.vga), VGA_KINDS)}"
            self.report(ConfigError(text, config.origin_of("vga")))

    def _give_irqchip(self) -> None:
        if self._irqchip is None:
            return
        chip, origin = self._irqchip
        choices = [a for a in self.config.accelerators if a.name == "kvm"]
        if not choices:
            raise ConfigError("machine: 'kernel-irqchip' is only of use with the accelerator kvm", origin)
        for choice in choices:
            choice.options.setdefault("kernel-irqchip", chip)

    def _place_drives(self) -> None:
        """Give every drive of the board's its place, and an id that follows from it."""
        self._place("ide", "IDE", 4)
        self._place("floppy", "floppy", 2)
        if any(drive.node for drive in self.config.drives):
            from qom.config.blockdev import over_their_files

            over_their_files(self.config.drives, report=self.report)
        for drive in self.config.drives:
            drive.snapshot = drive.snapshot or (self._snapshot and not drive.node)  # as in QEMU
            drive.readonly = drive.readonly or drive.media == "cdrom"

    def _place(self, interface: str, name: str, room: int) -> None:
        """Give the drives on an interface's controller their places: index = 2 * bus + unit."""
        taken: dict[int, DriveEntry] = {}
        drives = [d for d in self.config.drives if d.interface == interface]
        full = f"drive: the {name} controller has room for {room} drives"
        for drive in drives:
            if drive.index is None and (drive.bus is not None or drive.unit is not None):
                drive.index = 2 * (drive.bus or 0) + (drive.unit or 0)
            if drive.index is not None and drive.index >= room:
                self.report(ConfigError(f"{full}: expected 'index' to be at most {room - 1}", drive.origin))
            if drive.index is not None:
                if drive.index in taken:
                    other = taken[drive.index].origin
                    self.report(ConfigError(f"drive: index {drive.index} is taken already, by {other}", drive.origin))
                taken.setdefault(drive.index, drive)
        for drive in drives:
            if drive.index is None:
                places = (2, 0, 1, 3) if drive.media == "cdrom" else range(room)
                free = [n for n in places if n not in taken]
                if not free:
                    self.report(ConfigError(full, drive.origin))
                    continue
                drive.index = free[0]
                taken[drive.index] = drive
            drive.bus, drive.unit = divmod(drive.index, 2)
            if drive is not taken[drive.index]:
                continue  # which was reported: no id of the same place, too
            drive.id = drive.id or drive.own_id

    def _make_qtest(self) -> None:
        """`-qtest` is short for an object of that type and its back end."""
        if self._qtest is None:
            if self._qtest_log is not None:
                text = "'qtest-log' is only of use with a client: expected -qtest too"
                self.report(ConfigError(text, self._qtest_log[1]))
            return
        text, origin = self._qtest
        chardev = self._port("qtest", text, origin)
        if chardev is not None:
            log = {"log": self._qtest_log[0]} if self._qtest_log is not None else {}
            self.config.objects.append(ObjectEntry("qtest", "qtest", {"chardev": chardev, **log}, origin))

    def _make_ports(self) -> None:
        config = self.config
        self._make_monitors()
        if self._debugcon is not None:
            config.debugcon = self._port("debugcon", *self._debugcon)
        serials = list(self._serials)
        said = (*serials, *self._parallels)
        uses_stdio = any(c.backend == "stdio" for c in config.chardevs) or any(
            t.removeprefix("mon:").startswith("stdio") for t, _ in said
        )
        if not config.nodefaults and not uses_stdio:
            origin = config.origin_of("nographic")
            monitor = config.nographic and not (
                self._monitors or self._no_monitor or any(t[:4] == "mon:" for t, _ in said)
            )
            if not serials and not config.brings_serial:
                nowhere = config.daemonize and not config.nographic
                serials = [("mon:stdio" if monitor else "null" if nowhere else "stdio", origin)]
            elif monitor:
                self._monitors.append(("stdio", MonitorEntry("", origin=origin)))
                self._make_monitors()
        config.serials = [self._port(f"serial{n}", text, origin) for n, (text, origin) in enumerate(serials)]
        config.parallels = [self._port(f"parallel{n}", *said) for n, said in enumerate(self._parallels)]

    def _check_monitors(self) -> None:
        shared = {entry.id for entry in self.config.chardevs if entry.backend == "mux"}
        for entry in self.config.monitors:
            if entry.mode == "control" and entry.chardev in shared:
                text = f"monitor: '{entry.chardev}' is multiplexed: a QMP monitor wants a back end of its own"
                self.report(NotModelled(text, entry.origin))

    def _give_escape(self) -> None:
        """`-echr` is of every multiplexer that has no other."""
        for entry in self.config.chardevs if self.config.escape is not None else ():
            if entry.backend == "mux":
                entry.props.setdefault("escape", self.config.escape)

    def _make_monitors(self) -> None:
        made = 0
        for backend, entry in self._monitors:
            text = backend or f"chardev:{entry.chardev}"
            found = self._port(f"compat_monitor{made}", text, entry.origin)
            if found is not None:
                made += bool(backend) and not backend.startswith("chardev:")
                entry.chardev = found
                self.config.monitors.append(entry)

    def _port(self, id: str, text: str, origin: str) -> str | None:
        if text.startswith("chardev:"):
            wanted = text.removeprefix("chardev:")
            known = [c.id for c in self.config.chardevs]
            if wanted not in known:
                if not self.complete or wanted in self.named:
                    return None
                self.report(ConfigError(f"no character device '{wanted}'{did_you_mean(wanted, known)}", origin))
                return None
            return wanted
        with_monitor = text.startswith("mon:")
        entry = None
        with self.gathering():
            entry = parse_chardev_shorthand(text.removeprefix("mon:"), id, origin)
        if entry is None:
            return None
        if with_monitor:
            entry.props["mux"] = "on"
            if entry.backend == "stdio":
                entry.props.setdefault("signal", "off")  # Ctrl-C is the guest's; Ctrl-A x ends the machine
            self.config.monitors.append(MonitorEntry(id, "readline", False, origin))
        self._add_chardev(entry)
        return id

    def _add_chardev(self, entry: ChardevEntry) -> None:
        """Take in a back end; `mux=on` is short for a multiplexer of that id, and the back end as ID-base behind it."""
        take = Taker(entry.props, "chardev", entry.origin, self.report)
        mux = take.switch("mux")
        entry.props = take.rest()
        if not mux:
            self.config.chardevs.append(entry)
            return
        id, entry.id = entry.id, f"{entry.id}-base"
        self.named.add(entry.id)
        self.config.chardevs += [entry, ChardevEntry("mux", id, {"chardev": entry.id}, entry.origin)]

    def _check_ids(self) -> None:
        config = self.config
        groups: list[tuple[str, list[Any]]] = [
            ("device", config.devices),
            ("object", config.objects),
            ("chardev", config.chardevs),
            ("drive", config.drives),
        ]
        for what, entries in groups:
            seen: dict[str, str] = {}
            for entry in entries:
                if entry.id in seen:
                    other = f", first by {seen[entry.id]}" if seen[entry.id] else ""
                    self.report(ConfigError(f"{what}: the id '{entry.id}' is given twice{other}", entry.origin))
                elif entry.id:
                    seen[entry.id] = entry.origin

    def _check_set(self) -> None:
        """Nothing is set of what is not there."""
        for key, given in self._set.items():
            if key not in self._set_used and self.complete:
                section, id = key
                entries: list[Any] = getattr(self.config, SETTABLE[section])
                hint = did_you_mean(id, [entry.id for entry in entries if entry.id])
                self.report(ConfigError(f"set: there is no {section} '{id}'{hint}", given[0][2]))

    @classmethod
    def complete_numa(cls, config: MachineConfig) -> None:
        """Check nodes and distances that came after `finish`, and share out what nobody said.  Raises ConfigError."""
        made = cls()
        made.config = config
        made._check_numa()

    def _check_numa(self) -> None:
        config = self.config
        if not self._numa_whole:
            return
        for options, origin in self._numa_cpus:
            with self.gathering():
                self._numa_cpu(options, origin)
        if config.numa:
            self._check_numa_cpus()
            self._check_numa_memory()
        elif config.numa_distances:
            raise ConfigError("numa: dist needs nodes: expected -numa node too", config.numa_distances[0].origin)
        ids = {n.nodeid for n in config.numa}
        for dist in config.numa_distances:
            for name, nodeid in (("src", dist.src), ("dst", dist.dst)):
                if nodeid not in ids:
                    self.report(ConfigError(f"numa: dist: no node {nodeid}", at(dist.origin, name)))

    def _check_numa_cpus(self) -> None:
        """Every processor is in one node; when nobody says which, they are dealt out in turn."""
        config = self.config
        owner: dict[int, int] = {}
        for node in config.numa:
            where = at(node.origin, "cpus")
            for cpu in node.cpus:
                if cpu >= config.smp.maxcpus:
                    self.report(ConfigError(f"numa: no processor {cpu}: there are {config.smp.maxcpus}", where))
                    break
                if cpu in owner:
                    self.report(ConfigError(f"numa: processor {cpu} is in node {owner[cpu]} already", where))
                    break
                owner[cpu] = node.nodeid
        if owner and len(owner) < config.smp.maxcpus:
            missing = next(n for n in range(config.smp.maxcpus) if n not in owner)
            self.report(ConfigError(f"numa: processor {missing} is in no node", config.numa[-1].origin))
        if not owner:
            for cpu in range(config.smp.maxcpus):
                config.numa[cpu % len(config.numa)].cpus.append(cpu)

    def _check_numa_memory(self) -> None:
        """All nodes say how much memory they have, or none does; together they have the machine's."""
        config = self.config
        given = [n for n in config.numa if n.mem is not None]
        if given and len(given) != len(config.numa):
            without = next(n for n in config.numa if n.mem is None)
            raise ConfigError(f"numa: node {without.nodeid} has no 'mem', others have", without.origin)
        if given and config.memory is not None and (total := sum(n.mem or 0 for n in config.numa)) != config.memory:
            raise ConfigError(
                f"numa: the nodes have {total} bytes of memory: expected {config.memory}, as of the machine",
                at(given[0].origin, "mem"),
            )
        if given and config.memory is None:
            config.memory = sum(n.mem or 0 for n in config.numa)
            config.origins["memory"] = at(given[0].origin, "mem")

    def _numa_cpu(self, options: Options, origin: str) -> None:
        take = self._take(options, "numa", origin)
        smp = self.config.smp
        nodeid = take.number("node-id", "nodeid")
        where = [take.number(f"{n}-id", high=h - 1) for n, h in (("socket", smp.sockets), ("core", smp.cores), ("thread", smp.threads))]  # fmt: skip  # noqa: E501
        take.done()
        node = next((n for n in self.config.numa if n.nodeid == nodeid), None)
        if node is None:
            raise take.error(f"cpu: no node {nodeid}: expected node-id=NODE of one given by -numa node")
        for index in range(smp.maxcpus):
            place = (index // (smp.cores * smp.threads), index // smp.threads % smp.cores, index % smp.threads)
            if all(w is None or w == p for w, p in zip(where, place, strict=True)):
                node.cpus.append(index)


Section = Callable[[ConfigBuilder, Options, str], None]


TABLE_FIRST: dict[str, str | None] = {
    "rtc": None,
    "smbios": None,
    "fw_cfg": "name",
    "acpitable": None,
    "option-rom": "file",
    "add-fd": None,
    "action": None,
    "msg": None,
    "name": "guest",
}
"""The tables of plain facts (qom/config/tables.py), and the name of their first, bare option."""


def _of_table(name: str) -> Section:
    return lambda builder, options, origin: builder.table(name, options, origin)


PLAIN_IN_MACHINE = ("kernel", "initrd", "append", "firmware")
"""What QEMU also takes as properties of the machine, and the model has beside it."""

SECTIONS: dict[str, tuple[Section, str | None]] = {
    "machine": (ConfigBuilder.machine, "type"),
    "accel": (ConfigBuilder.accel, "accel"),
    "smp": (ConfigBuilder.smp, "cpus"),
    "memory": (ConfigBuilder.memory, "size"),
    "numa": (ConfigBuilder.numa, "type"),
    "device": (ConfigBuilder.device, "driver"),
    "object": (ConfigBuilder.object, "qom-type"),
    "chardev": (ConfigBuilder.chardev, "backend"),
    "drive": (ConfigBuilder.drive, None),
    "blockdev": (ConfigBuilder.blockdev, "driver"),
    "monitor": (ConfigBuilder.monitor, "chardev"),
    "trace": (ConfigBuilder.trace, "enable"),
    "boot": (ConfigBuilder.boot, "order"),
    "part": (ConfigBuilder.part, None),
    "wire": (ConfigBuilder.wire, None),
    "region": (ConfigBuilder.region, None),
    **{name: (_of_table(name), first) for name, first in TABLE_FIRST.items()},
}
"""Sections that are option strings on a command line: who takes them, and the name of their first, bare option."""


QEMU_LOG_ITEMS = frozenset(
    (
        *("in_asm", "out_asm", "op", "op_opt", "op_ind", "exec", "nochain", "plugin", "page"),
        *("cpu", "fpu", "mmu", "pcall", "strace", "tid"),
    )
)
"""What else QEMU's `-d` takes."""

TABLE_LISTS: dict[str, str] = {
    "smbios": "smbios",
    "fw_cfg": "fw_cfg",
    "acpitable": "acpi_tables",
    "option-rom": "option_roms",
    "add-fd": "fds",
}
"""Tables that may be given several times, and their field in the model."""

SETTABLE = {"device": "devices", "drive": "drives", "chardev": "chardevs", "object": "objects"}
"""Sections whose entries `-set` can change, and their field in the model."""


def describe(entry: DeviceEntry | ObjectEntry | ChardevEntry) -> str:
    """An entry as the option string that would give it."""
    first = entry.backend if isinstance(entry, ChardevEntry) else entry.driver
    head = {"driver": first, **({"id": entry.id} if entry.id else {})}
    bus = {"bus": entry.bus} if isinstance(entry, DeviceEntry) and entry.bus else {}
    return format_options({**head, **bus, **entry.props}, "driver")
