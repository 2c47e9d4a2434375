"""What is in a data set: for the terminal, and as a page with sample pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from danlu.data import PARTS, Data
from danlu.data.normalize import moments
from danlu.data.sources.tagged import spans
from danlu.data.vocabulary import PAD, Vocabulary
from danlu.errors import cells
from danlu.report.pages import html
from danlu.report.pages.pictures import data_uri
from danlu.report.pages.text_page import marked
from danlu.runs.folder import write


def describe(data: Data) -> dict[str, Any]:
    """Shapes, parts, classes with counts, constant columns, duplicates across parts: plain values."""
    schema = data.schema
    said: dict[str, Any] = {
        "source": data.source.get("source"),
        "task": schema.task,
        "examples": len(data),
        "input_shape": list(schema.input_shape),
        "dtype": str(data.x.dtype).removeprefix("torch."),
        "in memory": not data.mapped,
        "parts": {p: data.size(p) for p in PARTS},
        "duplicates across parts": {f"{a}/{b}": len(v) for (a, b), v in data.duplicates().items()},
    }
    if schema.classes:
        counts = {p: data.class_counts(p).tolist() for p in PARTS}
        said["classes"] = {
            c: {p: counts[p][k] for p in PARTS} for k, c in enumerate(schema.classes)
        }
    elif schema.is_regression:
        said["target"] = {
            "name": schema.target,
            "mean": schema.scale[0],
            "standard deviation": schema.scale[1],
        }
    if schema.is_text:
        said["text"] = _text(data)
    if schema.columns:
        names = [f for c in schema.columns for f in c.features]
        low, high, mean, std = (
            v.tolist() for v in moments(data.chunks("train"), schema.input_shape)
        )
        rows = zip(names, mean, std, low, high, strict=True)
        said["columns"] = {
            n: {"mean": m, "std": s, "min": lo, "max": hi} for n, m, s, lo, hi in rows
        }
        said["constant columns"] = [n for n, c in said["columns"].items() if c["min"] == c["max"]]
    if schema.columns or data.missing:
        said["missing values"] = data.missing
    return said


def _text(data: Data) -> dict[str, Any]:
    """Vocabulary, lengths, what is unknown, and a few training examples."""
    learnt, index = Vocabulary(data.schema.vocabulary), data.parts["train"]
    tokens = {p: data.x[data.parts[p]] for p in PARTS}
    return {
        "vocabulary": data.schema.tokens,
        "tokens": {p: int((x != PAD).sum()) for p, x in tokens.items()},
        "unknown": {p: data.unknown(p) for p in PARTS},
        "longest": int((data.x != PAD).sum(1).max()),
        "samples": [
            _sample(learnt, data.x[i].tolist(), data.schema.source) for i in index[:3].tolist()
        ],
    }


def _sample(learnt: Vocabulary, numbers: list[int], source: int) -> str:
    """The beginning of an example; of a pair both sides."""
    sides = [numbers[:source], numbers[source:]] if source else [numbers]
    return " → ".join(learnt.decode(side)[:200] for side in sides)


def text_sentences(said: dict[str, Any]) -> list[str]:
    """Vocabulary and examples, in words."""
    t = said["text"]
    unknown = ", ".join(
        f"{100 * t['unknown'][p] / max(1, t['tokens'][p]):.2f} % of {p}"
        for p in PARTS
        if t["tokens"][p]
    )
    return [
        f"{t['vocabulary']:,} tokens in the vocabulary, learnt from the training part; unknown: {unknown}. The longest "
        f"example has {t['longest']:,} tokens.",
        *(repr(s) for s in t["samples"]),
    ]


def samples(data: Data, per_class: int = 8) -> list[tuple[torch.Tensor, str]]:
    """A few training examples of each class, with its name."""
    index = data.parts["train"]
    labels = data.y[index]
    found = []
    for k, name in enumerate(data.schema.classes[:50]):
        found += [(data.x[i], name) for i in index[labels == k][:per_class].tolist()]
    return found


def _text_samples(data: Data, n: int = 8) -> list[str]:
    """A few training examples as they are: with their entities, their class, their other side."""
    schema, learnt = data.schema, Vocabulary(data.schema.vocabulary)
    index = data.parts["train"][:n].tolist()
    if schema.task == "tagging" and schema.scheme:
        gap, tokens, names = " " if schema.spaced else "", learnt.tokens, schema.classes
        rows = [
            (data.x[i][data.x[i] != PAD].tolist(), data.y[i][data.y[i] >= 0].tolist())
            for i in index
        ]
        told = [
            marked([tokens[k] for k in x], spans([names[k] for k in y], schema.scheme), gap)
            for x, y in rows
        ]
        return [f'<p class="sentence">{line}</p>' for line in told]
    texts = [learnt.decode(data.x[i].tolist()) for i in index]
    if schema.task == "classification":
        return [
            html.table(
                ("text", "class"),
                [(t, schema.classes[int(data.y[i])]) for i, t in zip(index, texts, strict=True)],
            )
        ]
    if schema.task == "pairs":
        sides = [(data.x[i][: schema.source], data.x[i][schema.source :]) for i in index]
        return [
            html.table(
                ("source", "target"),
                [tuple(learnt.decode(s.tolist()) for s in pair) for pair in sides],
            )
        ]
    return [f"<pre>{html.text(t)}</pre>" for t in texts[:3]]


def _parts(said: dict[str, Any]) -> str:
    """Examples of each part, and of text their tokens."""
    tokens = said["text"]["tokens"] if "text" in said else {}
    head = ("part", "examples", *(["tokens"] if tokens else []))
    return html.table(
        head,
        [(p, f"{n:,}", *([f"{tokens[p]:,}"] if tokens else [])) for p, n in said["parts"].items()],
    )


def write_page(data: Data, path: Path) -> Path:
    """The description as a page."""
    said = describe(data)
    shape = "×".join(map(str, said["input_shape"]))
    sections = [
        f"<h1>{html.text(said['source'])}</h1>",
        f'<p class="soft">{said["examples"]:,} examples of {shape} {said["dtype"]} · {said["task"]}</p>',
        _parts(said),
        f"<p>{html.text(duplicates_sentence(said))}</p>",
    ]
    if "classes" in said:
        sections += [
            "<h2>Classes</h2>",
            html.table(
                ("class", *PARTS),
                [(c, *(f"{v[p]:,}" for p in PARTS)) for c, v in said["classes"].items()],
            ),
        ]
    if "columns" in said:
        figures = [
            (n, *(f"{v[k]:.4g}" for k in ("mean", "std", "min", "max")))
            for n, v in said["columns"].items()
        ]
        sections += [
            "<h2>Columns (training part)</h2>",
            html.table(("column", "mean", "std", "min", "max"), figures),
        ]
    sections += [f"<p>{html.text(sentence)}</p>" for sentence in gaps_sentences(said)]
    if "text" in said:
        sections += [
            "<h2>Text</h2>",
            f"<p>{html.text(text_sentences(said)[0])}</p>",
            *_text_samples(data),
        ]
    if "target" in said:
        sections.insert(4, f"<p>{html.text(target_sentence(said))}</p>")
    if data.schema.is_image:
        sections += ["<h2>Samples</h2>", html.pictures((data_uri(x), c) for x, c in samples(data))]
    write(path, html.page(str(said["source"]), sections, figures=False))
    return path


def target_sentence(said: dict[str, Any]) -> str:
    """What the numbers to predict are like."""
    t = said["target"]
    return f"Target {t['name'] or ''}: mean {t['mean']:.4g}, standard deviation {t['standard deviation']:.4g} (training part)."


def gaps_sentences(said: dict[str, Any]) -> list[str]:
    """Constant columns and missing cells, in words."""
    lines = []
    if "columns" in said:
        constant = said["constant columns"]
        lines.append(
            f"Constant columns: {', '.join(constant)}." if constant else "No column is constant."
        )
    if gaps := said.get("missing values"):
        lines.append(
            f"Missing values: {cells(gaps)}. Their rows are left out here; fit does so with --missing drop."
        )
    elif "columns" in said:
        lines.append("No value is missing.")
    return lines


def duplicates_sentence(said: dict[str, Any]) -> str:
    """What was found, in words."""
    found = said["duplicates across parts"]
    if not found:
        return "No example lies in two parts."
    return (
        "Equal examples lie in different parts: "
        + ", ".join(f"{n} in {pair}" for pair, n in found.items())
        + "."
    )
