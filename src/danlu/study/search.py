"""`tune`: search a space of recipes.

By the notes' random search, successive halving, or Bayesian optimisation. Trials are in Optuna's
storage, the networks in a study folder; after a kill it is known which trials are this study's, and
none is lost or recorded twice.
"""

from __future__ import annotations

import functools
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.data import Data, load
from danlu.errors import DanluError, Mistake, RecipeError, stopped, unknown, wrong
from danlu.files import write
from danlu.guest import guest
from danlu.metrics import higher_is_better
from danlu.recipe import Recipe
from danlu.rng import seed_of
from danlu.runs import Study, folder
from danlu.runs.measurements import OFF, check_level
from danlu.study import space as spaces
from danlu.study.cost import MANY, refuse_many
from danlu.study.facts import search_facts
from danlu.study.grid import short
from danlu.study.heartbeat import WithHeartbeat
from danlu.study.metric import mistakes_in as mistakes_in_metric
from danlu.study.metric import note_on_default, resolve
from danlu.study.opening import check_complete, check_figures, open_trials
from danlu.study.space import Space
from danlu.study.storage import keep_url, url_of, without_password
from danlu.study.strategies import BATCH, STRATEGIES, Halving
from danlu.study.trials import Trials
from danlu.study.tuning import Tuning
from danlu.train import (
    CHECKPOINT_EVERY,
    StudyListener,
    check,
    create,
    extend,
    mistakes_in,
    resume_study,
)
from danlu.train.dispatch.cluster import connect
from danlu.train.engine.stopping import StopRequest

BEST = 5  # trials of which the ranges of the next round are made
_POLL_SECONDS = 0.5
_PATIENCE = 20  # polls, for another machine to read the test part

Report = Callable[[str], None]


@guest
def tune(
    data: Any,
    space: Mapping[str, Any] | Sequence[str],
    *,
    recipe: Recipe | None = None,
    trials: int = 100,
    rounds: int = 1,
    strategy: str = "random",
    metric: str | None = None,
    seed: int = 0,
    storage: str | None = None,
    name: str | None = None,
    yes: bool = False,
    out: str | Path | None = None,
    device: str = "auto",
    probes: str = OFF,
    listener: StudyListener | None = None,
    report: Report | None = None,
    ray: str | None = None,
) -> Tuning:
    """Search for the recipe that does best on the validation part.

    The test part is read once, for the winner.

    data: what `load` returns, or takes.
    space: texts such as "optimizer.lr=1e-5..1e-1:log" or "model.hidden=32,64", or `Range` and
        `Choice` (or a list of values) by field; other fields may be fixed ("epochs=3").
    trials: in each round.
    rounds: after each, ranges are narrowed to where the best five lie.
    strategy: "random" (every trial to its end), "halving" (only the best third goes on at epochs
        1, 3, 9, …) or "bayes" (Optuna's TPE, in batches that train together).
    metric: a figure of the validation part, such as accuracy, macro_f1, auc, mae or loss (unasked:
        what suits the task, and the data where classes are imbalanced).
    storage: an Optuna storage URL (default: SQLite in the study's folder); machines that name the
        same storage and `name` share the trials.
    yes: begin even more than 1,000 trainings.
    probes: what is measured of every network, as of `fit`.
    report: hears the best of each round.
    ray: address of a Ray cluster to train on.

    Raises RecipeError for what cannot be searched, RunError when the storage does not answer or
    holds a study of other data, and what `train` raises.
    """
    check_level(probes)
    data = data if isinstance(data, Data) else load(data)
    note = note_on_default(metric, data)
    metric = resolve(metric, data, ("valid",))
    mistakes = _option_mistakes(data, trials, rounds, strategy, metric, seed)
    searched, base, ends = _settle(space, recipe or Recipe(), data, mistakes)
    if not yes:
        _refuse_too_many(trials * rounds, ends, data, "cpu" if ray else device)
    facts = {
        "kind": "tune",
        "over": False,
        # The owner of its trials, where several machines share a storage.
        "id": uuid.uuid4().hex,
        "space": {path: values.to_json() for path, values in searched.items()},
        "base": base.to_dict(whole=True),
        "storage": without_password(storage) if storage else None,
        "trials": trials,
        "rounds": rounds,
        "strategy": strategy,
        "metric": metric,
        "metric_note": note,
        "seed": seed,
        "name": name or "danlu",
        "probes": probes,
    }
    study = _begin(data, facts, searched, ends, storage, out, device, ray)
    return continue_tuning(study, data, listener=listener, report=report, ray=ray)


def _refuse_too_many(trainings: int, ends: list[Recipe], data: Data, device: str) -> None:
    """Raise RecipeError, with what it would cost, for more trainings than one begins unasked."""
    if trainings > MANY:
        every = math.ceil(len(ends) / 4)  # the cost is taken from about four
        refuse_many("the search has", ends[::every], trainings, data, device)


def _settle(
    space: Mapping[str, Any] | Sequence[str],
    recipe: Recipe,
    data: Data,
    mistakes: list[Mistake],
) -> tuple[Space, Recipe, list[Recipe]]:
    """Return what is searched, the recipe with what is fixed, and recipes at the space's ends.

    mistakes: those that are known already. Raises RecipeError with all.
    """
    searched: Space = {}
    base, ends = recipe, [recipe]
    try:
        searched, base, ends = spaces.settle(space, recipe)
        mistakes += mistakes_in(ends, data)
    except DanluError as e:
        # Said together with the mistakes of the options.
        mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)
    return searched, base, ends


def _begin(
    data: Data,
    facts: dict[str, Any],
    searched: Space,
    ends: list[Recipe],
    storage: str | None,
    out: str | Path | None,
    device: str,
    ray: str | None,
) -> Study:
    """Return the study of a search, with nothing trained yet.

    What cluster or storage refuse, they refuse before a folder is made.
    """
    if ray:
        connect(ray).check(data, ends)
    if storage is not None:
        Trials(storage, facts, searched, data.fingerprint)
    study = create([], data, out, device, ("valid",), facts, ray)
    if storage is not None:
        keep_url(study, storage)
    return study


def _option_mistakes(
    data: Data, trials: int, rounds: int, strategy: str, metric: str, seed: int
) -> list[Mistake]:
    mistakes = []
    for name, n, good in (("trials", trials, 100), ("rounds", rounds, 2)):
        if n < 1:
            mistakes.append(wrong(name, n, "must be at least 1", f"try {good}"))
    if strategy not in STRATEGIES:
        mistakes.append(unknown("strategy", strategy, STRATEGIES))
    elif STRATEGIES[strategy].learns and rounds > 1:
        rule = f"must be 1 for {strategy}, which narrows its search by itself"
        mistakes.append(wrong("rounds", rounds, rule, "raise --trials"))
    mistakes += mistakes_in_metric(metric, data, ("valid",), ())
    if not 0 <= seed < 2**63:
        mistakes.append(wrong("seed", seed, "must be at least 0", "try 0"))
    if not data.size("test"):
        mistakes.append(
            Mistake(
                "a search reads the test part for the winner, and these data have none; "
                "try --split 60/20/20"
            )
        )
    if not data.size("valid"):
        mistakes.append(
            Mistake(
                "a search needs a validation part to choose by, and these data have none; "
                "leave out --no-valid"
            )
        )
    return mistakes


@guest
def continue_tuning(
    study: Study,
    data: Data | None = None,
    *,
    listener: StudyListener | None = None,
    report: Report | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    storage: str | None = None,
    ray: str | None = None,
) -> Tuning:
    """Go on with a search.

    Record what is trained, propose what is missing, narrow, and read the test part for the winner.
    storage: the URL of its storage, which a study that is not trusted cannot choose.
    """
    with folder.locked(study.path):
        study.check_trust()
        data = study.load_data() if data is None else data
        trials = open_trials(study, data.fingerprint, url_of(study, storage))
        options: dict[str, Any] = {
            "listener": WithHeartbeat(listener or StudyListener(), trials),
            "checkpoint_every": checkpoint_every,
            "ray": ray,
        }
        return _Search(study, data, trials, report or (lambda line: None), options).run()


class _Search:
    """A search under way: batch by batch, round by round, from where the study stands.

    options: of `extend` and `resume_study`.
    """

    def __init__(
        self,
        study: Study,
        data: Data,
        trials: Trials,
        report: Report,
        options: dict[str, Any],
    ) -> None:
        self.study = study
        self.data = data
        self.trials = trials
        self.report = report
        self.options = options
        self.info = search_facts(study)
        self.base = study.recipe_from(self.info["base"], study.path / study.index)
        self.strategy = STRATEGIES[self.info["strategy"]]

    def run(self) -> Tuning:
        """Search to the end."""
        check_complete(self.trials, self.study)
        if not self.study.trained:
            self.study = resume_study(self.study, self.data, pruner=self._pruner(), **self.options)
        # What was trained before a crash is told now.
        self.trials.record_results(self.info["metric"])
        check_figures(self.trials, self.study)
        for round_number in range(1, self.info["rounds"] + 1):
            self._round(round_number)
        return self._select_winner()

    def _round(self, round_number: int) -> None:
        """Train what a round lacks, then report the best so far.

        Other machines are waited for, so that all narrow by the same figures.
        """
        trials, wanted, first = self.trials, self.info["trials"], len(self.study)
        space = self._space(round_number)
        while True:
            missing = wanted - trials.begun(round_number)
            if missing > 0:
                self._batch(round_number, space, missing)
                continue
            trials.wait(round_number, self.report, self.study.path)
            # A machine may be gone, and its trials with it.
            if trials.begun(round_number) >= wanted:
                break
        if len(self.study) > first:
            ranges = ", ".join(f"{short(path)}={searched}" for path, searched in space.items())
            self.report(f"round {round_number} of {self.info['rounds']}: {ranges}")
            for line in Tuning(self.study, trials).best_lines(BEST):
                self.report(line)

    def _space(self, round_number: int) -> Space:
        """Return the space of a round: from the second on, where the best trials before lie."""
        if round_number == 1:
            return self.trials.space
        best = self.trials.ranked(before_round=round_number)[:BEST]
        if not best:  # all diverged
            return self.trials.space
        narrowed = {}
        for path, searched in self.trials.space.items():
            # A field that the best do not use stays as wide as it was.
            values = [trial.values[path] for trial in best if path in trial.values]
            narrowed[path] = searched.narrowed(values)
        return narrowed

    def _batch(self, round_number: int, space: Space, missing: int) -> None:
        """Propose and train some of the trials that a round lacks."""
        info, first = self.info, len(self.study)
        if self.trials.room(round_number, info["trials"]) <= 0:
            self._pause()  # another machine is just taking what is left
            return
        # What learns, and what others share, goes in small batches: each is drawn with all results
        # before it.
        n = missing
        if self.strategy.learns or info["storage"]:
            n = min(missing, BATCH)
        taken = self.trials.reserve(
            space,
            round_number,
            info["trials"],
            n,
            first,
            self.strategy.sampler(self._batch_seed(first)),
            functools.partial(_is_valid, self.base, self.data),
        )
        # Other machines were faster.
        if not taken:
            return
        recipes = [self.base.with_(**values) for values in taken]
        self.study = extend(self.study, recipes, self.data, pruner=self._pruner(), **self.options)
        self.trials.record_results(info["metric"])

    def _batch_seed(self, first: int) -> int:
        """Return a seed for each batch of each study that shares the storage.

        So none draws what another drew.
        """
        owner = self.info["id"] if self.info["storage"] else ""
        return seed_of(self.info["seed"], "tune", owner, first) % 2**32

    def _pause(self) -> None:
        with StopRequest() as stop:
            time.sleep(_POLL_SECONDS)
        if stop.asked:
            raise stopped(self.study.way_on)

    def _pruner(self) -> Halving | None:
        """Return what stops trials, if the strategy does; it knows what all before have reached."""
        if not self.strategy.halves:
            return None
        metric = self.info["metric"]
        pruner = Halving(metric, higher_is_better(metric))
        has_curves = any((self.study.path / "curves").glob("*.parquet"))
        if self.study.members and has_curves:
            # What was reached before a resume counts as well.
            pruner.observe(self.study.curves().to_dict("records"))
        return pruner

    def _select_winner(self) -> Tuning:
        """Read the test part for the winner, once, on the machine that has its weights."""
        study, trials = self.study, self.trials
        ranked = trials.ranked()
        if ranked and trials.winner is None and ranked[0].owner == trials.id:
            best = ranked[0]
            score = study.run(best.member, self.data).evaluate(self.data, "test")
            figures = {**score.figures("test", study.metric), "test_n": score.n}
            # Not every storage keeps NaN.
            figures = {name: value for name, value in figures.items() if not math.isnan(value)}
            # Once it is written down, no machine reads the test part again.
            trials.record_winner(best, figures, study.path.name)
        for _ in range(_PATIENCE):
            is_about_to_be_read = ranked and trials.shared and trials.winner is None
            if not is_about_to_be_read:
                break
            time.sleep(_POLL_SECONDS)
        tuning = Tuning(study, trials)
        if tuning.best is not None:
            write(study.path / "best.toml", tuning.best.to_toml())
        study.sealed.update(over=True)
        return tuning


def _is_valid(base: Recipe, data: Data, values: dict[str, Any]) -> bool:
    """Whether values go together, and with the data."""
    try:
        check(base.with_(**values), data)
    except DanluError:
        return False
    return True
