"""The rules, a cause each."""

from danlu.diagnosis.rules import outcome, start, steps, strength
from danlu.diagnosis.rules.table import Rule

RULES: tuple[Rule, ...] = (*outcome.RULES, *start.RULES, *strength.RULES, *steps.RULES)
