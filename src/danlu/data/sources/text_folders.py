"""Folders of texts: one subfolder per class, files of rows by part, or running text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from danlu.data.parts import in_order
from danlu.data.raw import Raw
from danlu.data.sources import text
from danlu.data.sources.opened import decode, unpacked
from danlu.data.sources.options import Options, refuse_unused
from danlu.data.sources.running import language_model_text, refuse_for_running_text
from danlu.data.sources.tree import Tree
from danlu.errors import DataError, count, some


def from_tree(tree: Tree, options: Options) -> Raw:
    """Return labelled texts: every file one, the folder it lies in its class."""
    refuse_unused(options, (*text.OPTIONS, "task"), "a folder of texts by class")
    texts: list[str] = []
    labels: list[str] = []
    places: list[str] = []
    empty: list[str] = []
    encodings: set[str] = set()
    sizes = {}
    for part in in_order(tree.parts):
        before = len(texts)
        for name, files in sorted(tree.parts[part].items()):
            for file in files:
                place = str(file.relative_to(tree.root))
                content, used = _read(file, options)
                if not content.strip():
                    empty.append(place)
                    continue
                encodings.add(used)
                texts.append(content)
                labels.append(name)
                places.append(place)
        sizes[part] = len(texts) - before
    raw = text.labelled(texts, labels, tree.root.name, options, places)
    return replace(
        raw,
        official_valid=sizes.get("valid", 0),
        official_test=sizes.get("test", 0),
        notices=(*tree.notices, *_told(tree, empty, encodings, options), *raw.notices),
    )


def _read(file: Path, options: Options) -> tuple[str, str]:
    content, name = unpacked(file)
    return decode(content, name, options.get("encoding"))


def _told(tree: Tree, empty: Sequence[str], encodings: set[str], options: Options) -> list[str]:
    notices = [f"each file of {tree.root.name} is a text, its folder the class"]
    if empty:
        notices.append(f"left out: {count(len(empty), 'empty file')}, {some(empty)}")
    others = sorted(encodings - {"utf-8"})
    if others and options.get("encoding") is None:
        notices.append(f"some files are read as {some(others)}; --encoding reads all alike")
    return notices


def from_files(files: Sequence[Path], name: str, options: Options, split: Any) -> Raw:
    """Return running text of several files, each a document."""
    refuse_for_running_text(options)
    parts, notices = text.parts_of(files, name)
    contents = {}
    for part in in_order(parts):
        contents[part] = [text.read(file, options.get("encoding")) for file in parts[part]]
    if not contents:
        raise DataError(f"{name} holds no text")
    raw = language_model_text(contents, name, options, split)
    return replace(raw, notices=(*notices, *raw.notices))
