"""Each command that has --json prints JSON and nothing else on standard output, of one shape whatever it finds."""

import json
from typing import Any

import click
import pytest

from daemon.cli import cli
from tests.acceptance.harness import Stage

# The words of each command, and the keys of its answer; a list has objects with these keys.
ANSWERS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "adopt": ((), {"system_identifier", "confirmed_per_s"}),
    "attempts": (
        ("--limit", "3"),
        {"at", "attempt", "channel", "sku", "identifiers", "quantity", "outcome", "duration_ms", "reason"},
    ),
    "check": ((), {"name", "verdict", "found", "advice"}),
    "audit verify": ((), set()),
    "config show": ((), {"database", "watch", "channels", "run", "log"}),
    "explain": (("SKU-1",), {"asked", "sku", "meaning", "now", "channels"}),
    "go-live": (("sekorm", "--dry-run"), {"channel", "live", "listed", "zeroes", "first", "guard"}),
    "exposure": ((), {"sekorm", "ymatou"}),
    "migrate": ((), {"done"}),
    "parked discard": (("sekorm", "SKU-2"), {"channel", "discarded", "not_parked", "shadow"}),
    "parked list": (("--all",), {"sekorm", "ymatou"}),
    "parked retry": (("sekorm", "--all"), {"channel", "retried", "not_parked", "shadow"}),
    "pause": (("sekorm", "--reason", "a\nb"), {"channel", "since", "by", "reason", "in_flight"}),
    "reconcile": (("--channel", "ymatou"), {"channels"}),
    "release": (("sekorm",), {"channel", "numbers", "held_since", "passes_until", "shadow"}),
    "resume": (("sekorm",), {"channel", "was_paused_since", "was_paused_by", "reason", "shadow"}),
    "status": ((), {"resynced_at", "unread_changes", "channels", "notices"}),
    "sync": (("sekorm", "--dry-run"), {"channel"}),
}
ELSEWHERE = {
    "health": "tests of the ops port",
    "differences": "tests/acceptance/test_mcp.py: there are none here",
    "push": "tests/acceptance/test_push.py: it waits for a marketplace",
    "notify test": "tests/acceptance/test_notify.py: it needs somebody to tell",
    "uninstall": "tests/acceptance/test_uninstall.py: nothing is left for the others",
}


def speaking_json(command: click.Command, above: tuple[str, ...] = ()) -> set[str]:
    """Every command below that has --json."""
    if isinstance(command, click.Group):
        return {
            name for word, below in command.commands.items() for name in speaking_json(below, (*above, word))
        }
    return {" ".join(above)} if any("--json" in one.opts for one in command.params) else set()


def test_every_command_with_json_is_tested() -> None:
    assert speaking_json(cli) - ELSEWHERE.keys() == ANSWERS.keys()


@pytest.mark.settings(reconcile={"enabled": False, "settle_s": 0.2, "patience_s": 5, "rate_per_s": 1000})
async def test_every_answer_is_json_and_nothing_else(stage18: Stage) -> None:
    await stage18.fill(5)
    await stage18.erp.execute("UPDATE erp.stock SET part_no = '' WHERE sku = 'SKU-2'")
    await stage18.migrate()
    replica = await stage18.started()
    await replica.wait_for("dispatch.delivery_parked", sku="SKU-2")
    await replica.wait_for("dispatch.delivery_acknowledged", times=9)
    for command, (words, keys) in ANSWERS.items():
        done = await stage18.stockrelay(*command.split(), *words, "--json")
        # `check` finds the part number that is missing.
        assert done.code == (command == "check"), (command, done)
        answer: Any = json.loads(done.out)
        first = answer[0] if isinstance(answer, list) else answer
        assert keys <= first.keys(), command
        # For people, the same in another shape.
        told = await stage18.stockrelay(*command.split(), *words)
        assert told.code == done.code, (command, told)
        with pytest.raises(json.JSONDecodeError):
            json.loads(told.out)


async def test_what_is_wrong_is_told_beside_the_answer(stage18: Stage) -> None:
    await stage18.migrate()
    done = await stage18.stockrelay("parked", "retry", "sekorm", "SKU-9", "--json")
    assert done.code == 1
    assert json.loads(done.out) == {
        "channel": "sekorm",
        "retried": [],
        "not_parked": ["SKU-9"],
        "shadow": None,
    }
    assert done.err.count("\n") == 1
    assert done.err.startswith("stockrelay: not parked for sekorm: SKU-9; ")
