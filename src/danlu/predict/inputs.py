"""New examples for a trained network: picture files, folders of them, CSV rows, standard input."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.data import Schema
from danlu.data.memmap import parse_bytes
from danlu.data.sources import formats, images, text
from danlu.data.sources.layout import is_json
from danlu.data.sources.opened import open_text
from danlu.data.tables.rows import encode_rows, texts_of
from danlu.errors import DataError, DataNotice, RunError, count, notify, wrong

STANDARD_INPUT = "-"
_TEXT_FILE = re.compile(
    r"[^.]\.(txt|csv|tsv|json|jsonl|md|parquet|bmes|bioe?s?|conll|iob2?|ner)$", re.IGNORECASE
)
_PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")

NamedPicture = tuple[Path | bytes, str]


@dataclass(frozen=True)
class Inputs:
    """New examples [N, *input_shape], a name for each, and the cells that name its row."""

    x: Tensor
    names: list[str]
    identifiers: dict[str, list[str]]


def read(
    schema: Schema, inputs: Sequence[str], encoding: str | None = None, resize: bool = False
) -> Inputs:
    """Return examples that a network can predict; `-` is standard input.

    Pictures of another size are brought to the network's; resize: without a word. encoding: of
    tables. Raises DataError,
    one sentence per bad input.
    """
    if schema.is_image:
        x, names = _read_pictures(schema, inputs, resize)
        return Inputs(x, names, {})
    if not schema.columns:
        raise RunError(
            "the run was trained on arrays without columns; predict from Python with run.predict(x)"
        )
    # All files are read before any is encoded: a missing one is reported first.
    tables = [_read_table(name, encoding) for name in inputs]
    blocks = []
    names = []
    identifiers: dict[str, list[str]] = {}
    for name, frame in tables:
        block, notices = encode_rows(frame, schema.columns, name, parse_bytes(None))
        for notice in notices:
            notify(f"{name}: {notice}", DataNotice)
        blocks.append(block)
        names += [f"{name}:{row}" for row in range(1, len(frame) + 1)]
        for column in schema.identifiers:
            cells = [""] * len(frame)
            if column in frame.columns:
                cells = frame[column].astype("string").fillna("").tolist()
            identifiers.setdefault(column, []).extend(cells)
    return Inputs(torch.from_numpy(np.concatenate(blocks)), names, identifiers)


def read_texts(
    inputs: Sequence[str], encoding: str | None = None, schema: Schema | None = None
) -> list[str]:
    """Return texts: the inputs themselves, or those of files and of standard input (`-`).

    A file holds a text on each line, or is a table with the column that the run was trained on.
    Empty texts are left out. Raises DataError for a folder, or a file that does not exist.
    """
    found: list[str] = []
    for name in inputs:
        if name == STANDARD_INPUT:
            content = text.decoded(sys.stdin.buffer.read(), "standard input", encoding)
            found += text.lines_of(content)
        elif os.path.isfile(name):  # False for a text that is too long for a file's name
            found += _texts_of_file(Path(name), encoding, schema)
        else:
            _refuse_misread(name)
            found.append(name)
    found = [line for line in found if line.strip()]
    if not found:
        raise DataError("there is no text to read; give at least one line")
    return found


def _texts_of_file(path: Path, encoding: str | None, schema: Schema | None) -> list[str]:
    opened = open_text(path, encoding)
    column = schema.text_column if schema is not None else None
    if opened.suffix in formats.JSON or is_json(opened.text, path.name):
        return texts_of(formats.read_json(opened.text, path.name).frame, column, path.name)
    if opened.suffix in formats.DELIMITED and column is not None:
        frame = formats.read_text_table(opened.text, path.name, {}).frame
        if column in frame.columns or frame.shape[1] == 1:
            return texts_of(frame, column, path.name)
    return text.lines_of(opened.text)


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
    options = {"encoding": encoding}
    if name == STANDARD_INPUT:
        content = text.decoded(sys.stdin.buffer.read(), "standard input", encoding)
        return "standard input", formats.read_text_table(content, "standard input", options).frame
    path = Path(name)
    if not path.is_file():
        raise DataError(
            f"`input` is {name!r}, but there is no such file; this network reads rows of a table"
        )
    return path.name, formats.read_table(path, options).frame


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
    other_sizes = 0
    for source, name in sources:
        try:
            array, given = _picture(source, name, mode, size)
        except DataError as e:
            mistakes += e.mistakes
        else:
            arrays.append(array)
            other_sizes += given != size
    if not mistakes and not arrays:
        mistakes.append("there is no input to predict")
    if mistakes:
        raise DataError(*mistakes)
    if other_sizes and not resize:
        notify(
            f"{count(other_sizes, 'picture')} of another size brought to {height}×{width}",
            DataNotice,
        )
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
    source: Path | bytes, name: str, mode: str, size: tuple[int, int]
) -> tuple[Any, tuple[int, int]]:
    """Return the pixels, and the size that the picture had."""
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"`input` is {name!r}, but there is no such file")
    with images.open_image(source, name) as image:
        given = image.height, image.width
    return images.decode(source, name, mode, size), given
