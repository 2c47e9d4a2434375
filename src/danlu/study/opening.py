"""Opening a search that is there: its trials, held against what its folder says of its networks.

A database has no digest, but what it says of these networks is also written in the folder.
"""

from __future__ import annotations

from typing import Any

from optuna.trial import TrialState

from danlu.errors import RunError, count
from danlu.guest import guest
from danlu.recipe import Recipe
from danlu.runs import Member, Study
from danlu.runs.members import figure_of
from danlu.study import space as spaces
from danlu.study.facts import search_facts
from danlu.study.storage import url_of, without_password
from danlu.study.strategies import OWNER_TAG, values_by_path
from danlu.study.trials import Trials
from danlu.study.tuning import Tuning


@guest
def open_tuning(study: Study) -> Tuning:
    """Return what a search has found so far; nothing is written to its storage.

    Raises Untrusted where that is not in the study's folder, and the study not trusted.
    """
    url = url_of(study, readonly=True)
    trials = open_trials(study, study.data_info["fingerprint"], url, readonly=True)
    check_figures(trials, study)
    return Tuning(study, trials)


def open_trials(study: Study, fingerprint: str, url: str, readonly: bool = False) -> Trials:
    """Return the trials of a search; arguments as of `Trials`."""
    info = search_facts(study)
    space = {path: spaces.from_json(kept) for path, kept in info["space"].items()}
    return Trials(url, info, space, fingerprint, study, readonly)


def check_complete(trials: Trials, study: Study) -> None:
    """Raise RunError where networks of the study have no trial: the storage lost them."""
    known = {trial.user_attrs[OWNER_TAG] for trial in trials.claimed()}
    lost = [i for i in range(len(study)) if f"{trials.id}:{i}" not in known]
    if lost:
        raise RunError(
            f"{without_password(trials.url)} lacks {count(len(lost), 'trial')} that "
            f"{str(study.path)!r} has trained; put back the file it was, or begin a new search"
        )


def check_figures(trials: Trials, study: Study) -> None:
    """Raise RunError where trials are not what the study's own folder says of its members."""
    members = study.members
    for trial in trials.claimed():
        owner, _, number = trial.user_attrs[OWNER_TAG].partition(":")
        if owner != trials.id or trial.state != TrialState.COMPLETE:
            continue
        member = members.get(int(number)) if number.isdecimal() else None
        if member is None or not _agree(trials, trial, study.recipes[int(number)], member):
            raise RunError(
                f"{without_password(trials.url)} is damaged: trial {trial.number} is not what "
                f"{str(study.path)!r} says of member {number}"
            )


def _agree(trials: Trials, trial: Any, recipe: Recipe, member: Member) -> bool:
    """Whether a trial has the values of a member's recipe, and its figure."""
    try:
        values = values_by_path(trials.space, trial.params)
    except (KeyError, StopIteration):  # another field, or none of the choices
        return False
    is_same_figure = bool(trial.value == figure_of(member.result, trials.metric))
    return is_same_figure and recipe.with_(**values) == recipe
