"""Tagged text: schemes, entities, and tags that are refused with their line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import quietly, refused

from danlu import load
from danlu.data.tags import (
    SCHEMES,
    allowed_transitions,
    first_violation,
    scheme_of,
    spans,
)
from danlu.data.text import tokenize
from danlu.data.vocabulary import Vocabulary


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
def test_spans_give_back_the_entities_that_were_tagged(
    given_: tuple[str, int, list[tuple[int, int, str]]],
) -> None:
    name, n, found = given_
    tags = tags_of(name, n, found)
    assert first_violation(tags, name) is None
    assert spans(tags, name) == found


@st.composite
def tags_of_a_scheme(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """A scheme, all its tags of two kinds, and some of them in any order."""
    name = draw(st.sampled_from(sorted(SCHEMES)))
    kinds = ["O", *(f"{letter}-{kind}" for letter in SCHEMES[name].letters for kind in "XY")]
    return name, kinds, draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8))


@given(tags_of_a_scheme())
def test_tags_are_in_order_exactly_when_their_entities_give_the_same_tags(
    drawn: tuple[str, list[str], list[str]],
) -> None:
    name, _, tags = drawn
    again = tags_of(name, len(tags), spans(tags, name))
    assert (first_violation(tags, name) is None) == (again == tags)


@given(tags_of_a_scheme())
def test_tags_are_in_order_exactly_when_each_may_follow_the_one_before(
    drawn: tuple[str, list[str], list[str]],
) -> None:
    name, kinds, tags = drawn
    allowed, row = allowed_transitions(kinds, name), [-1, *map(kinds.index, tags), -1]
    all_allowed = all(allowed[a][b] for a, b in pairwise(row))
    assert (first_violation(tags, name) is None) == all_allowed


def test_without_a_scheme_any_tag_may_follow_any() -> None:
    assert allowed_transitions(["NN", "VB"], None) == ()


def test_schemes_are_told_from_their_letters() -> None:
    assert scheme_of(["O", "B-X", "M-X", "E-X"]) == "bmes"
    assert scheme_of(["O", "B-X", "I-X"]) == "bio"
    assert scheme_of(["O", "B-X", "I-X", "E-X", "S-X"]) == "bioes"
    assert scheme_of(["NN", "VB", "O"]) is None


def write(path: Path, *sentences: str) -> str:
    path.write_text(
        "\n\n".join("\n".join(t.replace("/", " ") for t in s.split()) for s in sentences) + "\n",
        encoding="utf-8",
    )
    return str(path)


GOOD = ("王/B-NAME 刚/E-NAME 来/O", "他/O 来/O", "李/S-NAME 来/O") * 8


def test_a_folder_of_tagged_files_names_the_parts(tmp_path: Path) -> None:
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
    (tmp_path / "t.conll").write_text(
        "-DOCSTART- -X- O O\n\n" + "EU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\n" * 12
    )
    data = load(str(tmp_path / "t.conll"))
    assert Vocabulary(data.schema.vocabulary).decode(data.x[0].tolist()) == "EU rejects"


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        (
            "王/B-NAME 来/O",
            "line 73 of t.bmes: 'B-NAME' is followed by 'O', but the entity is not closed (BMES)",
        ),
        ("他/O 刚/E-NAME", "line 72 of t.bmes: 'E-NAME' begins no entity, but comes after 'O'"),
        ("他/O 王/B-NAME", "'B-NAME' is followed by the end of the sentence"),
        ("王/B-NAME 刚/E-LOC", "'E-LOC' begins no entity, but comes after 'B-NAME'"),
        ("王", "line 71 of t.bmes is '王', but needs a token and its tag"),
    ],
)
def test_broken_tags_are_refused_with_their_line(sentence: str, said: str, tmp_path: Path) -> None:
    lines = sum(len(s.split()) + 1 for s in GOOD)
    text = refused(write(tmp_path / "t.bmes", *GOOD, sentence, "李/S-LOC 来/O"), tags="strict")
    first = lines + 1
    assert (
        said.replace("73", str(first + 1)).replace("72", str(first + 1)).replace("71", str(first))
        in text
    )


def test_one_wrong_tag_is_refused_by_the_scheme_of_the_others(tmp_path: Path) -> None:
    good = "王\tB-NAME\n刚\tE-NAME\n去\tO\n\n" * 30
    for bad, said in (
        ("Q-NAME", "'Q-NAME' is no tag of BMES; did you mean"),
        ("B_NAME", "'B_NAME' is no tag of BMES"),
    ):
        (tmp_path / "t.bmes").write_text(good + f"李\t{bad}\n明\tE-NAME\n\n")
        assert f"line 121 of t.bmes: {said}" in refused(str(tmp_path / "t.bmes"))
    (tmp_path / "t.conll").write_text("the DT\ncat NN\n\n" * 30)
    assert load(str(tmp_path / "t.conll")).schema.scheme is None


def test_tags_are_checked_by_the_scheme_of_the_run_that_reads_them(tmp_path: Path) -> None:
    schema = load(write(tmp_path / "t.bmes", *GOOD)).schema
    for sentence, said in (
        ("王/B-NAME 来/O", "'B-NAME' is followed by 'O', but the entity is not closed (BMES)"),
        ("王/B-NAME 刚/I-NAME", "'I-NAME' is no tag of BMES"),
        (
            "王/B-NAMES 刚/E-NAME",
            "no training sentence has the tag 'B-NAMES'; did you mean 'B-NAME'?",
        ),
    ):
        assert said in refused(write(tmp_path / "new.bio", sentence), like=schema, tags="strict")


def test_an_entity_across_two_sentences_passes(tmp_path: Path) -> None:
    data = load(
        write(tmp_path / "t.bmes", *GOOD, "圣/B-NAME 。/M-NAME", "彼/M-NAME 得/E-NAME 来/O")
    )
    assert len(data) == 26


def test_a_tag_unknown_to_training_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.bmes", *GOOD)
    write(tmp_path / "test.bmes", "他/O 来/O", "王/S-NAMES 来/O")
    said = refused(str(tmp_path))
    assert (
        "line 4 of test.bmes: no training sentence has the tag 'S-NAMES'; did you mean 'S-NAME'?"
        in said
    )


def test_an_s_tag_is_an_entity_whatever_follows() -> None:
    assert spans(["S-X", "E-X"], "bmes") == [(0, 1, "X")]
    assert spans(["S-X", "M-X", "O"], "bmes") == [(0, 1, "X")]
    assert spans(["S-X", "M-X", "E-X"], "bmes") == [(0, 1, "X")]
    assert spans(["S-X", "S-X", "B-X", "E-X"], "bioes") == [(0, 1, "X"), (1, 2, "X"), (2, 4, "X")]


def test_options_for_cutting_tagged_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.bmes").write_text("王\tB-NAME\n刚\tE-NAME\n\n" * 30)
    (tmp_path / "w.conll").write_text("the DT\ncat NN\n\n" * 30)
    for name, tokens in (("t.bmes", "words"), ("t.bmes", "bpe"), ("w.conll", "chars")):
        assert f"`tokens` is '{tokens}', but must be left out" in refused(
            str(tmp_path / name), tokens=tokens
        )
    assert load(str(tmp_path / "t.bmes"), tokens="chars").schema.tokens == 5


@pytest.mark.data
def test_resume_ner_is_read_as_it_lies() -> None:
    data = load("resume-ner")
    assert [data.size(p) for p in ("train", "valid", "test")] == [3821, 463, 477]
    assert len(data.schema.classes) == 28 and data.schema.scheme == "bmes"


def test_iob1_is_read_as_bio(tmp_path: Path) -> None:
    """CoNLL-2003's own files: B- only between two entities of one kind."""
    (tmp_path / "t.iob").write_text(
        "EU I-ORG\nin I-LOC\nUS B-LOC\nis O\nEU I-ORG\nInc I-ORG\n\n" * 12
    )
    data = load(str(tmp_path / "t.iob"))
    tags = [data.schema.classes[k] for k in data.y[0].tolist()]
    assert tags == ["B-ORG", "B-LOC", "B-LOC", "O", "B-ORG", "I-ORG"]
    (tmp_path / "u.bio").write_text("EU B-ORG\nis O\n\n" * 12 + "EU I-ORG\n\n")
    assert "line 37 of u.bio: 'I-ORG' begins no entity (BIO)" in refused(
        str(tmp_path / "u.bio"), tags="strict"
    )
    mended = quietly(str(tmp_path / "u.bio"))
    assert mended.schema.classes == ("O", "B-ORG")
    assert "1 tag out of order (BIO), read as the evaluation script conlleval" in mended.notices[0]


def test_columns_are_cut_at_tabs(tmp_path: Path) -> None:
    (tmp_path / "t.bio").write_text("New York\tB-LOC\n\n" * 12)
    assert "line 1 of t.bio has the token 'New York', but a token holds no space" in refused(
        str(tmp_path / "t.bio")
    )
    (tmp_path / "u.conll").write_text("1\tThe\tDT\n2\tcat\tNN\n\n" * 12)
    numbered = load(str(tmp_path / "u.conll"))
    assert set(Vocabulary(numbered.schema.vocabulary).tokens[3:]) == {"The", "cat"}
    (tmp_path / "v.conll").write_text("1 The\n2 cat\n\n" * 12)
    assert "has no column for the tokens" in refused(str(tmp_path / "v.conll"))
    (tmp_path / "w.bmes").write_text("王 B-NAME\n刚 E-NAME\n\u3000 O\n来 O\n\n" * 12)
    assert (load(str(tmp_path / "w.bmes")).y >= 0).sum() == 48  # a full-width space is a token


def test_numbers_are_tokens_among_characters(tmp_path: Path) -> None:
    """Text of single signs stays so where a few tokens are longer: those are found again, the longest first."""
    (tmp_path / "t.bmes").write_text(
        "王 B-NAME\n刚 E-NAME\n来 O\n2010 O\n20 O\n年 O\n去 O\n了 O\n吗 O\n啊 O\n\n" * 12
    )
    schema = load(str(tmp_path / "t.bmes")).schema
    assert not schema.spaced and len(Vocabulary(schema.vocabulary).tokens) == 13
    known = set(Vocabulary(schema.vocabulary).tokens)
    assert tokenize("王刚 2010年201了", known, schema.spaced) == [
        "王",
        "刚",
        "2010",
        "年",
        "20",
        "1",
        "了",
    ]
    (tmp_path / "t.bio").write_text("the O\ncat B-X\nsat O\n. O\n\n" * 12)
    assert load(str(tmp_path / "t.bio")).schema.spaced


def test_comment_lines_are_not_tokens(tmp_path: Path) -> None:
    """Before a sentence, where tabs part the columns, or there are others than of the tokens; `#` itself is a token."""
    (tmp_path / "wnut.bio").write_text("# id 0\nParis B-X\nfell O\n\n# O\nParis B-X\n\n" * 20)
    data = load(str(tmp_path / "wnut.bio"))
    assert (
        data.schema.classes == ("O", "B-X")
        and data.targets("train") + data.targets("valid") + data.targets("test") == 80
    )
    assert {"#", "Paris", "fell"} <= set(Vocabulary(data.schema.vocabulary).tokens)
    (tmp_path / "x.conll").write_text("# newdoc\n# text = a b\na\tNN\tB-X\n# \tNN\tO\n\n" * 20)
    assert load(str(tmp_path / "x.conll")).schema.scheme == "bio"
    (tmp_path / "four.conll").write_text(
        "#begin document (a);\n# sent_id = 1\nRome x y B-X\n# x y O\n\n" * 20
    )
    four = load(str(tmp_path / "four.conll"))
    assert (
        four.schema.classes == ("O", "B-X")
        and four.targets("train") + four.targets("valid") + four.targets("test") == 40
    )
    (tmp_path / "one.bio").write_text("# O\nRome B-X\n\nthe O\ncat\tO\n\n" * 20)
    assert "#" in Vocabulary(load(str(tmp_path / "one.bio")).schema.vocabulary).tokens
    (tmp_path / "ud.conll").write_text(
        "# sent_id = 1\n# text = the cat\n1\tthe\tDT\n2\tcat\tNN\n\n" * 20
    )
    assert load(str(tmp_path / "ud.conll")).schema.classes == ("DT", "NN")


def test_a_single_tag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o.bio").write_text("a O\nb O\n\n" * 20)
    assert "every token has the tag 'O', so there is nothing to learn" in refused(
        str(tmp_path / "o.bio")
    )
