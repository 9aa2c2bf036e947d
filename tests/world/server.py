"""A database server in memory: the tables, and the statements that the daemon's store sends, by their text.

The store's own code runs in front of it, as shipped. A statement that is not known here fails the test that sends it.
A statement is atomic. What a transaction has written is taken back by `restore`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from daemon.core.types import ChannelName, Sku, Slot
from daemon.store import queries
from daemon.store.listing import ChannelListing
from tests.unit.virtual_time import START
from tests.world import rows
from tests.world.rows import Claimed, Ending, ListedRow, Row

_LEDGER: Final = queries.load("ledger")
_INTAKE: Final = queries.load("intake")
_LEASES: Final = queries.load("leases")
_TOKENS: Final = queries.load("tokens")
_TWINS: Final = queries.load("twins")

SLOTS: Final = (Slot(3), Slot(7), Slot(11), Slot(15))
"""Those of the channel's slots that this server has. Fewer than there are cost less."""
CHANNEL: Final = ChannelName("sekorm")
LISTING: Final = ChannelListing(
    CHANNEL,
    "SELECT sku, pn AS pn_code, brand AS brand_name, quantity FROM shop.goods",
    ("pn_code", "brand_name"),
)


class Record(dict[str, Any]):
    """A row of a result. As the driver's, it is unpacked into its values."""

    def __iter__(self) -> Any:  # noqa: ANN401 - as the driver's records
        return iter(self.values())


class Lease(NamedTuple):
    """One row of stockrelay.lease."""

    epoch: int = 0
    holder: str | None = None
    until: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Token:
    """The channel's row of stockrelay.token."""

    value: str | None = None
    generation: int = 0
    expires_at: float = float("-inf")
    refresh_until: float = float("-inf")


@dataclass
class Tables:
    """All that is stored."""

    goods: dict[Sku, ListedRow] = field(default_factory=dict)
    ledger: dict[Sku, Row] = field(default_factory=dict)
    leases: dict[Slot, Lease] = field(default_factory=dict)
    replicas: dict[str, tuple[list[str], float]] = field(default_factory=dict)
    token: Token | None = None
    changes: tuple[Sku, ...] = ()
    read_until: int | None = None
    is_resync_due: bool = False
    sync_at: float | None = None
    """When the open sync was opened; None: there is none."""
    is_live: bool = True
    is_paused: bool = False

    def copy(self) -> "Tables":
        """A copy to go back to."""
        return Tables(
            dict(self.goods), dict(self.ledger), dict(self.leases), dict(self.replicas), self.token, self.changes,
            self.read_until, self.is_resync_due, self.sync_at, self.is_live, self.is_paused,
        )  # fmt: skip


Statement = Callable[..., list[Record]]


class Server:
    """`now` is the server's clock, in seconds; `slot_of` says in which slot a SKU is. `notify` is called for each
    notification, `on_write` for each row that was written, when the statement has ended."""

    def __init__(self, now: Callable[[], float], slot_of: Callable[[Sku], Slot]) -> None:
        self.now = now
        self.slot_of = slot_of
        self.tables = Tables()
        self.notify: Callable[[str], None] = lambda _payload: None
        self.is_listing_broken = False
        self._last = 0
        self._last_attempt = 0
        self.statements = self._known()
        self.names = {text: name for name, (text, _) in self.statements.items()}
        self._by_text = dict(self.statements.values())

    def _known(self) -> dict[str, tuple[str, Statement]]:
        """Every statement by its name."""
        capture = _LEDGER["capture"]
        ledger: dict[str, tuple[str, Statement]] = {
            "capture_due": (capture.replace("@due@", "due").replace("@most@", "$6, $7"), self.capture),
            "capture_sync": (capture.replace("@due@", "due_sync").replace("@most@", "$6"), self.capture_sync),
            "read_listing": (LISTING.statement("read_listing", is_whole=False), self.read_listing),
            "read_listing_apart": (
                LISTING.statement("read_listing", is_whole=False, is_apart=True),
                self.read_listing,
            ),
            "mark": (LISTING.statement("mark", is_whole=False), self.mark),
            "mark_all": (LISTING.statement("mark", is_whole=True), self.mark),
            "blockers": (queries.load("locks")["blockers"], _nothing),
            "note_twins": (_TWINS["note_twins"], _nothing),
            "note_names": (_TWINS["note_names"], lambda *_: [Record(skus=None, names=None)]),
        }
        for name in (
            "own_slots", "lock_unchanged", "close_settled", "await_doubt_end", "forget", "park", "shadow",
            "open_attempts", "complete", "rescue", "next_due", "end_shadow", "is_backlog_above", "end_sync",
            "has_acknowledged",
        ):  # fmt: skip
            ledger[name] = (_LEDGER[name], getattr(self, name))
        ledger["successors"] = (_LEDGER["successors"], _nothing)
        for name in ("begin_reading", "take_changes", "mark_blind", "resynced", "want_resync"):
            ledger[name] = (_INTAKE[name], getattr(self, name))
        for name in ("add_slots", "take", "renew", "give_up", "beat", "leave", "replicas", "notify_owners"):
            ledger[name] = (_LEASES[name], getattr(self, name))
        ledger["leases"] = (_LEASES["leases"], self.all_leases)
        ledger["set_trouble"] = (_LEASES["set_trouble"], _nothing)
        for name in ("load", "begin_refresh", "save", "fail_refresh", "invalidate"):
            ledger[f"token_{name}"] = (_TOKENS[name], getattr(self, f"token_{name}"))
        return ledger

    def run(self, text: str, arguments: Sequence[Any]) -> list[Record]:
        """Run one statement to its end."""
        run = self._by_text.get(text)
        if run is None:
            raise AssertionError(f"the stand-in does not know this statement:\n{text[:400]}")
        return run(*arguments)

    # What the world does to the tables

    def sells(self, sku: Sku, quantity: int | None) -> None:
        """The ERP commits a number; None: the SKU leaves the listing."""
        if quantity is None:
            if self.tables.goods.pop(sku, None) is None:
                return
        else:
            self.tables.goods[sku] = ListedRow(1, (f"PN-{sku}", "brand"), quantity)
        self.tables.changes += (sku,)

    def queue_sync(self) -> int:
        """An operator asks for a sync of the whole listing; return how many rows are queued."""
        tables, now = self.tables, self.now()
        tables.sync_at = now if tables.sync_at is None else tables.sync_at
        queued = 0
        for sku, listed in sorted(tables.goods.items()):
            key = (sku, self.slot_of(sku), self._version())
            row = rows.queued_for_sync(tables.ledger.get(sku), key, self._next(), listed, now, tables.sync_at)
            if row is not None:
                tables.ledger[sku] = row
                queued += 1
        return queued

    def retry_parked(self) -> None:
        """An operator has everything that is parked tried again."""
        self._each(lambda row, version: rows.retried(row, version, self.now()))

    def reassert(self) -> None:
        """A reconcile has found every number different."""
        self._each(lambda row, version: rows.reasserted(row, version, self.now()))

    def _each(self, change: Callable[[Row, int], Row | None]) -> None:
        for sku, row in list(self.tables.ledger.items()):
            changed = change(row, self._version())
            if changed is not None:
                self.tables.ledger[sku] = changed

    # The change log and marking

    def begin_reading(self, _channel: str) -> list[Record]:
        if self.tables.read_until is None:
            self.tables.read_until = len(self.tables.changes)
            self.tables.is_resync_due = True
        return []

    def take_changes(self, _channel: str, _most: int) -> list[Record]:
        tables, at = self.tables, START + timedelta(seconds=self.now())
        is_known = tables.read_until is not None
        fresh = tables.changes[tables.read_until or 0 :] if is_known else ()
        if is_known:
            tables.read_until = len(tables.changes)
        skus = list(dict.fromkeys(fresh))
        return [
            Record(
                is_known=is_known, changes=len(fresh), oldest=timedelta(0) if fresh else None, is_everything=False,
                skus=skus or None, times=[at] * len(skus) or None, unreadable=None, oldest_at=at if fresh else None,
                read_at=at, read_from="0:0:", wants_resync=tables.is_resync_due, pid=1,
            )
        ]  # fmt: skip

    def mark(
        self, _channel: str, skus: Sequence[Sku] | None, quiet: timedelta, max_wait: timedelta, urgent_below: int,
        is_change: bool, *_rest: object,
    ) -> list[Record]:  # fmt: skip
        self._need_listing()
        tables, rule = self.tables, (quiet.total_seconds(), max_wait.total_seconds(), urgent_below)
        dirty = sorted({*tables.goods, *tables.ledger} if skus is None else set(skus))
        written = []
        for sku in dirty:
            row, listed = tables.ledger.get(sku), tables.goods.get(sku, ListedRow())
            if rows.differs(row, listed, is_change=is_change, is_whole=skus is None):
                key = (sku, self.slot_of(sku), self._version())
                tables.ledger[sku] = rows.marked(row, key, self._next(), listed, self.now(), rule)
                written.append(tables.ledger[sku])
        urgent = sum(row.urgent for row in written)
        return [Record(marked=len(written), urgent=urgent, anomalies=0, listed=None, zeroes=None, names=None)]

    def mark_blind(self, _channel: str, skus: Sequence[Sku], quiet: timedelta) -> list[Record]:
        for sku in sorted(set(skus)):
            key = (sku, self.slot_of(sku), self._version())
            row = rows.marked_blind(
                self.tables.ledger.get(sku), key, self._next(), self.now(), quiet.total_seconds()
            )
            self.tables.ledger[sku] = row
        return []

    def resynced(self, *_: object) -> list[Record]:
        self.tables.is_resync_due = False
        return []

    def want_resync(self, *_: object) -> list[Record]:
        self.tables.is_resync_due = True
        return []

    # Claims

    def _owned(self, slots: Sequence[Slot], epochs: Sequence[int], holder: str) -> dict[Slot, int]:
        held = self.tables.leases
        return {
            slot: epoch
            for slot, epoch in zip(slots, epochs, strict=True)
            if (lease := held.get(slot)) is not None and lease.epoch == epoch and lease.holder == holder
        }

    def _rows_of(self, slots: Mapping[Slot, int]) -> list[Row]:
        return [row for row in self.tables.ledger.values() if row.slot in slots]

    def capture(
        self, _channel: str, slots: Sequence[Slot], epochs: Sequence[int], holder: str, _guarded: bool, most: int,
        most_patient: int,
    ) -> list[Record]:  # fmt: skip
        if self.tables.is_paused:
            return []
        owned = self._rows_of(self._owned(slots, epochs, holder))
        return self._captured(rows.due(owned, self.now(), most, most_patient))

    def capture_sync(
        self,
        _channel: str,
        slots: Sequence[Slot],
        epochs: Sequence[int],
        holder: str,
        _guarded: bool,
        most: int,
    ) -> list[Record]:
        if self.tables.is_paused:
            return []
        return self._captured(
            rows.due_for_sync(self._rows_of(self._owned(slots, epochs, holder)), self.now(), most)
        )

    def _captured(self, found: Sequence[Row]) -> list[Record]:
        return [Record(rows.captured(row, self.now(), is_live=self.tables.is_live)) for row in found]

    def read_listing(self, skus: Sequence[Sku], *_: object) -> list[Record]:
        self._need_listing()
        found = [(sku, self.tables.goods[sku]) for sku in skus if sku in self.tables.goods]
        return [
            Record(
                sku=sku, rows=listed.rows, identifiers=list(listed.identifiers or ()), quantity=listed.quantity,
                raw_quantity=None, carrier=None, lacks=None, lacks_rows=None, fault=None,
            )
            for sku, listed in found
        ]  # fmt: skip

    def _need_listing(self) -> None:
        if self.is_listing_broken:
            error = asyncpg.UndefinedColumnError('column "quantity" does not exist')
            raise error

    def own_slots(
        self, _channel: str, slots: Sequence[Slot], epochs: Sequence[int], holder: str
    ) -> list[Record]:
        if self.tables.is_paused:
            return []
        return [Record(slot=slot) for slot in self._owned(slots, epochs, holder)]

    def lock_unchanged(self, _channel: str, skus: Sequence[Sku], versions: Sequence[str]) -> list[Record]:
        found = []
        for sku, version in zip(skus, versions, strict=True):
            row = self.tables.ledger.get(sku)
            if row is not None and str(row.version) == version and row.attempt_id is None:
                found.append(Record(sku=sku))
        return found

    def _rewrite(self, skus: Sequence[Sku], change: Callable[[Row, int], Row]) -> list[Record]:
        for sku in skus:
            row = self.tables.ledger.get(sku)
            if row is not None:
                self.tables.ledger[sku] = change(row, self._version())
        return []

    def close_settled(self, _channel: str, skus: Sequence[Sku]) -> list[Record]:
        return self._rewrite(skus, rows.settled)

    def await_doubt_end(self, _channel: str, skus: Sequence[Sku]) -> list[Record]:
        return self._rewrite(skus, rows.awaiting)

    def forget(self, _channel: str, skus: Sequence[Sku]) -> list[Record]:
        for sku in skus:
            row = self.tables.ledger.get(sku)
            if row is not None and row.attempt_id is None:
                del self.tables.ledger[sku]
        return []

    def park(self, _channel: str, text: str) -> list[Record]:
        for one in json.loads(text):
            listed = ListedRow(one["rows"], _names(one["identifiers"]), one["quantity"])
            self._rewrite(
                [one["sku"]],
                lambda row, version, listed=listed, one=one: rows.parked(  # type: ignore[misc]
                    row, version, listed, one["reason"], self.now()
                ),
            )
        return []

    def shadow(
        self, _channel: str, _slots: Sequence[Slot], _epochs: Sequence[int], _holder: str, text: str
    ) -> list[Record]:
        kept = []
        for one in json.loads(text):
            row = self.tables.ledger.get(one["sku"])
            if row is None or row.attempt_id is not None:
                continue
            names = _names(one["identifiers"]) or ()
            listed = ListedRow(one["rows"], _names(one["listed_identifiers"]), one["listed_quantity"])
            is_new = (row.shadow_quantity, row.shadow_identifiers) != (one["quantity"], names)
            self.tables.ledger[row.sku] = rows.shadowed(row, self._version(), one["quantity"], names, listed)
            kept.append(Record(sku=row.sku, is_new=is_new))
        return kept

    def open_attempts(
        self,
        _channel: str,
        slots: Sequence[Slot],
        epochs: Sequence[int],
        holder: str,
        text: str,
        is_sync: bool,
    ) -> list[Record]:
        owned, opened = self._owned(slots, epochs, holder), []
        if self.tables.is_paused or not self.tables.is_live:
            return []
        for one in json.loads(text):
            row = self.tables.ledger.get(one["sku"])
            claimed = Claimed(
                int(one["version"]), one["want_seq"], _names(one["was"]), one["quantity"],
                _names(one["identifiers"]) or (), one["is_delisting"],
            )  # fmt: skip
            if row is None or row.slot not in owned or not rows.may_open(row, claimed, is_sync=is_sync):
                continue
            self._last_attempt += 1
            self.tables.ledger[row.sku] = rows.opened(
                row, claimed, version=self._version(), attempt_id=self._last_attempt, epoch=owned[row.slot],
                now=self.now(), is_sync=is_sync,
            )  # fmt: skip
            opened.append(Record(sku=row.sku, attempt_id=self._last_attempt))
        return opened

    # Outcomes

    def complete(self, _channel: str, holder: str, settle: timedelta, text: str) -> list[Record]:
        written = []
        for one in json.loads(text):
            row = self.tables.ledger.get(one["sku"])
            if row is None or not self.may_complete(row, one["attempt_id"], holder):
                continue
            end = Ending(one["outcome"], one["reason"], one["is_parked"], one["wait_s"])
            after = rows.completed(row, end, self._version(), self.now(), settle.total_seconds())
            self.tables.ledger[row.sku] = after
            is_due = after.due_at is not None or after.sync_at is not None
            since = row.unacked_since if end.outcome == "applied" else None
            took_s = None if since is None else self.now() - since
            written.append(Record(is_due=is_due, took_s=took_s))
        return written

    def may_complete(self, row: Row, attempt_id: int, holder: str) -> bool:
        """The compare-and-set: the attempt is still the open one, under the epoch that the holder has now."""
        lease = self.tables.leases.get(row.slot, Lease())
        return row.attempt_id == attempt_id and lease.holder == holder and lease.epoch == row.attempt_epoch

    def rescue(
        self, _channel: str, slots: Sequence[Slot], epochs: Sequence[int], holder: str, settle: timedelta,
        in_flight: Sequence[int],
    ) -> list[Record]:  # fmt: skip
        lost = [
            row
            for row in self._rows_of(self._owned(slots, epochs, holder))
            if row.attempt_id is not None and row.attempt_id not in in_flight
        ]
        for row in lost:
            self.tables.ledger[row.sku] = rows.rescued(
                row, self._version(), self.now(), settle.total_seconds()
            )
        return [Record(count=len(lost))]

    def next_due(self, _channel: str, slots: Sequence[Slot], _guarded: bool) -> list[Record]:
        now, found = self.now(), self._rows_of(dict.fromkeys(slots, 0))
        if self.tables.is_paused:
            return [Record(change=None, sync=None, is_live=self.tables.is_live)]
        free = [row for row in found if row.attempt_id is None]
        change = rows.least(*(row.due_at for row in free if row.due_at != rows.INFINITY))
        sync = rows.least(*(row.sync_at for row in free if row.due_at is None and row.parked_at is None))
        return [
            Record(
                change=None if change is None else timedelta(seconds=change - now),
                sync=None if sync is None else timedelta(seconds=sync - now),
                is_live=self.tables.is_live,
            )
        ]

    def end_shadow(self, _channel: str, slots: Sequence[Slot], most: int) -> list[Record]:
        found = [
            row.sku
            for row in self._rows_of(dict.fromkeys(slots, 0))
            if row.due_at == rows.INFINITY and row.attempt_id is None
        ]
        made = found[:most] if self.tables.is_live else []
        self._rewrite(made, lambda row, version: rows.shadow_ended(row, version, self.now()))
        return [Record(count=len(made))]

    def is_backlog_above(self, _channel: str, slots: Sequence[Slot], most: int) -> list[Record]:
        found = rows.due(self._rows_of(dict.fromkeys(slots, 0)), self.now(), most + 1, most + 1)
        return [Record(is_above=len(found) > most)]

    def has_acknowledged(self, _channel: str) -> list[Record]:
        return [Record(exists=any(row.acked_quantity is not None for row in self.tables.ledger.values()))]

    def end_sync(self, _channel: str) -> list[Record]:
        is_open = self.tables.sync_at is not None
        is_over = is_open and all(row.sync_at is None for row in self.tables.ledger.values())
        if is_over:
            self.tables.sync_at = None
        return [Record(ended=1 if is_over else None, is_open=is_open and not is_over)]

    # Leases

    def add_slots(self, _channels: Sequence[str]) -> list[Record]:
        for slot in SLOTS:
            self.tables.leases.setdefault(slot, Lease())
        return []

    def take(
        self, channels: Sequence[str], slots: Sequence[Slot], holder: str, lease: timedelta
    ) -> list[Record]:
        taken = []
        for channel, slot in zip(channels, slots, strict=True):
            one = self.tables.leases[slot]
            if one.holder in (None, holder) or one.until < self.now():
                self.tables.leases[slot] = Lease(one.epoch + 1, holder, self.now() + lease.total_seconds())
                taken.append(Record(channel=channel, slot=slot, epoch=one.epoch + 1))
        return taken

    def renew(
        self,
        channels: Sequence[str],
        slots: Sequence[Slot],
        epochs: Sequence[int],
        holder: str,
        lease: timedelta,
    ) -> list[Record]:
        kept = self._owned(slots, epochs, holder)
        for slot, epoch in kept.items():
            self.tables.leases[slot] = Lease(epoch, holder, self.now() + lease.total_seconds())
        return [
            Record(channel=channel, slot=slot)
            for channel, slot in zip(channels, slots, strict=True)
            if slot in kept
        ]

    def give_up(
        self, _channels: Sequence[str], slots: Sequence[Slot], epochs: Sequence[int], holder: str
    ) -> list[Record]:
        given = self._owned(slots, epochs, holder)
        for slot, epoch in given.items():
            self.tables.leases[slot] = Lease(epoch)
        if given:
            self.notify("slot")
        return []

    def all_leases(self) -> list[Record]:
        return [
            Record(
                channel=CHANNEL, slot=slot, epoch=one.epoch, holder=one.holder if one.until >= self.now() else None,
                taken_at=None,
            )
            for slot, one in self.tables.leases.items()
        ]  # fmt: skip

    def beat(self, holder: str, channels: Sequence[str], lease: timedelta) -> list[Record]:
        self.tables.replicas[holder] = (list(channels), self.now() + lease.total_seconds())
        return []

    def leave(self, holder: str) -> list[Record]:
        self.tables.replicas.pop(holder, None)
        return []

    def replicas(self) -> list[Record]:
        return [
            Record(holder=holder, channels=channels)
            for holder, (channels, until) in self.tables.replicas.items()
            if until >= self.now()
        ]

    def notify_owners(self, channel: str) -> list[Record]:
        self.notify(f"marked {channel}")
        return []

    # Tokens

    def token_load(self, _channel: str) -> list[Record]:
        token = self.tables.token
        if token is None or token.value is None or token.expires_at <= self.now():
            return []
        remaining = timedelta(seconds=token.expires_at - self.now())
        return [Record(value=token.value, generation=token.generation, remaining=remaining)]

    def token_begin_refresh(self, _channel: str, seen: int, hold: timedelta) -> list[Record]:
        token, now = self.tables.token, self.now()
        if token is not None:
            is_free = token.refresh_until <= now
            is_old = token.generation <= seen or token.value is None or token.expires_at <= now
            if not (is_free and is_old):
                return []
        old = token or Token()
        self.tables.token = Token(old.value, old.generation, old.expires_at, now + hold.total_seconds())
        return [Record(generation=old.generation)]

    def token_save(self, _channel: str, value: str, valid_for: timedelta) -> list[Record]:
        generation = 1 if self.tables.token is None else self.tables.token.generation + 1
        self.tables.token = Token(value, generation, self.now() + valid_for.total_seconds())
        return [Record(generation=generation)]

    def token_fail_refresh(self, _channel: str, retry_in: timedelta) -> list[Record]:
        if (old := self.tables.token) is not None:
            until = self.now() + retry_in.total_seconds()
            self.tables.token = Token(old.value, old.generation, old.expires_at, until)
        return []

    def token_invalidate(self, _channel: str, generation: int) -> list[Record]:
        if (old := self.tables.token) is not None and old.generation == generation:
            self.tables.token = Token(None, generation, float("-inf"), old.refresh_until)
        return []

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _version(self) -> int:
        return self._next()


def _nothing(*_: object) -> list[Record]:
    return []


def _names(value: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)
