"""Processor models."""

QOM_MODULES = ("x86",)
