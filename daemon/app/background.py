"""The daemon's services beside those that deliver: listening, health, figures, notifications, the nightly reconcile."""

from collections.abc import Mapping
from functools import partial

from daemon.app.building import (
    Pools,
    confirmed_per_s,
    connect_options,
    listing_health,
    longest_settle,
    notifier,
    reconcilers,
)
from daemon.app.graph import Graph
from daemon.app.reloading import Reloading, take_limits, take_rest
from daemon.app.supervising import Run
from daemon.app.watching import Watching
from daemon.core.types import ChannelName
from daemon.marketplaces.client import Client
from daemon.services.capture_health import CaptureHealth
from daemon.services.configurations import ConfigurationWatch
from daemon.services.dispatch import Dispatcher
from daemon.services.doorbell import Doorbell
from daemon.services.gauges import GaugeReader
from daemon.services.heartbeat import Heartbeat, Watched
from daemon.services.maintenance import Maintenance
from daemon.services.pauses import PauseWatch
from daemon.services.readiness import DATABASE
from daemon.services.reconcile import ReconcileService
from daemon.store.answers import Answers
from daemon.store.audit import Audit
from daemon.store.capture_health import CaptureHealthStore
from daemon.store.changelog import ChangeLog
from daemon.store.control import Pauses
from daemon.store.identity import Identity
from daemon.store.outbox import Outbox
from daemon.store.replicas import Replicas


class Background:
    """Builds them around the parts that deliver (`graph`). `services` has their loops by name."""

    def __init__(
        self,
        reloading: Reloading,
        pools: Pools,
        clients: Mapping[ChannelName, Client],
        graph: Graph,
        holder: str,
        watch: Watching,
    ) -> None:
        self._settings = reloading.settings
        self._database = pools.shared
        self._graph = graph
        self._holder = holder
        self._watch = watch
        self._watchdog = watch.liveness.watchdog
        self._identity = Identity(self._database)
        self._health = self._capture_health()
        options = connect_options(self._settings, is_direct=True)
        self._doorbell = Doorbell(options, self._on_ring, self._on_connected, self._watchdog("doorbell"))
        telling = notifier(self._settings, self._database, self._watchdog("notify"))
        reloading.follow(lambda now, _recipients: take_limits(clients, graph.dispatchers, now))
        reloading.follow(partial(take_rest, self._doorbell, telling))
        pauses = self._pauses()
        watched = [self._watched(name, pauses) for name in graph.ledgers]
        watch.follow(watched, clients, graph.intakes, self._doorbell)
        self.services: dict[str, Run] = {
            "doorbell": self._doorbell.run,
            "capture-health": self._health.run,
            "notify": telling.run,
            "pauses": pauses.run,
            "maintenance": self._maintenance().run,
            "gauges": self._gauges().run,
            "configurations": self._configurations(reloading).run,
            **{f"heartbeat-{one.ledger.channel}": self._heartbeat(one).run for one in watched},
            **self._nightly(clients),
        }

    def _on_ring(self, payload: str) -> None:
        graph = self._graph
        kind, _, channel = payload.partition(" ")
        if kind == "marked":
            # This process may not serve the channel: anybody who may connect can name one.
            if (dispatcher := graph.dispatchers.get(ChannelName(channel))) is not None:
                dispatcher.hear()
        elif payload == "slot":
            graph.slots.throttle.request()
        elif payload == "resync":
            graph.intakes.hear_resync()
        else:
            graph.intakes.ring()
            self._health.heard()

    async def _on_connected(self) -> None:
        settings, graph = self._settings, self._graph
        has_failed_over = await self._identity.check(confirmed_per_s(settings), longest_settle(settings))
        for dispatcher in graph.dispatchers.values():
            dispatcher.rescue()
        graph.intakes.request_resync("failover" if has_failed_over else "listening anew")
        if has_failed_over:
            graph.intakes.begin_again()

    def _capture_health(self) -> CaptureHealth:
        return CaptureHealth(
            CaptureHealthStore(self._database, list(self._graph.ledgers)),
            self._holder,
            self._settings.run.capture_check,
            self._settings.run.poll,
            lambda: self._doorbell.is_listening,
            self._graph.intakes.request_resync,
            wants_doorbell=self._settings.database.doorbell,
            listings=listing_health(self._settings, self._database),
            observer=self._watch.metrics,
            watchdog=self._watchdog("capture-health"),
        )

    def _pauses(self) -> PauseWatch:
        return PauseWatch(
            Pauses(self._database),
            self._settings.run.poll,
            partial(self._watch.readiness.report, DATABASE),
            self._watchdog("pauses"),
        )

    def _watched(self, name: ChannelName, pauses: PauseWatch) -> Watched:
        dispatcher = self._graph.dispatchers[name]
        return Watched(
            self._graph.ledgers[name],
            dispatcher.counts,
            partial(self._graph.slots.owned, name),
            partial(pauses.is_paused, name),
            partial(_trouble, dispatcher),
        )

    def _heartbeat(self, watched: Watched) -> Heartbeat:
        return Heartbeat(
            self._settings.run.heartbeat,
            watched,
            lambda: self._doorbell.is_listening,
            self._watch.tell_counted,
            self._watchdog(f"heartbeat-{watched.ledger.channel}"),
        )

    def _gauges(self) -> GaugeReader:
        return GaugeReader(
            Answers(self._database),
            Outbox(self._database),
            list(self._graph.ledgers),
            self._watch.metrics,
            self._settings.run.heartbeat,
            self._watchdog("gauges"),
        )

    def _configurations(self, reloading: Reloading) -> ConfigurationWatch:
        return ConfigurationWatch(
            Replicas(self._database),
            self._holder,
            lambda: reloading.fingerprints,
            self._settings.run.heartbeat,
            self._watchdog("configurations"),
        )

    def _maintenance(self) -> Maintenance:
        return Maintenance(
            ChangeLog(self._database),
            self._settings.history.keep,
            watchdog=self._watchdog("maintenance"),
            heads=Audit(self._database).heads,
        )

    def _nightly(self, clients: Mapping[ChannelName, Client]) -> dict[str, Run]:
        if not self._settings.reconcile.enabled:
            return {}
        post = Outbox(self._database).post
        built = reconcilers(self._settings, self._database, clients)
        return {
            f"reconcile-{name}": ReconcileService([one], self._holder, post, self._watch.liveness).run
            for name, one in built.items()
        }


def _trouble(dispatcher: Dispatcher) -> str | None:
    cause = dispatcher.cause
    return None if cause is None else (cause.trouble or cause.kind).value
