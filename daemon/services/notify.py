"""Notifications: posts notices about channels, and delivers notices to every receiver.

Runs in every replica; the database hands each notice to one of them. A receiver that fails or hangs is tried again
later and keeps nothing else waiting: no push, no other receiver, not the daemon's stop. A replica that dies between a
delivery and writing it down makes that notice come twice, which is the lesser evil.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta, tzinfo
from functools import partial
from typing import Final, Protocol

import structlog

from daemon import clock
from daemon.core import notifications
from daemon.core.backoff import AT_ONCE, Interval, backoff
from daemon.core.errors import StockrelayError
from daemon.core.notice import GUARD_QUESTION, NOTIFICATION_FAILED, Notice
from daemon.core.notifications import Language, Notification
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog, unwatched
from daemon.services.loop import Pace, run_loop
from daemon.settings.sections import Notify
from daemon.store.outbox import DeliveryReport, Outbox, TakenNotice

log = structlog.get_logger(__name__)

_POLL_S: Final = 2.0
_BACKOFF_CAP: Final = timedelta(seconds=60)
_LOOK_S: Final = 10.0
"""How often channels are looked at."""
_LASTING: Final = timedelta(seconds=60)
"""Shorter trouble, and a shorter recovery, are not notified: a channel that flaps is reported once."""
_PARKED_EVERY: Final = timedelta(hours=1)
_KEEP: Final = timedelta(days=90)
_FORGET_S: Final = 3600.0
_LONGEST_STEP_S: Final = 600.0
"""What looking, forgetting and writing down may take, beside the receivers' timeout."""
_HOLD_MORE: Final = timedelta(seconds=30)
_STOP_S: Final = 1.0
"""How long a delivery may still take after a stop; then it counts as failed, and the next replica retries it."""
_LEFT: Final = "the daemon stopped before it answered"
_URGENT: Final = (GUARD_QUESTION,)


class Receiver(Protocol):
    """A receiver of notifications. `name` holds no secret."""

    @property
    def name(self) -> str: ...

    async def send(self, message: Notification, language: Language, timeout: timedelta) -> str | None:
        """Deliver; return why it failed, or None."""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How people are notified. `titles` are the channels' names for people; messages show times in `zone`."""

    settings: Notify
    titles: Mapping[str, str]
    zone: tzinfo
    lasting: timedelta = _LASTING


@dataclass(eq=False)
class Notifier:
    """The service. Without receivers, notices are ended unsent."""

    outbox: Outbox
    receivers: Sequence[Receiver]
    channels: Sequence[ChannelName]
    policy: DeliveryPolicy
    watchdog: Watchdog = field(default_factory=unwatched)
    _look_at: float = -math.inf
    _forget_at: float = -math.inf

    def use(self, receivers: Sequence[Receiver], policy: DeliveryPolicy) -> None:
        """Deliver from the next message on like this."""
        self.receivers = receivers
        self.policy = policy

    async def run(self, stop: asyncio.Event) -> None:
        if not self.receivers:
            log.warning("notify.no_receivers", advice="set notify.urls; see docs/notifications.md")
        longest_step_s = _LONGEST_STEP_S + self.policy.settings.timeout.total_seconds()
        pace = Pace(_POLL_S, longest_step_s, base=timedelta(seconds=_POLL_S), cap=_BACKOFF_CAP)
        await run_loop(partial(self._step, stop), stop, self.watchdog, pace, self._on_failure)

    async def _step(self, stop: asyncio.Event) -> Interval | None:
        """Post what is due and deliver the next message."""
        now = clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            await self._look()
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_S
            await self.outbox.forget(_KEEP)
        return AT_ONCE if await self._deliver_next(stop) else None

    def _on_failure(self, error: StockrelayError) -> None:
        log.warning("notify.step_failed", reason=str(error))

    async def _look(self) -> None:
        """Post what no other service posts."""
        await self.outbox.post_trouble_notices(self.channels, self.policy.lasting)
        for channel in self.channels:
            await self.outbox.post_parked_notices(channel, self.policy.settings.gather, _PARKED_EVERY)

    async def _deliver_next(self, stop: asyncio.Event) -> bool:
        """Deliver the next message; False: there is none."""
        if not self.receivers:
            for notice in await self.outbox.skip_waiting():
                log.info("notify.notice_unsent", kind=notice.kind, channel=notice.channel, key=notice.key)
            return False
        own = self.policy.settings
        taken = await self.outbox.take(own.timeout + _HOLD_MORE, own.gather, own.most_per_hour, _URGENT)
        if not taken:
            return False
        await self._finish(taken, await self._send(taken, stop))
        return True

    async def _send(self, taken: Sequence[TakenNotice], stop: asyncio.Event) -> dict[str, str | None]:
        """Deliver to all who do not have it; say why each failed, or None."""
        message = self._message(taken)
        own = self.policy.settings
        left = [receiver for receiver in self.receivers if receiver.name not in taken[0].reached]
        sending = {
            receiver.name: asyncio.create_task(
                receiver.send(message, own.language, own.timeout), name=f"notify {receiver.name}"
            )
            for receiver in left
        }
        if not sending:
            return {}
        stopping = asyncio.create_task(_stopped(stop), name="notify-stopping")
        everybody = asyncio.ensure_future(asyncio.gather(*sending.values()))
        try:
            await asyncio.wait((everybody, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (stopping, everybody):
                waiting.cancel()
            await asyncio.gather(stopping, everybody, return_exceptions=True)
        return {name: _LEFT if task.cancelled() else task.result() for name, task in sending.items()}

    def _message(self, taken: Sequence[TakenNotice]) -> Notification:
        language, zone, titles = self.policy.settings.language, self.policy.zone, self.policy.titles
        notices = [each.notice for each in taken]
        return notifications.gather(
            [notifications.render(n.kind, n.channel, n.data, language, zone, titles) for n in notices],
            language,
        )

    async def _finish(self, taken: Sequence[TakenNotice], results: dict[str, str | None]) -> None:
        """Record who got the message; what is undelivered for too long is given up, and a notice says so."""
        kind = taken[0].notice.kind
        failures = {name: reason for name, reason in results.items() if reason is not None}
        error = "; ".join(f"{name}: {reason}" for name, reason in failures.items()) or None
        reached = {*taken[0].reached, *(results.keys() - failures.keys())}
        pauses = [self._pause(each) for each in taken]
        # A notice about an undelivered notice never expires: nothing else would report it.
        are_over = [
            each.age >= self.policy.settings.give_up and kind != NOTIFICATION_FAILED for each in taken
        ]
        report = DeliveryReport(
            tuple(reached), error, not failures, len(failures) < len(results), pauses, are_over
        )
        ours = await self.outbox.finish(taken, report)
        for name, reason in results.items():
            fields = {"receiver": name, "kind": kind, "notices": [each.id for each in taken]}
            if reason is None:
                log.info("notify.message_delivered", **fields)
            else:
                retry_s = round(min(pauses).total_seconds(), 1)
                log.warning("notify.delivery_failed", reason=reason, retry_s=retry_s, **fields)
        for each, is_over in zip(taken, are_over, strict=True):
            if failures and is_over and each.id in ours:
                await self._give_up(each, error or "")
        if not failures and kind != NOTIFICATION_FAILED:
            await self.outbox.retry_now(NOTIFICATION_FAILED)

    async def _give_up(self, taken: TakenNotice, error: str) -> None:
        notice = taken.notice
        log.error(
            "notify.notice_undelivered",
            kind=notice.kind,
            channel=notice.channel,
            key=notice.key,
            tries=taken.tries,
            reason=error,
            data=notice.data,
        )
        data = {"kind": notice.kind, "reason": error, "since": taken.created_at.isoformat()}
        await self.outbox.post(Notice(NOTIFICATION_FAILED, f"undelivered:{taken.id}", notice.channel, data))

    def _pause(self, taken: TakenNotice) -> timedelta:
        own = self.policy.settings
        return backoff(taken.tries, own.retry, own.retry_most, clock.jitter())


async def _stopped(stop: asyncio.Event) -> None:
    """Return a moment after `stop`."""
    await stop.wait()
    await asyncio.sleep(_STOP_S)
