"""`Comparison`: what may be said of the differences between variants.

Legend: V variants, n seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from danlu.errors import RunError, count
from danlu.figures import comparison as figures_of_comparison
from danlu.figures.style import plain
from danlu.files import with_nulls
from danlu.guest import guest
from danlu.metrics import higher_is_better, title_of
from danlu.recipe.sample import examples_seen
from danlu.runs import Study
from danlu.runs.members import figure_of
from danlu.statistics import Estimate, estimate, holm, level_of_a_look, looks, p_value, verdict
from danlu.study.facts import comparison_facts
from danlu.study.figure_format import FigureFormat
from danlu.study.grid import name_of
from danlu.study.learning_curve import LEAST_SIZES, LearningCurve, learning_curve

ALPHA = 0.05
CONTROL, BETTER, WORSE, OPEN = "control", "better", "worse", "no difference shown"
DIVERGED, CONTROL_DIVERGED = "diverged", "control diverged"


@dataclass(frozen=True)
class VariantResult:
    """A variant in figures: mean over its seeds, and paired difference to the control.

    p: of the paired t-test; corrected: by Holm. verdict: "control", "better", "worse", "no
    difference shown", "diverged", "control diverged". diverged: how many of its trainings did.
    """

    name: str
    mean: Estimate
    difference: Estimate
    p: float
    corrected: float
    verdict: str
    diverged: int


class Comparison:
    """What a study of `compare` shows, from its folder alone.

    Raises RunError for another study, or one with trainings to go.
    """

    def __init__(self, study: Study) -> None:
        self.study, info = study, study.info
        if info["kind"] != "compare":
            what = ", but a search" if info["kind"] == "tune" else ""
            raise RunError(
                f"{str(study.path)!r} is not a comparison{what}; danlu runs lists what there is"
            )
        comparison_facts(study)
        self.metric, self.interval = info["metric"], info["interval"]
        self.control, self.until = info["control"], info["until"]
        self.higher_is_better = higher_is_better(self.metric)
        self.format = FigureFormat(self.metric)
        self.values = [tuple((path, value) for path, value in v) for v in info["variants"]]
        names = info.get("names") or {}
        self.names = [name_of(values, names) for values in self.values]
        self.seeds = len(study) // len(self.names)
        # Who looks more than once must ask for more each time.
        self.alpha = level_of_a_look(ALPHA, self.until) if self.until else ALPHA
        # Figures of a part of the seeds would be those that ended first.
        missing = len(study) - len(study.members)
        if missing:
            raise RunError(
                f"{str(study.path)!r} has {count(missing, 'training')} to go; {study.way_on}"
            )
        self.figures = self._figures_by_variant()
        self.rows = variant_results(
            self.names,
            self.figures,
            self.control,
            self.alpha,
            self.higher_is_better,
            self.interval,
        )

    def _figures_by_variant(self) -> list[list[float]]:
        """Return the metric [V][n]; members are laid seed by seed, every variant."""
        figures = [figure_of(result, self.metric) for result in self.study.results]
        n_variants = len(self.names)
        by_variant = []
        for k in range(n_variants):
            by_variant.append(figures[k::n_variants])
        return by_variant

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    @property
    def settled(self) -> bool:
        """Whether more seeds could show no more of any variant."""
        return all(row.verdict != OPEN for row in self.rows)

    def sentences(self) -> list[str]:
        """Return the verdict in words."""
        control = self.rows[self.control]
        sentences = []
        if note := self.study.info.get("metric_note"):
            sentences.append(note)
        for word in (BETTER, WORSE):
            rows = [row for row in self.rows if row.verdict == word]
            # The largest effect first.
            rows.sort(key=lambda row: -abs(row.difference.mean))
            for row in rows:
                sentences.append(self._claim(row, word, control))
        open_names = [row.name for row in self.rows if row.verdict == OPEN]
        if open_names:
            sentences.append(
                f"No difference to {control.name} is shown for {', '.join(open_names)}; "
                "that does not mean there is none."
            )
        diverged = [row for row in self.rows if row.diverged]
        if diverged:
            counts = [f"{row.name} ({row.diverged} of {self.seeds})" for row in diverged]
            sentences.append(
                f"Diverged: {', '.join(counts)}; means are over the rest, "
                "of which nothing is claimed."
            )
        if control.diverged:
            sentences.append(
                "The control is among them, so nothing can be compared with it; "
                "choose another with --control."
            )
        return [*sentences, *self._worth_of_data()]

    def _claim(self, row: VariantResult, word: str, control: VariantResult) -> str:
        gap = self.format.gap(abs(row.difference.mean))
        between = ""
        if math.isfinite(row.difference.low):
            is_negative = row.difference.mean < 0
            between = f" ({self.format.range(row.difference, negated=is_negative)})"
        return f"{row.name} is {word} than {control.name} by {gap}{between}."

    @cached_property
    def learning_curve(self) -> LearningCurve | None:
        """The error by the number of examples, where shares of these are all that was varied."""
        shares = [dict(values).get("sample.share") for values in self.values]
        is_of_shares = all(len(values) == 1 for values in self.values) and None not in shares
        is_whole = all(math.isfinite(x) for of_variant in self.figures for x in of_variant)
        n = self.study.data_info["sizes"]["train"]
        first = self.study.recipes[: len(self.names)]
        sizes = [examples_seen(recipe.sample, n) for recipe in first]
        if not is_of_shares or not is_whole or len(set(sizes)) < LEAST_SIZES:
            return None
        errors = [[1 - x if self.higher_is_better else x for x in row] for row in self.figures]
        order = sorted(range(len(sizes)), key=sizes.__getitem__)
        return learning_curve([sizes[k] for k in order], [errors[k] for k in order])

    def _worth_of_data(self) -> list[str]:
        """Return what twice as many examples would bring; nothing where that was not asked."""
        curve = self.learning_curve
        if curve is None:
            return []
        title = title_of(self.metric)
        between = ""
        if math.isfinite(curve.low):
            ends = Estimate(curve.gain, curve.low, curve.high, math.nan, self.seeds)
            between = f" ({self.format.range(ends)})"
        direction = "raise" if self.higher_is_better else "lower"
        return [
            f"By a power law through these sizes twice as many examples as {curve.sizes[-1]:,} "
            f"would {direction} {title} by {self.format.gap(curve.gain)}{between}."
        ]

    def method(self) -> str:
        """Return how the figures were made."""
        kind = "Student's t" if self.interval == "t" else "BCa bootstrap"
        shared = ""
        if self.until:
            n_looks = len(looks(self.until))
            if n_looks > 1:
                shared = f", of {ALPHA:.0%} shared by {n_looks} looks at the figures"
        comparisons = count(len(self.rows) - 1, "comparison")
        return (
            f"{title_of(self.metric)} over {self.seeds} seeds, the same for every variant; "
            f"intervals by {kind}, each by itself; p of the paired t-test, corrected by Holm for "
            f"{comparisons}; a claim needs p < {self.alpha:.3g}{shared}"
        )

    @property
    def level(self) -> str:
        """Level of the differences' intervals: 95 %, more where one looks repeatedly."""
        return f"{100 * (1 - self.alpha):.3g} %"

    @guest
    def curves_figure(self) -> dict[str, Any]:
        """Return training loss and the metric by epoch, as a Plotly dictionary."""
        curves = self.study.curves()
        plain = self.study.metric
        # A metric of the test part has no curve.
        candidates = (self.metric, f"valid_{plain}", f"train_{plain}")
        column = next(name for name in candidates if name in curves)
        variant_of = curves["member"] % len(self.names)  # laid seed by seed, every variant
        return figures_of_comparison.bands(self.names, curves, variant_of, column)

    def differences_figure(self) -> dict[str, Any]:
        """Return the paired differences to the control, as a Plotly dictionary."""
        control = self.figures[self.control]
        others = [k for k in range(len(self.names)) if k != self.control]
        gaps = []
        for k in others:
            gaps.append([x - y for x, y in zip(self.figures[k], control, strict=True)])
        title = f"difference to {self.names[self.control]} in {title_of(self.metric)}"
        return figures_of_comparison.differences(
            [self.names[k] for k in others],
            gaps,
            [self.rows[k].difference for k in others],
            f"{title} (points)" if self.format.percent else title,
            self.format.percent,
        )

    def learning_figure(self, curve: LearningCurve) -> dict[str, Any]:
        """Return the error by the number of examples, as a Plotly dictionary."""
        title = f"1 − {title_of(self.metric)}" if self.higher_is_better else title_of(self.metric)
        sizes = np.geomspace(curve.sizes[0], 2 * curve.sizes[-1], 60)
        return figures_of_comparison.learning(
            curve.sizes, curve.errors, sizes.tolist(), curve.law(sizes).tolist(), title
        )

    @guest
    def plot(self) -> Any:
        """Return the curves with their bands as a Plotly figure (shown by notebooks)."""
        import plotly.graph_objects as go

        return go.Figure(plain(self.curves_figure()))

    def to_json(self) -> dict[str, Any]:
        """Return everything that was found, as plain values."""
        variants = []
        for row in self.rows:
            plain = dict(vars(row))
            plain["mean"] = with_nulls(vars(row.mean))
            plain["difference"] = with_nulls(vars(row.difference))
            variants.append(plain)
        return {
            "study": str(self.study.path),
            "metric": self.metric,
            "seeds": self.seeds,
            "control": self.names[self.control],
            "interval": self.interval,
            "level": 1 - self.alpha,
            "variants": variants,
            "learning_curve": None if self.learning_curve is None else asdict(self.learning_curve),
            "sentences": self.sentences(),
        }


def variant_results(
    names: Sequence[str],
    figures: Sequence[Sequence[float]],
    control: int,
    alpha: float,
    higher_is_better: bool,
    interval: str,
) -> list[VariantResult]:
    """Return the table from final figures [V][n]; NaN where a training diverged."""
    diverged = []
    differences = []
    p = []
    for of_variant in figures:
        diverged.append(sum(not math.isfinite(x) for x in of_variant))
        differences.append(_paired_differences(of_variant, figures[control]))
    for k in range(len(names)):
        # Where trainings diverged the rest are a selection, by which nothing can be claimed.
        is_whole = not diverged[k] and not diverged[control]
        p.append(p_value(differences[k]) if is_whole else 1.0)
    corrected = _corrected(p, control)

    results = []
    for k, name in enumerate(names):
        finite = [x for x in figures[k] if math.isfinite(x)]
        difference = estimate(differences[k], 1 - alpha, interval)
        if k == control:
            word = CONTROL
        elif diverged[k]:
            word = DIVERGED
        elif diverged[control]:
            word = CONTROL_DIVERGED
        else:
            word = verdict(corrected[k], difference.mean, alpha, higher_is_better)
        results.append(
            VariantResult(
                name,
                estimate(finite, kind=interval),
                difference,
                p[k],
                corrected[k],
                word,
                diverged[k],
            )
        )
    return results


def _corrected(p: Sequence[float], control: int) -> list[float]:
    """Return p corrected by Holm for as many questions as there are; the control asks none."""
    others = [k for k in range(len(p)) if k != control]
    corrected = [1.0] * len(p)
    for k, value in zip(others, holm([p[k] for k in others]), strict=True):
        corrected[k] = value
    return corrected


def _paired_differences(figures: Sequence[float], control: Sequence[float]) -> list[float]:
    """Return the differences to the control by seed, where both ended with a figure."""
    differences = []
    for x, base in zip(figures, control, strict=True):
        if math.isfinite(x) and math.isfinite(base):
            differences.append(x - base)
    return differences
