"""The commands: `qom-system-x86_64` with QEMU's spellings, and `qom`."""
