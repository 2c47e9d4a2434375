"""What predicting needs of a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import nn

from danlu.data import Normalizer, Schema
from danlu.data.vocabulary import Vocabulary
from danlu.errors import RunError
from danlu.recipe import Recipe


class Trained(Protocol):
    """A trained network with what it was trained on; a `danlu.runs.Run` is one."""

    path: Path
    """What messages call it."""

    @property
    def recipe(self) -> Recipe:
        """How it was trained."""

    @property
    def schema(self) -> Schema:
        """What its examples are."""

    @property
    def normalizer(self) -> Normalizer:
        """The normaliser fitted in training."""

    def model(self) -> nn.Module:
        """Return the network in evaluation mode."""


def describe_task(schema: Schema) -> str:
    """Return what a network is for in words, such as "tagging of text"."""
    if schema.is_text:
        return f"{schema.task} of text"
    return f"{schema.task} of {'pictures' if schema.is_image else 'tables'}"


def vocabulary_for(trained: Trained, *tasks: str) -> Vocabulary:
    """Return the network's vocabulary. Raises RunError when its task is another."""
    schema = trained.schema
    if schema.task not in tasks or not schema.is_text:
        raise RunError(
            f"{str(trained.path)!r} was trained for {describe_task(schema)}, "
            f"but this needs {' or '.join(tasks)} of text"
        )
    return Vocabulary(schema.vocabulary)
