"""`BiasVariance`: what a decomposition shows, from its folder alone."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from danlu.errors import RunError, count
from danlu.figures import decomposition as figures
from danlu.figures.style import plain
from danlu.files import with_nan
from danlu.guest import guest
from danlu.runs import Study
from danlu.runs.facts import Facts
from danlu.statistics import Estimate
from danlu.study.decomposing.bias_variance import Decomposition
from danlu.study.facts import checked
from danlu.study.grid import name_of

KIND = "decompose"
_FEW = 10  # training sets
TITLES = {"squared": "squared loss", "0-1": "0–1 loss"}


class _Mean(Facts):
    mean: float | None
    low: float | None
    high: float | None


class _Loss(Facts):
    kind: Literal["squared", "0-1"]
    noise: float | None
    loss: _Mean
    bias: _Mean
    variance: _Mean
    net: _Mean


class _Variant(Facts):
    losses: Annotated[list[_Loss], Field(min_length=1)]
    diverged: Annotated[int, Field(ge=0)]


class _Decomposition(Facts):
    variants: Annotated[list[list[tuple[str, Any]]], Field(min_length=1)]
    replicates: Annotated[int, Field(ge=2)]
    vary: Literal["both", "data", "seed"]
    part: Literal["valid", "test"]
    parts_of_loss: list[_Variant] | None = None


def decomposition_facts(study: Study) -> dict[str, Any]:
    """Return the facts of a decomposition. Raises RunError for what is not one."""
    info = checked(study, _Decomposition)
    found = info.get("parts_of_loss")
    if found is not None and len(found) != len(info["variants"]):
        raise RunError(f"{study.path / study.index} is foreign: `parts_of_loss` lacks variants")
    return info


class BiasVariance:
    """Bias², variance and noise of every variant.

    names: of the variants; found: of each, its decompositions: by 0–1 and squared loss for classes,
    by squared loss for numbers. Raises RunError for another study, or one that is not over.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.path = study, study.path
        if study.info["kind"] != KIND:
            raise RunError(f"{str(study.path)!r} is not a decomposition; danlu runs lists all")
        info = decomposition_facts(study)
        if not info.get("over"):
            raise RunError(f"{str(study.path)!r} is not finished; {study.way_on}")
        self.replicates: int = info["replicates"]
        self.part: str = info["part"]
        self.vary: str = info["vary"]
        values = [tuple((path, value) for path, value in v) for v in info["variants"]]
        self.names = [name_of(v) for v in values]
        self.diverged = [variant["diverged"] for variant in info["parts_of_loss"]]
        self.found: list[list[Decomposition]] = []
        for variant in info["parts_of_loss"]:
            self.found.append([_from_json(plain) for plain in variant["losses"]])

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    @property
    def kinds(self) -> list[str]:
        """The losses that were decomposed."""
        return [found.kind for found in self.found[0]]

    def of(self, kind: str) -> list[Decomposition]:
        """Return the decomposition of each variant by a loss."""
        return [next(d for d in variant if d.kind == kind) for variant in self.found]

    def sentences(self) -> list[str]:
        """Return the verdict in words: what most of each variant's error is."""
        sentences = []
        kind = self.kinds[0]
        for name, found in zip(self.names, self.of(kind), strict=True):
            of = "" if name == "recipe" else f"{name}: "
            bias, variance = found.bias.mean, found.net.mean
            name_of_bias = "bias²" if kind == "squared" else "bias"
            more, less = name_of_bias, "variance"
            if variance > bias:
                more, less = less, more
            figures_of = {name_of_bias: bias, "variance": variance}
            sentences.append(
                f"{of}most of the {TITLES[kind]} of {found.loss.mean:.4g} is {more} "
                f"({figures_of[more]:.4g}; {less} {figures_of[less]:.4g}{_noise_of(found)})."
            )
        if all(found.noise is None for found in self.of(kind)):
            sentences.append("Too few inputs are equal for noise to be known; it counts as bias.")
        if len(self.names) > 1:
            best = min(range(len(self.names)), key=lambda k: self.of(kind)[k].loss.mean)
            sentences.append(f"The lowest expected loss is that of {self.names[best]}.")
        missing = sum(self.diverged)
        if missing:
            sentences.append(f"{count(missing, 'training')} diverged and took no part.")
        return sentences

    def method(self) -> str:
        """Return how the figures were made."""
        sets = {
            "both": "training sets{}, each with a seed of its own",
            "data": "training sets{}, all with one seed",
            "seed": "seeds, on the same training set",
        }[self.vary]
        is_bootstrap = self.study.recipes[0].sample.resample
        drawn = sets.format(" drawn by bootstrap" if is_bootstrap else " drawn anew")
        over = "its examples (Student's t) and over training sets (jackknife) together"
        if self.replicates < _FEW:
            over += f"; with fewer than {_FEW} of these they are rough"
        if self.replicates < 3:
            over = "its examples alone, as two training sets say nothing of others"
        return (
            f"over {self.replicates} {drawn}, on the {self.part} part; 95 % intervals over {over}"
        )

    def figure(self) -> dict[str, Any]:
        """Return bias², variance and noise of each variant as a Plotly dictionary."""
        kind = self.kinds[-1]
        return figures.bars(self.names, self.of(kind), TITLES[kind])

    @guest
    def plot(self) -> Any:
        """Return the bars as a Plotly figure (shown by notebooks)."""
        import plotly.graph_objects as go

        return go.Figure(plain(self.figure()))

    def to_json(self) -> dict[str, Any]:
        """Return everything that was found, as plain values."""
        variants = []
        for name, found, diverged in zip(self.names, self.found, self.diverged, strict=True):
            losses = [decomposition.to_json() for decomposition in found]
            variants.append({"variant": name, "losses": losses, "diverged": diverged})
        return {
            "study": str(self.path),
            "part": self.part,
            "replicates": self.replicates,
            "vary": self.vary,
            "variants": variants,
            "sentences": self.sentences(),
        }


def _noise_of(found: Decomposition) -> str:
    return "" if found.noise is None else f"; noise {found.noise:.4g}"


def _from_json(plain: dict[str, Any]) -> Decomposition:
    parts = {}
    for name in ("loss", "bias", "variance", "net"):
        found = with_nan(plain[name])
        parts[name] = Estimate(found["mean"], found["low"], found["high"], math.nan, 0)
    return Decomposition(plain["kind"], noise=plain["noise"], **parts)
