"""Intake: reads the change log into each channel's ledger when the doorbell rings, and at intervals anyway."""
