"""`resume`: going on with whatever a crash or Ctrl-C left: a run, or a study of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from danlu.data import Data
from danlu.errors import RunError, wrong
from danlu.guest import guest
from danlu.runs import Run, Study
from danlu.study.compare import continue_comparison
from danlu.study.decomposing.decompose import continue_decomposition
from danlu.study.decomposing.decomposition import KIND as DECOMPOSITION
from danlu.study.ensembling import KIND as ENSEMBLE
from danlu.study.ensembling import continue_ensemble
from danlu.study.folds import KIND, continue_folds
from danlu.study.treating.treat import continue_treatment
from danlu.study.treating.treatment import KIND as TREATMENT
from danlu.train import CHECKPOINT_EVERY, resume_study
from danlu.train import resume as resume_run
from danlu.train.dispatch.provenance import set_probes

if TYPE_CHECKING:
    from danlu.study.kinds import Shown


@guest
def resume(
    found: Run | Study | str | Path,
    data: Any = None,
    *,
    trust: bool = False,
    storage: str | None = None,
    probes: str | None = None,
    listener: Any = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Run | Study | Shown:
    """Go on with an interrupted or killed run or study, to the same weights as without a break.

    data: needed only for what was trained on arrays in memory: the same again. trust: that its
    imported code may run, and that it may be connected to what its folder names. storage: the URL
    of a search's storage, where that is not in its folder. probes: what is measured from here on
    (default: what was measured so far). listener: as of `fit`, or of `compare`.
    Return what the call returns that was interrupted; a study that is finished as well. Raises
    RunError for a finished run, and for other data.
    """
    if not isinstance(found, (Run, Study, str, Path)):
        rule = "must be a run, a study or the folder of one"
        raise RunError(wrong("found", type(found).__name__, rule))
    if not isinstance(found, (Run, Study)):
        is_study = (Path(found) / "study.json").is_file()
        found = Study(found, trust) if is_study else Run(found, trust)
    options: dict[str, Any] = {"listener": listener, "checkpoint_every": checkpoint_every}
    if storage is not None:
        if isinstance(found, Run) or found.info["kind"] != "tune":
            rule = "needs a search: nothing else has a storage"
            raise RunError(wrong("storage", storage, rule, "leave it out"))
        options["storage"] = storage
    if isinstance(found, Run):
        return resume_run(found, data, probes=probes, **options)
    return continue_study(found, data, probes, **options)


def continue_study(
    study: Study, data: Any = None, probes: str | None = None, **options: Any
) -> Study | Shown:
    """Go on with a study of whatever kind; options: of the function that goes on with that kind."""
    set_probes(study, probes)
    kind = study.info["kind"]
    if data is not None and not isinstance(data, Data):
        data = study.load_again(data)
    if data is not None:
        # Folds are trained on the validation part as well.
        study.check_data(data.with_validation_in_training() if kind == KIND else data)
    if kind == "compare":
        return continue_comparison(study, data, **options)
    if kind == "tune":
        # Optuna is imported by the first search.
        from danlu.study.search import continue_tuning

        return continue_tuning(study, data, **options)
    if kind == KIND:
        return continue_folds(study, data, **options)
    if kind == TREATMENT:
        return continue_treatment(study, data, **options)
    if kind == ENSEMBLE:
        return continue_ensemble(study, data, **options)
    if kind == DECOMPOSITION:
        return continue_decomposition(study, data, **options)
    return resume_study(study, data, **options)
