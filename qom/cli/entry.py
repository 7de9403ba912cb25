"""Where the installed commands begin: so little is imported here that a Ctrl-C at once is answered in one line as well."""

from __future__ import annotations

import gc
import importlib
import sys


def qom() -> int:
    """`qom`; the exit status."""
    return _start("qom", "qom.cli.main")


def system() -> int:
    """`qom-system-x86_64`; the exit status."""
    return _start("qom-system-x86_64", "qom.cli.system")


def _start(program: str, module: str) -> int:
    try:
        gc.disable()  # modules are made to stay
        try:
            main = importlib.import_module(module).main
        finally:
            gc.enable()
        return int(main())
    except KeyboardInterrupt:  # the modules were still being read; a command that runs answers it itself
        print(f"{program}: interrupted", file=sys.stderr)
        return 1
