"""python -m tests.world --seeds 1..20000 [--jobs 2] | --replay SEED | --mutants SEEDS"""

import argparse
import sys

from tests.world.running import mutants, replay, seeds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world", description="Play simulated worlds.")
    parser.add_argument("--seeds", metavar="A..B", help="play these seeds")
    parser.add_argument("--jobs", type=int, default=1, help="in this many processes (1)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="print what happens with this seed")
    parser.add_argument(
        "--mutants", type=int, metavar="SEEDS", help="say which seed finds each planted fault"
    )
    options = parser.parse_args()
    if options.mutants is not None:
        return mutants(options.mutants)
    if options.replay is not None:
        return replay(options.replay)
    if options.seeds is not None:
        first, _, last = options.seeds.partition("..")
        return seeds(range(int(first), int(last or first) + 1), options.jobs)
    parser.print_help()
    return 2


if __name__ == "__main__":
    sys.exit(main())
