"""Edits of the data, tried after those of the recipe: an option of loading, such as a vocabulary.

They need a study of their own, as a study has one set of data. Their gain is judged like any other
where the validation part asks the same as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import DanluError
from danlu.files import check_folder, subfolder
from danlu.recipe import Recipe
from danlu.runs import Study
from danlu.runs.members import figure_of
from danlu.study.treating.candidates import Candidate
from danlu.train import mistakes_in, resume_study, train


@dataclass
class DataTrial:
    """What came of an edit of the data.

    why_not: why it was not tried, else empty. figures: by seed.
    """

    candidate: Candidate
    why_not: str = ""
    seeds: Sequence[int] = ()
    figures: Sequence[float] = ()
    won: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            **self.candidate.to_json(),
            "why_not": self.why_not,
            "seeds": list(self.seeds),
            "figures": list(self.figures),
            "won": self.won,
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> DataTrial:
        """Return the trial of plain values."""
        figures = [float("nan") if x is None else x for x in plain["figures"]]
        candidate = Candidate.from_json(plain)
        return cls(candidate, plain["why_not"], plain["seeds"], figures, plain["won"])


def options_of(candidate: Candidate) -> dict[str, Any]:
    """Return the options of loading that edits change."""
    return {e.path.removeprefix("data."): e.value for e in candidate.parsed if e.is_of_data}


def edited_data(study: Study, data: Data, candidate: Candidate, recipe: Recipe) -> Data | str:
    """Return the data as they are with the edits, or why they cannot be judged beside the others.

    recipe: that is to be trained on them.
    """
    if not study.is_reloadable:
        return "the data were given in memory, and can only be loaded otherwise by you"
    try:
        edited = study.load_again(study.find_source(), **options_of(candidate))
        mistakes = list(mistakes_in([recipe], edited))
    except DanluError as e:
        mistakes = list(e.mistakes)
    if mistakes:
        return str(mistakes[0])
    if edited.schema.task != data.schema.task:
        return f"it makes the task {edited.schema.task}, whose figures are not comparable"
    rows, before = edited.parts["valid"], data.parts["valid"]
    if len(rows) != len(before) or not torch.equal(edited.y[rows], data.y[before]):
        return "it changes what the validation part asks, so figures are not comparable"
    return edited


def train_on(
    study: Study, number: int, edited: Data, recipe: Recipe, seeds: Sequence[int], **options: Any
) -> Study:
    """Train a recipe on edited data with the seeds, in a study within the treatment's folder."""
    path = subfolder(study.path / "data") / str(number)
    check_folder(path)
    if (path / study.index).exists():
        inner = Study(path, study.trust)
        return inner if inner.trained else resume_study(inner, edited, **options)
    replicates = [recipe.with_(seed=seed) for seed in seeds]
    device = study.info["environment"]["device"]
    return train(
        replicates,
        edited,
        out=path,
        device=device,
        parts=("train", "valid"),
        probes="light",
        **options,
    )


def figures_in(inner: Study, metric: str) -> list[float]:
    """Return the figures of a trial's trainings by seed."""
    return [figure_of(result, metric) for result in inner.results]
