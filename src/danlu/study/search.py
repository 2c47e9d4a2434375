"""`tune`: search a space of recipes, by the notes' random search, successive halving, or Bayesian optimisation.

Trials live in Optuna's storage, the networks in a study folder. A trial is marked with the study and the member that
trains it, so after a kill it is known which trials are this study's, and none is lost or told twice.
"""

from __future__ import annotations

import functools
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from danlu.data import Data
from danlu.errors import DanluError, RecipeError, RunError, unknown, wrong
from danlu.recipe import Recipe
from danlu.runs import Study, folder
from danlu.streams import seed_of
from danlu.study import grid as grids
from danlu.study import space as spaces
from danlu.study.grid import look, short
from danlu.study.space import Choice, Range, Space
from danlu.study.strategies import BATCH, STRATEGIES, Halving, propose, sampler
from danlu.study.tuning import Tuning
from danlu.train import CHECKPOINT_EVERY, StudyListener, check, create, extend, record, resume_study

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
    out: str | Path | None = None,
    device: str = "auto",
    listener: StudyListener | None = None,
    told: Told | None = None,
    ray: str | None = None,
) -> Tuning:
    """Search for the recipe that does best on the validation part; the test part is read once, for the winner.

    space: texts such as "optimizer.lr=1e-5..1e-1:log" or "model.hidden=32,64", or `Range` and `Choice` by field; other
    fields may be fixed ("epochs=3"). trials: in each round. rounds: after each, ranges are narrowed to where the best
    five lie. strategy: "random" (every trial to its end), "halving" (only the better third goes on at epochs 1, 3, 9, …)
    or "bayes" (Optuna's TPE, in batches that train together). storage: an Optuna storage URL (default: SQLite in the
    study's folder); machines that name the same storage and `name` share the trials. told: hears the best of each round.
    ray: address of a Ray cluster to train on.

    Raises RecipeError for what cannot be searched, RunError when the storage does not answer or holds a study of other
    data, and what `train` raises.
    """
    searched, fixed = _read(space)
    base = (recipe or Recipe()).with_(**fixed)
    metric = metric or f"valid_{'accuracy' if data.schema.classes else 'r2'}"
    mistakes = _mistakes(data, trials, rounds, strategy, metric, seed)
    if mistakes:
        raise RecipeError(*mistakes)
    spaces.check(searched, base)
    _check_data(searched, base, data)
    facts = {
        "kind": "tune",
        "id": uuid.uuid4().hex,
        "space": {p: s.to_json() for p, s in searched.items()},
        "base": base.to_dict(whole=True),
        "trials": trials,
        "rounds": rounds,
        "strategy": strategy,
        "metric": metric,
        "seed": seed,
        "storage": storage,
        "name": name or "danlu",
    }
    if storage is not None:
        _open(storage, facts, data.fingerprint)  # before a folder is made
    study = create([], data, out, device, ("valid",), facts, ray)
    return continue_tuning(study, data, listener=listener, told=told, ray=ray)


def _read(space: Mapping[str, Any] | Sequence[str]) -> tuple[Space, dict[str, Any]]:
    """(what is searched, what is fixed) of a space in any of its forms."""
    if not isinstance(space, Mapping):
        return spaces.parse(space)
    return {grids.canonical(p): s if isinstance(s, (Range, Choice)) else Choice(tuple(s)) for p, s in space.items()}, {}


def _mistakes(data: Data, trials: int, rounds: int, strategy: str, metric: str, seed: int) -> list[str]:
    mistakes = [
        wrong(name, n, "must be at least 1", f"try {hint}")
        for name, n, hint in (("trials", trials, 100), ("rounds", rounds, 2))
        if n < 1
    ]
    if strategy not in STRATEGIES:
        mistakes.append(unknown("strategy", strategy, STRATEGIES))
    known = ("valid_accuracy" if data.schema.classes else "valid_r2", "valid_loss")
    if metric not in known:
        mistakes.append(unknown("metric", metric, known))
    if not 0 <= seed < 2**63:
        mistakes.append(wrong("seed", seed, "must be at least 0", "try 0"))
    if not data.size("test"):
        mistakes.append("a search reads the test part for the winner, and these data have none; try --split 60/20/20")
    if not data.size("valid"):
        mistakes.append("a search needs a validation part to choose by, and these data have none; leave out --no-valid")
    return mistakes


def _check_data(space: Space, base: Recipe, data: Data) -> None:
    """Refuse a space whose ends cannot be trained on the data. All mistakes at once."""
    mistakes: list[str] = []
    first = {p: spaces.ends(s)[0] for p, s in space.items()}
    for path, s in space.items():
        for value in spaces.ends(s):
            try:
                check(base.with_(**{**first, path: value}), data)
            except DanluError as e:
                mistakes += [m for m in e.mistakes if m not in mistakes]
    if mistakes:
        raise RecipeError(*mistakes)


def _possible(base: Recipe, values: dict[str, Any]) -> bool:
    """Whether the values go together."""
    try:
        base.with_(**values)
    except RecipeError:
        return False
    return True


def _open(storage: str, facts: Mapping[str, Any], fingerprint: str) -> Any:
    """The Optuna study, made if there is none; held against the data and the space it was begun with."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction: Any = "minimize" if facts["metric"] == "valid_loss" else "maximize"
    try:
        found = optuna.create_study(storage=storage, direction=direction, study_name=facts["name"], load_if_exists=True)
        kept = dict(found.user_attrs)
    except Exception as e:  # every database has its own errors
        why = str(e).strip().splitlines()[0][:200]
        if "DB access module" in why:
            why = "the database's driver is not installed; for PostgreSQL: pip install psycopg[binary]"
        raise RunError(
            f"`storage` is {storage!r}, but it does not answer ({why}); check the URL, and that the server runs"
        ) from e
    own = {"data": fingerprint, "space": dict(facts["space"]), "metric": facts["metric"], "recipe": facts["base"]}
    for key, value in own.items():
        if key not in kept:
            found.set_user_attr(key, value)
        elif kept[key] != value:
            was = "other data" if key == "data" else f"another {key}"
            raise RunError(
                f"`name` is {facts['name']!r}, but the storage has a study of that name on {was}; choose another --name"
            )
    return found


def storage_of(study: Study) -> str:
    """The storage URL of a study of `tune`."""
    told = study.info["storage"]
    return str(told) if told else f"sqlite:///{(study.path / 'trials.db').absolute()}"


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
    how: Any = {"listener": listener, "checkpoint_every": checkpoint_every, "ray": ray}
    with folder.locked(study.path):
        return _search(study, study.load_data() if data is None else data, told, how)


def _search(study: Study, data: Data, told: Told | None, how: dict[str, Any]) -> Tuning:
    """Batch by batch, round by round, from where the study stands."""
    info = study.info
    optuna_study = _open(storage_of(study), info, data.fingerprint)
    base, whole = Recipe(**info["base"]), {p: spaces.from_json(s) for p, s in info["space"].items()}
    if study.status != "finished":
        study = resume_study(study, data, referee=_referee(study), **how)
    _tell(study, optuna_study)
    for number in range(1, info["rounds"] + 1):
        current, fresh = _narrow(study, whole, number, info["trials"]), False
        while (missing := number * info["trials"] - _begun(optuna_study)) > 0:
            batch = min(missing, BATCH if info["strategy"] == "bayes" or info["storage"] else missing)
            first, fresh = len(study), True
            marks = [f"{info['id']}:{first + k}" for k in range(batch)]
            # A stream for each batch of each study that shares the storage: none draws what another drew.
            own = seed_of(info["seed"], "tune", info["id"] if info["storage"] else "", first) % 2**32
            optuna_study.sampler = sampler(info["strategy"], own)
            proposed = propose(optuna_study, current, whole, batch, marks, functools.partial(_possible, base))
            recipes = [base.with_(**values) for _, values in proposed]
            study = extend(study, recipes, data, referee=_referee(study), **how)
            _tell(study, optuna_study)
        if told and fresh:
            found = Tuning(study, optuna_study)
            for line in [f"round {number} of {info['rounds']}: {_words(current)}", *found.best_lines(BEST)]:
                told(line)
    return _crown(study, optuna_study, data)


def _referee(study: Study) -> Halving | None:
    """Who stops trials, if the strategy has it so; knows what all before have reached."""
    info = study.info
    if info["strategy"] != "halving":
        return None
    referee = Halving(info["metric"], info["metric"] != "valid_loss")
    if any((study.path / "curves").glob("*.parquet")):
        referee.see(study.curves().to_dict("records"))
    return referee


def open_tuning(study: Study) -> Tuning:
    """What a search has found so far."""
    return Tuning(study, _open(storage_of(study), study.info, study.data_info["fingerprint"]))


def _begun(optuna_study: Any) -> int:
    """Trials that are or were trained, on whatever machine; those that never were given to a member do not count."""
    found = [t for t in optuna_study.get_trials(deepcopy=False) if "mark" in t.user_attrs]
    return sum(t.state != TrialState.FAIL or "diverged" in t.user_attrs for t in found)


def _tell(study: Study, optuna_study: Any) -> None:
    """What members reached, to the trials that are marked with them; trials of which no member was made have failed."""
    ended, metric = study.members, study.info["metric"]
    for t in optuna_study.get_trials(deepcopy=False):
        owner, _, member = t.user_attrs.get("mark", ":").partition(":")
        if not owner and not study.info["storage"] and t.state == TrialState.RUNNING:
            optuna_study.tell(t.number, state=TrialState.FAIL)  # killed before it was marked
        if owner != study.info["id"] or t.state != TrialState.RUNNING:
            continue
        line = ended.get(int(member))
        if line is None:
            optuna_study.tell(t.number, state=TrialState.FAIL)
        elif line["status"] == "diverged" or not math.isfinite(line["result"][metric]):
            optuna_study._storage.set_trial_user_attr(t._trial_id, "diverged", True)
            optuna_study.tell(t.number, state=TrialState.FAIL)
        else:
            optuna_study.tell(t.number, line["result"][metric])


def _narrow(study: Study, whole: Space, number: int, trials: int) -> Space:
    """The space of a round: from the second on, where the best of all trials before lie."""
    if number == 1:
        return whole
    higher, metric = study.info["metric"] != "valid_loss", study.info["metric"]
    results = study.results[: (number - 1) * trials]
    found = [i for i, r in enumerate(results) if math.isfinite(r.get(metric, math.nan))]
    ranked = sorted(found, key=lambda i: results[i][metric], reverse=higher)[:BEST]
    if not ranked:
        return whole
    return {p: s.narrowed([look(study.recipes[i], p) for i in ranked]) for p, s in whole.items()}


def _words(space: Space) -> str:
    return ", ".join(f"{short(p)}={s}" for p, s in space.items())


def _crown(study: Study, optuna_study: Any, data: Data) -> Tuning:
    """Read the test part for the winner, once; write its recipe."""
    found = Tuning(study, optuna_study)
    if "winner" not in study.info and found.ranked:
        best = found.ranked[0]
        run = study.run(best, data)
        score = run.evaluate(data, "test")
        folder.write(study.path / "best.toml", study.recipes[best].to_toml())
        record.say(
            study.path / "study.json",
            winner={"member": best, "test_loss": score.loss, f"test_{study.metric}": score.accuracy, "test_n": score.n},
        )
    return Tuning(study, optuna_study)
