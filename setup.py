"""The two C extension modules, for setuptools; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["accel/build_kvmabi.py:ffibuilder", "accel/simulated/build_core.py:ffibuilder"])
