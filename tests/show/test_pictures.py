"""The pictures are what they claim: well-formed, complete, nothing over anything else, texts in their boxes."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.firmware import EMBEDDED
from qom import Device, type_init
from qom.cli import main as qom_main
from qom.cli.options import CommandLine
from qom.cli.system import machine
from qom.hw import Bus, IsaDevice, Route
from qom.hw.memory import Region
from qom.show import bus_svg, memory_svg, tree_svg, wires, wiring_svg, wiring_text
from qom.show.svg import CATEGORIES, FONTS, MONO, Picture, category, fit, rounded, text_width
from qom.vm.vm import VirtualMachine

NS = "{http://www.w3.org/2000/svg}"
PICTURES = {
    "tree": lambda vm: tree_svg(vm.root),
    "buses": bus_svg,
    "memory": memory_svg,
    "interrupts": wiring_svg,
}
Rect = tuple[float, float, float, float]  # left, top, right, bottom


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def rect_of(element: ElementTree.Element) -> Rect:
    x, y, w, h = (float(element.get(k, "0")) for k in ("x", "y", "width", "height"))
    return x, y, x + w, y + h


def boxes(root: ElementTree.Element, key: str) -> list[tuple[str, Rect, ElementTree.Element]]:
    """The boxes with the attribute `key`: its value, where they are, the group."""
    found = []
    for group in root.iter(f"{NS}g"):
        if (name := group.get(key)) is not None:
            rect = group.find(f"{NS}rect")
            assert rect is not None, name
            found.append((name, rect_of(rect), group))
    return found


def overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] - 0.2 and b[0] < a[2] - 0.2 and a[1] < b[3] - 0.2 and b[1] < a[3] - 0.2


def inside(a: Rect, b: Rect) -> bool:
    return b[0] <= a[0] and a[2] <= b[2] and b[1] <= a[1] and a[3] <= b[3]


def text_rect(text: ElementTree.Element) -> Rect:
    font = text.get("class", "").split()[0]
    size = FONTS[font][0]
    wide, x, y = text_width(text.text or "", font), float(text.get("x", "0")), float(text.get("y", "0"))
    for span in text.findall(f"{NS}tspan"):
        wide += float(span.get("dx", "0")) + text_width(span.text or "", span.get("class", ""))
    if text.get("transform"):  # turned by a right angle, upwards
        return x - size, y - wide, x + 3, y
    left = {"start": x, "middle": x - wide / 2, "end": x - wide}[text.get("text-anchor", "start")]
    return left, y - size * 0.8, left + wide, y + size * 0.25


def way(path: ElementTree.Element) -> list[tuple[float, float]]:
    """The corners of a line; where one is rounded, the corner itself."""
    points = []
    for _, numbers in re.findall(r"([MLQ])([^MLQ]+)", path.get("d", "")):
        values = [float(v) for v in numbers.split()]
        points.append((values[0], values[1]))
    return points


@pytest.mark.parametrize("kind", PICTURES)
def test_well_formed_self_contained_and_the_same_each_time(kind: str, pc: VirtualMachine) -> None:
    svg = PICTURES[kind](pc)
    root = parse(svg)
    assert root.tag == f"{NS}svg" and root.find(f"{NS}title") is not None
    for element in root.iter():
        assert element.tag.removeprefix(NS) in {"svg", "title", "style", "g", "rect", "text", "tspan", "path", "circle"}
        assert not any(name.endswith("href") for name in element.attrib)
    assert "url(" not in svg and "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme:dark" in svg
    assert svg == PICTURES[kind](pc)
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    assert 300 < width < 1800 and height < 1900  # the whole PC with four processors is still a picture


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("which", ["pc", "none"])
def test_texts_are_in_their_boxes(kind: str, which: str, request: pytest.FixtureRequest) -> None:
    root = parse(PICTURES[kind](request.getfixturevalue(which)))
    count = 0
    for group in root.iter(f"{NS}g"):
        rect = group.find(f"{NS}rect")
        if rect is None or rect.get("class") == "bar" or group.get("data-flat") is not None:
            continue
        own = rect_of(rect)
        key = float(rect.get("width", "0")) == 14
        for text in group.findall(f"{NS}text"):
            if not key:
                assert inside(text_rect(text), own), (text.text, text_rect(text), own)
                count += 1
    assert count >= (20 if which == "pc" else 0)


@pytest.mark.parametrize("kind", PICTURES)
def test_texts_are_within_the_picture_and_apart(kind: str, pc: VirtualMachine) -> None:
    root = parse(PICTURES[kind](pc))
    for group in root.iter(f"{NS}g"):
        rects = [text_rect(t) for t in group.findall(f"{NS}text") if not t.get("transform")]
        assert all(r[0] >= -0.5 and r[2] <= float(root.get("width", "0")) for r in rects)
        for a, b in itertools.combinations(rects, 2):
            assert not overlap(a, b), ElementTree.tostring(group)


def test_the_tree_has_a_box_for_every_object_in_that_of_its_parent(pc: VirtualMachine) -> None:
    found = boxes(parse(tree_svg(pc.root)), "data-path")
    assert Counter(name for name, _, _ in found) == Counter(o.path for o in pc.root.walk())
    where = {name: rect for name, rect, _ in found}
    for obj in pc.root.walk():
        if obj.parent is not None:
            assert inside(where[obj.path], where[obj.parent.path])
        for a, b in itertools.combinations(obj.children().values(), 2):
            assert not overlap(where[a.path], where[b.path])


def test_a_part_of_the_tree(pc: VirtualMachine) -> None:
    svg = tree_svg(pc.machine.child("ide"))
    assert [name for name, _, _ in boxes(parse(svg), "data-path")] == [
        "/machine/ide", "/machine/ide/ide.0", "/machine/ide/ide.1",
    ]  # fmt: skip
    assert "What /machine/ide is made of" in svg


def test_the_bus_picture_has_every_bus_and_device_once_and_apart(pc: VirtualMachine) -> None:
    root = parse(bus_svg(pc))
    found = boxes(root, "data-path")
    wanted = [o for o in pc.root.walk() if isinstance(o, Bus) or (isinstance(o, Device) and not o.is_a("machine"))]
    assert Counter(name for name, _, _ in found) == Counter(o.path for o in wanted)
    for (one, a, _), (other, b, _) in itertools.combinations(found, 2):
        assert not overlap(a, b), (one, other)
    texts = [t.text for t in root.iter(f"{NS}text")]
    assert "ports 3f8-3ff, irq 4" in texts and "01.1" in texts and "unit 0" in texts and "On no bus" in texts
    lines_clear_of(root, [(name, rect) for name, rect, _ in found])


def test_a_device_named_after_its_type_says_it_once() -> None:
    words = ["-accel", "qtest", "-bios", str(EMBEDDED), "-serial", "null", "-device", "isa-debug-exit,iobase=0x501"]
    with machine(CommandLine().parse(words).builder.finish(), "test") as vm:
        (group,) = (g for name, _, g in boxes(parse(bus_svg(vm)), "data-path") if name.endswith("/isa-debug-exit@501"))
        assert [t.text for t in group.findall(f"{NS}text")] == ["isa-debug-exit@501", "ports 501-502"]


def lines_clear_of(root: ElementTree.Element, there: list[tuple[str, Rect]]) -> None:
    """No line runs through a box."""
    for path in root.iter(f"{NS}path"):
        points = way(path)
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            assert abs(x0 - x1) < 5.1 or abs(y0 - y1) < 5.1, "lines are horizontal or vertical, corners are small"
            line = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
            for name, (left, top, right, bottom) in there:
                within = left + 1 < line[2] and line[0] < right - 1 and top + 1 < line[3] and line[1] < bottom - 1
                assert not within, (name, line)


def test_the_memory_picture_has_every_piece_and_every_region_once(pc: VirtualMachine) -> None:
    root = parse(memory_svg(pc))
    bus = pc.machine.system_bus
    pieces = boxes(root, "data-flat")
    assert [name for name, _, _ in pieces] == [
        f"{space.name} {r.start:x}-{r.end - 1:x}" for space in (bus.memory_space, bus.io_space) for r in space.flat_view
    ]
    found = boxes(root, "data-region")

    def regions(region: Region, base: int) -> list[str]:
        return [f"{region.name} {base:x}", *(n for r in region.subregions for n in regions(r, base + r.offset))]

    named = [f"memory {n}" for n in regions(bus.memory, 0)] + [f"I/O {n}" for n in regions(bus.io, 0)] + ["- pc.ram -"]
    assert Counter(name for name, _, _ in found) == Counter(named)
    for (one, a, _), (other, b, _) in itertools.combinations([*pieces, *found], 2):
        assert not overlap(a, b), (one, other)
    for name, a, _ in pieces:  # what has the same addresses stands at the same height
        start = name.split()[1].split("-")[0]
        same = [r for n, r, _ in found if n.endswith(f" {start}") and n.split()[0] == name.split()[0]]
        assert all(abs(r[1] - a[1]) < 1 for r in same), name
    heights = {n: r[3] - r[1] for n, r, _ in pieces}
    assert heights["memory 100000000-17fffffff"] > heights["memory 0-9ffff"] > heights["memory fec00000-fec00fff"]
    disabled = [g for _, _, g in found if (rect := g.find(f"{NS}rect")) is not None and "off" in rect.get("class", "")]
    assert len(disabled) == 15  # the ROM sides of PAM, the wrap of A20, and the second set of CPU hotplug registers


def test_regions_out_of_sight_are_drawn_too(none: VirtualMachine) -> None:
    memory = none.machine.system_bus.memory
    window = memory.add(0x1000, Region.container("window", 0x1000))
    window.add(0x800, Region("reaches-out", 0x1000))
    window.add(0x1000, Region("lost", 0x10))
    shown = [Region.ram(f"ram{n}", 0x1000) for n in range(6)]
    for n, ram in enumerate(shown):
        memory.add(n << 20, Region.alias(f"alias{n}", ram, 0, 0x1000))
    try:
        found = boxes(parse(memory_svg(none)), "data-region")
        names = Counter(name for name, _, _ in found)
        assert names["- lost -"] == names["memory reaches-out 1800"] == names["- ram5 -"] == 1
        for (one, a, _), (other, b, _) in itertools.combinations(found, 2):
            assert not overlap(a, b), (one, other)
    finally:
        for region in list(memory.subregions):
            memory.remove(region)


def test_every_wire_is_drawn_once_from_its_source_to_its_target(pc: VirtualMachine) -> None:
    root = parse(wiring_svg(pc))
    shown = [w for w in wires(pc) if w.kind != "inside"]
    found = boxes(root, "data-path")
    where = {name: rect for name, rect, _ in found}
    assert set(where) == ({e.object.path for w in shown for e in (w.source, w.target)})
    drawn = []
    for group in root.iter(f"{NS}g"):
        if group.get("data-wires") is None:
            continue
        title, path = group.find(f"{NS}title"), group.find(f"{NS}path")
        assert title is not None and path is not None
        said = (title.text or "").splitlines()
        assert len(said) == int(group.get("data-wires", "0"))
        drawn += said
        source, target = (end.split(" ")[0] for end in said[0].split(" → "))
        (x0, y0), (x1, y1) = way(path)[0], way(path)[-1]
        a, b = where[source], where[target]
        assert abs(x0 - a[2]) < 0.2 and a[1] < y0 < a[3], said
        assert abs(x1 - b[0]) < 0.2 and b[1] < y1 < b[3], said
    assert Counter(drawn) == Counter(
        f"{w.source.object.path} {w.source.text} → {w.target.object.path} {w.target.text}{f' ({w.note})' if w.note else ''}"
        for w in shown
    )
    for (one, a, _), (other, b, _) in itertools.combinations(found, 2):
        assert not overlap(a, b), (one, other)
    lines_clear_of(root, [(name, rect) for name, rect, _ in found])


def test_few_lines_cross_and_most_are_straight(pc: VirtualMachine) -> None:
    root = parse(wiring_svg(pc))
    ways = [way(p) for p in root.iter(f"{NS}path")]
    straight = sum(abs(w[0][1] - w[-1][1]) < 0.2 and len(w) == 2 for w in ways)
    assert straight > len(ways) / 3
    pieces = [[(min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])) for a, b in itertools.pairwise(w)]
              for w in ways]  # fmt: skip
    crossings = 0
    for one, other in itertools.combinations(pieces, 2):
        for a in one:
            for b in other:
                up, flat = (a, b) if a[2] - a[0] < a[3] - a[1] else (b, a)
                crossings += flat[0] + 3 < up[0] < flat[2] - 3 and up[1] + 3 < flat[1] < up[3] - 3
    assert crossings <= 25


@type_init("board-nobody-knows")
class Ring(IsaDevice):
    """Two lines in a circle, a name that needs quoting, and nothing known of its category."""

    @classmethod
    def class_init(cls) -> None:
        cls.desc, cls.category = 'Ring <of "two" & more>', "never-heard-of"

    def instance_init(self) -> None:
        self.gpio_in("in", 1, lambda n, level: None)
        self.gpio_out("out")

    def routes(self) -> list[Route]:
        return [Route(self.line_in("in"), self.pin_out("out"), 'a<b&"c"')]


def test_what_nobody_has_heard_of_is_drawn_too(tmp_path: Path) -> None:
    config = CommandLine().parse(["-accel", "simulated", "-bios", str(EMBEDDED), "-serial", "null"]).builder.finish()
    with machine(config, "test") as vm:
        vm.registry.register(Ring, "tests")
        bus = vm.machine.child("piix3").child("isa.0")
        made = []
        for name in ("one", "two"):
            made.append(vm.registry.new("board-nobody-knows"))
            vm.machine.add_child(name, made[-1])
            made[-1].plug(bus)
        for a, b in (made, reversed(made)):
            a.connect_out("out", 0, b.line_in("in"))
        assert category(made[0]) == "misc"
        for kind, draw in PICTURES.items():
            root = parse(draw(vm))
            names = [name for name, _, _ in boxes(root, "data-path")]
            if kind != "memory":
                assert names.count("/machine/one") == names.count("/machine/two") == 1
        tip = next(
            g.findtext(f"{NS}title") for _, _, g in boxes(parse(tree_svg(vm.root)), "data-path")
            if g.get("data-path") == "/machine/one"
        )  # fmt: skip
        assert 'board-nobody-knows: Ring <of "two" & more>' in (tip or "")


@type_init("node-with-lines")
class Node(Device):
    """Something to connect at will."""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8),
    choices=st.randoms(use_true_random=False),
)
def test_any_wiring_is_drawn_circles_too(
    ends: list[tuple[int, int]], choices: random.Random, none: VirtualMachine
) -> None:
    types = none.registry.fork()
    types.register(Node, "tests")
    nodes = [types.new("node-with-lines") for _ in ends]
    try:
        for n, (node, (inputs, outputs)) in enumerate(zip(nodes, ends, strict=True)):
            none.machine.add_child(f"node{n}", node)
            node.gpio_in("in", inputs, lambda n, level: None)
            node.gpio_out("out", outputs)
        lines = [line for node in nodes for line in node.lines()["in"]]
        for node in nodes:
            for pin in node.pins()["out"]:
                if lines and choices.random() < 0.8:
                    pin.connect(choices.choice(lines))
        root = parse(wiring_svg(none))
        found = boxes(root, "data-path")
        shown = wires(none)
        assert len(root.findall(f".//{NS}g[@data-wires]")) == len(shown)
        assert {name for name, _, _ in found} == {e.object.path for w in shown for e in (w.source, w.target)}
        for (one, a, _), (other, b, _) in itertools.combinations(found, 2):
            assert not overlap(a, b), (one, other)
        lines_clear_of(root, [(name, rect) for name, rect, _ in found])
        assert "/machine/node0 (node-with-lines)" in wiring_text(none) or not any(
            w.source.object is nodes[0] for w in shown
        )
    finally:
        for node in nodes:
            node.unparent()


def test_sixty_four_processors_are_drawn(pc: VirtualMachine) -> None:
    config = CommandLine().parse(["-accel", "qtest", "-smp", "64", "-bios", str(EMBEDDED), "-serial", "null"])
    with machine(config.builder.finish(), "test") as vm:
        root = parse(wiring_svg(vm))
        found = boxes(root, "data-path")
        assert len(found) > 128
        lines_clear_of(root, [(name, rect) for name, rect, _ in found])
        assert len(boxes(parse(tree_svg(vm.root)), "data-path")) == sum(1 for _ in vm.root.walk())


def test_widths_and_shortening() -> None:
    assert text_width("iiii", "name") < text_width("mmmm", "name")
    assert text_width("abcd", "addr") == 4 * 0.605 * FONTS["addr"][0] and "monospace" in MONO
    assert fit("short", 200, "name") == "short"
    long = fit("a-name-that-is-much-too-long-for-this", 80, "name")
    assert "…" in long and text_width(long, "name") <= 80 and long.startswith("a-na") and long.endswith("this")
    assert fit("mmmm", 1, "name") == "…"


def test_what_xml_cannot_hold_is_replaced() -> None:
    picture = Picture("a \x00 b \x1b[1m <c> \udcff & d")
    with picture.group("x\x01y", "tip \x07", data_path='"<\x02>"'):
        picture.text(0, 0, "e\x0bf", "name")
    document = picture.document()
    root = parse(document)
    assert root.findtext(f"{NS}title") == "a \ufffd b \ufffd[1m <c> \ufffd & d"
    assert [g.get("data-path") for g in root.iter(f"{NS}g") if g.get("data-path")] == ['"<\ufffd>"']
    document.encode("utf-8")


def test_lines_have_round_corners_and_no_needless_points() -> None:
    assert rounded([(0, 0), (5, 0), (10, 0)], 4) == "M0 0L10 0"
    assert rounded([(0, 0), (10, 0), (10, 10)], 4) == "M0 0L6 0Q10 0 10 4L10 10"


def test_an_empty_picture_and_its_legend() -> None:
    picture = Picture("Nothing")
    assert parse(picture.document()).findtext(f"{NS}title") == "Nothing"
    for name in CATEGORIES:
        picture.colour(name)
    root = parse(picture.document())
    keys = [t.text for t in root.iter(f"{NS}text") if t.get("class") == "key"]
    assert keys == [said for said, *_ in CATEGORIES.values()]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "none.svg"
    assert qom_main.main(["graph", "-M", "none", "--kind", "buses", "-o", str(out)]) == 0
    assert capsys.readouterr().out == ""
    assert parse(out.read_text()).findtext(f"{NS}title") == "Buses, and what sits on them"
    assert qom_main.main(["graph", "-M", "none", "--text"]) == 0
    assert "  /machine (none-machine)" in capsys.readouterr().out.splitlines()
    assert qom_main.main(["graph", "-M", "none", "--kind", "interrupts"]) == 0
    assert "none-machine has no interrupt wiring" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (
            ["--kind", "busses"],
            "qom: graph: --kind: cannot be 'busses': expected one of tree, buses, memory, interrupts; did you mean 'buses'?\n",
        ),
        (["--kind"], "qom: graph: --kind: an argument is missing: expected one of tree, buses, memory, interrupts\n"),
        (["-M", "none", "-o"], "qom: graph: -o: an argument is missing: expected a file name\n"),
        (["-M", "none", "-o", "/no/such/place.svg"], "qom: /no/such/place.svg: No such file or directory\n"),
    ],
)
def test_wrong_arguments(argv: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert qom_main.main(["graph", *argv]) == 1
    assert capsys.readouterr().err == error
