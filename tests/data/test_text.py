"""Text from files and generators: vocabularies, windows, tags, pairs; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from danlu import Data, load
from danlu.data import made
from danlu.data.tagged import SCHEMES, broken, scheme_of, spans
from danlu.data.vocabulary import EOS, PAD, UNK, Vocabulary, learn
from danlu.errors import DataError

READABLE = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def refused(*args: object, **options: object) -> str:
    with pytest.raises(DataError) as e:
        load(*args, **options)  # type: ignore[arg-type]
    return str(e.value)


# ---- vocabularies


@given(st.lists(READABLE, min_size=1, max_size=5))
def test_characters_and_byte_pairs_there_and_back(texts: list[str]) -> None:
    for kind in ("chars", "bpe"):
        learnt = learn(texts, kind)
        for t in texts:
            assert learnt.decode(learnt.encode(t)) == t
            assert not {PAD, EOS} & set(learnt.encode(t))


def test_unseen_tokens() -> None:
    chars, words, pairs = (learn(["a cat sat", "a dog"], kind) for kind in ("chars", "words", "bpe"))
    assert chars.encode("cab")[2] == UNK and chars.decode(chars.encode("cab")) == "ca<unk>"
    assert words.encode("a bird sat") == [words.tokens.index("a"), UNK, words.tokens.index("sat")]
    assert UNK not in pairs.encode("王刚 éß\U0001f600") and pairs.decode(pairs.encode("王刚")) == "王刚"
    assert words.tokens[:3] == ["<pad>", "<unk>", "<eos>"]


def test_chinese_by_characters_or_words() -> None:
    chars, words = learn(["王刚 去 上班 了"], "chars"), learn(["王刚 去 上班 了"], "words")
    assert len(chars.encode("上班")) == 2 and len(words.encode("上班")) == 1


def test_the_most_frequent_tokens_are_kept() -> None:
    learnt = learn(["b a a c c c"], "words", 5)
    assert learnt.tokens[3:] == ["c", "a"]
    with pytest.raises(DataError, match="at least 260 for bpe"):
        learn(["a"], "bpe", 10)


def test_a_vocabulary_is_learnt_from_the_training_part_alone(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ab\n" * 400 + "xyz\n" * 60)
    data = load(str(tmp_path / "t.txt"), length=9)
    learnt = Vocabulary(data.schema.vocabulary)
    assert set(learnt.tokens[3:]) == {"a", "b", "\n"}
    assert (data.part("test")[0] == UNK).any()


# ---- running text


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
    assert sizes[0] / sum(sizes) == pytest.approx(0.8, abs=0.02) and sizes[1] / sum(sizes) == pytest.approx(0.1, abs=0.02)


def test_lines_are_texts_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ab\nabc\n\na\n" * 10)
    data = load(str(tmp_path / "t.txt"), lines=True)
    learnt = Vocabulary(data.schema.vocabulary)
    for x, y in zip(data.x, data.y, strict=True):
        own = x[x != PAD].tolist()
        assert own[0] == EOS and y[y >= 0].tolist() == [*own[1:], EOS]
        assert learnt.decode(own) in ("ab", "abc", "a")
    assert len(data) == 30


def test_a_folder_of_texts(tmp_path: Path, text: str) -> None:
    for k in range(10):
        (tmp_path / f"{k}.txt").write_text(text[k * 100 : k * 100 + 100])
    data = load(str(tmp_path), length=20)
    assert (data.y == EOS).sum() == 10  # every document ends


# ---- tags


@st.composite
def entities(draw: st.DrawFn) -> tuple[str, int, list[tuple[int, int, str]]]:
    """A scheme, a number of tokens, and entities in them."""
    name, at, found = draw(st.sampled_from(sorted(SCHEMES))), 0, []
    for _ in range(draw(st.integers(0, 4))):
        at += draw(st.integers(0, 3))
        end = at + draw(st.integers(1, 4))
        found.append((at, end, draw(st.sampled_from(["X", "Y"]))))
        at = end
    return name, at + draw(st.integers(0, 3)), found


def tags_of(name: str, n: int, found: list[tuple[int, int, str]]) -> list[str]:
    tags = ["O"] * n
    inner = "M" if name == "bmes" else "I"
    for a, b, kind in found:
        letters = [inner] * (b - a)
        letters[0] = "B"
        if name != "bio":
            letters[-1] = "S" if b - a == 1 else "E"
        tags[a:b] = [f"{x}-{kind}" for x in letters]
    return tags


@given(entities())
def test_spans_are_the_entities_that_were_tagged(given_: tuple[str, int, list[tuple[int, int, str]]]) -> None:
    name, n, found = given_
    tags = tags_of(name, n, found)
    assert broken(tags, name) is None
    assert spans(tags, name) == found


@given(
    st.sampled_from(sorted(SCHEMES)),
    st.lists(st.sampled_from(["O", "B-X", "M-X", "I-X", "E-X", "S-X", "B-Y", "E-Y"]), max_size=8),
)
def test_tags_in_order_are_those_that_can_be_written(name: str, tags: list[str]) -> None:
    """Tags are whole exactly when writing their entities down again gives the same tags."""
    if all(t == "O" or t[0] in SCHEMES[name].letters for t in tags):
        assert (broken(tags, name) is None) == (tags_of(name, len(tags), spans(tags, name)) == tags)


def test_schemes_are_told_from_their_letters() -> None:
    assert scheme_of(["O", "B-X", "M-X", "E-X"]) == "bmes"
    assert scheme_of(["O", "B-X", "I-X"]) == "bio"
    assert scheme_of(["O", "B-X", "I-X", "E-X", "S-X"]) == "bioes"
    assert scheme_of(["NN", "VB", "O"]) is None


def write(path: Path, *sentences: str) -> str:
    path.write_text("\n\n".join("\n".join(t.replace("/", " ") for t in s.split()) for s in sentences) + "\n", encoding="utf-8")
    return str(path)


GOOD = ("王/B-NAME 刚/E-NAME 来/O", "他/O 来/O", "李/S-NAME 来/O") * 8


def test_a_folder_of_tagged_files(tmp_path: Path) -> None:
    for part, some in (("train", GOOD), ("dev", GOOD[:3]), ("test", GOOD[:6])):
        write(tmp_path / f"{part}.char.bmes", *some)
    data = load(str(tmp_path))
    assert [data.size(p) for p in ("train", "valid", "test")] == [24, 3, 6]
    assert data.schema.classes[0] == "O" and data.schema.scheme == "bmes"
    learnt = Vocabulary(data.schema.vocabulary)
    assert learnt.decode(data.x[0].tolist()) == "王刚来"
    assert [data.schema.classes[k] for k in data.y[0].tolist()] == ["B-NAME", "E-NAME", "O"]
    assert data.y[1].tolist() == [0, 0, -1]


def test_columns_between_token_and_tag_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "t.conll").write_text("-DOCSTART- -X- O O\n\n" + "EU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\n" * 12)
    data = load(str(tmp_path / "t.conll"))
    assert Vocabulary(data.schema.vocabulary).decode(data.x[0].tolist()) == "EU rejects"


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("王/B-NAME 来/O", "line 73 of t.bmes: 'B-NAME' is followed by 'O', but the entity is not closed (BMES)"),
        ("他/O 刚/E-NAME", "line 72 of t.bmes: 'E-NAME' begins no entity, but comes after 'O'"),
        ("他/O 王/B-NAME", "'B-NAME' is followed by the end of the sentence"),
        ("王/B-NAME 刚/E-LOC", "'E-LOC' begins no entity, but comes after 'B-NAME'"),
        ("王", "line 71 of t.bmes is '王', but needs a token and its tag"),
    ],
)
def test_broken_tags_are_refused_with_their_line(sentence: str, said: str, tmp_path: Path) -> None:
    lines = sum(len(s.split()) + 1 for s in GOOD)
    text = refused(write(tmp_path / "t.bmes", *GOOD, sentence, "李/S-LOC 来/O"))
    first = lines + 1
    assert said.replace("73", str(first + 1)).replace("72", str(first + 1)).replace("71", str(first)) in text


def test_an_entity_across_two_sentences_passes(tmp_path: Path) -> None:
    data = load(write(tmp_path / "t.bmes", *GOOD, "圣/B-NAME 。/M-NAME", "彼/M-NAME 得/E-NAME 来/O"))
    assert len(data) == 26


def test_a_tag_that_training_does_not_have(tmp_path: Path) -> None:
    write(tmp_path / "train.bmes", *GOOD)
    write(tmp_path / "test.bmes", "他/O 来/O", "王/S-NAMES 来/O")
    said = refused(str(tmp_path))
    assert "line 4 of test.bmes: no training sentence has the tag 'S-NAMES'; did you mean 'S-NAME'?" in said


# ---- labelled texts and pairs


def rows(n: int = 80) -> list[tuple[str, str]]:
    return [(f"text number {k} of many", "good" if k % 2 else "bad") for k in range(n)]


def test_labelled_text_from_csv_jsonl_and_lists(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "\n".join(f"{t},{c}" for t, c in rows()))
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"text": t, "label": c}) for t, c in rows()))
    texts, labels = zip(*rows(), strict=True)
    every = [load(str(tmp_path / "t.csv")), load(str(tmp_path / "t.jsonl")), load((list(texts), list(labels)))]
    for data in every:
        assert data.schema.task == "classification" and data.schema.classes == ("bad", "good")
        assert torch.equal(data.x, every[0].x) and torch.equal(data.y, every[0].y)
        assert Vocabulary(data.schema.vocabulary).decode(data.x[3].tolist()) == "text number 3 of many"


def test_the_same_texts_from_frames_parquet_and_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` hands over is built here: labelled text, pairs and running text, with official test parts."""
    import datasets
    import pandas as pd

    from danlu.data import arrow

    monkeypatch.setattr(arrow, "_hub_answers", lambda: True)
    labelled = pd.DataFrame({"text": [f"a good {k} film" * (k % 3 + 1) for k in range(40)], "label": ["yes", "no"] * 20})
    pairs = pd.DataFrame({"from": [f"{k} cats" for k in range(40)], "to": [f"{k} Katzen" for k in range(40)]})
    running = pd.DataFrame({"text": [f"line {k} of a book, and what follows it\n" * 20 for k in range(12)]})
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
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict(train=part, test=part.select(range(3))))
    data = load("hub:owner/book", length=16)
    assert data.schema.task == "language"
    learnt = Vocabulary(data.schema.vocabulary)
    assert "line 2 of a book" in learnt.decode(data.part("test")[0].flatten().tolist())
    assert refused("hub:owner/book", length=16, task="pairs")


def test_a_table_of_categories_is_still_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("colour,label\n" + "\n".join(f"{('red', 'blue')[k % 2]},{k % 3}" for k in range(90)))
    assert not load(str(tmp_path / "t.csv")).schema.is_text


def assert_paired(data: Data) -> None:
    learnt, s = Vocabulary(data.schema.vocabulary), data.schema.source
    x, y = data.x[1], data.y[1]
    assert learnt.decode(x[:s].tolist()) == "text number 1 of many" and learnt.decode(x[s:].tolist()) == "good"
    assert x[s] == EOS and y[y >= 0].tolist() == [*x[s + 1 :][x[s + 1 :] != PAD].tolist(), EOS]


def test_pairs_from_tsv_jsonl_and_csv(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in rows()))
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"source": a, "target": b}) for a, b in rows()))
    (tmp_path / "t.csv").write_text("source,target\n" + "\n".join(f"{a},{b}" for a, b in rows()))
    for data in (
        load(str(tmp_path / "t.tsv"), task="pairs"),
        load(str(tmp_path / "t.jsonl")),
        load(str(tmp_path / "t.csv"), task="pairs"),
    ):
        assert_paired(data)


def test_what_is_no_pair(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a\tb\nc\nd\te\tf\n")
    assert "line 2 of t.tsv has 1 column, but pairs have a source and a target" in refused(str(tmp_path / "t.tsv"), task="pairs")
    (tmp_path / "u.tsv").write_text("a\tb\n \tc\n")
    assert "line 2 of u.tsv has an empty source" in refused(str(tmp_path / "u.tsv"), task="pairs")
    (tmp_path / "t.jsonl").write_text('{"source": "a", "target": "b"}\n{"source": "a"}\n')
    assert "line 2 of t.jsonl lacks 'target'" in refused(str(tmp_path / "t.jsonl"))
    (tmp_path / "u.jsonl").write_text('{"text": "a"\n')
    assert "line 1 of u.jsonl is no JSON" in refused(str(tmp_path / "u.jsonl"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    chinese = "王刚和李明去上班了。\n" * 60
    (tmp_path / "t.txt").write_bytes(b"ab" + chinese.encode("gb18030"))
    said = refused(str(tmp_path / "t.txt"))
    assert "t.txt is no utf-8 text: byte 0xcd at offset 2; name another encoding, such as --encoding gb18030" in said
    data = load(str(tmp_path / "t.txt"), encoding="gb18030")
    assert "王" in Vocabulary(data.schema.vocabulary).tokens
    assert "must be one of text that Python knows" in refused(str(tmp_path / "t.txt"), encoding="utf-99")


def test_empty_and_too_long(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "\n".join(f"{t},{c}" for t, c in rows()) + "\n  ,good\n")
    assert "row 81 of t.csv lacks 'text'" in refused(str(tmp_path / "t.csv"))
    texts, labels = zip(*rows(), strict=True)
    assert "row 1 of the data has an empty text" in refused(([" ", *texts[1:]], list(labels)))
    said = refused((["x" * 40, *texts[1:]], list(labels)), length=30)
    assert (
        "row 1 of the data has 40 tokens, but the limit is 30 (1 example longer, the longest 40); raise it with --length 40"
        in said
    )
    (tmp_path / "empty.txt").write_text(" \n")
    assert "empty.txt holds no text" in refused(str(tmp_path / "empty.txt"))
    (tmp_path / "empty.bio").write_text("\n\n")
    assert "holds no sentence" in refused(str(tmp_path / "empty.bio"))


def test_options_of_text_mean_nothing_elsewhere() -> None:
    assert "`tokens` is 'words', but must be left out" in refused("iris", tokens="words")
    assert "must be chars, words or bpe" in refused("prose", tokens="letters")
    assert "`length` is 0, but must be at least 1" in refused("prose", length=0)
    assert "must be left out: it does nothing for 'dna'" in refused("dna", resize=8)


@pytest.mark.parametrize("name", sorted(made.MADE))
def test_made_sets_are_the_same_everywhere(name: str) -> None:
    a, b = load(name), load(name)
    assert a.fingerprint == b.fingerprint
    learnt = Vocabulary(a.schema.vocabulary)
    text = learnt.decode(a.x[0].tolist())
    starts = {"agreement": "the ", "dna": ("A", "C", "G", "T")}
    assert text.startswith(starts.get(name, text[:1]))
    assert (a.x != PAD).any(1).all()


def test_what_the_generators_promise() -> None:
    data = load("dna")
    learnt = Vocabulary(data.schema.vocabulary)
    for x, y in list(zip(data.x, data.y, strict=True))[:200]:
        assert ("TATAAA" in learnt.decode(x.tolist())) == (data.schema.classes[int(y)] == "promoter")
    data = load("agreement")
    learnt = Vocabulary(data.schema.vocabulary)
    for x, y in list(zip(data.x, data.y, strict=True))[:200]:
        first = learnt.decode(x.tolist()).split()[1]
        assert (first in made._MANY) == (data.schema.classes[int(y)] == "were")
    assert load("spelling").schema.source == 1


@pytest.mark.data
def test_resume_ner_as_it_lies_there() -> None:
    data = load("resume-ner")
    assert [data.size(p) for p in ("train", "valid", "test")] == [3821, 463, 477]
    assert len(data.schema.classes) == 28 and data.schema.scheme == "bmes"


@pytest.mark.data
def test_tiny_shakespeare() -> None:
    data = load("tinyshakespeare", split="90/10/0")
    assert data.size("test") == 0
    assert data.targets("train") + data.targets("valid") == pytest.approx(1_115_394, abs=2)


# ---- what must not slip through


def test_signs_that_spell_a_special_token_are_signs() -> None:
    for kind in ("chars", "bpe"):
        learnt = learn(["a <pad> b <eos> c <unk>"] * 3, kind)
        found = learnt.encode("a<pad>b<eos>")
        assert min(found) > EOS and learnt.decode(found) == "a<pad>b<eos>"
        assert Vocabulary(learnt.text).encode("<eos>") == learnt.encode("<eos>")
    words = learn(["a <pad> b"], "words", cut=True)
    assert words.encode("a <pad> b")[1] == UNK and words.numbers(["<pad>", "<eos>"]) == [UNK, UNK]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 30])
def test_every_part_of_a_folder_gets_something(n: int, tmp_path: Path) -> None:
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


def test_one_long_line_is_cut_where_it_must_be(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("abcdefgh" * 500 + "\n" + "ijklmnop" * 1500)
    data = load(str(tmp_path / "one.txt"), length=20)
    assert data.size("valid") == pytest.approx(80, abs=2) and data.size("test") == pytest.approx(80, abs=2)


def test_files_of_a_text_are_parts_by_their_names(tmp_path: Path) -> None:
    for part, word in (("train", "learn "), ("valid", "check "), ("test", "prove ")):
        (tmp_path / f"{part}.txt").write_text(word * 100)
    data = load(str(tmp_path), length=30)
    learnt = Vocabulary(data.schema.vocabulary)
    for part, word in (("train", "learn"), ("valid", "<unk>"), ("test", "<unk>")):
        assert word in learnt.decode(data.part(part)[0].flatten().tolist())
    (tmp_path / "notes.txt").write_text("more")
    assert "has files named after parts, and notes.txt; name every file so" in refused(str(tmp_path))
    for name in ("train.txt", "notes.txt"):
        (tmp_path / name).unlink()
    assert "has test.txt, valid.txt, but no file for training" in refused(str(tmp_path))


def test_splits_of_running_text_are_as_asked() -> None:
    data = load("prose", split="50/50")
    assert data.size("valid") == 0 and data.size("test") / len(data) == pytest.approx(0.5, abs=0.02)


def test_one_wrong_tag_does_not_make_a_scheme_vanish(tmp_path: Path) -> None:
    good = "王\tB-NAME\n刚\tE-NAME\n去\tO\n\n" * 30
    for bad, said in (("Q-NAME", "'Q-NAME' is no tag of BMES; did you mean"), ("B_NAME", "'B_NAME' is no tag of BMES")):
        (tmp_path / "t.bmes").write_text(good + f"李\t{bad}\n明\tE-NAME\n\n")
        assert f"line 121 of t.bmes: {said}" in refused(str(tmp_path / "t.bmes"))
    (tmp_path / "t.conll").write_text("the DT\ncat NN\n\n" * 30)
    assert load(str(tmp_path / "t.conll")).schema.scheme is None


def test_a_whole_of_one_token_is_an_entity_by_itself() -> None:
    assert spans(["S-X", "E-X"], "bmes") == [(0, 1, "X")]
    assert spans(["S-X", "M-X", "O"], "bmes") == [(0, 1, "X")]
    assert spans(["S-X", "M-X", "E-X"], "bmes") == [(0, 1, "X")]
    assert spans(["S-X", "S-X", "B-X", "E-X"], "bioes") == [(0, 1, "X"), (1, 2, "X"), (2, 4, "X")]


def test_tagged_text_is_cut_already(tmp_path: Path) -> None:
    (tmp_path / "t.bmes").write_text("王\tB-NAME\n刚\tE-NAME\n\n" * 30)
    (tmp_path / "w.conll").write_text("the DT\ncat NN\n\n" * 30)
    for name, tokens in (("t.bmes", "words"), ("t.bmes", "bpe"), ("w.conll", "chars")):
        assert f"`tokens` is '{tokens}', but must be left out" in refused(str(tmp_path / name), tokens=tokens)
    assert load(str(tmp_path / "t.bmes"), tokens="chars").schema.tokens == 5


def test_rows_of_text_with_gaps_are_left_out_on_request(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "\n".join(f"{t},{c}" for t, c in rows()) + "\n,good\n")
    assert "lacks 'text'; fill it, or leave such rows out with --missing drop" in refused(str(tmp_path / "t.csv"))
    assert len(load(str(tmp_path / "t.csv"), missing="drop")) == 80


def test_odd_files(tmp_path: Path) -> None:
    """Cells as long as books, carriage returns, half characters, lists, line separators, marks at the beginning."""
    long = "long " * 40_000
    (tmp_path / "long.csv").write_text(f'text,label\n"{long}",good\n' + "\n".join(f"{t},{c}" for t, c in rows()))
    assert "has 200,000 tokens, but the limit is 1,024" in refused(str(tmp_path / "long.csv"))
    (tmp_path / "cr.tsv").write_bytes(b"a\rb\tc\nd\te\n" * 20)
    assert load(str(tmp_path / "cr.tsv"), task="pairs").schema.task == "pairs"
    lines = [json.dumps({"text": t, "label": c}) for t, c in rows()]
    for bad, said in (('{"text": "a \\ud800 b", "label": "good"}', "line 81 of t.jsonl holds U+D800, half of a pair"),
                      ('{"text": ["a"], "label": "good"}', "line 81 of t.jsonl has a list as 'text', but it must be text"),
                      ('{"text": "a", "label": {"x": 0}}', "has a table as 'label', but it must be text")):  # fmt: skip
        (tmp_path / "t.jsonl").write_text("\n".join([*lines, bad]))
        assert said in refused(str(tmp_path / "t.jsonl"))
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, '{"text": "one\u2028two", "label": "good"}']), encoding="utf-8")
    data = load(str(tmp_path / "t.jsonl"))
    assert len(data) == 81 and all(type(c) is str for c in data.schema.classes)
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfabcd\xff")
    assert "byte 0xff at offset 7" in refused(str(tmp_path / "bom.txt"))
    assert "is no punycode text" in refused(str(tmp_path / "bom.txt"), encoding="punycode")
    for encoding in ("undefined", "hex"):
        assert "`encoding` is" in refused(str(tmp_path / "bom.txt"), encoding=encoding)


def test_names_hold_no_sentence_twice() -> None:
    data = load("names")
    assert not data.duplicates()
    learnt = Vocabulary(data.schema.vocabulary)
    texts = {learnt.decode(x.tolist()) for x in data.x}
    assert len(texts) == len(data) == 1500 and not {"王刚已经离开学校了", "王府内已经没有差事可做了"} & texts


# ---- data for a trained run


def test_other_data_are_read_as_the_run_s_own(tmp_path: Path) -> None:
    """Tokens, classes, tags and windows are numbered as there; what it never met is unknown, or refused."""
    (tmp_path / "a.txt").write_text("the cat sat on the mat.\n" * 30)
    (tmp_path / "b.txt").write_text("zzz the mat.\n" * 30)
    own = load(str(tmp_path / "a.txt"), length=20).schema
    other = load(str(tmp_path / "b.txt"), like=own)
    assert other.schema.vocabulary == own.vocabulary and other.schema.input_shape == (20,)
    assert Vocabulary(own.vocabulary).decode(other.x[0, 1:12].tolist()).startswith("<unk><unk><unk> the mat")
    assert "must be left out" in refused(str(tmp_path / "b.txt"), like=own, tokens="words")
    texts, labels = (list(t) for t in zip(*rows(), strict=True))
    schema = load((texts, labels)).schema
    some = load((texts[1::2] + texts[:1], labels[1::2] + labels[:1]), like=schema, valid=False)
    assert some.schema.classes == schema.classes
    assert some.y.tolist() == [1] * 40 + [0]
    assert "has the label 'bda', which the run was not trained on; did you mean" in refused((texts, ["bda"] * 80), like=schema)
    (tmp_path / "p.tsv").write_text("\n".join(f"{t}\t{c}" for t, c in rows()))
    pairs = load(str(tmp_path / "p.tsv"), task="pairs").schema
    (tmp_path / "q.tsv").write_text("short\tgood\n" * 20)
    assert load(str(tmp_path / "q.tsv"), like=pairs).schema.source == pairs.source
    (tmp_path / "q.tsv").write_text("far longer than any that was there in training\tgood\n" * 20)
    assert "but the run reads at most" in refused(str(tmp_path / "q.tsv"), like=pairs)
