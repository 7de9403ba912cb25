"""The embedded firmware on a whole PC: what it finds, what it starts, what it serves; on both accelerators."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from plugins.firmware import DEMO_DISK, EMBEDDED
from plugins.firmware.build import TREE
from qom.cli.options import CommandLine
from qom.cli.system import machine
from qom.errors import AccelError

SECONDS = 60.0  # only ever waited for when something is broken
Boot = Callable[..., str]


@pytest.fixture(params=["simulated", "kvm"])
def boot(request: pytest.FixtureRequest) -> Boot:
    """Boot a PC from `disk` with more arguments; what it writes on the serial port until it ends, or until `until`."""

    def run(*arguments: str, disk: Path | None = None, until: str | None = None, debug: list[str] | None = None) -> str:
        line = ["-M", "pc", "-accel", request.param, "-bios", str(EMBEDDED), "-nodefaults", "-no-reboot", *arguments]
        line += ["-chardev", "ringbuf,id=serial,size=65536", "-serial", "chardev:serial"]
        line += ["-chardev", "ringbuf,id=debug,size=65536"]
        if debug is not None:
            line += ["-device", "isa-debugcon,iobase=0x402,chardev=debug"]
        line += ["-device", "isa-debug-exit,iobase=0x501,iosize=2"]
        if disk is not None:
            line += ["-drive", f"file={disk},format=raw,if=ide,snapshot=on"]
        try:
            with machine(CommandLine().parse(line).builder.finish(), "test") as vm:
                vm.start_loop()
                vm.cont()
                text = ""
                for _ in range(int(SECONDS * 20)):
                    ended = vm.wait(0.05)
                    text += vm.root.resolve("/chardevs/serial").take().decode("ascii")
                    if ended or (until is not None and until in text):
                        break
                else:
                    pytest.fail(f"no end within {SECONDS} s; so far: {text}")
                assert vm.failure is None
                if debug is not None:
                    debug.append(vm.root.resolve("/chardevs/debug").take().decode("ascii"))
                return text
        except AccelError as error:
            pytest.skip(str(error))

    return run


@pytest.mark.parametrize("processors", [1, 4])
def test_it_finds_memory_and_processors_and_no_disk(boot: Boot, processors: int) -> None:
    debug: list[str] = []
    text = boot("-m", "96", "-smp", str(processors), until="No bootable device.\r\n", debug=debug)
    assert text == (
        f"qom firmware 0.1\r\nmemory: 96 MiB\r\nprocessors: {processors} started\r\nNo bootable device.\r\n"
    )
    assert debug == [text]


def test_it_finds_memory_above_4_gib(boot: Boot) -> None:
    text = boot("-m", "6G", until="No bootable device.\r\n")
    assert "memory: 6144 MiB\r\n" in text


def test_it_boots_a_sector(boot: Boot) -> None:
    text = boot("-m", "32", disk=TREE / "tests" / "guests" / "hello_serial.bin")
    assert text.endswith("disk 80h: 1 sectors\r\nBooting from disk 80h.\r\nHello from a boot sector.\r\n")


def test_a_disk_without_signature_is_not_booted(boot: Boot, tmp_path: Path) -> None:
    disk = tmp_path / "blank.img"
    disk.write_bytes(bytes(512 * 64))
    text = boot("-m", "32", disk=disk, until="No bootable device.\r\n")
    assert text.endswith("disk 80h: 64 sectors\r\nNo bootable device.\r\n")


def test_the_demonstration_guest_comes_to_its_end(boot: Boot) -> None:
    text = boot("-m", "64", "-smp", "2", disk=DEMO_DISK)
    assert "processors: 2 started\r\n" in text
    assert "  0000000000100000 + 0000000003f00000  usable\r\n" in text
    assert "  0000000000000000 + 000000000009fc00  usable\r\n" in text
    assert re.search(r"My processor says it is \S.{11}, family \d+, model \d+, stepping \d+\r\n", text)
    assert "Halting until the timer interrupt has come ten times ... 10 ticks, " in text
    assert "Primes below 10000, by a sieve in 32-bit protected mode: 1229, the largest is 9973\r\n" in text
    assert text.endswith("That is all. Switching the machine off.\r\n")


def test_bios_services(boot: Boot, tmp_path: Path) -> None:
    image = (TREE / "tests" / "guests" / "services.bin").read_bytes()
    disk = tmp_path / "services.img"
    disk.write_bytes(image + bytes(i // 512 & 0xFF for i in range(len(image), 512 * 1100)))
    text = boot("-m", "32", disk=disk)
    lines = text.split("Booting from disk 80h.\r\n")[1].split("\r\n")
    assert [line for line in lines if line.endswith(" wrong")] == []
    assert lines == [
        "11",
        "12",
        "13/08",
        "13/02",
        "13/42",
        "13/err",
        "13/15",
        "13/41",
        "13/48",
        "15/88",
        "1a",
        "end",
        "",
    ]
