"""Shops at the marketplaces, strict to the clause, on one port: a place to try, and the oracle of the tests."""

from daemon.simulator.banner import banner
from daemon.simulator.faults import (
    Bomb,
    Delay,
    DelayAfter,
    Drip,
    Fault,
    Garbage,
    HoldRequest,
    Message,
    Oversized,
    Redirect,
    RefuseSku,
    ResetAfter,
    ResetBefore,
    Status,
    Throttle,
)
from daemon.simulator.journal import Entry, Journal, Key, State
from daemon.simulator.rules import Faults, Rule
from daemon.simulator.server import Simulator
from daemon.simulator.serving import serve
from daemon.simulator.settings import ShopSettings
from daemon.simulator.shops import SimulatorSettings
from daemon.simulator.traffic import Overlap, Stats

__all__ = [
    "Bomb",
    "Delay",
    "DelayAfter",
    "Drip",
    "Entry",
    "Fault",
    "Faults",
    "Garbage",
    "HoldRequest",
    "Journal",
    "Key",
    "Message",
    "Overlap",
    "Oversized",
    "Redirect",
    "RefuseSku",
    "ResetAfter",
    "ResetBefore",
    "Rule",
    "ShopSettings",
    "Simulator",
    "SimulatorSettings",
    "State",
    "Stats",
    "Status",
    "Throttle",
    "banner",
    "serve",
]
