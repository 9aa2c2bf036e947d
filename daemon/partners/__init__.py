"""The marketplaces: how each is spoken to. Only this package and the simulator know HTTP."""

from daemon.partners.auth import TokenStore
from daemon.partners.partner import Partner
from daemon.partners.sekorm import Sekorm
from daemon.partners.ymatou import Ymatou

__all__ = ["Partner", "Sekorm", "TokenStore", "Ymatou"]
