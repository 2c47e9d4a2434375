"""`load`: from a name, a path or arrays to `Data`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from danlu.data.data import Data
from danlu.data.raw import Raw
from danlu.data.reading_memory import reading_within
from danlu.data.schema import Schema
from danlu.data.sources import parquet, published
from danlu.data.sources.archives import unpacked_archive
from danlu.data.sources.files import load_file, load_folder
from danlu.data.sources.from_python import from_python
from danlu.data.sources.options import Options, checked, refuse_unused
from danlu.errors import DataError, DataNotice, nearest, notify, wrong
from danlu.guest import guest

names = published.names
Columns = str | Sequence[str]


@guest
def load(
    source: Any,
    *,
    target: str | None = None,
    task: str | None = None,
    resize: int | tuple[int, int] | None = None,
    mode: str | None = None,
    split: str | tuple[float, ...] | None = None,
    valid: bool = True,
    seed: int = 0,
    limit: int | None = None,
    memory: str | int | None = None,
    missing: str | None = None,
    drop: Columns | None = None,
    keep: Columns | None = None,
    category: Columns | None = None,
    text: Columns | None = None,
    number: Columns | None = None,
    log_target: bool = False,
    separator: str | None = None,
    header: str | None = None,
    tokens: str | None = None,
    vocabulary: int | None = None,
    length: int | None = None,
    lines: bool = False,
    tags: str | None = None,
    encoding: str | None = None,
    like: Schema | None = None,
) -> Data:
    """Read a source and split it into training, validation and test parts.

    What was decided in reading is in the notices of the data, and said as warnings (`DataNotice`).

    source: a name (`digits`, `iris`, `wine`, `breast-cancer`, `diabetes`, `mnist`, `fashion-mnist`,
        `cifar10`; text: `prose`, `names`, `dna`, `agreement`, `dates`, `spelling`, and where their
        files are `tinyshakespeare`, `timemachine`, `resume-ner`), a file or folder (docs/data.md
        lists the kinds), `hub:owner/name`, arrays (x, y), a dictionary {"train": (x, y), "test":
        (x, y)}, a data frame, or a PyTorch dataset; texts as (texts, labels), with task="pairs" as
        (sources, targets), as (tokens of each sentence, tags of each), or as a list of documents.
    target: the column to predict; of a table without names its number, or "last".
    task: "classification" or "regression" where the target leaves it open; "text" for a table of
        labelled text, "pairs" for two columns of text, "tags" for tokens with a tag each,
        "language" for running text.
    resize: height and width to bring pictures to. mode: "L" (grey) or "RGB".
    split: shares such as "60/20/20" (train/valid/test) or "70/30" (train/test). Without it the
        notes' rule decides by the amount of data (running text is cut 80/10/10), and a source's own
        test part stays the test part.
    valid: False for no validation part. seed: of the shuffle, which running text does without.
    limit: at most so many training examples.
    memory: what reading may take, such as "2GB" (half of this machine's memory). Larger arrays are
        mapped from disk; what takes more all the same is refused (docs/security.md).

    Of tables – missing: "fill" (the default: the median with an indicator, a level of its own),
    "drop" the rows, or "refuse". drop, keep, category, text, number: columns to leave out, to take
    in all the same, to take as categories, as the text, as numbers. log_target: learn the target's
    logarithm. separator, header: of text files, where the lines do not tell ("none": no names).

    Of text – tokens: chars (default), words or bpe. vocabulary: at most so many tokens. length:
    tokens in a window of running text (128), or the most an example may have (1,024). lines:
    whether each line of running text is a text of its own. tags: "strict" to refuse tags out of
    order. encoding: of files; without it UTF-8, UTF-16, GB 18030 and Latin-1 are tried.

    like: the schema of a trained run, by whose columns, vocabulary and classes the source is read;
    all of it is the test part.

    Raises DataError, one sentence per mistake.
    """
    given = {
        "target": target,
        "task": task,
        "resize": resize,
        "mode": mode,
        "memory": memory,
        "missing": missing,
        "drop": drop,
        "keep": keep,
        "category": category,
        "text": text,
        "number": number,
        "log_target": log_target,
        "separator": separator,
        "header": header,
        "tokens": tokens,
        "vocabulary": vocabulary,
        "length": length,
        "lines": lines,
        "tags": tags,
        "encoding": encoding,
    }
    options = checked(given)
    if like is not None:
        if like.is_text:
            refuse_unused(
                {"tokens": tokens, "vocabulary": vocabulary}, (), "a run's own vocabulary"
            )
        options["like"] = like
    with reading_within(options["budget"]):
        raw, name = _read(source, options, split)
        if raw.schema.task == "language":
            if seed:
                rule = "must be left out: running text is cut in order, not shuffled"
                raise DataError(wrong("seed", seed, rule))
            split = None  # the text was cut where it was read
        told = {**given, "source": name, "resize": options["resize"], "split": split}
        told |= {"valid": valid, "seed": seed, "limit": limit}
        data = Data.from_raw(
            raw,
            _as_told(told),
            split,
            valid,
            seed,
            limit,
            reloadable=isinstance(source, (str, Path)),
            all_test=like is not None,
        )
    for notice in data.notices:
        notify(notice, DataNotice)
    return data


def _as_told(told: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, to load the same again."""
    found = {}
    for name, value in told.items():
        if value is None or (value is False and name != "valid"):
            continue
        found[name] = list(value) if isinstance(value, tuple) and name != "split" else value
    return found


def _read(source: Any, options: Options, split: Any) -> tuple[Raw, str]:
    """Return what a source holds, and the name by which it is found again."""
    if not isinstance(source, (str, Path)):
        return from_python(source, options, split), type(source).__name__
    # As it was typed: data.json may go to others, whom this machine's folders do not concern.
    name = str(source)
    try:
        return _from_name(name, options, split), name
    except OSError as e:
        file = Path(e.filename).name if isinstance(e.filename, str) else name
        raise DataError(f"{file} cannot be read: {(e.strerror or str(e)).lower()}") from e
    except MemoryError as e:
        raise DataError(f"{name} takes more memory than this machine has left") from e


def _from_hub(name: str, options: Options, split: Any) -> Raw:
    if not name.strip():
        rule = "must name a data set of the hub"
        raise DataError(wrong("source", "hub:", rule, "try hub:owner/name"))
    return parquet.from_arrow(parquet.hub_parts(name), name, (), options, split)


def _from_name(name: str, options: Options, split: Any) -> Raw:
    if not name.strip():
        raise DataError(wrong("source", name, "must be a name, a file or a folder", "try digits"))
    small = published.load_small(name, options, split)
    if small is not None:
        return small
    if name.startswith("hub:"):
        return _from_hub(name.removeprefix("hub:"), options, split)
    if name in published.KNOWN:
        return published.load_known(name, options)
    path = Path(name).expanduser()
    if not path.name:  # "." and the like: what is said of a folder is said by its name
        path = path.absolute()
    if name in published.TEXTS:
        path = published.find_text(name)
    # False of a name too long for a file, where a path's own methods raise.
    if os.path.isdir(path):
        return load_folder(path, options, split)
    if os.path.isfile(path):
        folder = unpacked_archive(path)
        if folder is not None:
            raw = load_folder(folder, options, split)
            told = f"{path.name} is unpacked into danlu's cache and read as a folder"
            return replace(raw, notices=(told, *raw.notices))
        return load_file(path, options, split)
    near = nearest(name, names())
    hint = f"did you mean {near!r}?" if near else f"known names are {', '.join(names())}"
    raise DataError(wrong("source", name, "is no known name, file or folder", hint))
