"""PCI chips: the i440FX host bridge, and the functions of the PIIX south bridges, pvpanic, a test device."""

QOM_MODULES = ("i440fx", "piix3", "piix4_pm", "pvpanic_pci", "pci_testdev", "acpi_pci_hotplug")
