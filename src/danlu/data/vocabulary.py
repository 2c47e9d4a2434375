"""Vocabularies of characters, words or byte pairs, by `tokenizers`: text as numbers and back.

The first three tokens are always `<pad>` (fills up short examples), `<unk>` (what the training part
did not hold) and `<eos>` (the end of a text, and the beginning of the next).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from danlu.errors import DataError, wrong
from danlu.host import serial_tokenizers

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNK, EOS = 0, 1, 2
SPECIAL = ("<pad>", "<unk>", "<eos>")
_SEGMENTED = "jieba\n"
_CHINESE = re.compile("[\u3400-\u9fff]")
_BLANK_IN_CHINESE = re.compile(
    "(?<=[\u3000-\u9fff\uff00-\uffef]) | (?=[\u3000-\u9fff\uff00-\uffef])"
)
_LOOKED_AT = 200  # texts by which Chinese is told
KINDS = ("chars", "words", "bpe")
# The most tokens of each kind, unless specified.
DEFAULT_SIZE = {"chars": 20_000, "words": 20_000, "bpe": 2_000}


class Vocabulary:
    """Tokens and their numbers; `text` is all of it as JSON, in the format of `tokenizers`.

    A first line `jieba` says that texts are cut into Chinese words before.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_segmented = text.startswith(_SEGMENTED)

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        try:
            found = Tokenizer.from_str(self.text.removeprefix(_SEGMENTED))
        except Exception as e:  # the library has no exception type of its own
            raise DataError(
                f"the vocabulary is damaged ({e}); load the data again, or train the run anew"
            ) from e
        found.encode_special_tokens = True  # a text that holds "<eos>" holds five characters
        return found

    @cached_property
    def tokens(self) -> list[str]:
        """Every token by its number; byte pairs show a space as Ġ."""
        numbers = self._tokenizer.get_vocab()
        return sorted(numbers, key=lambda token: numbers[token])

    def encode(self, text: str) -> list[int]:
        """Return the token numbers of a text, without `<eos>`."""
        (numbers,) = self.encode_all([text])
        return numbers

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token numbers of each text."""
        if self.is_segmented:
            texts = [segmented(text) for text in texts]
        with serial_tokenizers():
            encoded = self._tokenizer.encode_batch_fast(list(texts))
        numbers = []
        for text in encoded:
            numbers.append([_ordinary(number) for number in text.ids])
        return numbers

    def numbers(self, tokens: Iterable[str]) -> list[int]:
        """Return the numbers of what is cut into tokens already."""
        numbers = []
        for token in tokens:
            number = self._tokenizer.token_to_id(token)
            if number is None:
                numbers.append(UNK)
            else:
                numbers.append(_ordinary(number))
        return numbers

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of token numbers, `<pad>` and `<eos>` left out."""
        shown = [number for number in numbers if number not in (PAD, EOS)]
        text = str(self._tokenizer.decode(shown, skip_special_tokens=False))
        return _BLANK_IN_CHINESE.sub("", text) if self.is_segmented else text


def _ordinary(number: int) -> int:
    """Return the number of a token, unknown for those that no text can hold."""
    return number if number > EOS else UNK


def learn(
    texts: Iterable[str], kind: str = "chars", size: int | None = None, spaces_only: bool = False
) -> Vocabulary:
    """Return the vocabulary of some texts: the most frequent tokens, `size` of them in all.

    chars: every character is a token. words: runs of letters and digits, and every other sign
    (Chinese: words as the library jieba cuts them); with spaces_only what spaces separate. bpe:
    byte pairs, in which nothing is unknown (Sennrich et al. 2016). Raises DataError for another
    kind or too small a size.
    """
    if kind not in KINDS:
        raise DataError(wrong("tokens", kind, "must be chars, words or bpe"))
    most = DEFAULT_SIZE[kind] if size is None else size
    # 256 bytes, the special tokens, and one merge.
    least = 260 if kind == "bpe" else len(SPECIAL) + 1
    if most < least:
        raise DataError(wrong("vocabulary", size, f"must be at least {least} for {kind}"))
    texts = list(texts)
    is_segmented = kind == "words" and not spaces_only and _is_chinese(texts)
    if is_segmented:
        texts = [segmented(text) for text in texts]
        spaces_only = True
    with serial_tokenizers():
        if kind == "bpe":
            tokenizer = _learn_bpe(texts, most)
        else:
            tokenizer = _learn_words(texts, kind, most, spaces_only)
    return Vocabulary(f"{_SEGMENTED if is_segmented else ''}{tokenizer.to_str()}")


def _is_chinese(texts: Sequence[str]) -> bool:
    """Whether most signs are Chinese, which is written without spaces between words."""
    signs = "".join(texts[:_LOOKED_AT])
    return 2 * len(_CHINESE.findall(signs)) > len(signs) > 0


def segmented(text: str) -> str:
    """Return a Chinese text with spaces between its words. Raises DataError without jieba."""
    try:
        import jieba
    except ImportError as e:
        rule = "needs a library that cuts Chinese into words"
        hint = "try pip install 'danlu[chinese]', or --tokens chars"
        raise DataError(wrong("tokens", "words", rule, hint)) from e
    jieba.setLogLevel("WARNING")
    return " ".join(word for word in jieba.cut(text) if word.strip())


def _learn_words(texts: Iterable[str], kind: str, most: int, spaces_only: bool) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel({}, unk_token=SPECIAL[UNK]))
    splitter: Any = pre_tokenizers.Whitespace()
    if kind == "chars":
        splitter = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    elif spaces_only:
        splitter = pre_tokenizers.WhitespaceSplit()
    if spaces_only:
        # A word that is spelt like a special token stays unknown.
        texts = map(_without_special_tokens, texts)
    tokenizer.pre_tokenizer = splitter
    trainer = trainers.WordLevelTrainer(
        vocab_size=most, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "chars":
        tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _without_special_tokens(text: str) -> str:
    words = [word for word in text.split() if word not in SPECIAL]
    return " ".join(words)


def _learn_bpe(texts: Iterable[str], most: int) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNK]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
