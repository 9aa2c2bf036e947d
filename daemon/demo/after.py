"""What to do after the demo, in commands that work as they stand."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_STEPS: Final = (
    ("init", "looks at your database and writes config.toml"),
    ("check", "says what is missing; changes nothing"),
    ("simulate", "plays the marketplaces, to try it against first"),
)


def next_steps() -> Iterator[str]:
    """Yield the commands that come next, for a copy and a paste."""
    program = program_name(sys.executable, str(Path.cwd()), shutil.which("stockrelay"))
    width = max(len(name) for name, _ in _STEPS)
    yield "Next, with a database of your own:"
    for name, purpose in _STEPS:
        yield f"  {program} {name:<{width}}  {purpose}"


def program_name(interpreter: str, folder: str, on_path: str | None) -> str:
    """Return how to call this very program: by its name where that is what the shell finds, by its path, or by its
    interpreter where no script was installed."""
    beside = Path(interpreter).with_name("stockrelay")
    if on_path is not None and Path(on_path).resolve() == beside.resolve():
        return "stockrelay"
    if not os.access(beside, os.X_OK):
        return f"{shlex.quote(interpreter)} -m daemon"
    if beside.is_relative_to(folder):
        return shlex.quote(str(beside.relative_to(folder)))
    return shlex.quote(str(beside))
