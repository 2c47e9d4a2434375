"""Reading files that may come from anywhere: spoilt, enormous, or put there to do harm.

Only regular files are opened, and no link is followed: a link in a stranger's folder would have
danlu read, write or delete what lies elsewhere. Pipes and devices are never waited for.
"""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

from danlu.errors import RunError
from danlu.files.json_values import parse_json
from danlu.memory import as_bytes, free_memory

# Of the memory that is free, what reading one file may take. Text becomes several times as large.
_SHARE = 0.8
_SHARE_OF_TEXT = 0.1

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


def open_file(path: Path, share: float = _SHARE) -> BinaryIO:
    """Open a regular file. Raises RunError for whatever else lies there, and where it is missing.

    share: of the free memory, that its content may take.
    """
    try:
        kind = os.lstat(path).st_mode
        if not stat.S_ISREG(kind):
            raise RunError(_not_a_file(path, kind))
        # What took the file's place since then is neither followed nor waited for.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as e:
        raise RunError(f"{path.name} is missing in {str(path.parent)!r}") from e
    except OSError as e:
        raise RunError(f"{path} cannot be read: {(e.strerror or str(e)).lower()}") from e
    size = os.fstat(handle).st_size
    room = free_memory()
    if size > share * room:
        os.close(handle)
        raise RunError(
            f"{path} has {as_bytes(size)}, and this machine has {as_bytes(room)} of memory left; "
            "read it on a larger one"
        )
    return os.fdopen(handle, "rb")


def _not_a_file(path: Path, mode: int) -> str:
    kind = _KINDS.get(stat.S_IFMT(mode), "no file")
    if kind == "a link":
        return f"{path} is a link, and links in a run's folder are not followed; put the file there"
    return f"{path} is {kind}, but must be a file"


def is_file(path: Path) -> bool:
    """Whether a regular file lies there, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def check_file(path: Path) -> None:
    """Raise RunError where anything but a file lies in a file's place."""
    if os.path.lexists(path) and not is_file(path):
        raise RunError(_not_a_file(path, os.lstat(path).st_mode))


def check_folder(path: Path) -> None:
    """Raise RunError where a link, or anything else that is no folder, lies in a folder's place."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # not there yet
        return
    if stat.S_ISLNK(mode):
        raise RunError(f"{path} is a link, and links in a run's folder are not followed")
    if not stat.S_ISDIR(mode):
        raise RunError(f"{path} is a file, but must be a folder")


def refuse_links(folder: Path, depth: int = 2) -> None:
    """Raise RunError where something in a folder, or in folders within, is a link.

    depth: folders within folders that are looked into.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise RunError(_not_a_file(Path(entry.path), stat.S_IFLNK))
                if depth and entry.is_dir(follow_symlinks=False):
                    refuse_links(Path(entry.path), depth - 1)
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise RunError(f"{str(folder)!r} cannot be read: {reason}") from e


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file. Raises RunError."""
    with open_file(path) as file:
        return _content(file, path)


def _content(file: BinaryIO, path: Path) -> bytes:
    try:
        return file.read()
    except OSError as e:
        raise RunError(f"{path} cannot be read: {(e.strerror or str(e)).lower()}") from e


def read_text(path: Path) -> str:
    """Return a file of UTF-8. Raises RunError."""
    with open_file(path, _SHARE_OF_TEXT) as file:
        return decoded(_content(file, path), path)


def decoded(content: bytes, path: Path) -> str:
    """Return UTF-8 as text. Raises RunError for anything else."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise RunError(f"{path} is damaged: it is not UTF-8 ({e.reason} at {e.start})") from e


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises RunError when it is missing or damaged."""
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as e:
        raise RunError(f"{path} is damaged: it is not JSON ({e})") from e


def parse_toml(text: str) -> dict[str, Any]:
    """Return the content of a TOML text. Raises ValueError for anything else."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
