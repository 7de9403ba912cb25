"""tinyboard from its reset vector to its exit port, on the simulated accelerator."""

import pytest
from qom_tinyboard import TinyBoard, TinyIsaBridge

from qom import ConfigBuilder, ConfigError, RealizeError, VirtualMachine, default_registry


def builder(tmp_path):
    made = ConfigBuilder()
    made.machine({"type": "tinyboard"}, "the test")
    made.debugcon(f"file:{tmp_path / 'out'}", "the test")
    made.serial("none", "the test")
    return made


def machine(config):
    registry = default_registry(load_external=False)
    for cls in (TinyIsaBridge, TinyBoard):
        registry.register(cls, origin="qom-tinyboard")
    return VirtualMachine(config, registry)


def test_the_rom_greets_and_ends_the_machine(tmp_path):
    with machine(builder(tmp_path).finish()) as vm:
        vm.build()
        assert vm.run() == 1
    assert (tmp_path / "out").read_text() == "tinyboard\n"


def test_its_parts_have_stable_names(tmp_path):
    with machine(builder(tmp_path).finish()) as vm:
        vm.build()
        paths = [obj.path for obj in vm.root.walk()]
    for path in ("/machine/cpu", "/machine/bridge/isa.0", "/machine/pic", "/machine/exit", "/machine/debugcon"):
        assert path in paths


def test_another_rom(tmp_path):
    rom = bytearray(b"\xf4" * 4096)
    code = b"\xb0\x21\xba\x01\x05\xee"  # mov $0x21,%al; mov $0x501,%dx; out %al,%dx
    rom[0xFF0 : 0xFF0 + len(code)] = code
    (tmp_path / "rom").write_bytes(rom)
    told = builder(tmp_path)
    told.plain("firmware", str(tmp_path / "rom"), "the test")
    with machine(told.finish()) as vm:
        vm.build()
        assert vm.run() == 0x43


def test_what_does_not_fit_is_refused(tmp_path):
    told = builder(tmp_path)
    told.memory({"size": "1M"}, "the test")
    with pytest.raises(RealizeError, match="ram-size is 1048576: expected 4k to 512k"):
        machine(told.finish()).build()
    told = builder(tmp_path)
    told.cpu("max", "-cpu max")
    with pytest.raises(ConfigError, match="-cpu max: tinyboard's processor is soldered on"):
        machine(told.finish()).build()
