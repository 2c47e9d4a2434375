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
Dot = tuple[int, int]  # from the left, from the top


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
        blank = (0, "")
        self.cells = [[blank] * columns for _ in range(rows)]
        self.last_x = 2 * columns - 1
        self.last_y = 4 * rows - 1

    def draw(self, points: Sequence[Point], colour: str, frame: _Frame) -> None:
        """Join the points by straight lines of dots."""
        places = [self._place(x, y, frame) for x, y in points]
        ends = places[1:] or places  # a single point is joined to itself
        for start, end in zip(places, ends, strict=False):
            self._line(start, end, colour)

    def _place(self, x: float, y: float, frame: _Frame) -> Dot:
        """Return the dot of a point."""
        # A constant line has a range of 0.
        width = (frame.right - frame.left) or 1
        height = (frame.top - frame.bottom) or 1
        from_left = (x - frame.left) / width
        from_top = (frame.top - y) / height
        dot_x = round(from_left * self.last_x)
        dot_y = round(from_top * self.last_y)
        return dot_x, dot_y

    def _line(self, start: Dot, end: Dot, colour: str) -> None:
        start_x, start_y = start
        end_x, end_y = end
        across = end_x - start_x
        down = end_y - start_y
        steps = max(abs(across), abs(down), 1)
        for k in range(steps + 1):
            x = round(start_x + across * k / steps)
            y = round(start_y + down * k / steps)
            self._dot(x, y, colour)

    def _dot(self, x: int, y: int, colour: str) -> None:
        # A character is four dots high and two wide.
        row, dot_row = divmod(y, 4)
        column, dot_column = divmod(x, 2)
        dots, _ = self.cells[row][column]
        dots |= _DOTS[dot_row][dot_column]
        self.cells[row][column] = (dots, colour)


def chart(title: str, series: Sequence[Series], width: int, height: int = 10) -> list[Text]:
    """Return `height` + 3 lines of `width` characters: title, plot, horizontal range, legend."""
    frame = _frame(series)
    # However narrow the terminal, something is drawn.
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


def _frame(series: Sequence[Series]) -> _Frame:
    """Return the range of all points."""
    xs = []
    ys = []
    for line in series:
        for x, y in line.finite:
            xs.append(x)
            ys.append(y)
    return _Frame(min(xs), max(xs), min(ys), max(ys))


def _plot(canvas: _Canvas, frame: _Frame) -> list[Text]:
    """Return the lines of dots, three of them with a label."""
    height = len(canvas.cells)
    labelled = (0, height // 2, height - 1)
    lines = []
    for k, row in enumerate(canvas.cells):
        label = " " * (_MARGIN + 1)
        if k in labelled:
            share = k / max(1, height - 1)
            # So weighted, both ends are labelled with what they are, whatever rounds between.
            of_top = (1 - share) * frame.top
            of_bottom = share * frame.bottom
            value = of_top + of_bottom
            label = f"{value:>{_MARGIN}.3g} "
        line = Text(label, "dim")
        for dots, colour in row:
            line.append(chr(_BLANK + dots), colour or None)
        lines.append(line)
    return lines


def _horizontal_range(frame: _Frame, columns: int) -> Text:
    first = f"{frame.left:g}"
    last = f"epoch {frame.right:g}"
    padding = columns - len(first)
    return Text(f"{'':{_MARGIN}} {first}{last:>{padding}}", "dim")


def _legend(series: Sequence[Series]) -> Text:
    legend = Text(" " * (_MARGIN + 1))
    for line in series:
        legend.append("━ ", line.colour)
        legend.append(f"{line.label}  ", "dim")
    return legend


def side_by_side(left: Sequence[Text], right: Sequence[Text], width: int) -> Text:
    """Return two charts side by side, each `width` wide."""
    both = Text()
    for first, second in zip(left, right, strict=True):
        missing = max(0, width - first.cell_len)
        both.append_text(first)
        both.append(" " * missing)
        both.append_text(second)
        both.append("\n")
    return both
