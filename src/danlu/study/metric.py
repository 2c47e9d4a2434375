"""The figure that a comparison or a search chooses by."""

from __future__ import annotations

from collections.abc import Sequence

from danlu import metrics
from danlu.data import Data
from danlu.errors import Mistake, nearest, wrong


def resolve(given: str | None, data: Data, parts: Sequence[str]) -> str:
    """Return the figure with its part, such as valid_accuracy; unasked, what suits the data.

    Without a part it is that of the first of the parts that the data have.
    """
    if given is None:
        given = metrics.default(data.schema.metrics, data.training_class_counts)
        if _is_undefined(given, data, parts):
            given = data.schema.metrics[0]
    name = metrics.canonical(given)
    part, _ = metrics.part_and_name(name)
    if part or not data.schema.has_metric(name):
        return name
    first = next((part for part in parts if data.size(part)), parts[0])
    return f"{first}_{name}"


def mistakes_in(
    metric: str, data: Data, parts: Sequence[str], others: Sequence[str]
) -> list[Mistake]:
    """Return what is wrong with a figure; others: names that are no figures of a part."""
    part, name = metrics.part_and_name(metric)
    if metric in others:
        return []
    if part in parts and data.size(str(part)) and data.schema.has_metric(name):
        if not _is_undefined(name, data, [str(part)]):
            return []
        rule = f"needs examples of two classes in the {part} part, which has those of one"
        return [wrong("metric", metric, rule, "try --metric accuracy")]
    known = [f"{p}_{name}" for p in parts if data.size(p) for name in data.schema.metrics]
    near = nearest(metric, [*known, *others])
    hint = f"did you mean {near!r}?" if near else None
    listed = ", ".join(data.schema.metrics)
    given = " or ".join(f"{p}_" for p in parts if data.size(p))
    rule = f"must be one of {listed}, with {given} before it"
    if others:
        rule = f"{rule}, or {' or '.join(others)}"
    return [wrong("metric", metric, rule, hint)]


def _is_undefined(name: str, data: Data, parts: Sequence[str]) -> bool:
    """Whether a figure has no value on the first part there is, as AUC on a single class."""
    part = next((part for part in parts if data.size(part)), None)
    if part is None or name not in ("auc", "average_precision"):
        return False
    return int((data.class_counts(part) > 0).sum()) < 2


def note_on_default(given: str | None, data: Data) -> str | None:
    """Return why the figure is another than is usual, where nobody asked for it."""
    chosen = metrics.default(data.schema.metrics, data.training_class_counts)
    if given is not None or _is_undefined(chosen, data, ("valid", "test")):
        return None
    return metrics.note_on_default(
        data.schema.metrics, data.training_class_counts, data.schema.classes
    )
