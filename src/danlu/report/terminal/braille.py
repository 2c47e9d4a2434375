"""Line charts of braille dots, for terminals: 2 × 4 dots a character."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800  # the braille character without dots
_MARGIN = 8  # characters for the labels of the vertical axis

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A line: points (x, y) with x ascending."""

    label: str
    colour: str
    points: Sequence[Point]

    @property
    def finite(self) -> list[Point]:
        """The points that can be drawn."""
        return [(x, y) for x, y in self.points if math.isfinite(y)]


@dataclass(frozen=True)
class _Frame:
    """The range of the axes."""

    left: float
    right: float
    bottom: float
    top: float


class _Canvas:
    """Characters of dots with a colour each."""

    def __init__(self, columns: int, rows: int) -> None:
        self.cells = [[(0, "")] * columns for _ in range(rows)]
        self.last_x, self.last_y = 2 * columns - 1, 4 * rows - 1

    def draw(self, points: Sequence[Point], colour: str, frame: _Frame) -> None:
        """Join the points by straight lines of dots."""
        width = (frame.right - frame.left) or 1
        height = (frame.top - frame.bottom) or 1
        places = []
        for x, y in points:
            column = round((x - frame.left) / width * self.last_x)
            places.append((column, round((frame.top - y) / height * self.last_y)))
        ends = places[1:] or places  # a single point is joined to itself
        for start, end in zip(places, ends, strict=False):
            self._line(start, end, colour)

    def _line(self, start: tuple[int, int], end: tuple[int, int], colour: str) -> None:
        across, down = end[0] - start[0], end[1] - start[1]
        steps = max(abs(across), abs(down), 1)
        for k in range(steps + 1):
            x = round(start[0] + across * k / steps)
            y = round(start[1] + down * k / steps)
            dots, _ = self.cells[y // 4][x // 2]
            self.cells[y // 4][x // 2] = (dots | _DOTS[y % 4][x % 2], colour)


def chart(title: str, series: Sequence[Series], width: int, height: int = 10) -> list[Text]:
    """Return `height` + 3 lines of `width` characters: title, plot, horizontal range, legend."""
    points = [point for line in series for point in line.finite]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    frame = _Frame(min(xs), max(xs), min(ys), max(ys))
    columns = max(8, width - _MARGIN - 2)
    canvas = _Canvas(columns, height)
    for line in series:
        canvas.draw(line.finite, line.colour, frame)
    return [
        Text(f"{'':{_MARGIN}} {title}", "bold"),
        *_plot(canvas, frame),
        _horizontal_range(frame, columns),
        _legend(series),
    ]


def _plot(canvas: _Canvas, frame: _Frame) -> list[Text]:
    """Return the lines of dots, three of them with a label."""
    height = len(canvas.cells)
    labelled = (0, height // 2, height - 1)
    lines = []
    for k, row in enumerate(canvas.cells):
        value = frame.top - (frame.top - frame.bottom) * k / max(1, height - 1)
        label = f"{value:>{_MARGIN}.3g} " if k in labelled else " " * (_MARGIN + 1)
        line = Text(label, "dim")
        for dots, colour in row:
            line.append(chr(_BLANK + dots), colour or None)
        lines.append(line)
    return lines


def _horizontal_range(frame: _Frame, columns: int) -> Text:
    first, last = f"{frame.left:g}", f"epoch {frame.right:g}"
    return Text(f"{'':{_MARGIN}} {first}{last:>{columns - len(first)}}", "dim")


def _legend(series: Sequence[Series]) -> Text:
    legend = Text(" " * (_MARGIN + 1))
    for line in series:
        legend.append("━ ", line.colour).append(f"{line.label}  ", "dim")
    return legend


def side_by_side(left: Sequence[Text], right: Sequence[Text], width: int) -> Text:
    """Return two charts side by side, each `width` wide."""
    out = Text()
    for first, second in zip(left, right, strict=True):
        padding = " " * max(0, width - first.cell_len)
        out.append_text(first).append(padding).append_text(second).append("\n")
    return out
