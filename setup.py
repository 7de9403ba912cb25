"""The two C extension modules, for setuptools; everything else is in pyproject.toml."""

import os
from concurrent.futures import ThreadPoolExecutor

from setuptools import setup
from setuptools.command.build_ext import build_ext


class ParallelBuild(build_ext):
    """Compiles the C files of a module side by side; setuptools takes one after the other."""

    def build_extension(self, ext):
        """As usual, but for how `compile` goes through the sources."""
        compile_all = self.compiler.compile

        def compile_side_by_side(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                done = list(pool.map(lambda source: compile_all([source], **options), sources))
            return [target for targets in done for target in targets]

        self.compiler.compile = compile_side_by_side
        try:
            super().build_extension(ext)
        finally:
            self.compiler.compile = compile_all


setup(
    cffi_modules=["accel/build_kvmabi.py:ffibuilder", "accel/simulated/build_core.py:ffibuilder"],
    cmdclass={"build_ext": ParallelBuild},
)
