"""What the daemon has sent can be proved by the lines of its log."""

from tests.acceptance.harness import Stage, stopped


async def test_the_heads_that_a_daemon_records_are_held_and_the_first_altered_attempt_is_named(
    stage18: Stage,
) -> None:
    replica = await stage18.running(5)
    await stopped(replica)
    await replica.start()
    await replica.wait_for("audit.head_recorded", times=2)
    heads = [line["head"] for line in replica.find("audit.head_recorded")]
    # A replica's chain is called by the lowest of its slots.
    assert [head.split(":")[1] for head in heads] == ["sekorm/0", "ymatou/0"]
    words = [word for head in heads for word in ("--head", head)]
    done = await stage18.stockrelay("audit", "verify", *words)
    assert (done.code, "10 attempts: nothing was changed" in done.out) == (0, True), done
    altered = await stage18.erp.fetch(
        "UPDATE stockrelay.attempt SET quantity = 1 WHERE channel = 'sekorm' AND sku IN ('SKU-2', 'SKU-4') "
        "RETURNING attempt_id, sku"
    )
    first, second = sorted(tuple(row) for row in altered)
    done = await stage18.stockrelay("audit", "verify", *words)
    assert (done.code, "the log is not what was written" in done.out) == (1, True), done
    named = [line.partition(": ")[2] for line in done.out.splitlines()[:2]]
    for line, (attempt, sku) in zip(named, (first, second), strict=True):
        assert line.startswith(f"attempt {attempt} (sekorm, {sku}) was altered; batch "), named
