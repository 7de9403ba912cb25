"""Measurements of the machine, beside QEMU (TCG) and Bochs where they are installed: `python -m benchmarks`."""
