"""Block devices: image back ends, the IDE bus, its disks and its controllers."""

QOM_MODULES = ("raw", "ide_bus", "ide_hd", "isa_ide", "piix3_ide")
