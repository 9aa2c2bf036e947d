"""The nightly reconcile: compares the marketplaces' numbers with the ERP's and reports the differences."""

from daemon.services.reconcile.engine import Ended, Reconciler
from daemon.services.reconcile.service import ReconcileService
from daemon.services.reconcile.session import MarketplaceUnavailable, ReconcileLimits, RunProgress

__all__ = [
    "Ended",
    "MarketplaceUnavailable",
    "ReconcileLimits",
    "ReconcileService",
    "Reconciler",
    "RunProgress",
]
