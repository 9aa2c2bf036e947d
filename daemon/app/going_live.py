"""What a channel that is new to the database would be sent, and letting it be sent to."""

from dataclasses import dataclass
from typing import Any

from daemon.app.building import opened
from daemon.core.first_day import FirstDay
from daemon.core.types import ChannelName
from daemon.settings import Settings
from daemon.store.guard import Guard
from daemon.store.leases import Leases
from daemon.store.live import LiveChannel, Lives


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of the channel. `live`: it may be sent to already; `answer`: the facts for people."""

    facts: FirstDay
    live: LiveChannel | None
    has_owner: bool
    answer: dict[str, Any]


async def look(settings: Settings, name: ChannelName) -> Found:
    """Return what would be sent; change nothing."""
    async with opened(settings) as database:
        lives = Lives(database)
        live = (await lives.all()).get(name)
        facts = await lives.first_day(name)
        guard = await Guard(database).state(name)
        leases = await Leases(database).all()
    answer = facts.as_answer() | {"guard": guard.why if guard.held_since else None}
    has_owner = any(lease.holder for lease in leases if lease.channel == name)
    return Found(facts, live, has_owner, answer)
