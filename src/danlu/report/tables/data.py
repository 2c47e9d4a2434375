"""What is in a data set: plain values, and sentences on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from danlu.data import PARTS, Data, rank
from danlu.data.normalize import moments
from danlu.data.vocabulary import PAD, Vocabulary
from danlu.errors import cells

COLUMN_FIGURES = ("mean", "std", "min", "max")
_SAMPLES = 3  # training examples of text
_SAMPLE_CHARACTERS = 200
_CLASSES_SHOWN = 50
_SINGULAR_VALUES_SHOWN = 20
_SHARES_SHOWN = [f"{share:.0%}" for share in rank.SHARES]
_SKEWED = 5  # times its median: a positive target that reaches so far is learnt in logarithms

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
            "proposals": _proposals(data),
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
    if data.columns:
        description["roles"] = [asdict(note) for note in data.columns]
    description["notices"] = list(data.notices)
    found = rank.of_data(data)
    if found is not None:
        description["rank"] = {
            "examples": found.examples,
            "features": found.features,
            "rank": found.rank,
            "effective rank": found.effective,
            "components": dict(zip(_SHARES_SHOWN, found.components, strict=True)),
            "singular values": found.values[:_SINGULAR_VALUES_SHOWN].tolist(),
        }
    return description


def _proposals(data: Data) -> list[str]:
    """Return what may help in learning the numbers to predict."""
    if data.schema.log_target:
        return []
    y = data.y[data.parts["train"]]
    median = float(y.median())
    largest = float(y.max())
    if float(y.min()) <= 0 or largest < _SKEWED * median:
        return []
    return [
        f"The target is above 0 and skewed: its largest value is {largest / median:.0f} times the "
        "median. --log-target learns its logarithm, which often helps."
    ]


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
    names = data.schema.feature_names
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
    sentence = f"Target {name}: mean {mean:.4g}, standard deviation {std:.4g} (training part)."
    return " ".join([sentence, *target["proposals"]])


def gaps_sentences(description: Description) -> list[str]:
    """Return constant features and missing cells in words."""
    sentences = []
    has_columns = "columns" in description
    constant = ", ".join(description.get("constant columns", []))
    if constant:
        sentences.append(f"Constant features in the training part: {constant}.")
    gaps = description.get("missing values")
    if gaps:
        sentences.append(f"Missing values: {cells(gaps)}.")
    elif has_columns:
        sentences.append("No value is missing.")
    return sentences


def rank_sentence(description: Description) -> str:
    """Return how many directions the examples need in words."""
    found = description["rank"]
    components = [f"{n} for {share}" for share, n in found["components"].items()]
    return (
        f"Rank {found['rank']} of {found['features']} features ({found['examples']:,} training "
        f"examples, standardised); effective rank {found['effective rank']:.1f}; components of the "
        f"variance: {', '.join(components)}."
    )


ROLE_HEAD = ("column", "role", "distinct", "missing", "such as")
_EXAMPLE_LENGTH = 30


def role_rows(roles: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return each column of a table with what it was taken for."""
    rows = []
    for role in roles:
        shown = role["role"] if role["is_used"] else f"{role['role']}, left out"
        rows.append(
            [
                role["name"] or "(no name)",
                shown,
                f"{role['distinct']:,}",
                f"{role['missing']:,}",
                role["example"][:_EXAMPLE_LENGTH],
            ]
        )
    return rows


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
