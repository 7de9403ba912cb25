"""User objects (`-object`): made under /objects, completed once their properties are set, referred to by id."""

from __future__ import annotations

from typing import Any

import pytest

from qom import Object, QomError, TypeRegistry, UserCreatable, VirtualMachine, default_registry, link, prop, type_init
from qom.cli.help import help_text
from qom.cli.options import CommandLine


@type_init("token-source")
class TokenSource(Object, UserCreatable):
    """Hands out tokens."""

    rate: int = prop(1, "Tokens a second", type="uint16", min=1)
    upstream: Any = link("token-source", "Where it gets them from")

    def instance_init(self) -> None:
        self.completed: list[int] = []

    def complete(self) -> None:
        self.completed.append(self.rate)


@pytest.fixture
def registry() -> TypeRegistry:
    made = default_registry(load_external=False)
    made.register(TokenSource, origin="the test")
    return made


def built(registry: TypeRegistry, *argv: str) -> VirtualMachine:
    return VirtualMachine(CommandLine().parse(["-M", "none", "-nodefaults", *argv]).builder.finish(), registry).build()


def test_they_are_made_completed_and_refer_to_each_other(registry: TypeRegistry) -> None:
    with built(registry, "-object", "token-source,id=a,rate=5", "-object", "token-source,id=b,upstream=a") as vm:
        one, two = vm.root.resolve("/objects/a"), vm.root.resolve("/objects/b")
        assert one.completed == [5] and two.completed == [1]
        assert two.upstream is one and two.path == "/objects/b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("token-source,id=a,rate=0", "/objects/a: property 'rate' cannot be '0': expected an integer in 1..65535"),
        ("token-sauce,id=a", "unknown object type 'token-sauce'; did you mean 'token-source'?"),
        ("token-source,id=a,upstream=b", "/objects/a: property 'upstream' cannot be 'b': expected an object of type"
         " 'token-source', or its path (no object 'b')"),
        ("isa-serial,id=a", "unknown object type 'isa-serial'"),
    ],
)  # fmt: skip
def test_wrong_ones_name_their_argument(registry: TypeRegistry, text: str, message: str) -> None:
    with pytest.raises(QomError) as error:
        built(registry, "-object", text)
    assert str(error.value) == f"-object {text}: {message}"


def test_help_lists_them(registry: TypeRegistry) -> None:
    lines = help_text(registry, "object", "").splitlines()
    assert lines[0] == "Types of objects:" and "  token-source    Hands out tokens" in lines
    assert help_text(TypeRegistry(), "object", "") == "There are no types for -object."
