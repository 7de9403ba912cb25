"""Builds `accel.simulated._core`, the C core of the simulated accelerator, with cffi (API mode).

`python accel/simulated/build_core.py` builds in place; setuptools uses `ffibuilder` through `cffi_modules`.
`--sanitize DIRECTORY` builds the module with AddressSanitizer and UBSan there.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
CORE = HERE / "core"
TOP = HERE.parent.parent
CFLAGS = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O2",
    "-fno-strict-aliasing",
    "-foptimize-sibling-calls",
    "-fno-plt",
    "-fcf-protection=none",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-missing-field-initializers",
]
SANITIZE = ["-g1", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-DSIM_NO_CHAIN"]


def sources() -> list[str]:
    """The core's C files, relative to the top of the tree (setuptools wants that)."""
    return sorted(str(path.relative_to(TOP)) for path in CORE.glob("*.c"))


def declarations() -> str:
    """core.h as cffi reads it: without comments and preprocessor lines."""
    text = re.sub(r"/\*.*?\*/", "", (CORE / "core.h").read_text(), flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith("#"))


def make_builder() -> FFI:
    """The FFI builder of `accel.simulated._core`."""
    builder = FFI()
    builder.cdef("struct kvm_run;")  # opaque here; accel._kvmabi has its members, pointers cross as integers
    builder.cdef(declarations())
    builder.set_source(
        "accel.simulated._core",
        '#include "core.h"',
        sources=sources(),
        include_dirs=[str(CORE)],
        depends=[str(path) for path in CORE.glob("*.h")],
        extra_compile_args=[
            flag for flag in CFLAGS if flag not in ("-Wextra", "-Werror")
        ],  # a user's compiler is newer
        libraries=["pthread"],
    )
    return builder


def _compile(job: tuple[list[str], Path, Path, float]) -> Path:
    """One source to one object, unless the object is newer than the source and every header."""
    command, source, target, newest_header = job
    if not target.exists() or target.stat().st_mtime < max(source.stat().st_mtime, newest_header):
        began = time.time()
        subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True)
        os.utime(target, (began, began))  # what was edited meanwhile counts as newer
    return target


def _link(out: Path, flags: list[str], files: list[Path], objects: Path, link_flags: list[str]) -> Path:
    """Compile `files` in parallel into `objects`, link them to `out` (atomically: a running process keeps the old one)."""
    objects.mkdir(parents=True, exist_ok=True)
    newest_header = max(path.stat().st_mtime for path in [*CORE.glob("*.h"), Path(__file__)])
    compiler = [*shlex.split(os.environ.get("CC") or "gcc"), *flags, "-fPIC", f"-I{CORE}"]
    jobs = [(compiler, path, objects / f"{path.stem}.o", newest_header) for path in files]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = list(pool.map(_compile, jobs))
    temporary = out.with_name(f"{out.name}.{os.getpid()}")
    subprocess.run(
        [compiler[0], "-shared", *link_flags, *map(str, made), "-o", str(temporary), "-lpthread"], check=True
    )
    return temporary.rename(out)


def _core_files() -> list[Path]:
    return [TOP / name for name in sources()]


def _module(out: Path, flags: list[str], objects: Path, link_flags: list[str]) -> Path:
    """The Python module: cffi's glue and the core."""
    objects.mkdir(parents=True, exist_ok=True)
    glue = objects / "_core.c"
    ffibuilder.emit_c_code(str(glue))  # leaves the file alone when nothing changed
    flags = [flag for flag in flags if flag != "-Wextra"] + [f"-I{sysconfig.get_path('include')}"]
    return _link(out, flags, [glue, *_core_files()], objects, link_flags)


def build_in_place() -> Path:
    """The Python module, beside this file."""
    return _module(
        HERE / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}", CFLAGS, TOP / "build" / "simulated-core", []
    )


def sanitizer_build(directory: Path) -> Path:
    """The Python module with AddressSanitizer and UBSan, in `directory`.

    Run tests with it: SIM_CORE=<that file> LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 pytest
    """
    flags = [flag for flag in CFLAGS if flag != "-O2"] + SANITIZE
    directory.mkdir(parents=True, exist_ok=True)
    return _module(
        directory / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}", flags, directory / "objects", [SANITIZE[2]]
    )


ffibuilder = make_builder()

if __name__ == "__main__":
    if sys.argv[1:2] == ["--sanitize"]:
        print(sanitizer_build(Path(sys.argv[2] if len(sys.argv) > 2 else ".")))
    else:
        print(build_in_place())
