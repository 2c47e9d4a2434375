"""Line charts of braille dots, for terminals: 2 × 4 dots a character."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

Series = tuple[
    str, str, Sequence[tuple[float, float]]
]  # label, colour, points (x, y) with x ascending
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_MARGIN = 8  # characters for the labels of the vertical axis


def chart(title: str, series: Sequence[Series], width: int, height: int = 10) -> list[Text]:
    """`height` + 3 lines of `width` characters: title, plot with its range, horizontal range, legend."""
    points = [p for _, _, ps in series for p in ps if math.isfinite(p[1])]
    low, high = (f(y for _, y in points) for f in (min, max))
    first, last = (f(x for x, _ in points) for f in (min, max))
    columns = max(8, width - _MARGIN - 2)
    canvas = [[(0, "")] * columns for _ in range(height)]
    for _, colour, ps in series:
        _draw(canvas, [p for p in ps if math.isfinite(p[1])], colour, (first, last), (low, high))
    lines = [Text(f"{'':{_MARGIN}} {title}", "bold")]
    for r, row in enumerate(canvas):
        value = high - (high - low) * r / max(1, height - 1)
        line = Text(
            f"{value:>{_MARGIN}.3g} " if r in (0, height // 2, height - 1) else " " * (_MARGIN + 1),
            "dim",
        )
        for bits, colour in row:
            line.append(chr(0x2800 + bits), colour or None)
        lines.append(line)
    ends = f"{first:g}", f"epoch {last:g}"
    lines.append(Text(f"{'':{_MARGIN}} {ends[0]}{ends[1]:>{columns - len(ends[0])}}", "dim"))
    legend = Text(" " * (_MARGIN + 1))
    for label, colour, _ in series:
        legend.append("━ ", colour).append(f"{label}  ", "dim")
    return [*lines, legend]


def _draw(
    canvas: list[list[tuple[int, str]]],
    points: Sequence[tuple[float, float]],
    colour: str,
    across: tuple[float, float],
    up: tuple[float, float],
) -> None:
    """Join the points by straight lines of dots."""
    wide, tall = 2 * len(canvas[0]) - 1, 4 * len(canvas) - 1
    place = [
        (
            round((x - across[0]) / ((across[1] - across[0]) or 1) * wide),
            round((up[1] - y) / ((up[1] - up[0]) or 1) * tall),
        )
        for x, y in points
    ]
    for (a, b), (c, d) in zip(place, place[1:] or place, strict=False):
        steps = max(abs(c - a), abs(d - b), 1)
        for k in range(steps + 1):
            x, y = round(a + (c - a) * k / steps), round(b + (d - b) * k / steps)
            bits, _ = canvas[y // 4][x // 2]
            canvas[y // 4][x // 2] = (bits | _DOTS[y % 4][x % 2], colour)


def beside(left: Sequence[Text], right: Sequence[Text], width: int) -> Text:
    """Two charts side by side, each `width` wide."""
    out = Text()
    for a, b in zip(left, right, strict=True):
        out.append_text(a).append(" " * max(0, width - a.cell_len)).append_text(b).append("\n")
    return out
