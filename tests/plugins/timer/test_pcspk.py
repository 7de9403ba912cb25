"""The PC speaker, heard through its properties, its state and its line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qom.hw.bench import IsaBench, LineRecorder

CLK_HZ = 1_193_182
SECOND = 1_000_000_000
PORT, CONTROL, COUNT = 0x61, 0x43, 0x42
GATE, SPEAKER = 1, 2


class Speaker(IsaBench):
    """Timer and speaker, with the line that says whether a tone sounds."""

    def __init__(self) -> None:
        super().__init__()
        self.pit = self.add("isa-pit")
        self.speaker = self.add("isa-pcspk", pit=self.pit)
        self.line = LineRecorder("sound", 1)
        self.speaker.connect_out("sound", 0, self.line.line(0))

    def count(self, value: int, mode: int = 3) -> None:
        self.outb(CONTROL, 0xB0 | mode << 1)
        self.more(value)

    def more(self, value: int) -> None:
        self.outb(COUNT, value & 0xFF)
        self.outb(COUNT, value >> 8)


@pytest.fixture
def bench() -> Iterator[Speaker]:
    with Speaker() as made:
        yield made


def test_a_beep_with_its_times(bench: Speaker) -> None:
    bench.clock.step(1000)
    bench.count(1193)
    assert bench.speaker.get("frequency") == 0
    bench.outb(PORT, GATE | SPEAKER)
    assert (bench.speaker.get("frequency"), bench.line.levels[0]) == (1000, 1)
    bench.clock.step(SECOND // 2)
    bench.outb(PORT, 0)
    assert (bench.speaker.get("frequency"), bench.line.levels[0]) == (0, 0)
    assert bench.speaker.heard == [[1000, 1000], [1000 + SECOND // 2, 0]]
    assert bench.speaker.clicks == 0


@pytest.mark.parametrize("value", [0, GATE, SPEAKER])
def test_a_tone_needs_gate_and_speaker(bench: Speaker, value: int) -> None:
    bench.count(1000)
    bench.outb(PORT, value)
    assert bench.speaker.tone == 0 and bench.speaker.heard == []


def test_the_cone_follows_out2(bench: Speaker) -> None:
    bench.count(1000)
    bench.outb(PORT, GATE | SPEAKER)
    levels = []
    for _ in range(6):
        levels.append(bench.speaker.get("level"))
        bench.clock.step(500 * SECOND // CLK_HZ + 1)
    assert levels == [True, False, True, False, True, False]


def test_another_count_sounds_with_the_next_half_period(bench: Speaker) -> None:
    bench.count(1000)
    bench.outb(PORT, GATE | SPEAKER)
    bench.clock.step(1000)
    bench.more(2000)
    assert bench.speaker.tone == 1193
    bench.clock.step(SECOND)
    change = -(-500 * SECOND // CLK_HZ)
    assert bench.speaker.heard == [[0, 1193], [change, 597]]


def test_a_control_word_silences_until_a_count_comes(bench: Speaker) -> None:
    bench.outb(PORT, GATE | SPEAKER)
    bench.count(100)
    bench.clock.step(50)
    bench.outb(CONTROL, 0xB6)
    assert bench.speaker.tone == 0
    bench.clock.step(50)
    bench.more(200)
    tones = [hertz for _, hertz in bench.speaker.heard]
    assert tones == [18, 0, 11932, 0, 5966]  # at first the count is 65536, as after power-on


@pytest.mark.parametrize("mode", [0, 1, 4, 5])
def test_modes_without_a_period_give_no_tone(bench: Speaker, mode: int) -> None:
    bench.count(100, mode)
    bench.outb(PORT, GATE | SPEAKER)
    assert bench.speaker.tone == 0


def test_software_moves_the_cone_itself(bench: Speaker) -> None:
    """Sound by port 61h alone: counter 2 stands still with OUT2 high, bit 1 lets it through."""
    bench.count(1000)  # mode 3 with a low gate: OUT2 is high
    for n in range(7):
        bench.outb(PORT, SPEAKER if n % 2 == 0 else 0)
        assert bench.speaker.get("level") is (n % 2 == 0)
    assert (bench.speaker.clicks, bench.speaker.heard) == (7, [])


def test_reset_and_the_last_changes(bench: Speaker) -> None:
    bench.count(1000)
    for _ in range(300):
        bench.outb(PORT, GATE | SPEAKER)
        bench.outb(PORT, 0)
    assert len(bench.speaker.heard) == 256
    bench.outb(PORT, GATE | SPEAKER)
    bench.reset()
    assert (bench.speaker.tone, bench.speaker.heard, bench.line.levels[0], bench.inb(PORT) & 3) == (0, [], 0, 0)


def test_state_goes_over_with_a_change_pending(bench: Speaker) -> None:
    bench.count(1000)
    bench.outb(PORT, GATE | SPEAKER)
    bench.more(2000)
    for devices in (("pit", "speaker"), ("speaker", "pit")):
        with Speaker() as other:
            for name in devices:
                getattr(other, name).load_state(getattr(bench, name).save_state())
            assert other.line.levels[0] == 1 and other.speaker.tone == 1193
            other.clock.step(SECOND)
            assert other.speaker.heard == [[0, 1193], [-(-500 * SECOND // CLK_HZ), 597]]
