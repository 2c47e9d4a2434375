"""Ways to spoil one file of a folder, and what may come of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from danlu.cli import main

HANGS_AFTER = 90  # seconds
_DEEP = 200_000


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _other_json(content: bytes, rng: random.Random) -> bytes:
    """JSON of another shape: a value replaced, a key gone, a list for an object."""
    try:
        lines = [json.loads(line) for line in content.splitlines()] or [{}]
        whole = lines[0] if len(lines) == 1 else lines
    except ValueError:
        try:
            whole = json.loads(content)
        except ValueError:
            whole = {}
    odd: list[Any] = [None, [], {}, -1, 1e308, "x", True, [[1]], {"a": {}}, 10**30]
    if isinstance(whole, dict) and whole and rng.random() < 0.8:
        key = rng.choice(sorted(whole))
        if rng.random() < 0.3:
            del whole[key]
        else:
            whole[key] = rng.choice(odd)
    else:
        whole = rng.choice(odd)
    return json.dumps(whole).encode()


CONTENTS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flipped": _flipped,
    "cut": _cut,
    "empty": lambda content, rng: b"",
    "other JSON": _other_json,
    "deep JSON": lambda content, rng: b"[" * _DEEP + b"]" * _DEEP,
    "deep TOML": lambda content, rng: b"a = " + b"[" * _DEEP + b"]" * _DEEP,
    "endless number": lambda content, rng: b'{"format": ' + b"9" * 5000 + b"}",
    "endless TOML number": lambda content, rng: b"seed = " + b"9" * 5000,
    "not UTF-8": lambda content, rng: b"\xff\xfe\x00" + content[3:],
    "noise": lambda content, rng: rng.randbytes(max(1, len(content))),
    "doubled": lambda content, rng: content + content,
    "zeros": lambda content, rng: bytes(len(content)),
}


def _folder(file: Path) -> None:
    file.unlink()
    (file / "inside").mkdir(parents=True)


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _link(file: Path) -> None:
    moved = file.parent.parent / f"elsewhere-{file.name}"
    shutil.move(file, moved)
    file.symlink_to(moved)


def _link_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def _sparse(file: Path) -> None:
    with file.open("r+b") as f:
        f.truncate(1 << 43)


THINGS: dict[str, Callable[[Path], None]] = {
    "gone": lambda file: file.unlink(),
    "a folder": _folder,
    "a pipe": _pipe,
    "a link": _link,
    "a link to itself": _link_to_itself,
    "larger than memory": _sparse,
}


class Spoilt(NamedTuple):
    file: str
    how: str


def spoil(folder: Path, rng: random.Random) -> Spoilt:
    """Spoil one file of a folder."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name not in (".lock",))
    file = rng.choice(files)
    how = rng.choice([*CONTENTS, *CONTENTS, "flipped", "flipped", "cut", *THINGS])
    if how in CONTENTS:
        file.write_bytes(CONTENTS[how](file.read_bytes(), rng))
    else:
        THINGS[how](file)
    return Spoilt(str(file.relative_to(folder)), how)


class Said(NamedTuple):
    """What a command said; code 70: an error nobody foresaw, -1: it hung."""

    code: int
    out: str
    err: str


class Hung(BaseException):
    """What nothing catches by mistake."""


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raise Hung within when it takes longer."""

    def ring(number: int, frame: Any) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def say(*words: object) -> Said:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["danlu", *map(str, words)]
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), alarm(HANGS_AFTER):
            main()
    except SystemExit as e:
        code = int(e.code or 0)
    except Hung:
        code = -1
    finally:
        sys.argv = argv
    return Said(code, out.getvalue(), err.getvalue())


def without_places(text: str) -> str:
    """Return what was said without paths, times and durations."""
    text = re.sub(r"/\S*?/(?=[\w.-]+)", "", text)
    return re.sub(r"\d+\.\d+ s\b|20\d{6}-\d{6}", "", text)
