"""PCI chips: the i440FX host bridge, and the functions of the PIIX south bridges."""

QOM_MODULES = ("i440fx", "piix3", "piix4_pm")
