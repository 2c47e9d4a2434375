"""`compare`: variants of a recipe, each trained with the same seeds, and what may be said of their differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.data import Data
from danlu.errors import RecipeError, RunError, clock, count, unknown, wrong
from danlu.recipe import Recipe
from danlu.runs import Study, folder
from danlu.study import grid as grids
from danlu.study.grid import Grid, Variant
from danlu.study.statistics import INTERVALS, Estimate, estimate, holm, looks, p_value, spent, verdict
from danlu.train import CHECKPOINT_EVERY, StudyListener, estimate_seconds, extend, resume_study, train

ALPHA = 0.05
LISTED = 10_000  # variants of a grid
MANY = 1000  # trainings that are not begun without being asked for twice


def compare(
    data: Data,
    grid: Grid | Sequence[str],
    *,
    recipe: Recipe | None = None,
    seeds: int = 10,
    control: str | None = None,
    metric: str | None = None,
    interval: str = "t",
    until: int | None = None,
    yes: bool = False,
    out: str | Path | None = None,
    device: str = "auto",
    listener: StudyListener | None = None,
    ray: str | None = None,
) -> Comparison:
    """Train every combination of the grid's values with the same seeds and compare each with the control.

    grid: values by field, such as {"optimizer": ["sgd", "adam"]}, or texts such as "optimizer=sgd,adam".
    control: the variant the others are held against (default: the first). metric: a final figure, such as
    valid_accuracy (the default where there is a validation part; the test part is read only for a metric of it).
    interval: "t" (Student) or "bca" (bootstrap). until: go on adding seeds, up to that many, until every question is
    settled; the chance of a false claim stays below 5 % all the same. yes: begin even more than 1,000 trainings.
    ray: address of a Ray cluster to train on.

    Raises RecipeError for what cannot be compared, before anything is trained, and what `train` raises.
    """
    values = grid if isinstance(grid, Mapping) else grids.parse(grid)
    _not_too_many(values)
    variants = grids.expand(values, recipe or Recipe())
    metric = metric or ("valid" if data.size("valid") else "test") + ("_accuracy" if data.schema.classes else "_r2")
    most = until or seeds
    mistakes = _mistakes(data, variants, seeds, metric, interval, until)
    if mistakes:
        raise RecipeError(*mistakes)
    chosen = grids.find(control, variants) if control is not None else 0
    first = looks(most)[0] if until else seeds
    recipes = _replicates(variants, 0, first)
    if len(variants) * most > MANY and not yes:
        where = "on this machine alone" if ray else "in all"
        time = clock(estimate_seconds(recipes, data, "cpu" if ray else device) / len(recipes) * len(variants) * most)
        raise RecipeError(
            f"the grid has {len(variants)} variants, with {most} seeds {len(variants) * most:,} trainings, about {time} {where}; "
            "use --yes (yes=True) if that is meant"
        )
    parts = ("train", "valid", "test") if metric.startswith("test") else ("train", "valid")
    facts: dict[str, Any] = {
        "kind": "compare",
        "variants": [[list(pair) for pair in v.values] for v in variants],
        "control": chosen,
        "metric": metric,
        "interval": interval,
        "seeds": seeds,
        "until": until,
    }
    study = train(recipes, data, out=out, device=device, parts=parts, listener=listener, facts=facts, ray=ray)
    return continue_comparison(study, data, listener=listener, ray=ray)


def continue_comparison(
    study: Study,
    data: Data | None = None,
    *,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    ray: str | None = None,
) -> Comparison:
    """Go on with a comparison: train what is missing, and with `until` add seeds while a question is open."""
    how: Any = {"listener": listener, "checkpoint_every": checkpoint_every, "ray": ray}
    with folder.locked(study.path):
        if study.status != "finished":
            study = resume_study(study, data, **how)
        until = study.info["until"]
        while until:
            found = Comparison(study)
            if found.settled or found.seeds >= until:
                break
            more = next(n for n in looks(until) if n > found.seeds)
            bases = [study.recipes[i] for i in range(len(found.names))]
            recipes = [r.with_(seed=bases[0].seed + s) for s in range(found.seeds, more) for r in bases]
            data = study.load_data() if data is None else data
            study = extend(study, recipes, data, **how)
        return Comparison(study)


def _not_too_many(grid: Grid) -> None:
    """Refuse what could not even be listed."""
    variants = math.prod(len(v) if isinstance(v, (list, tuple)) else 1 for v in grid.values())
    if variants > LISTED:
        raise RecipeError(
            f"the grid has {variants:,} variants, but must have at most {LISTED:,}; danlu tune searches larger spaces"
        )


def _replicates(variants: Sequence[Variant], start: int, end: int) -> list[Recipe]:
    """Seed by seed, every variant."""
    return [v.recipe.with_(seed=v.recipe.seed + s) for s in range(start, end) for v in variants]


def _mistakes(data: Data, variants: list[Variant], seeds: int, metric: str, interval: str, until: int | None) -> list[str]:
    mistakes = []
    if seeds < 2:
        mistakes.append(wrong("seeds", seeds, "must be at least 2: one training shows no spread", "try 10"))
    if until is not None and until < 2:
        mistakes.append(wrong("until", until, "must be at least 2", "try 40"))
    if len(variants) < 2:
        mistakes.append("the grid has one variant, but a comparison needs two; write, for example, optimizer=sgd,adam")
    if interval not in INTERVALS:
        mistakes.append(unknown("interval", interval, INTERVALS))
    figures = ("accuracy" if data.schema.classes else "r2", "loss")
    known = [f"{part}_{f}" for part in ("valid", "test", "train") if data.size(part) for f in figures] + ["epochs"]
    if metric not in known:
        mistakes.append(unknown("metric", metric, known))
    return mistakes


@dataclass(frozen=True)
class Row:
    """A variant in figures: mean over its seeds, and paired difference to the control."""

    name: str
    mean: Estimate
    difference: Estimate
    p: float  # of the paired t-test
    corrected: float  # by Holm
    verdict: str  # "control", "better", "worse", "no difference shown"
    diverged: int


class Comparison:
    """What a study of `compare` shows; made from its folder alone."""

    def __init__(self, study: Study) -> None:
        if study.info["kind"] != "compare":
            raise RunError(f"{str(study.path)!r} is a study of {study.info['kind']}, not a comparison")
        self.study, info = study, study.info
        self.metric, self.interval, self.control, self.until = info["metric"], info["interval"], info["control"], info["until"]
        self.higher_is_better = str(self.metric).split("_")[-1] in ("accuracy", "r2")
        self.values = [tuple((p, v) for p, v in values) for values in info["variants"]]
        self.names = [Variant(v, study.recipes[0]).name for v in self.values]
        self.seeds = len(study) // len(self.names)
        results, v = study.results, len(self.names)
        self.figures = [[results[s * v + k].get(self.metric, math.nan) for s in range(self.seeds)] for k in range(v)]
        self.alpha = spent(ALPHA, self.until) if self.until else ALPHA
        missing = len(study) - len(study.members)
        if missing:
            raise RunError(f"{str(study.path)!r} has {count(missing, 'training')} to go; go on with: danlu resume {study.path}")
        self.rows = rows(self.names, self.figures, self.control, self.alpha, self.higher_is_better, self.interval)

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    @property
    def settled(self) -> bool:
        """Whether every variant is shown to be better or worse than the control."""
        return all(r.verdict != "no difference shown" or (r.diverged and r.difference.n < 2) for r in self.rows)

    def sentences(self) -> list[str]:
        """The verdict in words."""
        said = []
        control = self.rows[self.control]
        for word in ("better", "worse"):
            found = [r for r in self.rows if r.verdict == word]
            found.sort(key=lambda r: -abs(r.difference.mean))
            for r in found:
                gap, turned = abs(r.difference.mean), r.difference.mean < 0
                by = f"{self.show_gap(gap)} ({self.show_range(r.difference, turned)})"
                said.append(f"{r.name} is {word} than {control.name} by {by}.")
        open_ = [r.name for r in self.rows if r.verdict == "no difference shown" and not r.diverged]
        if open_:
            said.append(f"No difference to {control.name} is shown for {', '.join(open_)}; that does not mean there is none.")
        broken = [f"{r.name} ({r.diverged} of {self.seeds})" for r in self.rows if r.diverged]
        if broken:
            said.append(f"Diverged: {', '.join(broken)}; means are over the rest.")
        return said

    def method(self) -> str:
        """How the figures were made."""
        kind = "Student's t" if self.interval == "t" else "BCa bootstrap"
        looked = f", {count(len(looks(self.until)), 'look')} at the figures paid for" if self.until else ""
        return (
            f"{self.metric.replace('_', ' ')} over {self.seeds} seeds, the same for every variant; 95 % intervals by {kind}; "
            f"p of the paired t-test, corrected by Holm, claims at {self.alpha:.2g}{looked}"
        )

    @property
    def percent(self) -> bool:
        """Whether figures are shown in per cent."""
        return str(self.metric).endswith("accuracy")

    def show(self, x: float) -> str:
        """A figure in the unit of the metric."""
        if not math.isfinite(x):
            return "–"
        return f"{100 * x:.2f} %" if self.percent else f"{x:.4g}"

    def show_gap(self, x: float) -> str:
        """A difference: accuracies differ in points."""
        return f"{100 * x:.2f} points" if self.percent and math.isfinite(x) else self.show(x)

    def show_range(self, e: Estimate, turned: bool = False) -> str:
        """An interval in the unit of the metric."""
        low, high = (-e.high, -e.low) if turned else (e.low, e.high)
        if not math.isfinite(low):
            return "–"
        return " to ".join(self.show(x).removesuffix(" %") for x in (low, high))

    def plot(self) -> Any:
        """The curves with their bands as a Plotly figure (shown by notebooks)."""
        import plotly.graph_objects as go

        from danlu.study.figures import bands

        return go.Figure(bands(self))

    def to_json(self) -> dict[str, Any]:
        """Everything that was found, as plain values."""

        def plain(e: Estimate) -> dict[str, Any]:
            return {k: v if math.isfinite(v) else None for k, v in vars(e).items()}

        found = [{**vars(r), "mean": plain(r.mean), "difference": plain(r.difference)} for r in self.rows]
        return {"study": str(self.study.path), "metric": self.metric, "seeds": self.seeds, "control": self.names[self.control],
                "interval": self.interval, "alpha": self.alpha, "variants": found, "sentences": self.sentences()}  # fmt: skip


def rows(
    names: Sequence[str], figures: Sequence[Sequence[float]], control: int, alpha: float, higher_is_better: bool, interval: str
) -> list[Row]:
    """The table from final figures [variant][seed]; NaN where a training diverged."""
    base = figures[control]
    pairs = [[x - y for x, y in zip(f, base, strict=True) if math.isfinite(x) and math.isfinite(y)] for f in figures]
    others = [k for k in range(len(names)) if k != control]
    p = [p_value(pairs[k]) for k in range(len(names))]
    corrected = dict(zip(others, holm([p[k] for k in others]), strict=True))
    out = []
    for k, name in enumerate(names):
        finite = [x for x in figures[k] if math.isfinite(x)]
        gap = estimate(pairs[k], kind=interval)
        word = "control" if k == control else verdict(corrected[k], gap.mean, alpha, higher_is_better)
        out.append(
            Row(name, estimate(finite, kind=interval), gap, p[k], corrected.get(k, 1.0), word, len(figures[k]) - len(finite))
        )
    return out
