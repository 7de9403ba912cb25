"""Promise 6.  Documented properties: a type, a description, and a default or the word "required"; held at 100 %."""

from __future__ import annotations

import re

import pytest

from qom import (
    REQUIRED,
    Object,
    Property,
    PropertyError,
    QomError,
    TypeRegistry,
    default_registry,
    prop,
    state,
    type_init,
)
from qom.cli.help import property_text
from qom.properties import INT_RANGES


@pytest.fixture(scope="module")
def properties() -> list[tuple[str, Property]]:
    """Every property a type of the box declares itself, once."""
    found = {}
    for t in default_registry(load_external=False):
        above = t.registry.get(t.parent).properties if t.parent else {}
        found |= {f"{t.name}.{p.name}": p for p in t.properties.values() if above.get(p.name) is not p}
    return list(found.items())


def test_all_are_described_typed_and_have_a_default_or_are_required(properties: list[tuple[str, Property]]) -> None:
    assert len(properties) > 50
    described = [name for name, p in properties if len(p.desc.split()) >= 1]
    typed = [name for name, p in properties if p.type and "unknown" not in p.type]
    defaulted = [name for name, p in properties if (p.default_text == "required") == p.required and p.default_text]
    for share in (described, typed, defaulted):
        assert len(share) / len(properties) == 1.0, {name for name, _ in properties} - set(share)


QUANTITY = re.compile(r"\b(bytes|seconds|milliseconds|microseconds|nanoseconds|hertz|guest time)\b", re.IGNORECASE)


def test_quantities_have_a_unit(properties: list[tuple[str, Property]]) -> None:
    numbers = {name: p for name, p in properties if p.kind in INT_RANGES or p.kind == "size"}
    wanted = {name for name, p in numbers.items() if p.kind == "size" or QUANTITY.search(p.desc)}
    assert len(wanted) >= 5
    assert {name for name in wanted if not numbers[name].unit} == set()


def test_places_of_isa_devices_have_their_range() -> None:
    """16 bits of port, 16 lines: where a range applies it is declared, so that the schema and the help know it."""
    registry = default_registry(load_external=False)
    found = {
        f"{t.name}.{p.name}": p
        for t in registry.types("isa-device", abstract=False)
        for p in t.properties.values()
        if p.kind in INT_RANGES and (p.name.startswith("iobase") or p.name.endswith("irq"))
    }
    assert len(found) > 10
    for name, p in found.items():
        assert p.limits() == (0, 15) if name.endswith("irq") else p.limits()[1] <= 0xFFFF, name


def test_what_the_help_prints_has_all_of_it(properties: list[tuple[str, Property]]) -> None:
    for name, p in properties:
        text = property_text(p)
        assert text.startswith(p.desc) and ("required" in text or "default: " in text), name
        if p.unit and p.default:
            assert p.unit in text, name


def test_a_property_without_a_description_cannot_be_declared() -> None:
    with pytest.raises(QomError, match=r"'speed'.*description"):

        @type_init("promise-silent")
        class Silent(Object):
            """Says nothing of its property."""

            speed: int = prop(1, "")

    with pytest.raises(TypeError):
        prop(1)  # type: ignore[call-arg]


def test_required_means_required_and_limits_are_held() -> None:
    @type_init("promise-strict")
    class Strict(Object):
        """Has one of each."""

        speed: int = prop(REQUIRED, "How fast", unit="Hz", min=1, max=100)
        kept: int = state()

    registry = TypeRegistry()
    registry.register(Strict)
    made = registry.new("promise-strict")
    with pytest.raises(QomError, match="'speed' is required"):
        made.configure()
    for wrong in (0, 101, "fast"):
        with pytest.raises(PropertyError, match=r"'speed' cannot be .*: expected an integer in 1\.\.100"):
            made.set("speed", wrong)
    made.set("speed", 50)
    made.configure()
    facts = made.find_property("speed").describe()
    assert facts["unit"] == "Hz" and facts["required"] and facts["description"] == "How fast"
