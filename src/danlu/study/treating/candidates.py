"""What a treatment tries: prescriptions of the findings, and pairs of those that seem to help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from danlu.data import Data
from danlu.diagnosis import Finding
from danlu.errors import DanluError
from danlu.recipe import Recipe
from danlu.recipe.edit import Edit, apply
from danlu.train import mistakes_in

_PAIRED = 3  # candidates of which every pair is tried


@dataclass(frozen=True)
class Candidate:
    """Edits to try together, and the cause that they are prescribed for."""

    edits: tuple[str, ...]
    cause: str
    reason: str = ""

    @property
    def name(self) -> str:
        """The edits as they are typed."""
        return " ".join(self.edits)

    @property
    def parsed(self) -> list[Edit]:
        """The edits."""
        return [Edit.parse(text) for text in self.edits]

    def apply(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the edits."""
        return apply(self.parsed, recipe)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"edits": list(self.edits), "cause": self.cause, "reason": self.reason}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Candidate:
        """Return the candidate of plain values."""
        return cls(tuple(plain["edits"]), plain["cause"], plain["reason"])


@dataclass(frozen=True)
class Prescribed:
    """What findings prescribe, sorted by what can be done with it.

    candidates: edits of the recipe that change and fit it. of_data: those that also change how the
    data are loaded. unfit: edits that do not fit, with the reason.
    """

    candidates: list[Candidate]
    of_data: list[Candidate]
    unfit: list[tuple[str, str]]


def prescribed(findings: Iterable[Finding], recipe: Recipe, data: Data) -> Prescribed:
    """Return what the findings prescribe for a recipe, the root's first.

    Every network is listed once, by the first that prescribes it.
    """
    found = Prescribed([], [], [])
    seen = {recipe}
    for finding in findings:
        for prescription in finding.prescriptions:
            if not prescription.edits:
                continue
            texts = tuple(map(str, prescription.edits))
            candidate = Candidate(texts, finding.cause, prescription.reason)
            if any(edit.is_of_data for edit in prescription.edits):
                found.of_data.append(candidate)
                continue
            try:
                changed = candidate.apply(recipe)
            except DanluError as e:
                found.unfit.append((candidate.name, str(e.mistakes[0])))
                continue
            if changed in seen:
                continue
            seen.add(changed)
            mistakes = list(mistakes_in([changed], data))
            if mistakes:
                found.unfit.append((candidate.name, str(mistakes[0])))
            else:
                found.candidates.append(candidate)
    return found


def pairs(promising: Sequence[Candidate], recipe: Recipe, data: Data) -> list[Candidate]:
    """Return the pairs of the most promising candidates, best first, that fit together."""
    found = []
    for a, b in combinations(promising[:_PAIRED], 2):
        if {edit.path for edit in a.parsed} & {edit.path for edit in b.parsed}:
            continue
        pair = Candidate((*a.edits, *b.edits), a.cause, "")
        try:
            changed = pair.apply(recipe)
        except DanluError:
            continue
        if changed not in (a.apply(recipe), b.apply(recipe)) and not mistakes_in([changed], data):
            found.append(pair)
    return found
