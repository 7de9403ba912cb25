"""The processor models: what CPUID says, held against the manuals' numbers; what is left out, and what is said of it."""

from __future__ import annotations

import os
import struct
from typing import Any

import attrs
import pytest

from accel import SimulatedAccel, VmHandle
from plugins.cpu.cpuid import CpuidEntry, Identity, Topology, build_cpuid, offered_features, with_tsc_frequency
from plugins.cpu.features import ALIASES, AMD_COPIES, FEATURES, NEEDS, unmet
from plugins.cpu.models import MODELS
from qom import ConfigError, QomError, open_machine

ONE = Topology(0, 1, 1)
needs_kvm = pytest.mark.skipif(
    not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm here that may be opened"
)


def everything() -> list[CpuidEntry]:
    """An accelerator that offers every feature there is a name for."""
    masks: dict[tuple[int, int], dict[str, int]] = {}
    for feature in FEATURES.values():
        row = masks.setdefault((feature.function, feature.index), {})
        row[feature.register] = row.get(feature.register, 0) | 1 << feature.bit
    vendor = dict(zip(("ebx", "edx", "ecx"), struct.unpack("<3I", b"GenuineIntel"), strict=True))
    masks[0, 0] = {"eax": 0x16, **vendor}
    masks[1, 0]["eax"] = 0x50657  # family 6, model 85, stepping 7
    masks[0x80000000, 0] = {"eax": 0x8000001E}
    for n, part in enumerate(struct.iter_unpack("<4I", b"A host's processor".ljust(48, b"\0"))):
        masks[0x80000002 + n, 0] = dict(zip(("eax", "ebx", "ecx", "edx"), part, strict=True))
    masks[0x80000008, 0]["eax"] = 46 | 48 << 8
    masks[0xD, 0] = {"eax": 0x2E7, "ebx": 2696, "ecx": 2696}
    for n, (size, offset) in {2: (256, 576), 5: (64, 1088), 6: (512, 1152), 7: (1024, 1664), 9: (8, 2688)}.items():
        masks[0xD, n] = {"eax": size, "ebx": offset}
    indexed = (4, 7, 0xB, 0xD)
    return [
        CpuidEntry(f, i, int(f in indexed), *(row.get(r, 0) for r in ("eax", "ebx", "ecx", "edx")))
        for (f, i), row in masks.items()
    ]


def leaves_of(
    name: str, topology: Topology = ONE, supported: list[CpuidEntry] | None = None, **own: Any
) -> dict[tuple[int, int], tuple[int, ...]]:
    model, offered = MODELS[name], supported or everything()
    wanted = frozenset(FEATURES) if model.features is None else model.features
    wanted &= offered_features(offered)
    identity = Identity.of(model, wanted, offered, **own)
    made = build_cpuid(identity, wanted, offered, topology)
    assert made == sorted(made)
    return {(e.function, e.index): attrs.astuple(e)[3:] for e in made}


def test_no_bit_has_two_names_and_no_name_two_bits() -> None:
    places = [(f.function, f.index, f.register, f.bit) for f in FEATURES.values()]
    assert len(set(places)) == len(places)
    assert set(ALIASES.values()) <= FEATURES.keys() and not ALIASES.keys() & FEATURES.keys()
    assert FEATURES["avx2"].place == "CPUID.07H.0:EBX[bit 5]"


def test_what_a_feature_needs_has_a_name_and_every_model_has_it() -> None:
    assert NEEDS.keys() <= FEATURES.keys()
    assert {need for needs in NEEDS.values() for need in needs} <= FEATURES.keys()
    for model in MODELS.values():
        if model.features is not None:
            assert model.features <= FEATURES.keys(), model.name
            assert unmet(model.features) == {}, model.name
            assert model.optional <= model.features, model.name


def test_what_lacks_its_need_falls_with_all_that_stands_on_it() -> None:
    assert unmet({"avx2", "avx", "fma", "sse2", "sse", "fxsr", "fpu"}) == {"avx": "xsave", "avx2": "avx", "fma": "avx"}


def test_qemu64_announces_what_qemus_does() -> None:
    """The numbers are those of QEMU 7.2's qemu64 but for SVM, which is not modelled, and INVTSC."""
    leaves = leaves_of("qemu64")
    assert leaves[0, 0] == (0xD, 0x68747541, 0x444D4163, 0x69746E65)
    eax, ebx, ecx, edx = leaves[1, 0]
    assert (eax, ecx, edx) == (0x00060FB1, 0x80002001, 0x078BFBFD)
    assert ebx == 0x00010800  # APIC id 0, one logical processor, CLFLUSH of 64 bytes
    assert leaves[0x80000001, 0] == (0x00060FB1, 0, 1, 0x20100800 | 0x0783F3FD & 0x0183F3FF)
    assert leaves[0x80000000, 0][0] == 0x8000000A
    assert leaves[0x80000007, 0] == (0, 0, 0, 1 << 8)
    assert leaves[0x80000008, 0][0] == 46 | 48 << 8
    assert (0xD, 0) not in leaves and (2, 0) not in leaves


def test_amds_copies_are_the_manuals() -> None:
    assert sum(1 << FEATURES[name].bit for name in AMD_COPIES) == 0x0183F3FF


def test_signatures_of_real_processors() -> None:
    """CPUID signatures as Intel's and AMD's specification updates list them."""
    known = {"Nehalem": 0x106A3, "Westmere": 0x206C1, "SandyBridge": 0x206A1, "IvyBridge": 0x306A9, "Haswell": 0x306C4,
             "Broadwell": 0x306D2, "Skylake-Client": 0x506E3, "Opteron_G3": 0x100F23, "EPYC": 0x800F12,
             "EPYC-Rome": 0x830F10, "Penryn": 0x10673, "486": 0x480, "pentium": 0x543}  # fmt: skip
    for name, signature in known.items():
        assert leaves_of(name)[1, 0][0] == signature, name


def test_max_and_host_are_the_accelerators_own() -> None:
    for name in ("max", "host"):
        leaves = leaves_of(name)
        assert leaves[1, 0][0] == 0x50657
        assert struct.pack("<3I", *(leaves[0, 0][n] for n in (1, 3, 2))) == b"GenuineIntel"
        brand = b"".join(struct.pack("<4I", *leaves[0x80000002 + n, 0]) for n in range(3))
        assert brand.rstrip(b"\0") == b"A host's processor"
    assert leaves_of("max", brand="Mine", level=7)[0, 0][0] == 7
    assert (0xB, 0) not in leaves_of("max", level=7)


def test_the_highest_leaf_rises_with_the_features_and_not_above_what_is_said() -> None:
    small = MODELS["qemu32"]
    identity = Identity.of(small, {"fpu", "avx2", "xsave"}, everything())
    assert (identity.level, identity.xlevel) == (0xD, 0x80000004)
    assert Identity.of(small, {"fpu", "avx2"}, everything()).level == 7
    assert Identity.of(small, {"fpu", "avx2"}, everything(), level=4).level == 4
    assert Identity.of(small, {"fpu", "lm"}, everything()).xlevel == 0x80000004
    assert Identity.of(small, {"fpu", "invtsc"}, everything()).xlevel == 0x80000007


def test_topology_leaves() -> None:
    place = Topology(apic_id=0b1_101, cores=3, threads=2)  # package 1, core 2, thread 1
    leaves = leaves_of("Haswell", place)
    assert leaves[1, 0][1] == 0x0D060800
    assert leaves[1, 0][3] >> 28 & 1 == 1
    assert leaves[0xB, 0] == (1, 2, 0x100, 0xD)
    assert leaves[0xB, 1] == (3, 6, 0x201, 0xD)
    assert leaves[0xB, 2] == (0, 0, 2, 0xD)
    l1, l3 = leaves[4, 0], leaves[4, 3]
    assert (l1[0] >> 14 & 0xFFF, l1[0] >> 26, l3[0] >> 14 & 0xFFF, l3[0] >> 26) == (1, 3, 7, 3)
    assert leaves[4, 4] == (0, 0, 0, 0)
    for level, kind, size in ((1, 1, 32 << 10), (1, 2, 32 << 10), (2, 3, 512 << 10), (3, 3, 16 << 20)):
        _, ebx, ecx, _ = next(v for (f, _), v in leaves.items() if f == 4 and v[0] & 0xFF == level << 5 | kind)
        assert (((ebx >> 22) + 1) * ((ebx & 0xFFF) + 1) * (ecx + 1)) == size

    amd = leaves_of("EPYC", place)
    assert amd[0x80000008, 0][2] == 5 | 3 << 12
    assert amd[0x8000001E, 0] == (0xD, 2 | 1 << 8, 1, 0)
    assert amd[0x80000001, 0][2] & 2  # CmpLegacy
    assert amd[0x8000001D, 3][0] >> 14 & 0xFFF == 7
    assert (2, 0) not in amd and leaves[2, 0][0] & 0xFF == 1
    assert leaves_of("EPYC")[0x80000001, 0][2] & 2 == 0


def test_extended_state_is_what_the_features_need() -> None:
    leaves = leaves_of("Haswell")
    assert leaves[0xD, 0] == (0b111, 832, 832, 0)
    assert leaves[0xD, 1] == (1, 0, 0, 0)
    assert leaves[0xD, 2] == (256, 576, 0, 0)
    assert (0xD, 5) not in leaves
    skylake = leaves_of("Skylake-Client")
    assert skylake[0xD, 1] == (0b0111, 832, 0, 0)
    top = leaves_of("max")
    assert top[0xD, 0] == (0x2E7, 2696, 2696, 0)


# -- as devices


def machine(cpu: str, accel: str = "simulated", **more: Any) -> Any:
    return open_machine(machine="pc", accel=accel, memory="8M", cpu=cpu, **more)


def cpuid(vm: Any, n: int = 0) -> dict[tuple[int, int], CpuidEntry]:
    entries = vm.cpus[n].run_on(lambda: vm.cpus[n].vcpu.get_cpuid())
    return {(e.function, e.index): CpuidEntry(*attrs.astuple(e)) for e in entries}


def test_features_and_identity_are_properties() -> None:
    text = "qemu64,-cx8,family=6,model=0x2a,stepping=3,model-id=Mine,vendor=GenuineIntel,level=7,xlevel=0x80000004"
    with machine(text) as vm:
        found = cpuid(vm)
        assert found[1, 0].eax == 0x206A3
        assert not found[1, 0].edx >> 8 & 1
        assert struct.pack("<4I", *attrs.astuple(found[0x80000002, 0])[3:]).rstrip(b"\0") == b"Mine"
        assert (found[0, 0].eax, found[0, 0].ebx, found[0x80000000, 0].eax) == (7, 0x756E6547, 0x80000004)
        cpu = vm.cpus[0]
        assert cpu.get("cx8") is False and cpu.get("tsc") is True and cpu.get("sse3") is True


def test_other_spellings() -> None:
    with machine("qemu32,-sse3,sse4_1=off,lahf_lm=off") as vm:
        assert vm.cpus[0].get("pni") is False


def test_each_processor_has_its_place() -> None:
    with machine("max", smp={"cpus": 4, "cores": 2, "threads": 2}) as vm:
        ids = [cpuid(vm, n)[1, 0].ebx >> 24 for n in range(4)]
        assert ids == [0, 1, 2, 3]
        assert cpuid(vm)[1, 0].ebx >> 16 & 0xFF == 4


def test_what_the_accelerator_lacks_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with machine("qemu64,+avx512f,+vme", smp=2) as vm:
        lines = [line for line in vm.log_lines if "avx512f" in line]
        reason = "the accelerator does not offer it"
        assert lines == [f"warning: /machine/cpu0: feature 'avx512f' (CPUID.07H.0:EBX[bit 16]) is left out: {reason}"]
        assert not cpuid(vm)[7, 0].ebx >> 16 & 1
    assert "feature 'avx512f'" in capsys.readouterr().err


def test_nothing_is_said_without_check_or_by_max() -> None:
    with machine("qemu32,+avx512f,check=off") as vm:
        assert not [line for line in vm.log_lines if line.startswith("warning")]
    with machine("max") as vm:
        assert not [line for line in vm.log_lines if line.startswith("warning")]


def test_enforce_refuses() -> None:
    with pytest.raises(QomError) as caught:
        machine("qemu32,+avx512f,enforce=on")
    assert (
        "model 'qemu32' is refused: feature 'avx512f' (CPUID.07H.0:EBX[bit 16]) cannot be given: the accelerator does not"
        " offer it: expected a model or features without, or enforce=off"
    ) in str(caught.value)


@pytest.mark.parametrize("accel", [pytest.param("kvm", marks=needs_kvm), "simulated"])
def test_without_msrs_for_user_space_there_is_no_x2apic(accel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """KVM before Linux 5.10: the local APIC of user space cannot have registers that are MSRs."""
    ask = VmHandle.check_extension

    def old(vm: VmHandle, capability: str) -> int:
        return 0 if capability == "KVM_CAP_X86_USER_SPACE_MSR" else ask(vm, capability)

    with machine("max,+x2apic,+tsc-deadline", accel=accel) as vm:
        before = cpuid(vm)[1, 0].ecx
    monkeypatch.setattr(VmHandle, "check_extension", old)
    with machine("max,+x2apic,+tsc-deadline", accel=accel) as vm:
        assert before & ~cpuid(vm)[1, 0].ecx == 1 << 21 | 1 << 24
        warned = [line for line in vm.log_lines if line.startswith("warning")]
    assert warned == [
        "warning: /machine/cpu0: feature 'tsc-deadline' (CPUID.01H:ECX[bit 24]) is left out: the accelerator does not offer it",
        "warning: /machine/cpu0: feature 'x2apic' (CPUID.01H:ECX[bit 21]) is left out: the accelerator does not offer it",
    ]


def test_leaf_15h_has_the_ratio_of_tsc_and_crystal() -> None:
    crystal = [CpuidEntry(1, 0, 0, 1, 2, 3, 4), CpuidEntry(0x15, 0, 0, 1, 1, 1_000_000_000, 0)]
    assert with_tsc_frequency(crystal, 2_400_000_000) == [crystal[0], CpuidEntry(0x15, 0, 0, 5, 12, 1_000_000_000, 0)]
    unknown = [CpuidEntry(0x15, 0, 0, 2, 216, 0, 0)]
    assert with_tsc_frequency(unknown, 2_400_000_000) == [CpuidEntry(0x15, 0, 0, 0, 0, 0, 0)]


def test_tsc_frequency() -> None:
    with machine("Haswell,level=0x15,tsc-frequency=2500000000", smp=2) as vm:
        for cpu in vm.cpus:
            assert cpu.run_on(cpu.vcpu.tsc_khz) == 2_500_000
            assert attrs.astuple(cpuid(vm, cpu.index)[0x15, 0])[3:] == (2, 5, 1_000_000_000, 0)
        offsets = {cpu.run_on(cpu.vcpu.tsc_offset) for cpu in vm.cpus}
        assert len(offsets) == 1  # in step
    with machine("qemu64") as vm:
        assert vm.cpus[0].run_on(vm.cpus[0].vcpu.tsc_khz) == 1_000_000


def test_a_tsc_that_cannot_be_scaled_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedAccel, "can_scale_tsc", lambda accel: False)
    with machine("max,tsc-frequency=2500000000", smp=2) as vm:
        warned = [line for line in vm.log_lines if "tsc-frequency" in line]
        assert cpuid(vm)[0x15, 0].ebx == 1 and vm.cpus[0].run_on(vm.cpus[0].vcpu.tsc_khz) == 1_000_000
    assert warned == [
        "warning: /machine/cpu0: 'tsc-frequency' of 2500000000 Hz is left out: the accelerator cannot scale the TSC"
    ]
    with pytest.raises(
        QomError, match="'tsc-frequency' of 2500000000 Hz cannot be given: the accelerator cannot scale"
    ):
        machine("max,tsc-frequency=2500000000,enforce=on")


def test_host_is_for_kvm() -> None:
    with pytest.raises(QomError) as caught:
        machine("host")
    assert "model 'host' is the host's own processor, which only KVM gives: expected -accel kvm" in str(caught.value)


WRONG = {
    "qemu64,+avx51": "unknown processor feature 'avx51'; did you mean 'avx512f'",
    "qemu64,vendor=Intel": "property 'vendor' cannot be 'Intel': expected 12 ASCII characters",
    "qemu64,family=999": "processor feature 'family' cannot be '999': expected an integer in 0..270",
    "qemu64,avx=perhaps": "processor feature 'avx' cannot be 'perhaps': expected on or off",
    "qemu64,tsc-frequency=1": "processor feature 'tsc-frequency' cannot be '1': expected an integer in 1000000..100000000000",
    "Nehalm": "unknown processor model 'Nehalm'; did you mean 'Nehalem'?",
    "qemu64,index=3": "unknown processor feature 'index'; -device qemu64-x86_64-cpu,help lists them",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_words_have_one_clear_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        machine(text)
    assert WRONG[text] in str(caught.value)


def test_the_seed_is_a_property_of_the_accelerator() -> None:
    # mov di, 1000h; mov cx, 16; again: rdrand ax; stosw; loop again; mov dx, 501h; out dx, al; hlt
    guest = bytes.fromhex("bf0010 b91000 0fc7f0 ab e2fa ba0105 ee f4")

    def numbers(seed: int) -> bytes:
        exit_port = "isa-debug-exit,iobase=0x501"
        with open_machine(
            machine="pc", accel=f"simulated,seed={seed}", memory="8M", cpu="max", devices=[exit_port]
        ) as vm:
            vm.memory.write_bytes(0x2000, guest)
            vm.cpus[0].registers.set({"cs": 0, "cs.base": 0, "es": 0, "es.base": 0, "rip": 0x2000})
            vm.run()
            return bytes(vm.memory.read_bytes(0x1000, 32))

    assert numbers(1) == numbers(1) != numbers(2)
