"""What networks say of text, in the terminal."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence

from rich.text import Text

from danlu.predict.text import Tagged
from danlu.report.terminal.console import console, table

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def show_tagged(sentences: Sequence[Tagged], json: bool) -> None:
    """Each sentence with its entities coloured and named: [王刚 NAME]和…; or as JSON lines."""
    kinds = sorted({kind for s in sentences for *_, kind in s.entities})
    for s in sentences:
        if json:
            found = [
                {"text": s.gap.join(s.tokens[a:b]), "from": a, "to": b, "kind": kind}
                for a, b, kind in s.entities
            ]
            print(
                jsonlib.dumps(
                    {"tokens": s.tokens, "tags": s.tags, "entities": found}, ensure_ascii=False
                )
            )
            continue
        console.print(coloured(s, kinds))


def show_pairs(texts: Sequence[str], found: Sequence[tuple[str, float]], json: bool) -> None:
    """Each text with what was written to it, and its log P; or as JSON lines."""
    if json:
        for text, (other, nats) in zip(texts, found, strict=True):
            print(
                jsonlib.dumps({"source": text, "target": other, "nats": nats}, ensure_ascii=False)
            )
        return
    rows = [(text, other, f"{nats:.2f}") for text, (other, nats) in zip(texts, found, strict=True)]
    table(("source", "target", "log P (nats)"), rows)


def coloured(s: Tagged, kinds: Sequence[str]) -> Text:
    """A sentence with its entities in brackets, in the colour of their kind; plain tags beside their tokens."""
    gap = s.gap
    if not s.entities and set(s.tags) - {"O"}:
        return Text(gap.join(f"{t}/{tag}" for t, tag in zip(s.tokens, s.tags, strict=True)))
    out, at = Text(), 0
    for a, b, kind in s.entities:
        out.append(gap.join(s.tokens[at:a]) + (gap if at < a else ""))
        out.append(
            f"[{gap.join(s.tokens[a:b])} {kind}]" + gap,
            style=f"bold {_COLOURS[kinds.index(kind) % len(_COLOURS)]}",
        )
        at = b
    out.append(gap.join(s.tokens[at:]))
    return out
