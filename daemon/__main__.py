"""`stockrelay`, and `python -m daemon`."""

import sys

from daemon.cli import invoke


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
