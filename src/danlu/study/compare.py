"""`compare`: variants of a recipe, each trained with the same seeds, and what may be said of their differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.data import Data
from danlu.errors import DanluError, RecipeError, RunError, count, some, unknown, wrong
from danlu.recipe import Recipe
from danlu.runs import Study, folder, higher_is_better
from danlu.statistics import INTERVALS, Estimate, estimate, holm, looks, p_value, spent, verdict
from danlu.study import grid as grids
from danlu.study.cost import MANY, refuse_many
from danlu.study.grid import Grid, Variant
from danlu.train import CHECKPOINT_EVERY, StudyListener, extend, mistakes_in, resume_study, train
from danlu.train.dispatch import provenance

ALPHA = 0.05
SEEDS = 10
LISTED = 10_000  # variants of a grid


def compare(
    data: Data,
    grid: Grid | Sequence[str],
    *,
    recipe: Recipe | None = None,
    seeds: int | None = None,
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

    grid: values by field, such as {"optimizer": ["sgd", "adam"]}, or texts such as "optimizer=sgd,adam". seeds: trainings
    of every variant (10). control: the variant the others are held against (default: the first). metric: a final figure,
    such as valid_accuracy (the default where there is a validation part, of entities valid_f1, of language models
    valid_loss; the test part is read only for a metric of it).
    interval: "t" (Student) or "bca" (bootstrap). until: instead of seeds, go on adding them, up to that many, until every
    question is settled; the chance of a false claim stays below 5 % all the same. yes: begin even more than 1,000
    trainings. ray: address of a Ray cluster to train on.

    Raises RecipeError for what cannot be compared, before anything is trained, and what `train` raises.
    """
    metric = metric or f"{'valid' if data.size('valid') else 'test'}_{data.schema.figures[0]}"
    variants, chosen = _settle(
        data, grid, recipe or Recipe(), control, _mistakes(data, seeds, metric, interval, until)
    )
    most = until or seeds or SEEDS
    trainings = len(variants) * most
    if trainings > MANY and not yes:
        samples = _replicates(
            [v.recipe for v in variants[:: -(-len(variants) // 5)]], 0, min(most, 10)
        )
        what = f"the grid has {len(variants):,} variants, with {most:,} seeds"
        refuse_many(what, samples, trainings, data, "cpu" if ray else device)
    parts = ("train", "valid", "test") if metric.startswith("test") else ("train", "valid")
    facts: dict[str, Any] = {
        "kind": "compare",
        "over": False,
        "variants": [[list(pair) for pair in v.values] for v in variants],
        "control": chosen,
        "metric": metric,
        "interval": interval,
        "until": until,
    }
    recipes = _replicates([v.recipe for v in variants], 0, looks(most)[0] if until else most)
    study = train(
        recipes, data, out=out, device=device, parts=parts, listener=listener, facts=facts, ray=ray
    )
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
        if not study.trained:
            study = resume_study(study, data, **how)
        while until := study.info["until"]:
            found = Comparison(study)
            if found.settled or found.seeds >= until:
                break
            more = next(n for n in looks(until) if n > found.seeds)
            data = study.load_data() if data is None else data
            study = extend(
                study,
                _replicates(study.recipes[: len(found.names)], found.seeds, more),
                data,
                **how,
            )
        provenance.say(study.path / "study.json", over=True)
        return Comparison(study)


def _settle(
    data: Data, grid: Grid | Sequence[str], recipe: Recipe, control: str | None, mistakes: list[str]
) -> tuple[list[Variant], int]:
    """(variants, number of the control). Raises RecipeError, with those `mistakes` that are known already."""
    variants: list[Variant] = []
    chosen = 0
    try:
        values = grid if isinstance(grid, Mapping) else grids.parse(grid)
        _not_too_many(values)
        variants = grids.expand(values, recipe)
        if len(variants) < 2:
            mistakes.append(
                "the grid has one variant, but a comparison needs two; write, for example, optimizer=sgd,adam"
            )
        chosen = grids.find(control, variants) if control is not None else 0
    except DanluError as e:
        mistakes += e.mistakes
    if not mistakes:
        for mistake, of in mistakes_in([v.recipe for v in variants], data).items():
            names = some([variants[i].name for i in of])
            mistakes.append(mistake if len(of) == len(variants) else f"{mistake} (variant {names})")
    if mistakes:
        raise RecipeError(*mistakes)
    return variants, chosen


def _not_too_many(grid: Grid) -> None:
    """Refuse what could not even be listed."""
    variants = math.prod(len(v) if isinstance(v, (list, tuple)) else 1 for v in grid.values())
    if variants > LISTED:
        raise RecipeError(
            f"the grid has {variants:,} variants, but must have at most {LISTED:,}; danlu tune searches larger spaces"
        )


def _replicates(recipes: Sequence[Recipe], start: int, end: int) -> list[Recipe]:
    """Seed by seed, every variant."""
    return [r.with_(seed=r.seed + s) for s in range(start, end) for r in recipes]


def _mistakes(
    data: Data, seeds: int | None, metric: str, interval: str, until: int | None
) -> list[str]:
    mistakes = []
    if seeds is not None and seeds < 2:
        mistakes.append(
            wrong("seeds", seeds, "must be at least 2: one training shows no spread", "try 10")
        )
    if until is not None and until < 2:
        mistakes.append(wrong("until", until, "must be at least 2", "try 40"))
    if seeds is not None and until is not None:
        mistakes.append(
            wrong("until", until, f"must stand alone, and `seeds` is {seeds}", "leave one out")
        )
    if interval not in INTERVALS:
        mistakes.append(unknown("interval", interval, INTERVALS))
    known = [
        f"{part}_{f}"
        for part in ("valid", "test", "train")
        if data.size(part)
        for f in data.schema.figures
    ] + ["epochs"]
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
    verdict: (
        str  # "control", "better", "worse", "no difference shown", "diverged", "control diverged"
    )
    diverged: int


class Comparison:
    """What a study of `compare` shows; made from its folder alone."""

    def __init__(self, study: Study) -> None:
        if study.info["kind"] != "compare":
            what = ", but a search" if study.info["kind"] == "tune" else ""
            raise RunError(
                f"{str(study.path)!r} is no comparison{what}; danlu runs lists what there is"
            )
        self.study, info = study, study.info
        self.metric, self.interval, self.control, self.until = (
            info["metric"],
            info["interval"],
            info["control"],
            info["until"],
        )
        self.higher_is_better = higher_is_better(self.metric)
        self.values = [tuple((p, v) for p, v in values) for values in info["variants"]]
        self.names = [Variant(v, study.recipes[0]).name for v in self.values]
        self.seeds = len(study) // len(self.names)
        results, v = study.results, len(self.names)
        self.figures = [
            [results[s * v + k].get(self.metric, math.nan) for s in range(self.seeds)]
            for k in range(v)
        ]
        self.alpha = spent(ALPHA, self.until) if self.until else ALPHA
        missing = len(study) - len(study.members)
        if missing:
            raise RunError(
                f"{str(study.path)!r} has {count(missing, 'training')} to go; go on with: danlu resume {study.path}"
            )
        self.rows = rows(
            self.names, self.figures, self.control, self.alpha, self.higher_is_better, self.interval
        )

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    @property
    def settled(self) -> bool:
        """Whether of no variant more seeds could show more."""
        return all(r.verdict != "no difference shown" for r in self.rows)

    def sentences(self) -> list[str]:
        """The verdict in words."""
        said = []
        control = self.rows[self.control]
        for word in ("better", "worse"):
            found = [r for r in self.rows if r.verdict == word]
            found.sort(key=lambda r: -abs(r.difference.mean))
            for r in found:
                gap, turned = abs(r.difference.mean), r.difference.mean < 0
                between = (
                    f" ({self.show_range(r.difference, turned)})"
                    if math.isfinite(r.difference.low)
                    else ""
                )
                said.append(
                    f"{r.name} is {word} than {control.name} by {self.show_gap(gap)}{between}."
                )
        open_ = [r.name for r in self.rows if r.verdict == "no difference shown"]
        if open_:
            said.append(
                f"No difference to {control.name} is shown for {', '.join(open_)}; that does not mean there is none."
            )
        broken = [f"{r.name} ({r.diverged} of {self.seeds})" for r in self.rows if r.diverged]
        if broken:
            said.append(
                f"Diverged: {', '.join(broken)}; means are over the rest, of which nothing is claimed."
            )
        if control.diverged:
            said.append(
                "The control is among them, so nothing can be held against it; choose another with --control."
            )
        return said

    def method(self) -> str:
        """How the figures were made."""
        kind = "Student's t" if self.interval == "t" else "BCa bootstrap"
        n = len(looks(self.until)) if self.until else 1
        shared = f", of {ALPHA:.0%} shared by {n} looks at the figures" if n > 1 else ""
        return (
            f"{self.metric.replace('_', ' ')} over {self.seeds} seeds, the same for every variant; intervals by {kind}, each by "
            f"itself; p of the paired t-test, corrected by Holm for {count(len(self.rows) - 1, 'comparison')}; a claim needs "
            f"p < {self.alpha:.3g}{shared}"
        )

    @property
    def level(self) -> str:
        """That of the intervals of differences: 95 %, more where the figures are looked at several times."""
        return f"{100 * (1 - self.alpha):.3g} %"

    @property
    def percent(self) -> bool:
        """Whether figures are shown in per cent."""
        return str(self.metric).endswith(("accuracy", "_f1"))

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

        from danlu.figures.comparison import bands

        return go.Figure(bands(self))

    def to_json(self) -> dict[str, Any]:
        """Everything that was found, as plain values."""

        def plain(e: Estimate) -> dict[str, Any]:
            return {k: v if math.isfinite(v) else None for k, v in vars(e).items()}

        found = [
            {**vars(r), "mean": plain(r.mean), "difference": plain(r.difference)} for r in self.rows
        ]
        return {"study": str(self.study.path), "metric": self.metric, "seeds": self.seeds, "control": self.names[self.control],
                "interval": self.interval, "level": 1 - self.alpha, "variants": found, "sentences": self.sentences()}  # fmt: skip


def rows(
    names: Sequence[str],
    figures: Sequence[Sequence[float]],
    control: int,
    alpha: float,
    higher_is_better: bool,
    interval: str,
) -> list[Row]:
    """The table from final figures [variant][seed]; NaN where a training diverged."""
    base = figures[control]
    pairs = [
        [x - y for x, y in zip(f, base, strict=True) if math.isfinite(x) and math.isfinite(y)]
        for f in figures
    ]
    others = [k for k in range(len(names)) if k != control]
    finite = [[x for x in f if math.isfinite(x)] for f in figures]
    broken = [len(f) - len(kept) for f, kept in zip(figures, finite, strict=True)]
    # Where trainings diverged the rest are a selection, by which nothing can be claimed.
    p = [
        p_value(pairs[k]) if not (broken[k] or broken[control]) else 1.0 for k in range(len(names))
    ]
    corrected = dict(zip(others, holm([p[k] for k in others]), strict=True))
    out = []
    for k, name in enumerate(names):
        gap = estimate(pairs[k], 1 - alpha, interval)
        if k == control:
            word = "control"
        elif broken[k] or broken[control]:
            word = "diverged" if broken[k] else "control diverged"
        else:
            word = verdict(corrected[k], gap.mean, alpha, higher_is_better)
        out.append(
            Row(
                name,
                estimate(finite[k], kind=interval),
                gap,
                p[k],
                corrected.get(k, 1.0),
                word,
                broken[k],
            )
        )
    return out
