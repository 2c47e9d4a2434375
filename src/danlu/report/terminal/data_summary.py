"""What is in a data set, in the terminal."""

from __future__ import annotations

import os
import sys

from torch import Tensor

from danlu.data import PARTS, Data
from danlu.report.pages import data_page
from danlu.report.pages.pictures import half_blocks
from danlu.report.terminal.console import console, say, table


def show(data: Data) -> None:
    """Tables, the sentence on duplicates, and small pictures where the terminal can show colours."""
    said = data_page.describe(data)
    shape = "×".join(map(str, said["input_shape"]))
    say(
        f"{said['source']}: {said['examples']:,} examples of {shape} {said['dtype']}, {said['task']}"
    )
    say("")
    head = ("", *PARTS)
    tokens = (
        [("tokens", *(f"{n:,}" for n in said["text"]["tokens"].values()))] if "text" in said else []
    )
    sizes = ("examples", *(f"{n:,}" for n in said["parts"].values()))
    classes = [(c, *(f"{v[p]:,}" for p in PARTS)) for c, v in said.get("classes", {}).items()]
    table(head, [sizes, *tokens, *classes])
    if "target" in said:
        say("\n" + data_page.target_sentence(said))
    for sentence in data_page.text_sentences(said) if "text" in said else []:
        say("\n" + sentence)
    if "columns" in said:
        say("")
        table(
            ("column", "mean", "std", "min", "max"),
            [
                (n, *(f"{v[k]:.4g}" for k in ("mean", "std", "min", "max")))
                for n, v in said["columns"].items()
            ],
        )
    say("")
    for sentence in [*data_page.gaps_sentences(said), data_page.duplicates_sentence(said)]:
        say(sentence)
    if data.mapped:
        say("larger than the memory budget: read from disk as needed")
    if data.schema.is_image and can_show_colours():
        _show_samples(data)


def _show_samples(data: Data) -> None:
    """One row of small pictures per class (up to ten)."""
    found: dict[str, list[Tensor]] = {}
    for x, name in data_page.samples(data, 6):
        found.setdefault(name, []).append(x)
    for name, images in list(found.items())[:10]:
        say(f"\n{name}")
        for line in half_blocks(images):
            sys.stdout.write(line + "\n")


def can_show_colours() -> bool:
    """A terminal with 24-bit colours."""
    return console.is_terminal and os.environ.get("COLORTERM", "") in ("truecolor", "24bit")
