"""Versions of the folders that danlu writes, and of the checkpoints in them."""

from __future__ import annotations

from pathlib import Path

from danlu.errors import RunError

RUN_FORMAT = 3
STUDY_FORMAT = 3


def check_run_format(path: Path, found: object) -> None:
    """Raise RunError for a run folder of another format; found: what its run.json says."""
    if isinstance(found, int) and found != RUN_FORMAT:
        is_newer = found > RUN_FORMAT
        hint = "update danlu" if is_newer else "it was made by an earlier danlu, so train it again"
        raise RunError(
            f"{str(path)!r} has format {found}, but this danlu reads format {RUN_FORMAT}; {hint}"
        )
