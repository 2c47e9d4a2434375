"""Running text from files, and the generators."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from samples import quietly, refused

from danlu import load
from danlu.data.sources import synthetic
from danlu.data.vocabulary import EOS, PAD, Vocabulary


@pytest.fixture
def text() -> str:
    return "".join(f"line {k % 7} of some running text.\n" for k in range(200))


@pytest.mark.parametrize("kind", ["chars", "words", "bpe"])
def test_windows_follow_one_another(kind: str, text: str, tmp_path: Path) -> None:
    """Each target is the next input; the windows of all parts in a row are the text; a part is one stretch of it."""
    (tmp_path / "t.txt").write_text(text)
    data = load(str(tmp_path / "t.txt"), tokens=kind, length=16)
    learnt = Vocabulary(data.schema.vocabulary)
    whole = ""
    for part in ("train", "valid", "test"):
        x, y = data.part(part)
        x, y = x.flatten(), y.flatten()
        assert x[0] == EOS
        n = int((y >= 0).sum())
        assert torch.equal(x[1:n], y[: n - 1]) and (y[n:] == -1).all() and (x[n:] == PAD).all()
        whole += learnt.decode(y[:n].tolist()) + (" " if kind == "words" else "")
    assert (whole == text) if kind != "words" else ("".join(whole.split()) == "".join(text.split()))
    sizes = [data.targets(p) for p in ("train", "valid", "test")]
    assert sizes[0] / sum(sizes) == pytest.approx(0.8, abs=0.02) and sizes[1] / sum(
        sizes
    ) == pytest.approx(0.1, abs=0.02)


def test_lines_are_texts_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ab\nabc\n\na\n" * 10)
    data = load(str(tmp_path / "t.txt"), lines=True)
    learnt = Vocabulary(data.schema.vocabulary)
    for x, y in zip(data.x, data.y, strict=True):
        own = x[x != PAD].tolist()
        assert own[0] == EOS and y[y >= 0].tolist() == [*own[1:], EOS]
        assert learnt.decode(own) in ("ab", "abc", "a")
    assert len(data) == 30


def test_a_folder_of_texts_is_running_text(tmp_path: Path, text: str) -> None:
    for k in range(10):
        (tmp_path / f"{k}.txt").write_text(text[k * 100 : k * 100 + 100])
    data = load(str(tmp_path), length=20)
    assert (data.y == EOS).sum() == 10  # every document ends


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    chinese = "王刚和李明去上班了。\n" * 60
    (tmp_path / "t.txt").write_bytes(b"ab" + chinese.encode("gb18030"))
    assert (
        "t.txt is no utf-8 text: byte 0xcd at offset 2; name another encoding, such as --encoding gb18030"
        in refused(str(tmp_path / "t.txt"), encoding="utf-8")
    )
    data = load(str(tmp_path / "t.txt"), encoding="gb18030")
    assert "王" in Vocabulary(data.schema.vocabulary).tokens
    told = quietly(str(tmp_path / "t.txt"))
    assert told.fingerprint == data.fingerprint
    assert "t.txt is read as gb18030; --encoding reads it otherwise" in told.notices
    (tmp_path / "b.txt").write_bytes(bytes(range(256)) * 9)
    assert "b.txt is no text: byte 0x00 at offset 0" in refused(str(tmp_path / "b.txt"))
    assert "must be one of text that Python knows" in refused(
        str(tmp_path / "t.txt"), encoding="utf-99"
    )


def test_options_of_text_are_refused_elsewhere() -> None:
    assert "`tokens` is 'words', but must be left out" in refused("iris", tokens="words")
    assert "must be chars, words or bpe" in refused("prose", tokens="letters")
    assert "`length` is 0, but must be at least 1" in refused("prose", length=0)
    assert "must be left out: it does nothing for 'dna'" in refused("dna", resize=8)


@pytest.mark.parametrize("name", sorted(synthetic.MADE))
def test_synthetic_sets_are_the_same_each_time(name: str) -> None:
    a, b = load(name), load(name)
    assert a.fingerprint == b.fingerprint
    learnt = Vocabulary(a.schema.vocabulary)
    text = learnt.decode(a.x[0].tolist())
    starts = {"agreement": "the ", "dna": ("A", "C", "G", "T")}
    assert text.startswith(starts.get(name, text[:1]))
    assert (a.x != PAD).any(1).all()


def test_synthetic_texts_are_what_their_generators_promise() -> None:
    data = load("dna")
    learnt = Vocabulary(data.schema.vocabulary)
    for x, y in list(zip(data.x, data.y, strict=True))[:200]:
        assert ("TATAAA" in learnt.decode(x.tolist())) == (
            data.schema.classes[int(y)] == "promoter"
        )
    data = load("agreement")
    learnt = Vocabulary(data.schema.vocabulary)
    for x, y in list(zip(data.x, data.y, strict=True))[:200]:
        first = learnt.decode(x.tolist()).split()[1]
        assert (first in synthetic._MANY) == (data.schema.classes[int(y)] == "were")
    assert load("spelling").schema.source == 1


@pytest.mark.data
def test_tiny_shakespeare_is_read() -> None:
    data = load("tinyshakespeare", split="90/10/0")
    assert data.size("test") == 0
    assert data.targets("train") + data.targets("valid") == pytest.approx(1_115_394, abs=2)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 30])
def test_a_folder_of_few_texts_fills_every_part(n: int, tmp_path: Path) -> None:
    for k in range(n):
        (tmp_path / f"{k:02}.txt").write_text("what is written here is short\n" * 20)
    data = load(str(tmp_path), length=16)
    sizes = [data.size(p) for p in ("train", "valid", "test")]
    assert min(sizes) > 0 and sizes[0] == max(sizes)
    shares = [0.5, 0.3, 0.2]
    asked = load(str(tmp_path), length=16, split="50/30/20")
    if n in (1, 30):
        for p, share in zip(("train", "valid", "test"), shares, strict=True):
            assert asked.size(p) / len(asked) == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("lines", [(50, 50, 900), (50, 900, 50), (100, 100, 100), (10, 10, 10, 10)])
def test_files_that_miss_the_shares_are_cut_at_line_ends(
    lines: tuple[int, ...], tmp_path: Path
) -> None:
    """Each is still a document with an end of its own in every part that it reaches into."""
    for k, n in enumerate(lines):
        (tmp_path / f"{k}.txt").write_text("".join(f"file {k} line {i}\n" for i in range(n)))
    data = load(str(tmp_path), length=16)
    learnt, whole = Vocabulary(data.schema.vocabulary), ""
    for part, share in (("train", 0.8), ("valid", 0.1), ("test", 0.1)):
        assert data.targets(part) / sum(
            map(data.targets, ("train", "valid", "test"))
        ) == pytest.approx(share, abs=0.03)
        y = data.part(part)[1].flatten()
        told = learnt.decode(y[y >= 0].tolist())
        assert told.startswith("file ") and told.endswith("\n")
        whole += told
    assert whole == "".join(f"file {k} line {i}\n" for k, n in enumerate(lines) for i in range(n))
    assert len(lines) <= int((data.y == EOS).sum()) <= len(lines) + 2


def test_texts_without_a_line_end_are_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The cat sat on the mat")
    sizes = [load(str(tmp_path / "a.txt")).targets(p) for p in ("train", "valid", "test")]
    assert sum(sizes) == 22 and sizes[0] == 18
    assert "the data have 1 example, but training" in refused(str(tmp_path / "a.txt"), lines=True)
    data = load(["the cat sat", "a dog ran away", "the end is near"], lines=True)
    assert [data.size(p) for p in ("train", "valid", "test")] == [1, 1, 1]


def test_a_line_longer_than_a_part_is_cut_inside(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("abcdefgh" * 500 + "\n" + "ijklmnop" * 1500)
    data = load(str(tmp_path / "one.txt"), length=20)
    assert data.size("valid") == pytest.approx(80, abs=2) and data.size("test") == pytest.approx(
        80, abs=2
    )


def test_lines_that_are_texts_are_never_cut(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("".join(f"line {k}\n" for k in range(300)) + "z" * 2000)
    assert "the longest has 2,000" in quietly(str(tmp_path / "l.txt"), lines=True).notices[-1]
    data = load(str(tmp_path / "l.txt"), lines=True, length=2002)
    learnt = Vocabulary(data.schema.vocabulary)
    told = [x[1:][x[1:] != PAD].tolist() for x in data.x]
    assert len(told) == 301 and len(told[-1]) == 2000 and learnt.decode(told[7]) == "line 7"


def test_files_of_a_text_are_parts_by_their_names(tmp_path: Path) -> None:
    for part, word in (("train", "learn "), ("valid", "check "), ("test", "prove ")):
        (tmp_path / f"{part}.txt").write_text(word * 100)
    data = load(str(tmp_path), length=30)
    learnt = Vocabulary(data.schema.vocabulary)
    for part, word in (("train", "learn"), ("valid", "<unk>"), ("test", "<unk>")):
        assert word in learnt.decode(data.part(part)[0].flatten().tolist())
    (tmp_path / "notes.txt").write_text("more")
    told = quietly(str(tmp_path), length=30)
    assert "left out: notes.txt" in told.notices[0] and told.fingerprint == data.fingerprint
    for name in ("train.txt", "notes.txt"):
        (tmp_path / name).unlink()
    assert "has test.txt, valid.txt, but no file for training" in refused(str(tmp_path))


def test_splits_of_running_text_are_as_asked() -> None:
    assert "`seed` is 5, but must be left out: running text is cut in order" in refused(
        "prose", seed=5
    )
    data = load("prose", split="50/50")
    assert data.size("valid") == 0 and data.size("test") / len(data) == pytest.approx(0.5, abs=0.02)


def test_names_hold_no_sentence_twice() -> None:
    data = load("names")
    assert not data.duplicates()
    learnt = Vocabulary(data.schema.vocabulary)
    texts = {learnt.decode(x.tolist()) for x in data.x}
    assert (
        len(texts) == len(data) == 1500
        and not {"王刚已经离开学校了", "王府内已经没有差事可做了"} & texts
    )


def test_texts_that_differ_in_unknown_words_are_not_called_equal(tmp_path: Path) -> None:
    lines = []
    for k in range(120):
        # Each name comes once, so a vocabulary of 12 words holds none of them.
        lines.append(json.dumps({"text": f"the film of word{k} was good", "label": "good"}))
        lines.append(json.dumps({"text": f"the film of word{k} was bad", "label": "bad"}))
    same = json.dumps({"text": "the film was good", "label": "good"})
    (tmp_path / "train.jsonl").write_text("\n".join([*lines[:200], same]))
    (tmp_path / "test.jsonl").write_text("\n".join([*lines[200:], same]))
    data = quietly(str(tmp_path), tokens="words", vocabulary=12)
    assert data.unknown("train") > 100
    counts = data.duplicate_counts()
    assert sum(counts.values()) == 1


def test_copies_of_texts_are_found_whatever_the_vocabulary(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": f"the film of word{k} was good", "label": "ab"[k % 2]})
        for k in range(100)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "test.jsonl").write_text("\n".join(lines[:30]))
    for vocabulary in (8, 500):
        data = quietly(str(tmp_path), tokens="words", vocabulary=vocabulary)
        assert sum(data.duplicate_counts().values()) == 30
