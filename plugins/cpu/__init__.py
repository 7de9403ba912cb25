"""Processor models."""

QOM_MODULES = ("x86", "acpi_cpu_hotplug")
