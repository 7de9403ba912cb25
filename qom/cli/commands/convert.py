"""`qom convert`: a QEMU command line, or a machine file of another format, as a machine file.

What a command line says goes through the same reader as `qom-system-x86_64`'s own, so that the file says the same.
Whether the types it names exist is for `qom check` to say.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import attrs

from qom.cli import qemu_options
from qom.cli.arguments import deliver
from qom.cli.options import ALONE, WITH_ARGUMENT, CommandLine, argument_of
from qom.config import MachineConfig, load
from qom.config.document import SUFFIXES
from qom.config.files import INI_SUFFIXES
from qom.config.write import FORMATS, dumps, format_of
from qom.errors import ConfigError, NotModelled, QomError, did_you_mean

PROGRAM = "qom"
EXPECTED = "expected [-o FILE] [--format F] [--skip-unknown] [--] QEMU-COMMAND-LINE, or a FILE"


@attrs.define
class _Request:
    """What the command was asked for."""

    words: list[str] = attrs.field(factory=list)  # the command line, or one file name
    output: str | None = None
    format: str | None = None
    skip: bool = False
    variables: dict[str, str] = attrs.field(factory=dict)


def main(argv: list[str]) -> int:
    """The command; `argv` without its name.

    Raises:
        ConfigError: an argument is wrong, or the one file or option that is.
        QomError: several options are wrong; it names all of them.
    """
    request = _request(argv)
    format = request.format or format_of(request.output or "")
    if format not in FORMATS:
        raise ConfigError(f"cannot be {format!r}: expected one of {', '.join(FORMATS)}", "--format")
    if _is_file(request.words):
        config = load(request.words[0], request.variables)
    else:
        if request.variables:
            raise ConfigError("a command line declares no variables: expected a FILE", "--var")
        config = convert(request.words, skip=request.skip)
    deliver(dumps(config, format), request.output)
    return 0


def convert(words: list[str], *, skip: bool = False) -> MachineConfig:
    """The configuration that a QEMU command line, without the program's name, describes.

    Args:
        words: the command line.
        skip: leave out what is not modelled, with a line on stderr for each.

    Raises:
        QomError: it says something wrong, or something that is not modelled; all of it is named.
    """
    wrong: list[str] = []
    line = CommandLine()
    line.builder.report = lambda error: wrong.append(str(error))
    for name, said in sorted(split(words), key=lambda one: one[0] != "set"):  # which changes what is told after it
        text = shlex.join(said)
        try:
            if _is_qemus(name):
                raise NotModelled("is not modelled", text)
            if argument_of(name) is None:
                raise NotModelled(f"unknown option{did_you_mean(name, WITH_ARGUMENT | ALONE)}", text)
            line.parse(said)
            if line.help_for is not None or line.show:
                raise ConfigError("asks for help: expected a machine", text)
        except NotModelled as error:
            if skip:
                print(f"{PROGRAM}: left out: {error}", file=sys.stderr)
            else:
                wrong.append(str(error))
        except ConfigError as error:
            wrong.append(str(error))
    config = line.builder.finish()
    if wrong:
        raise QomError(f"convert: {'; '.join(wrong)}")
    return config


def split(words: list[str]) -> list[tuple[str, list[str]]]:
    """A command line as options, each with its name and its words; what only QEMU spells so is in our spelling.

    Raises:
        ConfigError: the last option lacks its argument.
    """
    out: list[tuple[str, list[str]]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            out.append(("hda", [word]))
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        if _is_qemus(name) or name in qemu_options.SPELLINGS:
            takes = name not in qemu_options.ALONE
        elif (argument := argument_of(name)) is not None:
            takes = bool(argument)
        else:  # nobody's option: what follows it must be its own
            takes = bool(rest) and not rest[0].startswith("-")
        if takes and not rest:
            raise ConfigError("an argument is missing", word)
        said = [word, rest.pop(0)] if takes else [word]
        if name in qemu_options.SPELLINGS:
            name, template = qemu_options.SPELLINGS[name]
            said = [f"-{name}", template.format(value=said[1].replace(",", ",,"))]
        out.append((name, said))
    return out


def _is_qemus(name: str) -> bool:
    return name in qemu_options.WITH_ARGUMENT or name in qemu_options.ALONE


def _is_file(words: list[str]) -> bool:
    return len(words) == 1 and Path(words[0]).suffix.lower() in (*SUFFIXES, *INI_SUFFIXES)


def _request(argv: list[str]) -> _Request:
    """Take the command's own options off; they stand before the command line, or around a file's name."""
    request, rest = _Request(), list(argv)
    line = CommandLine()
    while rest:
        word = rest.pop(0)
        if word == "--":
            request.words += rest
            break
        if word in ("-o", "--output", "--format", "--var"):
            if not rest:
                raise ConfigError("an argument is missing", word)
            value = rest.pop(0)
            if word == "--var":
                line.set_variable(value, f"{word} {value}")
            elif word == "--format":
                request.format = value
            else:
                request.output = value
        elif word == "--skip-unknown":
            request.skip = True
        else:
            request.words.append(word)
            if not _is_file(request.words):
                request.words += rest
                break
    request.variables = line.variables
    if len(request.words) == 1 and len(request.words[0].split()) > 1:
        try:
            request.words = shlex.split(request.words[0].replace("\\\n", " "))
        except ValueError as error:
            raise ConfigError(f"convert: not a command line: {str(error).lower()}") from None
    if request.words and Path(request.words[0]).name.startswith("qemu-system"):
        program = Path(request.words.pop(0)).name
        if program not in ("qemu-system-x86_64", "qemu-system-i386"):
            raise ConfigError(f"convert: {program} is not modelled: expected qemu-system-x86_64")
        if not request.words:
            return request
    elif not request.words:
        raise ConfigError(f"convert: nothing to convert: {EXPECTED}")
    return request
