"""A stranger's folders: whole by their digests, and made to do harm."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from folders import reseal

from danlu.files import read_lines, write_lines

CODE = "os:system"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


_listeners: list[Callable[[str, tuple[object, ...]], None]] = []


def _pass_on(event: str, args: tuple[object, ...]) -> None:
    for listener in _listeners:
        listener(event, args)


def _deaf(event: str, args: tuple[object, ...]) -> None:
    pass


class Tripwire:
    """Notes what must not happen: programs, connections, writes and deletions elsewhere.

    allowed: folders in which a command may write.
    """

    def __init__(self, *allowed: Path) -> None:
        self.allowed = [str(folder.resolve()) for folder in allowed]
        self.trips: list[str] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        if not _listeners:
            sys.addaudithook(_pass_on)  # it stays for good, so there is one
        _listeners[:] = [self._hear]
        try:
            yield
        finally:
            _listeners[:] = [_deaf]

    def _hear(self, event: str, args: tuple[object, ...]) -> None:
        if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
            self.trips.append(f"{event} {args[0]!r}")
        elif event in ("socket.connect", "socket.getaddrinfo"):
            self.trips.append(f"{event} {args[1:]!r}")
        elif event in ("os.remove", "os.rmdir"):
            self._check(event, _from_folder(*args))
        elif event in ("os.rename", "shutil.rmtree", "os.truncate"):
            self._check(event, args[0])
        elif event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
            self._check("write", args[0])
        elif event == "sqlite3.connect":
            self._check(event, str(args[0]).removeprefix("file:").partition("?")[0])

    def _check(self, event: str, path: object) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        place = os.path.realpath(os.fsdecode(path))
        inside = any(
            place == folder or place.startswith(folder + os.sep) for folder in self.allowed
        )
        if not inside and place != os.devnull:
            self.trips.append(f"{event} {place}")


def _from_folder(path: object, folder: object = -1) -> object:
    """Return a path; one that is given from an open folder (`shutil.rmtree`) with that folder's."""
    if not isinstance(folder, int) or folder < 0 or not isinstance(path, str):
        return path
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)


def name_code(folder: Path, mark: Path) -> None:
    """Have every recipe of a folder name a function that would make a file."""
    evil = {"name": CODE, "args": {"command": f"touch {mark}"}}
    if (folder / "recipe.toml").exists():
        text = f'epochs = 3\n[model]\nname = "{CODE}"\nargs = {{command = "touch {mark}"}}\n'
        (folder / "recipe.toml").write_text(text)
        reseal(folder)
        return
    recipes = [json.loads(line) for line in (folder / "recipes.jsonl").read_text().splitlines()]
    lines = [json.dumps({**recipe, "model": evil}) for recipe in recipes]
    (folder / "recipes.jsonl").write_text("".join(f"{line}\n" for line in lines))
    base = json.loads((folder / "study.json").read_text()).get("base")
    reseal(folder, **({"base": {**base, "model": evil}} if base else {}))


def name_loss(folder: Path, mark: Path) -> None:
    """Have every recipe of a folder name a loss that would make a file."""
    if (folder / "recipe.toml").exists():
        with (folder / "recipe.toml").open("a") as f:
            f.write(f'\n[loss]\nname = "{CODE}"\n')
        reseal(folder)


def link_folder(folder: Path, name: str, victim: Path) -> None:
    """Put a link to somebody's folder in the place of one of ours."""
    place = folder / name
    if place.is_dir():
        shutil.rmtree(place)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(victim, target_is_directory=True)


def link_file(folder: Path, name: str, victim: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)


def name_storage(folder: Path, url: str) -> None:
    """Have a search keep its trials elsewhere."""
    reseal(folder, storage=url)


def name_source(folder: Path, source: str) -> None:
    """Have the data of a folder come from elsewhere."""
    file = folder / "data.json"
    info = json.loads(file.read_text())
    file.write_text(json.dumps({**info, "source": {**info["source"], "source": source}}))
    reseal(folder)


def climb(folder: Path) -> None:
    """Have members lie in files outside the folder."""
    lines = read_lines(folder / "members.jsonl")
    write_lines(folder / "members.jsonl", [{**line, "chunk": "../../victim"} for line in lines])
