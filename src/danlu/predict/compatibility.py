"""Whether data can be evaluated by a network that was trained on others."""

from __future__ import annotations

from danlu.data import Schema
from danlu.errors import RunError, some


def check_compatible(ours: Schema, theirs: Schema) -> None:
    """Raise RunError where data of another schema cannot be evaluated; ours: the network's."""
    if (ours.task, ours.is_text) != (theirs.task, theirs.is_text):
        raise RunError(
            f"the run was trained for {_task(ours)}, but these data are for {_task(theirs)}"
        )
    # As many features of other columns would fit, and mean nothing.
    if ours.columns != theirs.columns and ours.input_shape == theirs.input_shape:
        raise RunError(
            f"the data have the columns {_columns(theirs)}, "
            f"but the run was trained on {_columns(ours)}"
        )
    if ours.is_text and ours.vocabulary != theirs.vocabulary:
        raise RunError(
            "the data were read with another vocabulary than the run's; "
            "use danlu.load(…, like=run.schema)"
        )
    is_same_shape = _fixed_shape(ours) == _fixed_shape(theirs)
    if not is_same_shape or ours.classes != theirs.classes:
        raise RunError(
            f"the data have shape {theirs.input_shape} and classes {some(theirs.classes)}, "
            f"but the run was trained on {ours.input_shape} and {some(ours.classes)}"
        )


def _task(schema: Schema) -> str:
    examples = "text" if schema.is_text else "numbers"
    return f"{schema.task} of {examples}"


def _columns(schema: Schema) -> str:
    shown = []
    for column in schema.columns:
        levels = "/".join(column.levels)
        shown.append(f"{column.name} ({levels})" if levels else column.name)
    return some(shown, 6)


def _fixed_shape(schema: Schema) -> tuple[int, ...]:
    """Return the shape that examples must have: texts may be of any length."""
    return () if schema.is_text else schema.input_shape
