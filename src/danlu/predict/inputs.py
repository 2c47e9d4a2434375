"""New examples for a trained network: picture files, folders of them, CSV rows, standard input."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.data import Schema
from danlu.data.sources import images, tables, text
from danlu.errors import DataError, RunError, wrong

STANDARD_INPUT = "-"
_TEXT_FILE = re.compile(
    r"[^.]\.(txt|csv|tsv|json|jsonl|md|parquet|bmes|bioe?s?|conll|iob2?|ner)$", re.IGNORECASE
)
_PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")

NamedPicture = tuple[Path | bytes, str]


def read(
    schema: Schema,
    inputs: Sequence[str],
    resize: bool = False,
    encoding: str | None = None,
) -> tuple[Tensor, list[str]]:
    """Return examples [N, *input_shape] and a name for each; `-` is standard input.

    resize: bring pictures of another size to the network's. encoding: of tables (utf-8). Raises
    DataError, one sentence per bad input.
    """
    if schema.is_image:
        return _read_pictures(schema, inputs, resize)
    if not schema.columns:
        raise RunError(
            "the run was trained on arrays without columns; predict from Python with run.predict(x)"
        )
    # All files are read before any is encoded: a missing one is reported first.
    frames = [_read_table(name, encoding) for name in inputs]
    (features,) = schema.input_shape
    blocks = []
    names = []
    for name, frame in frames:
        rows = len(frame)
        block = np.empty((rows, features), np.float32)
        tables.encode(frame, schema.columns, name, block)
        blocks.append(block)
        names += [f"{name}:{row}" for row in range(1, rows + 1)]
    whole = np.concatenate(blocks)
    return torch.from_numpy(whole), names


def read_texts(inputs: Sequence[str], encoding: str | None = None) -> list[str]:
    """Return texts: the inputs themselves, or every line of files and of standard input (`-`).

    Empty lines are left out. Raises DataError for a folder, or a file that does not exist.
    """
    found: list[str] = []
    for name in inputs:
        if name == STANDARD_INPUT:
            content = text.decoded(sys.stdin.buffer.read(), "standard input", encoding)
        elif os.path.isfile(name):  # False for a text that is too long for a file's name
            content = text.read(Path(name), encoding)
        else:
            _refuse_misread(name)
            found.append(name)
            continue
        found += [line for line in text.lines_of(content) if line.strip()]
    if not found:
        raise DataError("there is no text to read; give at least one line")
    return found


def _refuse_misread(name: str) -> None:
    """Raise DataError for a text that is rather a folder, or the name of a missing file."""
    is_one_word = len(name.split()) == 1
    looks_like_file = is_one_word and bool(_TEXT_FILE.search(name))
    if os.path.isdir(name):
        what = "a folder"
    elif looks_like_file:
        what = "the name of a file that does not exist"
    else:
        return
    rule = f"must be a text, or a file with a text on each line, and this is {what}"
    hint = "pass a text of that name by standard input (-)"
    raise DataError(wrong("input", name, rule, hint))


def _read_table(name: str, encoding: str | None) -> tuple[str, Any]:
    if name == STANDARD_INPUT:
        content = text.decoded(sys.stdin.buffer.read(), "standard input", encoding)
        return "standard input", tables.parse(content, "standard input")
    path = Path(name)
    if not path.is_file():
        raise DataError(
            f"`input` is {name!r}, but there is no such file; this network reads CSV rows"
        )
    return path.name, tables.read(path, encoding)


def _read_pictures(schema: Schema, inputs: Sequence[str], resize: bool) -> tuple[Tensor, list[str]]:
    sources: list[NamedPicture] = []
    mistakes: list[str] = []
    for name in inputs:
        pictures = _find_pictures(name)
        if not pictures and Path(name).is_dir():
            mistakes.append(f"`input` is {name!r}, but that folder holds no picture")
        sources += pictures

    channels, height, width = schema.input_shape
    size = (height, width)
    mode = schema.mode or ("L" if channels == 1 else "RGB")
    arrays = []
    for source, name in sources:
        try:
            array = _picture(source, name, mode, size, resize)
            arrays.append(array)
        except DataError as e:
            mistakes += e.mistakes
    if not mistakes and not arrays:
        mistakes.append("there is no input to predict")
    if mistakes:
        raise DataError(*mistakes)
    names = [name for _, name in sources]
    return torch.from_numpy(np.stack(arrays)), names


def _find_pictures(name: str) -> list[NamedPicture]:
    """Return the pictures that an input stands for: itself, those of a folder, standard input's."""
    path = Path(name)
    if name == STANDARD_INPUT:
        content = sys.stdin.buffer.read()
        # What comes through a pipe has no name, so its first bytes say what it is.
        if content.startswith(_PICTURE_STARTS):
            return [(content, "standard input")]
        lines = content.decode(errors="replace").split("\n")  # a list of files
        return [(Path(line), line) for line in lines if line.strip()]
    if path.is_dir():
        files = sorted(filter(images.is_picture, path.rglob("*")))
        return [(file, str(file)) for file in files]
    return [(path, name)]


@images.no_bomb_warning()
def _picture(
    source: Path | bytes,
    name: str,
    mode: str,
    size: tuple[int, int],
    resize: bool,
) -> Any:
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"`input` is {name!r}, but there is no such file")
    with images.open_image(source, name) as image:
        given = image.height, image.width
    if not resize and given != size:
        given_size = "×".join(map(str, given))
        wanted_size = "×".join(map(str, size))
        raise DataError(
            f"{name} is {given_size}, but the network takes {wanted_size}; "
            "use --resize to bring it there"
        )
    return images.decode(source, name, mode, size)
