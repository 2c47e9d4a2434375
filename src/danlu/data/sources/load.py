"""`load`: from a name, a path or arrays to `Data`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.data.data import Data
from danlu.data.memmap import parse_bytes
from danlu.data.parts import PARTS, part_of
from danlu.data.raw import Raw
from danlu.data.schema import Schema
from danlu.data.sources import bundled, idx, records, synthetic, text
from danlu.data.sources.download import Remote, data_folders, find_or_fetch
from danlu.data.sources.from_python import from_python
from danlu.data.sources.options import refuse_unused
from danlu.errors import DataError, nearest, wrong


@dataclass(frozen=True)
class Known:
    """A published data set: its files and class names."""

    classes: tuple[str, ...]
    files: tuple[Remote, ...] = ()


def _idx(hosts: tuple[str, ...], *md5: str) -> tuple[Remote, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(Remote(f"{n}-ubyte.gz", m, hosts) for n, m in zip(names, md5, strict=True))


_DIGITS = tuple("0123456789")
_CLOTHES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
KNOWN = {
    "mnist": Known(_DIGITS, _idx(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c")),
    "fashion-mnist": Known(_CLOTHES, _idx(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310")),
    "fashion-mnist-3600": Known(_CLOTHES),
    "cifar10": Known(("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")),
}  # fmt: skip


TEXTS = {
    "tinyshakespeare": "tinyshakespeare.txt",
    "timemachine": "timemachine.txt",
    "resume-ner": "train.char.bmes, dev.char.bmes and test.char.bmes",
}


def names() -> list[str]:
    """Every source that goes by a name."""
    return sorted({*bundled.SETS, "prose", *synthetic.MADE, *KNOWN, *TEXTS})


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
    tokens: str | None = None,
    vocabulary: int | None = None,
    length: int | None = None,
    lines: bool = False,
    encoding: str | None = None,
    like: Schema | None = None,
) -> Data:
    """Read a source and split it into training, validation and test parts.

    source: a name (`digits`, `iris`, `wine`, `breast-cancer`, `diabetes`, `mnist`, `fashion-mnist`, `cifar10`; text:
        `prose`, `names`, `dna`, `agreement`, `dates`, `spelling`, and where their files are `tinyshakespeare`, `timemachine`,
        `resume-ner`), a folder of IDX files, a folder of pictures by class,
        a CSV/TSV/Parquet file, running text (.txt, or a folder of such), tagged text (.bmes, .bio, .conll, or a folder of
        such), labelled text or pairs (CSV, JSONL), `hub:owner/name`, arrays (x, y), a dictionary {"train": (x, y), "test":
        (x, y)}, a data frame, or a PyTorch dataset; texts as (texts, labels), with task="pairs" as (sources, targets), as
        (tokens of each sentence, tags of each), or as a list of documents.
    target: the column to predict. task: "classification" or "regression" where the target leaves it open; "pairs" for a
        table of two columns of text, "text" for labelled text.
    resize: height and width to bring pictures to. mode: "L" (grey) or "RGB".
    split: shares such as "60/20/20" (train/valid/test) or "70/30" (train/test). Without it the notes' rule
        decides by the amount of data (running text is cut 80/10/10), and a source's own test part stays the test part.
    valid: False for no validation part. seed: of the shuffle, which running text does without.
    limit: at most so many training examples.
    memory: larger data are mapped from disk, such as "2GB" (half of this machine's memory).
    missing: "drop" leaves out rows with missing cells; without it they are refused.
    Of text – tokens: chars (default), words or bpe. vocabulary: at most so many tokens. length: tokens in a window of
    running text (128), or the most an example may have (1,024). lines: whether each line of running text is a text of
    its own. encoding: of files (utf-8). like: the schema of a trained run, by whose vocabulary, classes and windows a
    text is read; all of it is the test part.

    Raises DataError, one sentence per mistake.
    """
    options = _options(target, task, mode, resize, missing, memory, length, vocabulary)
    of_text = {
        "tokens": tokens,
        "vocabulary": vocabulary,
        "length": length,
        "lines": lines or None,
        "encoding": encoding,
    }
    options |= of_text
    whole = like is not None and like.is_text
    if like is not None and whole:
        refuse_unused({"tokens": tokens, "vocabulary": vocabulary}, (), "a run's own vocabulary")
        options |= {"like": like}
    if isinstance(source, (str, Path)):
        raw, name = _from_name(str(source), options, split), str(source)
        if name not in names() and os.path.exists(Path(name).expanduser()):
            name = str(Path(name).expanduser().resolve())  # so that the run finds it from anywhere
    else:
        raw, name = from_python(source, options, split), type(source).__name__
    told: dict[str, Any] = {
        "source": name,
        "target": target,
        "task": task,
        "resize": options["resize"],
        "mode": mode,
    }
    told |= {"split": split, "valid": valid, "seed": seed, "limit": limit, "memory": memory}
    told |= {"missing": options["missing"], **of_text}
    if raw.schema.task == "language":
        if seed:
            raise DataError(
                wrong("seed", seed, "must be left out: running text is cut in order, not shuffled")
            )
        split = None  # the text was cut where it was read
    return Data.from_raw(
        raw,
        {k: v for k, v in told.items() if v is not None},
        split,
        valid,
        seed,
        limit,
        isinstance(source, (str, Path)),
        whole,
    )


def _options(
    target: str | None,
    task: str | None,
    mode: str | None,
    resize: Any,
    missing: str | None,
    memory: str | int | None,
    length: int | None,
    vocabulary: int | None,
) -> dict[str, Any]:
    """What every source is told; all mistakes at once."""
    choices: dict[str, tuple[str | None, tuple[str, ...]]] = {
        "task": (task, ("classification", "regression", "text", "pairs")),
        "mode": (mode, ("L", "RGB")),
        "missing": (missing, ("refuse", "drop")),
    }
    mistakes = [
        wrong(k, v, f"must be {', '.join(of[:-1])} or {of[-1]}")
        for k, (v, of) in choices.items()
        if v not in (None, *of)
    ]
    options: dict[str, Any] = {
        "target": target,
        "task": task,
        "mode": mode,
        "missing": "drop" if missing == "drop" else None,
    }
    sizes = (("length", length), ("vocabulary", vocabulary))
    mistakes += [
        wrong(k, v, "must be a whole number")
        for k, v in sizes
        if v is not None and type(v) is not int
    ]
    mistakes += [wrong(k, v, "must be at least 1") for k, v in sizes if type(v) is int and v < 1]
    readers: tuple[tuple[str, Any, Any], ...] = (
        ("resize", _size, resize),
        ("budget", parse_bytes, memory),
    )
    for name, read, value in readers:
        try:
            options[name] = read(value)
        except DataError as e:
            mistakes += e.mistakes
    if mistakes:
        raise DataError(*mistakes)
    return options


def _size(resize: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if resize is None:
        return None
    sides = (resize, resize) if isinstance(resize, int) else resize
    if (
        not isinstance(sides, (tuple, list))
        or len(sides) != 2
        or not all(isinstance(s, int) for s in sides)
    ):
        raise DataError(
            wrong("resize", resize, "must be a number of pixels, or height and width", "try 28")
        )
    h, w = sides
    if not (1 <= h <= 4096 and 1 <= w <= 4096):
        raise DataError(wrong("resize", resize, "must lie between 1 and 4096 pixels", "try 28"))
    return h, w


def _from_name(name: str, options: dict[str, Any], split: Any) -> Raw:
    if not name.strip():
        raise DataError(wrong("source", name, "must be a name, a file or a folder", "try digits"))
    if name in bundled.SETS:
        raw = bundled.load(name)
        refuse_unused(
            options, ("missing", "resize") if raw.schema.is_image else ("missing",), repr(name)
        )
        return _resized(raw, options["resize"])
    if name == "prose":
        refuse_unused(options, ("tokens", "vocabulary", "length", "lines", "missing"), repr(name))
        return synthetic.prose(options, split)
    if name in synthetic.MADE:
        refuse_unused(options, ("tokens", "vocabulary", "length", "missing"), repr(name))
        return synthetic.MADE[name](options)
    if name in TEXTS:
        return _from_texts(name, options, split)
    if name.startswith("hub:"):
        from danlu.data.sources import parquet

        name = name.removeprefix("hub:")
        return parquet.from_arrow(parquet.hub_parts(name), name, (), shares=split, **options)
    if name in KNOWN:
        return _from_known(name, KNOWN[name], options)
    path = Path(name).expanduser()
    if os.path.isdir(path):  # false of a name too long for a file, where a path's own raises
        return _from_folder(path, options, split)
    if os.path.isfile(path):
        return _from_file(path, options, split)
    near = nearest(name, names())
    hint = f"did you mean {near!r}?" if near else f"known names are {', '.join(names())}"
    name = name if len(name) < 80 else f"{name[:77]}…"
    raise DataError(f"`source` is {name!r}, but is no known name, file or folder; {hint}")


def _from_known(name: str, known: Known, options: dict[str, Any]) -> Raw:
    here = next((f for f in data_folders(name) if f.is_dir() and any(f.iterdir())), None)
    if known.files:
        _refuse_for_idx(options)  # before anything is fetched
    if known.files and (here is None or not idx.find(here)):
        here = find_or_fetch(name, known.files)
    if here and idx.find(here):
        return _from_idx(here, known.classes, options)
    from danlu.data.sources import parquet

    if here and (files := _parquet(here)):
        return parquet.load_parquet(files, known.classes, **options)
    if name == "cifar10":
        try:
            parts = parquet.hub_parts("uoft-cs/cifar10")
        except DataError:
            pass
        else:
            return parquet.from_arrow(parts, name, known.classes, **options)
    places = " or ".join(str(p) for p in data_folders(name))
    what = (
        "the Parquet files of the hub's uoft-cs/cifar10"
        if name == "cifar10"
        else "its four IDX files"
    )
    raise DataError(
        f"{name!r} is not on this machine and could not be fetched; put {what} into {places}"
    )


def _parquet(folder: Path) -> dict[str, list[Path]]:
    """Parquet files of a folder by part, as the hub names them."""
    found: dict[str, list[Path]] = {}
    for f in sorted(folder.rglob("*.parquet")):
        word = re.split(r"[^a-z]", f.name.lower())[0]
        prefixes = [p for p in PARTS if word.startswith(p)]  # also trainset-0.parquet
        part = part_of(word) or next(iter(prefixes), "all")
        found.setdefault(part, []).append(f)
    return found


def _from_texts(name: str, options: dict[str, Any], split: Any) -> Raw:
    """A published text: a file or a folder of that name, also under `text`."""
    places = [
        p for folder in data_folders(name) for p in (folder, folder.parent / "text" / f"{name}.txt")
    ]
    here = next((p for p in places if p.exists()), None)
    if here is None:
        raise DataError(f"{name!r} is not on this machine; put {TEXTS[name]} into {places[0]}")
    return _from_folder(here, options, split) if here.is_dir() else _from_file(here, options, split)


def _from_text_files(files: Sequence[Path], name: str, options: dict[str, Any], split: Any) -> Raw:
    refuse_unused(options, text.RUNNING, "running text")
    parts = text.parts_of(files, name) if len(files) > 1 else {"all": files}
    return text.language_model_text(
        {p: [text.read(f, options["encoding"]) for f in of] for p, of in parts.items()},
        name,
        options,
        split,
    )


def _from_folder(path: Path, options: dict[str, Any], split: Any) -> Raw:
    from danlu.data.sources import images, tagged

    if not any(path.iterdir()):
        raise DataError(f"{str(path)!r} is an empty folder; it needs {images.KINDS}")
    if idx.find(path):
        return _from_idx(path, KNOWN[path.name].classes if path.name in KNOWN else (), options)
    if files := _parquet(path):
        from danlu.data.sources import parquet

        return parquet.load_parquet(files, (), shares=split, **options)
    if found := tagged.files(path):
        refuse_unused(options, text.OPTIONS, "tagged text")
        return tagged.load(found, options)
    if texts := sorted(p for p in path.iterdir() if p.suffix.lower() == ".txt"):
        return _from_text_files(texts, path.name, options, split)
    refuse_unused(options, ("missing", "resize", "mode"), "a folder of pictures")
    return images.load_folder(path, options["mode"], options["resize"], options["budget"])


def _refuse_for_idx(options: dict[str, Any]) -> None:
    refuse_unused(options, ("missing", "resize"), "IDX files of grey pictures")


def _from_idx(folder: Path, classes: tuple[str, ...], options: dict[str, Any]) -> Raw:
    _refuse_for_idx(options)
    return idx.load(folder, classes, options["resize"], options["budget"])


def _from_file(path: Path, options: dict[str, Any], split: Any) -> Raw:
    from danlu.data.sources import tagged

    kind, told = path.suffix.lower(), options["target"] or options["task"]
    if kind == ".parquet":
        from danlu.data.sources import parquet

        return parquet.load_parquet({"all": [path]}, (), shares=split, **options)
    if kind == ".txt" and not told:
        return _from_text_files([path], path.name, options, split)
    if kind in tagged.SUFFIXES:
        refuse_unused(options, text.OPTIONS, "tagged text")
        return tagged.load({"all": [path]}, options)
    if kind == ".jsonl":
        refuse_unused(options, (*text.OPTIONS, "target", "task"), "JSON lines")
        return records.from_records(path, options)
    if kind == ".tsv" and (options["task"] == "pairs" or records.asks_pairs(options)):
        refuse_unused(options, (*text.OPTIONS, "task"), "pairs")
        return records.from_pairs(path, options)
    if kind in (".csv", ".tsv", ".txt"):
        return records.from_table(path, options)
    kinds = ".csv, .tsv, .parquet, .jsonl, .txt, .bmes, .bio, .conll, or a folder"
    raise DataError(f"{path.name} is of no kind that can be read; use {kinds}")


def _resized(raw: Raw, size: tuple[int, int] | None) -> Raw:
    if size is None or not raw.schema.is_image:
        return raw
    from danlu.data.sources.images import resize_array

    schema = Schema(**{**raw.schema.__dict__, "input_shape": (raw.x.shape[1], *size)})
    return Raw(resize_array(raw.x, size), raw.y, schema, raw.official_test, raw.official_valid)
