"""`stockrelay demo`: a sample ERP, both marketplaces and the daemon, on this machine alone."""


async def run_demo(*, forever: bool = False, skus: int = 400, seed: int = 1) -> int:
    """Show everything at work and return the exit code: 0 when ERP and both marketplaces agree for every SKU.

    `seed` makes the same catalogue and the same shop again. Raises StockrelayError when PostgreSQL cannot be
    started or the daemon ends by itself. See `show.play`.
    """
    # Only here: the tests and the bench use this package's PostgreSQL without all the rest.
    from daemon.demo.show import play

    return await play(forever=forever, skus=skus, seed=seed)
