"""The accelerator "qtest": a machine whose processors never run, for tests of devices."""
