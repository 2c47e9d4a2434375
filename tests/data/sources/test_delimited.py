"""Tables in text files: separators, names of columns, packing, encodings, odd lines."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import quietly, refused

from danlu.data.sources.delimited import read_delimited

N = 30
HEAD = ["size", "colour", "kind"]
ROWS = [[f"{k}.5", ("red", "blue")[k % 2], "xyz"[k % 3]] for k in range(N)]


def written(separator: str, head: bool = True, end: str = "\n") -> str:
    return end.join(separator.join(row) for row in ([HEAD] if head else []) + ROWS) + end


def frame_of(text: str, **options: str) -> pd.DataFrame:
    frame, _, _ = read_delimited(text, "t.csv", **options)
    return frame


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "  ", "::"])
@pytest.mark.parametrize("head", [True, False], ids=["names", "no names"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_a_table_is_the_same_however_it_is_written(separator: str, head: bool, end: str) -> None:
    frame, notices, _ = read_delimited(written(separator, head, end), "t.data")
    assert frame.to_numpy().tolist() == ROWS
    assert list(frame.columns) == (HEAD if head else ["c1", "c2", "c3"])
    told = " ".join(notices)
    assert ("is separated by" in told) == (separator != ",")
    assert ("is read as a row" in told) == (not head)


PACKINGS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": lambda content: zipped(content),
}


def zipped(content: bytes, name: str = "inner.csv") -> bytes:
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("__MACOSX/._inner.csv", b"\0\1")
    return file.getvalue()


@pytest.mark.parametrize("suffix", PACKINGS)
def test_packed_tables_are_unpacked(suffix: str, tmp_path: Path) -> None:
    plain, packed = tmp_path / "t.csv", tmp_path / f"t.csv{suffix}"
    plain.write_text(written(","))
    packed.write_bytes(PACKINGS[suffix](plain.read_bytes()))
    want = quietly(plain, target="kind")
    assert quietly(packed, target="kind").fingerprint == want.fingerprint
    packed.write_bytes(packed.read_bytes()[:40])
    assert "is damaged and cannot be unpacked" in refused(packed, target="kind")


def test_an_archive_of_tables_that_are_no_parts_asks_which(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "a,b\n1,2\n")
        archive.writestr("b.csv", "a,b\n1,2\n")
    assert "a.csv, b.csv" in refused(path)


@pytest.mark.parametrize(
    ("encoding", "name", "word"),
    [
        ("utf-8", None, "café"),
        ("utf-8-sig", None, "café"),
        ("utf-16", "utf-16", "café"),
        ("utf-16-le", "utf-16", "cafe"),
        ("gb18030", "gb18030", "红色"),
        ("latin-1", "latin-1", "café"),
        ("cp1252", "latin-1 (windows-1252)", "“café”"),
    ],
)
def test_encodings_are_tried_in_turn_and_told(
    encoding: str, name: str | None, word: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(written(",").replace("red", word).encode(encoding))
    data = quietly(path, target="kind")
    assert word in data.schema.columns[1].levels
    told = [notice for notice in data.notices if "is read as" in notice]
    want = [] if name is None else [f"t.csv is read as {name}; --encoding reads it otherwise"]
    assert told == want


def test_names_are_told_from_rows() -> None:
    years = "country,1960,1961\n" + "\n".join(f"land{k % 4},{k}.5,{k}.7" for k in range(20))
    assert frame_of(years).columns[0] == "c1"  # nothing tells numbers from names here…
    assert list(frame_of(years, header="first").columns) == ["country", "1960", "1961"]
    mushrooms = "\n".join("pxs"[k % 3] + ",x,s" for k in range(20))
    assert frame_of(mushrooms).shape == (20, 3)
    texts = "\n".join(
        f"sentence number {k} of many\t{'pos' if k % 2 else 'neg'}" for k in range(20)
    )
    assert frame_of(texts).shape == (20, 2)
    unnamed = ",a,b\n" + "\n".join(f"{k},{k}.5,x" for k in range(20))
    assert list(frame_of(unnamed).columns) == ["", "a", "b"]
    r = "a,b\n" + "\n".join(f"row{k},{k}.5,{k}.7" for k in range(20))
    assert list(frame_of(r).columns) == ["", "a", "b"]
    _, notices, _ = read_delimited("Hello\tBonjour\nGood day\tSalut\n", "t.txt", "tab")
    assert "read as names; --header none takes it as a row" in " ".join(notices)


def test_remarks_above_a_table_are_skipped_and_told() -> None:
    text = "# made by a machine\n\nTitle of the table\n" + written(",")
    frame, notices, _ = read_delimited(text, "t.csv")
    assert list(frame.columns) == HEAD and len(frame) == N
    assert "2 lines at the beginning of t.csv left out as remarks" in notices
    assert list(frame_of("# " + written(",")).columns) == HEAD
    assert frame_of("|1x3 Cross validator\n" + written(", ", head=False)).shape == (N, 3)


def test_odd_lines_are_read_or_refused_by_their_number() -> None:
    assert list(frame_of("a,a,b,a\n" + "1,2,3,4\n" * 9).columns) == ["a", "a.1", "b", "a.2"]
    trailing = "a;b\n" + "1,5;2,5;\n" * 20
    assert frame_of(trailing).shape == (20, 3)
    frame, notices, _ = read_delimited(written(",") + "7.5\n", "t.csv")
    assert frame.iloc[-1].fillna("").tolist() == ["7.5", "", ""]
    assert "1 row of t.csv with fewer cells than the others" in notices[0]
    quoted = written(",").replace("red", '"red, or so"')
    assert frame_of(quoted).iloc[0].tolist() == ["0.5", "red, or so", "x"]
    sms = "\n".join(f'{"spam" if k % 2 else "ham"}\tsay "hello {k} to me' for k in range(30))
    assert frame_of(sms).iloc[3].tolist() == ["spam", 'say "hello 3 to me']
    exported = "\n".join('"' + line.replace('"', '""') + '"' for line in written(";").splitlines())
    assert list(frame_of(exported).columns) == HEAD


cells = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Z")), max_size=8)


@given(st.lists(st.tuples(st.integers(-99, 99), cells, cells), min_size=12, max_size=30))
def test_what_pandas_writes_is_read_back(rows: list[tuple[int, str, str]]) -> None:
    frame = pd.DataFrame(rows, columns=["n", "a", "b"])
    for separator in (",", ";", "\t"):
        text = frame.to_csv(index=False, sep=separator)
        read, _, _ = read_delimited(text, "t.csv", separator, "first")
        assert read["n"].astype(int).tolist() == frame["n"].tolist()
        assert read["a"].fillna("").tolist() == frame["a"].tolist()
        assert read["b"].fillna("").tolist() == frame["b"].tolist()


def test_other_kinds_of_files_give_the_same_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60).astype(np.float32), "c": ["x", "y", "z"] * 20})
    frame["label"] = [0, 1] * 30
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_feather(tmp_path / "t.feather")
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True, double_precision=15)
    frame.to_json(tmp_path / "t.json", orient="records", double_precision=15)
    want = quietly(tmp_path / "t.csv")
    for name in ("t.parquet", "t.feather", "t.jsonl", "t.json"):
        data = quietly(tmp_path / name)
        assert data.schema.classes == want.schema.classes, name
        assert np.allclose(data.x.numpy(), want.x.numpy(), atol=1e-6), name


def test_arrays_of_files_are_found_by_their_names(tmp_path: Path) -> None:
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), np.arange(60) % 3
    np.savez(tmp_path / "t.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    data = quietly(tmp_path / "t.npz")
    assert data.size("test") == 20 and data.schema.classes == ("0", "1", "2")
    savemat(tmp_path / "t.mat", {"X": x, "y": y[:, None], "about": "made"})
    assert quietly(tmp_path / "t.mat").x.shape == (60, 4)
    np.savez(tmp_path / "u.npz", first=x, second=y)
    assert "u.npz holds first (60, 4), second (60,), but no pair such as x and y" in refused(
        tmp_path / "u.npz"
    )
    pictures = rng.integers(0, 255, (30, 8, 9, 3), dtype=np.uint8)
    np.savez(tmp_path / "p.npz", images=pictures, labels=np.arange(30) % 2)
    found = quietly(tmp_path / "p.npz")
    assert found.schema.input_shape == (3, 8, 9)
    assert np.array_equal(found.x[4].numpy(), pictures[4].transpose(2, 0, 1))
    np.savez(tmp_path / "o.npz", x=np.array([{}]), y=np.arange(1), allow_pickle=True)
    assert "o.npz cannot be read" in refused(tmp_path / "o.npz")


@pytest.mark.parametrize(("separator", "first"), [(";", 1.25), (",", 1250.0)])
def test_a_comma_before_three_digits_is_decimal_where_semicolons_separate(
    separator: str, first: float, tmp_path: Path
) -> None:
    rows = [f'"{1 + k},250"{separator}{"ab"[k % 2]}' for k in range(40)]
    (tmp_path / "t.csv").write_text("\n".join([f"price{separator}kind", *rows]))
    data = quietly(str(tmp_path / "t.csv"), target="kind")
    assert min(data.x[:, 0].tolist()) == first
