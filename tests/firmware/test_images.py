"""Committed images: each is what its source builds to, and has the shape its readers rely on."""

from pathlib import Path

import pytest

from plugins.firmware import DEMO_DISK, EMBEDDED
from plugins.firmware.build import TREE, BuildError, build, image_path, link_address, main, missing_tools, sources

needs_binutils = pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools()))


def name(source: Path) -> str:
    return str(source.relative_to(TREE))


@needs_binutils
@pytest.mark.parametrize("source", sources(), ids=name)
def test_image_is_what_its_source_builds(source: Path) -> None:
    image = image_path(source)
    assert image.exists(), f"{image} is missing; python -m plugins.firmware.build"
    assert build(source) == image.read_bytes(), (
        f"{image} has drifted from {source.name}; python -m plugins.firmware.build"
    )


def test_every_image_has_a_source() -> None:
    images = {image for source in sources() for image in source.parent.glob("*.bin")}
    assert images == {image_path(source) for source in sources()}


def test_firmware_images_have_their_reset_vector_and_signatures() -> None:
    rom = EMBEDDED.read_bytes()
    assert len(rom) == 0x10000
    assert rom[0xFFF0] == 0xEA and rom[0xFFF3:0xFFF5] == bytes.fromhex("00f0")  # JMP F000:...
    assert rom[0xFFFE] == 0xFC
    disk = DEMO_DISK.read_bytes()
    assert len(disk) % 512 == 0 and disk[510:512] == b"\x55\xaa"


def test_link_address_is_read_from_the_source(tmp_path: Path) -> None:
    source = tmp_path / "x.S"
    source.write_text("# link: 0x7c00\n")
    assert link_address(source) == 0x7C00
    source.write_text("nop\n")
    assert link_address(source) == 0
    source.write_text("# link: somewhere\n")
    with pytest.raises(BuildError) as error:
        link_address(source)
    assert str(error.value) == f"{source}: 'link:' wants a number such as 0x7c00, not 'somewhere'"


@needs_binutils
def test_what_does_not_assemble_says_where(tmp_path: Path) -> None:
    source = tmp_path / "x.S"
    source.write_text(".intel_syntax noprefix\nnop\nfrobnicate eax\n")
    with pytest.raises(BuildError) as error:
        build(source)
    assert str(error.value).startswith(f"{source}: as failed:\n")
    assert f"{source}:3: Error: no such instruction: `frobnicate eax'" in str(error.value)


@needs_binutils
def test_empty_source_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "x.S"
    source.write_text("")
    with pytest.raises(BuildError) as error:
        build(source)
    assert str(error.value) == f"{source}: the linked image is empty; code belongs in .text"


@needs_binutils
def test_check_finds_drift_and_build_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "x.S"
    source.write_text("# link: 0x100\nnop\n.long target\ntarget:\n")
    assert main(["--check", str(source)]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'x.bin'}: is missing\n"
    assert main([str(source)]) == 0
    assert (tmp_path / "x.bin").read_bytes() == bytes.fromhex("9005010000")
    assert main(["--check", str(source)]) == 0
    (tmp_path / "x.bin").write_bytes(b"?")
    capsys.readouterr()
    assert main(["--check", str(source)]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'x.bin'}: differs from its source\n"
