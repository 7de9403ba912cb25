"""Build flat x86 images from assembly sources with GNU binutils.

Every source in the tree that becomes a firmware or a guest image is built by this one module. A source says itself how it
is linked, in a comment near its top:

    # link: 0x7c00          the address of its first byte (default 0)
    # assemble: 64          64-bit addresses in it are the linker's to fill in (default 32)

It is assembled with `as --32`, linked at that address with `ld -m elf_i386 --oformat binary` (or with `--64` and
`elf_x86_64`), and nothing is added: size,
padding and signatures are the source's own `.org` directives. The image is kept beside the source with the suffix `.bin`,
so that running needs no assembler; `python -m plugins.firmware.build --check` tells whether one has drifted.

Not done: relocatable or multi-section images, other architectures.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
METAL = TREE / "tests" / "guests" / "metal"  # where `.include "metal.inc"` finds it
IMAGE_FOLDERS = (TREE / "plugins" / "firmware", TREE / "tests" / "guests", TREE / "benchmarks" / "guests")

_LONG = re.compile(r"^#\s*assemble:\s*64\s*$", re.MULTILINE)
_LINK = re.compile(r"^#\s*link:\s*(\S+)\s*$", re.MULTILINE)


class BuildError(Exception):
    """A source that cannot be built; the message names the source, the tool and what the tool said."""


def missing_tools() -> str | None:
    """Return why images cannot be built here, or None when they can."""
    absent = [tool for tool in ("as", "ld") if shutil.which(tool) is None]
    return f"binutils is not installed: {' and '.join(absent)} not found" if absent else None


def image_path(source: Path) -> Path:
    """Return where the built image of `source` is kept."""
    return source.with_suffix(".bin")


def sources() -> list[Path]:
    """Return every assembly source of the tree that has an image (include files, `*.inc`, have none)."""
    return sorted(source for folder in IMAGE_FOLDERS if folder.is_dir() for source in folder.rglob("*.S"))


def link_address(source: Path) -> int:
    """Return the address at which `source` asks to be linked."""
    found = _LINK.search(source.read_text(encoding="utf-8"))
    if found is None:
        return 0
    try:
        return int(found.group(1), 0)
    except ValueError:
        raise BuildError(f"{source}: 'link:' wants a number such as 0x7c00, not {found.group(1)!r}") from None


def build(source: Path) -> bytes:
    """Assemble and link `source` and return its flat image.

    Raises BuildError with the tool's own message when it does not assemble, does not link, or gives no bytes.
    """
    why = missing_tools()
    if why is not None:
        raise BuildError(f"{source}: {why}")
    address = link_address(source)
    long = _LONG.search(source.read_text(encoding="utf-8")) is not None
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        unit, image = Path(folder, "unit.o"), Path(folder, "image.bin")
        include = ["-I", str(source.parent), "-I", str(METAL)]
        _tool(source, ["as", "--64" if long else "--32", "--fatal-warnings", *include, "-o", str(unit), str(source)])
        layout = ["-Ttext", hex(address), "-e", "0", "--build-id=none", "-z", "noexecstack"]
        _tool(
            source,
            [
                "ld",
                "-m",
                "elf_x86_64" if long else "elf_i386",
                "--oformat",
                "binary",
                *layout,
                "-o",
                str(image),
                str(unit),
            ],
        )
        content = image.read_bytes()
    if not content:
        raise BuildError(f"{source}: the linked image is empty; code belongs in .text")
    return content


def _tool(source: Path, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{source}: {command[0]} failed:\n{done.stderr.strip()}")


def main(arguments: list[str] | None = None) -> int:
    """Build, or with --check only compare, the images named or all of the tree's; return an exit status."""
    parser = argparse.ArgumentParser(prog="python -m plugins.firmware.build", description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", type=Path, help="assembly sources; all of the tree's when none is named")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if an image differs from its source")
    options = parser.parse_args(arguments)
    status = 0
    for source in options.sources or sources():
        image = image_path(source)
        try:
            content = build(source)
        except (BuildError, OSError) as error:
            print(error, file=sys.stderr)
            status = 1
            continue
        before = image.read_bytes() if image.exists() else None
        if content == before:
            continue
        if options.check:
            print(f"{image}: {'is missing' if before is None else 'differs from its source'}", file=sys.stderr)
            status = 1
        else:
            image.write_bytes(content)
            print(f"{image}: {len(content)} bytes")
    return status


if __name__ == "__main__":
    sys.exit(main())
