"""From measurements to findings, and from findings to prescriptions."""

from danlu.diagnosis.diagnosing import Diagnosis, diagnose
from danlu.diagnosis.finding import Finding
from danlu.diagnosis.verdict import verdict
from danlu.diagnosis.watching import Watch, watch

__all__ = ["Diagnosis", "Finding", "Watch", "diagnose", "verdict", "watch"]
