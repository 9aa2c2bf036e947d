"""The nightly reconcile (DESIGN.md 2.7): partners and ERP are shown to agree, or a person is told where not."""

from daemon.services.reconcile.engine import Ended, Reconciler
from daemon.services.reconcile.service import ReconcileService
from daemon.services.reconcile.session import Limits, PartnerSilent, Progress

__all__ = ["Ended", "Limits", "PartnerSilent", "Progress", "ReconcileService", "Reconciler"]
