"""A treatment in sentences, in English or Chinese."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from danlu.diagnosis import catalogue
from danlu.errors import count
from danlu.statistics import Estimate
from danlu.study.treating import course
from danlu.study.treating.gains import BETTER, LEVEL_OF_DATA
from danlu.study.treating.rounds import Tried, with_edits

if TYPE_CHECKING:
    from danlu.study.treating.data_trials import DataTrial
    from danlu.study.treating.treatment import Treatment

_ENDS = {
    course.NOTHING: "left_nothing",
    course.NO_GAIN: "left_no_gain",
    course.BUDGET: "left_budget",
    course.ROUNDS: "left_rounds",
}


class Story:
    """What was wrong, what was tried, what helped, what is left."""

    def __init__(self, treatment: Treatment, language: str) -> None:
        self.t = treatment
        self.language = language

    def sentences(self) -> list[str]:
        """Return the whole story."""
        t = self.t
        told = [self._say("patient", patient=t.patient, verdict=t.before.verdict(self.language))]
        for number in range(len(t.rounds)):
            told += self._of_round(number)
        told += [self._of_data(trial) for trial in t.data_trials if not trial.why_not]
        if t.gain is not None:
            told.append(self._outcome("outcome", *t.figures, t.gain))
        if t.test is not None:
            told.append(self._outcome("outcome_on_test", *t.test))
        return [*told, self._ending(), *self._not_tried()]

    def method(self) -> str:
        """Return how the figures were made."""
        t = self.t
        n = t.study.info["seeds"]
        text = self._say(
            "method", metric=self._metric, screening=course.screening_seeds(n), confirming=n
        )
        if any(member.status == "diverged" for member in t.study.members.values()):
            text += self._say("constant_for_diverged", constant=t.format.show(t.scale.constant))
        return text

    @property
    def _metric(self) -> str:
        return catalogue.title_of_metric(self.t.metric, self.language)

    def _say(self, name: str, /, **figures: Any) -> str:
        return catalogue.of_treatment(name, figures, self.language)

    def _gain(self, gain: Estimate) -> dict[str, str]:
        """Return a gain and its interval, as they are shown."""
        shown = {"gain": self.t.format.gap(gain.mean), "range": self.t.format.range(gain)}
        return {name: catalogue.figure(text, self.language) for name, text in shown.items()}

    def _of_round(self, number: int) -> list[str]:
        t = self.t
        rows = t.tried(number)
        winners = [row for row in rows if number < len(t.chosen) and row.verdict == BETTER]
        confirmed = [row for row in winners if row.candidate == t.chosen[number]]
        figures: dict[str, Any] = {"round": number + 1, "tried": len(rows)}
        figures["edits"] = count(len(rows), "edit")
        if not confirmed:
            told = [self._say("round_lost", **figures)]
            if self._is_no_better_than_constant(number, rows):
                constant = t.format.show(t.scale.constant)
                told.append(self._say("round_at_chance", metric=self._metric, constant=constant))
            return told
        (row,) = confirmed
        figures |= {"name": row.candidate.name, "seeds": row.seeds, **self._gain(row.gain)}
        return [self._say("round_won", **figures)]

    def _is_no_better_than_constant(self, number: int, rows: list[Tried]) -> bool:
        """Whether neither the control nor anything that was tried does better than a constant."""
        t = self.t
        this = t.rounds[number]
        sign = 1 if t.scale.higher_is_better else -1
        control = with_edits(t.patient_recipe, this.base)
        best = -math.inf
        for row in rows:
            test = this.test_of(row.candidate)
            seeds = this.screening if test is None else test.seeds
            figures = [sign * t.scale.settle(x) for x in t.trained(control, seeds)]
            best = max(best, sum(figures) / len(figures) + max(0.0, row.gain.mean))
        return best <= sign * t.scale.constant + t.scale.finest

    def _of_data(self, trial: DataTrial) -> str:
        t = self.t
        ours = [t.scale.settle(figure) for figure in trial.figures]
        theirs = [t.scale.settle(figure) for figure in t.trained(t.best, trial.seeds)]
        gain = t.scale.gain(ours, theirs, LEVEL_OF_DATA)
        name = "data_won" if trial.won else "data_lost"
        return self._say(name, name=trial.candidate.name, seeds=gain.n, **self._gain(gain))

    def _outcome(
        self, name: str, /, patient: list[float], best: list[float], gain: Estimate
    ) -> str:
        before, after = (self.t.format.show(sum(x) / len(x)) for x in (patient, best))
        outcome = {"metric": self._metric, "before": before, "after": after}
        return self._say(name, **outcome, **self._gain(gain))

    def _ending(self) -> str:
        t = self.t
        # The last round may have mended everything.
        if t.end == course.HEALTHY or t.after.is_healthy:
            return self._say("cured" if t.helped else "well")
        comma = "、" if self.language == "zh" else ", "
        left = comma.join(finding.title(self.language) for finding in t.after.findings)
        return self._say(_ENDS[t.end], left=left)

    def _not_tried(self) -> list[str]:
        """Return what was prescribed and not tried, with the reason."""
        t = self.t
        told = []
        unfit = dict([*map(tuple, t.study.info["unfit"]), *(p for r in t.rounds for p in r.unfit)])
        for name, why in unfit.items():
            told.append(self._say("unfit", name=name, why=why))
        missed = sum(r.left_out for r in t.rounds)
        if missed:
            told.append(self._say("no_time", missed=missed, edits=count(missed, "edit")))
        for trial in t.data_trials:
            if trial.why_not:
                told.append(self._say("not_tried", name=trial.candidate.name, why=trial.why_not))
        return told
