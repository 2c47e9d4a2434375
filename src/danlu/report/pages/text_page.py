"""What a page shows of networks that predict something for every token.

Entities and tagged sentences, translations, generated text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from danlu.data.tags import Span, entities_of
from danlu.data.vocabulary import PAD, Vocabulary
from danlu.predict.generate import generate
from danlu.predict.ner_metrics import ALL, entity_counts
from danlu.predict.translate import translate_tokens
from danlu.report.pages import html
from danlu.runs import Run
from danlu.runs.saved_outputs import has_outputs, read_outputs

_SENTENCES = 6  # with mistakes, and as many without
_GENERATED_TOKENS = 400


def sections(run: Run) -> list[str]:
    """Return sections by the task."""
    if run.schema.task == "language":
        pieces = generate(run, temperature=0.8, length=_GENERATED_TOKENS)
        return [html.heading("What it writes"), html.listing("".join(pieces))]
    if not has_outputs(run.sealed):
        return []
    kept = read_outputs(run.sealed)
    if run.schema.task == "pairs":
        return _pairs(run, kept["pairs"])
    return _tags(run, kept)


def _tags(run: Run, kept: dict[str, Tensor]) -> list[str]:
    sizes = kept["sizes"].tolist()
    by_kind = entity_counts(kept["tags"], kept["targets"], sizes, run.schema)
    kinds = sorted(kind for kind in by_kind if kind != ALL)
    rows = []
    for kind in (*kinds, ALL):
        counts = by_kind[kind]
        row = [kind, f"{counts.true:,}"]
        for share in (counts.precision, counts.recall, counts.f1):
            row.append(f"{100 * share:.1f}")
        rows.append(row)
    head = ("kind", "number", "precision, %", "recall, %", "F1, %")
    shown = [html.heading("Entities"), html.table(head, rows)]
    if "tokens" in kept:
        shown.append(html.heading("Sentences"))
        shown += _sentences(run, kept)
    return shown


class _Sentence(NamedTuple):
    """A sentence, and the entities that were predicted and that are there."""

    tokens: list[str]
    predicted: list[Span]
    true: list[Span]

    @property
    def is_right(self) -> bool:
        return self.predicted == self.true

    @property
    def mistakes(self) -> int:
        on_one_side_only = set(self.predicted) ^ set(self.true)
        return len(on_one_side_only)


def _sentences(run: Run, kept: dict[str, Tensor]) -> Iterable[str]:
    """Yield sentences with their entities marked, each with the truth below it if it differs.

    Those with most mistakes come first.
    """
    gap = " " if run.schema.spaced else ""
    wrong = []
    right = []
    for sentence in _read_sentences(run, kept):
        if not sentence.is_right:
            wrong.append(sentence)
        elif sentence.predicted:  # those without entities show nothing
            right.append(sentence)
    # Of as many mistakes the shorter sentence, which is easier to see.
    wrong.sort(key=lambda sentence: (-sentence.mistakes, len(sentence.tokens)))
    for sentence in wrong[:_SENTENCES] + right[:_SENTENCES]:
        guess = marked(sentence.tokens, sentence.predicted, gap)
        shown = f'<p class="sentence">{guess}</p>'
        if not sentence.is_right:
            truth = marked(sentence.tokens, sentence.true, gap)
            shown += f'<p class="sentence soft">should be: {truth}</p>'
        yield shown


def _read_sentences(run: Run, kept: dict[str, Tensor]) -> list[_Sentence]:
    vocabulary = Vocabulary(run.schema.vocabulary).tokens
    sizes = kept["sizes"].tolist()
    tokens_of = kept["tokens"].split(sizes)
    tags_of = kept["tags"].split(sizes)
    targets_of = kept["targets"].split(sizes)
    sentences = []
    for tokens, tags, targets in zip(tokens_of, tags_of, targets_of, strict=True):
        words = [vocabulary[k] for k in tokens.tolist()]
        predicted = entities_of(tags.tolist(), run.schema)
        true = entities_of(targets.tolist(), run.schema)
        sentences.append(_Sentence(words, predicted, true))
    return sentences


def marked(tokens: Sequence[str], entities: Sequence[Span], gap: str) -> str:
    """Return a sentence as HTML with its entities marked and named."""
    pieces = []
    position = 0
    for start, end, kind in entities:
        if position < start:
            between = gap.join(tokens[position:start])
            pieces.append(html.text(between))
        entity = html.text(gap.join(tokens[start:end]))
        name = html.text(kind)
        pieces.append(f"<mark>{entity} <small>{name}</small></mark>")
        position = end
    if position < len(tokens):
        rest = gap.join(tokens[position:])
        pieces.append(html.text(rest))
    return gap.join(pieces)


def _pairs(run: Run, x: Tensor) -> list[str]:
    """Return pairs of the part that was read last, and what is written to their sources."""
    vocabulary = Vocabulary(run.schema.vocabulary)
    size = run.schema.source
    sources = []
    for row in x:
        source = row[:size]
        sources.append(source[source != PAD].tolist())
    translations = translate_tokens(run, sources)
    rows = []
    for row, (written, _) in zip(x.tolist(), translations, strict=True):
        source_text = vocabulary.decode(row[:size])
        target = vocabulary.decode(row[size:])
        is_equal = "yes" if written == target else "no"
        rows.append((source_text, target, written, is_equal))
    head = ("source", "target", "written", "equal")
    return [html.heading("What it writes"), html.table(head, rows)]
