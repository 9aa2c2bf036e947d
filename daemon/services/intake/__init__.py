"""Intake: reads the change log into each channel's ledger when the doorbell rings, and at intervals anyway."""

from daemon.services.intake.channels import Intakes
from daemon.services.intake.service import IntakeService

__all__ = ["IntakeService", "Intakes"]
