"""`qom diff`: say in what two machines, or two files, differ.

Exit status as of diff(1): 0 for no difference, 1 for some, 2 for trouble.
"""

from __future__ import annotations

from qom.cli.arguments import file_and_options, looked_at
from qom.cli.system import complain
from qom.errors import ConfigError, QomError
from qom.show import Difference, diff

PROGRAM = "qom"


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    try:
        found = _compare(argv)
    except QomError as error:
        complain(PROGRAM, str(error))
        return 2
    except OSError as error:
        complain(PROGRAM, f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 2
    for difference in found:
        print(difference.text)
    return 1 if found else 0


def _compare(argv: list[str]) -> list[Difference]:
    words = [word for word in argv if word != "--config"]
    first, second = _sides(words)
    if len(words) < len(argv):
        return diff(file_and_options(first).builder.finish(), file_and_options(second).builder.finish())
    with looked_at(first) as one, looked_at(second) as other:
        return diff(one, other)


def _sides(words: list[str]) -> tuple[list[str], list[str]]:
    """The arguments of each of the two: `A B`, or with options `A [options] -- B [options]`."""
    if words.count("--") == 1:
        middle = words.index("--")
        return words[:middle], words[middle + 1 :]
    if len(words) == 2 and not any(word.startswith("-") for word in words):
        return words[:1], words[1:]
    raise ConfigError("diff: expected two files, as in A B, or A [options] -- B [options]")
