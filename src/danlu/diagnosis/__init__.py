"""From measurements to findings, and from findings to prescriptions."""

from danlu.diagnosis.checkup.checking import Checkup, check
from danlu.diagnosis.diagnosing import Diagnosis, diagnose
from danlu.diagnosis.finding import Finding
from danlu.diagnosis.gradients.checking import GradientCheck, gradcheck
from danlu.diagnosis.verdict import verdict
from danlu.diagnosis.watching import Watch, watch

__all__ = [
    "Checkup",
    "Diagnosis",
    "Finding",
    "GradientCheck",
    "Watch",
    "check",
    "diagnose",
    "gradcheck",
    "verdict",
    "watch",
]
