"""`qom new`: write a complete distribution with a device, a machine or an accelerator of one's own."""

from __future__ import annotations

import re
from pathlib import Path

from qom import __version__
from qom.cli.system import registry
from qom.errors import ConfigError
from qom.scaffold import check_name, create, kind_of


def main(argv: list[str]) -> int:
    """The command; `argv` without its name.

    Raises:
        ConfigError: an argument is wrong, or there is something already where the files would go.
    """
    words: list[str] = []
    options: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in ("-o", "--bus"):
            if not rest:
                raise ConfigError(f"new: {word}: an argument is missing: expected {'DIR' if word == '-o' else 'BUS'}")
            options[word] = rest.pop(0)
        elif word.startswith("-") or len(words) == 2:
            raise ConfigError(f"new: unknown argument '{word}': expected KIND NAME [-o DIR] [--bus isa|pci|system]")
        else:
            words.append(word)
    if len(words) < 2:
        raise ConfigError("new: expected qom new device|machine|accelerator NAME [-o DIR] [--bus isa|pci|system]")
    kind = kind_of(words[0], options.get("--bus"))
    name = words[1]
    known = registry()
    made = check_name(name, kind, {*(t.name for t in known), *known.aliases()})
    directory = Path(options.get("-o", f"qom-{name}"))
    files = create(kind, name, directory, ".".join(re.findall(r"\d+", __version__)[:2]))
    for path in files:
        print(path)
    print(f"\n{made} is {kind.what}.  Try it without installing:")
    print(f"  qom --plugin {directory} types {made}")
    print(f"  cd {directory} && python -m pytest")
    project = directory if directory.is_absolute() else f"./{directory}"
    print(f"Then install it, with pytest for its tests:\n  pip install -e '{project}[test]'")
    return 0
