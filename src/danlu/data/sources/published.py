"""Data sets that go by a name: where their files are, and who hosts them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from danlu.data.raw import Raw
from danlu.data.sources import bundled, idx, parquet, synthetic, text
from danlu.data.sources.download import Remote, data_folders, find_or_fetch
from danlu.data.sources.options import Options, refuse_unused
from danlu.errors import DataError


@dataclass(frozen=True)
class Known:
    """A published data set: its files and class names."""

    classes: tuple[str, ...]
    files: tuple[Remote, ...] = ()


_IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def _idx_files(hosts: tuple[str, ...], *md5: str) -> tuple[Remote, ...]:
    files = []
    for name, digest in zip(_IDX_FILES, md5, strict=True):
        files.append(Remote(f"{name}-ubyte.gz", digest, hosts))
    return tuple(files)


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
    "mnist": Known(_DIGITS, _idx_files(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c")),
    "fashion-mnist": Known(_CLOTHES, _idx_files(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310")),
    "fashion-mnist-3600": Known(_CLOTHES),
    "cifar10": Known(
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")),
}  # fmt: skip
TEXTS = {
    "tinyshakespeare": "tinyshakespeare.txt",
    "timemachine": "timemachine.txt",
    "resume-ner": "train.char.bmes, dev.char.bmes and test.char.bmes",
}
_OF_IDX = ("missing", "resize")


def names() -> list[str]:
    """Return every source that goes by a name."""
    return sorted({*bundled.SETS, *synthetic.MADE, "prose", *KNOWN, *TEXTS})


def load_small(name: str, options: Options, split: object) -> Raw | None:
    """Return a set that needs no file of its own; None where the name is of no such set."""
    if name in bundled.SETS:
        raw = bundled.load(name)
        used = ["missing"]
        if raw.schema.is_image:
            used.append("resize")
        refuse_unused(options, used, repr(name))
        return _resized(raw, options["resize"])
    if name == "prose":
        refuse_unused(options, (*text.OPTIONS, "lines"), repr(name))
        return synthetic.prose(options, split)
    if name in synthetic.MADE:
        refuse_unused(options, ("tokens", "vocabulary", "length", "missing"), repr(name))
        return synthetic.MADE[name](options)
    return None


def _resized(raw: Raw, size: tuple[int, int] | None) -> Raw:
    if size is None or not raw.schema.is_image:
        return raw
    from danlu.data.sources.images import resize_array

    schema = replace(raw.schema, input_shape=(raw.x.shape[1], *size))
    return replace(raw, x=resize_array(raw.x, size), schema=schema)


def load_known(name: str, options: Options) -> Raw:
    """Return a published set of pictures, fetched where it is not here. Raises DataError."""
    known = KNOWN[name]
    here = next((f for f in data_folders(name) if f.is_dir() and any(f.iterdir())), None)
    if known.files:
        # Before anything is fetched.
        refuse_unused(options, _OF_IDX, "IDX files of grey pictures")
        if here is None or not idx.find(here):
            here = find_or_fetch(name, known.files)
    if here and idx.find(here):
        return load_idx(here, options)
    if here and (files := parquet.files_of(here)):
        return parquet.load_parquet(files, known.classes, options)
    if name == "cifar10":
        try:
            parts = parquet.hub_parts("uoft-cs/cifar10")
        except DataError:
            pass
        else:
            return parquet.from_arrow(parts, name, known.classes, options)
    places = " or ".join(str(folder) for folder in data_folders(name))
    what = "its four IDX files"
    if name == "cifar10":
        what = "the Parquet files of the hub's uoft-cs/cifar10"
    raise DataError(
        f"{name!r} is not on this machine and could not be fetched; put {what} into {places}"
    )


def load_idx(folder: Path, options: Options) -> Raw:
    """Return IDX files of pictures, with the class names of a folder that bears a known name."""
    refuse_unused(options, _OF_IDX, "IDX files of grey pictures")
    known = KNOWN.get(folder.name)
    classes = known.classes if known else ()
    return idx.load(folder, classes, options["resize"], options["budget"])


def find_text(name: str) -> Path:
    """Return a published text: a file or a folder of that name. Raises DataError."""
    places: list[Path] = []
    for folder in data_folders(name):
        places += [folder, folder.parent / "text" / f"{name}.txt"]
    here = next((place for place in places if place.exists()), None)
    if here is None:
        raise DataError(f"{name!r} is not on this machine; put {TEXTS[name]} into {places[0]}")
    return here
