"""Rows of measurements, and the page that shows them."""

from __future__ import annotations

import statistics
from typing import Any

import attrs


@attrs.define
class Row:
    """One measurement on all peers."""

    name: str
    text: str
    unit: str
    higher_is_better: bool
    samples: dict[str, list[float]] = attrs.Factory(dict)
    missing: dict[str, str] = attrs.Factory(dict)  # peer -> why it has no samples

    def median(self, peer: str) -> float | None:
        """The middle sample, None without any."""
        return statistics.median(self.samples[peer]) if self.samples.get(peer) else None


def number(value: float) -> str:
    """Three significant digits."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values: list[float]) -> str:
    """Lowest and highest, in per cent of the median."""
    middle = statistics.median(values)
    return f"-{(1 - min(values) / middle) * 100:.0f}/+{(max(values) / middle - 1) * 100:.0f} %"


INTRODUCTION = (
    "Written by `python -m benchmarks`, which measures all peers in turns on the same bare-metal images "
    "(`benchmarks/guests/`) and the same disk. Speeds are by processor time."
)


def table(
    rows: list[Row], host: dict[str, Any], reference: str, title: str = "Performance", introduction: str = INTRODUCTION
) -> str:
    """The page: a table of medians, with their ratio to `reference` (above 1 is better), and what was measured on."""
    peers = list(dict.fromkeys(name for row in rows for name in (*row.samples, *row.missing)))
    lines = [
        f"# {title}",
        "",
        f"{introduction} Medians; in brackets the lowest and highest sample; "
        f"then how many times as good as {reference}.",
        "",
        f"Host: {host['processor']}, {host['processors']} processors, Linux {host['kernel']}, "
        f"CPython {host['python']}; {host['rounds']} rounds; load average {host['load'][0]} before, {host['load'][1]} after.",
        "",
        *(f"- {name}: {summary}" for name, summary in host["peers"].items()),
        *(f"- {name}: not measured, {why}" for name, why in host["absent"].items()),
        "",
        f"| | unit | {' | '.join(peers)} |",
        f"|---|---|{'---|' * len(peers)}",
    ]
    for row in rows:
        cells = []
        base = row.median(reference)
        for peer in peers:
            middle = row.median(peer)
            if middle is None:
                cells.append("")
                continue
            cell = f"{number(middle)} ({spread(row.samples[peer])})"
            if base is not None and peer != reference:
                ratio = middle / base if row.higher_is_better else base / middle
                cell += f" {number(ratio)}x"
            cells.append(cell)
        lines.append(f"| {row.name}: {row.text} | {row.unit} | {' | '.join(cells)} |")
    notes = [f"- {row.name}, {peer}: {why}" for row in rows for peer, why in row.missing.items()]
    if notes:
        lines += ["", "Not measured:", "", *notes]
    return "\n".join(lines) + "\n"
