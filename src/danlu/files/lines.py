"""Files of JSON lines that grow: a row per epoch, a line per member of a study.

Every line ends in a checksum of itself. A last line without its end was cut by a crash, and is left
out; any other line that does not agree with its checksum has been damaged since.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from danlu.errors import RunError, some
from danlu.files.json_values import as_json, parse_json
from danlu.files.reading import is_file, read_bytes
from danlu.files.writing import storing, write

_CHECK = re.compile(rb'(?:, )?"check": "([0-9a-f]{8})"\}$')


def _checksum(body: bytes) -> str:
    return f"{zlib.crc32(body):08x}"


def _as_lines(values: Sequence[dict[str, Any]]) -> bytes:
    lines = []
    for value in values:
        body = as_json(value)[:-1].encode()
        comma = b", " if value else b""
        lines.append(body + comma + f'"check": "{_checksum(body)}"}}\n'.encode())
    return b"".join(lines)


def append_lines(path: Path, values: Sequence[dict[str, Any]]) -> None:
    """Append lines to a file. Raises StorageError, also for a link in its place."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with storing(path):
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o644)
        with os.fdopen(handle, "ab") as file:
            file.write(_as_lines(values))


def write_lines(path: Path, values: Sequence[dict[str, Any]]) -> None:
    """Write all the lines of a file anew."""
    write(path, _as_lines(values))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file, of one that is missing none. Raises RunError for damaged ones."""
    lines, damaged = sound_lines(path)
    if damaged:
        raise RunError(f"{path} is damaged in line {some(damaged)}")
    return lines


def sound_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the lines that are as they were written, and the numbers of the others."""
    if not is_file(path) and not path.exists():
        return [], []
    sound: list[dict[str, Any]] = []
    damaged = []
    lines = read_bytes(path).split(b"\n")
    # What comes after the last line's end was cut by a crash.
    for number, line in enumerate(lines[:-1], 1):
        value = _value_of(line)
        if value is None:
            damaged.append(number)
        else:
            sound.append(value)
    return sound, damaged


def _value_of(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None where it does not agree with its checksum."""
    found = _CHECK.search(line)
    if found is None or found[1].decode() != _checksum(line[: found.start()]):
        return None
    try:
        value = parse_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    del value["check"]
    return value
