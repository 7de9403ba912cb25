"""Every property of every type in the box has a description, and a default or "required"; units and ranges make sense."""

from __future__ import annotations

import pytest

from qom import REQUIRED, Property, Type, default_registry
from qom.properties import INT_RANGES, checked

REGISTRY = default_registry(load_external=False)
OWN = {(t.name, p.name): (t, p) for t in REGISTRY for p in t.properties.values()}


@pytest.mark.parametrize("found", list(REGISTRY), ids=lambda t: t.name)
def test_a_type_says_what_it_is(found: Type) -> None:
    assert found.desc.strip(), f"{found.name} has no desc and no docstring"
    assert "\n" not in found.desc


@pytest.mark.parametrize("key", list(OWN), ids=lambda k: ".".join(k))
def test_a_property_is_documented(key: tuple[str, str]) -> None:
    found, p = OWN[key]
    where = f"{found.name}.{p.name}"
    assert isinstance(p, Property)
    assert p.desc.strip() and "\n" not in p.desc, f"{where} has no description"
    assert p.type, where
    assert p.required == (p.default is REQUIRED)
    assert p.default_text, where
    assert (p.name == p.name.strip() and "_" not in p.name.strip("_")) or p.name in ALLOWED_UNDERSCORE, where
    if p.kind in INT_RANGES or p.kind == "size":
        low, high = p.limits()
        assert low <= high, where
    if not p.required and p.default is not None and p.kind not in ("link", "child", "alias"):
        assert checked(p, p.default) == p.default, where
    facts = p.describe()
    assert {"name", "type", "description", "default", "required", "mutable"} <= facts.keys()


ALLOWED_UNDERSCORE = frozenset({"disable_s3", "disable_s4", "elcr_addr", "elcr_mask", "s4_val"})
"""QEMU's own names with an underscore."""


def test_there_are_properties_at_all() -> None:
    assert len(OWN) > 100
