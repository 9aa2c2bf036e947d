"""Everything an operator can set: what it may be, where it is read from, what is wrong with it."""

from daemon.settings.channels import ChannelSettings
from daemon.settings.model import Settings
from daemon.settings.sections import Ops, Watch
from daemon.settings.service_manager import ServiceManager, take_service_manager

__all__ = ["ChannelSettings", "Ops", "ServiceManager", "Settings", "Watch", "take_service_manager"]
