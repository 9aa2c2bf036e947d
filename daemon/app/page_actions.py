"""The actions of the page: what each would affect now, and how it is carried out."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from daemon import clock
from daemon.app.building import opened, why_not_sent
from daemon.app.operator_actions import OperatorActions
from daemon.app.reconciling import reconcile_by_hand
from daemon.core.errors import StockrelayError
from daemon.core.operations import Action, Operation, Operator
from daemon.core.page_actions import ActionPreview, ActionRefused, ActionResult
from daemon.core.types import ChannelName, Sku
from daemon.settings import Settings
from daemon.store.control import Pauses
from daemon.store.database import Database
from daemon.store.guard import Guard
from daemon.store.operations import OperationLog
from daemon.store.parked import Parked
from daemon.store.pushes import Pushes

_SHOWN: int = 20
_PUSH_S: float = 300.0


@dataclass(frozen=True, slots=True)
class PageActions:
    """`settings` returns the current ones. Each method raises StockrelayError; ActionRefused has the form's text."""

    settings: Callable[[], Settings]

    def channels(self) -> list[ChannelName]:
        """Return the enabled channels."""
        return list(self.settings().enabled_channels())

    async def recent(self) -> list[Operation]:
        """Return the last operations."""
        async with opened(self.settings()) as database:
            return await OperationLog(database).recent(_SHOWN)

    async def preview(
        self, action: Action, channel: ChannelName, skus: Sequence[Sku] | None
    ) -> ActionPreview:
        """Return what the action would touch now."""
        settings = self.settings()
        async with opened(settings) as database:
            shadow = await why_not_sent(settings, database, channel) is not None
            if shadow and action is Action.PUSH:
                raise ActionRefused("in_shadow")
            return replace(await _touched(database, action, channel, skus), is_shadow=shadow)

    async def act(
        self,
        operator: Operator,
        action: Action,
        channel: ChannelName,
        skus: Sequence[Sku] | None,
        reason: str,
    ) -> ActionResult:
        """Carry out the action; return its result."""
        settings = self.settings()
        if action is Action.RECONCILE:
            day = settings.reconcile.schedule.last_over(clock.now())
            answers = await reconcile_by_hand(
                settings, operator, [channel], day, lambda _name, _progress: None
            )
            answer = answers[channel]
            values = (day, answer.get("checked", 0), answer["incomplete"] or "")
            return ActionResult("done.reconcile", values, answer.get("is_shadow", False))
        async with opened(settings) as database:
            actions = OperatorActions(settings, database, operator)
            shadow = await actions.why_shadow(channel) is not None
            match action:
                case Action.RELEASE:
                    released, _ = await actions.release(channel)
                    text = "done.released" if shadow else "done.release"
                    return ActionResult(text, (released.numbers if released else 0,), shadow)
                case Action.PAUSE:
                    return ActionResult("done.pause", ((await actions.pause(channel, reason))[1],))
                case Action.RESUME:
                    await actions.resume(channel)
                    return ActionResult("done.resume", is_shadow=shadow)
                case Action.RETRY:
                    return ActionResult("done.retry", (len(await actions.retry(channel, skus)),), shadow)
                case Action.DISCARD:
                    return ActionResult("done.discard", (len(await actions.discard(channel, skus)),), shadow)
                case _:
                    assert skus
                    return await _push(actions, channel, skus[0])


async def _touched(
    database: Database, action: Action, channel: ChannelName, skus: Sequence[Sku] | None
) -> ActionPreview:
    match action:
        case Action.RELEASE:
            held, zeroes, which = await Guard(database).held_numbers(channel)
            return _any(ActionPreview((held, zeroes), fingerprint=which), "nothing_held")
        case Action.RETRY | Action.DISCARD:
            is_retry = action is Action.RETRY
            parked = Parked(database, channel)
            count, which = await parked.count_named(skus, with_discarded=is_retry)
            return _any(ActionPreview((count,), fingerprint=which), "nothing_parked")
        case Action.PUSH:
            return await _pushable(database, channel, skus)
        case Action.RESUME if channel not in await Pauses(database).all():
            raise ActionRefused("not_paused")
        case _:
            return ActionPreview()


def _any(preview: ActionPreview, otherwise: str) -> ActionPreview:
    if not preview.numbers[0]:
        raise ActionRefused(otherwise)
    return preview


async def _pushable(database: Database, channel: ChannelName, skus: Sequence[Sku] | None) -> ActionPreview:
    if not skus or len(skus) != 1:
        raise ActionRefused("one_sku")
    state = await Pushes(database, channel).state(skus[0])
    if not state.is_followed:
        raise ActionRefused("not_followed")
    if channel in await Pauses(database).all():
        raise ActionRefused("paused")
    if not state.has_owner:
        raise ActionRefused("no_owner")
    return ActionPreview()


async def _push(actions: OperatorActions, channel: ChannelName, sku: Sku) -> ActionResult:
    """Push, and wait for a few minutes for the end; the page shows meanwhile that it is in progress."""
    try:
        async with asyncio.timeout(_PUSH_S):
            asked_at, _ = await actions.push(channel, sku, lambda _state: None, asyncio.Event())
    except TimeoutError as error:
        raise StockrelayError(
            f"{sku} has not been sent within {_PUSH_S:g} s; the daemon goes on with it by itself"
        ) from error
    if asked_at is None:
        return ActionResult("done.push_held")
    return ActionResult("done.push", (await actions.push_outcome(channel, sku, asked_at),))
