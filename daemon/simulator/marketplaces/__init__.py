"""The simulated marketplaces: each module of this folder is one, and has a `MARKETPLACE`."""

import importlib
import pkgutil
from typing import Final

from daemon.simulator.wire import Marketplace


def _found() -> dict[str, Marketplace]:
    modules = [
        importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    ]
    marketplaces: list[Marketplace] = [module.MARKETPLACE for module in modules]
    return {marketplace.name: marketplace for marketplace in marketplaces}


MARKETPLACES: Final = _found()
