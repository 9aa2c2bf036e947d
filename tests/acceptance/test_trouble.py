"""Trouble that is no SKU's: a marketplace refuses the channel, a token dies, a listing fails, a database is a copy."""

import asyncio
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.acceptance.faulty import FaultyReplica
from tests.acceptance.harness import LISTINGS, Stage, stopped
from tests.acceptance.writers import writing
from tests.channels import SEKORM, YMATOU


def _allow(stage: Stage, *networks: IPv4Network) -> None:
    """Put addresses on Sekorm's list; none: every address may call."""
    stage.simulator.configure(stage.marketplaces.changed("sekorm", allowed_addresses=networks or None))


async def test_a_refused_address_pauses_the_channel_with_advice_until_it_is_on_the_list(
    stage18: Stage, tmp_path: Path
) -> None:
    await stage18.fill(100)
    await stage18.migrate()
    # What a person mends is tried again after half a minute otherwise.
    replica = FaultyReplica(stage18.config, tmp_path)
    stage18._replicas.append(replica)
    await replica.start()
    await stage18.converged()
    requests = stage18.simulator.stats.count(SEKORM)
    _allow(stage18, IPv4Network("192.0.2.0/24"))
    async with writing(stage18.database.dsn, 100, stage18.random, per_s=50):
        line = await replica.wait_for("dispatch.breaker_opened", channel=SEKORM)
        assert line["level"] == "error"
        assert line["trouble"] == "address_not_allowed"
        assert line["advice"]
        status = (await stage18.status())["channels"]
        assert status[SEKORM]["trouble"]["what"] == "address_not_allowed"
        assert status[SEKORM]["trouble"]["advice"] == line["advice"]
        assert status[YMATOU]["trouble"] is None
        # The other marketplace is told of everything meanwhile.
        since = replica.mark()
        await replica.wait_for("dispatch.delivery_acknowledged", since=since, channel=YMATOU, times=50)
        assert not replica.find("dispatch.delivery_acknowledged", since, channel=SEKORM)
        refused = stage18.simulator.stats.count(SEKORM) - requests
    assert refused <= 16 + 4, "a channel that is refused is asked once in a while"
    counted = await stage18.erp.fetchrow(
        "SELECT max(failures), count(parked_at), count(doubt_at) FROM stockrelay.ledger WHERE channel = 'sekorm'"
    )
    assert counted is not None
    assert tuple(counted) == (0, 0, 0), "a SKU lost attempts"
    _allow(stage18)
    await replica.wait_for("dispatch.breaker_closed", channel=SEKORM, timeout=60)
    await stage18.converged()
    assert (await stage18.status())["channels"][SEKORM]["trouble"] is None
    finding = await stage18.judged()
    assert finding.doubts == 0


async def test_a_token_lasts_over_restarts_and_is_fetched_once_when_it_is_revoked(stage18: Stage) -> None:
    replica = await stage18.running(100)
    stats = stage18.simulator.stats
    assert stats.token_calls == 1
    await stopped(replica)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    await replica.start()
    await stage18.converged()
    await replica.kill()
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    await replica.start()
    await stage18.converged()
    assert stats.token_calls == 1, "a restart fetched a token"
    async with writing(stage18.database.dsn, 100, stage18.random, per_s=200):
        stage18.simulator.revoke_tokens()
        await replica.wait_for("marketplace.token_dropped")
        since = replica.mark()
        await replica.wait_for("dispatch.delivery_acknowledged", since=since, channel=SEKORM, times=50)
    await stage18.converged()
    assert stats.token_calls == 2, "one refusal costs one refresh"
    refused = await stage18.erp.fetchval("SELECT max(failures) FROM stockrelay.ledger")
    assert refused == 0
    await stage18.judged()


@pytest.mark.settings(
    channel={"rate_per_s": 500},
    ymatou={"listing": "SELECT sku, outer_sku_id, quantity FROM erp.for_ymatou"},
)
async def test_a_listing_that_fails_stops_its_own_channel_only_and_heals(stage18: Stage) -> None:
    view = f"CREATE VIEW erp.for_ymatou AS {LISTINGS[YMATOU]}"
    await stage18.erp.execute(view)
    replica = await stage18.running(100)
    since = replica.mark()
    await stage18.erp.execute("DROP VIEW erp.for_ymatou")
    async with writing(stage18.database.dsn, 100, stage18.random, per_s=50):
        line = await replica.wait_for("intake.listing_failed", since=since, channel=YMATOU)
        assert "for_ymatou" in line["reason"]
        since = replica.mark()
        await replica.wait_for("dispatch.delivery_acknowledged", since=since, channel=SEKORM, times=50)
        again = [line["reason"] for line in replica.find("intake.listing_failed", since)]
        assert again == [], f"what lasts is said once: {line} {again}"
        assert not replica.find("intake.listing_failed", channel=SEKORM)
        await _in_trouble(stage18, [None, "listing"])
        await stage18.erp.execute(view)
        await replica.wait_for("intake.listing_recovered", since=since, channel=YMATOU)
        await replica.wait_for("dispatch.delivery_acknowledged", since=since, channel=YMATOU, times=50)
    await stage18.converged()
    await _in_trouble(stage18, [None, None])
    await stage18.judged()
    await stage18.silent(replica)


async def _in_trouble(stage: Stage, wanted: list[str | None]) -> None:
    """Wait until `status` says that of Sekorm and of Ymatou."""
    seen: list[str | None] | None = None
    async with asyncio.timeout(30):
        while seen != wanted:
            channels = (await stage.status())["channels"]
            troubles = [channels[name]["trouble"] for name in (SEKORM, YMATOU)]
            seen = [trouble and trouble["what"] for trouble in troubles]


async def test_a_copy_of_the_database_is_not_pushed_from_until_it_is_adopted(stage18: Stage) -> None:
    replica = await stage18.running(50)
    await stopped(replica)
    sent = stage18.simulator.stats.requests.total()
    await stage18.erp.execute("UPDATE stockrelay.intake SET system_identifier = system_identifier - 1")
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    await replica.start()
    assert await replica.wait() == 1
    assert "stockrelay adopt" in replica.errors()
    assert stage18.simulator.stats.requests.total() == sent, "a copy was pushed from"
    done = await stage18.stockrelay("adopt")
    assert done.code == 0, done
    await replica.start()
    await stage18.converged()
    await stage18.judged()


async def test_a_database_that_turns_out_to_be_a_copy_stops_the_daemon(stage18: Stage) -> None:
    replica = await stage18.running(50)
    await stage18.erp.execute("UPDATE stockrelay.intake SET system_identifier = system_identifier - 1")
    await stage18.cut_listener()
    assert await replica.wait() == 1
    assert "stockrelay adopt" in replica.errors()
