"""`qom types`: the types there are, or one of them."""

from __future__ import annotations

from qom.cli.help import describe
from qom.cli.system import registry
from qom.errors import ConfigError, QomError
from qom.registry import Type


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    rest = list(argv)
    parent = None
    if "--parent" in rest:
        at = rest.index("--parent")
        if len(rest) < at + 2:
            raise ConfigError("types: --parent: an argument is missing: expected a type name")
        parent = rest[at + 1]
        del rest[at : at + 2]
    found = registry()
    if rest:
        if len(rest) > 1 or rest[0].startswith("-"):
            raise ConfigError(f"types: unknown argument '{rest[-1]}': expected [NAME] [--parent NAME]")
        wanted = found.get(rest[0])
        if not wanted.abstract:
            print(describe(wanted))
            return 0
        parent = wanted.name
    if parent is not None:
        found.get(parent)
    listed = found.types(parent)
    names = {t.name for t in listed}

    def show(t: Type, depth: int) -> None:
        facts = [f for f in ("abstract" if t.abstract else "", _from(t)) if f]
        aliases = list(found.aliases(t.name))
        facts += [f"also {', '.join(aliases)}"] if aliases else []
        print(_type_line(t, depth, facts))
        for other in listed:
            if other.parent == t.name:
                show(other, depth + 1)

    roots = [t for t in listed if t.parent is None or t.parent not in names]
    for t in sorted(roots, key=lambda t: t.name != "object"):  # interfaces, which have no parent, after the tree
        show(t, 0)
    return 0


def _type_line(t: Type, depth: int, facts: list[str]) -> str:
    notes = f" ({'; '.join(facts)})" if facts else ""
    try:
        desc = f" - {t.desc}" if t.desc else ""
    except QomError as error:
        desc = f" - broken: {error}"
    return f"{'  ' * depth}{t.name}{notes}{desc}"


def _from(t: Type) -> str:
    return "" if t.origin in ("", "qom") else f"from {t.origin}"
