"""Files of every kind that `load` reads: good ones to be spoilt, and hostile ones."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
from data.samples import make_pictures, write_idx
from scipy.io import savemat

Builder = Callable[[Path], Path]
N = 40
_WORDS = ["some", "words", "that", "are", "no", "other", "ones"]


def _table() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {"a": rng.random(N), "b": ["x", "y"] * (N // 2), "label": ["u", "v"] * (N // 2)}
    )


def _texts() -> list[dict[str, str]]:
    texts = [" ".join(_WORDS[i % 7 : i % 7 + 4]) + f" {i}" for i in range(N)]
    return [{"text": text, "label": "uv"[i % 2]} for i, text in enumerate(texts)]


def written(name: str, content: str | bytes) -> Builder:
    """Return a builder of one file."""

    def build(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return build


def made(name: str, make: Callable[[Path], Any]) -> Builder:
    """Return a builder of one file by what writes it."""

    def build(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return build


def _csv(separator: str = ",") -> str:
    frame = _table().to_pandas()
    return str(frame.to_csv(index=False, sep=separator))


def _jsonl() -> str:
    return "".join(json.dumps(row) + "\n" for row in _texts())


def _npz(path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.random((N, 3)), y=np.arange(N) % 2)


def _mat(path: Path) -> None:
    savemat(path, {"x": np.random.default_rng(0).random((N, 3)), "y": np.arange(N) % 2})


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = np.random.default_rng(0).random((N, 3))
        file["y"] = np.arange(N) % 2


def _pictures(folder: Path) -> Path:
    make_pictures(folder / "pictures", 8)
    return folder / "pictures"


def _idx(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        write_idx(
            folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 255, (N, 6, 6), np.uint8)
        )
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", (np.arange(N) % 2).astype(np.uint8))
    return folder


def _picture_table(path: Path) -> None:
    make_pictures(path.parent / "of", 8)
    files = sorted((path.parent / "of").rglob("*.png"))
    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    table = pa.table({"image": cells, "label": [i % 2 for i in range(len(cells))]})
    features = {"label": {"names": ["u", "v"], "_type": "ClassLabel"}}
    pq.write_table(_noted(table, {"huggingface": {"info": {"features": features}}}), path)
    shutil.rmtree(path.parent / "of")


def _noted(table: pa.Table, notes: dict[str, Any]) -> pa.Table:
    return table.replace_schema_metadata({key: json.dumps(note) for key, note in notes.items()})


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.csv", _csv())


def _tar(path: Path) -> None:
    pictures = _pictures(path.parent)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(pictures, "pictures")
    shutil.rmtree(pictures)  # what is to be spoilt is the archive


_TAGGED = "".join(f"w{i} {'B-x' if i % 3 else 'O'}\n" + "\n" * (i % 4 == 3) for i in range(200))
GOOD: dict[str, Builder] = {
    "csv": written("t.csv", _csv()),
    "tsv": written("t.tsv", _csv("\t")),
    "csv.gz": written("t.csv.gz", gzip.compress(_csv().encode())),
    "zip": made("t.zip", _zip),
    "tar": made("pictures.tar.gz", _tar),
    "jsonl": written("t.jsonl", _jsonl()),
    "json": written("t.json", json.dumps(_texts())),
    "arff": written(
        "t.arff",
        "@relation t\n@attribute a numeric\n@attribute label {u,v}\n@data\n"
        + "".join(f"{i},{'uv'[i % 2]}\n" for i in range(N)),
    ),
    "libsvm": written("t.svm", "".join(f"{i % 2} 1:{i % 7} 3:{i % 5}\n" for i in range(N))),
    "running text": written("t.txt", "".join(f"line {i} of a text\n" for i in range(N))),
    "tagged": written("t.bio", _TAGGED),
    "parquet": made("t.parquet", lambda path: pq.write_table(_table(), path)),
    "feather": made("t.feather", lambda path: feather.write_feather(_table(), path)),
    "parquet of pictures": made("t.parquet", _picture_table),
    "npz": made("t.npz", _npz),
    "mat": made("t.mat", _mat),
    "hdf5": made("t.h5", _hdf5),
    "xlsx": made("t.xlsx", lambda path: _table().to_pandas().to_excel(path, index=False)),
    "pictures": _pictures,
    "idx": _idx,
}


def _linked(folder: Path) -> Path:
    pictures = _pictures(folder)
    (pictures / "cat" / "self.png").symlink_to("self.png")
    (pictures / "cat" / "nothing.png").symlink_to("/nowhere/x.png")
    (pictures / "cat" / "up").symlink_to("..")
    (pictures / "c").symlink_to("c")
    os.mkfifo(pictures / "dog" / "pipe.png")
    return pictures


def _many_labels(folder: Path) -> Path:
    _idx(folder)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">II", 0x801, 1 << 30))
        for _ in range(1 << 6):
            file.write(bytes(1 << 24))
    return folder


def _zipped(block: bytes, times: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(times):
                file.write(block)

    return make


def _with_notes(notes: dict[bytes, bytes]) -> Callable[[Path], None]:
    table = _table().replace_schema_metadata(notes)
    return lambda path: pq.write_table(table, path)


def _of_cells(values: list[Any]) -> Callable[[Path], None]:
    cells = pa.table({"image": [{"bytes": value, "path": "p"} for value in values]})
    table = cells.append_column("label", pa.array(["u", "v"] * (len(values) // 2)))
    return lambda path: pq.write_table(table, path)


def _many_rows(path: Path) -> None:
    rows = 20_000_000
    column = pa.array(np.zeros(rows, np.int8))
    pq.write_table(pa.table({"x": column, "label": column}), path, compression="zstd")


def _empty_terabytes(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (1_000_000_000, 1000), chunks=True)  # of zeros, none written
        file["y"] = np.arange(N) % 2


def _elsewhere(path: Path, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (N, 4), dtype="u1", **options)
        file["y"] = np.arange(N) % 2


def _virtual(path: Path) -> None:
    _elsewhere(path.parent / "other.h5")
    layout = h5py.VirtualLayout((N, 4), dtype="u1")
    layout[:] = h5py.VirtualSource(path.parent / "other.h5", "x", (N, 4))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)
        file["y"] = np.arange(N) % 2


def _far_cell(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for i in range(N):
        book.active.append([i, "uv"[i % 2]])
    book.active.cell(1_048_576, 16_384, 1)
    book.save(path)


def _long_list(path: Path) -> None:
    values = pa.array(np.zeros(200_000_000, np.int8))
    column = pa.ListArray.from_arrays(pa.array([0, 0, len(values)], pa.int32()), values)
    pq.write_table(pa.table({"x": column, "label": [0, 1]}), path, compression="zstd")


def _locked(path: Path) -> None:
    _zip(path)
    content = bytearray(path.read_bytes())
    content[6] |= 1  # what says that a password is needed, before the file and in the index
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def _long_header(path: Path) -> None:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("t.csv")
        member.pax_headers = {"comment": "x" * 50_000_000}
        archive.addfile(member)


def _many_parts(folder: Path) -> Path:
    rows = 2_000_000
    column = pa.array(np.zeros(rows, np.int8))
    for number in range(4):
        table = pa.table({"x": column, "label": column})
        pq.write_table(table, folder / f"{number}.parquet", compression="zstd")
    return folder


def _half(label: str) -> str:
    rows = [{"x": i, "label": label if i % 2 else "u"} for i in range(N)]
    return "".join(json.dumps(row) + "\n" for row in rows)


_DEEP = b"[" * 100_000 + b"]" * 100_000
_LONG_ROW = json.dumps({"text": "x y z " * 1_000_000, "label": "u"})
# What each is, how it is loaded, and what is said of it; "" where it is read.
HOSTILE: dict[str, tuple[Builder, dict[str, Any], str]] = {
    "CR in CSV": (
        written("t.csv", "a,b,label\r\n" + "".join(f"{i},{i}\r{i},{'uv'[i % 2]}\n" for i in range(N))),
        {},
        "",
    ),
    "CR in a quoted cell": (written("t.csv", 'a,b,label\n1,"x\ry",0\n2,z\r,1\n' * 20), {}, ""),
    "links among pictures": (_linked, {}, ""),
    "2³⁰ labels": (_many_labels, {}, "40 images, but .* has 1,073,741,824 labels"),
    "a table of 100 MB packed": (
        made("t.csv.gz", _zipped(b"1,0\n2,1\n" * (1 << 20), 12)), {}, "takes about 3.7 GB of memory"
    ),
    "2 GB of text packed": (
        made("t.txt.gz", _zipped(b"a" * (1 << 24), 1 << 7)), {}, "unpacked, takes more than 50. MB"
    ),
    "a word of 3 MB": (written("t.txt", "a" * 3_000_000), {"tokens": "bpe"}, ""),
    "a line of 6 MB": (written("t.jsonl", _jsonl() + _LONG_ROW), {}, ""),
    "half a character": (written("t.jsonl", _half("\ud800b")), {}, r"U\+D800, half of a surrogate"),
    "deep JSON": (written("t.jsonl", _jsonl().encode() + _DEEP), {}, "nested too deeply"),
    "deep notes": (
        made("t.parquet", _with_notes({b"huggingface": b'{"info":' + _DEEP + b"}"})), {}, ""
    ),
    "deep notes for pandas": (
        made("t.parquet", _with_notes({b"pandas": b'{"columns":' + _DEEP + b"}"})), {}, ""
    ),
    "notes that lie": (
        made("t.parquet", _with_notes({b"pandas": b'{"index_columns": ["no"], "columns": 3}'})),
        {},
        "",
    ),
    "names that are none": (
        made(
            "t.parquet",
            _with_notes({b"huggingface": b'{"info": {"features": {"label": {"names": [1, {}]}}}}'}),
        ),
        {},
        "",
    ),
    "text for bytes": (made("t.parquet", _of_cells([f"t {i}" for i in range(N)])), {}, "no column"),
    "numbers for bytes": (made("t.parquet", _of_cells(list(range(N)))), {}, "no column"),
    "bytes that are no picture": (made("t.parquet", _of_cells([b"no"] * N)), {}, "no picture"),
    "20 million rows": (made("t.parquet", _many_rows), {}, "takes about 2.8 GB of memory to read"),
    "a million columns": (written("t.csv", "," * 1_000_000 + "\n1"), {}, "1,000,001 columns"),
    "a sparse row of 10⁹ features": (
        written("t.svm", "1 1:1 1000000000:1\n0 1:2\n" * 20), {}, "1,000,000,000 columns"
    ),
    "an array of 800 MB": (
        made("t.npz", lambda path: np.savez_compressed(path, x=np.zeros((1000, 100_000)))),
        {},
        "takes about 800 MB of memory to read",
    ),
    "another file's bytes": (
        made("t.h5", lambda path: _elsewhere(path, external=[("/etc/passwd", 0, 160)])),
        {},
        "lies in other files",
    ),
    "a virtual set": (made("t.h5", _virtual), {}, "lies in other files"),
    "a cell far away": (made("t.xlsx", _far_cell), {}, "takes about 1.2 TB of memory"),
    "long equal cells": (
        made(
            "t.parquet",
            lambda path: pq.write_table(
                pa.table({"text": ["x" * 20_000] * 65_536, "label": [0, 1] * 32_768}), path
            ),
        ),
        {},
        "takes more than 5.. MB",
    ),
    "a list of 200 million": (made("t.parquet", _long_list), {}, "takes about 1.6 GB of memory"),
    "many files of rows": (_many_parts, {}, "up to 1.parquet, takes more than"),
    "a locked archive": (made("t.zip", _locked), {}, "password"),
    "a sparse row of 10¹⁹ features": (
        written("t.svm", "1 0:1 99999999999999999999:1\n" * 20), {}, "cannot be read as LIBSVM"
    ),
    "a long header": (made("t.tar.gz", _long_header), {}, "a header of 50 MB, but may have 1 MB"),
    "a set of terabytes": (made("t.h5", _empty_terabytes), {}, "takes about 4.0 TB of memory"),
}  # fmt: skip
