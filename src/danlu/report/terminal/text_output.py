"""What networks say of text, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from danlu.predict.text import Tagged
from danlu.report.terminal.console import get_console, table
from danlu.report.terminal.json_output import print_json

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def show_tagged(sentences: Sequence[Tagged], json: bool) -> None:
    """Print each sentence with its entities marked, [王刚 NAME]和…, or as JSON lines."""
    kinds_of_all = set()
    for sentence in sentences:
        kinds_of_all |= {kind for *_, kind in sentence.entities}
    # In the same order whatever comes first, so that a kind keeps its colour.
    kinds = sorted(kinds_of_all)
    for sentence in sentences:
        if json:
            print_json(_as_plain(sentence))
        else:
            get_console().print(coloured(sentence, kinds))


def _as_plain(sentence: Tagged) -> dict[str, Any]:
    entities = []
    for start, end, kind in sentence.entities:
        text = sentence.gap.join(sentence.tokens[start:end])
        entities.append({"text": text, "from": start, "to": end, "kind": kind})
    return {"tokens": sentence.tokens, "tags": sentence.tags, "entities": entities}


def show_pairs(texts: Sequence[str], written: Sequence[tuple[str, float]], json: bool) -> None:
    """Print each text with what was written to it, and its log P; or as JSON lines."""
    rows = []
    for source, (target, nats) in zip(texts, written, strict=True):
        if json:
            print_json({"source": source, "target": target, "nats": nats})
        rows.append((source, target, f"{nats:.2f}"))
    if not json:
        table(("source", "target", "log P (nats)"), rows)


def coloured(sentence: Tagged, kinds: Sequence[str]) -> Text:
    """Return a sentence with its entities in brackets, in the colour of their kind.

    Plain tags, such as parts of speech, stand beside their tokens.
    """
    gap = sentence.gap
    tokens = sentence.tokens
    has_tags = bool(set(sentence.tags) - {"O"})
    if has_tags and not sentence.entities:
        words = []
        for token, tag in zip(tokens, sentence.tags, strict=True):
            words.append(f"{token}/{tag}")
        return Text(gap.join(words))
    shown = Text()
    position = 0
    for start, end, kind in sentence.entities:
        between = tokens[position:start]
        if between:
            shown.append(gap.join(between) + gap)
        entity = gap.join(tokens[start:end])
        # With more kinds than colours, colours come again.
        number = kinds.index(kind)
        colour = _COLOURS[number % len(_COLOURS)]
        shown.append(f"[{entity} {kind}]{gap}", style=f"bold {colour}")
        position = end
    shown.append(gap.join(tokens[position:]))
    return shown
