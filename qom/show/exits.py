"""Exits of a machine as a table, and as a picture: per reason and processor, and per device.

The text is for a terminal and fits its width and height; the picture has bars whose lengths grow with the logarithm of the
number, and the rate over time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from qom.show.svg import ALIASES, CATEGORIES, Picture, Svg
from qom.vm.exits import ExitSample

__all__ = ["exits_svg", "exits_text"]

HALVES: Final = (("inner", "inside the accelerator"), ("user", "to user space"))
NAME_W: Final = range(16, 41)  # columns for a name in the table
NUMBER_W: Final = 11
BAR_X, BAR_W, ROW_H = 330.0, 420.0, 19.0
CURVE_H: Final = 110.0


def exits_text(
    sample: ExitSample, before: ExitSample | None = None, *, width: int = 100, height: int | None = None
) -> list[str]:
    """The table, a line a row.

    before: an earlier sample; the last column is then what came per second since.  width: columns there are; processors
    that have no room are summed up.  height: lines there are; the rarest reasons and devices are left out, and how many
    they are is said.
    """
    elapsed = sample.seconds - before.seconds if before is not None else 0.0
    name_w = min(max(width - 3 * (NUMBER_W + 1), NAME_W[0]), NAME_W[-1])
    room = max(1, (width - name_w) // (NUMBER_W + 1) - 1)
    cpus = sample.cpus if len(sample.cpus) <= room else []
    rate = f", {(sample.total - before.total) / elapsed:,.0f}/s" if before is not None and elapsed > 0 else ""
    lines = [f"exits after {sample.seconds:.1f} s: {sample.total:,} to user space{rate}"]
    sections: list[tuple[str, list[str], list[tuple[str, list[int], int | None]]]] = []
    for half, title in HALVES:
        counts: dict[str, dict[str, int]] = getattr(sample, half)
        old: dict[str, dict[str, int]] = getattr(before, half) if before is not None else {}
        rows = [
            (
                reason.removeprefix("KVM_EXIT_"),
                [by_cpu.get(cpu, 0) for cpu in cpus] if cpus else [sum(by_cpu.values())],
                sum(by_cpu.values()) - sum(old.get(reason, {}).values()) if before is not None else None,
            )
            for reason, by_cpu in sorted(counts.items(), key=lambda item: -sum(item[1].values()))
        ]
        sections.append((title, [f"cpu {cpu}" for cpu in cpus] if cpus else ["all cpus"], rows))
    seen = {(row.path, row.region): row.total for row in before.devices} if before is not None else {}
    devices = [
        (
            row.path if not row.region else f"{row.path} {row.region}",
            [row.reads, row.writes],
            row.total - seen.get((row.path, row.region), 0) if before is not None else None,
        )
        for row in sample.devices
    ]
    sections.append(("by device", ["reads", "writes"], devices))
    sections = [section for section in sections if section[2]]
    shares = _shares([len(rows) for _, _, rows in sections], None if height is None else height - 1)
    for (title, heads, rows), share in zip(sections, shares, strict=True):
        lines.append(_row(name_w, title, [*heads, *(["per second"] if elapsed > 0 else [])]))
        for name, numbers, new in rows[:share]:
            shown = [f"{n:,}" for n in numbers]
            if elapsed > 0 and new is not None:
                shown.append(f"{new / elapsed:,.0f}")
            lines.append(_row(name_w, "  " + name, shown))
        if share < len(rows):
            lines.append(f"  … and {len(rows) - share} more")
    return [line[:width] for line in lines]


def _shares(wanted: Sequence[int], room: int | None) -> list[int]:
    """How many rows each section shows when its title, and a line for what is left out, have to fit as well."""
    if room is None or sum(wanted) + len(wanted) <= room:
        return list(wanted)
    free = max(len(wanted), room - 2 * len(wanted))
    shares = [0] * len(wanted)
    while free and any(share < want for share, want in zip(shares, wanted, strict=True)):
        for n, want in enumerate(wanted):
            if free and shares[n] < want:
                shares[n] += 1
                free -= 1
    return shares


def _row(room: int, name: str, numbers: Sequence[str]) -> str:
    if len(name) > room:
        name = f"{name[: room // 2]}…{name[-(room - room // 2 - 1) :]}"
    return name.ljust(room) + "".join(f" {number:>{NUMBER_W}}" for number in numbers)


def exits_svg(samples: Sequence[ExitSample], title: str = "Why the processors left the guest") -> Svg:
    """A complete SVG document: the last sample's numbers as bars, and the rate between the samples as a curve.

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("exits_svg: no samples")
    last = samples[-1]
    picture = Picture(
        title, f"{last.total:,} exits to user space in {last.seconds:.1f} s; lengths grow with the logarithm"
    )
    y = 0.0
    for half, heading in HALVES:
        counts: dict[str, dict[str, int]] = getattr(last, half)
        rows = [(reason.removeprefix("KVM_EXIT_"), sum(n.values()), "cpu" if half == "user" else "accel")
                for reason, n in counts.items()]  # fmt: skip
        y = _bars(picture, y, heading, rows)
    y = _bars(
        picture,
        y,
        "by device",
        [
            (f"{row.path} {row.region}".strip(), row.total, ALIASES.get(row.category, row.category))
            for row in last.devices
        ],
    )
    _curve(picture, y, samples)
    return picture.document()


def _bars(picture: Picture, y: float, heading: str, rows: list[tuple[str, int, str]]) -> float:
    """A panel of bars from `y` down; returns where the next may begin."""
    rows = sorted((row for row in rows if row[1]), key=lambda row: (-row[1], row[0]))
    if not rows:
        return y
    picture.text(0, y + 12, heading, "head")
    y += 22
    longest = math.log10(rows[0][1] + 1)
    for name, count, kind in rows:
        kind = kind if kind in CATEGORIES else "misc"
        width = max(2.0, BAR_W * math.log10(count + 1) / longest)
        with picture.group(picture.colour(kind), tip=f"{name}: {count:,}"):
            picture.text(0, y + 12, name, "name", room=BAR_X - 12)
            picture.rect(BAR_X, y + 1, width, ROW_H - 5, radius=3)
            picture.text(BAR_X + width + 8, y + 12, f"{count:,}", "addr")
        y += ROW_H
    return y + 18


def _curve(picture: Picture, y: float, samples: Sequence[ExitSample]) -> None:
    """Exits to user space per second, between each two samples."""
    rates = [
        (b.seconds, (b.total - a.total) / (b.seconds - a.seconds))
        for a, b in pairwise(samples)
        if b.seconds > a.seconds
    ]
    if len(rates) < 2:
        return
    highest, end = max(rate for _, rate in rates) or 1.0, rates[-1][0]
    picture.text(0, y + 12, "exits to user space per second, over time", "head")
    top, width = y + 24, BAR_X + BAR_W
    picture.line([(0, top + CURVE_H), (width, top + CURVE_H)], "rule", 0)
    with picture.group(picture.colour("cpu")):
        points = [(width * at / end, top + CURVE_H * (1 - rate / highest)) for at, rate in rates]
        picture.line(points, "wire", 0)
    picture.text(0, top - 1, f"{highest:,.0f}/s", "addr", cls="muted")
    picture.text(width, top + CURVE_H + 14, f"{end:.0f} s", "addr", anchor="end", cls="muted")
