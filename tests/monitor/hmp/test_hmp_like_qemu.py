"""The same words given to our monitor and to QEMU's: the same text comes back."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from hmp_machine import Ask, made
from qemu_monitor import QemuMonitor

from qom.monitor.hmp.declare import Hmp
from qom.monitor.hmp.table import hmp_table

EXPRESSIONS = """
p 1+2
p/d 7 - 2 - 1
p/d 2 + 3 * 4
p/d (2 + 3) * 4
p/d ((((5))))
p/x 0xff & 0x3c | 1 ^ 3
p/x 1 | 2 + 4
p/x 6 & 3 * 2
p/d -7 / 2
p/d -7 % 2
p/d 7 / -2
p/d 7 % -2
p/d 7 - -2
p/d +5
p/u -1
p/x ~0
p/x ~5 & 0xff
p/x -0x8000000000000000 % 7
p/x 0x7fffffffffffffff + 1
p/x 0xffffffffffffffff * 2
p/o 8
p/o 0
p/x 0
p/d 010
p/x 'A'
p/c 65
p/c 10
p/c 13
p/c 92
p/c 39
p/c 0
p/c 31
p/c 127
p/c 200
p/c 1000
p/i 3
p 10
p/2xw 4
p/d 10
p 11
p 5/0
p 5%0
p 1 +
p )
p ((1)
p
p/
p/x
p/z 1
p/xq 1
p 4k
p 08
p 0x
p 0xg
p 1 2
p !0
p "a"
p 'ab'
p '
p 0x10000000000000000
p $
p $nosuch
p/x $eip
p/x $pc
p/x $cs
p/x $eax
p/x $edx
p/x $eflags
p/x $cs.base
p/d $eip + 4
print 3
print|p 3
""".strip().splitlines()

MEMORY = """
xp/4xb 0xffff0
xp/4xh 0xffff0
xp/4xw 0xffff0
xp/4xg 0xffff0
xp/3ub 0xffff0
xp/3uh 0xffff0
xp/3uw 0xffff0
xp/3ug 0xffff0
xp/3db 0xffff0
xp/3dh 0xffff0
xp/3dh 0xfffe0
xp/3dw 0xfffe0
xp/3dg 0xfffe0
xp/3dw 0xffff0
xp/3dg 0xffff0
xp/9ob 0xffff0
xp/9oh 0xffff0
xp/5ow 0xffff0
xp/3og 0xffff0
xp/20cb 0xffff0
xp/3ch 0xffff0
xp/3cw 0xffff0
xp/bx 0xffff0
xp/xb4 0xffff0
xp/0x 0xffff0
xp/x 0xffff0
xp/b 0xffff0
xp 0xffff0
xp/2 0xffff0
xp/2hx 0xffff0
xp/ 0xffff0
x/33xb 0xffff0
x/4xw 0xfffe8
x/xw $eip
x/xw $cs * 16 + 0xfff0
xp/2xw 0x1000000000
x/4xl 0xffff0
x/s 0xffff0
x/-1x 0xffff0
x
xp
x/4xw
x 0 0
xp/i 0xffff0
x/2i 0xffff0
x 0xffff0
xp/4xb 0xffff0
xp 0xffff0
sum 0xf0000 0x10000
sum 0x100000 16
sum 0xfffc0000 0x1000
sum 0 0
sum 0
sum
gva2gpa 0
gva2gpa 0xfffffff0
gva2gpa
gpa2hva
gpa2hva 0x9999999999
i/b 0x92
i/xb 0x10092
i/h 0x510
o/b 0x80 5
o 0x80
o 0x80 5 6
i
cpu
cpu abc
cpu 9
cpu -1
cpu 0x100000000
cpu 1
cpu 0
""".strip().splitlines()

WORDS = """
stop now
s now
cont 1
info status extra
info mtree x
memsave 0 16
pmemsave 0 "a
pmemsave "a
info registers 7
info status
info uuid
info numa
info kvm
info memory_size_summary
info mem
info tlb
qom-list
qom-get /machine type extra
help savevmx
""".strip().splitlines()


def both(lines: list[str], *words: str) -> tuple[dict[str, str], dict[str, str]]:
    with QemuMonitor("-M", "pc", "-S", *words) as qemu:
        theirs = qemu.all(lines)
    with made("-S", *words) as vm, vm.lock:
        hmp = Hmp(vm, hmp_table(vm))
        ours = {line: hmp.table.run(line, hmp) for line in lines}
    return ours, theirs


def plain(answer: str) -> str:
    """An answer without what ours says beyond QEMU's: what would have been right."""
    first, *others = answer.split("\n")
    return "\n".join([first.partition("; did you mean")[0], *others])


@pytest.mark.parametrize("lines", [[*EXPRESSIONS, *MEMORY, *WORDS]], ids=["table"])
def test_the_table_of_commands_gives_the_same_on_both(lines: list[str]) -> None:
    pytest.importorskip("capstone")
    ours, theirs = both(lines, "-m", "128", "-smp", "2")
    wrong = {line: (plain(ours[line]), theirs[line]) for line in lines if plain(ours[line]) != theirs[line]}
    assert wrong == {}


def test_registers_are_laid_out_as_qemus() -> None:
    ours, theirs = both(["info registers -a"], "-m", "128", "-smp", "2")

    def shape(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("FCW")]  # QEMU's FCW after reset is FINIT's

    assert shape(ours["info registers -a"]) == shape(theirs["info registers -a"])


def test_character_devices_are_named_as_by_qemu(tmp_path: Path) -> None:
    backends = ["null,id=n", "ringbuf,id=r,size=64", "memory,id=y,size=64", f"file,id=f,path={tmp_path / 'f'}", "pty,id=p",
                f"socket,id=s,path={tmp_path / 's'},server=on,wait=off", "socket,id=t,host=127.0.0.1,port=0,server=on,wait=off",
                "udp,id=d,host=127.0.0.1,port=9"]  # fmt: skip
    ours, theirs = both(["info chardev"], *(word for backend in backends for word in ("-chardev", backend)))

    def shape(text: str) -> list[str]:  # without numbers that the host gives out, and the monitor that asks
        return sorted(re.sub(r"pts/\d+|127.0.0.1:\d+", "", line) for line in text.splitlines() if "compat" not in line)

    assert shape(ours["info chardev"]) == shape(theirs["info chardev"])


def test_without_capstone_it_says_what_brings_it(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    assert ask("xp/2i 0xffff0") == (
        "instructions are decoded by the Python package 'capstone', which is not installed: expected"
        " `pip install capstone` (qom's extra `disassembly` brings it, too), or another format, as x/16xb\n"
    )
    extras = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert [word.partition(">")[0] for word in extras["disassembly"]] == ["capstone"]


def test_unknown_words_are_answered_as_by_qemu(ask: Ask) -> None:
    assert ask("fooo") == "unknown command: 'fooo'\n"
    assert ask("info statis") == "unknown command: 'info statis'; did you mean 'status' or 'blockstats'?\n"
    assert ask("stpo") == "unknown command: 'stpo'; did you mean 'stop'?\n"
