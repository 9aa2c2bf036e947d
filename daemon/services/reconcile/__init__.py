"""The nightly reconcile: compares the partners' numbers with the ERP's and reports the differences."""

from daemon.services.reconcile.engine import Ended, Reconciler
from daemon.services.reconcile.service import ReconcileService
from daemon.services.reconcile.session import PartnerSilent, ReconcileLimits, RunProgress

__all__ = ["Ended", "PartnerSilent", "ReconcileLimits", "ReconcileService", "Reconciler", "RunProgress"]
