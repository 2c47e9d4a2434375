"""Examples with a caption each: pictures, texts or rows of a table."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from danlu.data import Schema
from danlu.data.tables.features import shown_cells
from danlu.data.vocabulary import Vocabulary
from danlu.report.pages import html
from danlu.report.pictures import data_uri


def captioned(schema: Schema, examples: Tensor, captions: Sequence[str]) -> str:
    """Return examples [n, …] as what they are, with their captions."""
    if schema.is_image:
        return html.pictures(zip(map(data_uri, examples), captions, strict=True))
    if schema.is_text:
        vocabulary = Vocabulary(schema.vocabulary)
        texts = [vocabulary.decode(x) for x in examples.tolist()]
        return html.table(("", "text"), zip(captions, texts, strict=True))
    head = ["", *(column.name for column in schema.columns)]
    rows = []
    for caption, x in zip(captions, examples.tolist(), strict=True):
        rows.append([caption, *shown_cells(schema.columns, x)])
    return html.table(head, rows)
