"""qom's own pytest plugin, for its own tests: by its entry point where qom is installed, by its name elsewhere.

In all tests every answer of a monitor command is held against the type it declares.
"""

from importlib.metadata import entry_points

from qom.monitor import MonitorService

if not entry_points(group="pytest11", name="qom"):
    pytest_plugins = ["qom.testing.plugin"]

MonitorService.checked = True
