"""Labelled texts and pairs, from every kind of table; and texts read for a trained run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from samples import quietly, refused

from danlu import Data, load
from danlu.data.vocabulary import EOS, PAD, Vocabulary


def rows(n: int = 80) -> list[tuple[str, str]]:
    return [(f"text number {k} of many", "good" if k % 2 else "bad") for k in range(n)]


def test_labelled_text_is_read_from_csv_jsonl_and_lists(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "\n".join(f"{t},{c}" for t, c in rows()))
    (tmp_path / "t.jsonl").write_text(
        "\n".join(json.dumps({"text": t, "label": c}) for t, c in rows())
    )
    texts, labels = zip(*rows(), strict=True)
    every = [
        load(str(tmp_path / "t.csv")),
        load(str(tmp_path / "t.jsonl")),
        load((list(texts), list(labels))),
    ]
    for data in every:
        assert data.schema.task == "classification" and data.schema.classes == ("bad", "good")
        assert torch.equal(data.x, every[0].x) and torch.equal(data.y, every[0].y)
        assert (
            Vocabulary(data.schema.vocabulary).decode(data.x[3].tolist()) == "text number 3 of many"
        )


def test_frames_parquet_and_the_hub_give_the_same_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `datasets` hands over is built here: labelled text, pairs and running text, with official test parts."""
    import datasets
    import pandas as pd

    from danlu.data.sources import parquet

    monkeypatch.setattr(parquet, "_hub_answers", lambda: True)
    labelled = pd.DataFrame(
        {"text": [f"a good {k} film" * (k % 3 + 1) for k in range(40)], "label": ["yes", "no"] * 20}
    )
    pairs = pd.DataFrame(
        {"from": [f"{k} cats" for k in range(40)], "to": [f"{k} Katzen" for k in range(40)]}
    )
    running = pd.DataFrame(
        {"text": [f"line {k} of a book, and what follows it\n" * 20 for k in range(12)]}
    )
    for frame, task in ((labelled, None), (pairs, "pairs")):
        folder = tmp_path / str(task)
        folder.mkdir()
        frame[:30].to_parquet(folder / "train.parquet")
        frame[30:].to_parquet(folder / "test.parquet")
        parts = datasets.DatasetDict(
            train=datasets.Dataset.from_pandas(frame[:30]),
            test=datasets.Dataset.from_pandas(frame[30:], preserve_index=False),
        )
        monkeypatch.setattr(datasets, "load_dataset", lambda name, parts=parts: parts)
        by_file, by_hub = load(str(folder), task=task), load("hub:owner/name", task=task)
        assert torch.equal(by_file.x, by_hub.x) and torch.equal(by_file.y, by_hub.y)
        assert by_hub.size("test") == by_file.size("test") == 10
        assert by_hub.schema == by_file.schema and by_hub.schema.is_text
        own = load(frame, task=task)
        assert own.schema.task == by_hub.schema.task and len(own.x) == 40
    part = datasets.Dataset.from_pandas(running)
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name: datasets.DatasetDict(train=part, test=part.select(range(3))),
    )
    data = load("hub:owner/book", length=16)
    assert data.schema.task == "language"
    learnt = Vocabulary(data.schema.vocabulary)
    assert "line 2 of a book" in learnt.decode(data.part("test")[0].flatten().tolist())
    assert refused("hub:owner/book", length=16, task="pairs")


def test_a_table_of_categories_is_still_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "colour,label\n" + "\n".join(f"{('red', 'blue')[k % 2]},{k % 3}" for k in range(90))
    )
    assert not load(str(tmp_path / "t.csv")).schema.is_text


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_cells_of_text_stay_as_they_are_written(suffix: str, tmp_path: Path) -> None:
    """01 is not 1, and NA and None are words; only an empty cell is missing."""
    gap, path = {"csv": ",", "tsv": "\t"}[suffix], tmp_path / f"t.{suffix}"
    path.write_text(
        "\n".join(
            gap.join(r)
            for r in [
                ("text", "label"),
                *[("NA", "01"), ("0010 1.50", "None"), ("null", "01")] * 20,
            ]
        )
    )
    data = load(str(path), task="text" if suffix == "tsv" else None)
    learnt = Vocabulary(data.schema.vocabulary)
    assert data.schema.classes == ("01", "None")
    assert {learnt.decode(x[x > 2].tolist()) for x in data.x} == {"NA", "0010 1.50", "null"}
    path.write_text(path.read_text() + f"\n{gap}01\n")
    said = refused(str(path), task="text", missing="refuse")
    assert "row 61 of t." in said and "lacks 'text'" in said


def test_lists_in_tables_are_refused_in_words(tmp_path: Path) -> None:
    texts = [f"sentence number {k}" for k in range(60)]
    path = tmp_path / "t.parquet"
    pd.DataFrame({"text": texts, "label": [[0, 1]] * 60}).to_parquet(path)
    assert "row 1 of t.parquet has a list as 'label', but it must be text" in refused(str(path))
    pd.DataFrame({"tokens": [["a", "b"]] * 60, "ner_tags": [[0, 1]] * 60}).to_parquet(path)
    assert "has a list as 'tokens', but it must be text" in refused(str(path), task="pairs")
    pd.DataFrame({"text": texts, "label": ["a", "b"] * 30, "aside": [[0, 1]] * 60}).to_parquet(path)
    assert load(str(path), task="text").schema.classes == ("a", "b")


def test_class_names_in_a_hub_file_s_metadata_are_used(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )
    rows_of = {
        "text": [f"sentence number {k}" for k in range(60)],
        "label": [k % 2 for k in range(58)] + [-1, -1],
    }
    datasets.Dataset.from_dict(rows_of, features=features).to_parquet(str(tmp_path / "t.parquet"))
    data = load(str(tmp_path / "t.parquet"), missing="drop")
    assert data.schema.classes == ("neg", "pos") and len(data) == 58
    assert data.y.tolist() == [k % 2 for k in range(58)]


def assert_paired(data: Data) -> None:
    learnt, s = Vocabulary(data.schema.vocabulary), data.schema.source
    x, y = data.x[1], data.y[1]
    assert (
        learnt.decode(x[:s].tolist()) == "text number 1 of many"
        and learnt.decode(x[s:].tolist()) == "good"
    )
    assert x[s] == EOS and y[y >= 0].tolist() == [*x[s + 1 :][x[s + 1 :] != PAD].tolist(), EOS]


def test_pairs_are_read_from_tsv_jsonl_and_csv(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in rows()))
    (tmp_path / "t.jsonl").write_text(
        "\n".join(json.dumps({"source": a, "target": b}) for a, b in rows())
    )
    (tmp_path / "t.csv").write_text("source,target\n" + "\n".join(f"{a},{b}" for a, b in rows()))
    for data in (
        load(str(tmp_path / "t.tsv"), task="pairs"),
        load(str(tmp_path / "t.jsonl")),
        load(str(tmp_path / "t.csv"), task="pairs"),
    ):
        assert_paired(data)


def test_lines_that_are_not_pairs_are_refused_by_number(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a\tb\nc\nd\te\tf\n")
    assert "line 3 of t.tsv has 3 cells, but those before it have 2" in refused(
        str(tmp_path / "t.tsv"), task="pairs"
    )
    (tmp_path / "u.tsv").write_text("a\tb\n \tc\n")
    assert "row 2 of u.tsv lacks 'c1'" in refused(
        str(tmp_path / "u.tsv"), task="pairs", missing="refuse"
    )
    (tmp_path / "t.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "a"}\n')
    assert "row 2 of t.jsonl lacks 'target'" in refused(str(tmp_path / "t.jsonl"), missing="refuse")
    (tmp_path / "u.jsonl").write_text('{"text": "a"\n')
    assert "line 1 of u.jsonl is no JSON" in refused(str(tmp_path / "u.jsonl"))


def test_empty_texts_are_refused_and_long_ones_cut(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "text,label\n" + "\n".join(f"{t},{c}" for t, c in rows()) + "\n  ,good\n"
    )
    assert "row 81 of t.csv lacks 'text'" in refused(str(tmp_path / "t.csv"), missing="refuse")
    texts, labels = zip(*rows(), strict=True)
    assert "row 1 of the data has an empty text" in refused(([" ", *texts[1:]], list(labels)))
    data = quietly((["x" * 40, *texts[1:]], list(labels)), length=30)
    assert data.x.shape == (80, 30) and (data.x[0] > 0).all()
    assert (
        "1 text cut after 30 tokens, the first row 1 of the data; the longest has 40, and --length 40 "
        "cuts none"
    ) in data.notices
    (tmp_path / "empty.txt").write_text(" \n")
    assert "empty.txt holds no text" in refused(str(tmp_path / "empty.txt"))
    (tmp_path / "empty.bio").write_text("\n\n")
    assert "holds no sentence" in refused(str(tmp_path / "empty.bio"))


def test_rows_of_text_with_gaps_are_left_out_on_request(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "text,label\n" + "\n".join(f"{t},{c}" for t, c in rows()) + "\n,good\n"
    )
    assert "lacks 'text'; fill it, or leave such rows out with --missing drop" in refused(
        str(tmp_path / "t.csv"), missing="refuse"
    )
    for missing in ("drop", None):
        data = quietly(str(tmp_path / "t.csv"), missing=missing)
        assert len(data) == 80 and data.missing == {"text": 1}
        assert any("1 row without a text or a label left out" in told for told in data.notices)


def test_texts_with_odd_bytes_and_cells_are_read_or_refused_by_line(tmp_path: Path) -> None:
    """Cells as long as books, carriage returns, half characters, lists, line separators, marks at the beginning."""
    long = "long " * 40_000
    (tmp_path / "long.csv").write_text(
        f'text,label\n"{long}",good\n' + "\n".join(f"{t},{c}" for t, c in rows())
    )
    assert "the longest has 200,000" in quietly(str(tmp_path / "long.csv")).notices[-1]
    (tmp_path / "cr.tsv").write_bytes(b"a\rb\tc\nd\te\n" * 20)
    assert load(str(tmp_path / "cr.tsv"), task="pairs").schema.task == "pairs"
    lines = [json.dumps({"text": t, "label": c}) for t, c in rows()]
    for bad, said in (('{"text": "a \\ud800 b", "label": "good"}', "line 81 of t.jsonl holds U+D800, half of a surrogate pair"),
                      ('{"text": ["a"], "label": "good"}', "text (lists)"),
                      ('{"text": "a", "label": {"x": 0}}', "has a table as 'label', but it must be text")):  # fmt: skip
        (tmp_path / "t.jsonl").write_text("\n".join([*lines, bad]))
        assert said in refused(str(tmp_path / "t.jsonl"))
    (tmp_path / "t.jsonl").write_text(
        "\n".join([*lines, '{"text": "one\u2028two", "label": "good"}']), encoding="utf-8"
    )
    data = load(str(tmp_path / "t.jsonl"))
    assert len(data) == 81 and all(type(c) is str for c in data.schema.classes)
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfabcd\xff")
    assert "byte 0xff at offset 7" in refused(str(tmp_path / "bom.txt"))
    assert "is no punycode text" in refused(str(tmp_path / "bom.txt"), encoding="punycode")
    for encoding in ("undefined", "hex"):
        assert "`encoding` is" in refused(str(tmp_path / "bom.txt"), encoding=encoding)


def test_other_data_are_read_by_the_run_s_schema(tmp_path: Path) -> None:
    """Tokens, classes, tags and windows are numbered as there; what it never met is unknown, or refused."""
    (tmp_path / "a.txt").write_text("the cat sat on the mat.\n" * 30)
    (tmp_path / "b.txt").write_text("zzz the mat.\n" * 30)
    own = load(str(tmp_path / "a.txt"), length=20).schema
    other = load(str(tmp_path / "b.txt"), like=own)
    assert other.schema.vocabulary == own.vocabulary and other.schema.input_shape == (20,)
    assert (
        Vocabulary(own.vocabulary)
        .decode(other.x[0, 1:12].tolist())
        .startswith("<unk><unk><unk> the mat")
    )
    assert "must be left out" in refused(str(tmp_path / "b.txt"), like=own, tokens="words")
    texts, labels = (list(t) for t in zip(*rows(), strict=True))
    schema = load((texts, labels)).schema
    some = load((texts[1::2] + texts[:1], labels[1::2] + labels[:1]), like=schema, valid=False)
    assert some.schema.classes == schema.classes
    assert some.y.tolist() == [1] * 40 + [0]
    other = quietly((texts, ["bda"] * 80), like=schema)
    assert int((other.y < 0).sum()) == 80
    assert "80 rows of the data with 'bda', which the run was not trained on" in other.notices[0]
    (tmp_path / "p.tsv").write_text("\n".join(f"{t}\t{c}" for t, c in rows()))
    pairs = load(str(tmp_path / "p.tsv"), task="pairs").schema
    (tmp_path / "q.tsv").write_text("short\tgood\n" * 20)
    assert load(str(tmp_path / "q.tsv"), like=pairs).schema.source == pairs.source
    (tmp_path / "q.tsv").write_text("far longer than any that was there in training\tgood\n" * 20)
    assert load(str(tmp_path / "q.tsv"), like=pairs).schema.source == 46  # as long as they are


def test_a_run_refuses_data_of_another_task(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat on the mat.\n" * 30)
    (tmp_path / "t.bio").write_text("a O\nb B-X\n\n" * 30)
    (tmp_path / "p.tsv").write_text("ab\tba\n" * 30)
    sources = {"language": "a.txt", "tagging": "t.bio", "pairs": "p.tsv"}
    schemas = {
        t: load(str(tmp_path / f), task="pairs" if t == "pairs" else None).schema
        for t, f in sources.items()
    }
    schemas["classification"] = load("dna").schema
    # What a file is depends on the run that reads it, so these are read, or refused by their name.
    assert quietly(str(tmp_path / "t.bio"), like=schemas["language"]).schema.task == "language"
    for task, file in (
        ("tagging", "a.txt"),
        ("pairs", "a.txt"),
        ("classification", "a.txt"),
    ):
        said = refused(str(tmp_path / file), like=schemas[task])
        assert file in said, (task, said)
    assert "trained for tagging of text, but dates is for pairs" in refused(
        "dates", like=schemas["tagging"]
    )
    assert "trained for pairs of text, but data is for tagging" in refused(
        "names", like=schemas["pairs"]
    )


def test_pairs_tags_and_running_text_are_read_from_memory() -> None:
    pairs = load((["ab", "cd"] * 20, ["ba", "dc"] * 20), task="pairs")
    assert pairs.schema.task == "pairs" and pairs.schema.source == 2
    words, tags = (
        [["the", "cat"], ["Rome", "fell", "."]] * 20,
        [["O", "O"], ["B-LOC", "O", "O"]] * 20,
    )
    tagged = load((words, tags))
    assert (
        tagged.schema.scheme == "bio"
        and tagged.schema.spaced
        and tagged.targets("train") + tagged.targets("test") < 100
    )
    assert (
        load((words, tags), like=tagged.schema).y.eq(tagged.schema.classes.index("B-LOC")).sum()
        == 20
    )
    running = load(["the cat sat. " * 20] * 10, length=16)
    assert running.schema.task == "language" and int((running.y == EOS).sum()) == 10
    assert "token 2 of sentence 1: 'I-X' begins no entity" in refused(
        ([["a", "b"]] * 9, [["O", "I-X"]] + [["B-X", "O"]] * 8), tags="strict"
    )
    assert "the tokens and the tags differ in length" in refused(([["a", "b"]] * 9, [["O"]] * 9))
    assert "sentence 1 has the token ' ', but needs tokens of text without spaces" in refused(
        ([["a", " "]] * 9, [["O", "B-X"]] * 9)
    )
    assert "has the token 'New York'" in refused(([["New York"]] * 9, [["B-X"]] * 9))
    assert "sentence 10 has no token" in refused(([*words[:9], []], [*tags[:9], []]))
    assert "has the tag 1, but needs tags of text" in refused(([["a"]] * 9, [[1]] * 9))
    parts = load(
        {"train": (words, tags), "valid": (words[:4], tags[:4]), "test": (words[:6], tags[:6])}
    )
    assert [parts.size(p) for p in ("train", "valid", "test")] == [40, 4, 6]
    assert load(([np.array(w) for w in words], [np.array(t) for t in tags])).schema.scheme == "bio"
    for bad in ((["a"] * 9, ["b"] * 8), (["a", "b"] * 9, ["c", None] * 9)):
        assert "pairs need as many targets as sources" in refused(bad, task="pairs")
    for bad in (["ab \ud800"] * 9, ([["\ud800"]] * 9, [["B-X"]] * 9)):
        assert "half of a surrogate pair" in refused(bad)
    assert "several shapes" in refused(([[1, 2], [3]], [0, 1]))


def test_json_lines_of_numbers_are_a_table(tmp_path: Path) -> None:
    rows_of = [{"area": k, "rooms": k % 5, "price": 2.5 * k} for k in range(40)]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows_of)))
    data = load(str(tmp_path / "r.jsonl"), target="price")
    assert data.schema.task == "regression" and data.schema.input_shape == (2,)
    assert data.y.tolist() == [2.5 * k for k in range(40)]


def test_a_text_given_as_a_source_is_refused_as_not_a_file() -> None:
    said = refused("the cat sat. " * 50)
    assert "is no known name, file or folder" in said and len(said) < 400


def test_rows_with_gaps_are_left_out_of_official_parts(tmp_path: Path) -> None:
    for part, some in (("train", rows(40)), ("test", [("", "good"), *rows(10)])):
        pd.DataFrame(some, columns=["text", "label"]).to_parquet(tmp_path / f"{part}.parquet")
    data = quietly(str(tmp_path), missing="drop")
    assert data.size("test") == 10 and len(data) == 50 and data.missing == {"text": 1}
    (tmp_path / "t.tsv").write_text("a\tb\n \tc\nd\n" + "e\tf\n" * 20)
    pairs = quietly(str(tmp_path / "t.tsv"), task="pairs", missing="drop")
    assert len(pairs) == 21 and pairs.missing == {"c1": 1, "c2": 1}


def test_a_dictionary_of_texts_names_the_parts() -> None:
    texts, labels = (list(t) for t in zip(*rows(60), strict=True))
    data = load({"train": (texts[:50], labels[:50]), "test": (texts[50:], labels[50:])})
    assert data.schema.is_text and data.size("test") == 10
    learnt = Vocabulary(data.schema.vocabulary)
    assert learnt.decode(data.part("test")[0][0].tolist()) == "text number 50 of many"


def test_options_that_do_not_fit_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "\n".join(f"{t},{c}" for t, c in rows()))
    (tmp_path / "t.txt").write_text("some text\n" * 200)
    assert "`lines` is True, but must be left out" in refused(str(tmp_path / "t.csv"), lines=True)
    assert "`length` is 'ten', but must be a whole number" in refused(
        str(tmp_path / "t.txt"), length="ten"
    )
    assert "`encoding` is 3" in refused(str(tmp_path / "t.txt"), encoding=3)
    (tmp_path / "w.txt").write_bytes("some text".encode("utf-16"))
    assert "w.txt is read as utf-16" in quietly(str(tmp_path / "w.txt"), length=2).notices[0]
