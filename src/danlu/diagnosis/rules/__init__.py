"""The rules, a cause each."""

from danlu.diagnosis.rules import (
    gaps,
    length,
    of_data,
    of_loop,
    of_network,
    outcome,
    recurrent,
    start,
    steps,
    strength,
)
from danlu.diagnosis.rules.table import Rule

RULES: tuple[Rule, ...] = (
    *of_network.RULES,
    *of_loop.RULES,
    *of_data.RULES,
    *outcome.RULES,
    *gaps.RULES,
    *start.RULES,
    *recurrent.RULES,
    *strength.RULES,
    *steps.RULES,
    *length.RULES,
)
