"""All attacks: every module of this folder enters its own into `tests.attack.attacks.table.ATTACKS`."""

import importlib
import pkgutil

for module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{module.name}")
