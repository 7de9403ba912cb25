"""QEMU's qtest protocol: the same lines to ours and to QEMU, wrong lines, and clients that misbehave."""

from __future__ import annotations

import random
import select
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.observe.qtest_commands import COMMANDS
from qom import ConfigError, IsaDevice, Region, VirtualMachine, open_machine, prop, type_init
from qom.cli.options import CommandLine
from qom.testing import QTest, QTestError

QEMU = "qemu-system-x86_64"
RAM = 0x10000

# Lines whose answer is the same in QEMU, as they touch hardware that both have.
GOOD = f"""
endianness
endianness again
outb 0x70 0x0f
outb 0x71 0x5a
inb 0x71
inb 113
inb 0161
outb 0x71 0x1a5
inb 0x71
outb 0x71 -1
inb 0x71
inw 0x71 and more
outl 0xcf8 0x80000000
inl 0xcfc
inw 0xcfe
inb 0xcff
outw 0x80 0x1234
writeb {RAM} 0x12
writew {RAM + 2:#x} 0x3456
writel {RAM + 4:#x} 0x789abcde
writeq {RAM + 8:#x} 0x1122334455667788
readb {RAM:#x}
readw {RAM + 2:#X}
readl {RAM + 4:#x}
readq {RAM + 8:#x}
writeb {RAM:#x} 0x1ff
writeq {RAM + 8:#x} -2
read {RAM:#x} 16
read {RAM:#x} 1
b64read {RAM:#x} 16
write {RAM:#x} 4 0x0102
write {RAM + 4:#x} 1 0x0A0B
read {RAM:#x} 8
b64write {RAM:#x} 3 AQID
b64write {RAM + 4:#x} 1 BAU=
b64write {RAM + 8:#x} 0 AQ==
read {RAM:#x} 16
memset {RAM:#x} 6 0x1aa
memset {RAM:#x} 0 1
read {RAM:#x} 8
write {RAM:#x} 1 0x
readl 0xfed00000
readq 0xfed00000
read 0xfffffff0 16
irq_intercept_in ioapic
irq_intercept_in ioapic
set_irq_in ioapic unnamed-gpio-in 3 1
set_irq_in ioapic unnamed-gpio-in 3 1
set_irq_in ioapic unnamed-gpio-in 3 0
set_irq_in ioapic unnamed-gpio-in 23 7
set_irq_in ioapic unnamed-gpio-in 23 0
nonsense
NONSENSE 1 2
 inb 0x71
rtas 1 2 3 4 5
""".strip("\n").split("\n")

# Lines that QEMU refuses, too, in fewer words.
REFUSED_BY_BOTH = {
    "irq_intercept_in nowhere": "FAIL Unknown device: no object 'nowhere'",
    "set_irq_in nowhere unnamed-gpio-in 0 1": "FAIL Unknown device: no object 'nowhere'",
    "module_load no- thing": "FAIL no plugin 'no-thing'",
    "inv 0x71": "FAIL Unknown command 'inv'; did you mean 'inw' or 'inl' or 'inb'?",
}

# Lines at which QEMU aborts, crashes, or does something else than was said.
WRONG = {
    "": "FAIL Unknown command ''",
    "inb": "FAIL inb: PORT is missing: expected inb PORT",
    "outb 0x70": "FAIL outb: VALUE is missing: expected outb PORT VALUE",
    "inb  0x70": "FAIL inb: PORT cannot be '': expected a number, such as 0x20",
    "inb port": "FAIL inb: PORT cannot be 'port': expected a number, such as 0x20",
    "inb 0x20z": "FAIL inb: PORT cannot be '0x20z': expected a number, such as 0x20",
    "inb 089": "FAIL inb: PORT cannot be '089': expected a number, such as 0x20",
    "inb 1_0": "FAIL inb: PORT cannot be '1_0': expected a number, such as 0x20",
    "inb \u0663": "FAIL inb: PORT cannot be '\u0663': expected a number, such as 0x20",
    "inb 0x10000": "FAIL inb: PORT cannot be '0x10000': expected 0x0 to 0xffff",
    "inb -1": "FAIL inb: PORT cannot be '-1': expected 0x0 to 0xffff",
    "outb 0x70 1 ": "OK",
    "readb 0x10000000000000000": "FAIL readb: ADDR cannot be '0x10000000000000000': expected 0x0 to 0xffffffffffffffff",
    "writel 0x1000": "FAIL writel: VALUE is missing: expected writel ADDR VALUE",
    "read 0x1000": "FAIL read: LEN is missing: expected read ADDR LEN",
    "read 0x1000 0": "FAIL read: LEN cannot be '0': expected 0x1 to 0x4000000",
    "read 0x1000 -1": "FAIL read: LEN cannot be '-1': expected 0x1 to 0x4000000",
    "read -1 2": "FAIL read: LEN cannot be '2': expected at most 0x1, as memory ends there",
    "b64read 0x1000 99999999999": "FAIL b64read: LEN cannot be '99999999999': expected 0x1 to 0x4000000",
    "write 0x1000 4": "FAIL write: DATA is missing: expected write ADDR LEN DATA",
    "write 0x1000 3 010203": "ERR write: DATA cannot be '010203': expected 0x and two hexadecimal digits for each byte",
    "write 0x1000 1 0x0g": "ERR write: DATA cannot be '0x0g': expected 0x and two hexadecimal digits for each byte",
    "write 0x1000 1 0x012": "ERR write: DATA cannot be '0x012': expected 0x and two hexadecimal digits for each byte",
    "b64write 0x1000 1 !": "ERR b64write: DATA cannot be '!': expected bytes in base64",
    "memset 0x1000 1": "FAIL memset: PATTERN is missing: expected memset ADDR LEN PATTERN",
    "irq_intercept_in": "FAIL irq_intercept_in: PATH is missing: expected irq_intercept_in PATH [NAME]",
    "irq_intercept_in /objects": "FAIL Unknown device: /objects is a container, no device",
    "irq_intercept_out rtc nothing": "FAIL irq_intercept_out: /machine/rtc has no output 'nothing': expected one of isa-irq",
    "set_irq_in ioapic": "FAIL set_irq_in: NAME is missing: expected set_irq_in PATH NAME N LEVEL",
    "set_irq_in ioapic led 0 1": "FAIL set_irq_in: /machine/ioapic has no input 'led': expected one of unnamed-gpio-in[24]",
    "set_irq_in ioapic unnamed-gpio-in 24 1": "FAIL set_irq_in: N cannot be '24': expected 0x0 to 0x17",
    "set_irq_in ioapic unnamed-gpio-in 3": "FAIL set_irq_in: LEVEL is missing: expected set_irq_in PATH NAME N LEVEL",
    "module_load": "FAIL module_load: PREFIX is missing: expected module_load PREFIX NAME",
    "clock_step soon": "FAIL clock_step: NS cannot be 'soon': expected a number, such as 0x20",
    "clock_set": "FAIL clock_set: NS is missing: expected clock_set NS",
    "clock_set 9223372036854775808": "FAIL clock_set: NS cannot be '9223372036854775808':"
    " expected -9223372036854775808 to 9223372036854775807",
    "inb\t0x70": "FAIL character 0x09 at 3: expected a command and its arguments",
    "inb 0x\0": "FAIL character 0x00 at 6: expected a command and its arguments",
    "inb \udcff": "FAIL byte 0xff at 4 is no UTF-8: expected a command and its arguments",
    "inb 0x71\r": "OK 0x00ff",
}  # fmt: skip


@pytest.fixture(scope="module")
def ours() -> Iterator[QTest]:
    with QTest("-m 16") as q:
        yield q


@pytest.fixture(scope="module")
def qemu() -> Iterator[QTest]:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    with QTest("-m 16 -machine pc", program=QEMU) as q:
        yield q


def test_the_same_lines_get_the_same_answers_from_qemu(ours: QTest, qemu: QTest) -> None:
    answers = [(line, ours.send(line), ours.get_irq(3), ours.irq_raised(23)) for line in GOOD]
    assert answers == [(line, qemu.send(line), qemu.get_irq(3), qemu.irq_raised(23)) for line in GOOD]
    assert {answer.split()[0] for _, answer, _, _ in answers} == {"OK", "FAIL", "ERR"}


def test_what_qemu_refuses_is_refused_with_a_reason(ours: QTest, qemu: QTest) -> None:
    assert {line: ours.send(line) for line in REFUSED_BY_BOTH} == REFUSED_BY_BOTH
    assert {qemu.send(line).split()[0] for line in REFUSED_BY_BOTH} == {"FAIL"}


def test_every_wrong_line_is_answered_with_what_would_be_right(ours: QTest) -> None:
    ours.outb(0x70, 0x0F)
    ours.outb(0x71, 0xFF)
    ours.outb(0x70, 0x0F)
    told = {}
    for line in WRONG:
        ours.outb(0x70, 0x0F)
        told[line] = ours.send(line)
    assert told == WRONG


def test_a_long_word_is_shown_short(ours: QTest) -> None:
    assert ours.send("x" * 100_000) == f"FAIL Unknown command '{'x' * 37}...'"
    assert ours.send("inb " + "9" * 50) == f"FAIL inb: PORT cannot be '{'9' * 37}...': expected 0x0 to 0xffff"


def test_the_clock_is_stepped_set_and_never_goes_back() -> None:
    with QTest("-m 16") as q:
        assert q.clock_step(5) == 5
        first = q.clock_step()
        assert first > 5  # a deadline of the PIT, which runs from the start
        assert q.clock_set(first + 7) == first + 7
        assert q.clock_set(3) == q.clock_step(-4) == q.clock_step(0) == first + 7


def test_a_clock_without_deadlines_stands_still() -> None:
    with QTest("-machine none") as q:
        assert q.clock_step() == 0
        assert q.clock_step(3) == 3
        assert q.readl(0x1000) == 0xFFFFFFFF
        assert q.send("irq_intercept_in ioapic") == "FAIL Unknown device: no object 'ioapic'"


def test_under_another_accelerator_all_but_the_clock_is_served(qemu: QTest) -> None:
    with QTest("-m 16 -accel simulated -S") as q:
        assert not q.stepped
        q.outb(0x70, 0x0F)
        assert q.inb(0x71) == 0
        for line in ("clock_step", "clock_step 5", "clock_set 5"):
            name = line.split()[0]
            text = f"FAIL {name}: time passes by itself under 'simulated': expected the accelerator qtest"
            assert q.send(line) == text
            if not qemu.stepped:
                assert qemu.send(line) == f"FAIL Unknown command '{name}'"


def test_lines_of_one_device_at_a_time_are_followed() -> None:
    with QTest("-m 16") as q:
        q.irq_intercept_out("rtc")
        assert q.send("irq_intercept_out rtc") == q.send("irq_intercept_out rtc isa-irq") == "OK"
        assert q.send("irq_intercept_in ioapic") == "FAIL IRQ intercept already enabled"
        for index, value in ((0x0B, 0x12), (0x0C, None)):  # the update interrupt, once a second
            q.outb(0x70, index)
            q.inb(0x71) if value is None else q.outb(0x71, value)
        q.clock_step(1_000_000_000)
        assert q.irq_raised(8) == 1 and q.get_irq(8)
        assert q.inb(0x71) & 0x90 == 0x90
        assert not q.get_irq(8)


def test_the_first_lines_of_a_device_are_those_that_are_followed() -> None:
    with QTest("-m 16") as q:
        q.irq_intercept_in("ioapic")
        assert q.send("irq_intercept_out ioapic") == "OK"
        assert q.send("irq_intercept_out pic") == "FAIL IRQ intercept already enabled"
        q.set_irq_in("ioapic", "unnamed-gpio-in", 5, 1)
        assert q.get_irq(5)


def test_a_device_that_fails_ends_the_machine_and_says_so() -> None:
    @type_init("isa-broken-port")
    class BrokenPort(IsaDevice):
        iobase: int = prop(0x300, "First I/O port")

        def realize(self) -> None:
            self.isa.map_ports(self.iobase, Region("broken", 1, self._read, None, (1, 1)))

        def _read(self, offset: int, size: int) -> int:
            raise ValueError("it is broken")

    with QTest(devices=["isa-broken-port"], types=[BrokenPort]) as q:
        answer = q.send("inb 0x300")
        assert answer.startswith("FAIL /machine/peripheral-anon/isa-broken-port") and "it is broken" in answer
        assert q.wait() == 1
        assert q.vm.failure is not None and "it is broken" in q.vm.failure


def test_whatever_is_said_is_answered_and_the_machine_lives_on() -> None:
    """Lines put together by chance out of commands, numbers, names and rubbish."""
    chance = random.Random(5)
    names = [name for name in COMMANDS if name != "memset"]  # of gigabytes it takes its time
    shorts = ("", "0", "-1", "0x", "1e3", "ioapic", "/machine", "pic", "unnamed-gpio-in", "pirq", "AQ==")

    def word(large: bool) -> str:
        kind = chance.randrange(5)
        if kind == 0:
            return chance.choice(shorts)
        if kind == 1:
            return f"{chance.randrange(1 << chance.randrange(1, 66 if large else 12)):#x}"
        if kind == 2:
            return str(chance.randrange(-9, 99))
        if kind == 3:
            return "0x" + chance.randbytes(chance.randrange(9 if large else 2)).hex()
        return "".join(chr(chance.randrange(0x20, 0x2FF)) for _ in range(chance.randrange(9)))

    with QTest("-m 16") as q:
        counts = dict.fromkeys(("OK", "FAIL", "ERR"), 0)
        for _ in range(3000):
            name = chance.choice(names)
            # Not far into time, and not many bytes: that would be all this test takes.
            large = [not name.startswith("clock"), not name.endswith(("read", "write")), True, True]
            line = " ".join([name, *(word(large[n]) for n in range(chance.randrange(5)))])
            counts[q.send(line).split(" ")[0]] += 1
        assert q.vm.failure is None
        assert counts["OK"] > 300 and counts["FAIL"] > 300 and counts["ERR"] > 5


def test_an_answer_of_megabytes_comes_whole_and_in_time(ours: QTest) -> None:
    ours.memset(0x100000, 8 << 20, 0x5A)
    assert ours.command("read", 0x100000, 8 << 20) == "0x" + "5a" * (8 << 20)
    data = bytes(range(256)) * 4096
    ours.command("write", 0x100000, len(data), "0x" + data.hex())
    assert ours.read(0x100000, len(data)) == data


# Clients on a socket


class Client:
    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> str:
        return self._file.readline().decode().rstrip("\n")

    def ask(self, line: str) -> str:
        self.send(line.encode() + b"\n")
        return self.line()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[VirtualMachine]:
    with open_machine(
        memory="16M",
        accel="qtest",
        nodefaults=True,
        chardevs=[f"socket,id={name},path={tmp_path / name},server=on,wait=off" for name in ("one", "two")],
        objects=["qtest,id=first,chardev=one,log=none", "qtest,id=second,chardev=two,log=none"],
    ) as vm:
        yield vm.start()


@pytest.mark.usefixtures("served")
def test_lines_may_come_at_once_or_in_pieces(tmp_path: Path) -> None:
    client = Client(tmp_path / "one")
    client.send(b"endianness\nnonsense\nwrite 0x1000 2 0x0102\nread 0x1000 2\n")
    assert [client.line() for _ in range(4)] == ["OK little", "FAIL Unknown command 'nonsense'", "OK", "OK 0x0102"]
    for byte in b"read 0x1000 2\n":
        client.send(bytes([byte]))
    assert client.line() == "OK 0x0102"
    client.close()


@pytest.mark.usefixtures("served")
def test_what_a_client_left_behind_is_nobodys(tmp_path: Path) -> None:
    client = Client(tmp_path / "one")
    assert client.ask("irq_intercept_in ioapic") == "OK"
    client.send(b"clock_st")
    client.close()
    later = Client(tmp_path / "one")
    assert later.ask("set_irq_in ioapic unnamed-gpio-in 3 1") == "OK"  # and no IRQ line
    assert later.ask("irq_intercept_in pic") == "OK"  # another device than the client before it
    assert later.ask("clock_step 5") == "OK 5"
    later.close()


@pytest.mark.usefixtures("served")
def test_a_client_that_floods_and_never_reads_holds_up_nobody(tmp_path: Path) -> None:
    flooder, other = Client(tmp_path / "one"), Client(tmp_path / "two")
    flooder.socket.setblocking(False)
    lines, sent = b"read 0x1000 256\n" * 4096, 0
    while sent < 1 << 24:  # until the server reads no more
        try:
            sent += flooder.socket.send(lines)
        except BlockingIOError:
            if other.ask("endianness") == "OK little" and not _writable(flooder.socket):
                break
    assert sent < 1 << 24
    assert other.ask("clock_step 5") == "OK 5"
    flooder.socket.settimeout(20)
    assert {flooder.line() for _ in range(sent // len(b"read 0x1000 256\n"))} == {"OK 0x" + "00" * 256}
    flooder.close()
    again = Client(tmp_path / "one")
    assert again.ask("endianness") == "OK little"
    again.close()
    other.close()


def _writable(end: socket.socket) -> bool:
    try:
        end.send(b"r", socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    raise AssertionError("the server went on reading after a pause")


def test_two_servers_cannot_share_a_back_end(tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:
        open_machine(
            accel="qtest", chardevs=["null,id=n"], objects=["qtest,id=a,chardev=n,log=none", "qtest,id=b,chardev=n"]
        )
    assert str(caught.value).endswith("/chardevs/n: already used by /objects/a, so /objects/b cannot use it too")


# Configuration and log


def test_the_option_is_short_for_an_object_and_its_back_end() -> None:
    words = ["-nodefaults", "-qtest-log", "none", "-qtest", "unix:/run/t,server=on,wait=off"]
    config = CommandLine().parse(words).builder.finish()
    (chardev,), (entry,) = config.chardevs, config.objects
    assert (chardev.backend, chardev.id, chardev.props) == (
        "socket",
        "qtest",
        {"path": "/run/t", "server": "on", "wait": "off"},
    )
    assert (entry.driver, entry.id, entry.props) == ("qtest", "qtest", {"chardev": "qtest", "log": "none"})
    with pytest.raises(ConfigError) as caught:
        CommandLine().parse(["-qtest-log", "none"]).builder.finish()
    assert str(caught.value) == "-qtest-log none: 'qtest-log' is only of use with a client: expected -qtest too"


def test_the_log_has_what_was_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    file = tmp_path / "vm.toml"
    file.write_text(f'accel = "qtest"\nnodefaults = true\nqtest = "console"\nqtest-log = "{log}"\n')
    with open_machine(file) as vm, vm.lock:
        vm.console("qtest").write("inb 0x70\nb64write 0x1000 4 AQI=\ninb \xff\n".encode("latin-1"))
    lines = log.read_text().splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        "OPENED",
        "inb 0x70",
        "OK 0x00ff",
        "b64write 0x1000 4 AQI=",
        "b64write: data length mismatch (told 4, found 2)",
        "OK",
        "inb \\xff",
        "FAIL byte 0xff at 4 is no UTF-8: expected a command and its arguments",
    ]
    assert [line[:4] for line in lines] == ["[I 0", "[R +", "[S +", "[R +", "[S +", "[S +", "[R +", "[S +"]


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        QTest(objects=[f"qtest,id=q,chardev=c,log={tmp_path}"], chardevs=["null,id=c"])
    assert str(caught.value) == f"objects[0]: /objects/q: log {tmp_path}: Is a directory"
    with pytest.raises(ConfigError) as missing:
        QTest(objects=["qtest,id=q"])
    assert (
        str(missing.value)
        == "objects[0]: /objects/q: 'chardev' is missing: expected the back end on which the client is"
    )


def test_a_refused_command_raises_with_the_answer(ours: QTest) -> None:
    with pytest.raises(QTestError) as caught:
        ours.command("inb", "zero")
    assert str(caught.value) == "inb zero: FAIL inb: PORT cannot be 'zero': expected a number, such as 0x20"


# -- a step that takes long

TICKS = (
    "outb 0x70 0x0a\noutb 0x71 0x26\noutb 0x70 0x0b\noutb 0x71 0x42\n"  # the RTC's periodic interrupt, 1024 a second
)
HOUR = 3600 * 10**9
LONG = HOUR // 12  # 307,200 interrupts: many parts on the fastest host


def test_a_long_step_gives_way_and_is_exact(served: VirtualMachine, tmp_path: Path) -> None:
    one, two = Client(tmp_path / "one"), Client(tmp_path / "two")
    one.send(TICKS.encode())
    assert [one.line() for _ in range(4)] == ["OK"] * 4
    asked: list[int] = []
    answers: set[str] = set()
    done = threading.Event()

    def turn() -> None:
        """The second client, in the main loop: what it sees does not hang on when a thread of its own is scheduled."""
        if done.is_set():
            return
        if _readable(two.socket):
            answers.add(two.line())
            asked.append(served.clock.now())
            two.send(b"inb 0x71\n")
        served.main_loop.call_soon_threadsafe(turn)

    two.send(b"inb 0x71\n")
    served.main_loop.call_soon_threadsafe(turn)
    one.send(f"clock_step {LONG}\nendianness\n".encode())
    assert one.line() == f"OK {LONG}"
    assert one.line() == "OK little"  # waited its turn
    with served.lock:
        done.set()
    assert answers == {"OK 0x0042"}
    assert len({now for now in asked if 0 < now < LONG}) > 2  # others had theirs meanwhile, at deadlines
    one.close()
    two.close()


def test_a_client_that_goes_in_the_middle_of_a_step(served: VirtualMachine, tmp_path: Path) -> None:
    one = Client(tmp_path / "one")
    one.send((TICKS + f"clock_step {20 * 10**9}\n").encode())
    assert [one.line() for _ in range(4)] == ["OK"] * 4
    one.close()
    later = Client(tmp_path / "one")
    assert later.ask("clock_step 0") == f"OK {20 * 10**9}"  # what was begun is done, and its answer is nobody's
    later.close()


def test_a_step_of_years_is_ended_by_the_end_of_the_machine(served: VirtualMachine, tmp_path: Path) -> None:
    one = Client(tmp_path / "one")
    one.send((TICKS + f"clock_step {24 * 365 * HOUR}\n").encode())
    assert [one.line() for _ in range(4)] == ["OK"] * 4
    assert served.monitor_command("query-status")["status"] == "running"
    served.monitor_command("quit")
    assert served.wait(30) is True
    assert 0 <= served.clock.now() < 24 * 365 * HOUR
    one.close()


def test_a_long_step_in_this_process() -> None:
    with QTest(machine="pc", memory="16M") as q:
        for line in TICKS.splitlines():
            q.command(*line.split())
        assert q.clock_step(60 * 10**9) == 60 * 10**9
        assert q.clock_step(5) == 60 * 10**9 + 5


def _readable(end: socket.socket) -> bool:
    return bool(select.select([end], [], [], 0)[0])
