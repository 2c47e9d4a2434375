"""What is in a data set: plain values, and sentences on them."""

from __future__ import annotations

from typing import Any

import torch

from danlu.data import PARTS, Data
from danlu.data.normalize import moments
from danlu.data.vocabulary import PAD, Vocabulary
from danlu.errors import cells

COLUMN_FIGURES = ("mean", "std", "min", "max")
_SAMPLES = 3  # training examples of text
_SAMPLE_CHARACTERS = 200
_CLASSES_SHOWN = 50

Description = dict[str, Any]


def describe(data: Data) -> Description:
    """Return shapes, parts, classes with counts, constant columns, duplicates across parts."""
    schema = data.schema
    found = data.duplicates().items()
    description: Description = {
        "source": data.source.get("source"),
        "task": schema.task,
        "examples": len(data),
        "input_shape": list(schema.input_shape),
        "dtype": str(data.x.dtype).removeprefix("torch."),
        "in memory": not data.mapped,
        "parts": {part: data.size(part) for part in PARTS},
        "duplicates across parts": {f"{a}/{b}": len(pairs) for (a, b), pairs in found},
    }
    if schema.classes:
        description["classes"] = _classes(data)
    elif schema.is_regression:
        mean, std = schema.scale
        description["target"] = {
            "name": schema.target,
            "mean": mean,
            "standard deviation": std,
        }
    if schema.is_text:
        description["text"] = _text(data)
    if schema.columns:
        columns = _columns(data)
        description["columns"] = columns
        constant = [name for name, c in columns.items() if c["min"] == c["max"]]
        description["constant columns"] = constant
    if schema.columns or data.missing:
        description["missing values"] = data.missing
    return description


def _classes(data: Data) -> dict[str, dict[str, int]]:
    """Return examples of each class by part."""
    counts = {part: data.class_counts(part).tolist() for part in PARTS}
    found = {}
    for k, name in enumerate(data.schema.classes):
        found[name] = {part: counts[part][k] for part in PARTS}
    return found


def _columns(data: Data) -> dict[str, dict[str, float]]:
    """Return mean, spread and range of each feature in the training part."""
    names = [feature for column in data.schema.columns for feature in column.features]
    low, high, mean, std = moments(data.chunks("train"), data.schema.input_shape)
    rows = zip(names, mean.tolist(), std.tolist(), low.tolist(), high.tolist(), strict=True)
    return {name: dict(zip(COLUMN_FIGURES, figures, strict=True)) for name, *figures in rows}


def _text(data: Data) -> dict[str, Any]:
    """Return vocabulary, lengths, unknown tokens, and a few training examples."""
    vocabulary, source = Vocabulary(data.schema.vocabulary), data.schema.source
    tokens = {part: data.x[data.parts[part]] for part in PARTS}
    samples = []
    for i in data.parts["train"][:_SAMPLES].tolist():
        row = data.x[i].tolist()
        sides = [row[:source], row[source:]] if source else [row]
        decoded = [vocabulary.decode(side)[:_SAMPLE_CHARACTERS] for side in sides]
        samples.append(" → ".join(decoded))
    return {
        "vocabulary": data.schema.tokens,
        "tokens": {part: int((x != PAD).sum()) for part, x in tokens.items()},
        "unknown": {part: data.unknown(part) for part in PARTS},
        "longest": int((data.x != PAD).sum(1).max()),
        "samples": samples,
    }


def samples(data: Data, per_class: int = 8) -> list[tuple[torch.Tensor, str]]:
    """Return a few training examples of each class, with its name."""
    index = data.parts["train"]
    labels = data.y[index]
    found = []
    for k, name in enumerate(data.schema.classes[:_CLASSES_SHOWN]):
        found += [(data.x[i], name) for i in index[labels == k][:per_class].tolist()]
    return found


def text_sentences(description: Description) -> list[str]:
    """Return vocabulary and examples in words."""
    text = description["text"]
    unknown = []
    for part in PARTS:
        tokens = text["tokens"][part]
        if tokens:
            unknown.append(f"{100 * text['unknown'][part] / tokens:.2f} % of {part}")
    return [
        f"{text['vocabulary']:,} tokens in the vocabulary, learnt from the training part; unknown: "
        f"{', '.join(unknown)}. The longest example has {text['longest']:,} tokens.",
        *(repr(sample) for sample in text["samples"]),
    ]


def target_sentence(description: Description) -> str:
    """Return what the numbers to predict are like."""
    target = description["target"]
    return (
        f"Target {target['name'] or ''}: mean {target['mean']:.4g}, "
        f"standard deviation {target['standard deviation']:.4g} (training part)."
    )


def gaps_sentences(description: Description) -> list[str]:
    """Return constant columns and missing cells in words."""
    sentences, has_columns = [], "columns" in description
    if has_columns:
        constant = ", ".join(description["constant columns"])
        sentences.append(f"Constant columns: {constant}." if constant else "No column is constant.")
    if gaps := description.get("missing values"):
        sentences.append(
            f"Missing values: {cells(gaps)}. Their rows are left out here; "
            "fit does so with --missing drop."
        )
    elif has_columns:
        sentences.append("No value is missing.")
    return sentences


def duplicates_sentence(description: Description) -> str:
    """Return what was found of duplicates in words."""
    found = description["duplicates across parts"]
    if not found:
        return "No example lies in two parts."
    listed = ", ".join(f"{n} in {pair}" for pair, n in found.items())
    return f"Equal examples lie in different parts: {listed}."


def class_rows(description: Description) -> list[list[str]]:
    """Return each class with its examples in each part."""
    rows = []
    for name, counts in description.get("classes", {}).items():
        rows.append([name, *(f"{counts[part]:,}" for part in PARTS)])
    return rows


def column_rows(description: Description) -> list[list[str]]:
    """Return each feature with its figures."""
    rows = []
    for name, figures in description["columns"].items():
        rows.append([name, *(f"{figures[figure]:.4g}" for figure in COLUMN_FIGURES)])
    return rows
