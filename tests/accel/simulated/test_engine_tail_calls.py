"""Handlers go from one to the next by jumps.

One that calls its successor leaves a frame on the stack for every time a guest's loop comes by, until the stack is full and the
process dies.  Compilers do so without a word where a handler gives away the address of a local variable.
"""

import re
import shutil
import subprocess

import pytest

core = pytest.importorskip("accel.simulated._core", reason="the C core is not built")

SUCCESSOR = re.compile(
    r"\tcall +\*(?:0x20)?\(%r(?!ip)\w+\)"
)  # insn[1].fn; a handler has it at offset 0 of its 32 bytes


def calls(listing: str) -> set[str]:
    """The functions that call through a record of an instruction."""
    found, function = set(), ""
    for line in listing.splitlines():
        if line.endswith(">:"):
            function = line[line.index("<") + 1 : -2]
        elif SUCCESSOR.search(line) and not function.startswith("_cffi_"):
            found.add(function)
    return found


def test_what_a_call_looks_like() -> None:
    text = "0 <op_a>:\n 1:\tjmp    *0x20(%rax)\n 2:\tcall   *0x0(%rip)\n"
    text += "3 <op_b>:\n 4:\tcall   *0x20(%r12)\n5 <op_c>:\n 6:\tcall   *(%rbx)\n"
    assert calls(text) == {"op_b", "op_c"}


def test_no_handler_calls_the_next() -> None:
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    command = ["objdump", "-d", "--no-show-raw-insn", str(core.__file__)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "__asan" in listing:
        pytest.skip("a build for sanitizers returns after every block")
    assert "<op_nop" in listing, "the module has no symbols to look at"
    assert calls(listing) <= {"handle_exit"}
