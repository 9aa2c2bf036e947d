"""`stockrelay`, and `python -m daemon`."""

import io
import os
import signal
import sys
from types import FrameType
from typing import Final

HARMLESS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What log rotation, a reload or a terminal that closes may send. The system would end a process that says nothing
about them; `stockrelay run` has handlers of its own."""
_STANDARD_OUTPUT: Final = 1
_STANDARD_ERROR: Final = 2


_INTERRUPTED: Final = 130


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        code = _run()
    except KeyboardInterrupt:
        # Ctrl-C while the commands are imported.
        code = _INTERRUPTED
    sys.exit(code)


def _run() -> int:
    # Before everything else is imported, which takes a moment.
    for number in HARMLESS:
        if signal.getsignal(number) is signal.SIG_DFL:
            # A function, because programs that we start would inherit that a signal is ignored.
            signal.signal(number, _do_nothing)
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A Chinese part number on a terminal that has no such letters is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    from daemon.cli import invoke

    return invoke(sys.argv[1:])


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    return


def _open_standard_streams() -> None:
    """Put the null device where a standard stream is closed: the next connection that is opened would get its number,
    and what is meant for the stream."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - no keyword is taken
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = os.fdopen(_STANDARD_ERROR, "w")
    if sys.stdout is None:
        sys.stdout = os.fdopen(_STANDARD_OUTPUT, "w")
        sys.stderr.write("stockrelay: standard output is closed: nothing that is written there can be read\n")
        sys.stderr.flush()


if __name__ == "__main__":
    main()
