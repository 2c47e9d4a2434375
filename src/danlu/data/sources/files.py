"""Files and folders: which kind each is, told by what is in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danlu.data.parts import Sizes, in_order
from danlu.data.raw import Raw
from danlu.data.reading_memory import PER_BYTE_OF_TEXT, check_fits
from danlu.data.sources import (
    formats,
    frames,
    idx,
    images,
    parquet,
    pictures,
    published,
    spans,
    tagged,
    text,
    text_folders,
)
from danlu.data.sources.arrays import from_parts
from danlu.data.sources.arrow import ARROW, read_arrow
from danlu.data.sources.excel import is_spreadsheet
from danlu.data.sources.layout import Layout, is_json, layout_of
from danlu.data.sources.line_formats import read_known_lines
from danlu.data.sources.opened import Opened, open_text, suffix_of
from danlu.data.sources.options import Options, refuse_unused
from danlu.data.sources.running import language_model_text, refuse_for_running_text
from danlu.data.sources.tagged_lines import parse
from danlu.data.sources.tree import files_of, read_tree, unwrapped
from danlu.errors import DataError, some

if TYPE_CHECKING:
    import pandas as pd

KINDS = (
    "one subfolder of pictures or texts per class, tables (.csv, .parquet), texts (.txt), tagged "
    "text (.bmes, .bio, .conll), or IDX files"
)


def load_file(path: Path, options: Options, split: Any) -> Raw:
    """Return what a file holds. Raises DataError for a file of no kind that can be read."""
    suffix = suffix_of(path)
    if suffix in formats.ARRAY_SUFFIXES:
        return _from_arrays(path, options)
    if suffix == ".parquet" or suffix in ARROW:
        parts = {"all": read_arrow(path)}
        return parquet.from_arrow(parts, path.name, (), options, split)
    if suffix in formats.EXCEL and is_spreadsheet(path):
        table = formats.read_table(path, options)
        return from_table(table, path.name, options)
    opened = open_text(path, options.get("encoding"))
    raw = from_text(opened, path.name, options, split)
    return replace(raw, notices=(*opened.notices, *raw.notices))


def from_text(opened: Opened, name: str, options: Options, split: Any) -> Raw:
    """Return what a text holds: a table, JSON, tagged sentences, or running text."""
    if opened.suffix in formats.JSON or is_json(opened.text, name):
        return _from_json(opened.text, name, options)
    like = options.get("like")
    width = None
    if like is not None and like.columns:
        numbers = [int(c.name[1:]) for c in like.columns if re.fullmatch(r"f\d+", c.name)]
        width = max(numbers, default=None)
    is_table = options["task"] not in ("language", "tags")
    known = read_known_lines(opened.text, name, width) if is_table else None
    if known is not None:
        frame, notice = known
        return from_table(formats.Table(frame, (notice,)), name, options)
    layout: Layout = "tagged"
    if opened.suffix not in tagged.SUFFIXES or options.get("like") is not None:
        layout = layout_of(opened.text, opened.suffix, options)
    if layout == "running":
        refuse_for_running_text(options)
        raw = language_model_text({"all": [opened.text]}, name, options, split)
        if options["task"] == "language" or options.get("like") is not None:
            return raw
        told = f"{name} is read as running text, to learn what follows what; --target reads a table"
        return replace(raw, notices=(told, *raw.notices))
    if layout == "table":
        table = formats.read_text_table(opened.text, name, options)
        return from_table(table, name, options)
    refuse_unused(options, _OF_TAGGED, "tagged text")
    sentences = {name: parse(opened.text, name)}
    return tagged.from_sentences(sentences, [name], options, tagged.line, {})


_OF_TAGGED = (*text.OPTIONS, "task", "tags")


def from_table(table: formats.Table, name: str, options: Options) -> Raw:
    """Return the examples of a table: of cells, of texts, or of tokens with their tags."""
    frame = table.frame
    columns = tagged.columns_of_tokens(list(frame.columns))
    if columns is not None and options["task"] in (None, "tags") and not options["target"]:
        refuse_unused(options, (*_OF_TAGGED, *formats.READING), "a table of tokens")
        raw = tagged.from_table(frame, columns, name, options)
    else:
        raw = frames.from_frame(frame, name, options, comma_is_decimal=table.comma_is_decimal)
    return replace(raw, notices=(*table.notices, *raw.notices))


def _from_json(content: str, name: str, options: Options) -> Raw:
    table = formats.read_json(content, name)
    rows: list[dict[str, Any]] = table.frame.to_dict("records")  # type: ignore[assignment]
    field = spans.field_of_spans(rows)
    if field is None:
        return from_table(table, name, options)
    return _of_spans(rows, field, name, options, Sizes())


def _of_spans(rows: Sequence[Any], field: str, name: str, options: Options, sizes: Sizes) -> Raw:
    refuse_unused(options, (*_OF_TAGGED, "target"), "texts with marked entities")
    sentences = {name: spans.sentences_of(rows, field, name)}
    by_part = {"valid": sizes.valid, "test": sizes.test}
    raw = tagged.from_sentences(sentences, [name], options, tagged.token, by_part)
    told = f"entities are read from {field!r}, character by character, as BIO tags"
    return replace(raw, notices=(told, *raw.notices))


def _from_arrays(path: Path, options: Options) -> Raw:
    arrays = formats.read_arrays(path)
    pairs, notices = formats.parts_of_arrays(arrays, path.name)
    raw = from_parts(pairs, options)
    return replace(raw, notices=(*notices, *raw.notices))


def load_folder(path: Path, options: Options, split: Any) -> Raw:
    """Return what a folder holds. Raises DataError for a folder of no kind that can be read."""
    if not any(path.iterdir()):
        raise DataError(f"{str(path)!r} is an empty folder; it needs {KINDS}")
    if idx.find(path):
        return published.load_idx(path, options)
    folder, notices = unwrapped(path)
    raw = _from_folder(folder, options, split)
    return replace(raw, notices=(*notices, *raw.notices))


def _from_folder(folder: Path, options: Options, split: Any) -> Raw:
    if arrow := parquet.files_of(folder):
        return parquet.load_parquet(arrow, (), options, split)
    tree = read_tree(folder)
    # Class folders win over files that lie beside them, unless these say what the pictures are.
    if tree is not None and len(tree.classes) > 1:
        if pictures.has_pictures(tree):
            labelled = pictures.labelled_by_table(folder, tree, options)
            return labelled or pictures.from_tree(tree, options)
        if not any(map(formats.is_table, tree.files)):
            return text_folders.from_tree(tree, options)
    if tables := pictures.tables_of(folder):
        found = pictures.from_tables(folder, tables, options)
        if found is not None:
            return found
    files = files_of(folder)
    if files and not all(map(images.is_picture, files)):
        return _from_files(files, folder, options, split)
    if tree is not None and tree.classes:
        return pictures.from_tree(tree, options)
    raise DataError(f"{str(folder)!r} holds no data: it needs {KINDS}")


def _from_files(files: Sequence[Path], folder: Path, options: Options, split: Any) -> Raw:
    """Return files of one kind: tagged, of rows, or of running text."""
    tagged_files = [file for file in files if file.suffix.lower() in tagged.SUFFIXES]
    by_part, notices = text.parts_of(tagged_files or files, folder.name)
    in_turn = [file for part in in_order(by_part) for file in by_part[part]]
    opened = {}
    size = 0
    for file in in_turn:
        opened[file] = open_text(file, options.get("encoding"))
        size += PER_BYTE_OF_TEXT * len(opened[file].text)
        check_fits(size, f"{folder.name}, up to {file.name},", least=True)
    first = opened[in_turn[0]]
    layout: Layout = "table"
    if tagged_files:
        layout = "tagged"
    elif not is_json(first.text, in_turn[0].name) and not formats.is_table(in_turn[0]):
        layout = layout_of(first.text, first.suffix, options)
    if layout == "running":
        return text_folders.from_files(files, folder.name, options, split)
    if layout == "tagged":
        refuse_unused(options, _OF_TAGGED, "tagged text")
        raw = tagged.load(by_part, options)
    elif len(in_turn) > 1 and "all" in by_part:
        raise DataError(
            f"{folder.name} holds {some(file.name for file in files)}, and none is named after a "
            "part; name the file to read"
        )
    else:
        raw = _from_rows(by_part, opened, folder.name, options)
    return replace(raw, notices=(*notices, *raw.notices))


def _table_of(opened: Opened, name: str, options: Options) -> formats.Table:
    if opened.suffix in formats.JSON or is_json(opened.text, name):
        return formats.read_json(opened.text, name)
    return formats.read_text_table(opened.text, name, options)


def _with_targets_beside(
    by_part: dict[str, list[Path]], tables: dict[Path, formats.Table]
) -> tuple[dict[str, list[Path]], dict[Path, formats.Table], list[str]]:
    """Join X_train.csv and y_train.csv, whose rows are of the same examples."""
    joined: dict[Path, formats.Table] = {}
    kept = {}
    for part, files in by_part.items():
        roles = {formats.role_of_arrays(file.stem): file for file in files}
        if len(files) != 2 or set(roles) != {"x", "y"}:
            return by_part, tables, []
        features, targets = tables[roles["x"]], tables[roles["y"]]
        if len(features.frame) != len(targets.frame) or targets.frame.shape[1] != 1:
            return by_part, tables, []
        frame = features.frame.join(targets.frame.set_axis(["y"], axis=1))
        joined[roles["x"]] = replace(features, frame=frame)
        kept[part] = [roles["x"]]
    names = some(file.name for files in by_part.values() for file in files)
    return kept, joined, [f"{names} are joined side by side, the targets as y"]


def _from_rows(
    by_part: dict[str, list[Path]], opened: dict[Path, Opened], name: str, options: Options
) -> Raw:
    """Return tables of one kind, one for each part, as one table."""
    import pandas as pd

    frames_of: list[pd.DataFrame] = []
    notices: list[str] = []
    sizes = {}
    is_decimal = False
    tables = {
        file: _table_of(opened[file], file.name, options)
        for part in by_part.values()
        for file in part
    }
    by_part, tables, told = _with_targets_beside(by_part, tables)
    notices += told
    for part in in_order(by_part):
        sizes[part] = 0
        for file in by_part[part]:
            table = tables[file]
            titles = list(table.frame.columns)
            if frames_of and sorted(titles) == sorted(frames_of[0].columns):
                table = replace(table, frame=table.frame[list(frames_of[0].columns)])
            elif frames_of and titles != list(frames_of[0].columns):
                own = some(titles, 6)
                notices.append(
                    f"left out: {file.name}, whose columns are {own}, not those of the first file"
                )
                continue
            frames_of.append(table.frame)
            notices += [*opened[file].notices, *table.notices]
            sizes[part] += len(table.frame)
            is_decimal = is_decimal or table.comma_is_decimal
    whole = pd.concat(frames_of, ignore_index=True)
    if len(frames_of) > 1:
        name += " (its parts in a row, training first)"
    parts = Sizes(sizes.get("valid", 0), sizes.get("test", 0))
    field = spans.field_of_spans(whole.to_dict("records"))  # type: ignore[arg-type]
    if field is not None:
        raw = _of_spans(whole.to_dict("records"), field, name, options, parts)
    else:
        raw = frames.from_frame(whole, name, options, parts, is_decimal)
    return replace(raw, notices=(*dict.fromkeys(notices), *raw.notices))
