"""Boards by chance: valid ones build whatever the order of their entries, damaged ones are an error with a place."""

from __future__ import annotations

import json
import random
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

from boards import TINY, machine, memory_map, paths, types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qom import QomError
from qom.board import check_board, machine_type, read_board

STEADY = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
ROOT = Path(__file__).parents[2]
# The PC under another name, small.
PC = (
    (ROOT / "machines/pc-i440fx.toml")
    .read_text()
    .replace('"pc-i440fx"', '"other-pc"')
    .replace('aliases = ["pc"]\n', "")
)
PC = PC.replace('"128M"', '"16M"')
FIRMWARE = ROOT / "plugins/firmware/qomfw.bin"

KIB = 1 << 10


@st.composite
def boards(draw: st.DrawFn) -> dict[str, Any]:
    """A valid board: RAM and windows on it, an ISA bus or two, chips on them, wires, values and conditions."""
    parts: list[dict[str, Any]] = []
    wires: list[dict[str, Any]] = []
    values = {"page": "4k", "odd": f"{draw(st.integers(0, 1))} == 1", "base": "page * 16"}
    bridge = draw(st.sampled_from(["isa", "the-bridge"]))
    parts.append({"name": bridge, "type": "isabus-bridge"})
    bus = f"{bridge}.isa.0"
    for n in range(draw(st.integers(0, 3))):
        part: dict[str, Any] = {
            "name": f"exit{n}",
            "type": "isa-debug-exit",
            "bus": bus,
            "values": {"iobase": f"0x500 + {8 * n}"},
        }
        if draw(st.booleans()):
            part["when"] = draw(st.sampled_from(["odd", "not odd", "ram-size > 1M"]))
        parts.append(part)
    if draw(st.booleans()):
        parts += [
            {"name": "port61", "type": "port61", "bus": bus, "links": {"pit": "pit"}},
            {"name": "pit", "type": "isa-pit", "bus": bus},
        ]
    if draw(st.booleans()):
        parts.append(
            {"name": "pic", "type": "isa-i8259", "bus": bus, "props": {"iobase": draw(st.sampled_from([0x20, 0xA0]))}}
        )
        for n in draw(st.sets(st.integers(0, 7))):
            wires.append({"from": f"{bus}:irq[{n}]", "to": f"pic[{draw(st.integers(0, 7))}]"})
    regions: list[dict[str, Any]] = [{"name": "all", "kind": "ram", "size": "ram-size"}]
    for n in range(draw(st.integers(0, 4))):
        size = draw(st.integers(1, 8)) * 4 * KIB
        offset = draw(st.integers(0, 16)) * 4 * KIB
        regions.append({
            "name": f"window{n}", "kind": "alias", "of": "all", "offset": offset, "size": f"{size // KIB}k",
            "at": f"base + {draw(st.integers(0, 64))} * page", "priority": n,
        })  # fmt: skip
    return {
        "board": {"name": "random", "default-memory": f"{draw(st.integers(1, 4))}M"},
        "values": values, "part": parts, "wire": wires, "region": regions,
    }  # fmt: skip


def shuffled(data: dict[str, Any], seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    out = {key: rng.sample(value, len(value)) if isinstance(value, list) else value for key, value in data.items()}
    return dict(rng.sample(list(out.items()), len(out)))


@STEADY
@given(boards(), st.integers())
def test_a_board_builds_in_any_order_of_its_entries(data: dict[str, Any], seed: int) -> None:
    threads = threading.active_count()
    seen = []
    for form in (data, shuffled(data, seed)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "random.json"
            path.write_text(json.dumps(form))
            assert check_board(path, types()) == []
            with machine("-M", f"board={path}") as vm:
                lines = {
                    (part.path, pin.n): repr(pin.line)
                    for part in vm.machine.children().values()
                    for pins in getattr(part, "pins", dict)().values()
                    for pin in pins
                }
                seen.append((paths(vm), memory_map(vm), lines))
                board = vm.machine
            assert not list(board.system_bus.memory_space.flat_view)
            assert not board.realized
    assert seen[0] == seen[1]
    assert threading.active_count() == threads


TOKENS = re.findall(r"[\w.-]+|\[\[|\]\]|[=\"'{}\[\],\n]", TINY)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A board's text with a few pieces of it taken out, doubled, exchanged or replaced."""
    text = draw(st.sampled_from([TINY, PC]))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        spans = [match.span() for match in re.finditer(r"[\w.-]+|\S", text)]
        if not spans:
            break
        first, last = draw(st.sampled_from(spans))
        other, end = draw(st.sampled_from(spans))
        piece = draw(
            st.sampled_from(
                ["", text[first:last] * 2, text[other:end], "-1", "true", '"', "x", "[", "9" * 30, "é", "\t"]
            )
            | st.sampled_from(TOKENS)
        )
        text = text[:first] + piece + text[last:]
    return text


@settings(STEADY, max_examples=150)
@given(damaged())
def test_damage_gives_an_error_with_a_place(text: str) -> None:
    registry = types()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "board.toml"
        path.write_text(text, encoding="utf-8")
        found = check_board(path, registry)
        for error in found:
            assert re.match(rf"{re.escape(str(path))}:\d+:\d+: ", str(error)), str(error)
            assert "\n" not in str(error)
        try:
            read_board(path)
            name = machine_type(registry, path)
        except QomError as error:
            if not found:  # only a name that is taken is no fault of the file
                assert "is already" in str(error) or "is not legal" in str(error), str(error)
            return
        assert name in registry


@settings(STEADY, max_examples=40)
@given(damaged())
def test_a_machine_of_a_damaged_board_is_built_or_refused_and_leaves_nothing(text: str) -> None:
    threads = threading.active_count()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "board.toml"
        path.write_text(text, encoding="utf-8")
        try:
            with machine("-M", f"board={path}", "-m", "16M", "-debugcon", "null", "-bios", str(FIRMWARE)):
                pass
        except QomError as error:
            assert str(error) and "\n" not in str(error)
            assert "realize failed" not in str(error), str(error)  # which is how a bug in the builder would look
    assert threading.active_count() == threads
