"""`Treatment`: what a treatment showed, from its folder alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from danlu.diagnosis import Diagnosis, Finding, catalogue
from danlu.errors import RunError
from danlu.figures import comparison as figures_of_comparison
from danlu.recipe import Recipe
from danlu.runs import Study
from danlu.statistics import Estimate
from danlu.study.figure_format import FigureFormat
from danlu.study.treating.candidates import Candidate
from danlu.study.treating.course import TrainedFigures
from danlu.study.treating.data_trials import DataTrial
from danlu.study.treating.facts import treatment_facts
from danlu.study.treating.gains import LEVEL_OF_DATA, Scale, verdict
from danlu.study.treating.rounds import Confirmation, Round, Screening, Tried, with_edits
from danlu.study.treating.story import Story

KIND = "treat"


class Treatment:
    """What was tried on a patient, and what helped.

    Raises RunError for another study, or one that is not over.
    """

    def __init__(self, study: Study) -> None:
        self.study, info = study, study.info
        if info["kind"] != KIND:
            raise RunError(
                f"{str(study.path)!r} is not a treatment; danlu runs lists what there is"
            )
        treatment_facts(study)
        if not info["over"]:
            raise RunError(f"{str(study.path)!r} is not finished; {study.way_on}")
        self.patient: str = info["patient"]
        self.end: str = info["end"]
        self.seconds: float = info["seconds"]
        self.metric: str = info["metric"]
        self.format = FigureFormat(self.metric)
        examples = study.data_info["sizes"].get("valid", 0)
        self.scale = Scale(self.metric, info["constant"], examples)
        file = study.path / study.index
        self.patient_recipe = study.recipe_from(info["patient_recipe"], file)
        self.before = Diagnosis([Finding.from_facts(f) for f in info["findings"]])
        self.after = Diagnosis([Finding.from_facts(f) for f in info["findings_after"]])
        self.rounds = [Round.from_json(plain) for plain in info["rounds_tried"]]
        self.data_trials = [DataTrial.from_json(plain) for plain in info["data_trials"]]
        self.chosen = [Candidate.from_json(plain) for plain in info["chosen"]]
        self.trained = TrainedFigures(study, self.metric)

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    @property
    def helped(self) -> bool:
        """Whether anything was shown to help."""
        return bool(self.chosen) or self.data_winner is not None

    @property
    def data_winner(self) -> DataTrial | None:
        """The edit of the data that helped, if any did."""
        return next((trial for trial in self.data_trials if trial.won), None)

    @property
    def data_edits(self) -> list[str]:
        """How the data are to be loaded otherwise, such as data.vocabulary=5000."""
        return list(self.data_winner.candidate.edits) if self.data_winner else []

    @property
    def last_seeds(self) -> Sequence[int]:
        """The seeds of the last confirmation. Something must have helped."""
        if self.data_winner is not None:
            return self.data_winner.seeds
        return self.rounds[len(self.chosen) - 1].tests[-1].seeds

    @property
    def trainings(self) -> int:
        """How many networks were trained."""
        return len(self.study) + sum(len(trial.figures) for trial in self.data_trials)

    @cached_property
    def best(self) -> Recipe:
        """The recipe that all gains together lead to; the patient's own where nothing helped."""
        return with_edits(self.patient_recipe, self.chosen)

    @property
    def edits(self) -> list[str]:
        """What turns the patient's recipe into the best one."""
        by_path = {edit.path: str(edit) for candidate in self.chosen for edit in candidate.parsed}
        texts = list(by_path.values())
        if self.patient_recipe.with_(texts) == self.best:
            return texts
        # A later edit took back what came with an earlier one.
        changed = []
        for path, _, value in self.patient_recipe.diff(self.best):
            if value is not None:
                changed.append(f"{path}={self.best.value_of(path)}")
        return changed

    def _settled(self, recipe: Recipe, seeds: Sequence[int]) -> list[float]:
        return [self.scale.settle(figure) for figure in self.trained(recipe, seeds)]

    @cached_property
    def gain(self) -> Estimate | None:
        """The gain of the best recipe over the patient's; None where nothing helped."""
        if not self.helped:
            return None
        patient, best = self.figures
        return self.scale.gain(best, patient, self.level)

    @cached_property
    def figures(self) -> tuple[list[float], list[float]]:
        """The figures of patient and best, by the last seeds. Something must have helped."""
        patient = self._settled(self.patient_recipe, self.last_seeds)
        if self.data_winner is not None:
            return patient, [self.scale.settle(figure) for figure in self.data_winner.figures]
        return patient, self._settled(self.best, self.last_seeds)

    @cached_property
    def test(self) -> tuple[list[float], list[float], Estimate] | None:
        """Figures of patient and best recipe on the test part, and the gain there."""
        kept = self.study.info.get("test")
        if kept is None:
            return None
        examples = self.study.data_info["sizes"].get("test", 0)
        scale = Scale(self.metric, self.scale.constant, examples)
        patient, best = (
            [scale.settle(math.nan if x is None else x) for x in kept[name]]
            for name in ("patient", "best")
        )
        return patient, best, scale.gain(best, patient)

    def tried(self, number: int) -> list[Tried]:
        """Return what a round tried (from 0), in figures.

        Those that were tested have those of the fresh seeds.
        """
        this = self.rounds[number]
        control = with_edits(self.patient_recipe, this.base)
        screening = Screening(this, control, self.scale, self.trained)
        rows = []
        for row in screening.table():
            test = this.test_of(row.candidate)
            rows.append(row if test is None else self._confirmed(control, test))
        return rows

    def _confirmed(self, control: Recipe, test: Confirmation) -> Tried:
        ours = self._settled(test.candidate.apply(control), test.seeds)
        theirs = self._settled(control, test.seeds)
        gain = self.scale.gain(ours, theirs, test.level)
        return Tried(test.candidate, self.scale.gains(ours, theirs), gain, verdict(gain))

    @property
    def level(self) -> float:
        """The level of the interval of the whole gain: that of the last test."""
        if self.data_winner is not None:
            return LEVEL_OF_DATA
        return self.rounds[len(self.chosen) - 1].tests[-1].level

    def sentences(self, language: str = "en") -> list[str]:
        """Return the story in words."""
        return Story(self, language).sentences()

    def method(self, language: str = "en") -> str:
        """Return how the figures were made."""
        return Story(self, language).method()

    def gains_figure(self, number: int, language: str = "en") -> dict[str, Any]:
        """Return the gains of what a round tried (from 0) by seed, as a Plotly dictionary."""
        title = "gain_in_points" if self.format.percent else "gain_in"
        metric = catalogue.title_of_metric(self.metric, language)
        rows = self.tried(number)
        return figures_of_comparison.differences(
            [row.candidate.name for row in rows],
            [list(row.gains) for row in rows],
            [row.gain for row in rows],
            catalogue.of_treatment(title, {"metric": metric}, language),
            self.format.percent,
        )

    def curves_figure(self, language: str = "en") -> dict[str, Any]:
        """Return the curves of patient and best recipe on the same seeds, as a Plotly dictionary.

        There must be a best one.
        """
        curves = self.study.curves()
        variant_of: dict[int, int] = {}
        for k, recipe in enumerate((self.patient_recipe, self.best)):
            variant_of |= {self.trained.member(recipe, seed): k for seed in self.last_seeds}
        shown = curves[curves["member"].isin(list(variant_of))]
        column = self.metric if self.metric in curves else f"valid_{self.study.metric}"
        patient, loss, epoch = (
            catalogue.of_treatment(name, {}, language)
            for name in ("the_patient", "training_loss", "epoch")
        )
        names = [patient, " ".join(self.edits)]
        titles = loss, catalogue.title_of_metric(column, language), epoch
        variants = shown["member"].map(variant_of)
        return figures_of_comparison.bands(names, shown, variants, column, titles)

    def to_json(self, language: str = "en") -> dict[str, Any]:
        """Return everything that was found, as plain values."""
        rounds = []
        for number, this in enumerate(self.rounds):
            tried = [row.to_json() for row in self.tried(number)]
            rounds.append({"causes": this.causes, "tried": tried})
        gain = self.gain or Estimate(0.0, math.nan, math.nan, math.nan, 0)
        best = {
            "edits": [*self.edits, *self.data_edits],
            "gain": gain.mean,
            "low": gain.low,
            "high": gain.high,
        }
        test = None
        if self.test is not None:
            _, _, on_test = self.test
            test = {"gain": on_test.mean, "low": on_test.low, "high": on_test.high}
        return {
            "run": self.patient,
            "study": str(self.study.path),
            "metric": self.metric,
            "rounds": rounds,
            "best": best,
            "test": test,
            "helped": self.helped,
            "trainings": self.trainings,
            "seconds": self.seconds,
            "end": self.end,
            "findings_after": [f.to_json(language) for f in self.after.findings],
            "sentences": self.sentences(language),
        }
