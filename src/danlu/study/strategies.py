"""How trials are proposed, by Optuna's samplers, and which of them may go on."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from danlu.errors import RecipeError
from danlu.recipe.overrides import show
from danlu.recipe.sections import used_by_variants
from danlu.study.space import Choice, Range, Space

# Trials that are proposed at once where later ones learn from them, or machines share the work.
BATCH = 16
_DRAWS_PER_TRIAL = 50  # until values are found that go together
# Names of Optuna's user attributes, which are in people's storages.
OWNER_TAG, UNCLAIMED, ROUND = "mark", "draft", "round"


@dataclass(frozen=True)
class Strategy:
    """How a search chooses.

    sampler: Optuna's, by seed. learns: its draws learn from the trials before, so it needs no
    narrowed ranges. halves: it stops trials that others are better than.
    """

    sampler: Callable[[int], Any]
    learns: bool = False
    halves: bool = False


def _tpe(seed: int) -> Any:
    """Return the tree-structured Parzen estimator (Bergstra et al. 2011)."""
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


STRATEGIES = {
    "random": Strategy(optuna.samplers.RandomSampler),
    "halving": Strategy(optuna.samplers.RandomSampler, halves=True),
    "bayes": Strategy(_tpe, learns=True),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from saying what is not a warning, or that an interface is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def distribution(searched: Range | Choice) -> Any:
    """Return Optuna's distribution for a range or choice."""
    if isinstance(searched, Choice):
        # Optuna stores only simple values, and a list is none.
        names = [show(value) for value in searched.values]
        return optuna.distributions.CategoricalDistribution(names)
    if searched.whole:
        low, high = int(searched.low), int(searched.high)
        return optuna.distributions.IntDistribution(low, high, log=searched.log)
    return optuna.distributions.FloatDistribution(searched.low, searched.high, log=searched.log)


def values_by_path(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the fields for what Optuna drew or kept.

    Without those of fields that the variant drawn beside them does not use.
    """
    values = {}
    for path, searched in space.items():
        values[path] = _value(searched, params[path])
    return used_by_variants(values)


def _value(searched: Range | Choice, drawn: Any) -> Any:
    if isinstance(searched, Choice):
        return next(value for value in searched.values if show(value) == drawn)
    return drawn


@dataclass(frozen=True)
class Proposal:
    """What a batch of trials is proposed for.

    space: that of the round; whole_space: before it was narrowed, as a storage takes narrower
    ranges, but not fewer choices. round: its number. is_valid: whether values go together; what
    does not is drawn again. heartbeat: gives the first heartbeat of a trial before it is claimed,
    as a trial that is claimed and never heard of again would be waited for without end; None where
    no other machine shares the storage.
    """

    space: Space
    whole_space: Space
    round: int
    is_valid: Callable[[dict[str, Any]], bool]
    heartbeat: Callable[[int], None] | None = None

    def distributions(self) -> dict[str, Any]:
        """Return what the storage keeps of each field."""
        kept = {}
        for path, searched in self.space.items():
            if isinstance(searched, Choice):
                searched = self.whole_space[path]
            kept[path] = distribution(searched)
        return kept


def propose(
    study: Any, proposal: Proposal, owner_tags: Sequence[str]
) -> list[tuple[int, dict[str, Any]]]:
    """Return (trial number, values by path) of a new trial for each owner tag.

    Raises RecipeError when hardly any values go together.
    """
    if isinstance(study.sampler, optuna.samplers.RandomSampler):
        return _propose_at_random(study, proposal, owner_tags)
    n = len(owner_tags)
    kept = proposal.distributions()
    proposed: list[tuple[int, dict[str, Any]]] = []
    for _ in range(_DRAWS_PER_TRIAL * n):
        trial = study.ask(kept)
        values = values_by_path(proposal.whole_space, trial.params)
        if not proposal.is_valid(values):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        trial.set_user_attr(ROUND, proposal.round)
        owner_tag = owner_tags[len(proposed)]
        _claim(study, trial._trial_id, owner_tag, proposal.heartbeat)
        proposed.append((trial.number, values))
        if len(proposed) == n:
            break
    _refuse_too_few(proposed, n)
    return proposed


def _propose_at_random(
    study: Any, proposal: Proposal, owner_tags: Sequence[str]
) -> list[tuple[int, dict[str, Any]]]:
    """Draw all trials at once and store them together.

    Asking one by one takes the storage several times as long.
    """
    drawn = _draw_at_random(study.sampler, proposal, len(owner_tags))
    # Who shares the storage claims a trial only with its first heartbeat.
    tag_name = UNCLAIMED if proposal.heartbeat else OWNER_TAG
    kept = proposal.distributions()
    new_trials = []
    for params, tag in zip(drawn, owner_tags, strict=True):
        new_trials.append(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=params,
                distributions=kept,
                user_attrs={tag_name: tag, ROUND: proposal.round},
            )
        )
    study.add_trials(new_trials)

    by_tag = {}
    for trial in study.get_trials(deepcopy=False):
        if tag_name in trial.user_attrs:
            by_tag[trial.user_attrs[tag_name]] = trial
    proposed = []
    for tag, params in zip(owner_tags, drawn, strict=True):
        trial = by_tag[tag]
        if proposal.heartbeat:
            _claim(study, trial._trial_id, tag, proposal.heartbeat)
        proposed.append((trial.number, values_by_path(proposal.whole_space, params)))
    return proposed


def _draw_at_random(sampler: Any, proposal: Proposal, n: int) -> list[dict[str, Any]]:
    """Return n draws that are valid, as Optuna keeps them."""
    # In memory: of the draws only the valid ones are to be stored.
    scratch = optuna.create_study(sampler=sampler)
    narrow = {path: distribution(searched) for path, searched in proposal.space.items()}
    drawn: list[dict[str, Any]] = []
    for _ in range(_DRAWS_PER_TRIAL * n):
        params = scratch.ask(narrow).params
        if proposal.is_valid(values_by_path(proposal.whole_space, params)):
            drawn.append(params)
        if len(drawn) == n:
            break
    _refuse_too_few(drawn, n)
    return drawn


def _claim(study: Any, trial: int, owner_tag: str, heartbeat: Callable[[int], None] | None) -> None:
    """Mark a trial as somebody's."""
    if heartbeat:
        heartbeat(trial)
    optuna.trial.Trial(study, trial).set_user_attr(OWNER_TAG, owner_tag)


def _refuse_too_few(found: Sequence[Any], n: int) -> None:
    if len(found) < n:
        raise RecipeError(
            "hardly any values of the searched fields go together; "
            "search fewer of them, or narrower ranges"
        )


class Halving:
    """Successive halving: at epochs 1, η, η², … only the best 1/η of those seen there go on.

    (Li et al. 2020, "A system for massively parallel hyperparameter tuning"; members that train
    together are judged together.) A member is judged by the best of its validation figures so far.
    """

    def __init__(self, figure: str, higher_is_better: bool, eta: int = 3) -> None:
        self.figure = figure
        self.sign = 1 if higher_is_better else -1
        self.eta = eta
        self.scores: dict[int, dict[int, float]] = {}
        """Of each member by epoch."""
        self.rungs: dict[int, dict[int, float]] = {}
        """By epoch, the best so far of each member."""

    def observe(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take in what members reached, by rows of their histories."""
        for row in rows:
            member, epoch = row["member"], row["epoch"]
            score = self.sign * row[self.figure]
            scores = self.scores.setdefault(member, {})
            scores[epoch] = score if math.isfinite(score) else -math.inf
            if self._is_rung(epoch):
                # Rows of a resumed search may hold later epochs already.
                so_far = [value for e, value in scores.items() if e <= epoch]
                rung = self.rungs.setdefault(epoch, {})
                rung[member] = max(so_far)

    def _is_rung(self, epoch: int) -> bool:
        power = round(math.log(epoch, self.eta))
        return bool(self.eta**power == epoch)

    def prune(self, rows: Sequence[dict[str, Any]]) -> set[int]:
        """Return the members that enough others at their rung are better than."""
        self.observe(rows)
        stopped = set()
        for row in rows:
            member = row["member"]
            rung = self.rungs.get(row["epoch"], {})
            if member not in rung:
                continue
            # Who comes first finds nobody there, and goes on.
            places = max(1, len(rung) // self.eta)
            better = [score for score in rung.values() if score > rung[member]]
            if len(better) >= places:
                stopped.add(member)
        return stopped
