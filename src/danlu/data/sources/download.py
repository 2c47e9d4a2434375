"""Where data files are: the folder `DANLU_DATA`, the user's cache, or an official host.

What is fetched is checked against its published checksum, and kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import urllib.request
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from danlu.data.memmap import cache_folder
from danlu.errors import DataError, some
from danlu.files import write


@dataclass(frozen=True)
class Remote:
    """A known file: its name, MD5, and the addresses that serve it."""

    name: str
    md5: str
    hosts: tuple[str, ...]


_refused: ContextVar[str] = ContextVar("refused", default="")


@contextlib.contextmanager
def offline(way_out: str) -> Iterator[None]:
    """Open no connection within; what is on this machine is still found. way_out: from that."""
    token = _refused.set(way_out)
    try:
        yield
    finally:
        _refused.reset(token)


def refusal() -> str:
    """Return why no connection may be opened, with a way out; empty where it may."""
    way_out = _refused.get()
    return f"a run's folder asks for it, and that opens a connection; {way_out}" if way_out else ""


def data_folders(name: str) -> list[Path]:
    """Where a named data set may lie, best first."""
    roots = [Path(os.environ["DANLU_DATA"])] if os.environ.get("DANLU_DATA") else []
    return [r / name for r in (*roots, cache_folder("data"))]


def find_or_fetch(name: str, files: tuple[Remote, ...]) -> Path:
    """Return the folder that holds all `files` (gzipped or not); the cache, if they are fetched."""
    for folder in data_folders(name):
        if all(
            (folder / f.name).exists() or (folder / f.name.removesuffix(".gz")).exists()
            for f in files
        ):
            return folder
    folder = cache_folder("data", name)
    try:
        for f in files:
            if not (folder / f.name).exists():
                _fetch(f, folder / f.name)
    except OSError as e:
        places = " or ".join(str(p) for p in data_folders(name))
        names = some((f.name for f in files), 4)
        why = getattr(e, "reason", None) or e
        raise DataError(
            f"{name!r} is not on this machine and could not be fetched ({why}); put {names} into "
            f"{places}"
        ) from e
    return folder


def _fetch(remote: Remote, to: Path) -> None:
    """Download to a file beside, hold it against its checksum, then move it into place."""
    if refusal():
        raise OSError(refusal())
    error: OSError | None = None
    for host in remote.hosts:
        try:
            with urllib.request.urlopen(host + remote.name, timeout=20) as reply:
                content = reply.read()
        except OSError as e:
            error = e
            continue
        if hashlib.md5(content).hexdigest() != remote.md5:
            error = OSError(f"{host}{remote.name} does not have the published checksum")
            continue
        write(to, content)
        return
    raise error or OSError(f"no host is known for {remote.name}")
