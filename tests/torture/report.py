"""What a run prints: how far it is, and its result as text and as JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any, Final, TextIO

from tests.torture.coverage import IMPOSSIBLE
from tests.torture.run import Result, names_of
from tests.torture.world import World

LINE_EVERY_S: Final = 15.0
WIDTH: Final = 30


class Progress:
    """A bar on a terminal, and a line now and then elsewhere."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._shown_at = 0.0

    def show(self, part: float, world: World | None, doing: str) -> None:
        """Show how far the run is."""
        figures = "" if world is None else f"{world.history.changes} changes, {len(world.windows)} faults"
        if self._is_terminal:
            bar = "#" * round(part * WIDTH)
            self._out.write(f"\r[{bar:<{WIDTH}}] {part:4.0%} {figures}  {doing[:60]:<60}")
        elif time.monotonic() - self._shown_at >= LINE_EVERY_S:
            self._shown_at = time.monotonic()
            self._out.write(f"torture: {part:4.0%} {figures}; {doing}\n")
        self._out.flush()

    def end(self) -> None:
        """Leave the line of the bar."""
        if self._is_terminal:
            self._out.write("\n")


def replay(result: Result) -> str:
    """The command that runs the same again."""
    order = result.order
    words = [f"make torture SEED={order.seed} MINUTES={order.seconds / 60:g} SERVER={order.server}"]
    return " ".join([*words, f"BESIDE={order.beside}"] if order.beside else words)


def as_json(result: Result) -> dict[str, Any]:
    """All of it, for programs."""
    rows = names_of(result.order.parts.faults)
    return {
        "seed": result.order.seed,
        "seconds": round(result.seconds, 1),
        "server": result.order.server,
        "changes": result.changes,
        "requests": result.requests,
        "writes": result.writes,
        "doubts": result.doubts,
        "lost": len(result.verdict.lost),
        "stale": len(result.verdict.stale),
        "older": len(result.verdict.older),
        "doubled": result.verdict.doubled,
        "converged_s": round(result.converged_s, 1),
        "faults": result.table.as_json(rows),
        "kinds": result.kinds,
        "problems": result.problems,
    }


def as_text(result: Result) -> str:
    """The report for a person."""
    rows = names_of(result.order.parts.faults)
    verdict = result.verdict
    figures = (
        f"{result.changes} changes, {result.table.fired.total()} faults of {len(rows)} kinds, "
        f"{result.requests} requests, {result.writes} writes, {result.doubts} in doubt\n"
        f"lost {len(verdict.lost)}, stale at rest {len(verdict.stale)}, older over newer {len(verdict.older)}, "
        f"sent again {verdict.doubled}; converged {result.converged_s:.1f} s after the last fault"
    )
    lines = [
        result.table.text(rows),
        *(f"{cell}: impossible: {reason}" for cell, reason in IMPOSSIBLE.items()),
        *(
            f"{name}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
            for name, kinds in sorted(result.kinds.items())
        ),
        figures,
    ]
    if result.problems:
        lines += [f"FAILED: {len(result.problems)} problems", *(f"- {one}" for one in result.problems[:20])]
        lines += [f"evidence: {result.evidence}", f"again:    {replay(result)}"]
    else:
        lines.append("passed")
    return "\n".join(lines)


def write(result: Result, out: Path) -> None:
    """Keep the result beside those of the bench."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(result), ensure_ascii=False, indent=2)
    out.joinpath(f"torture-{result.order.seed}.json").write_text(text, "utf-8")
