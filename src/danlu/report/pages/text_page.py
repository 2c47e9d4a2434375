"""What a page shows of networks that say something of every token: entities and tagged sentences, what is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from danlu.data.sources.tagged import spans
from danlu.data.vocabulary import PAD, Vocabulary
from danlu.predict.ner_metrics import Span, found
from danlu.predict.text import generate, write_to
from danlu.report.pages import html
from danlu.runs import Run
from danlu.runs.folder import read_tensors

_SHOWN = 6  # sentences with mistakes, and as many without


def sections(run: Run) -> list[str]:
    """By the task: entities and sentences, pairs, or a text."""
    if run.schema.task == "language":
        return [
            "<h2>What it writes</h2>",
            f"<pre>{html.text(''.join(generate(run, temperature=0.8, length=400)))}</pre>",
        ]
    if not (run.path / "test.safetensors").is_file():  # members of studies keep none
        return []
    kept = read_tensors(run.path / "test.safetensors")
    return _pairs(run, kept["pairs"]) if run.schema.task == "pairs" else _tags(run, kept)


def _tags(run: Run, kept: dict[str, Tensor]) -> list[str]:
    by_kind = found(kept["tags"], kept["targets"], kept["sizes"].tolist(), run.schema)
    rows = [
        (kind, f"{f.true:,}", *(f"{100 * v:.1f}" for v in (f.precision, f.recall, f.f1)))
        for kind, f in sorted(by_kind.items(), key=lambda pair: (pair[0] == "all", pair[0]))
    ]
    table = html.table(("kind", "number", "precision, %", "recall, %", "F1, %"), rows)
    return [
        "<h2>Entities</h2>",
        table,
        *(["<h2>Sentences</h2>", *_sentences(run, kept)] if "tokens" in kept else []),
    ]


def _sentences(run: Run, kept: dict[str, Tensor]) -> Iterable[str]:
    """Sentences as they were told, entities marked; those with most mistakes first, each with what is right below it."""
    names, learnt = run.schema.classes, Vocabulary(run.schema.vocabulary).tokens
    sizes, gap = kept["sizes"].tolist(), " " if run.schema.spaced else ""
    rows = []
    for tokens, *tags in zip(
        *(kept[k].split(sizes) for k in ("tokens", "tags", "targets")), strict=True
    ):
        told, there = (spans([names[k] for k in of.tolist()], run.schema.scheme) for of in tags)
        rows.append(([learnt[k] for k in tokens.tolist()], told, there))
    wrong = [r for r in rows if r[1] != r[2]]
    wrong.sort(key=lambda r: (-len(set(r[1]) ^ set(r[2])), len(r[0])))
    right = [r for r in rows if r[1] == r[2] and r[1]]
    for tokens, told, there in wrong[:_SHOWN] + right[:_SHOWN]:
        said = [f'<p class="sentence">{marked(tokens, told, gap)}</p>']
        said += (
            [f'<p class="sentence soft">should be: {marked(tokens, there, gap)}</p>']
            if told != there
            else []
        )
        yield "".join(said)


def marked(tokens: Sequence[str], entities: Sequence[Span], gap: str) -> str:
    """A sentence as HTML with its entities marked and named."""
    out, at = [], 0
    for a, b, kind in entities:
        out += [html.text(gap.join(tokens[at:a]))] if at < a else []
        out.append(
            f"<mark>{html.text(gap.join(tokens[a:b]))} <small>{html.text(kind)}</small></mark>"
        )
        at = b
    out += [html.text(gap.join(tokens[at:]))] if at < len(tokens) else []
    return gap.join(out)


def _pairs(run: Run, x: Tensor) -> list[str]:
    """Pairs of the part that was read last, and what is written to their sources."""
    learnt, source = Vocabulary(run.schema.vocabulary), run.schema.source
    sides = [
        (learnt.decode(row[:source].tolist()), learnt.decode(row[source:].tolist())) for row in x
    ]
    written = [
        text for text, _ in write_to(run, [row[:source][row[:source] != PAD].tolist() for row in x])
    ]
    rows = [(s, t, w, "yes" if w == t else "no") for (s, t), w in zip(sides, written, strict=True)]
    return ["<h2>What it writes</h2>", html.table(("source", "target", "written", "equal"), rows)]
