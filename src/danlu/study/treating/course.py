"""The course of a treatment: round after round, until nothing is left to do.

What is to be trained follows from what study.json and the members say, so that a treatment that was
killed goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from danlu.data import Data
from danlu.diagnosis import Diagnosis, Finding, diagnose
from danlu.errors import RunError
from danlu.files import write
from danlu.metrics import part_and_name
from danlu.recipe import Recipe
from danlu.runs import Study
from danlu.runs.members import figure_of
from danlu.statistics import Estimate
from danlu.study.treating.budget import Budget, affordable
from danlu.study.treating.candidates import Candidate, pairs, prescribed
from danlu.study.treating.data_trials import DataTrial, edited_data, figures_in, train_on
from danlu.study.treating.gains import BETTER, LEVEL_OF_DATA, Scale, levels_of_tests, verdict
from danlu.study.treating.rounds import Confirmation, Round, Screening, confirm, with_edits
from danlu.train import estimate_seconds, extend

# Why a treatment ended.
HEALTHY, NOTHING, NO_GAIN, BUDGET, ROUNDS = "healthy", "nothing", "no gain", "budget", "rounds"


def screening_seeds(seeds: int) -> int:
    """Return on how many seeds candidates are screened: half as many as one is confirmed on."""
    return max(2, (seeds + 1) // 2)


class TrainedFigures:
    """The figures of the trainings of a study, by recipe and seed."""

    def __init__(self, study: Study, metric: str) -> None:
        self.study, self.metric = study, metric
        self.member_of = {_key(recipe): i for i, recipe in enumerate(study.recipes)}
        self.results = study.results

    def has(self, recipe: Recipe) -> bool:
        """Whether a recipe, its seed included, is among the trainings."""
        return _key(recipe) in self.member_of

    def member(self, recipe: Recipe, seed: int) -> int:
        """Return the number of a training. Raises RunError where there is none."""
        key = _key(recipe.with_(seed=seed))
        if key not in self.member_of:
            raise RunError(f"{self.study.path / self.study.index} names a training it lacks")
        return self.member_of[key]

    def __call__(self, recipe: Recipe, seeds: Sequence[int]) -> list[float]:
        """Return the figures of a recipe by seed; NaN where it diverged."""
        numbers = [self.member(recipe, seed) for seed in seeds]
        return [figure_of(self.results[i], self.metric) for i in numbers]


def _key(recipe: Recipe) -> str:
    return recipe.model_dump_json()


def _test_figures(study: Study, members: Sequence[int], data: Data, name: str) -> list[float]:
    """Return a figure of members on the test part; NaN where they diverged."""
    figures = []
    for i in members:
        has_ended_well = bool(study.results[i])
        score = study.run(i, data).evaluate(data, "test") if has_ended_well else None
        figures.append(math.nan if score is None else score.figure(name))
    return figures


class _OnEditedData(NamedTuple):
    """The trainings on edited data that gained."""

    study: Study
    data: Data

    @property
    def diagnosis(self) -> Diagnosis:
        """What is wrong with the first of them."""
        return diagnose(self.study.run(0, self.data), self.data)


class Course:
    """A treatment as it goes on; the study's folder has all that it knows."""

    def __init__(self, study: Study, data: Data, **options: Any) -> None:
        self.study, self.data, self.options = study, data, options
        info = study.info
        file = study.path / study.index
        self.patient = study.recipe_from(info["patient_recipe"], file)
        self.findings = [Finding.from_facts(plain) for plain in info["findings"]]
        self.scale = Scale(info["metric"], info["constant"], data.size("valid"))
        self.rounds = [Round.from_json(plain) for plain in info["rounds_tried"]]
        self.budget = Budget(info["budget"], info["seconds"])
        self.seeds, self.most_rounds = info["seeds"], info["most_rounds"]

    def run(self) -> None:
        """Try what is prescribed, round after round; keep why it ended, and what is left to say."""
        number, base = 0, list[Candidate]()
        diagnosis = Diagnosis(self.findings)
        end = ROUNDS
        while number < self.most_rounds:
            planned = self._round(number, base, diagnosis)
            if isinstance(planned, str):
                end = planned
                break
            number += 1
            chosen = self._confirm(planned, self._screen(planned))
            if chosen is None:
                end = NO_GAIN
                break
            base = [*base, chosen]
            diagnosis = self._diagnose(with_edits(self.patient, base), planned.confirming[0])
        best = with_edits(self.patient, base)
        winner = self._try_data_edits(best, base)
        if winner is not None:
            diagnosis = winner.diagnosis
        if base or winner:
            write(self.study.path / "best.toml", best.to_toml())
        self._keep(
            end=end,
            chosen=[candidate.to_json() for candidate in base],
            findings_after=[finding.facts() for finding in diagnosis.findings],
            test=self._test(best, self._last_seeds(base), winner) if base or winner else None,
            over=True,
        )

    def _round(self, number: int, base: list[Candidate], diagnosis: Diagnosis) -> Round | str:
        """Return the round with that number, planned where it is new; else why there is none."""
        if number < len(self.rounds):
            self.rounds[number].tests.clear()  # tested again, by the same figures
            return self.rounds[number]
        if diagnosis.is_healthy:
            return HEALTHY
        control = with_edits(self.patient, base)
        found = prescribed(diagnosis.findings, control, self.data)
        if not found.candidates:
            return NOTHING
        screening, confirming, further = self._seeds_of_round(number)
        changed = [candidate.apply(control) for candidate in found.candidates]
        seeds = len(screening), len(confirming)
        fitting = affordable(changed, control, seeds, self.data, self.budget.left)
        if not fitting:
            return BUDGET
        causes = [finding.cause for finding in diagnosis.findings]
        candidates = found.candidates[:fitting]
        left_out = len(found.candidates) - fitting
        planned = Round(
            base, causes, candidates, screening, confirming, further, found.unfit, left_out
        )
        self.rounds.append(planned)
        self._keep_rounds()
        return planned

    def _seeds_of_round(self, number: int) -> tuple[list[int], list[int], list[int]]:
        """Return the seeds to screen on, and fresh ones: to confirm on, and further ones.

        From the second round on the control was confirmed on the seeds it is screened on, and needs
        no training there.
        """
        first = self.patient.seed
        screened = screening_seeds(self.seeds)
        start = first + screened + number * self.seeds
        confirming = list(range(start, start + self.seeds))
        before = first if number == 0 else start - self.seeds
        # Behind those that any round confirms on.
        last = start + self.most_rounds * self.seeds
        further = list(range(last, last + self.seeds))
        return list(range(before, before + screened)), confirming, further

    def _screen(self, planned: Round) -> list[Candidate]:
        """Train the candidates on the seeds of screening; return those that gain, best first."""
        control = with_edits(self.patient, planned.base)
        looks = self._screening(planned, control).looks()
        for n, seeds in enumerate(looks):
            alive = self._screening(planned, control).survivors(n)
            self._train([control, *(candidate.apply(control) for candidate in alive)], seeds)
        if planned.pairs is None:
            planned.pairs = self._pairs(planned, control)
            self._keep_rounds()
        self._train([pair.apply(control) for pair in planned.pairs], planned.screening)
        return self._screening(planned, control).ranked()

    def _screening(self, planned: Round, control: Recipe) -> Screening:
        figures = TrainedFigures(self.study, self.scale.metric)
        return Screening(planned, control, self.scale, figures)

    def _pairs(self, planned: Round, control: Recipe) -> list[Candidate]:
        promising = self._screening(planned, control).promising()
        found = pairs(promising, control, self.data)
        changed = [pair.apply(control) for pair in found]
        seeds = len(planned.screening), len(planned.confirming)
        return found[: affordable(changed, control, seeds, self.data, self.budget.left)]

    def _confirm(self, planned: Round, ranked: Sequence[Candidate]) -> Candidate | None:
        """Train the best beside control and patient on fresh seeds; return the first that gains."""
        control = with_edits(self.patient, planned.base)

        def gain_in(test: Confirmation) -> Estimate | None:
            changed = test.candidate.apply(control)
            asked = [self.patient, control, changed]
            if planned.tests and not self._has_time_for(planned, asked, test.seeds):
                return None
            self._train(asked, test.seeds)
            ours, theirs = (self._settled(r, test.seeds) for r in (changed, control))
            return self.scale.gain(ours, theirs, test.level)

        levels = levels_of_tests(bool(self.study.info["of_data"]))
        chosen = confirm(planned, ranked, levels, gain_in)
        self._keep_rounds()
        return chosen

    def _has_time_for(
        self, planned: Round, recipes: Sequence[Recipe], seeds: Sequence[int]
    ) -> bool:
        """Return whether there is time for a test; that there is none is kept for who resumes."""
        missing = self._missing(recipes, seeds)
        if not missing:
            return True
        if not planned.is_cut and estimate_seconds(missing, self.data) > self.budget.left:
            planned.is_cut = True
            self._keep_rounds()
        return not planned.is_cut

    def _train(self, recipes: Sequence[Recipe], seeds: Sequence[int]) -> None:
        """Train what has not been trained yet, all of it as one population."""
        missing = self._missing(recipes, seeds)
        if missing:
            self.study = extend(self.study, missing, self.data, **self.options)
            self._keep()

    def _missing(self, recipes: Sequence[Recipe], seeds: Sequence[int]) -> list[Recipe]:
        known = TrainedFigures(self.study, self.scale.metric)
        missing = []
        for seed in seeds:
            for recipe in recipes:
                replicate = recipe.with_(seed=seed)
                if not known.has(replicate) and replicate not in missing:
                    missing.append(replicate)
        return missing

    def _last_seeds(self, base: Sequence[Candidate]) -> list[int]:
        """Return the seeds that the best so far was confirmed on."""
        if base:
            return self.rounds[len(base) - 1].tests[-1].seeds
        return self._seeds_of_round(0)[1]

    def _try_data_edits(self, best: Recipe, base: Sequence[Candidate]) -> _OnEditedData | None:
        """Try the first edit of the data that can be judged; return it if it gains."""
        seeds = self._last_seeds(base)
        trials, winner = [], None
        for number, plain in enumerate(self.study.info["of_data"]):
            trial = DataTrial(Candidate.from_json(plain))
            trials.append(trial)
            edited = edited_data(self.study, self.data, trial.candidate, best)
            if isinstance(edited, str):
                trial.why_not = edited
                continue
            if any(earlier.figures for earlier in trials):
                trial.why_not = "one edit of the data is tried, and another came first"
                continue
            self._train([self.patient, best], seeds)
            inner = train_on(self.study, number, edited, best, seeds, **self.options)
            trial.seeds, trial.figures = seeds, figures_in(inner, self.scale.metric)
            ours = [self.scale.settle(figure) for figure in trial.figures]
            gain = self.scale.gain(ours, self._settled(best, seeds), LEVEL_OF_DATA)
            trial.won = verdict(gain) == BETTER
            if trial.won:
                winner = _OnEditedData(inner, edited)
        self._keep(data_trials=[trial.to_json() for trial in trials])
        return winner

    def _settled(self, recipe: Recipe, seeds: Sequence[int]) -> list[float]:
        figures = TrainedFigures(self.study, self.scale.metric)
        return [self.scale.settle(figure) for figure in figures(recipe, seeds)]

    def _test(
        self, best: Recipe, seeds: Sequence[int], winner: _OnEditedData | None
    ) -> dict[str, list[float]] | None:
        """Return the figures of patient and winner on the test part, which is read here alone."""
        if not self.data.size("test"):
            return None
        known = TrainedFigures(self.study, self.scale.metric)
        _, name = part_and_name(self.scale.metric)
        patients = [known.member(self.patient, seed) for seed in seeds]
        figures = {"patient": _test_figures(self.study, patients, self.data, name)}
        if winner is not None:
            numbers = list(range(len(winner.study)))
            figures["best"] = _test_figures(winner.study, numbers, winner.data, name)
        else:
            members = [known.member(best, seed) for seed in seeds]
            figures["best"] = _test_figures(self.study, members, self.data, name)
        return figures

    def _diagnose(self, recipe: Recipe, seed: int) -> Diagnosis:
        member = TrainedFigures(self.study, self.scale.metric).member(recipe, seed)
        return diagnose(self.study.run(member, self.data), self.data)

    def _keep_rounds(self) -> None:
        self._keep(rounds_tried=[planned.to_json() for planned in self.rounds])

    def _keep(self, **facts: Any) -> None:
        """Write facts into the study's index, with the time that was spent."""
        self.study.sealed.update(seconds=self.budget.spent, **facts)
