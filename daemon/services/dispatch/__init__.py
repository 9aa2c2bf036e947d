"""Dispatch: claims due rows of the slots that are ours, sends them, writes the outcomes."""

from daemon.services.dispatch.channel import Limits
from daemon.services.dispatch.dispatcher import Dispatcher
from daemon.services.dispatch.ports import Observer

__all__ = ["Dispatcher", "Limits", "Observer"]
