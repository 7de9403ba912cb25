"""The copier in a PC, with its driver as the guest, from machine.toml as it is."""

import zlib
from pathlib import Path

import pytest

from qom import QomError, open_machine

HERE = Path(__file__).parents[1]
PATIENCE = 60.0  # seconds of host time; the guest needs a fraction of one


def pattern(length):
    """What the driver copies."""
    return bytes(((n ^ n >> 8) + length) & 0xFF for n in range(length))


EXPECTED = (
    f"msi: 00001000 bytes, digest {zlib.crc32(pattern(4096)):08x}\n"
    f"msi-x: 00000040 bytes, digest {zlib.crc32(pattern(64)):08x}\n"
    "length 0: error reported\n"
    "no bus master: nothing copied\n"
)


def test_the_driver_reports_what_it_copied(monkeypatch):
    monkeypatch.chdir(HERE)
    with open_machine("machine.toml") as vm:
        vm.start()
        assert vm.wait(PATIENCE), vm.console("report").text
        assert (vm.console("report").text, vm.exit_status, vm.failure) == (EXPECTED, 33, None)


def test_without_msix_the_driver_says_so(monkeypatch):
    monkeypatch.chdir(HERE)
    with open_machine("machine.toml", globals={"pci-copier.msix": False}) as vm:
        vm.start()
        assert vm.wait(PATIENCE)
        assert vm.console("report").text.splitlines()[1:] == ["a capability is missing"]
        assert vm.exit_status == 3


def test_a_second_one_at_the_same_place_is_refused(monkeypatch):
    monkeypatch.chdir(HERE)
    with pytest.raises(QomError, match=r"addr 05\.0 on .* is taken by /machine/peripheral/copier \(pci-copier\)"):
        open_machine("machine.toml", devices=["pci-copier,addr=05.0"])
