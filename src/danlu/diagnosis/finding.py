"""`Finding`: a cause, the figures that show it, and what may be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from danlu.diagnosis import catalogue
from danlu.errors import DanluError
from danlu.files import with_nan, with_nulls
from danlu.recipe import Recipe
from danlu.recipe.edit import Edit, apply

_OF_START = ("init", "init.bias")
Figure = float | int | str | list[float]


@dataclass(frozen=True)
class Prescription:
    """Edits of the recipe to try together; none where only the data can help.

    reason: its words in the catalogue.
    """

    reason: str
    edits: tuple[Edit, ...] = ()

    def why(self, language: str = "en") -> str:
        """Return in a sentence what it is good for."""
        return catalogue.prescription(self.reason, language)

    def to_json(self, language: str = "en") -> dict[str, Any]:
        """Return plain values."""
        return {"edits": [str(edit) for edit in self.edits], "why": self.why(language)}


@dataclass(frozen=True)
class Finding:
    """What is wrong with a training.

    severity: 0 to 1. figures: what shows it. also: causes that this one explains, or that could
    explain the same.
    """

    cause: str
    severity: float
    figures: Mapping[str, Figure] = field(default_factory=dict)
    prescriptions: Sequence[Prescription] = ()
    also: tuple[str, ...] = ()

    def title(self, language: str = "en") -> str:
        """Return what it is called."""
        return catalogue.title(self.cause, language)

    def why(self, language: str = "en") -> str:
        """Return in a sentence why it is so, with its figures."""
        return catalogue.why(self.cause, self.figures, language)

    def to_json(self, language: str = "en") -> dict[str, Any]:
        """Return plain values."""
        return {
            "cause": self.cause,
            "severity": round(self.severity, 3),
            "figures": with_nulls(dict(self.figures)),
            "why": self.why(language),
            "also": list(self.also),
            "prescriptions": [p.to_json(language) for p in self.prescriptions],
        }

    def facts(self) -> dict[str, Any]:
        """Return plain values without words, from which it can be made again in any language."""
        prescriptions = []
        for prescription in self.prescriptions:
            texts = [str(edit) for edit in prescription.edits]
            prescriptions.append({"reason": prescription.reason, "edits": texts})
        return {
            "cause": self.cause,
            "severity": self.severity,
            "figures": with_nulls(dict(self.figures)),
            "also": list(self.also),
            "prescriptions": prescriptions,
        }

    @classmethod
    def from_facts(cls, plain: Mapping[str, Any]) -> Finding:
        """Return the finding of plain values. Raises ValueError where they are none."""
        try:
            prescriptions = []
            for prescription in plain["prescriptions"]:
                made = Prescription(prescription["reason"], edits(*prescription["edits"]))
                made.why()
                prescriptions.append(made)
            figures = with_nan(plain["figures"])
            severity = float(plain["severity"])
            finding = cls(plain["cause"], severity, figures, prescriptions, tuple(plain["also"]))
            finding.why()
        except (KeyError, IndexError, TypeError, AttributeError, DanluError) as e:
            raise ValueError(f"not a finding: {e}") from e
        return finding


def that_apply(prescriptions: Sequence[Prescription], recipe: Recipe) -> list[Prescription]:
    """Return the prescriptions that change something about a recipe.

    A network of somebody's own has its own initial values, on which the recipe's fields have no
    bearing: of these the words are left.
    """
    found = []
    for prescription in prescriptions:
        is_of_start = any(edit.path in _OF_START for edit in prescription.edits)
        if recipe.is_imported and is_of_start:
            found.append(Prescription(prescription.reason))
        elif not prescription.edits or _changes(prescription.edits, recipe):
            found.append(prescription)
    return found


def _changes(changes: Sequence[Edit], recipe: Recipe) -> bool:
    """Whether edits would change a recipe, or the data; those that do not fit are told of later."""
    if any(edit.is_of_data for edit in changes):
        return True
    try:
        return apply(changes, recipe) != recipe
    except DanluError:
        return True


def edits(*texts: str) -> tuple[Edit, ...]:
    """Return the edits of texts such as `optimizer.lr=0.01`."""
    return tuple(Edit.parse(text) for text in texts)
