"""`Tuning`: what a search found, read from Optuna's storage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from danlu.errors import count
from danlu.figures.style import plain
from danlu.guest import guest
from danlu.metrics import part_and_name, title_of
from danlu.recipe import Recipe
from danlu.recipe.overrides import show
from danlu.runs import Study
from danlu.study.grid import short
from danlu.study.space import Range
from danlu.study.trials import Trial, Trials

_NEAR_END = 0.05  # of a range's width: the best value is at its end
_LEAST_FOR_IMPORTANCE = 4  # trials


class Tuning:
    """A search: `ranked` trials, best first, of whatever machine; `winner`, with its test figures.

    `trials` is the storage.
    """

    def __init__(self, study: Study, trials: Trials) -> None:
        self.study = study
        self.trials = trials
        self.space = trials.space
        self.metric: str = study.info["metric"]
        self.ranked = trials.ranked()
        self.winner = trials.winner
        self.diverged = trials.diverged()
        self.running_elsewhere = len(trials.running(own=False))

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    @property
    def own(self) -> dict[int, Trial]:
        """The trials of this study, by member."""
        return {t.member: t for t in self.ranked if t.owner == self.trials.id}

    @property
    def best(self) -> Recipe | None:
        """The winner's recipe; before the test part was read, the best trial's."""
        if self.winner:
            values = self.winner["values"]
        elif self.ranked:
            values = self.ranked[0].values
        else:
            return None
        file = self.study.path / self.study.index
        return self.study.recipe_from(self.study.info["base"], file).with_(**values)

    def best_lines(self, most: int = 5) -> list[str]:
        """Return Best-1, Best-2, … in words."""
        name = title_of(self.metric)
        lines = []
        for rank, trial in enumerate(self.ranked[:most], 1):
            line = f"Best-{rank} ({name} {trial.figure:.4f})"
            for path, value in trial.values.items():
                line += f"  {short(path)}={show(value)}"
            lines.append(line)
        return lines

    @cached_property
    @guest
    def in_memory(self) -> Any:
        """The trials as an Optuna study in memory, over the space that was begun with.

        Rounds narrow the space in the storage.
        """
        import optuna

        from danlu.study.strategies import distribution, quiet

        distributions = {path: distribution(searched) for path, searched in self.space.items()}
        direction: Any = "maximize" if self.trials.higher_is_better else "minimize"
        with quiet():
            study = optuna.create_study(direction=direction)
            for trial in self.trials.claimed():
                if trial.state == optuna.trial.TrialState.COMPLETE:
                    copy = optuna.trial.create_trial(
                        value=trial.value, params=trial.params, distributions=distributions
                    )
                    study.add_trial(copy)
        return study

    @cached_property
    @guest
    def importance(self) -> dict[str, float]:
        """Each field's share in the variance of the results (fANOVA, Hutter et al. 2014).

        Empty for too few trials.
        """
        import optuna

        figures = [trial.value for trial in self.in_memory.trials]
        if len(figures) < _LEAST_FOR_IMPORTANCE or len(set(figures)) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(self.in_memory, evaluator=evaluator)
        return {str(path): float(share) for path, share in shares.items()}

    def at_an_end(self) -> list[str]:
        """Return fields whose best value lies at an end of their range, with which end."""
        found = []
        for path, searched in self.space.items():
            if not self.ranked or path not in self.ranked[0].values:
                continue
            if not isinstance(searched, Range):
                continue
            # On the range's own scale: the middle of 1e-6…1e-2 is 1e-4.
            place = searched.to_unit(self.ranked[0].values[path])
            if place < _NEAR_END:
                found.append(f"{short(path)} (lower end)")
            elif place > 1 - _NEAR_END:
                found.append(f"{short(path)} (upper end)")
        return found

    def sentences(self) -> list[str]:
        """Return the verdict in words."""
        if not self.ranked:
            return [self._without_figures()]
        best = self.ranked[0]
        sentences = []
        if note := self.study.info.get("metric_note"):
            sentences.append(note)
        sentences.append(f"Best of {self._all_trials()}: {_words(best.values)}.")
        sentences.append(self._test_sentence(best))
        if self.running_elsewhere:
            sentences.append(self._elsewhere())
        if ends := self.at_an_end():
            listed = ", ".join(ends)
            sentences.append(
                f"The best value lies at the end of its range: {listed}; widen it there."
            )
        return sentences

    def _without_figures(self) -> str:
        if self.diverged:
            return "Every trial diverged: narrow the ranges, or try clip.norm=1."
        if self.running_elsewhere:
            return self._elsewhere()
        return "No trial has ended yet."

    def _elsewhere(self) -> str:
        verb = "is" if self.running_elsewhere == 1 else "are"
        return f"{count(self.running_elsewhere, 'trial')} of other machines {verb} under way."

    def _all_trials(self) -> str:
        everyone = count(len(self.ranked) + self.diverged, "trial")
        stopped = sum(trial.stopped for trial in self.ranked)
        notes = []
        if stopped:
            notes.append(f"{stopped} stopped early")
        if self.diverged:
            notes.append(f"{self.diverged} diverged")
        if not notes:
            return everyone
        return f"{everyone} ({', '.join(notes)})"

    def _test_sentence(self, best: Trial) -> str:
        """Return what the test part says of the winner."""
        name = title_of(self.metric)
        figure = f"Its {name} is {best.figure:.4f}, flattered by being the best of many"
        if self.winner is None:
            if best.owner == self.trials.id or self.running_elsewhere:
                return f"{figure}; the test part has not been read yet."
            return (
                f"{figure}. Another machine has its weights: danlu resume there reads the test "
                "part for it."
            )
        test = f"test_{part_and_name(self.metric)[1]}"
        units = "tokens" if self.study.schema.each_token else "examples"
        reached = f"{title_of(test)} is {self.winner[test]:.4f}"
        reached = f"{reached} ({self.winner['test_n']} {units})"
        is_best = (self.winner["owner"], self.winner["member"]) == (best.owner, best.member)
        if is_best:
            return f"{figure}; on the test part, read once and for it alone, its {reached}."
        before = f"{_words(self.winner['values'])} ({name} {self.winner['figure']:.4f})"
        return (
            f"{figure}. It ended after the test part had been read, once, for the best until then, "
            f"{before}: its {reached}."
        )

    @guest
    def plot(self) -> Any:
        """Return parallel coordinates of the trials as a Plotly figure (shown by notebooks)."""
        import optuna

        figure = optuna.visualization.plot_parallel_coordinate(self.in_memory)
        return type(figure)(plain(figure.to_dict()))

    def to_json(self) -> dict[str, Any]:
        """Return everything that was found, as plain values."""
        ranked = []
        for trial in self.ranked:
            is_own = trial.owner == self.trials.id
            ranked.append(
                {
                    "member": trial.member if is_own else None,
                    "values": trial.values,
                    self.metric: trial.figure,
                }
            )
        return {
            "study": str(self.study.path),
            "metric": self.metric,
            "ranked": ranked,
            "winner": self.winner,
            "importance": self.importance,
            "sentences": self.sentences(),
        }


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{short(path)}={show(value)}" for path, value in values.items())
