"""Folders of pictures: one subfolder per class, or a table of the files and their labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.data.parts import in_order, part_of, part_of_file
from danlu.data.raw import Raw
from danlu.data.schema import Schema
from danlu.data.sources import columns, formats
from danlu.data.sources.images import SUFFIXES, Decoded, is_picture, load_all
from danlu.data.sources.options import Options, refuse_unused
from danlu.data.sources.tree import Tree, all_files, files_of
from danlu.data.tables.roles import Overrides, read_columns
from danlu.data.tables.target import Target, known_target, read_target, unseen_notices
from danlu.errors import DataError, count, some

if TYPE_CHECKING:
    import pandas as pd

_MASKS = {"mask", "masks", "segmentation", "segmentations", "annotations", "groundtruth", "gt"}
_PICTURES = {"image", "images", "img", "imgs", "pictures", "photos", "jpegimages"}
_NAMED = 0.5  # of the cells of a column that names files: so many must be pictures that are there


def has_pictures(tree: Tree) -> bool:
    """Whether most files of the classes are pictures."""
    return 2 * sum(map(is_picture, tree.files)) > len(tree.files)


def from_tree(tree: Tree, options: Options) -> Raw:
    """Return pictures by class, with or without parts above the classes."""
    used = ("missing", "resize", "mode", "task")
    refuse_unused(options, used, "a folder of pictures")
    like = options.get("like")
    _refuse_empty_classes(tree)
    order = in_order(tree.parts)
    sources: list[Path] = []
    labels: list[str] = []
    sizes = {}
    for part in order:
        before = len(sources)
        for name, files in sorted(tree.parts[part].items()):
            of_class = [file for file in files if is_picture(file)]
            sources += of_class
            labels += [name] * len(of_class)
        sizes[part] = len(sources) - before
    decoded = _decode(sources, tree.root, options)
    kept_labels = [labels[i] for i in decoded.kept]
    target = _target(kept_labels, "classification", tree.root.name, like)
    notices = (*tree.notices, *decoded.notices, *target.notices)
    left = _sizes_left(decoded.kept, sizes, order)
    return _raw(decoded, target, left, notices, _origins(sources, decoded, tree.root))


def _refuse_empty_classes(tree: Tree) -> None:
    empty = []
    for name in tree.classes:
        files = [file for of_part in tree.parts.values() for file in of_part.get(name, [])]
        if not any(map(is_picture, files)):
            empty.append(repr(name))
    if empty:
        raise DataError(
            f"no picture lies in the class folder {some(empty)} of {str(tree.root)!r}; add some or "
            "remove it"
        )


def _decode(sources: Sequence[Path], root: Path, options: Options) -> Decoded:
    like = options.get("like")
    mode, size = options["mode"], options["resize"]
    if like is not None and like.is_image:
        # The network's own: nothing is asked again that the run knows.
        mode = mode or like.mode
        size = size or like.input_shape[1:]
    names = [str(file.relative_to(root)) for file in sources]
    return load_all(sources, names, mode, size, options["budget"])


def _target(labels: Sequence[Any], task: str | None, name: str, like: Schema | None) -> Target:
    import pandas as pd

    values = pd.Series(list(labels), name="class")
    if like is None:
        return read_target(values, task, name)
    target = known_target(values, like.classes, like.target_style)
    told = unseen_notices(target, values, name)
    return Target(target.y, target.classes, target.is_there, target.style, told)


def _sizes_left(kept: Sequence[int], sizes: dict[str, int], order: Sequence[str]) -> dict[str, int]:
    """Return the parts' sizes without the pictures that were left out."""
    found = {}
    start = 0
    for part in order:
        end = start + sizes[part]
        found[part] = sum(start <= i < end for i in kept)
        start = end
    return found


def _origins(sources: Sequence[Path], decoded: Decoded, root: Path) -> list[str]:
    return [str(sources[i].relative_to(root)) for i in decoded.kept]


def _raw(
    decoded: Decoded,
    target: Target,
    sizes: dict[str, int],
    notices: tuple[str, ...],
    origins: Sequence[str],
) -> Raw:
    task: Any = "classification" if target.classes else "regression"
    shape = tuple(decoded.pixels.shape[1:])
    schema = Schema(task, shape, target.classes, mode=decoded.mode)
    return Raw(
        decoded.pixels,
        target.y,
        schema,
        official_test=sizes.get("test", 0),
        official_valid=sizes.get("valid", 0),
        notices=notices,
        origins=origins,
    )


def labelled_by_table(folder: Path, tree: Tree, options: Options) -> Raw | None:
    """Return the pictures of several folders with the labels of a table beside them.

    None where no table names them, or where it says what the folders' names say.
    """
    tables = tables_of(folder)
    if not tables:
        _refuse_masks(tree)
        return None
    try:
        frame, _ = _frame(tables[0], options)
    except DataError:
        return None
    column = _file_column(frame, _places(folder))
    if column is None:
        return None
    classes = {name.lower() for name in tree.classes}
    others = [frame[other].astype("string").str.strip().str.lower() for other in frame.columns]
    says_the_same = any(set(cells.dropna()) == classes for cells in others)
    # A table of sizes or sources is no reason to leave what the folders say.
    if options["target"] is None and (says_the_same or not _only_hold_files(tree.classes)):
        return None
    raw = from_tables(folder, tables, options)
    if raw is None:
        return None
    told = f"the folders {some(tree.classes)} are not read as classes, as a table names the labels"
    return replace(raw, notices=(told, *raw.notices))


def _only_hold_files(folders: Sequence[str]) -> bool:
    """Whether folders' names say nothing of what is in them: images_part_1, images_part_2."""
    plain = {re.sub(r"[\W_\d]+", " ", name.lower()).strip() for name in folders}
    return len(plain) == 1 or plain <= _PICTURES


def _refuse_masks(tree: Tree) -> None:
    """Raise DataError for pictures beside masks of the same names, which are no classes."""
    names = {name.lower() for name in tree.classes}
    if not names & _MASKS or not names <= _MASKS | _PICTURES:
        return
    raise DataError(
        f"the folders {some(tree.classes)} of {tree.root.name} are pictures and their masks, not "
        "classes; danlu learns one label for each picture"
    )


def tables_of(folder: Path) -> list[Path]:
    """Return the tables in a folder that also holds pictures, which they may name."""
    tables = [file for file in files_of(folder) if formats.is_table(file)]
    if not tables or not any(map(is_picture, all_files(folder))):
        return []
    return tables


def from_tables(folder: Path, tables: Sequence[Path], options: Options) -> Raw | None:
    """Return the pictures that tables name, with their labels; None where they name none."""
    by_part = _by_part(tables)
    sources: list[Path] = []
    values: list[Any] = []
    sizes = {}
    notices: list[str] = []
    title = ""
    for part in in_order(by_part):
        frame, told = _frame(by_part[part], options)
        places = _places(folder, part)
        column = _file_column(frame, places)
        if column is None:
            return None
        title = _label_column(frame, column, by_part[part].name, options)
        named = [str(name).strip() for name in frame[column]]
        sources += _found(named, places, by_part[part].name)
        values += frame[title].tolist()
        sizes[part] = len(frame)
        notices += told
    used = ("missing", "resize", "mode", "task", "target", *formats.READING)
    refuse_unused(options, used, "a folder of pictures with a table of labels")
    listed = some(path.name for path in tables)
    decoded = _decode(sources, folder, options)
    kept = [values[i] for i in decoded.kept]
    target = _target(kept, options["task"], listed, options.get("like"))
    if not target.is_there.all():
        row = int(np.flatnonzero(~target.is_there)[0]) + 1
        raise DataError(f"row {row} of {listed} has no {title}; fill it, or remove the row")
    notices.append(f"pictures and their {title} are read from {listed}")
    left = _sizes_left(decoded.kept, sizes, in_order(by_part))
    told = (*notices, *decoded.notices, *target.notices)
    return _raw(decoded, target, left, told, _origins(sources, decoded, folder))


def _by_part(tables: Sequence[Path]) -> dict[str, Path]:
    named = {part_of_file(path.name) or "all": path for path in tables}
    if "train" in named:
        named.pop("all", None)
        return named
    return {"all": tables[0]}


def _frame(path: Path, options: Options) -> tuple[pd.DataFrame, tuple[str, ...]]:
    table = formats.read_table(path, options)
    return table.frame, table.notices


def _places(folder: Path, part: str = "all") -> dict[str, Path]:
    """Return pictures by what a table may call them: path, name, or name without its ending.

    Of several of one name, that in the folder of the table's own part comes first.
    """
    found: dict[str, Path] = {}
    pictures = [file for file in all_files(folder) if is_picture(file)]

    def is_elsewhere(file: Path) -> bool:
        return part_of(file.relative_to(folder).parts[0]) != part

    for file in sorted(pictures, key=is_elsewhere):
        for name in (str(file.relative_to(folder)), file.name, file.stem):
            found.setdefault(_plain_name(name), file)
    return found


def _plain_name(name: object) -> str:
    """Return a picture's name without what spellings of paths differ in."""
    plain = str(name).strip().replace("\\", "/").lower()
    while plain.startswith("./"):
        plain = plain[2:]
    return plain


def _place_of(name: object, places: dict[str, Path]) -> Path | None:
    """Return the picture that a table names, by the end of its path where the rest is another's."""
    plain = _plain_name(name)
    if plain in places:
        return places[plain]
    return places.get(plain.rpartition("/")[2])


def _file_column(frame: pd.DataFrame, places: dict[str, Path]) -> str | None:
    """Return the column whose cells name pictures, also ones that are not there."""
    best, best_share = None, _NAMED
    for column in frame.columns:
        cells = frame[column].astype("string").fillna("").str.strip()
        are_there = cells.map(lambda cell: _place_of(cell, places) is not None).mean()
        look_so = cells.str.lower().str.endswith(tuple(SUFFIXES)).mean()
        share = max(float(are_there), float(look_so))
        if share > best_share:
            best, best_share = str(column), share
    return best


def _label_column(frame: pd.DataFrame, column: str, name: str, options: Options) -> str:
    others = [str(other) for other in frame.columns if other != column]
    wanted = options["target"]
    if wanted is not None and wanted in others:
        return str(wanted)
    if wanted == "last" and others:
        return others[-1]
    usual = columns.first_named(others, columns.LABELS_OF_TEXT)
    if wanted is None and usual is not None:
        return usual
    readings = read_columns(frame[others], None, Overrides())
    used = [reading.name for reading in readings if reading.is_used]
    if wanted is None and len(used) == 1:
        return used[0]
    are_binary = [r for r in readings if r.role == "number" and set(r.values.dropna()) <= {0, 1}]
    if wanted is None and len(are_binary) == len(used) > 1:
        raise DataError(
            f"{name} gives each picture {len(used)} labels of 0 or 1, and several labels at once "
            f"cannot be learnt; choose one with --target {used[0]}"
        )
    raise DataError(
        f"{name} has the columns {some(others, 8)} beside the pictures' names; say which one is "
        f"the label with --target {others[-1] if others else 'COLUMN'}"
    )


def _found(names: Sequence[str], places: dict[str, Path], listed: str) -> list[Path]:
    absent = [name for name in names if _place_of(name, places) is None]
    if absent:
        raise DataError(
            f"{listed} names {count(len(absent), 'picture')} that are not in the folder: "
            f"{some(absent)}; add them, or remove their rows"
        )
    found = [_place_of(name, places) for name in names]
    return [place for place in found if place is not None]
