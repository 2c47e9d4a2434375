"""How trials are proposed, by Optuna's samplers, and who of them may go on."""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from danlu.errors import RecipeError
from danlu.study.grid import show
from danlu.study.space import Choice, Range, Space

_TRIES = 50  # draws for every trial that is wanted
BATCH = 16  # trials that are proposed at once where later ones learn from them, or machines share the work


@dataclass(frozen=True)
class Strategy:
    """How a search chooses."""

    sampler: Callable[[int], Any]  # Optuna's, by seed
    learns: bool = False  # its draws, from the trials before: so it needs no narrowed ranges
    halves: bool = False  # whether it stops trials that others are better than


def _tpe(seed: int) -> Any:
    """The tree-structured Parzen estimator (Bergstra et al. 2011)."""
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


STRATEGIES = {
    "random": Strategy(optuna.samplers.RandomSampler),
    "halving": Strategy(optuna.samplers.RandomSampler, halves=True),
    "bayes": Strategy(_tpe, learns=True),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, Optuna says nothing that is no warning, and does not call its interfaces experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def distribution(s: Range | Choice) -> Any:
    """Optuna's word for a range or choice."""
    if isinstance(s, Choice):
        return optuna.distributions.CategoricalDistribution([show(v) for v in s.values])
    if s.whole:
        return optuna.distributions.IntDistribution(int(s.low), int(s.high), log=s.log)
    return optuna.distributions.FloatDistribution(s.low, s.high, log=s.log)


def value(s: Range | Choice, drawn: Any) -> Any:
    """The field's value for what Optuna drew."""
    return next(v for v in s.values if show(v) == drawn) if isinstance(s, Choice) else drawn


def by_path(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the fields for what Optuna drew or kept."""
    return {p: value(s, params[p]) for p, s in space.items()}


def propose(
    study: Any,
    space: Space,
    whole: Space,
    n: int,
    marks: Sequence[str],
    number: int,
    possible: Callable[[dict[str, Any]], bool],
    alive: Callable[[int], None] | None = None,
) -> list[tuple[int, dict[str, Any]]]:
    """(trial number, values by path) of n new trials, each marked with whose it is and with the number of its round.

    Random ones are drawn at once and stored together: asking one by one takes the storage several times as long.
    whole: the space before it was narrowed; a storage takes narrower ranges, but not fewer choices. possible: whether
    values go together; what does not is drawn again. alive: gives the first sign of life of a trial, before it is marked:
    who is marked and never heard of again would be waited for without end. Raises RecipeError when hardly any values go
    together.
    """
    kept = {p: distribution(whole[p] if isinstance(s, Choice) else s) for p, s in space.items()}
    found: list[tuple[int, dict[str, Any]]] = []
    if isinstance(study.sampler, optuna.samplers.RandomSampler):
        scratch = optuna.create_study(sampler=study.sampler)
        narrow = {p: distribution(s) for p, s in space.items()}
        tries = (scratch.ask(narrow).params for _ in range(_TRIES * n))
        drawn = list(itertools.islice((d for d in tries if possible(by_path(whole, d))), n))
        _enough(drawn, n)
        running, key = optuna.trial.TrialState.RUNNING, "draft" if alive else "mark"
        study.add_trials(
            optuna.trial.create_trial(
                state=running, params=d, distributions=kept, user_attrs={key: m, "round": number}
            )
            for d, m in zip(drawn, marks, strict=True)
        )
        made = {
            t.user_attrs[key]: t for t in study.get_trials(deepcopy=False) if key in t.user_attrs
        }
        for m in marks if alive else ():
            _mark(study, made[m]._trial_id, m, alive)
        return [(made[m].number, by_path(whole, d)) for m, d in zip(marks, drawn, strict=True)]
    for _ in range(_TRIES * n):
        trial = study.ask(kept)
        if not possible(by_path(whole, trial.params)):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        trial.set_user_attr("round", number)
        _mark(study, trial._trial_id, marks[len(found)], alive)
        found.append((trial.number, by_path(whole, trial.params)))
        if len(found) == n:
            break
    _enough(found, n)
    return found


def _mark(study: Any, trial: int, mark: str, alive: Callable[[int], None] | None) -> None:
    if alive:
        alive(trial)
    optuna.trial.Trial(study, trial).set_user_attr("mark", mark)


def _enough(found: Sequence[Any], n: int) -> None:
    if len(found) < n:
        raise RecipeError(
            "hardly any values of the searched fields go together; search fewer of them, or narrower ranges"
        )


class Halving:
    """Successive halving: at epochs 1, η, η², … only the best 1/η of those seen there go on.

    (Li et al. 2020, "A system for massively parallel hyperparameter tuning"; members that train together are judged
    together.) A member is judged by the best of its validation figures so far.
    """

    def __init__(self, figure: str, higher_is_better: bool, eta: int = 3) -> None:
        self.figure, self.sign, self.eta = figure, 1 if higher_is_better else -1, eta
        self.scores: dict[int, dict[int, float]] = {}  # of each member by epoch
        self.rungs: dict[int, dict[int, float]] = {}  # by epoch, the best so far of each member

    def see(self, rows: Sequence[dict[str, Any]]) -> None:
        """Note what members reached, by rows of their histories."""
        for row in rows:
            member, epoch = row["member"], row["epoch"]
            score = self.sign * row[self.figure]
            own = self.scores.setdefault(member, {})
            own[epoch] = score if math.isfinite(score) else -math.inf
            if self.eta ** round(math.log(epoch, self.eta)) == epoch:
                self.rungs.setdefault(epoch, {})[member] = max(
                    v for e, v in own.items() if e <= epoch
                )

    def judge(self, rows: Sequence[dict[str, Any]]) -> set[int]:
        """The members that others at their rung are enough better than."""
        self.see(rows)
        stopped = set()
        for row in rows:
            rung = self.rungs.get(row["epoch"], {})
            kept = max(1, len(rung) // self.eta)
            if (
                row["member"] in rung
                and sum(score > rung[row["member"]] for score in rung.values()) >= kept
            ):
                stopped.add(row["member"])
        return stopped
