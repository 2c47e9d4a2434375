"""Folders of runs and studies that were changed by someone who knows how danlu writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from danlu.files import Sealed, digest_of_file, read_lines, write_lines


def index_of(folder: Path) -> Path:
    return next(folder / name for name in ("run.json", "study.json") if (folder / name).exists())


def reseal(folder: Path, **facts: Any) -> None:
    """Give the index of a folder the digests of its files as they are now, and other facts."""
    sealed = Sealed(index_of(folder))
    files = {}
    for name in sealed.facts()["files"]:
        if (folder / name).is_file():
            files[name] = digest_of_file((folder / name).read_bytes())
    sealed.update(**facts, files=files)


def change_facts(folder: Path, **facts: Any) -> None:
    """Change facts in the index of a folder."""
    Sealed(index_of(folder)).update(**facts)


def keep_members(folder: Path, wanted: int | None = None, only: set[int] | None = None) -> None:
    """Leave the first lines of members.jsonl, or those of some members."""
    file = folder / "members.jsonl"
    lines = read_lines(file)[:wanted]
    write_lines(file, [line for line in lines if only is None or line["member"] in only])
