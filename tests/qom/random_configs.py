"""Hypothesis strategies for configurations: every field of `MachineConfig`, as its builder would give it."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st

from qom.config import ConfigBuilder, MachineConfig
from qom.config.model import LOG_CATEGORIES, VGA_KINDS

RESERVED = {"accel", "board", "bus", "driver", "id", "kernel-irqchip", "kernel_irqchip", "memory", "name", "qom-type"}
RESERVED |= {"repeat", "type", "backend", "nowait", "noserver", "remove"}
ids = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,6}", fullmatch=True)
type_names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["${x}", "$${x}", "$$${", "a${b", "$", "on", "no", "0x10", "1:30", "1e3", "0o17", "010", ".5",
    "-", "-1", "+2", "a,b", '"', "\\", "'''", "{n}", "{{", "#", "~", "null", "- a", "\x7f\x85\r\n\t"]
)  # fmt: skip
scalars = st.one_of(
    text, st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=2), max_leaves=4
)
names = st.from_regex(r"[a-z][a-z0-9_-]{0,7}", fullmatch=True) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=4
)
props = st.dictionaries(names.filter(lambda n: n not in RESERVED), values, max_size=3)
sizes = st.integers(1, 2**40) | st.integers(1, 4096).map(lambda n: n << 20)


@st.composite
def configs(draw: st.DrawFn) -> MachineConfig:
    """A configuration in which any part may be there or not, and all of them fit together."""
    build = ConfigBuilder()
    where = "tests"
    if draw(st.booleans()):
        named = draw(st.one_of(st.just({"board": "tests.toml"}), st.builds(dict, type=type_names)))
        build.machine({**named, **draw(props)}, where)
    for name in draw(st.lists(type_names, max_size=2)):
        build.accel({"accel": name, **draw(st.just({}) | props)}, where)
    if draw(st.booleans()):
        features = draw(st.dictionaries(type_names, st.booleans() | text, max_size=2))
        build.cpu(draw(type_names), where)
        assert build.config.cpu is not None
        build.config.cpu.features.update(features)
    sockets, cores, threads = (draw(st.integers(1, 3)) for _ in range(3))
    maxcpus = sockets * cores * threads
    if draw(st.booleans()):
        cpus = draw(st.integers(1, maxcpus))
        build.smp({"cpus": cpus, "sockets": sockets, "cores": cores, "threads": threads, "maxcpus": maxcpus}, where)
    else:
        maxcpus = 1
    _memory(draw, build, maxcpus)
    for name in ("firmware", "kernel", "name"):
        if draw(st.booleans()):
            build.plain(name, draw(text), where)
    if build.config.kernel is not None:
        for name in ("initrd", "append"):
            if draw(st.booleans()):
                build.plain(name, draw(text), where)
    if draw(st.booleans()):
        build.plain("vga", draw(st.sampled_from(VGA_KINDS)), where)
    if draw(st.booleans()):
        build.plain("uuid", str(draw(st.uuids())), where)
    for name in ("paused", "nographic", "nodefaults"):
        if draw(st.booleans()):
            build.plain(name, True, where)
    for id in draw(st.lists(ids, max_size=2, unique=True)):
        build.object({"qom-type": draw(type_names), "id": id, **draw(props)}, where)
    _ports(draw, build)
    _drives(draw, build)
    used = draw(st.lists(ids, max_size=3, unique=True))
    for id in [*used, *draw(st.lists(st.none(), max_size=2))]:
        entry = {"id": id, "bus": draw(st.none() | text), **draw(props)}
        build.device({"driver": draw(type_names), **{k: v for k, v in entry.items() if v is not None}}, where)
    for _ in range(draw(st.integers(0, 2))):
        build.global_({"driver": draw(type_names), "property": draw(type_names), "value": draw(values)}, where)
    _board(draw, build)
    boot = {"order": "dc", "once": "n", "menu": draw(st.booleans()), "strict": draw(st.booleans())}
    boot["splash-time"] = draw(st.integers(0, 65535))
    build.boot({k: v for k, v in boot.items() if draw(st.booleans())}, where)
    _tables(draw, build)
    if draw(st.booleans()):
        build.log_categories(draw(st.lists(st.sampled_from(sorted(LOG_CATEGORIES)), unique=True)), where)
        build.log_file(draw(text), where)
    return build.finish()


TABLE_ENTRIES: dict[str, list[dict[str, Any]]] = {
    "rtc": [{"base": "localtime"}, {"base": "2006-06-17", "clock": "rt"}, {"driftfix": "none"}],
    "action": [{"reboot": "shutdown", "watchdog": "none"}, {"panic": "exit-failure"}],
    "msg": [{"timestamp": True}, {"guest-name": False}],
    "name": [{"guest": "a,b", "process": "p"}, {"debug-threads": True}],
    "smbios": [{"type": 1, "product": "x"}, {"type": "11", "value": ["a", "b"]}, {"file": "s.bin"}],
    "fw_cfg": [{"name": "opt/a", "string": "t"}, {"name": "opt/b", "file": "${x}"}],
    "acpitable": [{"sig": "SSDT", "rev": 3, "data": "a:b"}, {"file": "t.aml"}],
    "option-rom": [{"file": "x.rom"}, {"file": "y.rom", "bootindex": 2}],
    "add-fd": [{"fd": 7, "set": 0, "opaque": "rdwr:/a"}, {"fd": 8, "set": 0}],
}


def _tables(draw: st.DrawFn, build: ConfigBuilder) -> None:
    for what, entries in TABLE_ENTRIES.items():
        for entry in draw(st.lists(st.sampled_from(entries), max_size=2)):
            build.table(what, entry, "tests")
    for folder in draw(st.lists(text.filter(bool), max_size=2)):
        build.data_dir(folder)
    if draw(st.booleans()):
        build.plain("pidfile", draw(text.filter(bool)), "tests")
        build.plain("daemonize", True, "tests")
        build.escape(draw(st.integers(0, 255)), "tests")


def _board(draw: st.DrawFn, build: ConfigBuilder) -> None:
    words, conditions = st.dictionaries(type_names, type_names, max_size=2), st.sampled_from(["a > 1", True, 1])
    for name in draw(st.lists(type_names, max_size=2, unique=True)):
        said = {
            "type": draw(type_names),
            "bus": "system",
            "props": draw(props),
            "links": draw(words),
            "when": draw(conditions),
        }
        said |= {"values": draw(words), "for": "serial[1]"}
        chosen = {key: value for key, value in said.items() if draw(st.booleans())}
        build.part({"name": name, **draw(st.sampled_from([chosen, {"remove": True}]))}, "tests")
    for name in draw(st.lists(type_names, max_size=2)):
        said = {"when": draw(conditions), "remove": draw(st.booleans())}
        build.wire(
            {"from": f"{name}[1]", "to": "x.y", **{k: v for k, v in said.items() if draw(st.booleans())}}, "tests"
        )
    for name in draw(st.lists(type_names, max_size=2, unique=True)):
        region = {"kind": "ram", "at": draw(values), "size": "ram-size", "readonly": True}
        chosen = {key: value for key, value in region.items() if draw(st.booleans())}
        build.region({"name": name, **draw(st.sampled_from([chosen, {"remove": True}]))}, "tests")


def _memory(draw: st.DrawFn, build: ConfigBuilder, maxcpus: int) -> None:
    nodes = draw(st.integers(0, 3))
    shares = draw(st.booleans())
    owner = [draw(st.integers(0, nodes - 1)) for _ in range(maxcpus)] if nodes and draw(st.booleans()) else []
    for n in range(nodes):
        said: dict[str, Any] = {"nodeid": n * 2}
        if owner:
            said["cpus"] = [cpu for cpu in range(maxcpus) if owner[cpu] == n]
        if shares:
            said["mem"] = f"{draw(sizes)}B"
        build.numa(said, "tests")
    for dst in range(1, nodes):
        build.numa({"type": "dist", "src": 0, "dst": 2 * dst, "val": draw(st.integers(11, 255))}, "tests")
    if not (nodes and shares) and draw(st.booleans()):
        build.memory({"size": f"{draw(sizes)}B"}, "tests")


def _ports(draw: st.DrawFn, build: ConfigBuilder) -> None:
    used = draw(st.lists(ids | st.sampled_from(["serial1", "debugcon"]), max_size=3, unique=True))
    for id in used:
        build.chardev(
            {"backend": draw(st.sampled_from(["stdio", "null", "file", "x"])), "id": id, **draw(props)}, "tests"
        )
    kinds = ["null", "stdio", "none", "pty,a=b", "file:/a,b", "unix:/s,server=on,wait=off", "tcp:[::1]:1"]
    kinds += [f"chardev:{id}" for id in used]
    for n, kind in enumerate(draw(st.lists(st.sampled_from(kinds), max_size=3))):
        build.serial(f"chardev:serial{n}" if f"serial{n}" in used else kind, "tests")
    if draw(st.booleans()):
        build.debugcon("chardev:debugcon" if "debugcon" in used else draw(st.sampled_from(kinds)), "tests")


def _drives(draw: st.DrawFn, build: ConfigBuilder) -> None:
    for n in draw(st.lists(st.integers(0, 3), max_size=3, unique=True)):
        said: dict[str, Any] = {
            "file": draw(text.filter(bool)),
            "readonly": draw(st.booleans()),
            "snapshot": draw(st.booleans()),
        }
        if draw(st.booleans()):
            said |= {"if": "none", "id": f"d{n}"}
            said |= draw(st.sampled_from([{}, {"index": n}, {"unit": 1}, {"bus": 0, "unit": 1}]))
        else:
            said |= draw(st.sampled_from([{}, {"index": n}, {"id": f"i{n}"}, {"media": "cdrom"}]))
            said |= {"index": n}
        if draw(st.booleans()):  # a format of a plugin's
            taken = {"file", "format", "if", "index", "bus", "unit", "media", "readonly", "snapshot"}
            own = {key: value for key, value in draw(props).items() if key not in taken}
            said |= {"format": draw(type_names), **own}
        build.drive(said, "tests")


def bare(config: MachineConfig) -> Any:
    """What a configuration says, as plain data without any origin."""
    return attrs.asdict(config, filter=lambda field, value: field.name not in ("origin", "origins"))
