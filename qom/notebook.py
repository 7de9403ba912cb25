"""How objects show themselves in a notebook: as a tree that opens and closes, with their properties.

HTML with no script and no colours of its own, so it looks right in light and dark notebooks.  An object shows at most
`MOST_CHILDREN` parts; a machine with thousands of devices must not make a page that no browser opens.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import islice
from typing import TYPE_CHECKING

from qom.errors import QomError
from qom.properties import Property, to_text

if TYPE_CHECKING:
    from qom.object import Object

__all__ = ["tree_html"]

MOST_CHILDREN = 100
INDENT = "margin-left:1.2em"


def tree_html(obj: Object, title: str = "") -> str:
    """The tree from `obj` down as HTML, opened so far that the object's own parts are seen.

    Args:
        obj: where to begin.
        title: what stands over it; empty for nothing.
    """
    head = f"<div><b>{escape(title)}</b></div>" if title else ""
    name = "/" if obj.parent is None else obj.path
    return f'<div class="qom-tree">{head}{"".join(_element(obj, name, opened=True))}</div>'


def _element(obj: Object, name: str, *, opened: bool = False) -> Iterator[str]:
    children = obj.children()
    yield '<details open="open">' if opened else "<details>"
    yield f"<summary><code>{escape(name)}</code>"
    yield f' <span style="opacity:.65">{escape(obj.type_name)}</span>'
    yield f"</summary><div style='{INDENT}'>"
    for prop in obj.properties().values():
        if prop.kind != "child":
            yield _line(obj, prop)
    for child_name, child in islice(children.items(), MOST_CHILDREN):
        yield from _element(child, child_name)
    if len(children) > MOST_CHILDREN:
        yield f"<div>… and {len(children) - MOST_CHILDREN} more</div>"
    yield "</div></details>"


def _line(obj: Object, prop: Property) -> str:
    try:
        value = to_text(prop, obj.get(prop.name))
    except QomError as error:  # an alias whose target is not there yet
        value = f"<{error}>"
    tip = escape(f"{prop.type}: {prop.desc}")
    return f'<div title="{tip}" style="font-size:90%"><code>{escape(prop.name)}</code> = {escape(value)}</div>'
