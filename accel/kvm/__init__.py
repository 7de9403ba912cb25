"""The `kvm` accelerator: the kernel's /dev/kvm."""
