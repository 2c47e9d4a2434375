"""Suspected labels, as text."""

from __future__ import annotations

from danlu.study.label_suspects import Suspect, Suspects

HEAD = ("example", "part", "label", "probability", "rather", "probability")


def row(suspect: Suspect) -> list[str]:
    """Return a suspect in cells."""
    return [
        suspect.origin,
        suspect.part,
        suspect.label,
        f"{suspect.label_probability:.3f}",
        suspect.suggested,
        f"{suspect.suggested_probability:.3f}",
    ]


def rows(found: Suspects, most: int) -> list[list[str]]:
    """Return the suspects that are the likeliest to be wrong, one in a row; then how many more."""
    if not found.is_trusted:
        return []
    listed = [row(suspect) for suspect in found.found[:most]]
    more = len(found.found) - len(listed)
    if more:
        listed.append([f"and {more:,} more", "", "", "", "", ""])
    return listed
