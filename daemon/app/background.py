"""The daemon's services beside those that deliver: listening, health, figures, notifications, the nightly reconcile."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from daemon.app.building import (
    confirmed_per_s,
    connect_options,
    delivery_policy,
    limits,
    listings,
    live_from_the_start,
    longest_settle,
    operators_zone,
    receivers,
    reconcile_limits,
    reconcilers,
)
from daemon.app.going_live import compare_once
from daemon.app.graph import Graph
from daemon.app.reloading import Reloading
from daemon.app.supervising import Run
from daemon.app.watching import Watching
from daemon.core.types import ChannelName
from daemon.marketplaces.client import Client
from daemon.services.capture_health import CaptureHealth, Listings
from daemon.services.configurations import ConfigurationWatch
from daemon.services.doorbell import Doorbell
from daemon.services.exposure import ExposureService
from daemon.services.first_start import FirstStart
from daemon.services.gauges import GaugeReader
from daemon.services.heartbeat import Heartbeat, Watched
from daemon.services.maintenance import Maintenance
from daemon.services.notify import Notifier, Receiver
from daemon.services.pauses import PauseWatch
from daemon.services.push_history import PushHistory
from daemon.services.readiness import DATABASE
from daemon.services.reconcile.engine import Reconciler
from daemon.services.reconcile.service import ReconcileService
from daemon.settings import Settings
from daemon.store.answers import Answers
from daemon.store.audit import Audit
from daemon.store.capture_health import CaptureHealthStore
from daemon.store.changelog import ChangeLog
from daemon.store.control import Pauses
from daemon.store.database import Database
from daemon.store.dependencies import Dependencies
from daemon.store.exposure import Exposure
from daemon.store.history import PageHistory
from daemon.store.identity import Identity
from daemon.store.leases import Leases
from daemon.store.live import LiveChannels
from daemon.store.operations import OperationLog
from daemon.store.outbox import Outbox


@dataclass(eq=False)
class Background:
    """Builds these services around those that deliver (`graph`). `services` has their loops by name."""

    reloading: Reloading
    database: Database
    clients: Mapping[ChannelName, Client]
    graph: Graph
    holder: str
    watch: Watching
    services: dict[str, Run] = field(default_factory=dict)
    _reconcilers: Mapping[ChannelName, Reconciler] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._settings = settings = self.reloading.settings
        watchdog, database = self.watch.liveness.watchdog, self.database
        self._identity = Identity(database)
        self._health = self._capture_health()
        options = connect_options(settings, is_direct=True)
        self._doorbell = Doorbell(options, self._on_ring, self._on_connected, watchdog("doorbell"))
        channels, policy = sorted(settings.enabled_channels()), delivery_policy(settings)
        self._notifier = Notifier(Outbox(database), receivers(settings), channels, policy, watchdog("notify"))
        self.reloading.follow(self._take)
        report = partial(self.watch.readiness.report, DATABASE)
        pauses = PauseWatch(Pauses(database), settings.run.poll, report, watchdog("pauses"))
        keep, heads = settings.history.keep, Audit(database).heads
        operations = OperationLog(database)
        maintenance = Maintenance(ChangeLog(database), keep, watchdog("maintenance"), heads, operations)
        self.services |= {
            "doorbell": self._doorbell.run,
            "capture-health": self._health.run,
            "notify": self._notifier.run,
            "pauses": pauses.run,
            "maintenance": maintenance.run,
        }
        self._add_figures(pauses)
        first_start = FirstStart(
            LiveChannels(database),
            channels,
            lambda: live_from_the_start(self.reloading.settings),
            socket.gethostname(),
            settings.run.poll,
            lambda channel: compare_once(self._reconcilers[channel], database),
            self.graph.slots.owns_first,
            watchdog("first-start"),
        )
        self.services["first-start"] = first_start.run
        self._reconcilers = reconcilers(settings, database, self.clients)
        if settings.reconcile.enabled:
            post = Outbox(database).post
            for channel, one in self._reconcilers.items():
                service = ReconcileService(one, self.holder, post, self.watch.liveness)
                self.services[f"reconcile-{channel}"] = service.run

    def _add_figures(self, pauses: PauseWatch) -> None:
        """Add the services that run once a heartbeat."""
        database, metrics, watchdog = self.database, self.watch.metrics, self.watch.liveness.watchdog
        channels, every = list(self.graph.ledgers), self._settings.run.heartbeat
        gauges = GaugeReader(
            Answers(database), Outbox(database), channels, metrics, every, watchdog("gauges")
        )
        configurations = ConfigurationWatch(
            Leases(database),
            self.holder,
            lambda: self.reloading.fingerprints,
            every,
            watchdog("configurations"),
        )
        exposure = ExposureService(
            Exposure(database, operators_zone(self._settings)),
            channels,
            self._settings.history.keep,
            metrics,
            watchdog("exposure"),
        )
        counts = {name: one.counts for name, one in self.graph.dispatchers.items()}
        history = PushHistory(
            PageHistory(database), self.holder, counts, metrics.latencies, watchdog("push-history")
        )
        self.services |= {
            "gauges": gauges.run,
            "configurations": configurations.run,
            "exposure": exposure.run,
            "push-history": history.run,
        }
        watched = [self._watched(channel, pauses) for channel in channels]
        for one in watched:
            name = f"heartbeat-{one.ledger.channel}"
            heartbeat = Heartbeat(every, one, lambda: self._doorbell.is_listening, metrics, watchdog(name))
            self.services[name] = heartbeat.run
        self.watch.follow(watched, self.clients, self.graph.intakes, self._doorbell)

    def _watched(self, channel: ChannelName, pauses: PauseWatch) -> Watched:
        dispatcher = self.graph.dispatchers[channel]
        return Watched(
            self.graph.ledgers[channel],
            dispatcher.counts,
            partial(self.graph.slots.owned, channel),
            partial(pauses.is_paused, channel),
            dispatcher.trouble,
        )

    def _capture_health(self) -> CaptureHealth:
        settings = self._settings
        dependencies = Dependencies(self.database.transaction, settings.run.compared_only)
        return CaptureHealth(
            CaptureHealthStore(self.database, list(self.graph.ledgers)),
            self.holder,
            settings.run.capture_check,
            settings.run.poll,
            lambda: self._doorbell.is_listening,
            self.graph.request_resync,
            self.watch.metrics,
            wants_doorbell=settings.database.doorbell,
            listings=Listings(dependencies, tuple(listings(settings).values()), settings.run.resync_s),
            watchdog=self.watch.liveness.watchdog("capture-health"),
        )

    def _take(self, settings: Settings, receivers: Sequence[Receiver]) -> None:
        """Take over new modes, secrets, rates, addresses, receivers and choices of SKUs."""
        self.graph.use(settings)
        by_name = listings(settings)
        self._health.use(tuple(by_name.values()))
        for name, reconciler in self._reconcilers.items():
            reconciler.comparisons.use(by_name[name])
            reconciler.limits = reconcile_limits(settings, settings.enabled_channels()[name])
        for name, channel in settings.enabled_channels().items():
            self.clients[name].use(channel)
            self.graph.dispatchers[name].use(limits(settings, channel))
        self._doorbell.options = connect_options(settings, is_direct=True)
        self._notifier.use(receivers, delivery_policy(settings))

    def _on_ring(self, payload: str) -> None:
        kind, _, channel = payload.partition(" ")
        if kind == "marked":
            # This process may not serve the channel: any role that may connect can name one.
            if (dispatcher := self.graph.dispatchers.get(ChannelName(channel))) is not None:
                dispatcher.throttle.request()
        elif payload == "slot":
            self.graph.slots.throttle.request()
        elif payload == "resync":
            for intake in self.graph.intakes.values():
                intake.throttle.request()
        else:
            for intake in self.graph.intakes.values():
                intake.ring()
            self._health.heard()

    async def _on_connected(self) -> None:
        settings = self.reloading.settings
        rate, settle = confirmed_per_s(settings), longest_settle(settings)
        has_failed_over = await self._identity.check(rate, settle)
        for dispatcher in self.graph.dispatchers.values():
            dispatcher.rescue_before_next_claim()
        self.graph.request_resync("failover" if has_failed_over else "listening anew")
        if has_failed_over:
            for intake in self.graph.intakes.values():
                intake.begin_again()
