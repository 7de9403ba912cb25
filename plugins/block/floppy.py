"""Floppy disk drives and the cable they hang on.

A drive has a head that steps from cylinder to cylinder and, perhaps, a medium: an image whose size says how it is
recorded (`FORMATS`).  An image of another size is taken for the smallest medium of the drive's that has room for it,
and reads as zeros behind its end, where it cannot be written.

Modelled: head position with its stop, track 0, write protection, the disk change line (set while the drive is empty and
until the first step afterwards), media of 48 tracks an inch in a 1.2M drive (every second cylinder is theirs), deleted data
marks, the turning medium (which sector comes next follows from the clock).
Not modelled: spin-up, index pulses, sectors other than 512 bytes, interleave, copy protection.  An image has no place
for deleted marks: they are kept until the medium is ejected.

The controller is the drive's only user; people change media with `eject` and `insert`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from qom import BlockBackend, Bus, Device, RealizeError, link, prop, records, state, type_init
from qom.vm import SECTOR, BlockError

__all__ = ["DRIVE_KINDS", "FORMATS", "SIZE_CODE", "Floppy", "FloppyBus", "FloppyFormat"]

SIZE_CODE: Final = 2  # N of a sector of 512 bytes
NS_PER_MINUTE: Final = 60_000_000_000


@records.frozen
class DriveKind:
    """What a drive is: `cylinders` its head reaches, turns a minute, and what CMOS 10h calls it."""

    cylinders: int
    rpm: int
    cmos: int


DRIVE_KINDS: Final[Mapping[str, DriveKind]] = {
    "360": DriveKind(42, 300, 1),
    "120": DriveKind(84, 360, 2),
    "144": DriveKind(84, 300, 4),
    "288": DriveKind(84, 300, 5),
}


@records.frozen
class FloppyFormat:
    """How a medium is recorded.

    Attributes:
        cylinders, heads: how many it has.
        sectors: on a track.
        rates: data rate in kbit/s by the kind of drive; a kind that is not here cannot read it.
    """

    cylinders: int
    heads: int
    sectors: int
    rates: Mapping[str, int]

    @property
    def size(self) -> int:
        """Sectors in all."""
        return self.cylinders * self.heads * self.sectors

    def __str__(self) -> str:
        return f"{self.size // 2}K"


_FIVE_INCH: Final = {"360": 250, "120": 300}  # double density; a 1.2M drive turns faster
_DOUBLE: Final = {"144": 250, "288": 250}
_HIGH: Final = {"144": 500, "288": 500}

FORMATS: Final = (
    FloppyFormat(40, 1, 8, _FIVE_INCH),
    FloppyFormat(40, 1, 9, _FIVE_INCH),
    FloppyFormat(40, 2, 8, _FIVE_INCH),
    FloppyFormat(40, 2, 9, _FIVE_INCH),
    FloppyFormat(80, 2, 9, _DOUBLE),
    FloppyFormat(80, 2, 15, {"120": 500}),
    FloppyFormat(80, 2, 18, _HIGH),
    FloppyFormat(80, 2, 21, _HIGH),
    FloppyFormat(82, 2, 21, _HIGH),
    FloppyFormat(83, 2, 21, _HIGH),
    FloppyFormat(80, 2, 36, {"288": 1000}),
)
"""The media there are, by size: 160K to 2880K."""

_OF_ANY_SIZE: Final = {"auto": (6, 10), "144": (6,), "288": (6, 10), "120": (5,), "360": (3,)}
"""For images of no format's size: what they are taken for, by the kind of drive."""


def _format_of(image: BlockBackend, kind: str) -> FloppyFormat:
    """How `image` is recorded, for a drive of `kind` ("auto" for any).

    Raises:
        BlockError: such a drive has no medium of that size.
    """
    for found in FORMATS:
        if found.size == image.sectors and (kind == "auto" or kind in found.rates):
            return found
    for n in _OF_ANY_SIZE[kind]:
        if image.sectors <= FORMATS[n].size and not any(found.size == image.sectors for found in FORMATS):
            return FORMATS[n]
    drive = "a floppy drive" if kind == "auto" else f"a floppy drive of type {kind}"
    known = ", ".join(str(found) for found in FORMATS if kind == "auto" or kind in found.rates)
    size = f"{image.sectors // 2}K" if image.sectors % 2 == 0 else f"{image.sectors * SECTOR} bytes"
    raise BlockError(f"{image.path}: {drive} takes no image of {size}: expected one of {known}")


@type_init("floppy-bus")
class FloppyBus(Bus):
    """The cable: two drives, `units[0]` and `units[1]`."""

    max_devices = 2

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Floppy drive cable", "block"

    def instance_init(self) -> None:
        """Start without drives."""
        self.units: list[Floppy | None] = [None, None]
        self.fallback = "288"  # kind of a drive that has no medium to tell; the controller's to say
        self.hotplug = False

    def occupy(self, drive: Floppy, unit: int | None) -> int:
        """Give `drive` its place, the one it asks for or the first one free; returns it. Raises RealizeError."""
        if unit is None:
            unit = self.units.index(None)  # the bus takes no third drive
        other = self.units[unit]
        if other is not None:
            raise RealizeError(f"{drive.path}: unit {unit} of {self.path} is already taken by {other.path}")
        self.units[unit] = drive
        return unit

    def vacate(self, drive: Floppy) -> None:
        """Undo `occupy`."""
        self.units = [None if held is drive else held for held in self.units]

    def where(self, device: Device) -> str:
        """Its place on the cable: "unit 0"."""
        return next((f"unit {n}" for n, held in enumerate(self.units) if held is device), "")


@type_init("floppy")
class Floppy(Device):
    """One drive."""

    bus_type = "floppy-bus"

    unit: int | None = prop(None, "Place on the cable: 0 or 1; unset: the first one free", type="uint32", max=1)
    drive: BlockBackend | None = link("block-backend", "Image of the medium in the drive; none: the drive is empty")
    drive_type: str = prop(
        "auto",
        "What the drive is: 1.44M, 2.88M, 1.2M or 360K; auto: as its medium needs it, or the controller's 'fallback'",
        among=("auto", "144", "288", "120", "360"),
    )

    track: int = state(keep=True, desc="Cylinder the head is on, counted by the drive")
    changed: bool = state(reset=True, keep=True, desc="Disk change line")
    deleted: list[int] = state(factory=list, keep=True, desc="Sectors recorded with a deleted data mark")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Floppy disk drive", "block"

    # --- life

    def realize(self) -> None:
        """Take the place on the cable and the medium."""
        bus = self.bus
        assert isinstance(bus, FloppyBus)
        self.format: FloppyFormat | None = None
        self.unit = bus.occupy(self, self.unit)
        self.on_unrealize(lambda: bus.vacate(self))
        image = self.drive
        if image is not None:
            try:
                self._take(image)
            except BlockError as error:
                raise RealizeError(f"{self.path}: {error}") from None
        self.on_unrealize(self._let_go)
        if self.drive_type == "auto":
            self.drive_type = bus.fallback if self.format is None else next(iter(self.format.rates))
        self.kind = DRIVE_KINDS[self.drive_type]

    def _take(self, image: BlockBackend) -> None:
        image.attach(self.path)
        try:
            image.open()
            self.format = _format_of(image, self.drive_type)
        except BaseException:
            image.detach()
            raise

    def _let_go(self) -> None:
        self.format = None
        if self.drive is not None:
            self.drive.detach()

    # --- the medium, for people

    def insert(self, image: BlockBackend) -> None:
        """Put a medium into the empty drive; the machine lock is held.

        Args:
            image: an image that no other device uses; it is opened if it is not.

        Raises:
            BlockError: there is a medium already, the image is used elsewhere, or the drive takes none of that size.
        """
        if self.drive is not None:
            raise BlockError(f"{self.path}: {self.drive.path} is in the drive: expected it to be ejected first")
        self._take(image)
        self._set_medium(image)

    def check_medium(self, image: BlockBackend) -> None:
        """Raise BlockError when this drive has no medium of the size of `image`, which is open."""
        _format_of(image, self.drive_type)

    def eject(self) -> BlockBackend | None:
        """Take the medium out and close its image; the machine lock is held.

        Returns:
            The image, None when the drive was empty.

        Raises:
            BlockError: what was written could not be put on stable storage; the medium stays where it is.
        """
        image = self.drive
        if image is None:
            return None
        image.flush()
        self._let_go()
        self._set_medium(None)
        image.close()
        return image

    def _set_medium(self, image: BlockBackend | None) -> None:
        found = self.class_properties["drive"]
        found.setter(self, found, image)
        self.changed = True
        self.deleted = []

    # --- the pins

    @property
    def best_format(self) -> FloppyFormat:
        """The standard medium of most capacity that the drive takes."""
        return FORMATS[_OF_ANY_SIZE[self.drive_type][-1]]

    @property
    def at_track_0(self) -> bool:
        """TRK0."""
        return self.track == 0

    @property
    def write_protected(self) -> bool:
        """WP; an empty drive's sensor sees a protected medium, too."""
        return self.drive is None or not self.drive.writable

    def step(self, count: int) -> None:
        """So many step pulses, inwards if `count` is positive; the head stops where it can go no further."""
        if count:
            self.track = min(max(self.track + count, 0), self.kind.cylinders - 1)
            self.changed = self.drive is None

    # --- what passes under the head

    @property
    def rate(self) -> int:
        """Data rate the medium is recorded with, kbit/s; 0 without a medium."""
        return 0 if self.format is None else self.format.rates[self.drive_type]

    def cylinder(self, head: int) -> int | None:
        """The cylinder that the sectors under `head` say they are on; None where nothing is recorded."""
        medium = self.format
        if medium is None or head >= medium.heads:
            return None
        at = self.track
        if self.kind.cylinders > 2 * medium.cylinders:
            at, between = divmod(at, 2)
            if between:
                return None
        return at if at < medium.cylinders else None

    def next_sector(self) -> int:
        """The sector that passes under the head next, from 1; there is a medium."""
        assert self.format is not None
        turn = NS_PER_MINUTE // self.kind.rpm
        return self.clock.now() % turn * self.format.sectors // turn + 1

    def lba(self, cylinder: int, head: int, sector: int) -> int:
        """Where in the image a sector is; there is a medium."""
        assert self.format is not None
        return (cylinder * self.format.heads + head) * self.format.sectors + sector - 1

    def read(self, lba: int) -> bytes:
        """One sector of the image. Raises BlockError."""
        assert self.drive is not None
        return self.drive.read(lba, 1) if lba < self.drive.sectors else bytes(SECTOR)

    def write(self, lba: int, data: bytes | bytearray, deleted: bool) -> None:
        """Write one sector, with a normal or a deleted data mark. Raises BlockError."""
        assert self.drive is not None
        self.drive.write(lba, data)
        if (lba in self.deleted) != deleted:
            self.deleted = sorted({*self.deleted, lba} if deleted else {*self.deleted} - {lba})
