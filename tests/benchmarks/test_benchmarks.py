"""The harness: that its arithmetic is right, its loops are what it claims, and its page says what was measured."""

import struct
import sys
from pathlib import Path

import pytest

from benchmarks import linux, loops, observers, profile
from benchmarks.__main__ import check_counts, measure_boot, measure_loop, measure_objects
from benchmarks.devices import Cost, cost, description, measure_devices
from benchmarks.peers import BenchmarkError, Ours, Peer, Qemu, Time
from benchmarks.report import Row, number, spread, table
from benchmarks.starting import measure_starting, start


def rounds_of(image: bytes) -> int:
    return int(struct.unpack_from("<I", image, loops.WHICH + 4)[0])


class Fake(Peer):
    """Takes two seconds to start and a microsecond a round."""

    summary = "a fake"

    def __init__(self, name: str, speed: float = 1e6) -> None:
        self.name, self.speed, self.runs = name, speed, 0

    def why_not(self) -> str | None:
        return None

    def run_rom(self, image: bytes) -> Time:
        self.runs += 1
        return Time(1000.0, 2.0 + rounds_of(image) / self.speed)

    def boot(self, disk: object) -> Time:
        return Time(1.0, 0.5)


def test_parameters_go_into_the_image() -> None:
    image = loops.image(loops.CALLS, 123456)
    assert len(image) == 0x10000
    assert struct.unpack_from("<II", image, loops.WHICH) == (2, 123456)
    assert loops.image(loops.CALLS, 0)[: loops.WHICH] == (loops.GUESTS / "loop.bin").read_bytes()[: loops.WHICH]


def test_start_up_cancels() -> None:
    assert loops.rate(Fake("f").run_rom, loops.REGISTERS, 1_000_001) == pytest.approx(1e6)


def test_a_run_that_measures_nothing_is_no_sample() -> None:
    with pytest.raises(loops.Unmeasurable, match="100 rounds of 'registers' take no longer than one"):
        loops.rate(lambda image: Time(1.0, 1.0), loops.REGISTERS, 100)
    row = measure_loop([Fake("flat", 1e300)], loops.REGISTERS, 2, 0.1)
    assert (row.samples, row.missing) == (
        {},
        {"flat": f"{loops.ROUNDS_MAX} rounds of 'registers' take no longer than one"},
    )


def test_calibration_finds_the_length() -> None:
    fake = Fake("f")
    assert loops.calibrate(fake.run_rom, loops.REGISTERS, 0.5) == pytest.approx(500_000, rel=0.01)
    assert fake.runs < 12


def test_calibration_ends_for_something_infinitely_fast() -> None:
    assert loops.calibrate(lambda image: Time(2.0, 2.0), loops.REGISTERS, 0.5) == loops.ROUNDS_MAX


def test_peers_take_turns_and_a_failing_one_is_left_out() -> None:
    class Broken(Fake):
        def run_rom(self, image: bytes) -> Time:
            raise BenchmarkError("broken: no end\nmore")

    row = measure_loop([Fake("one"), Broken("two"), Fake("three", 2e6)], loops.REGISTERS, 3, 0.1)
    assert row.missing == {"two": "broken: no end"}
    assert {name: [round(v) for v in values] for name, values in row.samples.items()} == {
        "one": [10] * 3,
        "three": [20] * 3,
    }


def test_page() -> None:
    up = Row("speed", "text", "M/s", True, {"a": [1.0, 2.0, 4.0], "ref": [4.0, 4.0, 4.0]}, {"b": "not there"})
    down = Row("time", "text", "s", False, {"a": [0.5], "ref": [2.0]})
    host = {"processor": "P", "processors": 2, "kernel": "6", "python": "3", "rounds": 3, "load": [0.1, 1.0]}
    page = table([up, down], {**host, "peers": {"a": "A", "ref": "R"}, "absent": {"c": "no c"}}, "ref")
    lines = page.splitlines()
    assert "Host: P, 2 processors, Linux 6, CPython 3; 3 rounds; load average 0.1 before, 1.0 after." in lines
    assert "| | unit | a | ref | b |" in lines
    assert "| speed: text | M/s | 2.00 (-50/+100 %) 0.50x | 4.00 (-0/+0 %) |  |" in lines
    assert "| time: text | s | 0.50 (-0/+0 %) 4.00x | 2.00 (-0/+0 %) |  |" in lines
    assert "- speed, b: not there" in lines
    assert "- c: not measured, no c" in lines


def test_numbers() -> None:
    assert [number(v) for v in (0.1234, 12.34, 1234.5)] == ["0.12", "12.3", "1234"]
    assert spread([1.0, 2.0, 3.0]) == "-50/+50 %"


def test_loops_have_the_instructions_they_claim() -> None:
    peer = Ours("simulated")
    if (why := peer.why_not()) is not None:
        pytest.skip(why)
    assert {"registers", "memory", "calls"} <= set(check_counts(peer))


def test_port_loop_reaches_the_device() -> None:
    peer = Ours("simulated")
    if (why := peer.why_not()) is not None:
        pytest.skip(why)
    assert 0 < peer.run_ports(loops.image(loops.OUTPUT, 1000)).processor < 60
    assert 0 < peer.run_ports(loops.image(loops.INPUT, 1000)).processor < 60


def test_object_rows() -> None:
    rows = measure_objects(1)
    assert [row.name for row in rows] == ["object creation", "property set", "property get"]
    assert all(row.samples["qom simulated"][0] > 0 for row in rows)


def test_a_peer_that_fails_to_boot_has_a_reason_and_no_samples() -> None:
    class Unbootable(Fake):
        def boot(self, disk: object) -> Time:
            raise BenchmarkError("two: exit status 7: no disk")

    whole, cost, inside = measure_boot([Fake("one"), Unbootable("two")], 2)
    assert (whole.samples, whole.missing) == ({"one": [1.0, 1.0]}, {"two": "two: exit status 7: no disk"})
    assert cost.samples == {"one": [0.5, 0.5]}
    assert (inside.samples, inside.missing) == ({}, {})


def test_a_kernel_that_ends_otherwise_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Boots(Fake):
        def linux(self, kernel: Path, initrd: Path, command_line: str, end: str) -> Time:
            assert (kernel, command_line, end) == (Path("k"), "console=ttyS0 panic=-1", "reboot: Power down")
            return Time(3.0, 2.0)

    monkeypatch.setattr(linux, "prepare", lambda flavour, folder: linux.Boot(flavour, Path("k"), Path("i")))
    wall, cost = linux.measure_linux([Boots("one"), Fake("two")], 2, ("cloud-amd64",))
    assert (wall.samples, cost.samples) == ({"one": [3.0, 3.0]}, {"one": [2.0, 2.0]})
    assert wall.missing == {"two": "two: starts no kernel by itself"}


def test_a_kernel_that_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(flavour: str, folder: Path) -> linux.Boot:
        raise BenchmarkError(f"no {flavour}")

    monkeypatch.setattr(linux, "prepare", nothing)
    wall, cost = linux.measure_linux([Fake("one")], 1, ("amd64",))
    assert (wall.missing, wall.samples, cost.samples) == ({"one": "no amd64"}, {}, {})


def test_processors_are_compared_on_the_wall() -> None:
    class Two(Fake):
        def run_several(self, processors: int, image: bytes) -> Time:
            assert processors == 2
            return Time(1.0 + rounds_of(image) / 1e6, 0.0)

    row = measure_loop([Two("two"), Fake("one")], loops.TOGETHER, 1, 0.1)
    assert row.samples == {"two": [pytest.approx(18.0)]}
    assert row.missing == {"one": "one: measured with one processor only"}


def test_samples_are_told_apart_by_what_they_are_in() -> None:
    lines = ["  40.00%  _core.cpython-311.so  [.] op_mov_GE_m64_b", "  20.00%  _core.cpython-311.so  [.] op_ret_s64"]
    lines += ["  10.00%  _core.cpython-311.so  [.] op_cmp_EG_r64_jz", "  9.00%  _core.cpython-311.so  [.] page_walk"]
    lines += [
        "  8.00%  _core.cpython-311.so  [.] code_lookup",
        "  7.00%  libpython3.11.so.1.0  [.] _PyEval_EvalFrameDefault",
    ]
    lines += ["  4.00%  [kernel.kallsyms]  [k] clear_page", "  2.00%  _core.cpython-311.so  [.] vcpu_run", "nothing"]
    lines += ["  1.50%  [JIT] tid 908  [.] 0x00007f6dc2e11bd6", "  0.50%  [JIT] tid 908  [.] 0x00007f6dc2e01c95"]
    assert profile.parts_of(lines) == {
        "loads, stores, moves, LEA": 40.0,
        "calls, returns, jumps, the stack": 20.0,
        "arithmetic, logic, shifts, with a branch or without": 10.0,
        "memory beside the fast path, page walks, the TLB": 9.0,
        "code: finding, decoding, translating, dropping blocks": 8.0,
        "Python: devices, timers, serial port, start-up": 7.0,
        "the host's kernel": 4.0,
        "the run loop, events, exits": 2.0,
        "machine code made of the guest's": 2.0,
    }
    assert "| the host's kernel | 4.00 |" in profile.page({"amd64": (profile.parts_of(lines), lines[:1])})


def test_devices_are_the_same_for_both() -> None:
    assert description(0) == ""
    assert description(2).splitlines()[4:] == [
        '[device "d1"]',
        '  driver = "isa-debug-exit"',
        '  iobase = "0x1004"',
        '  iosize = "4"',
    ]


@pytest.mark.parametrize("peer", [Ours("simulated"), Qemu()], ids=lambda peer: peer.name)
def test_a_machine_with_many_devices_is_held_and_ends(peer: Peer) -> None:
    if (why := peer.why_not()) is not None:
        pytest.skip(why)
    found = cost(peer, 50)
    assert 0 < found.build <= found.whole
    assert found.memory > 1000


def test_what_goes_wrong_with_devices_is_said() -> None:
    class Nobody(Fake):
        def holding(self, devices: Path) -> tuple[list[str], bytes, bytes, bytes]:
            return [sys.executable, "-c", "import sys; sys.exit('no such device')"], b"", b"built", b""

    with pytest.raises(BenchmarkError, match="one: 5 devices: exit status 1: no such device"):
        cost(Nobody("one"), 5)
    rows = measure_devices([Nobody("one"), Fake("reads no files")], 1)
    assert all(row.missing == {"one": "one: 250 devices: exit status 1: no such device"} for row in rows)
    assert not any(row.samples for row in rows)


def test_costs_a_device_are_over_those_of_the_smallest_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Holds(Fake):
        def holding(self, devices: Path) -> tuple[list[str], bytes, bytes, bytes]:
            raise AssertionError("not asked here")

    monkeypatch.setattr(Holds, "holding", lambda self, devices: ([], b"", b"", b""))
    monkeypatch.setattr(
        "benchmarks.devices.cost", lambda peer, n: Cost(1.0 + (n - 100) ** 2 * 1e-6, 5000.0 + 8 * n, 1.5 + n * 2e-4)
    )
    rows = {row.name: row for row in measure_devices([Holds("h")], 3, (100, 200, 400))}
    assert rows["200 devices made"].samples["h"] == pytest.approx([100.0] * 3)
    assert rows["400 devices made and taken away"].samples["h"] == pytest.approx([200.0] * 3)
    assert rows["200 devices kept"].samples["h"] == pytest.approx([8.0] * 3)
    assert "100 devices kept" not in rows
    assert rows["growth"].samples["h"] == pytest.approx([3.0] * 3)
    assert rows["growth"].text == "time a device at 400 over that at 200; 1 is linear"


def test_the_cost_of_observers_is_a_ratio_to_nobody() -> None:
    rows = [Row(name, "", "exits/s", higher_is_better=True) for name in ("port writes", "port reads")]
    for row in rows:
        row.samples = {name: [500.0] for name in observers.LISTENERS}
        row.samples["one, to exits"] = [125.0]
    lines = observers.text(rows).splitlines()
    assert lines[2] == "| nobody | 500 (-0/+0 %) | 1.00 | 500 (-0/+0 %) | 1.00 |"
    assert lines[-1] == "| one, to exits | 125 (-0/+0 %) | 0.25 | 125 (-0/+0 %) | 0.25 |"


def test_each_kind_of_listener_hears_what_it_should() -> None:
    image = loops.image(loops.OUTPUT, 50)
    for name in observers.LISTENERS:
        assert observers.Listened("simulated", name).run_ports(image).processor > 0


@pytest.mark.parametrize("peer", [Ours("qtest"), Qemu()], ids=["ours", "QEMU"])
def test_a_start_is_measured_from_greeting_to_tree(peer: Peer) -> None:
    if isinstance(peer, Qemu) and (why := peer.why_not()):
        pytest.skip(why)
    took = start(peer)
    assert 0 < took.greeting < took.built and took.tree > 0
    assert took.objects > 20 and took.properties > 200


def test_a_start_that_fails_is_said() -> None:
    rows = measure_starting([Fake("mute"), Ours("no-such")], 1)
    assert rows[0].missing["mute"] == "mute: it has no QMP"
    assert rows[0].missing["qom no-such"].startswith("qom no-such: qom-system-x86_64: ")
    assert "unknown accelerator 'no-such'" in rows[0].missing["qom no-such"]
    assert [row.samples for row in rows] == [{}, {}, {}, {}]
