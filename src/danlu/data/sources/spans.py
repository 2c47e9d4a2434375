"""Texts whose entities are marked by places: CLUENER's form, and lists of (start, end, kind)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from danlu.data.sources.tagged_lines import Sentence
from danlu.errors import DataError

_SPANS = ("label", "labels", "entities", "spans", "annotations")
_START = ("start", "start_offset", "start_idx", "begin")
_END = ("end", "end_offset", "end_idx")
_KIND = ("label", "type", "entity", "tag", "kind")

Span = tuple[int, int, str]  # first character, one past the last, kind


def field_of_spans(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the field that marks entities in texts; None where no field does."""
    for field in _SPANS:
        values = [row[field] for row in rows if row.get(field)]
        if values and all(map(_are_spans, values)) and all("text" in row for row in rows):
            return field
    return None


def _are_spans(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(by_text, Mapping) for by_text in value.values())
    if not isinstance(value, list):
        return False
    for item in value:
        is_triple = isinstance(item, (list, tuple)) and len(item) == 3
        if not is_triple and not (isinstance(item, Mapping) and _named(item, _START) is not None):
            return False
    return True


def sentences_of(rows: Sequence[Mapping[str, Any]], field: str, name: str) -> list[Sentence]:
    """Return texts as characters with BIO tags. Blanks are no tokens."""
    sentences = []
    for number, row in enumerate(rows, 1):
        text = str(row["text"])
        tags = ["O"] * len(text)
        for start, end, kind in _spans(row.get(field) or {}):
            if not 0 <= start < end <= len(text):
                raise DataError(
                    f"line {number} of {name} marks {kind!r} from {start} to {end}, but its text "
                    f"has {len(text)} characters"
                )
            tags[start:end] = [f"I-{kind}"] * (end - start)
            tags[start] = f"B-{kind}"
        visible = [k for k, sign in enumerate(text) if not sign.isspace()]
        if visible:
            tokens = [text[k] for k in visible]
            sentences.append(Sentence(number, tokens, [tags[k] for k in visible]))
    if not sentences:
        raise DataError(f"{name} holds no text")
    return sentences


def _spans(value: Any) -> list[Span]:
    found: list[Span] = []
    if isinstance(value, Mapping):
        # CLUENER: kind → text → places, the last character included.
        for kind, by_text in value.items():
            for places in by_text.values():
                found += [(int(start), int(end) + 1, str(kind)) for start, end in places]
        return found
    for item in value:
        if isinstance(item, Mapping):
            kind = str(_named(item, _KIND))
            found.append((int(_named(item, _START)), int(_named(item, _END)), kind))
        else:
            start, end, kind = item
            found.append((int(start), int(end), str(kind)))
    return found


def _named(item: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((item[name] for name in names if name in item), None)
