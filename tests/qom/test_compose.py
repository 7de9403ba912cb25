"""Inclusion, overriding, removal, variables and repetition: what they give, and every error they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qom.cli.options import CommandLine
from qom.config import MachineConfig, load, read_document
from qom.errors import ConfigError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files given by name (`a_toml="..."` is a.toml); the first one's path comes back."""

    def write(**files: str) -> Path:
        paths = []
        for name, text in files.items():
            path = tmp_path / name.replace("_", ".")
            path.write_text(text)
            paths.append(path)
        return paths[0]

    return write


def refused(path: Path, variables: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load(path, variables)
    return str(error.value).replace(f"{path.parent}/", "")


def devices(made: MachineConfig) -> list[tuple[str, str | None, dict[str, Any]]]:
    return [(d.driver, d.id, d.props) for d in made.devices]


# Inclusion


BASE = """
name = "base"
serial = ["null", "null"]
[machine]
type = "pc"
accel = "kvm"
fast = true
[smp]
cpus = 4
sockets = 2
[[device]]
driver = "isa-serial"
id = "a"
iobase = 0x3e8
irq = 4
[[device]]
driver = "isa-debugcon"
[[device]]
driver = "isa-serial"
id = "b"
[[chardev]]
backend = "null"
id = "c"
[log]
file = "log"
categories = ["int"]
"""


@pytest.mark.parametrize("suffix", ["toml", "json", "yaml"])
def test_the_including_file_wins(write: Write, suffix: str) -> None:
    over = {
        "toml": """
            include = "base.toml"
            name = "over"
            serial = ["null"]
            machine = { accel = "simulated" }
            remove = ["b", "c"]
            device = [{ id = "a", driver = "isa-stopwatch", irq = 5 }, { driver = "last" }]
            log = { categories = ["exits"] }
        """.replace("            ", ""),
        "json": """
            {"include": ["base.toml"], "name": "over", "serial": ["null"], "machine": {"accel": "simulated"},
             "remove": ["b", "c"], "log": {"categories": ["exits"]},
             "device": [{"id": "a", "driver": "isa-stopwatch", "irq": 5}, {"driver": "last"}]}
        """,
        "yaml": """
            include: [base.toml]
            name: over
            serial: 'null'
            machine: {accel: simulated}
            remove: [b, c]
            device:
            - {id: a, driver: isa-stopwatch, irq: 5}
            - driver: last
            log: {categories: exits}
        """.replace("            ", ""),
    }[suffix]
    made = load(write(**{f"vm_{suffix}": over}, base_toml=BASE))
    assert made.name == "over" and len(made.serials) == 1
    assert made.machine.type == "pc" and made.machine.props == {"fast": True}
    assert [a.name for a in made.accelerators] == ["simulated"]
    assert (made.smp.cpus, made.smp.sockets) == (4, 2)
    assert devices(made) == [
        ("isa-stopwatch", "a", {"iobase": 0x3E8, "irq": 5}),
        ("isa-debugcon", None, {}),
        ("last", None, {}),
    ]
    assert [c.id for c in made.chardevs] == ["serial0"]
    assert made.log.file == "log" and made.log.categories == ["exits"]


def test_errors_name_the_file_that_said_it(write: Write) -> None:
    path = write(
        vm_toml='include = ["base.toml"]\ndevice = [{ id = "a" }]\n', base_toml='[[device]]\nid = "a"\nbus = 1.5\n'
    )
    assert refused(path) == "vm.toml:2:11: device: 'driver' is required"
    path = write(
        vm_toml='include = ["base.toml"]\ndevice = [{ id = "a", driver = "x" }]\n',
        base_toml='[[device]]\nid = "a"\nbus = 1.5\n',
    )
    assert refused(path) == "base.toml:3:1: device: 'bus' cannot be 1.5: expected a string"


@pytest.mark.parametrize(
    ("base", "over"),
    [
        ('accel = "kvm"', 'machine = { accel = "simulated" }'),
        ('machine = { accel = "kvm" }', 'accel = "simulated"'),
        ('accel = [{ accel = "kvm" }, { accel = "x" }]', 'accel = [{ accel = "simulated" }]'),
    ],
)
def test_accelerators_of_the_including_file_replace_those_included(write: Write, base: str, over: str) -> None:
    made = load(write(vm_toml=f'include = "base.toml"\n{over}\n', base_toml=f"{base}\n"))
    assert [a.name for a in made.accelerators] == ["simulated"]


@pytest.mark.parametrize(
    ("base", "over"),
    [
        ('memory = "1G"', '[memory]\nsize = "2G"'),
        ('machine = { memory = "1G" }', 'memory = "2G"'),
        ('[memory]\nsize = "1G"', 'machine = { memory = "2G" }'),
    ],
)
def test_memory_in_another_spelling_replaces(write: Write, base: str, over: str) -> None:
    assert load(write(vm_toml=f'include = "base.toml"\n{over}\n', base_toml=f"{base}\n")).memory == 2 << 30


def test_one_value_and_a_table_of_a_section_merge(write: Write) -> None:
    path = write(
        vm_toml='include = "base.toml"\nsmp = { cores = 4 }\nfirmware = "b"\n[cpu]\nfeatures = { apic = false }\n',
        base_toml='smp = 8\nmachine = "none"\nbios = "a"\ncpu = "max,+sse"\n',
    )
    made = load(path)
    assert (made.smp.cpus, made.smp.cores, made.machine.type, made.firmware) == (8, 4, "none", "b")
    assert made.cpu is not None and made.cpu.model == "max" and made.cpu.features == {"sse": True, "apic": False}


def test_a_board_replaces_a_machine_type(write: Write, tmp_path: Path) -> None:
    path = write(vm_toml='include = "base.toml"\n[machine]\nboard = "b.toml"\n', base_toml='machine = "pc"\n')
    assert load(path).machine.board == str(tmp_path / "b.toml")
    path = write(vm_toml='include = "base.toml"\nmachine = "pc"\n', base_toml='[machine]\nboard = "b.toml"\nx = 1\n')
    made = load(path).machine
    assert (made.type, made.board, made.props) == ("pc", None, {"x": 1})


def test_one_of_the_entries_that_repetition_makes_is_overridden(write: Write) -> None:
    path = write(
        vm_toml='include = "base.toml"\nremove = ["d0"]\n[[device]]\nid = "d2"\nirq = 9\n',
        base_toml='[[device]]\nrepeat = 3\ndriver = "x"\nid = "d{n}"\nirq = "{n}"\n',
    )
    assert devices(load(path)) == [("x", "d1", {"irq": 1}), ("x", "d2", {"irq": 9})]


def test_parts_of_one_name_are_told_apart_by_their_condition(write: Write) -> None:
    path = write(
        vm_toml='include = "base.toml"\n[[part]]\nname = "p"\nwhen = "a"\ntype = "z"\n[[part]]\nname = "q"\ntype = "w"\n',
        base_toml='[[part]]\nname = "p"\nwhen = "a"\ntype = "x"\nbus = "b"\n[[part]]\nname = "p"\nwhen = "not a"\ntype = "y"\n',
    )
    parts = [(p.name, p.when, p.type, p.bus) for p in load(path).parts]
    assert parts == [("p", "a", "z", "b"), ("p", "not a", "y", None), ("q", None, "w", None)]
    path.write_text('include = "base.toml"\nremove = ["p"]\n')
    assert load(path).parts == []
    path.write_text('[[part]]\nname = "p"\nwhen = "a"\n[[part]]\nname = "p"\nwhen = "a"\n')
    assert refused(path) == "vm.toml:4:1: part: the name 'p' is given twice, first by vm.toml:1:1"


def test_numa_nodes_merge_by_number_and_globals_add_up(write: Write) -> None:
    path = write(
        vm_toml='include = "base.toml"\nnuma = [{ nodeid = 1, mem = "2G" }]\n'
        'global = [{ driver = "a", property = "b", value = 2 }]\n',
        base_toml='numa = [{ nodeid = 0, mem = "1G" }, { nodeid = 1, mem = "1G" }]\n'
        'global = [{ driver = "a", property = "b", value = 1 }]\n',
    )
    made = load(path)
    assert [(n.nodeid, n.mem) for n in made.numa] == [(0, 1 << 30), (1, 2 << 30)] and made.memory == 3 << 30
    assert [g.value for g in made.globals] == [1, 2]


def test_each_file_is_taken_once_and_the_later_one_wins(write: Write) -> None:
    path = write(
        vm_toml='include = ["a.toml", "b.yaml"]\n',
        a_toml='include = "base.json"\nname = "a"\nuuid = "a"\n',
        b_yaml="include: base.json\nname: b\n",
        base_json='{"device": [{"driver": "x"}], "name": "base", "uuid": "00000000-0000-0000-0000-000000000000"}',
    )
    with pytest.raises(ConfigError):
        load(path)  # a.toml's uuid is not one, and it holds
    path = write(vm_toml='include = ["a.toml", "b.yaml"]\n', a_toml='include = "base.json"\nname = "a"\n')
    made = load(path)
    assert made.name == "b" and devices(made) == [("x", None, {})]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vm_toml": 'include = "absent.toml"\n'}, "vm.toml:1:1: include: no file '{dir}/absent.toml'"),
        ({"vm_toml": '# x\ninclude = ["base.toml", "bsae.toml"]\n', "base_toml": ""},
         "vm.toml:2:25: include: no file '{dir}/bsae.toml'; did you mean 'base.toml'?"),
        ({"vm_toml": 'include = "a.toml"\n', "a_toml": 'include = ["vm.toml"]\n'},
         "a.toml:1:12: include: the file includes itself: {dir}/vm.toml -> {dir}/a.toml -> {dir}/vm.toml"),
        ({"vm_toml": "include = [1]\n"}, "vm.toml:1:1: 'include' cannot be [1]: expected a string or a list of strings"),
        ({"vm_toml": "include = ''\n"}, "vm.toml:1:1: include: no file name: ''"),
        ({"vm_toml": 'include = "a.txt"\n', "a_txt": ""},
         "a.txt: what format this is in is not known: expected a name in .toml, .json, .yaml, .yml"),
        ({"vm_toml": 'include = "a.json"\n', "a_json": "{\n  x"},
         "a.json:2:3: not JSON: 'x' where a key in double quotes was expected"),
        ({"vm_toml": 'remove = ["x"]\n'}, "vm.toml:1:11: remove: nothing with the id 'x' is in the included files"),
        ({"vm_toml": 'include = "a.toml"\nremove = "seral"\n', "a_toml": "[[device]]\nid='serial'\n[[drive]]\nid='d'\n"},
         "vm.toml:2:1: remove: nothing with the id 'seral' is in the included files; did you mean 'serial'?"),
        ({"vm_toml": "remove = 1\n"}, "vm.toml:1:1: 'remove' cannot be 1: expected a string or a list of strings"),
        ({"vm_toml": "[[device]]\ndriver='a'\nid='x'\n[[device]]\ndriver='b'\nid='x'\n"},
         "vm.toml:4:1: device: the id 'x' is given twice, first by {dir}/vm.toml:1:1"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_inclusion(write: Write, files: dict[str, str], message: str) -> None:
    path = write(**files)
    assert refused(path) == message.replace("{dir}/", "")


# Variables


VARIABLES = """
name = "${name}"
paused = "${paused}"
[variables]
name = "vm"
paused = false
cpus = 2
disks = ["a", "b"]
log = "${dir}/${name}.log"
dir = { default = "/tmp", desc = "where logs go" }
image = { required = true, desc = "the disk" }
[smp]
cpus = "${cpus}"
[log]
file = "${log}"
[[drive]]
file = "${image}"
if = "none"
id = "x"
[[drive]]
repeat = "${disks}"
file = "{item}-${cpus}.img"
if = "none"
id = "d{n}"
"""


def test_variables(write: Write) -> None:
    path = write(vm_toml=VARIABLES)
    made = load(path, {"image": "i.img"})
    assert (made.name, made.paused, made.smp.cpus, made.log.file) == ("vm", False, 2, "/tmp/vm.log")
    assert [(d.id, d.file) for d in made.drives] == [("x", "i.img"), ("d0", "a-2.img"), ("d1", "b-2.img")]
    made = load(path, {"image": "$x", "name": "9", "paused": "on", "cpus": "0x4", "dir": ".", "disks": "q, r,s"})
    assert (made.name, made.paused, made.smp.cpus, made.log.file) == ("9", True, 4, "./9.log")
    assert [d.file for d in made.drives] == ["$x", "q-4.img", "r-4.img", "s-4.img"]
    assert [d.id for d in load(path, {"image": "i", "disks": ""}).drives] == ["x"]


def test_variables_go_through_inclusion(write: Write) -> None:
    path = write(
        vm_toml='include = "${base}.toml"\n[variables]\nbase = "parts"\nname = "outer"\n',
        parts_toml='name = "${name}-${own}"\n[variables]\nname = "inner"\nown = "x"\n',
        other_toml='name = "other ${base}"\n',
    )
    assert load(path).name == "outer-x"
    assert load(path, {"own": "y"}).name == "outer-y"
    assert load(path, {"base": "other"}).name == "other other"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("$${name}", "${name}"),
        ("$$${name}", "$${name}"),
        ("$name", "$name"),
        ("${v}$", "v$"),
        ("{n} }{", "{n} }{"),
        ("$$", "$$"),
    ],
)
def test_what_is_not_a_variable_stays(write: Write, text: str, name: str) -> None:
    assert load(write(vm_toml=f"name = '{text}'\n[variables]\nv = 'v'\n")).name == name


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        ('name = "${nam}"\n[variables]\nname = "x"\n', {}, "vm.toml:1:1: no variable 'nam'; did you mean 'name'?"),
        ('name = "${x}"\n', {}, "vm.toml:1:1: no variable 'x': none is declared in [variables]"),
        ('name = "${x}"\n[variables]\nqqqq = 1\n', {}, "vm.toml:1:1: no variable 'x': there are: qqqq"),
        ('[[device]]\ndriver = "d"\n x = [1, "${y}"]\n[variables]\nz = 1\n', {},
         "vm.toml:3:10: no variable 'y': there are: z"),
        ("[variables]\nname = 1\n", {"nam": "2"}, "--var nam=2: no variable 'nam'; did you mean 'name'?"),
        ("[variables]\nx = { required = true }\n", {}, "vm.toml:2:1: the variable 'x' is required: expected --var x=VALUE"),
        ("[variables]\nx = { required = true, desc = 'the disk' }\n", {},
         "vm.toml:2:1: the variable 'x' (the disk) is required: expected --var x=VALUE"),
        ("[variables]\nx = { desc = 'a' }\n", {},
         "vm.toml:2:1: variable 'x': has neither 'required = true' nor a 'default': expected one of them"),
        ("[variables]\nx = { required = true, default = 1 }\n", {},
         "vm.toml:2:1: variable 'x': 'required' and 'default' exclude each other: expected one of them"),
        ("[variables]\nx = { require = true }\n", {},
         "vm.toml:2:7: variable 'x': unknown option 'require'; did you mean 'required'?"),
        ("[variables]\nx-y = 1\n", {},
         "vm.toml:2:1: the variable name 'x-y' is not legal: expected a letter, then letters, digits, '_'"),
        ("[variables]\nn = 1\n", {},
         "vm.toml:2:1: the variable name 'n' is taken: 'n' and 'item' are what 'repeat' counts with"),
        ("variables = 1\n", {}, "vm.toml:1:1: 'variables' cannot be 1: expected a [variables] table"),
        ('name = "${a}"\n[variables]\na = "${b}"\nb = "${a}"\n', {},
         "vm.toml:4:1: the variable 'a' is made of itself: a -> b -> a"),
        ('smp = "${c}"\n[variables]\nc = 1\n', {"c": "x"},
         "--var c=x: variable: 'c' cannot be 'x': expected an integer, as 1 is"),
        ('paused = "${c}"\n[variables]\nc = true\n', {"c": "x"}, "--var c=x: variable: 'c' cannot be 'x': expected on or off"),
        ('name = "${c}"\n[variables]\nc = 1.5\n', {"c": "x"},
         "--var c=x: variable: 'c' cannot be 'x': expected a number, as 1.5 is"),
        ('name = "x${c}"\n[variables]\nc = [1]\n', {},
         "vm.toml:1:1: 'x${c}': a list cannot be part of a text: expected it alone"),
        ('name = "a${b"\n', {},
         "vm.toml:1:1: '${' without its '}': expected ${name}, or $${ for the plain text (in '${b')"),
        ('name = "${a b}"\n', {}, "vm.toml:1:1: '${a b}' names no variable: expected ${name}, or $${ for the plain text"),
        ('include = "${x}.toml"\n[variables]\nx = { required = true }\n', {},
         "vm.toml:3:1: the variable 'x' has no value: expected --var x=VALUE"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_variables(write: Write, text: str, variables: dict[str, str], message: str) -> None:
    assert refused(write(vm_toml=text), variables) == message


def test_variables_do_not_grow_without_end(write: Write) -> None:
    chain = "".join(f'v{n} = "${{v{n + 1}}}"\n' for n in range(40))
    path = write(vm_toml=f'name = "${{v0}}"\n[variables]\n{chain}v40 = "x"\n')
    assert refused(path) == "vm.toml:34:1: the variable 'v32' is too deep in others: expected at most 32 levels"
    doubled = "".join(f'v{n} = "${{v{n + 1}}}${{v{n + 1}}}"\n' for n in range(30))
    path = write(vm_toml=f'name = "${{v0}}"\n[variables]\n{doubled}v30 = "x"\n')
    assert refused(path) == "vm.toml:12:1: the variable 'v9' is too long: expected at most 1048576 characters"
    lists = "".join(f'v{n} = ["${{v{n + 1}}}", "${{v{n + 1}}}"]\n' for n in range(30))
    path = write(vm_toml=f'name = "${{v0}}"\n[variables]\n{lists}v30 = "x"\n')
    assert refused(path) == "vm.toml:13:1: the variable 'v10' is too long: expected at most 1048576 characters"


def test_variables_of_a_program_keep_their_types(write: Write, tmp_path: Path) -> None:
    path = write(vm_toml='paused = "${p}"\nsmp = "${c}"\nfirmware = "${f}"\n[variables]\np = false\nc = 1\nf = ""\n')
    made = load(path, {"p": True, "c": 3, "f": tmp_path})
    assert (made.paused, made.smp.cpus, made.firmware) == (True, 3, str(tmp_path))
    expected = "expected text, a number, a boolean or a list"
    with pytest.raises(ConfigError) as error:
        load(path, {"f": None})
    assert str(error.value) == f"--var f=None: variable: 'f' cannot be None: {expected}"


def test_variables_on_a_system_command_line(write: Write) -> None:
    path = str(write(vm_toml=VARIABLES))
    for argv in (
        ["-readconfig", path, "--var", "image=i.img", "-m", "64"],
        ["-m", "64", "-var", "image=i.img", "-readconfig", path],
    ):
        made = CommandLine().parse(argv).builder.finish()
        assert made.drives[0].file == "i.img" and made.memory == 64 << 20 and made.smp.cpus == 2
    for argv, message in (
        (["--var", "a=1"], "--var a=1: there is no file to declare this variable"),
        (["--var", "a"], "--var a: expected NAME=VALUE"),
        (["--var", "a=1", "-var", "a=2"], "-var a=2: the variable 'a' is given twice"),
    ):
        with pytest.raises(ConfigError) as error:
            CommandLine().parse(argv)
        assert str(error.value) == message


def test_ini_files_have_no_variables(write: Write) -> None:
    path = write(vm_cfg='[machine]\n  type = "none"\n')
    assert load(path).machine.type == "none"
    assert refused(path, {"x": "1"}) == "--var x=1: vm.cfg can declare no variables: it is a -readconfig file"


# Repetition


def test_repetition(write: Write) -> None:
    path = write(
        vm_toml="""
            [variables]
            base = 0x2e8
            [[device]]
            repeat = 3
            driver = "isa-serial"
            id = "s{n}"
            iobase = "{base + 8 * n}"
            name = "{{port}} {n + 1} of ${base}"
            list = ["{n}", ["{-n % 4}"]]
            plain = 7
            [[device]]
            repeat = ["x", 5, true]
            driver = "d"
            what = "{item}"
            text = "<{item}>"
            [[device]]
            repeat = 0
            driver = "never"
            [device_]
        """.replace("            [device_]\n", "")
    )
    assert devices(load(path)) == [
        (
            "isa-serial",
            f"s{n}",
            {"iobase": 0x2E8 + 8 * n, "name": f"{{port}} {n + 1} of 744", "list": [n, [-n % 4]], "plain": 7},
        )
        for n in range(3)
    ] + [("d", None, {"what": v, "text": t}) for v, t in (("x", "<x>"), (5, "<5>"), (True, "<on>"))]
    made = load(path)
    assert made.devices[0].origin == made.devices[2].origin and made.devices[2].origin.endswith("vm.toml:4:13")


@pytest.mark.parametrize(
    ("text", "value"),
    [("{7 // 2}", 3), ("{-7 // 2}", -4), ("{(n + 1) * 3 - 2}", 1), ("{ 0x10 }", 16), ("{n}{n}", "00"), ("{+n}", 0)],
)
def test_arithmetic(write: Write, text: str, value: Any) -> None:
    path = write(vm_json=f'{{"device": {{"repeat": 1, "driver": "d", "x": "{text}"}}}}')
    assert devices(load(path)) == [("d", None, {"x": value})]


@pytest.mark.parametrize(
    ("repeat", "text", "message"),
    [
        ("-1", "", "2:1: 'repeat' cannot be -1: expected an integer in 0..4096, or a list"),
        ("5000", "", "2:1: 'repeat' cannot be 5000: expected an integer in 0..4096, or a list"),
        ('"x"', "", "2:1: 'repeat' cannot be 'x': expected an integer in 0..4096, or a list"),
        ("true", "", "2:1: 'repeat' cannot be True: expected an integer in 0..4096, or a list"),
        ("1", "{m}", "4:1: no number 'm'; there are: n, item"),
        ("1", "{n ** 2}", "4:1: '{n ** 2}' cannot be worked out: expected integers and names with + - * // %"),
        ("1", "{n / 2}", "4:1: '{n / 2}' cannot be worked out: expected integers and names with + - * // %"),
        ("1", "{1.5}", "4:1: '{1.5}' cannot be worked out: expected integers and names with + - * // %"),
        ("1", "{f(1)}", "4:1: '{f(1)}' cannot be worked out: expected integers and names with + - * // %"),
        ("1", "{}", "4:1: '{}' cannot be worked out: expected integers and names with + - * // %, or '{{' for a plain brace"),
        ("1", "{n +}", "4:1: '{n +}' cannot be worked out: expected integers and names with + - * // %,"
         " or '{{' for a plain brace"),
        ("1", "{1 // n}", "4:1: '{1 // n}' divides by zero"),
        ("1", "{18446744073709551616 * 2}", "4:1: '{18446744073709551616 * 2}' is out of range: expected at most 64 bits"),
        ("1", "a } b", "4:1: a brace alone in a repeated entry: expected '}}' for the plain text"),
        ("1", "a { b", "4:1: a brace alone in a repeated entry: expected '{{' for the plain text"),
        ('["a"]', "{item + 1}", "4:1: 'item' is 'a': expected an integer to calculate with"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_repetition(write: Write, repeat: str, text: str, message: str) -> None:
    path = write(vm_toml=f'[[device]]\nrepeat = {repeat}\ndriver = "d"\nx = "{text}"\n')
    assert refused(path) == f"vm.toml:{message}"


def test_a_document_is_one_file_after_variables_and_repetition(write: Write) -> None:
    path = write(
        vm_toml='include = ["x.toml"]\n[[part]]\nrepeat = 2\nname = "p{n}"\ntype = "${t}"\n[variables]\nt = "a"\n'
    )
    made = read_document(path, {"t": "b"})
    assert made.data == {
        "include": ["x.toml"],
        "part": [{"name": "p0", "type": "b"}, {"name": "p1", "type": "b"}],
        "variables": {"t": "a"},
    }
    assert made.origin("part", 1, "name") == f"{path}:4:1" and made.origin("part", 1).path == "part[0]"
    with pytest.raises(ConfigError, match=r"^--var u=1: no variable 'u': there are: t$"):
        read_document(path, {"u": "1"})
