"""A restored copy that takes over: what partners acknowledged after the copy was made is not in it."""

from tests.store.shop import SETTLE, Shop


async def test_every_number_of_an_adopted_copy_is_confirmed_a_few_at_a_time(shop: Shop) -> None:
    for sku in ("A", "B", "C"):
        await shop.deliver(sku, 5)
    await shop.identity.adopt(10, SETTLE)
    rows = [await shop.row(sku) for sku in ("A", "B", "C")]
    dues = [row["due_at"] for row in rows]
    assert dues == sorted(dues)
    assert 0.05 < (dues[2] - dues[1]).total_seconds() < 0.2
    await shop.pass_time(10)
    claim = await shop.claim()
    assert sorted((one.push.sku, one.push.quantity) for one in claim.attempts) == [
        ("A", 5),
        ("B", 5),
        ("C", 5),
    ]
    for attempt in claim.attempts:
        await shop.complete(attempt, "applied")
    assert not (await shop.claim()).attempts
    # A request of which the copy knows nothing may have landed after that.
    await shop.pass_time(SETTLE.total_seconds())
    claim = await shop.claim()
    assert [one.push.sku for one in claim.attempts] == ["A", "B", "C"]
    for attempt in claim.attempts:
        await shop.complete(attempt, "applied")
    assert (await shop.row("A"))["doubt_at"] is None
    await shop.pass_time(SETTLE.total_seconds())
    assert not (await shop.claim()).attempts
