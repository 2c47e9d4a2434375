"""Label suspects: examples whose label networks contradict that were not trained on them.

Legend: n examples, K classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from danlu.data import Data, load
from danlu.errors import RecipeError, RunError, count
from danlu.files import write
from danlu.guest import guest
from danlu.runs import Run, Study
from danlu.statistics import wilson_interval
from danlu.study.confident_learning import suspected
from danlu.study.folds import Folds, cross_validate, outputs_out_of_fold
from danlu.train import StudyListener

NAME = "suspects.csv"
FOLDS = 5


@dataclass(frozen=True)
class Suspect:
    """An example, where it lies, its label, what networks say instead, and how sure they are.

    example: its number in the data.
    """

    example: int
    origin: str
    part: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float


@dataclass(frozen=True)
class Suspects:
    """Suspected labels, the likeliest to be wrong first.

    found: all of them. examined: how many examples. accuracy: of the networks, out of fold.
    constant: that of always answering the commonest class.
    """

    folds: Folds
    data: Data = field(repr=False)
    found: list[Suspect] = field(repr=False)
    examined: int
    accuracy: float
    constant: float

    @property
    def path(self) -> Path:
        """The folder of the cross-validation."""
        return self.folds.path

    @property
    def share(self) -> float:
        """The share of labels that are suspected."""
        return len(self.found) / self.examined

    @cached_property
    def is_trusted(self) -> bool:
        """Whether the networks are shown to know more than the commonest class."""
        low, _ = wilson_interval(self.accuracy, self.examined)
        return low > self.constant

    def sentences(self) -> list[str]:
        """Return the verdict in words."""
        known = (
            f"{self.examined:,} examples were each judged by a network that was not trained on "
            f"them; these networks are right on {self.accuracy:.1%}"
        )
        if not self.is_trusted:
            return [
                f"{known}, which is not shown to be better than always answering the commonest "
                f"class ({self.constant:.1%}), so they cannot tell a wrong label; find a recipe "
                "that learns first (danlu diagnose)."
            ]
        low, high = wilson_interval(self.share, self.examined)
        return [
            f"{known}.",
            f"{count(len(self.found), 'label')} ({self.share:.1%}, {low:.1%} to {high:.1%}) "
            "contradict them with confidence. These are to be looked at: where classes overlap, "
            "right labels are among them.",
        ]

    def to_csv(self) -> str:
        """Return all suspects as a table with a head."""
        text = io.StringIO()
        names = list(Suspect.__dataclass_fields__)
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(suspect) for suspect in self.found)
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "study": str(self.path),
            "examined": self.examined,
            "accuracy": self.accuracy,
            "share": self.share,
            "suspects": [asdict(suspect) for suspect in self.found],
            "sentences": self.sentences(),
        }


@guest
def suspects(
    trained: Run | Folds | Study | str | Path,
    data: Any = None,
    *,
    folds: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    listener: StudyListener | None = None,
) -> Suspects:
    """Return examples whose label is likely to be wrong, by networks that have not seen them.

    trained: a run, whose recipe is trained on all folds of its training and validation part but
    one, fold by fold; or a cross-validation that is there already. data: those of a run on arrays
    in memory. folds: 5 unless asked. The test part is not judged. The list is written as
    suspects.csv into the cross-validation's folder.

    Raises RecipeError where examples have no classes of their own, and what `train` raises.
    """
    if isinstance(trained, (str, Path)):
        trained = _opened(trained)
    if isinstance(trained, Study):
        trained = Folds(trained)
    if isinstance(trained, Folds):
        if folds is not None or out is not None:
            raise RecipeError(
                "`folds` and `out` must be left out: these networks are trained already"
            )
        given = data if data is None or isinstance(data, Data) else load(data)
        return _of_folds(trained, given)
    _refuse_without_classes(trained.schema.task)
    if data is None:
        data = trained.load_data()
    data = data if isinstance(data, Data) else trained.load_again(data)
    found = cross_validate(
        trained.recipe, data, folds=folds or FOLDS, out=out, device=device, listener=listener
    )
    return _of_folds(found, data)


def _opened(path: str | Path) -> Run | Study:
    if (Path(path) / Study.index).is_file():
        return Study(path)
    return Run(path)


def _refuse_without_classes(task: str) -> None:
    if task != "classification":
        raise RecipeError(
            f"the task is {task}, but suspects are found among labels: it needs one class for each "
            "example"
        )


def _of_folds(folds: Folds, data: Data | None) -> Suspects:
    _refuse_without_classes(folds.schema.task)
    if data is None:
        data = folds.study.load_data()
    merged = data.with_validation_in_training()
    rows, outputs, labels = outputs_out_of_fold(folds.study, merged)
    if not len(rows):
        raise RunError(f"every network of {str(folds.path)!r} diverged; none can judge")
    p = outputs.double().softmax(1).numpy()
    y = labels.numpy()
    shares = np.bincount(y) / len(y)
    found = Suspects(
        folds,
        data,
        _listed(p, y, rows, data),
        len(y),
        float((p.argmax(1) == y).mean()),
        float(shares.max()),
    )
    write(folds.path / NAME, found.to_csv())
    return found


def _listed(
    p: NDArray[np.float64], labels: NDArray[np.int64], rows: Tensor, data: Data
) -> list[Suspect]:
    """Return the suspects, the least probable label first; rows [n]: the examples' numbers.

    That order finds planted labels sooner than one by the margin to the likeliest class does.
    """
    part_of = _parts(data)
    probability = p[np.arange(len(labels)), labels]
    chosen = np.flatnonzero(suspected(p, labels))
    found = []
    for i in chosen[np.argsort(probability[chosen], kind="stable")]:
        label, other = int(labels[i]), int(p[i].argmax())
        example = int(rows[i])
        found.append(
            Suspect(
                example,
                data.origin(example),
                part_of[example],
                data.schema.classes[label],
                data.schema.classes[other],
                round(float(probability[i]), 4),
                round(float(p[i, other]), 4),
            )
        )
    return found


def _parts(data: Data) -> Mapping[int, str]:
    part_of = {}
    for part in ("train", "valid"):
        part_of.update(dict.fromkeys(data.parts[part].tolist(), part))
    return part_of
