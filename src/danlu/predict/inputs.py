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

_NAMED = re.compile(
    r"[^.]\.(txt|csv|tsv|json|jsonl|md|parquet|bmes|bioe?s?|conll|iob2?|ner)$", re.IGNORECASE
)  # files of text
_PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


def read(
    schema: Schema, inputs: Sequence[str], resize: bool = False, encoding: str | None = None
) -> tuple[Tensor, list[str]]:
    """Examples [N, *input_shape] and a name for each; `-` is standard input.

    resize: bring pictures of another size to the network's. encoding: of tables (utf-8).
    Raises DataError, one sentence per bad input.
    """
    if schema.is_image:
        return _pictures(schema, inputs, resize)
    if not schema.columns:
        raise RunError(
            "the run was trained on arrays without columns; predict from Python with run.predict(x)"
        )
    frames = [_frame(name, encoding) for name in inputs]
    out, names = [], []
    for name, frame in frames:
        x = np.empty((len(frame), schema.input_shape[0]), np.float32)
        tables.encode(frame, schema.columns, name, x)
        out.append(x)
        names += [f"{name}:{i + 1}" for i in range(len(frame))]
    return torch.from_numpy(np.concatenate(out)), names


def lines(inputs: Sequence[str], encoding: str | None = None) -> list[str]:
    """Texts: of files and of standard input (`-`) every line that is not empty, else the inputs themselves."""
    found: list[str] = []
    for name in inputs:
        if name == "-":
            content = text.decoded(sys.stdin.buffer.read(), "standard input", encoding)
        elif os.path.isfile(name):  # false of a name too long for a file, where a path's own raises
            content = text.read(Path(name), encoding)
        elif os.path.isdir(name) or (_NAMED.search(name) and len(name.split()) == 1):
            what = "a folder" if os.path.isdir(name) else "the name of a file that is not there"
            rule = f"must be a text or a file of a text a line, and this is {what}"
            raise DataError(
                wrong("input", name, rule, "hand over a text of that name by standard input (-)")
            )
        else:
            found.append(name)
            continue
        found += [line for line in text.lines_of(content) if line.strip()]
    if not found:
        raise DataError("there is no text to read; give at least one line")
    return found


def _frame(name: str, encoding: str | None) -> tuple[str, Any]:
    if name == "-":
        content = text.decoded(sys.stdin.buffer.read(), "standard input", encoding)
        return "standard input", tables.parse(content, "standard input")
    path = Path(name)
    if not path.is_file():
        raise DataError(
            f"`input` is {name!r}, but there is no such file; this network reads CSV rows"
        )
    return path.name, tables.read(path, encoding)


def _pictures(schema: Schema, inputs: Sequence[str], resize: bool) -> tuple[Tensor, list[str]]:
    sources: list[tuple[Path | bytes, str]] = []
    mistakes = []
    for name in inputs:
        path = Path(name)
        if name == "-":
            content = sys.stdin.buffer.read()
            if content.startswith(_PICTURE_STARTS):
                sources.append((content, "standard input"))
            else:  # a list of files
                sources += [
                    (Path(line), line)
                    for line in content.decode(errors="replace").split("\n")
                    if line.strip()
                ]
        elif path.is_dir():
            found = sorted(p for p in path.rglob("*") if images.is_picture(p))
            mistakes += [] if found else [f"`input` is {name!r}, but that folder holds no picture"]
            sources += [(p, str(p)) for p in found]
        else:
            sources.append((path, name))
    channels, h, w = schema.input_shape
    mode = schema.mode or ("L" if channels == 1 else "RGB")
    out = []
    for source, name in sources:
        try:
            out.append(_picture(source, name, mode, (h, w), resize))
        except DataError as e:
            mistakes += e.mistakes
    if mistakes or not out:
        raise DataError(*(mistakes or ["there is no input to predict"]))
    return torch.from_numpy(np.stack(out)), [name for _, name in sources]


@images.no_bomb_warning()
def _picture(
    source: Path | bytes, name: str, mode: str, size: tuple[int, int], resize: bool
) -> Any:
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"`input` is {name!r}, but there is no such file")
    with images.open_image(source, name) as image:
        found = image.height, image.width
    if not resize and found != size:
        is_, takes = (f"{h}×{w}" for h, w in (found, size))
        raise DataError(
            f"{name} is {is_}, but the network takes {takes}; use --resize to bring it there"
        )
    return images.decode(source, name, mode, size)
