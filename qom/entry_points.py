"""The entry points of installed distributions, found without reading the metadata of those that have none for us.

`importlib.metadata` brings in a mail parser, a zip reader and more, which takes longer than all else that a start without
plugins does.  So the folders on `sys.path` are looked through first for an `entry_points.txt` that names the group; only when
there is one, or a place that is no plain folder, is it asked.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OWN = ("qom-", "qom.egg-info")  # how the folder with our own metadata begins, installed and in a source tree


def entry_points(group: str) -> list[EntryPoint]:
    """The entry points of the group that installed distributions have; none of our own distribution's."""
    if not _maybe_some(f"[{group}]".encode()):
        return []
    import importlib.metadata

    found = importlib.metadata.entry_points(group=group)
    return [e for e in found if e.dist is None or e.dist.name.lower() != "qom"]


def _maybe_some(section: bytes) -> bool:
    for finder in sys.meta_path:
        if hasattr(finder, "find_distributions") and getattr(finder, "__name__", "") != "PathFinder":
            return True  # somebody else knows of distributions, too
    library = os.path.dirname(os.__file__)  # Python's own; distributions are in folders of their own
    places = dict.fromkeys(place or "." for place in sys.path)
    return any(_holds(place, section) for place in places if place not in (library, f"{library}/lib-dynload"))


def _holds(place: str, section: bytes) -> bool:
    try:
        entries = os.listdir(place)
    except NotADirectoryError:
        return True  # an archive, which may hold some
    except OSError:
        return False
    for entry in entries:
        if entry.endswith((".dist-info", ".egg-info")) and not entry.startswith(OWN):
            try:
                with open(os.path.join(place, entry, "entry_points.txt"), "rb") as file:
                    if section in file.read():
                        return True
            except OSError:
                continue
        elif entry.endswith((".egg", ".egg-link")):
            return True
    return False
