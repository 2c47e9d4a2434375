"""The rules, a cause each."""

from danlu.diagnosis.rules import of_data, outcome, start, steps, strength
from danlu.diagnosis.rules.table import Rule

RULES: tuple[Rule, ...] = (
    *of_data.RULES,
    *outcome.RULES,
    *start.RULES,
    *strength.RULES,
    *steps.RULES,
)
