"""`Tuning`: what a search found, read from its study and Optuna's storage."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

from danlu.errors import count
from danlu.runs import Study
from danlu.study.grid import look, short, show
from danlu.study.space import Range, from_json

NEAR = 0.05  # of a range's width: the best value is at its end


class Tuning:
    """A search: `ranked` members, best first; `winner` with its test figures; `trials`, the Optuna study."""

    def __init__(self, study: Study, trials: Any) -> None:
        self.study, self.trials, info = study, trials, study.info
        self.metric: str = info["metric"]
        self.higher_is_better = self.metric != "valid_loss"
        self.space = {p: from_json(s) for p, s in info["space"].items()}
        self.winner: dict[str, Any] | None = info.get("winner")
        self.members = study.members
        found = {i: m["result"][self.metric] for i, m in self.members.items() if self.metric in m.get("result", {})}
        found = {i: v for i, v in found.items() if math.isfinite(v)}
        whole = {i for i in found if self.members[i]["status"] == "finished"}
        sign = -1 if self.higher_is_better else 1
        self.ranked = sorted(found, key=lambda i: (i not in whole, sign * found[i], i))
        self.figures = found

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    def values(self, member: int) -> dict[str, Any]:
        """The searched fields of a member."""
        return {p: look(self.study.recipes[member], p) for p in self.space}

    def best_lines(self, most: int = 5) -> list[str]:
        """Best-1, Best-2, … in words."""
        lines = []
        for rank, i in enumerate(self.ranked[:most], 1):
            said = "  ".join(f"{short(p)}={show(v)}" for p, v in self.values(i).items())
            lines.append(f"Best-{rank} ({self.metric.replace('_', ' ')} {self.figures[i]:.4f})  {said}")
        return lines

    @cached_property
    def flat(self) -> Any:
        """The trials as an Optuna study in memory, over the space that was begun with (rounds narrow it)."""
        import optuna

        from danlu.study.strategies import distribution

        held = optuna.create_study(direction="maximize" if self.higher_is_better else "minimize")
        distributions = {p: distribution(s) for p, s in self.space.items()}
        for t in self.trials.get_trials(deepcopy=False):
            if t.state == optuna.trial.TrialState.COMPLETE and t.params.keys() == distributions.keys():
                held.add_trial(optuna.trial.create_trial(value=t.value, params=t.params, distributions=distributions))
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
            at = (there(self.values(self.ranked[0])[path]) - there(s.low)) / (there(s.high) - there(s.low))
            if at < NEAR or at > 1 - NEAR:
                said.append(f"{short(path)} ({'lower' if at < NEAR else 'upper'} end)")
        return said

    def sentences(self) -> list[str]:
        """The verdict in words."""
        if not self.ranked:
            if not self.members:
                return ["This study trained nothing: all trials of the storage were taken by others."]
            return ["Every trial diverged: narrow the ranges, or try clip.norm=1."]
        best, metric = self.ranked[0], self.metric.replace("_", " ")
        stopped = sum(m["status"] == "stopped" for m in self.members.values())
        broke = sum(m["status"] == "diverged" for m in self.members.values())
        beside = [f"{n} {what}" for n, what in ((stopped, "stopped early"), (broke, "diverged")) if n]
        values = ", ".join(f"{short(p)}={show(v)}" for p, v in self.values(best).items())
        said = [f"Best of {count(len(self.members), 'trial')}{' (' + ', '.join(beside) + ')' if beside else ''}: {values}."]
        if self.winner:
            test = f"test_{self.study.metric}"
            said.append(
                f"Its {metric} is {self.figures[best]:.4f}, the best of many and so flattering; on the test part, read once and "
                f"for it alone, its {test.replace('_', ' ')} is {self.winner[test]:.4f} ({self.winner['test_n']} examples)."
            )
        if ends := self.at_the_end():
            said.append(f"The best value lies at the end of its range: {', '.join(ends)}; widen it there.")
        return said

    def plot(self) -> Any:
        """Parallel coordinates of the trials as a Plotly figure (shown by notebooks)."""
        import optuna

        return optuna.visualization.plot_parallel_coordinate(self.flat)

    def to_json(self) -> dict[str, Any]:
        """Everything that was found, as plain values."""
        ranked = [{"member": i, "values": self.values(i), self.metric: self.figures[i]} for i in self.ranked]
        return {"study": str(self.study.path), "metric": self.metric, "ranked": ranked, "winner": self.winner,
                "importance": self.importance, "sentences": self.sentences()}  # fmt: skip
