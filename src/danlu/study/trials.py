"""The trials of a search in Optuna's storage, which several machines may share.

A trial's owner tag names the study that trains it and the number of its member there. A machine of
a shared storage sends heartbeats; the trials of one that sent none for long have failed, and others
make up for them.
"""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from danlu.errors import RunError, count, stopped, way_on
from danlu.metrics import higher_is_better
from danlu.runs import Member, Study
from danlu.runs.members import DIVERGED, STOPPED, figure_of
from danlu.study import storage as storages
from danlu.study.space import Space
from danlu.study.strategies import (
    OWNER_TAG,
    ROUND,
    UNCLAIMED,
    Proposal,
    propose,
    values_by_path,
)
from danlu.train.engine.stopping import StopRequest

_ENDED, _WINNER = "ended", "winner"  # names of Optuna's user attributes
_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Trial:
    """A trial that ended with a figure: the values of its fields, and the member it was.

    stopped: by the strategy, before its recipe's end. owner, member: of which study, and which.
    """

    values: dict[str, Any]
    figure: float
    epochs: int
    stopped: bool
    owner: str
    member: int
    round: int


class Trials:
    """The trials of one search; `store` is Optuna's study, `study` is ours, with the networks.

    facts: of the study, which may not be there yet. readonly: nothing is written to the storage;
    else the search is begun if the storage does not have it. Raises RunError when the storage does
    not answer, or has a search of that name on other data, another space, metric or recipe.
    """

    def __init__(
        self,
        url: str,
        facts: Mapping[str, Any],
        space: Space,
        fingerprint: str,
        study: Study | None = None,
        readonly: bool = False,
    ) -> None:
        self.url = url
        self.id = facts["id"]
        self.space = space
        self.study = study
        self.shared = bool(facts["storage"])
        self.metric: str = facts["metric"]
        self.higher_is_better = higher_is_better(self.metric)
        self.last_heartbeat = 0.0
        self.unclaimed_since: dict[int, float] = {}
        """Since when trials are known that nobody has claimed."""
        with self._storage_errors():
            self.storage = storages.open_storage(url, self.shared, readonly)
            if readonly:
                self.store = optuna.load_study(storage=self.storage, study_name=facts["name"])
            else:
                self.store = optuna.create_study(
                    storage=self.storage,
                    study_name=facts["name"],
                    direction="maximize" if self.higher_is_better else "minimize",
                    load_if_exists=True,
                )
        self._check_facts(facts, fingerprint, readonly)

    def _storage_errors(self) -> contextlib.AbstractContextManager[None]:
        return storages.storage_errors(self.url)

    def _check_facts(self, facts: Mapping[str, Any], fingerprint: str, readonly: bool) -> None:
        """Keep what the search is, or compare it with what the storage keeps."""
        own = {
            "data": fingerprint,
            "space": dict(facts["space"]),
            "metric": facts["metric"],
            "recipe": facts["base"],
        }
        with self._storage_errors():
            kept = dict(self.store.user_attrs)
        for name, value in own.items():
            if name not in kept and not readonly:
                with self._storage_errors():
                    self.store.set_user_attr(name, value)
            elif kept.get(name) != value:
                difference = "other data" if name == "data" else f"another {name}"
                raise RunError(
                    f"`name` is {facts['name']!r}, but the storage has a study of that name on "
                    f"{difference}; choose another --name"
                )

    def claimed(self) -> list[Any]:
        """Return Optuna's trials that were given to a member of some study, in their order."""
        needed = {OWNER_TAG, ROUND}
        with self._storage_errors():
            trials = self.store.get_trials(deepcopy=False)
        return [trial for trial in trials if needed <= trial.user_attrs.keys()]

    def begun(self, round_number: int) -> int:
        """Return how many trials of a round are or were trained, on whatever machine."""
        begun = 0
        for trial in self.claimed():
            is_of_round = trial.user_attrs[ROUND] == round_number
            if is_of_round and trial.state != TrialState.FAIL:
                begun += 1
        return begun

    def reserve(
        self,
        space: Space,
        round_number: int,
        most: int,
        n: int,
        first: int,
        sampler: Any,
        is_valid: Callable[[dict[str, Any]], bool],
    ) -> list[dict[str, Any]]:
        """Return the values of n new trials of a round of `most`, for the members from `first` on.

        Fewer, where other machines have begun the same at that very moment: of those beyond `most`,
        the later ones fail.
        """
        owner_tags = [f"{self.id}:{first + k}" for k in range(n)]
        heartbeat = self.storage.record_heartbeat if self.shared else None
        proposal = Proposal(space, self.space, round_number, is_valid, heartbeat)
        with self._storage_errors():
            self.store.sampler = sampler
            proposed = propose(self.store, proposal, owner_tags)
        values_of_kept = []
        with self._storage_errors():
            # The storage numbers trials, so all machines agree on who was first.
            kept = {trial.number for trial in self._drawn(round_number)[:most]}
            for trial, values in proposed:
                if trial in kept:
                    values_of_kept.append(values)
                else:
                    self.store.tell(trial, state=TrialState.FAIL)
        return values_of_kept

    def _drawn(self, round_number: int) -> list[Any]:
        """Return the trials of a round, also those that are about to be claimed.

        Not those that stay unclaimed for long: their machine was killed just then.
        """
        drawn = []
        for trial in self.store.get_trials(deepcopy=False):
            if trial.user_attrs.get(ROUND) != round_number or trial.state == TrialState.FAIL:
                continue
            if OWNER_TAG not in trial.user_attrs and self._is_abandoned(trial):
                self._fail(trial)
            else:
                drawn.append(trial)
        return drawn

    def _is_abandoned(self, trial: Any) -> bool:
        now = time.monotonic()
        known_since = self.unclaimed_since.setdefault(trial.number, now)
        return now - known_since > storages.UNCLAIMED_SECONDS

    def _fail(self, trial: Any) -> None:
        # Another machine may have failed it already.
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def room(self, round_number: int, most: int) -> int:
        """Return how many trials a round of `most` still lacks.

        Those that other machines are about to claim count as there.
        """
        with self._storage_errors():
            return most - len(self._drawn(round_number))

    def record_results(self, metric: str) -> None:
        """Tell the storage what members reached.

        Trials of which no member was made have failed. A trial that others took for lost, and made
        up for, is added as one more.
        """
        members = self._members()
        # A trial that was made up for has the tag of the one that failed; the later counts.
        newest = {trial.user_attrs[OWNER_TAG]: trial for trial in self.claimed()}
        self._fail_unclaimed()
        for owner_tag, trial in newest.items():
            owner, _, number = owner_tag.partition(":")
            if owner != self.id:
                continue
            member = members.get(int(number))
            is_taken_for_lost = trial.state == TrialState.FAIL and member is not None
            if trial.state != TrialState.RUNNING and not is_taken_for_lost:
                continue
            # Another machine may have failed it just now.
            with self._storage_errors(), contextlib.suppress(UpdateFinishedTrialError):
                if member is None:
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                else:
                    self._record(trial, member, metric)

    def _fail_unclaimed(self) -> None:
        """Fail trials of this study that were drawn, but never claimed: it was killed before."""
        with self._storage_errors():
            for trial in self.store.get_trials(deepcopy=False):
                drawn_by = str(trial.user_attrs.get(UNCLAIMED, ""))
                is_own = not self.shared or drawn_by.startswith(f"{self.id}:")
                is_unclaimed = OWNER_TAG not in trial.user_attrs
                if is_unclaimed and is_own and trial.state == TrialState.RUNNING:
                    self._fail(trial)

    def _record(self, trial: Any, member: Member, metric: str) -> None:
        """Record how one trial ended.

        One without a figure is pruned: samplers learn from pruned trials, unlike from failed ones.
        """
        figure = math.nan
        if member.status != DIVERGED:
            figure = figure_of(member.result, metric)
        state, values, facts = TrialState.PRUNED, None, {}
        if math.isfinite(figure):
            state, values = TrialState.COMPLETE, [figure]
            facts = {"epochs": member.result["epochs"], "stopped": member.status == STOPPED}
        if trial.state == TrialState.FAIL:
            self._add_again(trial, state, values, facts)
            return
        if self.shared:  # others cannot look it up in our folder
            self.storage.set_trial_user_attr(trial._trial_id, _ENDED, facts)
        # `study.tell` takes three times as long: it reads the trial before and after.
        self.storage.set_trial_state_values(trial._trial_id, state, values)

    def _add_again(
        self,
        trial: Any,
        state: TrialState,
        values: list[float] | None,
        facts: dict[str, Any],
    ) -> None:
        """Add a trial that has failed once more: a failed one cannot be changed."""
        again = optuna.trial.create_trial(
            state=state,
            values=values,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**trial.user_attrs, _ENDED: facts},
        )
        self.store.add_trial(again)

    def heartbeat(self) -> None:
        """Send a heartbeat of this machine's trials, now and then.

        That a storage does not answer is noticed elsewhere.
        """
        now = time.monotonic()
        if not self.shared or now - self.last_heartbeat < storages.HEARTBEAT_SECONDS:
            return
        self.last_heartbeat = now
        with contextlib.suppress(RunError), self._storage_errors():
            for trial in self.running(own=True):
                self.storage.record_heartbeat(trial._trial_id)

    def running(self, own: bool, up_to_round: float = math.inf) -> list[Any]:
        """Return trials that are trained here, or on other machines, of rounds up to that one."""
        prefix = f"{self.id}:"
        running = []
        for trial in self.claimed():
            if trial.state != TrialState.RUNNING or trial.user_attrs[ROUND] > up_to_round:
                continue
            is_own = trial.user_attrs[OWNER_TAG].startswith(prefix)
            if is_own == own:
                running.append(trial)
        return running

    def wait(self, round_number: int, report: Callable[[str], None], path: Any) -> None:
        """Wait until no other machine trains a trial of that round, or of one before.

        Raises Interrupted after Ctrl-C.
        """
        has_reported = False
        with StopRequest() as stop:
            while self.shared:
                others = self.running(own=False, up_to_round=round_number)
                if not others:
                    return
                if not has_reported:
                    report(f"waiting for {count(len(others), 'trial')} of other machines…")
                    has_reported = True
                with self._storage_errors():
                    optuna.storages.fail_stale_trials(self.store)
                time.sleep(_WAIT_SECONDS)
                if stop.asked:
                    raise stopped(way_on(path))

    def ranked(self, before_round: float = math.inf) -> list[Trial]:
        """Return trials that ended with a figure, of rounds before that one, best first.

        Those that were stopped come last.
        """
        members = self._members()
        ranked = []
        for trial in self.claimed():
            is_before = trial.user_attrs[ROUND] < before_round
            if trial.state == TrialState.COMPLETE and is_before:
                ranked.append(self._ended(trial, members))
        sign = -1 if self.higher_is_better else 1
        return sorted(ranked, key=lambda trial: (trial.stopped, sign * trial.figure))

    def _members(self) -> dict[int, Member]:
        """Return the members of this study that have ended."""
        if self.study is None:
            return {}
        return self.study.members

    def _ended(self, trial: Any, members: Mapping[int, Member]) -> Trial:
        """Return Optuna's trial as one of ours."""
        attrs = trial.user_attrs
        owner, _, number = attrs[OWNER_TAG].partition(":")
        values = values_by_path(self.space, trial.params)
        if _ENDED in attrs:
            epochs = attrs[_ENDED]["epochs"]
            stopped = attrs[_ENDED]["stopped"]
        else:
            # A storage that no other machine shares does not repeat what the study's folder says.
            # That of each is there: see `opening.check_figures`.
            member = members[int(number)]
            epochs = member.result["epochs"]
            stopped = member.status == STOPPED
        return Trial(
            values,
            trial.value,
            epochs,
            stopped,
            owner,
            int(number),
            attrs[ROUND],
        )

    def diverged(self) -> int:
        """Return how many trials had no figure."""
        return sum(trial.state == TrialState.PRUNED for trial in self.claimed())

    @property
    def winner(self) -> dict[str, Any] | None:
        """The trial for which the test part was read, with its figures there."""
        with self._storage_errors():
            found: dict[str, Any] | None = self.store.user_attrs.get(_WINNER)
        return found

    def record_winner(self, best: Trial, figures: Mapping[str, Any], where: Any) -> None:
        """Write down for which trial the test part was read."""
        place = f"{socket.gethostname()}: {where}"
        with self._storage_errors():
            self.store.set_user_attr(_WINNER, {**asdict(best), **figures, "where": place})
