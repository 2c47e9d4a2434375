"""`diagnose`: evidence → findings, the root first."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from danlu.data import Data
from danlu.diagnosis import catalogue
from danlu.diagnosis.class_errors import ClassErrors, class_errors
from danlu.diagnosis.error_parts import ErrorParts, check_target_error, error_parts
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, that_apply
from danlu.diagnosis.rules import RULES
from danlu.diagnosis.signs import Signs
from danlu.errors import DanluError
from danlu.guest import guest
from danlu.runs import Run

HEALTHY, NOT_JUDGED = "healthy", "not_judged"
_MUCH = 0.3  # of chance's loss


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a training, the root first.

    unseen: what could not be judged. errors: where the error lies. by_class: in which classes.
    """

    findings: Sequence[Finding]
    unseen: Sequence[str] = ()
    errors: ErrorParts | None = None
    by_class: ClassErrors | None = None
    run: str = ""

    @property
    def is_healthy(self) -> bool:
        """Whether nothing was found."""
        return self.findings[0].cause == HEALTHY

    def verdict(self, language: str = "en") -> str:
        """Return the first finding in a sentence."""
        first = self.findings[0]
        return f"{first.title(language)}{catalogue.COLONS[language]}{first.why(language)}"

    def lines(self, language: str = "en") -> list[str]:
        """Return the root in a line, and in another what to try; nothing where all is well."""
        if self.is_healthy:
            return []
        prescriptions = self.findings[0].prescriptions
        lines = [self.verdict(language)]
        if prescriptions:
            edits = " ".join(map(str, prescriptions[0].edits))
            lines.append(" ".join(filter(None, (edits, prescriptions[0].why(language)))))
        return lines

    def unseen_sentences(self, language: str = "en") -> list[str]:
        """Return what could not be seen, in sentences."""
        return [catalogue.unseen(name, language) for name in self.unseen]

    def details(self, language: str = "en") -> list[str]:
        """Return where the error lies, in lines; nothing where that is not known."""
        lines = []
        if self.errors is not None:
            # Findings have cures of their own.
            told = self.errors.sentences(language, cures=self.is_healthy)
            lines.append(catalogue.SPACES[language].join(told))
        if self.by_class is not None:
            lines += self.by_class.sentences(language)
        return lines

    def to_json(self, language: str = "en") -> dict[str, Any]:
        """Return plain values."""
        return {
            "run": self.run,
            "verdict": self.verdict(language),
            "findings": [finding.to_json(language) for finding in self.findings],
            "unseen": self.unseen_sentences(language),
            "by_class": None if self.by_class is None else self.by_class.to_json(),
            "errors": None if self.errors is None else self.errors.to_json(),
        }


@guest
def diagnose(run: Run, data: Any = None, target_error: float | None = None) -> Diagnosis:
    """Return what is wrong with a training, from what it left behind; it trains nothing.

    data: those it was trained on, where they were arrays in memory; others are loaded again.
    target_error: the error that can be reached, such as a person's: a share of mistakes, of numbers
    1 − R². Works on finished, interrupted, diverged and running trainings. Raises RunError for a
    target_error that is no share, and for other data.
    """
    check_target_error(target_error)
    evidence = Evidence.of(run, _data_of(run, data), target_error)
    return replace(diagnose_evidence(evidence), run=str(run.path))


def _data_of(run: Run, data: Any) -> Data | None:
    """Return the data of a run, None where they are not at hand."""
    if data is not None:
        again = data if isinstance(data, Data) else run.load_again(data)
        run.check_data(again)
        return again
    if not run.is_reloadable:
        return None
    # Gone, changed, or to be fetched by whoever trusts the run: what it measured is left.
    with contextlib.suppress(DanluError):
        return run.load_data()
    return None


def diagnose_evidence(e: Evidence) -> Diagnosis:
    """Return what the rules find in the evidence."""
    signs = Signs(e)
    found: dict[str, Finding] = {}
    # Those of last resort are asked when all others have been.
    for rule in sorted(RULES, key=lambda rule: rule.is_last_resort):
        if rule.is_last_resort and found:
            continue
        finding = rule.recognise(e, signs)
        if finding is not None:
            found.setdefault(finding.cause, finding)
    findings = _roots_first(found)
    if not found:
        is_seen = e.recipe is not None or bool(e.measured)
        findings = [Finding(HEALTHY if is_seen else NOT_JUDGED, 0.0)]
    if e.recipe is not None:
        findings = [replace(f, prescriptions=that_apply(f.prescriptions, e.recipe))
                    for f in findings]  # fmt: skip
    return Diagnosis(findings, _unseen(e, signs, not found), error_parts(e), class_errors(e))


def _unseen(e: Evidence, signs: Signs, is_healthy: bool) -> list[str]:
    """Return what could not be judged, for want of what."""
    if e.recipe is None:
        unseen = _unseen_of_loop(e, signs, is_healthy)
    else:
        unseen = [] if e.measured else ["measurements"]
        if e.data is None:
            unseen.append("data")
        if e.recipe.is_imported and e.network is None:
            unseen.append("network")
    if e.network is not None and e.network.gradients is None:
        unseen.append("gradients")
    return unseen


def _unseen_of_loop(e: Evidence, signs: Signs, is_healthy: bool) -> list[str]:
    unseen = ["loop_data", "recipe"]
    if not e.measured:
        unseen.append("loop_steps")
    elif not e.measured.has_passes:
        unseen.append("loop_layers")
    elif e.network is None:
        unseen.append("loop_questions")
    if e.is_chance_guessed:
        unseen.append("chance")
    elif is_healthy and signs.unlearnt > _MUCH:
        unseen.append("loop_rest")
    return unseen


def _roots_first(found: Mapping[str, Finding]) -> list[Finding]:
    """List what another finding explains under that one; the rest by severity."""
    symptoms: dict[str, str] = {}  # with their root
    # Rules are in the order in which causes come about: the first to explain another is its root.
    # A cause may have several rows.
    for rule in RULES:
        if rule.cause not in found or rule.cause in symptoms:
            continue
        for symptom in rule.explains:
            if symptom in found and symptom not in symptoms:
                symptoms[symptom] = rule.cause
    roots = []
    for cause, finding in found.items():
        if cause in symptoms:
            continue
        own = [symptom for symptom, root in symptoms.items() if root == cause]
        roots.append(replace(finding, also=tuple(dict.fromkeys([*own, *finding.also]))))
    return sorted(roots, key=lambda finding: -finding.severity)
