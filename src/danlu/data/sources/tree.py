"""What a folder holds: files by part and class, whatever wraps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from danlu.data.parts import part_of, part_of_file
from danlu.errors import DataError, some

ByClass = dict[str, list[Path]]
# Texts about the data, not of it.
_ABOUT = ("readme", "license", "licence", "copying", "notice", "changes", "changelog", "citation")
# Class folders of examples without a class.
_UNLABELLED = ("unsup", "unsupervised", "unlabeled", "unlabelled")
_IGNORED = ("__macosx", "__pycache__", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Tree:
    """Files by part ("all", or train, valid and test) and class, and what was decided."""

    root: Path
    parts: dict[str, ByClass]
    notices: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return tuple(sorted({name for of_part in self.parts.values() for name in of_part}))

    @property
    def files(self) -> list[Path]:
        """Return the files of all parts and classes."""
        of_classes = [files for of_part in self.parts.values() for files in of_part.values()]
        return [file for files in of_classes for file in files]


def is_about(path: Path) -> bool:
    """Whether a file is about the data, such as a licence."""
    return path.stem.lower().startswith(_ABOUT) or path.suffix.lower() == ".md"


def is_hidden(path: Path) -> bool:
    """Whether a file or folder is not meant to be seen."""
    return path.name.startswith(".") or path.name.lower() in _IGNORED


def files_of(folder: Path) -> list[Path]:
    """Return the files that lie in a folder itself."""
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and not is_hidden(path)]
    return [path for path in found if not is_about(path)]


def subfolders(folder: Path) -> list[Path]:
    """Return the folders that lie in a folder."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_hidden(path)]


def unwrapped(folder: Path) -> tuple[Path, list[str]]:
    """Return the folder that holds the data: not one that only holds another."""
    notices = []
    inner = folder
    while True:
        below = subfolders(inner)
        if len(below) != 1:
            break
        repeats = below[0].name.lower() == inner.name.lower()  # training_set/training_set
        if part_of(below[0].name) and not repeats:
            break
        # A single folder of files is a class, which somebody has yet to add others to.
        n_classes = len(subfolders(below[0]))
        if n_classes < 1 or (n_classes < 2 and files_of(inner)):
            break
        inner = below[0]
        notices.append(f"{folder.name}: its folder {inner.relative_to(folder)} is read")
    return inner, notices[-1:]


def read_tree(folder: Path) -> Tree | None:
    """Return the files of a folder whose subfolders are parts or classes; None where they are none.

    Raises DataError where subfolders all hold the same ones and none is named after a part.
    """
    root, notices = unwrapped(folder)
    below = subfolders(root)
    if not below:
        return None
    named = _parts_of(below)
    if all(named.values()):
        return _of_parts(root, named, notices)
    if any(named.values()) and any(subfolders(path) for path, part in named.items() if part):
        left = [path.name for path, part in named.items() if not part]
        notices = [*notices, f"left out: {some(left)}, beside folders named after parts"]
        return _of_parts(root, {path: part for path, part in named.items() if part}, notices)
    inner = [frozenset(path.name for path in subfolders(folder)) for folder in below]
    if len(below) > 1 and len(set(inner)) == 1 and len(inner[0]) > 1:
        return _of_equal_folders(root, below, sorted(inner[0]), notices)
    return Tree(root, {"all": _by_class(below)}, tuple(notices))


def _parts_of(folders: Sequence[Path]) -> dict[Path, str | None]:
    """Return the part that each folder is named after: train, or by a word of it, seg_train."""
    named = {path: part_of(path.name) for path in folders}
    if any(named.values()):
        return named
    by_word = {path: part_of_file(path.name) for path in folders}
    # A class may have such a word in its name; a training part and another rarely have.
    if {"train"} < {part for part in by_word.values() if part}:
        return by_word
    return named


def _of_parts(root: Path, named: Mapping[Path, str | None], notices: Sequence[str]) -> Tree:
    """Return the classes of folders named after parts; two of one part are read together."""
    parts: dict[str, ByClass] = {}
    notes = list(notices)
    for path, part in named.items():
        inner, _ = unwrapped(path)
        below = subfolders(inner)
        if not below:
            if not files_of(inner):
                raise DataError(
                    f"the folder {path.name!r} of {root.name} is empty; remove or fill it"
                )
            notes.append(f"left out: {path.name}, whose files have no class")
            continue
        unlabelled = [p for p in below if p.name.lower() in _UNLABELLED]
        if unlabelled:
            notes.append(f"left out: {unlabelled[0].name} in {path.name}, which has no class")
        of_part = parts.setdefault(str(part), {})
        for name, files in _by_class([p for p in below if p not in unlabelled]).items():
            of_part.setdefault(name, []).extend(files)
    return Tree(root, parts, tuple(notes))


def _of_equal_folders(
    root: Path, below: Sequence[Path], inner: Sequence[str], notices: Sequence[str]
) -> Tree:
    """Return folders that all hold the same ones: classes of which each has its parts."""
    if not all(part_of(name) for name in inner):
        names = some(path.name for path in below)
        raise DataError(
            f"the folders {names} of {root.name} all hold {some(inner)}, so they are parts rather "
            "than classes; name them train, valid and test, or name one of them as the source"
        )
    parts: dict[str, ByClass] = {}
    for path in below:
        for of_part in subfolders(path):
            part = str(part_of(of_part.name))
            parts.setdefault(part, {})[path.name] = all_files(of_part)
    note = f"each class of {root.name} has its own folders {some(inner)}, which are read as parts"
    return Tree(root, parts, (*notices, note))


def _by_class(folders: Iterable[Path]) -> ByClass:
    return {path.name: all_files(path) for path in folders}


def all_files(folder: Path) -> list[Path]:
    """Return every file below a folder that is meant to be seen."""
    found = []
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        if path.is_file() and not is_hidden(path) and not any(p.startswith(".") for p in inner):
            found.append(path)
    return found
