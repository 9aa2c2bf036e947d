"""A reconcile that an operator asks for, by the command or on the page."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final

from daemon.app import building
from daemon.app.operator_actions import OperatorActions
from daemon.core.errors import LeaseLost, StockrelayError
from daemon.core.operations import Action, Operator
from daemon.core.types import ChannelName
from daemon.services.reconcile.engine import Reconciler
from daemon.services.reconcile.session import MarketplaceUnavailable, RunProgress
from daemon.settings import Settings

_MOST_SHOWN: Final = 10_000

Show = Callable[[ChannelName, RunProgress], None]


async def reconcile_by_hand(
    settings: Settings,
    operator: Operator,
    names: Sequence[ChannelName],
    day: date,
    show: Show,
    *,
    is_dry: bool = False,
) -> dict[ChannelName, dict[str, Any]]:
    """Reconcile the channels one after the other; return each one's report, with `incomplete` where it has no end."""
    holder = building.new_holder()
    answers: dict[ChannelName, dict[str, Any]] = {}
    async with (
        building.opened(settings, 3) as database,
        building.opened_clients(settings, database) as clients,
    ):
        if not is_dry:
            await building.take_accounts(settings, database)
        built = building.reconcilers(settings, database, clients)
        actions = OperatorActions(settings, database, operator)
        for name in names:
            operation = None if is_dry else await actions.begin(Action.RECONCILE, name, f"{day}")
            try:
                answers[name] = await _one(built[name], day, holder, show, is_dry=is_dry)
            except StockrelayError as error:
                # The other channels are reconciled all the same.
                answers[name] = {"day": day.isoformat(), "incomplete": str(error)}
            if operation is not None:
                why = answers[name]["incomplete"]
                await actions.end(operation, Action.RECONCILE, name, why or "completed")
    return answers


async def _one(reconciler: Reconciler, day: date, holder: str, show: Show, *, is_dry: bool) -> dict[str, Any]:
    runs, lease = reconciler.runs, reconciler.limits.lease
    run = await runs.begin_by_hand(reconciler.channel, day, holder, lease, is_dry=is_dry)
    try:
        report = await reconciler.carry_out(
            run,
            lambda progress: show(reconciler.channel, progress),
            is_last_try=run.kind != "scheduled",
            shown=_MOST_SHOWN,
        )
    except LeaseLost:
        raise
    except BaseException as error:
        if not is_dry:
            await runs.release(run)
        if isinstance(error, MarketplaceUnavailable):
            later = "the daemon goes on with this run by itself"
            raise StockrelayError(f"the marketplace gave no answer: {error}; {later}") from error
        raise
    finally:
        if is_dry:
            await runs.drop(run)
    return {"run": run.run_id, "is_dry": is_dry, **report}
