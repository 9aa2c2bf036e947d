"""Lanes: who owns which, and keeping those that are ours."""

from daemon.services.lanes.keeper import Tenure
from daemon.services.lanes.sharing import LaneSharing, Served

__all__ = ["LaneSharing", "Served", "Tenure"]
