"""Writing files and folders whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from danlu.errors import StorageError
from danlu.files.json_values import as_json
from danlu.files.reading import check_folder, is_file


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the system's refusals into a StorageError."""
    try:
        yield
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise StorageError(
            f"{path} cannot be written: {reason}; what was saved before is intact, "
            "make room or name another folder"
        ) from e


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears whole or not at all.

    It is written beside its place, flushed to the disk, then renamed. Raises StorageError.
    """
    with storing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            # Temporary files are their owner's alone.
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:  # also an interrupt must leave no half-written file
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        # A rename is safe only once the folder itself is on the disk.
        _sync_folder(path.parent)


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all. Raises StorageError."""
    with writing(path) as f:
        f.write(content.encode() if isinstance(content, str) else content)


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def subfolder(path: Path) -> Path:
    """Return a folder within a run's or study's, made when missing. Raises RunError for a link."""
    check_folder(path)
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def remove(folder: Path, own: re.Pattern[str]) -> None:
    """Remove the files of a folder that have names of ours, and the folder if that empties it.

    Nothing is removed through a link: neither what it leads to, nor the link.
    """
    if os.path.islink(folder) or not folder.is_dir():
        return
    for file in folder.iterdir():
        if own.fullmatch(file.name) and is_file(file):
            file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all."""
    write(path, as_json(value, indent=1) + "\n")
