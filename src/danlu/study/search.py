"""`tune`: search a space of recipes, by the notes' random search, successive halving, or Bayesian optimisation.

Trials live in Optuna's storage, the networks in a study folder; after a kill it is known which trials are this study's,
and none is lost or told twice.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.data import Data
from danlu.errors import DanluError, Interrupted, RecipeError, unknown, wrong
from danlu.recipe import Recipe
from danlu.rng import seed_of
from danlu.runs import Study, folder, higher_is_better
from danlu.study import space as spaces
from danlu.study.cost import MANY, refuse_many
from danlu.study.grid import short
from danlu.study.space import Space
from danlu.study.strategies import BATCH, STRATEGIES, Halving
from danlu.study.trials import Trials, keep_url, masked, url_of
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
from danlu.train.dispatch import provenance
from danlu.train.dispatch.cluster import connect
from danlu.train.engine.stopping import StopRequest

_PATIENCE = 20  # half seconds
BEST = 5  # of which the ranges of the next round are made

Told = Callable[[str], None]


def tune(
    data: Data,
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
    listener: StudyListener | None = None,
    told: Told | None = None,
    ray: str | None = None,
) -> Tuning:
    """Search for the recipe that does best on the validation part; the test part is read once, for the winner.

    space: texts such as "optimizer.lr=1e-5..1e-1:log" or "model.hidden=32,64", or `Range` and `Choice` (or a list of
    values) by field; other fields may be fixed ("epochs=3"). trials: in each round. rounds: after each, ranges are
    narrowed to where the best five lie. strategy: "random" (every trial to its end), "halving" (only the better third
    goes on at epochs 1, 3, 9, …) or "bayes" (Optuna's TPE, in batches that train together). storage: an Optuna storage
    URL (default: SQLite in the study's folder); machines that name the same storage and `name` share the trials. yes:
    begin even more than 1,000 trainings. told: hears the best of each round. ray: address of a Ray cluster to train on.

    Raises RecipeError for what cannot be searched, RunError when the storage does not answer or holds a study of other
    data, and what `train` raises.
    """
    metric = metric or f"valid_{data.schema.figures[0]}"
    mistakes = _mistakes(data, trials, rounds, strategy, metric, seed)
    try:
        searched, base, ends = spaces.settle(space, recipe or Recipe())
        mistakes += mistakes_in(ends, data)
    except DanluError as e:
        mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)
    if trials * rounds > MANY and not yes:
        refuse_many(
            "the search has",
            ends[:: -(-len(ends) // 4)],
            trials * rounds,
            data,
            "cpu" if ray else device,
        )
    told_by = {
        "trials": trials,
        "rounds": rounds,
        "strategy": strategy,
        "metric": metric,
        "seed": seed,
        "name": name or "danlu",
    }
    facts = _facts(searched, base, storage) | told_by
    if ray:
        connect(ray).check(data, ends)
    if storage is not None:
        Trials(storage, facts, searched, data.fingerprint)  # before a folder is made
    study = create([], data, out, device, ("valid",), facts, ray)
    if storage is not None:
        keep_url(study, storage)
    return continue_tuning(study, data, listener=listener, told=told, ray=ray)


def _facts(space: Space, base: Recipe, storage: str | None) -> dict[str, Any]:
    """What a study keeps of its search, beside the options it was begun with."""
    return {
        "kind": "tune",
        "over": False,
        "id": uuid.uuid4().hex,
        "space": {p: s.to_json() for p, s in space.items()},
        "base": base.to_dict(whole=True),
        "storage": masked(storage) if storage else None,
    }


def _mistakes(
    data: Data, trials: int, rounds: int, strategy: str, metric: str, seed: int
) -> list[str]:
    mistakes = [
        wrong(name, n, "must be at least 1", f"try {hint}")
        for name, n, hint in (("trials", trials, 100), ("rounds", rounds, 2))
        if n < 1
    ]
    if strategy not in STRATEGIES:
        mistakes.append(unknown("strategy", strategy, STRATEGIES))
    elif STRATEGIES[strategy].learns and rounds > 1:
        mistakes.append(
            wrong(
                "rounds",
                rounds,
                f"must be 1 for {strategy}, which narrows its search by itself",
                "raise --trials",
            )
        )
    known = [f"valid_{f}" for f in data.schema.figures]
    if metric not in known:
        mistakes.append(unknown("metric", metric, known))
    if not 0 <= seed < 2**63:
        mistakes.append(wrong("seed", seed, "must be at least 0", "try 0"))
    if not data.size("test"):
        mistakes.append(
            "a search reads the test part for the winner, and these data have none; try --split 60/20/20"
        )
    if not data.size("valid"):
        mistakes.append(
            "a search needs a validation part to choose by, and these data have none; leave out --no-valid"
        )
    return mistakes


def _possible(base: Recipe, data: Data, values: dict[str, Any]) -> bool:
    """Whether the values go together, and with the data."""
    try:
        check(base.with_(**values), data)
    except DanluError:
        return False
    return True


def continue_tuning(
    study: Study,
    data: Data | None = None,
    *,
    listener: StudyListener | None = None,
    told: Told | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    ray: str | None = None,
) -> Tuning:
    """Go on with a search: tell what is trained, propose what is missing, narrow, and read the test part for the winner."""
    with folder.locked(study.path):
        data = study.load_data() if data is None else data
        trials = _trials(study, data.fingerprint)
        how: Any = {
            "listener": _Beating(listener or StudyListener(), trials),
            "checkpoint_every": checkpoint_every,
            "ray": ray,
        }
        return _Search(study, data, trials, told or (lambda line: None), how).run()


def _trials(study: Study, fingerprint: str, make: bool = True) -> Trials:
    info = study.info
    return Trials(
        url_of(study),
        info,
        {p: spaces.from_json(s) for p, s in info["space"].items()},
        fingerprint,
        study,
        make,
    )


def open_tuning(study: Study) -> Tuning:
    """What a search has found so far."""
    return Tuning(study, _trials(study, study.data_info["fingerprint"], make=False))


class _Beating(StudyListener):
    """Passes everything on, and gives the storage signs of life."""

    def __init__(self, other: StudyListener, trials: Trials) -> None:
        self.other, self.trials, self.interval = other, trials, other.interval
        self.start, self.plan, self.ended, self.end = (
            other.start,
            other.plan,
            other.ended,
            other.end,
        )  # type: ignore[method-assign]

    def progress(self, done: int) -> None:
        """Now and then."""
        self.other.progress(done)
        self.alive()

    def alive(self) -> None:
        """Now and then, also while nothing is heard."""
        self.other.alive()
        self.trials.beat()


class _Search:
    """A search under way: batch by batch, round by round, from where the study stands."""

    def __init__(
        self, study: Study, data: Data, trials: Trials, told: Told, how: dict[str, Any]
    ) -> None:
        self.study, self.data, self.trials, self.told, self.how = study, data, trials, told, how
        self.info = study.info
        self.base, self.strategy = Recipe(**self.info["base"]), STRATEGIES[self.info["strategy"]]

    def run(self) -> Tuning:
        """To its end."""
        info, trials = self.info, self.trials
        if not self.study.trained:
            self.study = resume_study(self.study, self.data, referee=self._referee(), **self.how)
        trials.tell(info["metric"])
        for number in range(1, info["rounds"] + 1):
            self._round(number)
        return self._crown()

    def _round(self, number: int) -> None:
        """What it lacks; then the best so far is told. Other machines are waited for: all narrow by the same figures."""
        trials, current, first = self.trials, self._space(number), len(self.study)
        while True:
            if (missing := self.info["trials"] - trials.begun(number)) > 0:
                self._batch(number, current, missing)
                continue
            trials.wait(number, self.told, self.study.path)
            if (
                trials.begun(number) >= self.info["trials"]
            ):  # a machine may be gone, and its trials with it
                break
        if len(self.study) > first:
            words = ", ".join(f"{short(p)}={s}" for p, s in current.items())
            for line in [
                f"round {number} of {self.info['rounds']}: {words}",
                *Tuning(self.study, trials).best_lines(BEST),
            ]:
                self.told(line)

    def _space(self, number: int) -> Space:
        """The space of a round: from the second on, where the best of all trials before lie."""
        best = self.trials.ranked(before=number)[:BEST] if number > 1 else []
        return {
            p: s.narrowed([t.values[p] for t in best]) if best else s
            for p, s in self.trials.space.items()
        }

    def _batch(self, number: int, space: Space, missing: int) -> None:
        """Propose and train some of the trials that a round lacks."""
        info, first = self.info, len(self.study)
        if (
            self.trials.room(number, info["trials"]) <= 0
        ):  # another machine is just taking what is left
            with StopRequest() as stop:
                time.sleep(0.5)
            if stop.asked:
                raise Interrupted(f"stopped, saved; go on with: danlu resume {self.study.path}")
            return
        n = min(missing, BATCH if self.strategy.learns or info["storage"] else missing)
        # A stream for each batch of each study that shares the storage: none draws what another drew.
        own = seed_of(info["seed"], "tune", info["id"] if info["storage"] else "", first) % 2**32
        possible = functools.partial(_possible, self.base, self.data)
        taken = self.trials.reserve(
            space, number, info["trials"], n, first, self.strategy.sampler(own), possible
        )
        if not taken:
            return
        recipes = [self.base.with_(**values) for values in taken]
        self.study = extend(self.study, recipes, self.data, referee=self._referee(), **self.how)
        self.trials.tell(info["metric"])

    def _referee(self) -> Halving | None:
        """Who stops trials, if the strategy has it so; knows what all before have reached."""
        if not self.strategy.halves:
            return None
        referee = Halving(self.info["metric"], higher_is_better(self.info["metric"]))
        if self.study.members and any((self.study.path / "curves").glob("*.parquet")):
            referee.see(self.study.curves().to_dict("records"))
        return referee

    def _crown(self) -> Tuning:
        """Read the test part for the winner, once, on the machine that has its weights; write its recipe."""
        study, trials = self.study, self.trials
        ranked = trials.ranked()
        if ranked and trials.winner is None and ranked[0].owner == trials.id:
            best = ranked[0]
            score = study.run(best.member, self.data).evaluate(self.data, "test")
            figures = {**score.told("test", study.metric), "test_n": score.n}
            trials.crown(best, figures, study.path.absolute())
        for _ in range(_PATIENCE):  # the machine that has the best is about to read the test part
            if not (ranked and trials.shared and trials.winner is None):
                break
            time.sleep(0.5)
        found = Tuning(study, trials)
        if found.best is not None:
            folder.write(study.path / "best.toml", found.best.to_toml())
        provenance.say(study.path / "study.json", over=True)
        return found
