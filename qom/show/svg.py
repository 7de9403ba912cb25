"""Drawing: an SVG document of boxes, texts and lines, with one style for all pictures.

Everything a picture needs is in its file: no script, no font, no reference to anything outside.  Colours say the category
of a thing; the file holds a set for light and one for dark surroundings, and its own background, so that it is legible
wherever it is shown.

Widths of texts are estimated from a table, a little on the wide side, since which font will be used is not known here;
what does not fit is shortened in the middle, and the whole of it is in the tooltip.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from xml.sax import saxutils

import attrs

from qom.hw.bus import Bus
from qom.hw.device import Device
from qom.object import Object

__all__ = ["CATEGORIES", "FONTS", "Picture", "Svg", "category", "fit", "text_width", "tooltip", "xml_text"]

# Category: its name in the legend, then fill, edge and text for light, then for dark surroundings.
CATEGORIES: Final[dict[str, tuple[str, tuple[str, str, str], tuple[str, str, str]]]] = {
    "cpu": ("processor", ("#e6ebff", "#4763e4", "#24348c"), ("#1c2550", "#8a9dff", "#cfd8ff")),
    "accel": ("accelerator", ("#e1effb", "#2878b8", "#154a76"), ("#12304a", "#6db6ee", "#c6e4fb")),
    "memory": ("memory", ("#e1f5e6", "#2f9152", "#17562e"), ("#12331e", "#62c988", "#c6f0d3")),
    "bus": ("bus", ("#e4ecf3", "#4a6c8a", "#2c455c"), ("#1b2a37", "#8bb0ce", "#d3e4f2")),
    "intc": ("interrupt controller", ("#fde6e9", "#cf4259", "#8a2234"), ("#3f1820", "#ff8799", "#ffd3da")),
    "timer": ("timer", ("#fdf1d2", "#ab7515", "#6b480a"), ("#372a0d", "#efbd4d", "#fae6b8")),
    "char": ("character device", ("#d9f3f3", "#178488", "#0c5254"), ("#0e3133", "#56c9ce", "#c3eff1")),
    "block": ("block device", ("#fce8da", "#bd5c28", "#783614"), ("#3a2013", "#f29d6c", "#fcdac6")),
    "bridge": ("bridge", ("#f0e7fd", "#7c50d4", "#4d2b93"), ("#2b1d45", "#bf9dfc", "#e5d8fe")),
    "input": ("input", ("#fce5f1", "#b84486", "#762654"), ("#3b1a2d", "#f088c0", "#fbd3e8")),
    "net": ("network", ("#e7f3d9", "#5f8a1e", "#3a570e"), ("#24330f", "#a6d65e", "#dff2c2")),
    "display": ("display", ("#eae9fb", "#5f57c4", "#393384"), ("#232048", "#a49eff", "#dcdafe")),
    "misc": ("other", ("#eceef1", "#69727f", "#3d444e"), ("#262b33", "#a0aab8", "#dde2e9")),
    "place": ("container", ("#f8f9fb", "#a3acb9", "#566070"), ("#171b21", "#5d6876", "#b4bdc9")),
    "machine": ("machine", ("#f4f6f9", "#8d98a8", "#2f3844"), ("#1a1f27", "#6c7888", "#dfe5ec")),
}
ALIASES: Final = {"chardev": "char", "network": "net", "storage": "block", "firmware": "misc"}
SANS: Final = (
    '-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,"Noto Sans",system-ui,sans-serif'
)
MONO: Final = 'ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono","DejaVu Sans Mono",monospace'

# Text style: class, size in px, weight, whether it is monospaced.
FONTS: Final[dict[str, tuple[float, int, bool]]] = {
    "title": (17, 650, False),
    "sub": (11.5, 400, False),
    "head": (12, 650, False),
    "name": (11.5, 600, False),
    "type": (10, 400, False),
    "strong": (10, 600, False),
    "addr": (9.5, 400, True),
    "key": (10.5, 400, False),
}
_WIDE_BY: Final = 1.1  # how much wider than the table a font may be
_BOLD_BY: Final = 1.13
_MONO: Final = 0.605
_WIDTHS: Final[dict[str, float]] = {
    **dict.fromkeys("ijl'|,.:;!", 0.27),
    **dict.fromkeys('ftr()[]/\\I -"', 0.34),
    **dict.fromkeys("sckvxyzJ*", 0.5),
    **dict.fromkeys("mM", 0.86),
    **dict.fromkeys("wW", 0.84),
    **dict.fromkeys("@…→", 1.0),
    **dict.fromkeys("OQGDHNUCR&ABEKPSVXY", 0.71),
    **dict.fromkeys("–·", 0.56),
}
_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
REPLACEMENT: Final = "\ufffd"
ELLIPSIS: Final = "…"
BESIDE: Final = 6.0  # px between a text and what follows it
SHORTEST: Final = 24.0  # px: less room is not worth a text


def xml_text(text: str) -> str:
    """`text` as it may stand in a document: marks escaped, what XML cannot hold replaced."""
    return saxutils.escape(_ILLEGAL.sub(REPLACEMENT, text))


def text_width(text: str, font: str) -> float:
    """About how wide `text` is in px in that style; rather too wide than too narrow."""
    size, weight, mono = FONTS[font]
    if mono:
        return len(text) * _MONO * size
    return sum(_WIDTHS.get(c, 0.58) for c in text) * size * _WIDE_BY * (_BOLD_BY if weight > 500 else 1.0)


def fit(text: str, width: float, font: str) -> str:
    """`text`, shortened in its middle until it is at most `width` px wide."""
    if text_width(text, font) <= width:
        return text
    for keep in range(len(text) - 1, 0, -1):
        short = f"{text[: keep - keep // 2]}{ELLIPSIS}{text[len(text) - keep // 2 :]}"
        if text_width(short, font) <= width:
            return short
    return ELLIPSIS


def category(obj: Object) -> str:
    """What colour an object has: the category of its type where there is a colour for it."""
    if isinstance(obj, Bus):
        return "bus"
    if obj.is_a("machine"):
        return "machine"
    if obj.is_a("container"):
        return "place"
    said = str(getattr(type(obj), "category", "misc"))
    said = ALIASES.get(said, said)
    if said == "misc":
        said = next(
            (c for kind, c in (("accel", "accel"), ("cpu", "cpu"), ("chardev", "char")) if obj.is_a(kind)), said
        )
    return said if said in CATEGORIES else "misc"


def tooltip(obj: Object, where: str = "") -> str:
    """What is shown when one points at an object: path, type, description, where it sits, the properties that were set."""
    from qom.show.tree import value_text

    lines = [obj.path, f"{obj.type_name}: {obj.type.desc}" if obj.type.desc else obj.type_name]
    if isinstance(obj, Device) and obj.bus is not None:
        lines.append(f"on {obj.bus.path}{f': {where}' if where else ''}")
    for p in obj.properties().values():
        if p.kind in ("child", "alias") or p.name in ("realized", "bus") or p.name.startswith("child["):
            continue
        if p.name in obj.user_set or p.required:
            lines.append(f"{p.name} = {value_text(obj, p.name)}")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _attributes(given: Mapping[str, object]) -> str:
    out = []
    for name, value in given.items():
        if value is not None and value != "":
            text = _number(value) if isinstance(value, float) else str(value)
            out.append(f" {name.rstrip('_').replace('_', '-')}={saxutils.quoteattr(_ILLEGAL.sub(REPLACEMENT, text))}")
    return "".join(out)


class Svg(str):
    """A complete SVG document: text that a notebook shows as the picture it is."""

    __slots__ = ("caption",)
    caption: str

    def _repr_svg_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"<picture '{self.caption}', {len(self)} characters of SVG>"


@attrs.define
class Picture:
    """A picture under construction: what is drawn goes to the end, later over earlier.

    title, subtitle: what stands over it.  width, height: of the drawing in px; what stands over and under it is added.
    """

    title: str
    subtitle: str = ""
    width: float = 0
    height: float = 0
    body: list[str] = attrs.field(factory=list)
    used: list[str] = attrs.field(factory=list)
    """Categories for the legend, in the order they came."""
    depth: int = 1

    def put(self, text: str) -> None:
        """Add a line of SVG."""
        self.body.append("  " * self.depth + text)

    @contextmanager
    def group(self, cls: str = "", tip: str = "", **given: object) -> Iterator[None]:
        """Elements that belong together, under one tooltip; `data_path="/x"` becomes the attribute data-path."""
        self.put(f"<g{_attributes({'class': cls, **given})}>")
        self.depth += 1
        if tip:
            self.put(f"<title>{xml_text(tip)}</title>")
        yield
        self.depth -= 1
        self.put("</g>")

    def rect(self, x: float, y: float, w: float, h: float, cls: str = "box", radius: float = 5) -> None:
        """A rectangle with rounded corners."""
        self.reach(x + w, y + h)
        self.put(
            f'<rect class="{cls}" x="{_number(x)}" y="{_number(y)}" width="{_number(w)}" height="{_number(h)}"'
            f' rx="{_number(radius)}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        font: str,
        *,
        room: float | None = None,
        anchor: str = "start",
        cls: str = "",
        more: tuple[str, str] = ("", ""),
    ) -> None:
        """A text whose baseline is at y; shortened to `room` px.

        more: what follows it in another style, where `room` leaves space for that; both are one text, so that the second
        begins where the first ends in whatever font it is shown.
        """
        shown = text if room is None else fit(text, room, font)
        if not shown:
            return
        wide = text_width(shown, font)
        self.reach(x + (wide if anchor == "start" else wide / 2 if anchor == "middle" else 0), y + 3)
        at = "" if anchor == "start" else f' text-anchor="{anchor}"'
        rest, style = more
        span = ""
        if rest and room is not None and (left := room - wide - BESIDE) > SHORTEST:
            span = f'<tspan class="{style}" dx="{_number(BESIDE)}">{xml_text(fit(rest, left, style))}</tspan>'
        self.put(
            f'<text class="{font}{" " + cls if cls else ""}" x="{_number(x)}" y="{_number(y)}"{at}>'
            f"{xml_text(shown)}{span}</text>"
        )

    def line(self, points: Iterable[tuple[float, float]], cls: str, radius: float = 4) -> None:
        """A line along horizontal and vertical pieces, its corners rounded."""
        points = list(points)
        self.reach(max(x for x, _ in points), max(y for _, y in points) + 3)
        self.put(f'<path class="{cls}" d="{rounded(points, radius)}"/>')

    def reach(self, x: float, y: float) -> None:
        """Make room up to there."""
        self.width, self.height = max(self.width, x), max(self.height, y)

    def colour(self, name: str) -> str:
        """The class of a category; it will be in the legend."""
        if name not in self.used:
            self.used.append(name)
        return f"k-{name}"

    def document(self, margin: float = 20) -> Svg:
        """The whole as text: an SVG document."""
        top = margin + 22 + (16 if self.subtitle else 0) + 10
        wide = max(self.width, text_width(self.title, "title"), text_width(self.subtitle, "sub"), 320.0)
        keys = list(self._legend(wide))
        rows = keys[-1][2] + 1 if keys else 0
        foot = 14 + rows * 18 if rows else 0
        total_w, total_h = wide + 2 * margin, top + self.height + foot + margin
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="qom" width="{_number(total_w)}" height="{_number(total_h)}"'
            f' viewBox="0 0 {_number(total_w)} {_number(total_h)}" role="img">',
            f"  <title>{xml_text(self.title)}</title>",
            f"  <style>{STYLE}</style>",
            f'  <rect class="paper" width="{_number(total_w)}" height="{_number(total_h)}" rx="8"/>',
            f'  <text class="title" x="{_number(margin)}" y="{_number(margin + 15)}">{xml_text(self.title)}</text>',
        ]
        if self.subtitle:
            out.append(
                f'  <text class="sub" x="{_number(margin)}" y="{_number(margin + 34)}">{xml_text(self.subtitle)}</text>'
            )
        out += [
            f'  <g transform="translate({_number(margin)} {_number(top)})">',
            *("  " + b for b in self.body),
            "  </g>",
        ]
        if keys:
            out.append(f'  <g transform="translate({_number(margin)} {_number(top + self.height + 14)})">')
            for name, x, row in keys:
                out.append(
                    f'    <g class="k-{name}"><rect class="box" x="{_number(x)}" y="{row * 18}" width="14" height="11" rx="3"/>'
                    f'<text class="key" x="{_number(x + 20)}" y="{row * 18 + 9.5}">{CATEGORIES[name][0]}</text></g>'
                )
            out.append("  </g>")
        made = Svg("\n".join([*out, "</svg>"]) + "\n")
        made.caption = self.title
        return made

    def _legend(self, wide: float) -> Iterator[tuple[str, float, int]]:
        x, row = 0.0, 0
        for name in [n for n in CATEGORIES if n in self.used]:
            needs = 20 + text_width(CATEGORIES[name][0], "key") + 18
            if x and x + needs > wide:
                x, row = 0.0, row + 1
            yield name, x, row
            x += needs


def rounded(points: list[tuple[float, float]], radius: float) -> str:
    """Path data of a line through `points` with rounded corners; points on one straight line are joined."""
    way = [
        p for n, p in enumerate(points) if not 0 < n < len(points) - 1 or not _straight(points[n - 1], p, points[n + 1])
    ]
    out = [f"M{_number(way[0][0])} {_number(way[0][1])}"]
    for before, here, after in zip(way, way[1:], way[2:], strict=False):
        r = min(radius, _length(before, here) / 2, _length(here, after) / 2)
        a, b = _towards(here, before, r), _towards(here, after, r)
        out.append(
            f"L{_number(a[0])} {_number(a[1])}Q{_number(here[0])} {_number(here[1])} {_number(b[0])} {_number(b[1])}"
        )
    out.append(f"L{_number(way[-1][0])} {_number(way[-1][1])}")
    return "".join(out)


def _straight(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return a[0] == b[0] == c[0] or a[1] == b[1] == c[1]


def _length(a: tuple[float, float], b: tuple[float, float]) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _towards(a: tuple[float, float], b: tuple[float, float], by: float) -> tuple[float, float]:
    whole = _length(a, b)
    return a if not whole else (a[0] + (b[0] - a[0]) * by / whole, a[1] + (b[1] - a[1]) * by / whole)


def _style() -> str:
    """The style sheet, the same in every picture, so that several of them on one page do not disturb each other."""
    rules = [f".qom text{{font-family:{SANS};fill:#2b323b}}"]
    for name, (size, weight, mono) in FONTS.items():
        family = f";font-family:{MONO}" if mono else ""
        rules.append(f".qom text.{name},.qom tspan.{name}{{font-size:{_number(size)}px;font-weight:{weight}{family}}}")

    def scheme(dark: bool) -> Iterator[str]:
        ink, muted, paper, rule = ("#e6ebf2", "#97a2b0", "#10141a", "#39424e") if dark else (
            "#1f2630", "#66707d", "#ffffff", "#c9d0d9")  # fmt: skip
        yield f".qom .paper{{fill:{paper}}}.qom text{{fill:{ink}}}.qom text.sub,.qom text.muted{{fill:{muted}}}"
        yield f".qom .rule{{stroke:{rule};fill:none}}.qom .halo{{fill:{paper}}}"
        for name, (_, *sets) in CATEGORIES.items():
            fill, edge, text = sets[dark]
            yield (
                f".qom .k-{name} .box{{fill:{fill};stroke:{edge}}}.qom .k-{name} .bar{{fill:{edge}}}"
                f".qom .k-{name} .wire{{stroke:{edge};fill:none}}.qom .k-{name}>text{{fill:{text}}}"
                f".qom .k-{name} .type,.qom .k-{name} .addr{{fill:{text};fill-opacity:.78}}"
            )

    rules += scheme(False)
    rules += [
        ".qom .box{stroke-width:1}.qom .off{stroke-dasharray:4 3;opacity:.6}.qom .wire{stroke-width:1.4}",
        ".qom .thick{stroke-width:4}.qom .told{stroke-dasharray:5 3}.qom .rule{stroke-width:1}",
        ".qom g.net:hover .wire{stroke-width:3}",
        "@media (prefers-color-scheme:dark){" + "".join(scheme(True)) + "}",
    ]
    return "".join(rules).replace('"', "'")


STYLE: Final = _style()
