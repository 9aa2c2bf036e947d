"""One channel's part of the ledger: marking, claiming, completing. Every change of a row is guarded by the state it
expects."""

from daemon.core.guard import GuardRule
from daemon.core.plan import Problem
from daemon.store.database import Database
from daemon.store.ledger.claims import Claims
from daemon.store.ledger.marking import Marking
from daemon.store.ledger.outcomes import Outcomes
from daemon.store.listing import ChannelListing
from daemon.store.locks import LockWatch


class Ledger(Marking, Claims, Outcomes):
    """One channel's part of the ledger. `guard`: what is held; None: nothing ever is. `reader`: the
    connections for claims, which wait for the listing; without, those that are for everything."""

    def __init__(
        self,
        database: Database,
        listing: ChannelListing,
        problem: Problem,
        guard: GuardRule | None = None,
        reader: Database | None = None,
    ) -> None:
        Marking.__init__(self, listing, guard)
        Claims.__init__(self, reader or database, LockWatch(database), listing, problem, guard)
        Outcomes.__init__(self, database, listing.channel, is_guarded=guard is not None)

    @property
    def listing(self) -> ChannelListing:
        return self._listing

    def use(self, listing: ChannelListing) -> None:
        """Mark and claim by this listing from now on."""
        self._mark_with(listing)
        self._claim_with(listing)
