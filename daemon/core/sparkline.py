"""A small line of a figure over time, as the points of SVG polylines."""

from collections.abc import Sequence


def polylines(values: Sequence[float | None], width: float, height: float) -> list[str]:
    """Return the lines' points, from the oldest value at the left to the newest at the right, the largest at the top.

    None is a gap: no line is drawn over what is not known. A value between two gaps is a short dash.
    """
    known = [value for value in values if value is not None]
    if not known:
        return []
    top = max(known) or 1.0
    step = width / max(1, len(values) - 1)
    lines: list[list[str]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            lines[-1].append(f"{place * step:.1f},{height - value / top * height:.1f}")
    return [" ".join(line if len(line) > 1 else 2 * line) for line in lines if line]
