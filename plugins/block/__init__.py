"""Block devices: image back ends, the IDE bus with disks and controllers, floppy drives and their controller."""

QOM_MODULES = ("raw", "ide_bus", "ide_hd", "isa_ide", "piix3_ide", "floppy", "i82077")
