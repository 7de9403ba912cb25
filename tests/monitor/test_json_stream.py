"""JSON out of a stream: whole values whatever the pieces, errors at the bad byte, recovery; beside the standard parser."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qom.monitor.json_stream import MAX_DEPTH, MAX_SIZE, JsonError, JsonStream, dumps, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def values(stream: JsonStream, *pieces: bytes) -> list[Any]:
    """What comes out: values, and errors as texts."""
    found = [one for piece in pieces for one in stream.feed(piece)]
    return [str(one) if isinstance(one, JsonError) else one.value for one in found]


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), VALUES)),
    st.data(),
)
def test_values_come_out_whatever_the_pieces(sent: list[dict[str, Any]], data: st.DataObject) -> None:
    text = b"".join(json.dumps(v, ensure_ascii=data.draw(st.booleans())).encode() + b"\r\n" for v in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert values(JsonStream(), *pieces) == sent


@settings(deadline=None, max_examples=80)
@given(VALUES)
def test_both_parsers_agree_and_what_is_written_is_read_again(value: Any) -> None:
    assert loads(dumps(value)) == value
    strict = (
        dumps(value).replace(b'"', b"'") if b"'" not in dumps(value) and b'\\"' not in dumps(value) else dumps(value)
    )
    assert loads(strict) == value
    assert loads(dumps(value, pretty=True)) == value


@settings(deadline=None, max_examples=80)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_junk_never_raises_and_a_good_value_on_the_next_line_is_seen(junk: bytes, cuts: list[int]) -> None:
    stream = JsonStream()
    places = sorted({min(cut, len(junk)) for cut in cuts})
    whole = values(JsonStream(), junk)
    assert values(stream, *(junk[a:b] for a, b in zip([0, *places], [*places, len(junk)], strict=True))) == whole
    found = values(stream, b"\n\"]}'\n]\n\n", b'{"good": 1}\n', b'{"good": 2}\n')
    assert found[-1] == {"good": 2}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b'{"a": 1,]', "JSON parse error, unexpected ']': expected '}' at byte 8"),
        (b"{]", "JSON parse error, unexpected ']': expected '}' at byte 1"),
        (b"]", "JSON parse error, ']' where a value was expected at byte 0"),
        (b"hallo\n", "JSON parse error, invalid keyword 'hallo' at byte 0"),
        (b"   \n hallo\n", "JSON parse error, invalid keyword 'hallo' at byte 0"),
        (b'{"execute": "x\n', "JSON parse error, byte 0Ah in a string at byte 14"),
        (b'{"a" 1}', "JSON parse error, '1' where ':' was expected at byte 5"),
        (b'{"a": 1 "b": 2}', "JSON parse error, '\"' where ',' or '}' was expected at byte 8"),
        (b'{"a": 1, "a": 2}', "JSON parse error, the member 'a' a second time at byte 9"),
        (b"{1: 2}", "JSON parse error, '1' where the name of a member was expected at byte 1"),
        (b"[1, 2,]", "JSON parse error, ']' where a value was expected at byte 6"),
        (b"[01]", "JSON parse error, '1' in a number at byte 2"),
        (b"[NaN]", "JSON parse error, invalid keyword 'NaN' at byte 1"),
        (b"[-Infinity]", "JSON parse error, invalid keyword '-Infinity' at byte 1"),
        (b"[1e999]", "JSON parse error, a number that is too large at byte 1"),
        (b'["\\x41"]', "JSON parse error, an invalid escape sequence at byte 2"),
        (b'["\\u12G4"]', "JSON parse error, an invalid escape sequence: expected four hexadecimal digits at byte 2"),
        (b'["\\ud800"]', "JSON parse error, \\ud800, which is no character of a string at byte 2"),
        (b'["\\u0000"]', "JSON parse error, \\u0000, which is no character of a string at byte 2"),
        (b'["\xff"]', "JSON parse error, invalid UTF-8 in a string at byte 2"),
        (b'{"a":\x01 1}', "JSON parse error, unexpected byte 01h at byte 5"),
    ],
)
def test_an_error_names_the_bad_byte(text: bytes, wrong: str) -> None:
    assert values(JsonStream(), text)[0] == wrong
    assert values(JsonStream(), *(text[n : n + 1] for n in range(len(text))))[0] == wrong


def test_what_qemu_takes_besides() -> None:
    assert values(JsonStream(), b"{'a': 'it\\'s \"x\"'}") == [{"a": 'it\'s "x"'}]
    assert values(JsonStream(), b'{"a": 18446744073709551616}') == [{"a": 18446744073709551616.0}]
    assert values(JsonStream(), b'["\\ud83d\\ude00"]') == [["\N{GRINNING FACE}"]]
    assert math.isclose(values(JsonStream(), b"[1.5e3]")[0][0], 1500.0)
    assert values(JsonStream(), b"1 true null ") == [1, True, None]


def test_depth_and_size_have_limits() -> None:
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    (found,) = values(JsonStream(), deep)
    assert len(found) == 1
    deeper = values(JsonStream(), b"[" * (MAX_DEPTH + 1) + b"\n", b'{"a": 1}')
    assert deeper == [f"JSON parse error, nesting of more than {MAX_DEPTH} levels at byte {MAX_DEPTH}", {"a": 1}]
    piece, out = b"x" * (1 << 20), values(stream := JsonStream(), b'{"a": "')
    for _ in range((MAX_SIZE >> 20) + 1):
        out += values(stream, piece)
    assert out == [f"JSON parse error, a value of more than 64 MiB at byte {MAX_SIZE}"]
    assert values(stream, b'"}\n{"b": 2}') == [{"b": 2}]


def test_a_large_value_in_small_pieces_is_read_in_one_pass() -> None:
    value = {"keys": ["x" * 50] * 40000}
    text = dumps(value)
    stream = JsonStream()
    for at in range(0, len(text), 4096):
        found = stream.feed(text[at : at + 4096])
        if at + 4096 < len(text):
            assert not found
            assert stream._seen == at + 4096  # nothing is looked at twice
    assert found
    assert found[0].value == value  # type: ignore[union-attr]
