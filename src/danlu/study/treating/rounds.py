"""The rounds of a treatment: what is tried on which seeds, and what comes of it.

A round has two steps, on different seeds. Screening trains the control and every candidate on a few
seeds, drops what is clearly worse, tries promising pairs, and ranks them. Confirmation trains the
first on seeds of its own: chosen by other figures, its gain there is not flattered by the choice.
Where these leave it open it is tested again with as many more, and where that fails the second has
its turn; the levels of all tests share what may go wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from danlu.recipe import Recipe
from danlu.statistics import Estimate, estimate, holm, p_value
from danlu.statistics import verdict as verdict_of_test
from danlu.study.treating.candidates import Candidate
from danlu.study.treating.gains import ALPHA, BETTER, OPEN, Scale, verdict

Figures = Callable[[Recipe, Sequence[int]], list[float]]  # of trainings that have ended

DROPPED, DIVERGED = "clearly worse, dropped", "diverged"


@dataclass(frozen=True)
class Confirmation:
    """A test of a candidate on fresh seeds, by an interval of a level."""

    candidate: Candidate
    seeds: list[int]
    level: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "candidate": self.candidate.to_json(),
            "seeds": self.seeds,
            "level": self.level,
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Confirmation:
        """Return the test of plain values."""
        candidate = Candidate.from_json(plain["candidate"])
        return cls(candidate, list(plain["seeds"]), plain["level"])


@dataclass
class Round:
    """What a round tries.

    base: the edits so far, in the order in which they were found. unfit: edits that do not fit,
    with the reason. left_out: candidates for which there was no time. pairs: None until they are
    known. confirming, further: fresh seeds, and those for what these leave open. tests: on them,
    the candidate of the last one being chosen if it gains. is_cut: there was no time for more.
    """

    base: list[Candidate]
    causes: list[str]
    candidates: list[Candidate]
    screening: list[int]
    confirming: list[int]
    further: list[int]
    unfit: list[tuple[str, str]] = field(default_factory=list)
    left_out: int = 0
    pairs: list[Candidate] | None = None
    tests: list[Confirmation] = field(default_factory=list)
    is_cut: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "base": [candidate.to_json() for candidate in self.base],
            "causes": self.causes,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "screening": self.screening,
            "confirming": self.confirming,
            "further": self.further,
            "unfit": [list(pair) for pair in self.unfit],
            "left_out": self.left_out,
            "pairs": None if self.pairs is None else [pair.to_json() for pair in self.pairs],
            "tests": [test.to_json() for test in self.tests],
            "is_cut": self.is_cut,
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Round:
        """Return the round of plain values."""
        pairs = plain["pairs"]
        return cls(
            [Candidate.from_json(candidate) for candidate in plain["base"]],
            list(plain["causes"]),
            [Candidate.from_json(candidate) for candidate in plain["candidates"]],
            list(plain["screening"]),
            list(plain["confirming"]),
            list(plain["further"]),
            [(name, why) for name, why in plain["unfit"]],
            plain["left_out"],
            None if pairs is None else [Candidate.from_json(pair) for pair in pairs],
            [Confirmation.from_json(test) for test in plain["tests"]],
            plain["is_cut"],
        )

    def test_of(self, candidate: Candidate) -> Confirmation | None:
        """Return the last test of a candidate, None where there was none."""
        own = [test for test in self.tests if test.candidate == candidate]
        return own[-1] if own else None


def confirm(
    planned: Round,
    ranked: Sequence[Candidate],
    levels: Sequence[float],
    gain_in: Callable[[Confirmation], Estimate | None],
) -> Candidate | None:
    """Test the best candidates on fresh seeds; return the first that gains.

    levels: of the tests, in their order. gain_in: trains what a test asks for, and returns the
    gain; None where there is no time.
    """

    def gain(candidate: Candidate, seeds: list[int], level: float) -> Estimate | None:
        test = Confirmation(candidate, seeds, level)
        found = gain_in(test)
        if found is not None:
            planned.tests.append(test)
        return found

    first, again, second = levels
    for candidate in ranked[:1]:
        found = gain(candidate, planned.confirming, first)
        if found is not None and verdict(found) == OPEN and _is_promising(found):
            found = gain(candidate, [*planned.confirming, *planned.further], again)
        if found is not None and verdict(found) == BETTER:
            return candidate
    for candidate in ranked[1:2]:
        found = gain(candidate, planned.confirming, second)
        if found is not None and verdict(found) == BETTER:
            return candidate
    return None


def _is_promising(gain: Estimate) -> bool:
    """Return whether more seeds may show a gain: it is above its standard error."""
    return gain.mean > gain.std / math.sqrt(gain.n)


def with_edits(recipe: Recipe, candidates: Sequence[Candidate]) -> Recipe:
    """Return a recipe with the edits of candidates, one after the other."""
    for candidate in candidates:
        recipe = candidate.apply(recipe)
    return recipe


@dataclass(frozen=True)
class Tried:
    """A candidate in figures: its gains over the round's control by seed, and their mean.

    verdict: "better", "worse", "no difference shown", "clearly worse, dropped", "diverged".
    """

    candidate: Candidate
    gains: Sequence[float]
    gain: Estimate
    verdict: str

    @property
    def seeds(self) -> int:
        """On how many seeds."""
        return self.gain.n

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "edits": list(self.candidate.edits),
            "cause": self.candidate.cause,
            "gain": self.gain.mean,
            "low": self.gain.low,
            "high": self.gain.high,
            "seeds": self.seeds,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Screening:
    """What screening shows of a round, from the trainings that there are so far."""

    round: Round
    control: Recipe
    scale: Scale
    figures: Figures

    def gains(self, candidate: Candidate, seeds: Sequence[int]) -> list[float]:
        """Return a candidate's gains by seed."""
        ours = self._settled(candidate.apply(self.control), seeds)
        return self.scale.gains(ours, self._settled(self.control, seeds))

    def _settled(self, recipe: Recipe, seeds: Sequence[int]) -> list[float]:
        return [self.scale.settle(figure) for figure in self.figures(recipe, seeds)]

    def looks(self) -> list[list[int]]:
        """Return the seeds that are there at each look: two, three, … all."""
        seeds = self.round.screening
        return [seeds[:n] for n in range(min(2, len(seeds)), len(seeds) + 1)]

    def survivors(self, looks_made: int) -> list[Candidate]:
        """Return the candidates that no look so far has dropped.

        A candidate is dropped where its interval lies below 0 at a level that all looks share, so
        that the chance to drop one that is no worse stays below 5 % (Bonferroni); or where it
        diverged on every seed, and the control did not.
        """
        alive = list(self.round.candidates)
        for seeds in self.looks()[:looks_made]:
            alive = [c for c in alive if not self._is_clearly_worse(c, seeds)]
        return alive

    def _is_clearly_worse(self, candidate: Candidate, seeds: Sequence[int]) -> bool:
        if self.has_diverged(candidate, seeds):
            return True
        looks = max(1, len(self.looks()) - 1)
        found = estimate(self.gains(candidate, seeds), 1 - ALPHA / looks)
        return found.high < 0

    def has_diverged(self, candidate: Candidate, seeds: Sequence[int]) -> bool:
        """Whether a candidate diverged on all seeds, and the control did not."""
        ours = self.figures(candidate.apply(self.control), seeds)
        theirs = self.figures(self.control, seeds)
        return not any(map(math.isfinite, ours)) and any(map(math.isfinite, theirs))

    def promising(self) -> list[Candidate]:
        """Return the survivors that gain on average, best first."""
        return self._ranked(self.survivors(len(self.looks()) - 1))

    def ranked(self) -> list[Candidate]:
        """Return everyone who gains on average, best first: those to confirm."""
        return self._ranked([*self.survivors(len(self.looks()) - 1), *(self.round.pairs or ())])

    def _ranked(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Rank by the mean gain less its standard error: what helps only now and then comes later.

        Of equals the one with fewer edits comes first, then the one with fewer epochs.
        """
        keys = []
        for candidate in candidates:
            found = estimate(self.gains(candidate, self.round.screening))
            error = 0.0 if math.isnan(found.std) else found.std / math.sqrt(found.n)
            if found.mean > 0:
                epochs = candidate.apply(self.control).epochs
                keys.append((error - found.mean, len(candidate.edits), epochs, candidate))
        keys.sort(key=lambda key: key[:3])
        return [candidate for *_, candidate in keys]

    def table(self) -> list[Tried]:
        """Return every candidate in figures, in the order in which they were prescribed."""
        everyone = [*self.round.candidates, *(self.round.pairs or ())]
        seeds = self.round.screening
        seeds_of: list[Sequence[int]] = []
        for candidate in everyone:
            seeds_of.append(self._seeds_trained(candidate, seeds))
        gains = [self.gains(c, own) for c, own in zip(everyone, seeds_of, strict=True)]
        corrected = holm([p_value(of_candidate) for of_candidate in gains])
        rows = []
        for candidate, own, of_candidate, p in zip(
            everyone, seeds_of, gains, corrected, strict=True
        ):
            found = estimate(of_candidate)
            if self.has_diverged(candidate, own):
                word = DIVERGED
            elif len(own) < len(seeds):
                word = DROPPED
            else:
                word = verdict_of_test(p, found.mean, ALPHA, higher_is_better=True)
            rows.append(Tried(candidate, of_candidate, found, word))
        return rows

    def _seeds_trained(self, candidate: Candidate, seeds: Sequence[int]) -> Sequence[int]:
        """Return the seeds on which a candidate was trained: fewer where it was dropped."""
        if candidate in (self.round.pairs or ()):
            return seeds
        for n, of_look in enumerate(self.looks(), 1):
            if n < len(self.looks()) and candidate not in self.survivors(n):
                return of_look
        return seeds
