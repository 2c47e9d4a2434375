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
    description: Description = {
        "source": data.source.get("source"),
        "task": schema.task,
        "examples": len(data),
        "input_shape": list(schema.input_shape),
        "dtype": str(data.x.dtype).removeprefix("torch."),
        "in memory": not data.mapped,
        "parts": {part: data.size(part) for part in PARTS},
        "duplicates across parts": data.duplicate_counts(),
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
        # In the training part: nothing can be learnt from such a column.
        constant = []
        for name, column in columns.items():
            if column["min"] == column["max"]:
                constant.append(name)
        description["constant columns"] = constant
    if schema.columns or data.missing:
        description["missing values"] = data.missing
    return description


def _classes(data: Data) -> dict[str, dict[str, int]]:
    """Return examples of each class by part."""
    by_class: dict[str, dict[str, int]] = {name: {} for name in data.schema.classes}
    for part in PARTS:
        counts = data.class_counts(part).tolist()
        for name, n in zip(data.schema.classes, counts, strict=True):
            by_class[name][part] = n
    return by_class


def _columns(data: Data) -> dict[str, dict[str, float]]:
    """Return mean, spread and range of each feature in the training part."""
    names: list[str] = []
    for column in data.schema.columns:
        names += column.features
    chunks = data.chunks("train")
    low, high, mean, std = moments(chunks, data.schema.input_shape)
    figures = torch.stack((mean, std, low, high), 1)  # [F, 4]
    columns = {}
    for name, of_column in zip(names, figures.tolist(), strict=True):
        columns[name] = dict(zip(COLUMN_FIGURES, of_column, strict=True))
    return columns


def _text(data: Data) -> dict[str, Any]:
    """Return vocabulary, lengths, unknown tokens, and a few training examples."""
    lengths = (data.x != PAD).sum(1)  # [N]
    first = data.parts["train"][:_SAMPLES]
    vocabulary = Vocabulary(data.schema.vocabulary)
    return {
        "vocabulary": data.schema.tokens,
        "tokens": {part: int(lengths[data.parts[part]].sum()) for part in PARTS},
        "unknown": {part: data.unknown(part) for part in PARTS},
        "longest": int(lengths.max()),
        "samples": [_decoded(data, i, vocabulary) for i in first.tolist()],
    }


def _decoded(data: Data, i: int, vocabulary: Vocabulary) -> str:
    """Return the beginning of an example's text; of a pair, of both sides."""
    source = data.schema.source
    row = data.x[i].tolist()
    sides = [row]
    if source:
        sides = [row[:source], row[source:]]
    beginnings = []
    for side in sides:
        text = vocabulary.decode(side)
        beginnings.append(text[:_SAMPLE_CHARACTERS])
    return " → ".join(beginnings)


def samples(data: Data, per_class: int = 8) -> list[tuple[torch.Tensor, str]]:
    """Return a few training examples of each class, with its name."""
    index = data.parts["train"]
    labels = data.y[index]
    named = []
    for k, name in enumerate(data.schema.classes[:_CLASSES_SHOWN]):
        of_class = index[labels == k]
        for i in of_class[:per_class].tolist():
            named.append((data.x[i], name))
    return named


def text_sentences(description: Description) -> list[str]:
    """Return vocabulary and examples in words."""
    text = description["text"]
    unknown = []
    for part in PARTS:
        tokens = text["tokens"][part]
        if tokens:
            percent = 100 * text["unknown"][part] / tokens
            unknown.append(f"{percent:.2f} % of {part}")
    summary = (
        f"{text['vocabulary']:,} tokens in the vocabulary, learnt from the training part; unknown: "
        f"{', '.join(unknown)}. The longest example has {text['longest']:,} tokens."
    )
    return [summary, *map(repr, text["samples"])]


def target_sentence(description: Description) -> str:
    """Return what the numbers to predict are like."""
    target = description["target"]
    name = target["name"] or ""
    mean = target["mean"]
    std = target["standard deviation"]
    return f"Target {name}: mean {mean:.4g}, standard deviation {std:.4g} (training part)."


def gaps_sentences(description: Description) -> list[str]:
    """Return constant columns and missing cells in words."""
    sentences = []
    has_columns = "columns" in description
    if has_columns:
        constant = ", ".join(description["constant columns"])
        if constant:
            sentences.append(f"Constant columns: {constant}.")
        else:
            sentences.append("No column is constant.")
    gaps = description.get("missing values")
    if gaps:
        sentences.append(
            f"Missing values: {cells(gaps)}. Their rows are left out here; "
            "fit does so with --missing drop."
        )
    elif has_columns:
        sentences.append("No value is missing.")
    return sentences


def duplicates_sentence(description: Description) -> str:
    """Return what was found of duplicates in words."""
    counts = description["duplicates across parts"]
    if not counts:
        return "No example lies in two parts."
    listed_pairs = [f"{n} in {pair}" for pair, n in counts.items()]
    listed = ", ".join(listed_pairs)
    return f"Equal examples lie in different parts: {listed}."


def class_rows(description: Description) -> list[list[str]]:
    """Return each class with its examples in each part."""
    rows = []
    for name, counts in description.get("classes", {}).items():
        row = [name]
        row += [f"{counts[part]:,}" for part in PARTS]
        rows.append(row)
    return rows


def column_rows(description: Description) -> list[list[str]]:
    """Return each feature with its figures."""
    rows = []
    for name, figures in description["columns"].items():
        row = [name]
        row += [f"{figures[figure]:.4g}" for figure in COLUMN_FIGURES]
        rows.append(row)
    return rows
