"""The ops port: liveness, readiness, metrics and status."""
