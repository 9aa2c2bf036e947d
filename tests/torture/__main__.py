"""`python -m tests.torture --minutes 5 --seed 7`: the daemon in a world of faults; docs/testing.md says how."""

import argparse
import asyncio
import random
import sys
from pathlib import Path

import tests.torture
from tests.torture.contract import discover
from tests.torture.report import Progress, as_text, write
from tests.torture.run import Order, torture


def main() -> int:
    """Run as the arguments say; 0: nothing was wrong, 1: something was, 130: interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--server", type=int, choices=(15, 18), default=18, help="PostgreSQL's version")
    parser.add_argument("--faults", nargs="*", default=[], help="only these, by number or name")
    parser.add_argument("--beside", type=Path, help="a checkout of another release, for the second replica")
    parser.add_argument(
        "--out", type=Path, default=Path("bench/results"), help="where results and evidence go"
    )
    given = parser.parse_args()
    parts = discover(tests.torture).chosen(given.faults)
    order = Order(parts, given.minutes * 60, given.seed, given.server, given.beside)
    sys.stdout.write(f"torture: seed {given.seed}, {given.minutes:g} minutes, PostgreSQL {given.server}\n")
    sys.stdout.flush()
    progress = Progress()
    try:
        result = asyncio.run(torture(order, given.out, progress.show))
    except KeyboardInterrupt:
        sys.stdout.write("\ntorture: interrupted; everything is removed\n")
        return 130
    finally:
        progress.end()
    write(result, given.out)
    sys.stdout.write(as_text(result) + "\n")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
