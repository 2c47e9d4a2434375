"""What is in a data set, in the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from torch import Tensor

from danlu.data import PARTS, Data
from danlu.data.sources.inspect import Inspection
from danlu.report.pictures import half_blocks
from danlu.report.tables import data as tables
from danlu.report.terminal.console import get_console, say, table

_CLASSES_PICTURED = 10
_PICTURES_PER_CLASS = 6


def show(data: Data) -> None:
    """Print tables, sentences, and small pictures where the terminal can show colours."""
    description = tables.describe(data)
    shape = "×".join(map(str, description["input_shape"]))
    say(
        f"{description['source']}: {description['examples']:,} examples of {shape} "
        f"{description['dtype']}, {description['task']}"
    )
    say("")
    table(("", *PARTS), _rows(description))
    if "target" in description:
        say("\n" + tables.target_sentence(description))
    if "text" in description:
        for sentence in tables.text_sentences(description):
            say("\n" + sentence)
    if "roles" in description:
        say("")
        table(tables.ROLE_HEAD, tables.role_rows(description["roles"]))
    elif "columns" in description:
        say("")
        table(("column", *tables.COLUMN_FIGURES), tables.column_rows(description))
    say("")
    if "rank" in description:
        say(tables.rank_sentence(description))
    for sentence in tables.gaps_sentences(description):
        say(sentence)
    say(tables.duplicates_sentence(description))
    if data.mapped:
        say("larger than the memory budget: read from disk as needed")
    if data.schema.is_image and can_show_colours():
        _show_samples(data)


def show_inspection(source: str, inspection: Inspection | None, mistakes: Sequence[str]) -> None:
    """Print what is wrong with a source, and what the columns of a table hold."""
    say(f"{source} cannot be learnt from as it is:")
    for mistake in mistakes:
        say(f"- {mistake}")
    if inspection is None:
        return
    say(f"\n{inspection.rows:,} rows")
    roles = [asdict(note) for note in inspection.columns]
    table(tables.ROLE_HEAD, tables.role_rows(roles))
    for notice in inspection.notices:
        say(f"note: {notice}")


def _rows(description: tables.Description) -> list[list[str]]:
    """Return examples, tokens and classes by part."""
    counted = {"examples": description["parts"]}
    if "text" in description:
        counted["tokens"] = description["text"]["tokens"]
    rows = []
    for name, by_part in counted.items():
        row = [name]
        row += [f"{by_part[part]:,}" for part in PARTS]
        rows.append(row)
    return rows + tables.class_rows(description)


def _show_samples(data: Data) -> None:
    """Print a row of small pictures for each of the first classes."""
    by_class: dict[str, list[Tensor]] = {}
    for x, name in tables.samples(data, _PICTURES_PER_CLASS):
        by_class.setdefault(name, []).append(x)
    shown = list(by_class.items())[:_CLASSES_PICTURED]
    for name, images in shown:
        say(f"\n{name}")
        for line in half_blocks(images):
            sys.stdout.write(line + "\n")


def can_show_colours() -> bool:
    """Whether standard output is a terminal with 24-bit colours."""
    has_true_colour = os.environ.get("COLORTERM", "") in ("truecolor", "24bit")
    return get_console().is_terminal and has_true_colour
