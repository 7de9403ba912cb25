"""User objects (`-object`): made under /objects, completed once their properties are set, referred to by id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qom import (
    IsaDevice,
    Object,
    QomError,
    Region,
    TypeRegistry,
    UserCreatable,
    VirtualMachine,
    default_registry,
    link,
    prop,
    type_init,
)
from qom.cli.help import help_text
from qom.cli.options import CommandLine
from qom.config import load
from qom.config.check import check
from qom.errors import NotModelled


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
        ("isa-serial,id=a", "unknown object type 'isa-serial'; that is a type of another kind (`qom doc isa-serial`"
         " describes it)"),
        ("zyx,id=a", "unknown object type 'zyx'; no plugin that is loaded brings it (`qom plugins` lists them)"),
    ],
)  # fmt: skip
def test_wrong_ones_name_their_argument(registry: TypeRegistry, text: str, message: str) -> None:
    with pytest.raises(QomError) as error:
        built(registry, "-object", text)
    assert str(error.value) == f"-object {text}: {message}"


def test_memory_of_the_machine_is_not_one_of_them(registry: TypeRegistry, tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text('[machine]\ntype = "none"\n[[object]]\nqom-type = "memory-backend-ram"\nid = "m"\n')
    text = "object type 'memory-backend-ram': memory back ends are not modelled: expected the guest's memory by -m SIZE"
    with pytest.raises(NotModelled) as error:
        VirtualMachine(load(file), registry).build()
    assert error.value.message == text
    assert [str(problem) for problem in check(file, registry)] == [f"{file}:4:1: object[0].qom-type: {text}"]


def test_help_lists_them(registry: TypeRegistry) -> None:
    lines = help_text(registry, "object", "").splitlines()
    assert lines[0] == "Types of objects:" and "  token-source    Hands out tokens" in lines
    assert help_text(TypeRegistry(), "object", "") == "There are no types for -object."


@type_init("token-reader")
class TokenReader(IsaDevice):
    """Shows how many tokens a second its source hands out."""

    source: Any = link("token-source", "Where tokens come from", required=True)

    def realize(self) -> None:
        self.isa.map_ports(0x300, Region("tokens", 2, lambda offset, size: self.source.rate, None, (2, 2)))


def test_a_device_takes_one_by_its_id_whatever_the_order(registry: TypeRegistry) -> None:
    registry.register(TokenReader, origin="the test")
    argv = ["-device", "token-reader,source=a,id=reader", "-object", "token-source,id=a,rate=77"]
    config = CommandLine().parse(["-M", "pc", "-nodefaults", *argv]).builder.finish()
    with VirtualMachine(config, registry).build() as vm:
        assert vm.root.resolve("/machine/peripheral/reader").source is vm.root.resolve("/objects/a")
        assert vm.ports.read(0x300, 2) == 77


def test_a_device_without_the_object_it_needs_is_refused(registry: TypeRegistry) -> None:
    registry.register(TokenReader, origin="the test")
    for given, reason in (
        ("token-reader,id=r", "property 'source' is required: expected an object of type 'token-source', or its path"),
        ("token-reader,id=r,source=b", "property 'source' cannot be 'b': expected an object of type 'token-source'"),
    ):
        config = CommandLine().parse(["-M", "pc", "-nodefaults", "-device", given]).builder.finish()
        with pytest.raises(QomError) as error:
            VirtualMachine(config, registry).build()
        assert str(error.value).startswith(f"-device {given}: /machine/peripheral/r: {reason}")
