"""One run of a command: which plugins it may load, and the registry they are loaded into, once, when first asked for.

`--plugin PATH`, `--plugins NAME[,NAME]` and `--no-plugins` may stand anywhere on a command line.  They are taken out of it
before anything else is read, so that it does not matter where an option that a plugin brings stands.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator, Sequence

from qom import records
from qom.errors import ConfigError, PluginError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.registry import TypeRegistry


@records.frozen
class Choice:
    """An option that chooses plugins, for the help."""

    argument: str
    help: str


PLUGIN_CHOICE = {
    "plugin": Choice("PATH", "load the plugin in this file, package or project, too; may be repeated"),
    "plugins": Choice("NAME[,NAME]", "load plugins of these installed distributions only"),
    "no-plugins": Choice("", "load no plugin of any other distribution"),
}


@records.define
class Session:
    """What the command line says about plugins.

    external: whether plugins of other distributions are loaded.  allow: the only distributions they are loaded from; None:
    all.  paths: files, packages and projects that are loaded as well.
    """

    external: bool = True
    allow: tuple[str, ...] | None = None
    paths: tuple[str, ...] = ()
    _made: TypeRegistry | None = None

    def registry(self) -> TypeRegistry:
        """The types there are; made once.

        Raises:
            ConfigError: a path holds no plugin, or an allowed distribution is not there; names the argument.
        """
        if self._made is None:
            from qom.plugins import default_registry

            try:
                self._made = default_registry(load_external=self.external, allow=self.allow, paths=self.paths)
            except PluginError as error:
                raise ConfigError(str(error), f"--plugins {','.join(self.allow or ())}") from None
        return self._made

    @contextlib.contextmanager
    def active(self) -> Iterator[Session]:
        """The session of everything in the block."""
        before, _here.session = _here.session, self
        try:
            yield self
        finally:
            _here.session = before


class _Here(threading.local):
    session: Session | None = None


_here = _Here()


def current() -> Session:
    """The session we are in; a new one, with every installed plugin, for code that is in none."""
    return _here.session or Session()


def take(argv: Sequence[str], with_argument: Collection[str]) -> tuple[Session, list[str]]:
    """What `argv` says about plugins, and the rest of it.

    Args:
        argv: words of a command line.
        with_argument: options that are followed by an argument, which is then no option whatever it looks like.

    Raises:
        ConfigError: an argument is missing, or what is said contradicts itself.
    """
    external, allow, paths = True, None, []
    words, rest = list(argv), []
    while words:
        word = words.pop(0)
        name = word.removeprefix("-").removeprefix("-") if word.startswith("-") else ""
        if name not in PLUGIN_CHOICE:
            rest.append(word)
            if name in with_argument and words:
                rest.append(words.pop(0))
            continue
        if name == "no-plugins":
            external = False
            continue
        if not words:
            raise ConfigError(f"an argument is missing: expected {PLUGIN_CHOICE[name].argument}", word)
        value = words.pop(0)
        if name == "plugin":
            paths.append(value)
            continue
        given = tuple(part.strip() for part in value.split(","))
        if not all(given):
            raise ConfigError("an empty name where a distribution was expected", f"{word} {value}".rstrip())
        allow = (*(allow or ()), *given)
    if allow is not None and not external:
        raise ConfigError("--no-plugins and --plugins contradict each other: expected one of them")
    return Session(external, allow, tuple(paths)), rest
