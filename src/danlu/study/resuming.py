"""`resume`: going on with whatever a crash or Ctrl-C left: a run, or a study of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from danlu.data import Data
from danlu.runs import Run, Study
from danlu.study.compare import continue_comparison
from danlu.study.comparison import Comparison
from danlu.study.folds import KIND, Folds, continue_folds
from danlu.train import CHECKPOINT_EVERY, resume_study
from danlu.train import resume as resume_run

Finished = Run | Study | Comparison | Folds | Any  # or Tuning, which imports Optuna


def resume(
    found: Run | Study | str | Path,
    data: Any = None,
    *,
    trust: bool = False,
    listener: Any = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Finished:
    """Go on with an interrupted or killed run or study, to the same weights as without a break.

    data: needed only for what was trained on arrays in memory: the same again. trust: that its
    imported code may run. listener: as of `fit`, or of `compare`. Return what the call returns that
    was interrupted: a Run, Comparison, Tuning, Folds, or Study. Raises RunError for what is
    finished, or other data.
    """
    if not isinstance(found, (Run, Study)):
        is_study = (Path(found) / "study.json").is_file()
        found = Study(found, trust) if is_study else Run(found, trust)
    if isinstance(found, Run):
        return resume_run(found, data, listener=listener, checkpoint_every=checkpoint_every)
    return continue_study(found, data, listener=listener, checkpoint_every=checkpoint_every)


def continue_study(study: Study, data: Any = None, **options: Any) -> Finished:
    """Go on with a study of whatever kind; options: of the function that goes on with that kind."""
    if data is not None and not isinstance(data, Data):
        data = study.load_again(data)
        study.check_data(data)
    kind = study.info["kind"]
    if kind == "compare":
        return continue_comparison(study, data, **options)
    if kind == "tune":
        # Optuna is imported by the first search.
        from danlu.study.search import continue_tuning

        return continue_tuning(study, data, **options)
    if kind == KIND:
        return continue_folds(study, data, **options)
    return resume_study(study, data, **options)
