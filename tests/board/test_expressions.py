"""Expressions: what they come to, and that whatever is typed is one or is an error that says where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qom.board import Expression, ExpressionError

VALUES: dict[str, int | str] = {
    "ram-size": 6 << 30,
    "below-4g": 3 << 30,
    "a20-gate": True,
    "pc.bios.size": 0x40000,
    "accel.pic": "isa-i8259",
    "n": 7,
}


def look(name: str) -> int | str:
    if name not in VALUES:
        raise ExpressionError(f"there is no '{name}'")
    return VALUES[name]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        (" 0xE0000000 ", 0xE0000000),
        ("640k", 640 << 10),
        ("4G", 4 << 30),
        ("ram-size - below-4g", 3 << 30),
        ("ram-size-below", None),
        ("4G - pc.bios.size", (4 << 30) - 0x40000),
        ("ram-size if ram-size <= 0xE0000000 else 3G", 3 << 30),
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3", 9),
        ("7 // 2 % 2", 1),
        ("-n + 1", -6),
        ("- - n", 7),
        ("min(3, n, 5)", 3),
        ("max(n)", 7),
        ("1 if n > 5 else 2 if n > 3 else 3", 1),
        ("0 < n < 10", True),
        ("0 < n < 5", False),
        ("not a20-gate", False),
        ("not not a20-gate", True),
        ("not n == 7", False),
        ("a20-gate and accel.pic == 'isa-i8259'", True),
        ("accel.pic != \"isa-i8259\" or n == 7", True),
        ("true", True),
        ("false or 0", 0),
    ],
)  # fmt: skip
def test_values(text: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(ExpressionError, match="there is no 'ram-size-below'"):
            Expression(text).value(look)
    else:
        assert Expression(text).value(look) == value


def test_what_is_not_needed_is_not_asked_for() -> None:
    assert Expression("0 if true else nothing").value(look) == 0
    assert Expression("false and nothing").value(look) is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expression '', character 1: it ends too early: expected a number or a name"),
        ("1 +", "expression '1 +', character 4: it ends too early: expected a number or a name"),
        ("1 2", "expression '1 2', character 3: '2' cannot stand here: expected an operator or the end"),
        ("(1", "expression '(1', character 3: it ends too early: expected ')'"),
        ("a ** b", "expression 'a ** b', character 4: '*' cannot stand here: expected a number or a name"),
        ("1 if 2", "expression '1 if 2', character 7: it ends too early: expected 'else'"),
        ("n.__class__()", "expression 'n.__class__()', character 12: '(' cannot stand here: expected an operator or the end"),
        ("3x", "expression '3x', character 1: '3' cannot stand here"),
        ("a / b", "expression 'a / b', character 3: '/' cannot stand here"),
        ("99999999999999999999", "expression '99999999999999999999', character 1: 99999999999999999999 is larger than 2^64"),
        ("min()", "expression 'min()', character 5: ')' cannot stand here: expected a number or a name"),
        ("1 and or 2", "expression '1 and or 2', character 7: 'or' cannot stand here: expected a number or a name"),
    ],
)  # fmt: skip
def test_what_is_no_expression(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 // (n - 7)", "'1 // (n - 7)': 1 // 0: there is no division by zero"),
        ("accel.pic + 1", "'accel.pic + 1': 'isa-i8259' is a string: expected an integer"),
        ("accel.pic == 1", "'accel.pic == 1': 'isa-i8259' and 1 cannot be compared: one is a string, one an integer"),
        ("0xFFFFFFFFFFFFFFFF * 2", "'0xFFFFFFFFFFFFFFFF * 2': 18446744073709551615 * 2 is larger than 2^64"),
        ("nope", "'nope': there is no 'nope'"),
    ],
)
def test_what_has_no_value(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text).value(look)
    assert str(caught.value) == message


def test_depth_and_length_are_bounded() -> None:
    with pytest.raises(ExpressionError, match="nested more than 40 deep"):
        Expression("(" * 300 + "1" + ")" * 300)
    with pytest.raises(ExpressionError, match="an expression of 2001 characters: expected at most 1000"):
        Expression("1+" * 1000 + "1")
    assert Expression("not " * 200 + "n").value(look) is True
    assert Expression("-" * 300 + "n").value(look) == 7


def test_the_names_asked_for() -> None:
    assert Expression("a if b > a else min(c, 'd')").names == ("a", "b", "c")


@given(st.text(max_size=30) | st.lists(st.sampled_from(["1", "n", "(", ")", "+", "-", "if", "else", "not", "min", ",", "'x'", "<", "4k", " "]), max_size=12).map(" ".join))  # fmt: skip  # noqa: E501
def test_any_text_is_an_expression_or_says_what_is_wrong(text: str) -> None:
    try:
        value = Expression(text).value(look)
    except ExpressionError as error:
        assert str(error)
    else:
        assert isinstance(value, int | str)


NUMBERS = st.integers(0, 1000).map(lambda n: (str(n), n))


def combine(inner: st.SearchStrategy[tuple[str, int]]) -> st.SearchStrategy[tuple[str, int]]:
    def arithmetic(parts: tuple[str, tuple[str, int], tuple[str, int]]) -> tuple[str, int]:
        sign, (a, left), (b, right) = parts
        text = f"({a} {sign} {b})"
        results = {"+": left + right, "-": left - right, "*": left * right, "<": left < right, "==": left == right}
        if sign in ("//", "%"):
            return (text, left // right if sign == "//" else left % right) if right else (f"({a})", left)
        return text, int(results[sign])

    signs = st.sampled_from(["+", "-", "*", "//", "%", "<", "=="])
    chosen = st.tuples(inner, inner, inner).map(
        lambda t: (f"({t[0][0]} if {t[1][0]} else {t[2][0]})", t[0][1] if t[1][1] else t[2][1])
    )
    least = st.tuples(inner, inner).map(lambda t: (f"min({t[0][0]}, {t[1][0]})", min(t[0][1], t[1][1])))
    return st.tuples(signs, inner, inner).map(arithmetic) | chosen | least


@given(st.recursive(NUMBERS, combine, max_leaves=8).filter(lambda t: abs(t[1]) < 1 << 60))
def test_arithmetic_is_pythons(case: tuple[str, int]) -> None:
    text, value = case
    try:
        assert Expression(text).value(look) == value
    except ExpressionError as error:
        assert "larger than 2^64" in str(error)  # on the way to a smaller result
