"""Vocabularies: tokens as numbers, there and back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from danlu import load
from danlu.data import vocabulary
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


SPELT = st.text(st.sampled_from("ab é漢字\n<eos>\U0001f600\u0301 "), max_size=60)


@given(st.lists(SPELT, min_size=1, max_size=6), st.sampled_from([5, 8, 20_000]))
def test_characters_are_numbered_as_the_library_does(texts: list[str], size: int) -> None:
    oracle = Tokenizer(models.WordLevel({}, unk_token="<unk>"))
    oracle.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    trainer = trainers.WordLevelTrainer(
        vocab_size=size, special_tokens=["<pad>", "<unk>", "<eos>"], show_progress=False
    )
    oracle.train_from_iterator(texts, trainer)
    oracle.decoder = decoders.Fuse()
    learnt = learn(texts, "chars", size)
    assert learnt.text == oracle.to_str()
    oracle.encode_special_tokens = True
    for text in (*texts, "<eos>a<pad>z"):
        numbers = [UNK if number <= EOS else number for number in oracle.encode(text).ids]
        assert learnt.encode(text) == numbers


@given(st.lists(SPELT, min_size=1, max_size=6), st.integers(1, 12))
def test_long_texts_are_encoded_in_parts_as_in_one(texts: list[str], at_once: int) -> None:
    for kind in ("words", "bpe"):
        learnt = learn(texts, kind)
        whole = learnt.encode_all(texts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vocabulary, "_AT_ONCE", at_once)
            parts = learnt.encode_all(texts)
            assert learn(texts, kind).text == learnt.text
        assert [row.tolist() for row in parts] == [row.tolist() for row in whole]


def test_a_word_without_end_is_taken_in_parts() -> None:
    learnt = learn(["ab" * 50_000, "a short one"], "bpe")
    word = "ab" * 128
    assert learnt.encode(word * 3) == learnt.encode(word) * 3
    assert learnt.decode(learnt.encode(word * 3 + "a")) == word * 3 + "a"


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
