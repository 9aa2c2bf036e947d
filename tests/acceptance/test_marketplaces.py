"""Several shops of one marketplace in one daemon, and a marketplace that only a test has added."""

import asyncio
import json
import typing
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from daemon.simulator import Garbage, Key, Simulator
from daemon.simulator.faults import FAULT
from daemon.simulator.marketplaces.webhook import WebhookShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.acceptance import oracle
from tests.acceptance.forked import FAULTS
from tests.acceptance.harness import SETTINGS, Stage, stopped, toml
from tests.acceptance.replica import Replica, command
from tests.acceptance.writers import writing
from tests.channels import SEKORM, WEBHOOK, YMATOU

_STUB: Final = """
import sys
sys.path.insert(0, {root!r})
from tests.marketplaces import stub
stub.register()
"""
_OSAKA: Final = "osaka"
_SKUS: Final = 200
_SHAPES: Final = typing.get_args(Garbage.model_fields["shape"].annotation)
_FAULTS: Final[Sequence[Mapping[str, Any]]] = [
    {"kind": "delay", "seconds": 0.3},
    {"kind": "delay_after", "seconds": 3.0},
    {"kind": "reset_before"},
    {"kind": "reset_after"},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 502, "apply": True},
    {"kind": "throttle", "times": 2},
    *({"kind": "garbage", "shape": shape} for shape in _SHAPES),
]


async def test_two_shops_at_one_marketplace_and_another_go_on_while_one_shop_is_in_trouble(
    stage18: Stage,
) -> None:
    stage, simulator = stage18, stage18.simulator
    simulator.configure(stage.marketplaces.with_shop(_OSAKA, "ymatou"))
    osaka = simulator.settings.of(YmatouShop, _OSAKA)
    section = {
        **SETTINGS["channel"], "marketplace": "ymatou", "base_url": simulator.url,
        "app_id": osaka.app_id, "app_secret": osaka.app_secret, "auth_code": osaka.auth_code,
        "listing": "SELECT sku, 'OSAKA-' || sku AS outer_sku_id, on_hand + 1 AS quantity FROM erp.stock",
    }  # fmt: skip
    with stage.config.open("a", encoding="utf-8") as config:
        config.write("\n" + toml({f"channels.{_OSAKA}": section}))
    await stage.fill(10)
    await stage.migrate()
    replica = await stage.started()
    await stage.converged()
    held: dict[Key, int] = {f"OSAKA-SKU-{number}": 101 for number in range(1, 11)}
    await simulator.wait_for_state(_OSAKA, held)
    # The second shop takes its authorisation back.
    simulator.change(_OSAKA, auth_code="withdrawn")
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 50")
    line = await replica.wait_for("dispatch.breaker_opened", channel=_OSAKA)
    assert (line["trouble"], "channels.osaka.auth_code" in line["advice"]) == ("credential", True)
    assert await stage.converged() < 10
    assert simulator.state.of(_OSAKA) == held
    channels = (await stage.status())["channels"]
    assert channels[_OSAKA]["trouble"]["what"] == "credential"
    assert (channels[SEKORM]["trouble"], channels[YMATOU]["trouble"]) == (None, None)
    assert not simulator.state.of(YMATOU).keys() & held.keys(), "the shops' numbers were mixed up"


def _only_webhooks(stage: Stage, *shops: str) -> None:
    """Configure these webhooks as the only channels."""
    plain = {name: values for name, values in SETTINGS.items() if name in {"debounce", "run", "ops", "log"}}
    channels = {
        f"channels.{shop}": {
            **SETTINGS["channel"],
            "base_url": f"{stage.simulator.url}/webhook/{shop}",
            "secret": stage.simulator.settings.of(WebhookShop, shop).secret,
            "listing": "SELECT sku, part_no AS external_id, on_hand AS quantity FROM erp.stock",
        }
        for shop in shops
    }
    stage.config.write_text(
        toml(
            {
                "database": {"dsn": stage.database.dsn},
                "[watch]": {"table": "erp.stock", "sku": "sku"},
                **plain,
                "reconcile": {"settle_s": 0.1},
                **channels,
            }
        )
    )


async def _answer(config: Path, code: str, *words: str) -> Any:  # noqa: ANN401 - JSON
    done = await command(config, *words, "--json", **{FAULTS: code})
    assert done.code == 0, done
    return json.loads(done.out)


async def test_a_marketplace_that_a_test_adds_passes_check_sync_run_explain_and_the_night(
    stage18: Stage, tmp_path: Path
) -> None:
    stage, simulator = stage18, stage18.simulator
    simulator.configure(stage.marketplaces.with_shop("stub", "webhook"))
    code = tmp_path / "stub.py"
    code.write_text(_STUB.format(root=str(Path(__file__).parents[2])), "utf-8")
    _only_webhooks(stage, "stub", "webhook")
    await stage.fill(5)
    migrated = await command(stage.config, "migrate", **{FAULTS: str(code)})
    assert migrated.code == 0, migrated
    checks = await _answer(stage.config, str(code), "check")
    assert {"marketplace stub", "clock stub", "marketplace webhook"} <= {
        check["name"] for check in checks if check["verdict"] == "passed"
    }, checks
    assert (await _answer(stage.config, str(code), "sync", "stub", "--dry-run"))["sendable"] == 5
    await _answer(stage.config, str(code), "sync", "stub")
    assert simulator.state.of("stub") == {f"PN-{number}": 100 for number in range(1, 6)}
    replica = Replica("stub", stage.config, tmp_path, **{FAULTS: str(code)})
    stage._replicas.append(replica)
    await replica.start()
    await simulator.wait_for_state("webhook", {f"PN-{number}": 100 for number in range(1, 6)}, timeout=30)
    await replica.wait_for("doorbell.listening")
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = 'SKU-1'")
    await asyncio.gather(
        *(simulator.wait_for_state(shop, {"PN-1": 0}, timeout=30) for shop in ("stub", "webhook"))
    )
    explained = await _answer(stage.config, str(code), "explain", "SKU-1", "--channel", "stub")
    assert list(explained["channels"]) == ["stub"]
    night = (await _answer(stage.config, str(code), "reconcile", "--channel", "stub"))["channels"]["stub"]
    assert (night["method"], night["incomplete"]) == ("assert", None)


async def test_a_renamed_channel_goes_on_with_its_skus_and_a_name_of_another_marketplace_is_refused(
    stage18: Stage,
) -> None:
    stage = stage18
    replica = await stage.running(5)
    sent = stage.simulator.stats.count(YMATOU)
    await stopped(replica)
    # While nothing runs, one SKU is sold out, one leaves the listing, and the channel gets another name.
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = 'SKU-1'")
    await stage.erp.execute("DELETE FROM erp.stock WHERE sku = 'SKU-2'")
    text = stage.config.read_text("utf-8")
    renamed = text.replace("[channels.ymatou]", '[channels.tokyo]\nmarketplace = "ymatou"')
    stage.config.write_text(renamed, "utf-8")
    await replica.start()
    line = await replica.wait_for("run.channel_renamed")
    assert (line["channel"], line["was"], line["skus"]) == ("tokyo", "ymatou", 5)
    held: dict[Key, int] = {"SKU-1": 0, "SKU-2": 0, "SKU-3": 100, "SKU-4": 100, "SKU-5": 100}
    await stage.simulator.wait_for_state(YMATOU, held)
    assert stage.simulator.stats.count(YMATOU) == sent + 2, "what the shop had already was sent again"
    await stopped(replica)
    stage.config.write_text(
        text.replace("[channels.ymatou]", '[channels.osaka]\nmarketplace = "ymatou"').replace(
            "[channels.sekorm]", '[channels.tokyo]\nmarketplace = "sekorm"'
        ),
        "utf-8",
    )
    done = await stage.stockrelay("check")
    assert "tokyo" in done.out
    assert "give the channel of sekorm another name" in done.out.replace("\n", " ")
    done = await stage.stockrelay("run")
    assert (done.code, "another name" in done.err) == (78, True), done


@pytest.mark.timeout(120)
async def test_a_webhook_loses_nothing_to_kills_and_to_every_answer_that_goes_wrong(stage18: Stage) -> None:
    stage, simulator = stage18, stage18.simulator
    _only_webhooks(stage, "webhook")
    await stage.fill(_SKUS)
    await stage.migrate()
    replica = stage.replica()
    await replica.start()
    await replica.wait_for("doorbell.listening")
    await stage.converged(channels=[WEBHOOK])
    since = replica.mark()
    for number, fault in enumerate(_FAULTS):
        simulator.faults.add(
            FAULT.validate_python({**fault, "probability": 0.04, "seed": stage.seed + number})
        )
    async with writing(stage.database.dsn, _SKUS, stage.random, per_s=200) as load:
        for _ in range(2):
            before = len(simulator.journal)
            await simulator.wait_until(partial(_has_grown, simulator, before + 150), timeout=30)
            await replica.kill()
            await replica.start()
    simulator.faults.clear()
    await stage.converged(channels=[WEBHOOK], timeout=60)
    assert load.changes > 0
    assert replica.find("dispatch.attempts_rescued", since=since), "no kill hit a request in flight"
    finding = oracle.judge(
        simulator.journal, await oracle.attempts(stage.erp), SETTINGS["channel"]["settle_s"]
    )
    assert finding.doubts > 0
    assert simulator.stats.overlaps == []


def _has_grown(simulator: Simulator, entries: int) -> bool:
    return len(simulator.journal) >= entries
