"""qom's own pytest plugin, for its own tests: by its entry point where qom is installed, by its name elsewhere."""

from importlib.metadata import entry_points

if not entry_points(group="pytest11", name="qom"):
    pytest_plugins = ["qom.testing.plugin"]
