"""Folders of which one file was spoilt: recovered, or refused in a sentence; nothing is silent."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from faults.conftest import TRAININGS
from faults.spoiling import Said, say, spoil, without_places

from danlu import Run, Study
from danlu.files import digest_of

READING = (
    ("show", "{}"),
    ("show", "{}", "--json"),
    ("evaluate", "{}", "--json"),
    ("diagnose", "{}"),
    ("report", "{}"),
    ("recipe", "show", "{}"),
    ("runs", "--json"),
)


def outcome_of(said: Said, before: Said) -> str:
    """Return what came of a command on a spoilt folder, beside what it said of the whole one."""
    if said.code == -1:
        return "hang"
    if said.code == 70 or "Traceback" in said.err + said.out:
        return "traceback"
    if said.code:
        return "refused" if said.err.startswith("danlu: ") else "traceback"
    same = without_places(said.out) == without_places(before.out)
    if same:
        return "unchanged"
    # A finished study that lost the lines of its members has to train them again, and says so.
    lost = "interrupted" in said.out and "interrupted" not in before.out
    if lost or "damaged" in said.out + said.err:
        return "told"
    return "silent change"


def weights_of(folder: Path) -> dict[int, str]:
    """Return digests of all final weights in a folder."""
    if (folder / "run.json").exists():
        return {0: digest_of(Run(folder).model().state_dict())}
    study = Study(folder)
    return {i: digest_of(study.weights(i)) for i in study.members}


def tried(
    kind: str, folders: dict[str, Path], tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> Counter[str]:
    """Spoil a copy of a folder; return what came of every command, by outcome."""
    rng = random.Random(f"{kind} {seed}")
    root = tmp_path / f"{kind}-{seed}"
    copy = root / "runs" / kind.replace(" ", "-")
    monkeypatch.setenv("DANLU_RUNS", str(root / "runs"))
    shutil.copytree(folders[kind], copy)
    commands = [tuple(word.format(copy) for word in words) for words in READING]
    before = [say(*words) for words in commands]
    spoilt = spoil(copy, rng)
    outcomes = Counter()
    for words, whole in zip(commands, before, strict=True):
        said = say(*words)
        found = outcome_of(said, whole)
        outcomes[found] += 1
        assert found in ("refused", "unchanged", "told"), (spoilt, words, said, whole)
    if kind.startswith("interrupted"):
        found = resumed(copy, folders[kind.removeprefix("interrupted ")])
        outcomes[found] += 1
        assert found in ("refused", "recovered"), (spoilt, found)
    shutil.rmtree(root)
    return outcomes


def resumed(copy: Path, whole: Path) -> str:
    """Return what came of resuming."""
    said = say("resume", copy, "--json")
    if said.code == -1 or said.code == 70 or "Traceback" in said.err:
        return f"{said}"
    if said.code:
        return "refused"
    return "recovered" if weights_of(copy) == weights_of(whole) else "silent change"


KINDS = [f"{state}{kind}" for state in ("", "interrupted ") for kind in TRAININGS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_file_is_refused_or_made_up_for(
    kind: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        tried(kind, folders, tmp_path, seed, monkeypatch)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_spoilt_files(
    kind: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(100, 160):
        outcomes += tried(kind, folders, tmp_path, seed, monkeypatch)
    print(json.dumps({"kind": kind, **outcomes}))
