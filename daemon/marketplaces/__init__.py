"""The marketplaces: how each is spoken to. Only this package and the simulator know HTTP."""

from daemon.marketplaces.auth import TokenStore
from daemon.marketplaces.client import Client
from daemon.marketplaces.sekorm.client import SekormClient
from daemon.marketplaces.ymatou.client import YmatouClient

__all__ = ["Client", "SekormClient", "TokenStore", "YmatouClient"]
