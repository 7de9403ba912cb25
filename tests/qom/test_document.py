"""Documents: TOML, JSON and YAML are one form, every piece knows its place, and what is wrong is said with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qom.config import Document, read_document
from qom.config.document import Node
from qom.errors import ConfigError

# The time an example takes is the machine's business, not the test's.
STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def document(tmp_path: Path, name: str, text: str | bytes) -> Document:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)


def place(found: Document, *keys: str | int) -> tuple[int, int]:
    node = found.node(*keys)
    return node.line, node.column


def nodes(top: Node) -> Iterator[Node]:
    yield top
    held = top.value
    for inner in held.values() if isinstance(held, dict) else held if isinstance(held, list) else ():
        yield from nodes(inner)


TOML = """\
name = "vm"
[machine]
type = "pc"
  accel = 'simulated'
[[device]]
driver = "a"
list = [ 1, [ "x", 2 ],
  3 ]
[[device]]
driver = "b"
inner = { p = true, q.r = -2 }
"""

JSON = """\
{"name": "vm",
 "machine": {"type": "pc", "accel": "simulated"},
 "device": [{"driver": "a", "list": [1, ["x", 2],
    3]},
  {"driver": "b", "inner": {"p": true, "q": {"r": -2}}}]}
"""

YAML = """\
name: vm
machine:
  type: pc
  accel: "simulated"
device:
- driver: a
  list: [ 1, [ x, 2 ],
     3 ]
- driver: b
  inner: {p: on, q: {r: -2}}
"""


def test_three_formats_are_one_document(tmp_path: Path) -> None:
    wanted = {
        "name": "vm",
        "machine": {"type": "pc", "accel": "simulated"},
        "device": [{"driver": "a", "list": [1, ["x", 2], 3]}, {"driver": "b", "inner": {"p": True, "q": {"r": -2}}}],
    }
    toml, json, yaml = (
        document(tmp_path, f"vm.{suffix}", text) for suffix, text in (("toml", TOML), ("json", JSON), ("yml", YAML))
    )
    assert toml.data == json.data == yaml.data == wanted
    for found, places in (
        (toml, {("name",): (1, 1), ("machine", "accel"): (4, 3), ("device", 1): (9, 1), ("device", 0, "list", 1): (7, 13),
                ("device", 0, "list", 1, 1): (7, 20), ("device", 0, "list", 2): (8, 3), ("device", 1, "inner", "p"): (11, 11),
                ("device", 1, "inner", "q", "r"): (11, 23), (): (1, 1)}),
        (json, {("name",): (1, 2), ("machine", "accel"): (2, 28), ("device", 1): (5, 3), ("device", 0, "list", 1): (3, 41),
                ("device", 0, "list", 2): (4, 5), ("device", 1, "inner", "q", "r"): (5, 46), (): (1, 1)}),
        (yaml, {("name",): (1, 1), ("machine", "accel"): (4, 3), ("device", 1): (9, 3), ("device", 0, "list", 1): (7, 14),
                ("device", 0, "list", 2): (8, 6), ("device", 1, "inner", "q", "r"): (10, 22), (): (1, 1)}),
    ):  # fmt: skip
        assert {keys: place(found, *keys) for keys in places} == places


def test_an_origin_says_where_and_what(tmp_path: Path) -> None:
    found = document(tmp_path, "vm.toml", TOML)
    origin = found.origin("device", 1)
    assert origin == f"{tmp_path}/vm.toml:9:1" and origin.path == "device[1]"
    assert (origin.file, origin.line, origin.column) == (f"{tmp_path}/vm.toml", 9, 1)
    assert origin.parts["driver"] == f"{tmp_path}/vm.toml:10:1"
    assert found.origin("device", 1, "absent") == origin
    assert found.origin("device", 7) == found.origin("device")
    assert found.origin("device", 1, "inner", "q", "r").path == "device[1].inner.q.r"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", True), ("Off", False), ("YES", True), ("no", False), ("true", True), ("False", False), ("oN", "oN"),
        ("0x402", 0x402), ("-0x1f", -0x1F), ("0o17", 15), ("0b101", 5), ("0", 0), ("-12", -12), ("+3", 3),
        ("1.5", 1.5), ("1e3", 1000.0), ("-.5", -0.5), ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("512M", "512M"), ("1:30", "1:30"), (".inf", ".inf"),
        ("'on'", "on"), ('"0x402"', "0x402"), ("''", ""), ("|\n  a\n  b\n", "a\nb\n"), ("=", "="), ("<<", "<<"),
    ],
)  # fmt: skip
def test_how_yaml_scalars_are_taken(tmp_path: Path, text: str, value: Any) -> None:
    found = document(tmp_path, "vm.yaml", f"key: {text}\non: 1\n").data
    assert found == {"key": value, "on": 1} and type(found["key"]) is type(value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "--- {}\n...\n"])
def test_an_empty_yaml_file_says_nothing(tmp_path: Path, text: str) -> None:
    assert document(tmp_path, "vm.yaml", text).data == {}


WRONG = [
    ("toml", "a = 1\n  a = 2\n", "2:3", "the key 'a' is given twice, first at 1:1"),
    ("toml", "[x]\na.b = 1\na.b = 2\n", "3:3", "the key 'x.a.b' is given twice, first at 2:3"),
    ("toml", "a.b = 1\na = 2\n", "2:1", "the key 'a' is given twice, first at 1:1"),
    ("toml", "a = 1\na.b = 2\n", "2:1", "the key 'a' is given twice, first at 1:1"),
    ("toml", "[a]\nx = 1\n[b]\n[a]\n", "4:1", "the key 'a' is given twice, first at 1:1"),
    ("toml", "a = 1\n[a]\n", "2:1", "the key 'a' is given twice, first at 1:1"),
    ("toml", "[[d]]\nx = 1\n[[d]]\ny = 2\ny = 3\n", "5:1", "the key 'd[1].y' is given twice, first at 4:1"),
    ("toml", "t = { x = 1, x = 2 }\n", "1:14", "the key 't.x' is given twice, first at 1:7"),
    ("toml", "a = [1,\n", "2:1", "not TOML: Invalid value"),
    ("toml", "a = " + "[" * 70 + "]" * 70, "1:69", "nested too deeply: expected at most 64 levels"),
    ("toml", "a = " + "[" * 5000, "1:1", "nested too deeply: expected at most 64 levels"),
    ("toml", "a = 1\nb = 0x" + "f" * 5000, "2:1", "an integer of more than 64 bits"),
    ("toml", "a = 1\nb = " + "9" * 5000, "2:5", "not TOML: a number of too many digits"),
    ("json", '{"a": [1, 99999999999999999999]}', "1:11", "an integer of more than 64 bits"),
    ("yaml", "a:\n  - -0x10000000000000001\n", "2:5", "an integer of more than 64 bits"),
    ("json", "[1]", "1:1", "not JSON: '[' where an object in braces was expected"),
    ("json", "", "1:1", "not JSON: the end of the file where an object in braces was expected"),
    ("json", '{"a": 1,\n "a": 2}', "2:2", "the key 'a' is given twice, first at 1:2"),
    ("json", '{"a": {"b": 1, "b": 2}}', "1:16", "the key 'b' is given twice, first at 1:8"),
    ("json", '{\n // c\n"a": 1}', "2:2", "not JSON: JSON has no comments"),
    ("json", '{"a": 1, # c\n"b": 1}', "1:10", "not JSON: JSON has no comments"),
    ("json", '{"a": 1, }', "1:10", "not JSON: '}' where another member after ',' was expected"),
    ("json", '{"a": [1 2]}', "1:10", "not JSON: '2' where ',' or ']' was expected"),
    ("json", '{"a" 1}', "1:6", "not JSON: '1' where ':' after the key 'a' was expected"),
    ("json", "{a: 1}", "1:2", "not JSON: 'a' where a key in double quotes was expected"),
    ("json", '{"a": null}', "1:7", "null says nothing: leave the key out"),
    ("json", '{"a": NaN}', "1:7", "not JSON: 'NaN' where a value was expected"),
    ("json", '{"a": 01}', "1:8", "not JSON: '1' where ',' or '}' was expected"),
    ("json", '{"a": "x', "1:7", "not JSON: unterminated string starting at"),
    ("json", '{"a": "\\x"}', "1:8", "not JSON: invalid \\escape"),
    ("json", '{"a": 1} x', "1:10", "not JSON: 'x' where the end of the file was expected"),
    ("json", '{"a": ' + "[" * 70, "1:71", "nested too deeply: expected at most 64 levels"),
    ("json", '{"a": ' + "9" * 5000 + "}", "1:7", "not JSON: a number of too many digits"),
    ("yaml", "a: 1\nb: 2\na: 3\n", "3:1", "the key 'a' is given twice, first at 1:1"),
    ("yaml", "a:\n", "1:3", "null says nothing: leave the key out"),
    ("yaml", "a: ~\n", "1:4", "null says nothing: leave the key out"),
    ("yaml", "a: 010\n", "1:4", "'010' can be read in two ways: expected 0o for octal, no 0, or quotes"),
    ("yaml", "a: &x 1\nb: *x\n", "1:4", "anchors and aliases are not taken: expected 'repeat' or 'include'"),
    ("yaml", "a: !!str 1\n", "1:4", "the tag 'tag:yaml.org,2002:str' is not taken: expected a value without one"),
    ("yaml", "a: 1\n---\nb: 1\n", "2:1", "a second document: expected one in a file"),
    ("yaml", "- a\n", "1:1", "the file is no mapping: expected 'key: value' lines"),
    ("yaml", "? [a]\n: 1\n", "1:3", "a key is text: expected 'key: value'"),
    ("yaml", "a: [1\nb: 2\n", "2:2", "not YAML: while parsing a flow sequence expected ',' or ']', but got ':'"),
    ("yaml", "a: \tb\n\tc: 1\n", "1:4", "not YAML: while scanning for the next token found character '\\t' that cannot"
     " start any token"),
    ("yaml", "a: \x01\n", "1:4", "not YAML: the character 0x1 cannot be here"),
    ("yaml", "a: " + "[" * 70, "1:68", "nested too deeply: expected at most 64 levels"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "text", "where", "message"), WRONG)
def test_what_is_no_document_is_said_with_its_place(
    tmp_path: Path, suffix: str, text: str, where: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        document(tmp_path, f"vm.{suffix}", text)
    assert str(error.value) == f"{tmp_path}/vm.{suffix}:{where}: {message}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        document(tmp_path, "vm.toml", b'name = "a"\nx = "\xff"\n')
    assert str(error.value) == f"{tmp_path}/vm.toml:2:6: not a text file in UTF-8"
    with pytest.raises(ConfigError) as error:
        read_document(tmp_path / "absent.json")
    assert str(error.value) == f"{tmp_path}/absent.json: cannot be read: No such file or directory"
    with pytest.raises(ConfigError) as error:
        document(tmp_path, "vm.txt", "")
    assert str(error.value) == (
        f"{tmp_path}/vm.txt: what format this is in is not known: expected a name in .toml, .json, .yaml, .yml"
    )


def test_line_ends_and_a_byte_order_mark_move_nothing(tmp_path: Path) -> None:
    for suffix, text in (("toml", TOML), ("json", JSON), ("yaml", YAML)):
        plain = document(tmp_path, f"a.{suffix}", text)
        other = document(tmp_path, f"b.{suffix}", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
        assert other.data == plain.data
        assert [(n.line, n.column, n.path) for n in nodes(other.root)] == [
            (n.line, n.column, n.path) for n in nodes(plain.root)
        ]


def test_positions_in_awkward_toml(tmp_path: Path) -> None:
    text = '''\
"quoted key" = 1
a.b."c.d" = """
[not.a.table]
key = "no \\""" key"
""""
[[x]]
y = [
  1, # ]
  { z = "]" },
]
[[x.inner]]
w = \'\'\'
[[no]]\'\'\'
[[x]]
[[x.inner]]
[[x.inner]]
  [ x . "table" ]
v = { a = [1, 2], b = "#" } # c
when = 1979-05-27 07:32:00
'''
    found = document(tmp_path, "vm.toml", text)
    places = {
        ("quoted key",): (1, 1), ("a",): (2, 1), ("a", "b", "c.d"): (2, 5), ("x", 0): (6, 1), ("x", 0, "y"): (7, 1),
        ("x", 0, "y", 0): (8, 3), ("x", 0, "y", 1): (9, 3), ("x", 0, "y", 1, "z"): (9, 5), ("x", 0, "inner", 0): (11, 1),
        ("x", 0, "inner", 0, "w"): (12, 1), ("x", 1): (14, 1), ("x", 1, "inner", 1): (16, 1), ("x", 1, "table"): (17, 3),
        ("x", 1, "table", "v"): (18, 1), ("x", 1, "table", "v", "a", 1): (18, 15), ("x", 1, "table", "v", "b"): (18, 19),
        ("x", 1, "table", "when"): (19, 1),
    }  # fmt: skip
    assert {keys: place(found, *keys) for keys in places} == places


SCALAR = st.one_of(
    st.integers(-(1 << 64), 1 << 64), st.booleans(), st.text(alphabet="ab\"\\\n[]{}#=,.' é😀", max_size=8)
)
KEY = st.text(alphabet="ab.\"'= #[", min_size=1, max_size=4)
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3), max_leaves=8
)


def toml_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_text(k)} = {toml_text(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[\n" + "".join(f"  {toml_text(v)},\n" for v in value) + "]"
    if isinstance(value, str):
        escaped = "".join({'"': '\\"', "\\": "\\\\", "\n": "\\n"}.get(c, c) for c in value)
        return f'"{escaped}"'
    return str(value)


@STEADY
@given(st.dictionaries(KEY, st.dictionaries(KEY, VALUE, max_size=3), max_size=4))
def test_generated_documents_are_read_alike_and_every_piece_is_where_it_says(
    tmp_path: Path, data: dict[str, dict[str, Any]]
) -> None:
    toml = "".join(
        f"[{toml_text(table)}]\n" + "".join(f"{toml_text(k)} = {toml_text(v)}\n" for k, v in entries.items())
        for table, entries in data.items()
    )
    texts = {
        "toml": toml,
        "json": json.dumps(data, indent=1, ensure_ascii=False),
        "yaml": yaml.safe_dump(data, allow_unicode=True, default_style=None, sort_keys=False),
    }
    for suffix, text in texts.items():
        if suffix == "yaml" and "&id" in text:
            continue
        found = document(tmp_path, f"vm.{suffix}", text)
        assert found.data == data, text
        lines = text.split("\n")
        for table, entries in data.items():
            for key in entries:
                node = found.node(table, key)
                assert node.path == f"{table}.{key}"
                start = lines[node.line - 1][node.column - 1 :]
                quoted = toml_text(key) if suffix == "toml" else json.dumps(key, ensure_ascii=False)
                assert start.startswith((quoted, key, "'" + key.replace("'", "''") + "'", '"')), (start, key)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.toml"
    os.mkfifo(path)
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    assert str(caught.value) == f"{path}: cannot be read: expected a regular file"


def test_a_device_that_never_ends_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "zero.toml"
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    assert str(caught.value) == f"{path}: cannot be read: expected a regular file"


def test_a_file_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qom.config.document.MAX_LENGTH", 8)
    path = tmp_path / "long.toml"
    path.write_text("name='ab'")
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    assert str(caught.value) == f"{path}: too long: expected at most 8 bytes"


def test_half_a_character(tmp_path: Path) -> None:
    path = tmp_path / "half.json"
    path.write_text('{"name": "\\ud800"}')
    with pytest.raises(ConfigError) as caught:
        read_document(path)
    assert str(caught.value) == f"{path}:1:2: half of a surrogate pair: expected whole characters"
