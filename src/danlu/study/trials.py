"""The trials of a search in Optuna's storage, which several machines may share.

A trial is marked with the study that trains it, the number of its member there, and its round. A machine of a shared
storage gives signs of life; the trials of one that gave none for long have failed, and others make up for them.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from danlu.errors import Interrupted, RunError, count
from danlu.runs import Study, folder, higher_is_better
from danlu.study.space import Space
from danlu.study.strategies import by_path, propose, quiet
from danlu.train.engine.stopping import StopRequest

BEAT, DEAD = 30, 600  # seconds between two signs of life, and without any
# What Optuna and SQLAlchemy say of a storage: no driver, no such URL, no answer, tables of another version, no such study.
_REFUSALS = (OptunaError, SQLAlchemyError, ImportError, OSError, RuntimeError, ValueError, KeyError)
_SECRET = "storage.url"  # of a study: the URL with its password, for its owner's eyes only


@dataclass(frozen=True)
class Trial:
    """A trial that ended with a figure: the values of its fields, and the member of which study it was."""

    values: dict[str, Any]
    figure: float
    epochs: int
    stopped: bool  # by the strategy, before its recipe's end
    owner: str
    member: int
    round: int


class Trials:
    """Those of one search; `store` is Optuna's study, `study` is ours, with the networks.

    facts: of the study, which may not be there yet. make: begin the search if the storage does not have it. Raises
    RunError when that does not answer, or has a search of that name on other data, another space, metric or recipe.
    """

    def __init__(
        self,
        url: str,
        facts: Mapping[str, Any],
        space: Space,
        fingerprint: str,
        study: Study | None = None,
        make: bool = True,
    ) -> None:
        self.url, self.id, self.space, self.shared, self.study = (
            url,
            facts["id"],
            space,
            bool(facts["storage"]),
            study,
        )
        self.higher = higher_is_better(facts["metric"])
        beating: dict[str, Any] = (
            {"heartbeat_interval": BEAT, "grace_period": DEAD} if self.shared else {}
        )
        self.beat_at = 0.0
        self.drafts: dict[int, float] = {}  # since when trials are known that nobody has marked
        with self.asking():
            self.storage = _storage(url, beating)
            if make:
                direction: Any = "maximize" if self.higher else "minimize"
                self.store = optuna.create_study(
                    storage=self.storage,
                    study_name=facts["name"],
                    direction=direction,
                    load_if_exists=True,
                )
            else:
                self.store = optuna.load_study(storage=self.storage, study_name=facts["name"])
            kept = dict(self.store.user_attrs)
        own = {
            "data": fingerprint,
            "space": dict(facts["space"]),
            "metric": facts["metric"],
            "recipe": facts["base"],
        }
        for key, value in own.items():
            if key not in kept:
                with self.asking():
                    self.store.set_user_attr(key, value)
            elif kept[key] != value:
                was = "other data" if key == "data" else f"another {key}"
                raise RunError(
                    f"`name` is {facts['name']!r}, but the storage has a study of that name on {was}; choose another --name"
                )

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Whatever the storage raises as one sentence."""
        try:
            with quiet():
                yield
        except _REFUSALS as e:
            why = (
                (str(e).strip() or type(e).__name__)
                .splitlines()[0]
                .replace(self.url, masked(self.url))[:200]
            )
            if isinstance(e, ImportError) or "DB access module" in why:
                why = "the database's driver is not installed; for PostgreSQL: pip install 'danlu[postgres]'"
            raise RunError(
                f"`storage` is {masked(self.url)!r}, but it does not answer ({why}); check the URL, and that the server runs"
            ) from e

    def marked(self) -> list[Any]:
        """Optuna's trials that were given to a member of some study, in their order."""
        with self.asking():
            return [
                t
                for t in self.store.get_trials(deepcopy=False)
                if {"mark", "round"} <= t.user_attrs.keys()
            ]

    def begun(self, number: int) -> int:
        """Trials of a round that are or were trained, on whatever machine."""
        return sum(
            t.state != TrialState.FAIL for t in self.marked() if t.user_attrs["round"] == number
        )

    def reserve(
        self,
        space: Space,
        number: int,
        most: int,
        n: int,
        first: int,
        sampler: Any,
        possible: Callable[[dict[str, Any]], bool],
    ) -> list[dict[str, Any]]:
        """The values of n new trials of a round of `most`, to be trained by the members from `first` on.

        Fewer, where other machines have begun the same at that very moment: of those beyond `most`, the later ones fail.
        """
        marks = [f"{self.id}:{first + k}" for k in range(n)]
        with self.asking():
            self.store.sampler = sampler
            alive = self.storage.record_heartbeat if self.shared else None
            proposed = propose(self.store, space, self.space, n, marks, number, possible, alive)
        with self.asking():
            kept = {t.number for t in self._drawn(number)[:most]}
            for trial, _ in proposed:
                if trial not in kept:
                    self.store.tell(trial, state=TrialState.FAIL)
        return [values for trial, values in proposed if trial in kept]

    def _drawn(self, number: int) -> list[Any]:
        """Trials of a round, also those that are about to be marked; not for long, or their machine was killed just then."""
        found = []
        for t in self.store.get_trials(deepcopy=False):
            if t.user_attrs.get("round") != number or t.state == TrialState.FAIL:
                continue
            if (
                "mark" not in t.user_attrs
                and time.monotonic() - self.drafts.setdefault(t.number, time.monotonic()) > DEAD
            ):
                self._fail(t)
            else:
                found.append(t)
        return found

    def _fail(self, t: Any) -> None:
        with contextlib.suppress(
            optuna.exceptions.UpdateFinishedTrialError
        ):  # another machine may have said so
            self.storage.set_trial_state_values(t._trial_id, TrialState.FAIL)

    def room(self, number: int, most: int) -> int:
        """Trials that a round of `most` still lacks, those counted that other machines are about to mark."""
        with self.asking():
            return most - len(self._drawn(number))

    def tell(self, metric: str) -> None:
        """What members reached, to the trials that are marked with them; trials of which no member was made have failed.

        A trial that others took for lost, and made up for, is told as one more.
        """
        ended, newest = (
            self.study.members if self.study is not None else {},
            {t.user_attrs["mark"]: t for t in self.marked()},
        )
        with self.asking():
            for t in self.store.get_trials(deepcopy=False):
                own = not self.shared or str(t.user_attrs.get("draft", "")).startswith(
                    f"{self.id}:"
                )
                if "mark" not in t.user_attrs and own and t.state == TrialState.RUNNING:
                    self._fail(t)  # killed before it was marked
        for mark, t in newest.items():
            owner, _, member = mark.partition(":")
            line = ended.get(int(member))
            untold = t.state == TrialState.RUNNING or (t.state == TrialState.FAIL and line)
            if owner != self.id or not untold:
                continue
            figure = (
                line["result"].get(metric, math.nan)
                if line and line["status"] != "diverged"
                else math.nan
            )
            with self.asking(), contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
                self._tell(t, line, figure)

    def _tell(self, t: Any, line: Mapping[str, Any] | None, figure: float) -> None:
        """The end of one trial; suppressed by the caller: that another machine has just failed it."""
        if line is None:
            self.storage.set_trial_state_values(t._trial_id, TrialState.FAIL)
            return
        known = math.isfinite(
            figure
        )  # else pruned: from those samplers learn, unlike from failures
        told = (
            {"epochs": line["result"]["epochs"], "stopped": line["status"] == "stopped"}
            if known
            else {}
        )
        if t.state == TrialState.FAIL:
            state = TrialState.COMPLETE if known else TrialState.PRUNED
            given: Any = {"value": figure} if known else {}
            attrs = {**t.user_attrs, "ended": told}
            self.store.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    params=t.params,
                    distributions=t.distributions,
                    user_attrs=attrs,
                    **given,
                )
            )
            return
        if self.shared:  # others cannot look it up
            self.storage.set_trial_user_attr(t._trial_id, "ended", told)
        # As `study.tell`, which takes three times as long: it reads the trial before and after.
        state, values = (TrialState.COMPLETE, [figure]) if known else (TrialState.PRUNED, None)
        self.storage.set_trial_state_values(t._trial_id, state, values)

    def beat(self) -> None:
        """A sign of life of this machine's trials, now and then. A storage that does not answer is noticed elsewhere."""
        if not self.shared or time.monotonic() - self.beat_at < BEAT:
            return
        self.beat_at = time.monotonic()
        with contextlib.suppress(RunError), self.asking():
            for t in self.running(own=True):
                self.storage.record_heartbeat(t._trial_id)

    def running(self, own: bool, upto: float = math.inf) -> list[Any]:
        """Trials under way here, or on other machines, of rounds up to that one."""
        mine = f"{self.id}:"
        under_way = [
            t
            for t in self.marked()
            if t.state == TrialState.RUNNING and t.user_attrs["round"] <= upto
        ]
        return [t for t in under_way if t.user_attrs["mark"].startswith(mine) == own]

    def wait(self, number: int, told: Callable[[str], None], path: Any) -> None:
        """Until no other machine has a trial of that round, or of one before, under way. Raises Interrupted after Ctrl-C."""
        said = False
        with StopRequest() as stop:
            while self.shared and (others := self.running(own=False, upto=number)):
                if not said:
                    told(f"waiting for {count(len(others), 'trial')} of other machines…")
                    said = True
                with self.asking():
                    optuna.storages.fail_stale_trials(self.store)
                time.sleep(0.5)
                if stop.asked:
                    raise Interrupted(f"stopped, saved; go on with: danlu resume {path}")

    def ranked(self, before: float = math.inf) -> list[Trial]:
        """Trials that ended with a figure, of rounds before that one, best first; those that were stopped come last."""
        own = self.study.members if self.study is not None else {}
        found = []
        for t in self.marked():
            if t.state != TrialState.COMPLETE or t.user_attrs["round"] >= before:
                continue
            owner, _, member = t.user_attrs["mark"].partition(":")
            if "ended" in t.user_attrs:
                epochs, stopped = (t.user_attrs["ended"][k] for k in ("epochs", "stopped"))
            else:
                line = own[int(member)]
                epochs, stopped = line["result"]["epochs"], line["status"] == "stopped"
            values = by_path(self.space, t.params)
            found.append(
                Trial(values, t.value, epochs, stopped, owner, int(member), t.user_attrs["round"])
            )
        return sorted(found, key=lambda t: (t.stopped, -t.figure if self.higher else t.figure))

    def diverged(self) -> int:
        """How many trials had no figure."""
        return sum(t.state == TrialState.PRUNED for t in self.marked())

    @property
    def winner(self) -> dict[str, Any] | None:
        """The trial for which the test part was read, with its figures there."""
        with self.asking():
            found: dict[str, Any] | None = self.store.user_attrs.get("winner")
        return found

    def crown(self, best: Trial, figures: Mapping[str, Any], where: Any) -> None:
        """Write down for which trial the test part was read."""
        with self.asking():
            self.store.set_user_attr(
                "winner", {**asdict(best), **figures, "where": f"{socket.gethostname()}: {where}"}
            )


def _storage(url: str, beating: dict[str, Any]) -> Any:
    """Optuna's; if another process is making its tables at this moment, the next try finds them."""
    for _ in range(5):
        try:
            return optuna.storages.RDBStorage(url, **beating)
        except (OptunaError, SQLAlchemyError) as e:
            if not any(
                words in str(e)
                for words in ("already exists", "duplicate key", "UNIQUE constraint", "locked")
            ):
                raise
            time.sleep(0.5)
    return optuna.storages.RDBStorage(url, **beating)


def masked(url: str) -> str:
    """A storage's URL without its password."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)


def keep_url(study: Study, url: str) -> None:
    """Keep a URL that has a password in a file of its own, which others cannot read."""
    if url != masked(url):
        file = study.path / _SECRET
        with folder.storing(file):
            file.touch(mode=0o600)
            file.write_text(url, encoding="utf-8")


def url_of(study: Study) -> str:
    """The storage URL of a search."""
    told, secret = study.info["storage"], study.path / _SECRET
    if secret.is_file():
        return secret.read_text(encoding="utf-8")
    return str(told) if told else f"sqlite:///{(study.path / 'trials.db').absolute()}"
