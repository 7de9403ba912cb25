"""The `kvm` accelerator: the kernel's /dev/kvm."""

QOM_MODULES = ("kvm_accel", "irqchip")
