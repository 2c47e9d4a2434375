"""Vocabularies: tokens as numbers, there and back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu import load
from danlu.data.vocabulary import EOS, PAD, UNK, Vocabulary, learn
from danlu.errors import DataError

READABLE = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@given(st.lists(READABLE, min_size=1, max_size=5))
def test_encoding_and_decoding_give_back_the_text(texts: list[str]) -> None:
    for kind in ("chars", "bpe"):
        learnt = learn(texts, kind)
        for t in texts:
            assert learnt.decode(learnt.encode(t)) == t
            assert not {PAD, EOS} & set(learnt.encode(t))


def test_unseen_characters_and_words_are_unknown_and_byte_pairs_spell_them() -> None:
    chars, words, pairs = (
        learn(["a cat sat", "a dog"], kind) for kind in ("chars", "words", "bpe")
    )
    assert chars.encode("cab")[2] == UNK and chars.decode(chars.encode("cab")) == "ca<unk>"
    assert words.encode("a bird sat") == [words.tokens.index("a"), UNK, words.tokens.index("sat")]
    assert (
        UNK not in pairs.encode("王刚 éß\U0001f600")
        and pairs.decode(pairs.encode("王刚")) == "王刚"
    )
    assert words.tokens[:3] == ["<pad>", "<unk>", "<eos>"]


def test_chinese_is_cut_into_characters_or_words() -> None:
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


def test_characters_that_spell_a_special_token_are_characters() -> None:
    for kind in ("chars", "bpe"):
        learnt = learn(["a <pad> b <eos> c <unk>"] * 3, kind)
        found = learnt.encode("a<pad>b<eos>")
        assert min(found) > EOS and learnt.decode(found) == "a<pad>b<eos>"
        assert Vocabulary(learnt.text).encode("<eos>") == learnt.encode("<eos>")
    words = learn(["a <pad> b"], "words", spaces_only=True)
    assert words.encode("a <pad> b")[1] == UNK and words.numbers(["<pad>", "<eos>"]) == [UNK, UNK]


def test_chinese_is_cut_into_words_by_jieba(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jieba", reason="the extra chinese is not installed")
    texts = ["我们今天去北京大学图书馆看书", "今天我们在图书馆看书，明天去北京"]
    learnt = learn(texts, "words")
    assert {"我们", "今天", "图书馆", "北京"} <= set(learnt.tokens)
    again = Vocabulary(learnt.text)
    for text in texts:
        assert again.decode(again.encode(text)) == text
    assert learn(["we are here", "they were there"], "words").is_segmented is False
    assert "今" in learn(texts, "chars").tokens
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(DataError, match=r"pip install 'danlu\[chinese\]'"):
        learn(texts, "words")
