"""Imports every module there is, for tests that use `pytester`.

pytester forgets what was imported while it ran.  A module forgotten and imported again has other classes than those that
somebody kept from the first time, so nothing may be imported for the first time inside.
"""

import importlib
import pkgutil

import accel
import machines
import plugins
import qom

for package in (qom, accel, plugins, machines):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        last = found.name.rpartition(".")[2]
        if not last.startswith(("_", "build")):
            importlib.import_module(found.name)
