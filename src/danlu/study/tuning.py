"""`Tuning`: what a search found, read from Optuna's storage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from danlu.errors import count
from danlu.recipe import Recipe
from danlu.runs import Study
from danlu.study.grid import short, show
from danlu.study.space import Range
from danlu.study.trials import Trial, Trials

NEAR = 0.05  # of a range's width: the best value is at its end


class Tuning:
    """A search: `ranked` trials, best first, of whatever machine; `winner`, with its test figures; `trials`, the storage."""

    def __init__(self, study: Study, trials: Trials) -> None:
        self.study, self.trials, self.space = study, trials, trials.space
        self.metric: str = study.info["metric"]
        self.ranked, self.winner, self.diverged = trials.ranked(), trials.winner, trials.diverged()
        self.elsewhere = len(trials.running(own=False))

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    @property
    def own(self) -> dict[int, Trial]:
        """The trials of this study, by member."""
        return {t.member: t for t in self.ranked if t.owner == self.trials.id}

    @property
    def best(self) -> Recipe | None:
        """The winner's recipe; before the test part was read, the best trial's."""
        values = (
            self.winner["values"] if self.winner else self.ranked[0].values if self.ranked else None
        )
        return None if values is None else Recipe(**self.study.info["base"]).with_(**values)

    def best_lines(self, most: int = 5) -> list[str]:
        """Best-1, Best-2, … in words."""
        said = (
            "  ".join(f"{short(p)}={show(v)}" for p, v in t.values.items())
            for t in self.ranked[:most]
        )
        name = self.metric.replace("_", " ")
        return [
            f"Best-{k} ({name} {t.figure:.4f})  {s}"
            for k, (t, s) in enumerate(zip(self.ranked, said, strict=False), 1)
        ]

    @cached_property
    def flat(self) -> Any:
        """The trials as an Optuna study in memory, over the space that was begun with (rounds narrow it)."""
        import optuna

        from danlu.study.strategies import distribution, quiet

        distributions = {p: distribution(s) for p, s in self.space.items()}
        with quiet():
            held = optuna.create_study(direction="maximize" if self.trials.higher else "minimize")
            for t in self.trials.marked():
                if t.state == optuna.trial.TrialState.COMPLETE:
                    held.add_trial(
                        optuna.trial.create_trial(
                            value=t.value, params=t.params, distributions=distributions
                        )
                    )
        return held

    @cached_property
    def importance(self) -> dict[str, float]:
        """Each field's share in the variance of the results (fANOVA, Hutter et al. 2014); empty for too few trials."""
        import optuna

        if len(self.flat.trials) < 4 or len({t.value for t in self.flat.trials}) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(self.flat, evaluator=evaluator)
        return {str(k): float(v) for k, v in found.items()}

    def at_the_end(self) -> list[str]:
        """Fields whose best value lies at an end of their range, with which end."""
        said = []
        for path, s in self.space.items():
            if not isinstance(s, Range) or not self.ranked:
                continue
            there = math.log if s.log else float
            at = (there(self.ranked[0].values[path]) - there(s.low)) / (
                there(s.high) - there(s.low)
            )
            if at < NEAR or at > 1 - NEAR:
                said.append(f"{short(path)} ({'lower' if at < NEAR else 'upper'} end)")
        return said

    def sentences(self) -> list[str]:
        """The verdict in words."""
        under_way = f"{count(self.elsewhere, 'trial')} of other machines {'is' if self.elsewhere == 1 else 'are'} under way."
        if not self.ranked:
            if self.diverged:
                return ["Every trial diverged: narrow the ranges, or try clip.norm=1."]
            return [under_way if self.elsewhere else "No trial has ended yet."]
        best, stopped = self.ranked[0], sum(t.stopped for t in self.ranked)
        beside = [
            f"{n} {what}"
            for n, what in ((stopped, "stopped early"), (self.diverged, "diverged"))
            if n
        ]
        every = count(len(self.ranked) + self.diverged, "trial") + (
            f" ({', '.join(beside)})" if beside else ""
        )
        said = [f"Best of {every}: {_words(best.values)}.", *self._tested(best)]
        if self.elsewhere:
            said.append(under_way)
        if ends := self.at_the_end():
            said.append(
                f"The best value lies at the end of its range: {', '.join(ends)}; widen it there."
            )
        return said

    def _tested(self, best: Trial) -> list[str]:
        """What the test part says of the winner."""
        name, test = self.metric.replace("_", " "), f"test_{self.metric.split('_', 1)[1]}"
        units = "tokens" if self.study.schema.each_token else "examples"
        figure = f"Its {name} is {best.figure:.4f}, flattered by being the best of many"
        if self.winner is None:
            if best.owner == self.trials.id or self.elsewhere:
                return [f"{figure}; the test part has not been read yet."]
            return [
                f"{figure}. Another machine has its weights: danlu resume there reads the test part for it."
            ]
        reached = (
            f"{test.replace('_', ' ')} is {self.winner[test]:.4f} ({self.winner['test_n']} {units})"
        )
        if (self.winner["owner"], self.winner["member"]) == (best.owner, best.member):
            return [f"{figure}; on the test part, read once and for it alone, its {reached}."]
        before = (
            f"{_words(self.winner['values'])} ({name} {self.winner['figure']:.4f}): its {reached}"
        )
        return [
            f"{figure}. It ended after the test part had been read, once, for the best until then, {before}."
        ]

    def plot(self) -> Any:
        """Parallel coordinates of the trials as a Plotly figure (shown by notebooks)."""
        import optuna

        return optuna.visualization.plot_parallel_coordinate(self.flat)

    def to_json(self) -> dict[str, Any]:
        """Everything that was found, as plain values."""
        own = self.trials.id
        ranked = [
            {
                "member": t.member if t.owner == own else None,
                "values": t.values,
                self.metric: t.figure,
            }
            for t in self.ranked
        ]
        return {"study": str(self.study.path), "metric": self.metric, "ranked": ranked, "winner": self.winner,
                "importance": self.importance, "sentences": self.sentences()}  # fmt: skip


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{short(p)}={show(v)}" for p, v in values.items())
