"""Random machines: each is built, written, built again, and taken apart, and nothing is left of it.

`QOM_RANDOM_MACHINES=5000 pytest tests/machines/test_random_machines.py` builds that many instead of the usual few.
"""

from __future__ import annotations

import gc
import mmap
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_machines import Shop, built, change, changes, configs

from accel.handles import Handle
from accel.memory_slots import MemorySlots
from qom.config import ConfigBuilder, MachineConfig, load
from qom.config.write import FORMATS, dumps
from qom.hw import AddressSpace, Clock, Line, Pin, RamBlock, Region, Timer
from qom.object import Object
from qom.show import diff, portrait
from qom.vm.mainloop import MainLoop
from qom.vm.observe import Observatory
from qom.vm.vm import VirtualMachine

HOW_MANY = int(os.environ.get("QOM_RANDOM_MACHINES", "60"))
# The time an example takes is the machine's business, not the test's.
STEADY = settings(deadline=None, max_examples=HOW_MANY, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.open(tmp_path_factory.mktemp("shop"))


def descriptors() -> list[str]:
    """What this process holds open."""
    out = []
    for name in os.listdir("/proc/self/fd"):
        try:
            out.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue  # the listing's own
    return sorted(out)


def mapped() -> list[str]:
    """The files and devices mapped into this process; what is mapped anonymously is a RamBlock's, or the allocator's."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        names = [line.split(maxsplit=5)[5].strip() for line in maps if len(line.split(maxsplit=5)) == 6]
    return sorted(name for name in names if (name[0] == "/" and ".so" not in name) or name.startswith("anon_inode"))


def alive() -> dict[int, object]:
    """What machines are made of, all that there is of it in the process and is not frozen."""
    kinds = (Object, VirtualMachine, Region, RamBlock, AddressSpace, Line, Pin, Timer, Handle, MainLoop, Observatory)
    known: dict[type, bool] = {}  # asking each object by isinstance takes ten times as long
    out: dict[int, object] = {}
    for found in gc.get_objects():
        kind = type(found)
        if kind not in known:
            known[kind] = issubclass(kind, kinds)
        if known[kind]:
            out[id(found)] = found
    return out


class Remains:
    """What there was before a machine, and what of the machine there must not be after it."""

    def __init__(self) -> None:
        self.threads = set(threading.enumerate())
        self.descriptors = descriptors()
        self.mapped = mapped()
        self.before = set(alive())
        self.objects: list[weakref.ref[Any]] = []
        self.regions: list[Region] = []
        self.spaces: list[AddressSpace] = []
        self.blocks: list[RamBlock] = []
        self.clocks: list[Clock] = []
        self.slots: list[MemorySlots] = []

    def watch(self, vm: VirtualMachine) -> None:
        """Note what a machine consists of."""
        self.objects += [weakref.ref(vm), *(weakref.ref(obj) for obj in vm.root.walk())]
        bus, accel = vm.machine.system_bus, vm.machine.accel
        self.regions += [bus.memory, bus.io]
        there = [found for number, found in alive().items() if number not in self.before]
        self.spaces += [found for found in there if isinstance(found, AddressSpace)]
        self.blocks += [found for found in there if isinstance(found, RamBlock)]
        self.clocks.append(vm.clock)
        if (slots := getattr(accel, "slots", None)) is not None:
            self.slots.append(slots)

    def check(self) -> None:
        """The machines are closed, and nobody refers to them."""
        assert [r.name for r in self.regions if r.subregions] == []
        assert [(s.name, x) for s in self.spaces for x in s._listeners] == []
        assert [slot for slots in self.slots for slot in slots.slots.values()] == []
        assert [b.name for b in self.blocks if not b.closed] == []
        assert [timer for clock in self.clocks for _, _, timer in clock._heap if timer.pending] == []
        for noted in (self.regions, self.spaces, self.slots, self.blocks, self.clocks):
            noted.clear()  # type: ignore[attr-defined]
        assert set(threading.enumerate()) == self.threads
        assert descriptors() == self.descriptors
        assert mapped() == self.mapped
        gc.collect()
        assert [repr(ref()) for ref in self.objects if ref() is not None] == []
        assert [repr(found) for number, found in alive().items() if number not in self.before] == []


def lived(config: MachineConfig, later: list[tuple[str, int]], format: str, shop: Shop) -> bool:
    """The life of one machine and of its like, built from a file of that format; False when it is refused."""
    remains = Remains()
    vm = built(config, shop.types)
    if vm is None:
        remains.check()
        return False
    with vm:
        remains.watch(vm)
        change(vm, later)
        text, seen = dumps(vm.dump(), format, vm.registry), portrait(vm)
    file = shop.folder / f"dumped.{format}"
    file.write_text(text, encoding="utf-8")
    with VirtualMachine(load(file), shop.types) as vm:
        remains.watch(vm.build())
        assert [d.text for d in diff(seen, vm)] == []
        assert dumps(vm.dump(), format, vm.registry) == text
    del vm
    remains.check()
    return True


@pytest.mark.slow
def test_random_machines_are_built_written_built_again_and_leave_nothing(shop: Shop) -> None:
    count = [0, 0]
    reached: set[str] = set()

    @STEADY
    @given(configs(shop), changes(), st.sampled_from(FORMATS))
    def each(config: MachineConfig, later: list[tuple[str, int]], format: str) -> None:
        count[lived(config, later, format, shop)] += 1
        reached.update(entry.driver for entry in (*config.devices, *config.objects))
        reached.update(f"block-{drive.format}" for drive in config.drives)

    gc.collect()
    gc.freeze()  # what is there before is not looked at again and again
    try:
        each()
    finally:
        gc.unfreeze()
    refused, lived_on = count
    assert refused * 20 <= refused + lived_on, f"{refused} of {refused + lived_on} machines were refused"
    if HOW_MANY >= 1000:  # fewer may miss one by chance
        wanted = {t.name for t in shop.user_devices()} | {
            t.name for t in shop.types.types("user-creatable", abstract=False)
        }
        wanted |= {t.name for t in shop.types.types("block-backend", abstract=False)}
        wanted -= {"i8257"}  # its ports are fixed, and a board that has an ISA bus has it already
        assert wanted - reached == set()


def test_what_is_left_would_be_seen(shop: Shop) -> None:
    """The checks themselves: a descriptor, a thread, an object, a mapping that stays."""

    def check_after(leave: Callable[[VirtualMachine], Callable[[], object]]) -> str:
        remains = Remains()
        remains_of[:] = [remains]
        build = ConfigBuilder()
        build.machine({"type": "none"}, "tests")
        build.accel({"accel": "qtest"}, "tests")
        build.plain("nodefaults", True, "tests")
        with VirtualMachine(build.finish(), shop.types) as vm:
            remains.watch(vm.build())
            take_back = leave(vm)
        del vm
        with pytest.raises(AssertionError) as error:
            remains.check()
        take_back()
        return str(error.value)

    def leave_descriptor(vm: VirtualMachine) -> Callable[[], object]:
        number = os.open("/dev/null", os.O_RDONLY)
        return lambda: os.close(number)

    def leave_thread(vm: VirtualMachine) -> Callable[[], object]:
        event = threading.Event()
        thread = threading.Thread(target=event.wait, name="left over", daemon=True)
        thread.start()
        return lambda: (event.set(), thread.join())

    def leave_object(vm: VirtualMachine) -> Callable[[], object]:
        return vm.root.resolve("/chardevs").children

    def leave_region(vm: VirtualMachine) -> Callable[[], object]:
        region = vm.machine.system_bus.io.add(0, Region("left over", 4))
        return lambda: region

    def leave_mapping(vm: VirtualMachine) -> Callable[[], object]:
        (shop.folder / "mapped").write_bytes(bytes(4096))
        with (shop.folder / "mapped").open("r+b") as file:
            return mmap.mmap(file.fileno(), 4096).close

    def leave_timer(vm: VirtualMachine) -> Callable[[], object]:
        timer = vm.clock.timer(lambda: None, "left over")
        timer.arm(1)
        return timer.cancel

    def leave_block(vm: VirtualMachine) -> Callable[[], object]:
        kept.append(RamBlock("left over", 4096))
        remains_of[0].watch(vm)
        return kept.pop().close

    kept: list[RamBlock] = []
    remains_of: list[Remains] = []
    assert "/dev/null" in check_after(leave_descriptor)
    assert "mapped" in check_after(leave_mapping)
    assert "left over" in check_after(leave_timer)
    assert "left over" in check_after(leave_block)
    assert "left over" in check_after(leave_thread)
    assert "<root />" in check_after(leave_object)
    assert "io" in check_after(leave_region)
