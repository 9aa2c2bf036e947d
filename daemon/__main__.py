"""`stockrelay`, and `python -m daemon`."""

import io
import sys

from daemon.cli import invoke


def main() -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A Chinese part number on a terminal that has no such letters is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
