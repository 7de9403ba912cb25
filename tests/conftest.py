"""qom's own pytest plugin, for its own tests: by its entry point where qom is installed, by its name elsewhere.

In all tests every answer of a monitor command is held against the type it declares.

With `-n` and `--dist loadfile` (pytest-xdist) a file's tests stay together, in order, in one process.  The files that
take longest begin, so that the last ones are short and all processes end at about the same time.
"""

import json
from collections import Counter
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest
from hypothesis import settings

from qom.monitor import MonitorService

if not entry_points(group="pytest11", name="qom"):
    pytest_plugins = ["qom.testing.plugin"]

MonitorService.checked = True

settings.register_profile("qom", deadline=None)  # the time an example takes is the machine's business
settings.load_profile("qom")


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


@pytest.fixture
def check_schema() -> Callable[[Any], None]:
    """Raises `jsonschema.SchemaError` if a schema is none by draft 2020-12.

    A part is judged wherever it stands by the same rules, and ours repeat a few thousand parts in three megabytes: each
    different one is shown to jsonschema once, and parts count as the same that differ in their words only.
    """
    from jsonschema import Draft202012Validator

    seen: set[str] = set()

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            words = [key for key in ("description", "$ref") if isinstance(value.get(key), str)]
            return {key: bare(part) for key, part in value.items() if key not in words}
        return [bare(part) for part in value] if isinstance(value, list) else value

    def is_new(part: Any) -> bool:
        count = len(seen)
        seen.add(json.dumps(bare(part), sort_keys=True))
        return len(seen) > count

    def once(schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        out = dict(schema)
        for key in ("$defs", "properties"):
            if isinstance(out.get(key), dict):
                out[key] = {name: once(part) for name, part in out[key].items() if is_new(part)}
        for key in ("allOf", "anyOf"):
            if isinstance(out.get(key), list) and out[key]:
                out[key] = [once(part) for part in out[key] if is_new(part)] or [True]
        return out

    def check(schema: Any) -> None:
        seen.clear()
        Draft202012Validator.check_schema(once(schema))

    return check
