"""The `simulated` accelerator: KVM's user-space interface answered by a processor core in C (core/)."""
