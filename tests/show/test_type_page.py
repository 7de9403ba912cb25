"""A type's page: complete for every type there is, and for those of others."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from qom import (
    REQUIRED,
    Device,
    Interface,
    TypeInfo,
    TypeRegistry,
    alias,
    child,
    default_registry,
    link,
    prop,
    state,
    type_init,
)
from qom.board import board_of, read_board, register_board
from qom.cli import main as qom_main
from qom.cli.arguments import file_and_options
from qom.cli.options import CommandLine
from qom.show.example import example
from qom.show.page import Code, as_markdown, as_text, escaped, markdown_table
from qom.show.type_page import type_page


@pytest.fixture(scope="module")
def types() -> TypeRegistry:
    return default_registry(load_external=False)


def test_every_type_has_a_page_with_all_its_properties_and_state(types: TypeRegistry) -> None:
    for found in types:
        page = type_page(found)
        text, markdown = as_text(page), as_markdown(page)
        assert text.startswith(found.name) and markdown.startswith(f"# {found.name}\n")
        for p in found.properties.values():
            if p.name not in ("realized", "bus") and p.kind != "child":
                assert f"| `{p.name}` | `{p.type}` |" in markdown, (found.name, p.name)
                assert f"\n  {p.name} " in text
        for field in found.states:
            assert f"\n| `{field}` | " in markdown
        assert max(map(len, text.splitlines())) <= 160


def test_every_example_is_understood(types: TypeRegistry, tmp_path: Path) -> None:
    count = 0
    for found in types.types(abstract=False):
        shown = example(found)
        if shown is None:
            continue
        CommandLine().parse(list(shown.words)).builder.finish()
        path = tmp_path / f"{found.name}.toml"
        path.write_text(shown.toml)
        file_and_options([str(path)]).builder.finish()
        count += 1
    assert count > 20
    assert example(types.get("device")) is None and example(types.get("apic")) is None


def test_a_page_as_text(types: TypeRegistry) -> None:
    text = as_text(type_page(types.get("piix3-ide")))
    lines = text.splitlines()
    assert lines[0] == "piix3-ide: PIIX3 IDE controller with bus mastering"
    assert "  derives from  piix3-ide ← pci-device ← device ← object" in lines
    assert "  sits on       a bus of type PCI" in lines
    assert "  provides      ide-bus as ide.N" in lines
    assert "  out  isa-irq  2" in lines
    assert "  $ qom-system-x86_64 -device piix3-ide" in lines
    assert any(line.startswith("Not modelled: ") for line in lines)
    assert "\n\n\n" not in text


def test_a_machine_from_a_board_file_shows_its_board(types: TypeRegistry, tmp_path: Path) -> None:
    board = board_of("pc-machine", types)
    page = type_page(types.get("pc-machine"))
    parts, regions, wires = (next(s for s in page.sections if s.title == t) for t in ("Parts", "Memory map", "Wires"))
    assert [row[0] for row in parts.rows] == [Code(p.name) for p in board.parts]
    assert [row[0] for row in regions.rows] == [Code(r.name) for r in board.regions]
    text = as_text(page)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "board file pc-i440fx.toml" in lines
    assert "rtc mc146818rtc piix3.isa.0 iobase = 0x70" in lines
    assert "gsi.ioapic[0-23] ioapic[0-23]" in lines and "gsi.pic[8-15] pic2[0-7] own-chips" in lines
    count = 0
    for row in wires.rows:  # joined or not, none is lost
        span = re.search(r"\[(\d+)-(\d+)\]$", row[0].text if isinstance(row[0], Code) else "")
        count += int(span[2]) - int(span[1]) + 1 if span else 1
    assert count == len(board.wires)
    path = tmp_path / "small.toml"
    path.write_text(
        '[board]\nname = "small"\ndesc = "Small"\n\n[[region]]\nname = "ram"\nkind = "ram"\nsize = "ram-size"\n'
    )
    registry = types.fork()
    register_board(registry, read_board(path))
    small = as_text(type_page(registry.get("small-machine")))
    assert "ram     ram   only through aliases  ram-size" in small and "Wires" not in small and "Parts" not in small


def test_links_between_pages_lead_to_types(types: TypeRegistry) -> None:
    markdown = as_markdown(type_page(types.get("isa-serial")))
    assert "[`isa-device`](isa-device.md)" in markdown and "`link<chardev>`" in markdown
    assert "-chardev ringbuf,id=char0 -device isa-serial,chardev=char0" in markdown
    assert "| [`ide-hd`](ide-hd.md) | ATA hard disk |" in as_markdown(type_page(types.get("ide-device")))


@type_init("adjustable")
class Adjustable(Interface):
    """What has a knob."""


@type_init("gadget-part")
class GadgetPart(Device):
    """Part of a gadget."""


@type_init("gadget")
class Gadget(Device, Adjustable):
    """A gadget <of ours>.

    It has *everything*: a_name_with_underscores, `code_as_it_is`, [brackets].
    """

    level: int = prop(REQUIRED, "How loud", type="uint8", min=1, max=11, unit="dB")
    mode: str = prop("slow", "How | fast", among=("slow", "fast"), mutable=True)
    size: int = prop(4096, "How big", type="size", max=1 << 20)
    friend: Device | None = link("device", "Somebody to talk to")
    part: GadgetPart = child("gadget-part", "Its part")
    loudness: int = alias("", "level", "Another name for it")
    table: list[int] = state(factory=lambda: [7] * 16, desc="Sixteen numbers")
    clock_set: bool = state(reset=False, keep=True)

    def instance_init(self) -> None:
        self.gpio_in("knob", 3, lambda n, level: None)
        self.gpio_out(None)

    def realize(self) -> None:
        self.new_bus("isa-bus", "gadget.0")
        for n in range(2):
            self.new_bus("no-such-bus", f"other.{n}")


def test_a_type_of_somebody_else(types: TypeRegistry, tmp_path: Path) -> None:
    registry = types.fork()
    registry.register(GadgetPart, "qom-gadget")
    registry.register(Gadget, "qom-gadget")
    page = type_page(registry.get("gadget"))
    markdown = as_markdown(page)
    assert "**A gadget &lt;of ours&gt;.**" in markdown
    assert "It has \\*everything\\*: a\\_name\\_with\\_underscores, `code_as_it_is`, \\[brackets\\]." in markdown
    assert "| `level` | `uint8` | required | 1 to 11 dB |  | How loud |" in markdown.replace(
        "How loud |", " | How loud |"
    )
    assert "| `mode` | `str` | slow | slow, fast | How \\| fast; may be set while it runs |" in markdown
    assert "| `size` | `size` | 4k | 0 to 1M | How big |" in markdown
    assert "| implements | [`adjustable`](adjustable.md) |" in markdown
    assert "| comes from | qom-gadget |" in markdown
    assert "| provides | [`isa-bus`](isa-bus.md) as `gadget.0`, `no-such-bus` as `other.N` |" in markdown
    assert "| `table` | `16 × 7` | set back | Sixteen numbers |" in markdown
    assert "| `clock_set` | `False` | kept |  |" in markdown
    assert "| in | `knob` | 3 |" in markdown and "| out | `unnamed` | 1 |" in markdown
    shown = example(registry.get("gadget"))
    assert shown is not None and shlex.join(shown.words) == "-device gadget,level=1"
    assert shown.toml == '[[device]]\ndriver = "gadget"\nlevel = 1\n'
    assert "| [`gadget`](gadget.md) | A gadget &lt;of ours&gt; |" in as_markdown(type_page(registry.get("adjustable")))


def test_a_type_made_by_a_record(types: TypeRegistry) -> None:
    registry = types.fork()
    registry.register(TypeInfo(name="recorded", parent="isa-device", desc="By a record"), "tests")
    assert as_text(type_page(registry.get("recorded"))).startswith("recorded: By a record\n")


def test_markdown_of_prose_and_tables() -> None:
    assert escaped("a <b> `<c>`\n\n    x < y") == "a &lt;b&gt; `<c>`\n\n    x < y"
    assert escaped("Two things:\n* one_1\n* two") == "Two things:\n\n* one\\_1\n* two"
    assert markdown_table(("a", "b", "c"), [("1", "", "x|`y|z`"), ("2", "", "z")]) == [
        "| a | c |", "|---|---|", "| 1 | x\\|`y|z` |", "| 2 | z |",
    ]  # fmt: skip
    assert Code("x").text == "x"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert qom_main.main(["doc", "pc"]) == 0
    assert capsys.readouterr().out.startswith("pc-i440fx-")
    assert qom_main.main(["doc", "ringbuf", "--format", "md"]) == 0
    assert capsys.readouterr().out.startswith("# chardev-ringbuf\n")


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        ([], "qom: doc: no type: expected TYPE [--format text|md]; `qom types` lists them\n"),
        (["isa-seriel"], "qom: no type 'isa-seriel'; did you mean 'isa-serial' or 'isa-pit' or 'isa-ide'?\n"),
        (["bus", "--format", "mdd"], "qom: doc: --format: cannot be 'mdd': expected text or md; did you mean 'md'?\n"),
        (["bus", "--format"], "qom: doc: --format: an argument is missing: expected text or md\n"),
        (["bus", "-x"], "qom: doc: unknown argument '-x': expected TYPE [--format text|md]; `qom types` lists them\n"),
    ],
)
def test_wrong_arguments(argv: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert qom_main.main(["doc", *argv]) == 1
    err = capsys.readouterr().err
    assert err == error or (argv == ["isa-seriel"] and err.startswith(error.partition(" or ")[0]))


def test_an_object_is_asked_for_in_the_words_of_the_schema() -> None:
    made = example(default_registry().get("trace"))
    assert made is not None and made.toml == '[[object]]\nqom-type = "trace"\nid = "object0"\n'
