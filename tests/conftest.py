"""qom's own pytest plugin, for its own tests: by its entry point where qom is installed, by its name elsewhere.

In all tests every answer of a monitor command is held against the type it declares.

With `-n` and `--dist loadfile` (pytest-xdist) a file's tests stay together, in order, in one process.  The files that
take longest begin, so that the last ones are short and all processes end at about the same time.
"""

from collections import Counter
from importlib.metadata import entry_points

import pytest

from qom.monitor import MonitorService

if not entry_points(group="pytest11", name="qom"):
    pytest_plugins = ["qom.testing.plugin"]

MonitorService.checked = True


def pytest_configure(config: pytest.Config) -> None:
    """Files go to the processes in the order below, not by their number of tests alone."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In one of several processes: first the files with most tests marked `slow`, then those with most tests."""
    if not hasattr(config, "workerinput"):
        return
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path], item.path))
