"""SIM_CORE=<file> runs these tests on another build of the C core, such as the one with sanitizers."""

import importlib.util
import os
import sys

if os.environ.get("SIM_CORE"):
    import accel.simulated

    spec = importlib.util.spec_from_file_location("accel.simulated._core", os.environ["SIM_CORE"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["accel.simulated._core"] = module
    spec.loader.exec_module(module)
    accel.simulated._core = module  # type: ignore[attr-defined]
