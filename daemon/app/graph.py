"""What reads changes, claims and sends, wired together: `run` builds it for every channel, `sync` for one."""

from collections.abc import Callable, Mapping
from functools import partial

from daemon.app.building import Pools, guard_rule, limits, listings, problems_of
from daemon.app.watching import Watching
from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName
from daemon.liveness import Liveness
from daemon.marketplaces.client import Client
from daemon.services.dispatch.dispatcher import Dispatcher
from daemon.services.guard import GuardService
from daemon.services.intake.service import IntakeService
from daemon.services.readiness import INTAKE, SLOTS
from daemon.services.slots import SlotSharing
from daemon.settings import Settings
from daemon.store.changelog import ChangeLog
from daemon.store.guard import Guard
from daemon.store.intake import Intake, IntakeReading
from daemon.store.leases import Leases
from daemon.store.ledger import Debounce
from daemon.store.ledger.ledger import Ledger
from daemon.store.locks import LockWatch


class Graph:
    """The parts, by channel. `watch` is the daemon's; a command has none, and takes only slots that no replica owns."""

    def __init__(
        self,
        settings: Settings,
        connections: Pools,
        clients: Mapping[ChannelName, Client],
        holder: str,
        watch: Watching | None = None,
        only: ChannelName | None = None,
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._watch = watch
        self._liveness = Liveness() if watch is None else watch.liveness
        problems, rule = problems_of(settings), guard_rule(settings)
        self.ledgers = {
            name: Ledger(connections.shared, listing, problems[name], rule, connections.claims.get(name))
            for name, listing in listings(settings).items()
            if only in (None, name)
        }
        leases = Leases(connections.leases)
        self.dispatchers = {
            name: self._dispatcher(name, clients[name], leases, holder) for name in self.ledgers
        }
        self.slots = SlotSharing(
            leases,
            self.dispatchers,
            holder,
            settings.run.lease,
            is_temporary=watch is None,
            on_look=self._report(SLOTS),
            watchdog=self._liveness.watchdog("slots"),
        )
        self.intakes = {name: self._intake(name, ledger) for name, ledger in self.ledgers.items()}
        self._link_intakes()
        guard = Guard(connections.shared)
        self.guards = {
            name: GuardService(guard, name, rule, settings.run.poll, self._liveness.watchdog(f"guard-{name}"))
            for name in self.ledgers
        }

    def request_resync(self, reason: str) -> None:
        """Have every channel's listing compared as a whole."""
        for intake in self.intakes.values():
            intake.request_resync(reason)

    def use(self, settings: Settings) -> None:
        """Take over which SKUs of the listings are sent."""
        for name, listing in listings(settings).items():
            ledger = self.ledgers.get(name)
            if ledger is not None and ledger.listing != listing:
                ledger.use(listing)
                self.intakes[name].request_resync("other SKUs are chosen")

    def _link_intakes(self) -> None:
        for name, dispatcher in self.dispatchers.items():
            intake = self.intakes[name]
            dispatcher.on_slots_changed = self.slots.wake.set
            dispatcher.deferrals.read_changes = intake.ring
            dispatcher.deferrals.compare_all = partial(
                intake.request_resync, "numbers that no reading has counted"
            )

    def _dispatcher(self, name: ChannelName, client: Client, leases: Leases, holder: str) -> Dispatcher:
        return Dispatcher(
            self.ledgers[name],
            client,
            limits(self._settings, self._settings.enabled_channels()[name]),
            holder,
            partial(leases.set_trouble, name, holder),
            observer=None if self._watch is None else self._watch.metrics,
            liveness=self._liveness,
        )

    def _intake(self, name: ChannelName, ledger: Ledger) -> IntakeService:
        settings, shared = self._settings, self._connections.shared
        database = self._connections.intakes.get(name, shared)
        urgent_below = settings.enabled_channels()[name].urgent_below
        debounce = Debounce(settings.debounce.quiet, settings.debounce.max_wait, urgent_below)
        return IntakeService(
            Intake(database, ledger, debounce, LockWatch(shared)),
            ChangeLog(shared).stay_awake,
            settings.run.poll,
            settings.run.resync,
            partial(_wake, self.dispatchers[name]),
            self.slots.owns_all,
            self._report(f"{INTAKE} {name}"),
            self._liveness.watchdog(f"intake-{name}"),
        )

    def _report(self, what: str) -> Callable[[StockrelayError | None], None]:
        """Return where to report how the database answered: to the daemon's readiness; a command has none."""
        return (lambda _error: None) if self._watch is None else partial(self._watch.readiness.report, what)


def _wake(dispatcher: Dispatcher, reading: IntakeReading) -> None:
    """Wake the dispatcher only after a reading that marked rows: a claim of no rows costs the database a commit."""
    if reading.failed is not None:
        # The reading does not know which rows were marked without the listing.
        dispatcher.wake()
    elif reading.marked.rows:
        dispatcher.wake(is_urgent=reading.marked.urgent > 0)
