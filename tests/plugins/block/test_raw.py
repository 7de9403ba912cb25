"""The raw image back end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qom import TypeRegistry
from qom.hw.bench import hw_registry, load_plugins
from qom.vm.block import SECTOR, BlockError
from qom.vm.image import CHUNK_SECTORS


@pytest.fixture(scope="module")
def registry() -> TypeRegistry:
    registry = hw_registry()
    load_plugins(registry)
    return registry


@pytest.fixture
def new(registry: TypeRegistry) -> Iterator[Any]:
    made = []

    def make(file: Path | str, **props: Any) -> Any:
        drive = registry.new("drive", file=str(file), **props)
        registry.new("root").container("/drives").add_child("d0", drive)
        made.append(drive)
        return drive

    yield make
    for drive in made:
        drive.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(n.to_bytes(4, "little") * 128 for n in range(300)))
    return path


def numbers(data: bytes) -> list[int]:
    """Which sectors of the image these are."""
    assert all(data[n : n + SECTOR] == data[n : n + 4] * 128 for n in range(0, len(data), SECTOR))
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), SECTOR)]


def sector(n: int) -> bytes:
    return n.to_bytes(4, "little") * 128


def test_reads_and_writes_sectors(new: Any, image: Path) -> None:
    drive = new(image)
    drive.open()
    assert drive.sectors == 300
    assert numbers(drive.read(5, 3)) == [5, 6, 7]
    drive.write(6, sector(66) + sector(77))
    drive.flush()
    drive.close()
    assert numbers(image.read_bytes())[4:9] == [4, 5, 66, 77, 8]


def test_snapshot_leaves_the_file_alone(new: Any, image: Path) -> None:
    before = image.read_bytes()
    image.chmod(0o444)
    drive = new(image, snapshot=True)
    drive.open()
    edge = CHUNK_SECTORS
    drive.write(edge - 1, sector(1000) + sector(1001))
    drive.write(299, sector(1002))
    assert numbers(drive.read(edge - 2, 4)) == [edge - 2, 1000, 1001, edge + 1]
    assert numbers(drive.read(290, 10)) == [*range(290, 299), 1002]
    assert numbers(drive.read(0, 300))[edge] == 1001
    drive.flush()
    drive.close()
    assert image.read_bytes() == before
    drive.open()
    assert numbers(drive.read(edge, 1)) == [edge], "what was written is gone with the snapshot"


def test_a_partial_last_sector_reads_as_zeros_and_can_be_written(new: Any, tmp_path: Path) -> None:
    path = tmp_path / "odd.img"
    path.write_bytes(b"\xaa" * 700)
    drive = new(path)
    drive.open()
    assert drive.sectors == 2
    assert drive.read(1, 1) == (b"\xaa" * 188).ljust(SECTOR, b"\0")
    drive.write(1, b"\xbb" * SECTOR)
    assert drive.read(0, 2) == b"\xaa" * 512 + b"\xbb" * 512


@pytest.mark.parametrize(("lba", "count"), [(300, 1), (299, 2), (-1, 1)])
def test_outside_the_image(new: Any, image: Path, lba: int, count: int) -> None:
    drive = new(image)
    drive.open()
    for what, access in (
        ("read", lambda: drive.read(lba, count)),
        ("write", lambda: drive.write(lba, bytes(512 * count))),
    ):
        with pytest.raises(BlockError) as caught:
            access()
        assert str(caught.value) == (
            f"/drives/d0: {what} of {count} sectors at {lba} is outside image '{image}' of 300"
        )


def test_not_whole_sectors(new: Any, image: Path) -> None:
    drive = new(image)
    drive.open()
    with pytest.raises(BlockError) as caught:
        drive.write(0, b"x")
    assert str(caught.value) == "/drives/d0: a write of 1 bytes is not a whole number of sectors"


def test_readonly_refuses_writes(new: Any, image: Path) -> None:
    drive = new(image, readonly=True)
    drive.open()
    with pytest.raises(BlockError) as caught:
        drive.write(0, bytes(512))
    assert str(caught.value) == f"/drives/d0: image '{image}' is read-only"


def test_missing_empty_and_strange_files(new: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for path, message in (
        (tmp_path / "none", f"cannot open image '{tmp_path / 'none'}': No such file or directory"),
        (empty, f"image '{empty}' is empty: expected at least 512 bytes"),
        (
            Path("/dev/zero"),
            "image '/dev/zero' is neither a file nor a block device: expected a file or a block device",
        ),
    ):
        with pytest.raises(BlockError) as caught:
            new(path).open()
        assert str(caught.value) == f"/drives/d0: {message}"


def test_read_only_file_hints_at_a_way(new: Any, image: Path) -> None:
    image.chmod(0o444)
    if os.access(image, os.W_OK):
        pytest.skip("this user may write anything")
    with pytest.raises(BlockError, match=r"for writing \(readonly=on or snapshot=on would not need that\)"):
        new(image).open()


def test_writers_lock_out_everybody_readers_only_writers(new: Any, image: Path) -> None:
    first = new(image)
    first.open()
    for props, verb in (({}, "write"), ({"readonly": True}, "read"), ({"snapshot": True}, "read")):
        with pytest.raises(BlockError) as caught:
            new(image, **props).open()
        assert str(caught.value) == (
            f"/drives/d0: cannot {verb} image '{image}': another user has it locked"
            " (snapshot=on or readonly=on shares it with readers, locking=off overrides)"
        )
    new(image, locking=False).open()
    first.close()
    new(image, snapshot=True).open()
    new(image, readonly=True).open()


def test_lock_holds_between_processes(new: Any, image: Path) -> None:
    new(image).open()
    tree = Path(__file__).resolve().parents[3]
    program = f"""if True:
        import sys; sys.path.insert(0, {str(tree)!r})
        from qom.hw.bench import hw_registry, load_plugins
        registry = hw_registry(); load_plugins(registry)
        try: registry.new("drive", file={str(image)!r}).open()
        except Exception as error: print(error)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert "another user has it locked" in done.stdout, done


def test_one_disk_an_image(new: Any, image: Path) -> None:
    drive = new(image)
    drive.attach("/machine/a")
    with pytest.raises(BlockError) as caught:
        drive.attach("/machine/b")
    assert str(caught.value) == "/drives/d0: already used by /machine/a, so /machine/b cannot use it too"
