"""Files that were spoilt, or made to do harm: read, or refused in a sentence, in bounded memory."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
from faults.inputs import GOOD, HOSTILE
from faults.spoiling import Hung, alarm, spoil

from danlu import load
from danlu.errors import DanluError

_MEMORY = "500MB"


def outcome_of(source: Path, **options: object) -> tuple[str, str]:
    """Return what came of loading a source: read, refused, hang, or the kind of the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with alarm(90):
                load(str(source), memory=_MEMORY, **options)
        except DanluError as e:
            return "refused", str(e)
        except Hung:
            return "hang", ""
        except Exception as e:
            return f"{type(e).__name__}: {e}", ""
    return "read", ""


def tried(kind: str, tmp_path: Path, seed: int) -> str:
    rng = random.Random(f"{kind} {seed}")
    folder = tmp_path / f"{seed}"
    folder.mkdir()
    source = GOOD[kind](folder)
    spoilt = spoil(folder, rng)
    outcome, _ = outcome_of(source)
    assert outcome in ("read", "refused"), (spoilt, outcome)
    return outcome


@pytest.mark.parametrize("kind", GOOD)
def test_good_files_are_read(kind: str, tmp_path: Path) -> None:
    assert outcome_of(GOOD[kind](tmp_path)) == ("read", "")


@pytest.mark.parametrize("kind", GOOD)
def test_spoilt_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    for seed in range(8):
        tried(kind, tmp_path, seed)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", GOOD)
def test_hundreds_of_spoilt_files(kind: str, tmp_path: Path) -> None:
    outcomes = Counter(tried(kind, tmp_path, seed) for seed in range(100, 160))
    print(json.dumps({"kind": kind, **outcomes}))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_read_or_refused_with_size_and_limit(name: str, tmp_path: Path) -> None:
    build, options, said = HOSTILE[name]
    outcome, sentence = outcome_of(build(tmp_path), **options)
    assert outcome == ("refused" if said else "read"), sentence
    assert re.search(said, sentence), sentence


# What takes no more than is allowed, and what PyTorch and the libraries take by themselves.
_PEAK = """
import resource, sys, warnings
from pathlib import Path
from faults.inputs import HOSTILE
from faults.test_inputs import outcome_of
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
build, options, _ = HOSTILE[sys.argv[1]]
source = build(Path(sys.argv[2]))
before = peak()
outcome_of(source, **options)
print(peak() - before)
"""


@pytest.mark.parametrize(
    "name", ["2 GB of text packed", "a table of 100 MB packed", "a word of 3 MB", "a line of 6 MB"]
)
def test_reading_takes_no_more_memory_than_it_may(name: str, tmp_path: Path) -> None:
    tests = Path(__file__).parent.parent
    command = [sys.executable, "-c", _PEAK, name, str(tmp_path)]
    ended = subprocess.run(command, cwd=tests, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 750e6
