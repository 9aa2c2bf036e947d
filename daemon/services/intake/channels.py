"""The intakes of all channels together."""

from collections.abc import Collection, Mapping

from daemon.core.types import ChannelName
from daemon.services.intake.service import IntakeService


class Intakes:
    """Passes requests on to each channel's intake, and sums up what they did."""

    def __init__(self, services: Mapping[ChannelName, IntakeService]) -> None:
        self.services = services

    @property
    def failing(self) -> Collection[ChannelName]:
        """The channels whose listing does not work."""
        return [name for name, service in self.services.items() if service.failure is not None]

    @property
    def changes(self) -> int:
        """How many changes were read: each channel reads all of them."""
        return max(service.changes for service in self.services.values())

    @property
    def resyncs(self) -> int:
        return sum(service.resyncs for service in self.services.values())

    @property
    def read_at(self) -> float | None:
        """When the channel that is furthest behind has read last; None: one of them has not begun."""
        times = [service.read_at for service in self.services.values()]
        return None if None in times else min(time for time in times if time is not None)

    def ring(self) -> None:
        for service in self.services.values():
            service.ring()

    def hear_resync(self) -> None:
        """A notification asks for a comparison of everything."""
        for service in self.services.values():
            service.throttle.request()

    def request_resync(self, reason: str) -> None:
        for service in self.services.values():
            service.request_resync(reason)

    def begin_again(self) -> None:
        for service in self.services.values():
            service.begin_again()
