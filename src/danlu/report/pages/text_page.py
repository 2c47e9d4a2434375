"""What a page shows of networks that predict something for every token.

Entities and tagged sentences, translations, generated text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from danlu.data.tags import Span, spans
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
        written = "".join(generate(run, temperature=0.8, length=_GENERATED_TOKENS))
        return [html.heading("What it writes"), html.listing(written)]
    if not has_outputs(run.path):
        return []
    kept = read_outputs(run.path)
    return _pairs(run, kept["pairs"]) if run.schema.task == "pairs" else _tags(run, kept)


def _tags(run: Run, kept: dict[str, Tensor]) -> list[str]:
    by_kind = entity_counts(kept["tags"], kept["targets"], kept["sizes"].tolist(), run.schema)
    kinds = [*(kind for kind in sorted(by_kind) if kind != ALL), ALL]
    rows = []
    for kind in kinds:
        counts = by_kind[kind]
        shares = (counts.precision, counts.recall, counts.f1)
        rows.append([kind, f"{counts.true:,}", *(f"{100 * share:.1f}" for share in shares)])
    head = ("kind", "number", "precision, %", "recall, %", "F1, %")
    found = [html.heading("Entities"), html.table(head, rows)]
    if "tokens" in kept:
        found += [html.heading("Sentences"), *_sentences(run, kept)]
    return found


class _Sentence(NamedTuple):
    """A sentence, and the entities that were predicted and that are there."""

    tokens: list[str]
    predicted: list[Span]
    true: list[Span]

    @property
    def mistakes(self) -> int:
        return len(set(self.predicted) ^ set(self.true))


def _sentences(run: Run, kept: dict[str, Tensor]) -> Iterable[str]:
    """Yield sentences with their entities marked, each with the truth below it if it differs.

    Those with most mistakes come first.
    """
    gap = " " if run.schema.spaced else ""
    every = _read_sentences(run, kept)
    wrong = [s for s in every if s.predicted != s.true]
    wrong.sort(key=lambda s: (-s.mistakes, len(s.tokens)))
    right = [s for s in every if s.predicted == s.true and s.predicted]
    for sentence in wrong[:_SENTENCES] + right[:_SENTENCES]:
        shown = f'<p class="sentence">{marked(sentence.tokens, sentence.predicted, gap)}</p>'
        if sentence.predicted != sentence.true:
            truth = marked(sentence.tokens, sentence.true, gap)
            shown += f'<p class="sentence soft">should be: {truth}</p>'
        yield shown


def _read_sentences(run: Run, kept: dict[str, Tensor]) -> list[_Sentence]:
    names, vocabulary = run.schema.classes, Vocabulary(run.schema.vocabulary).tokens
    sizes = kept["sizes"].tolist()
    by_sentence = [kept[name].split(sizes) for name in ("tokens", "tags", "targets")]
    sentences = []
    for tokens, *tags in zip(*by_sentence, strict=True):
        predicted, true = (spans([names[k] for k in of.tolist()], run.schema.scheme) for of in tags)
        sentences.append(_Sentence([vocabulary[k] for k in tokens.tolist()], predicted, true))
    return sentences


def marked(tokens: Sequence[str], entities: Sequence[Span], gap: str) -> str:
    """Return a sentence as HTML with its entities marked and named."""
    pieces, at = [], 0
    for start, end, kind in entities:
        if at < start:
            pieces.append(html.text(gap.join(tokens[at:start])))
        entity = html.text(gap.join(tokens[start:end]))
        pieces.append(f"<mark>{entity} <small>{html.text(kind)}</small></mark>")
        at = end
    if at < len(tokens):
        pieces.append(html.text(gap.join(tokens[at:])))
    return gap.join(pieces)


def _pairs(run: Run, x: Tensor) -> list[str]:
    """Return pairs of the part that was read last, and what is written to their sources."""
    vocabulary, size = Vocabulary(run.schema.vocabulary), run.schema.source
    sources = [row[:size][row[:size] != PAD].tolist() for row in x]
    rows = []
    for row, (written, _) in zip(x, translate_tokens(run, sources), strict=True):
        source = vocabulary.decode(row[:size].tolist())
        target = vocabulary.decode(row[size:].tolist())
        rows.append((source, target, written, "yes" if written == target else "no"))
    head = ("source", "target", "written", "equal")
    return [html.heading("What it writes"), html.table(head, rows)]
