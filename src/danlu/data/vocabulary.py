"""Vocabularies of characters, words or byte pairs, by `tokenizers`: text as numbers and back.

The first three tokens are always `<pad>` (fills up short examples), `<unk>` (what the training part
did not hold) and `<eos>` (the end of a text, and the beginning of the next).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from danlu.data.memmap import Array
from danlu.errors import DataError, wrong
from danlu.host import interruptible, serial_tokenizers

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
_ONE_CHARACTER = r"[\s\S]"
_CHARACTERS = {
    "type": "Split",
    "pattern": {"Regex": _ONE_CHARACTER},
    "behavior": "Isolated",
    "invert": False,
}
_LONGEST_WORD = 256  # characters between spaces that byte pairs take together
_WORD_ENDS = re.compile(r"(?<=\S) (?=\S)")
_AT_ONCE = 1 << 20  # characters that are encoded together: the library takes 300 bytes for each
_TEXTS_AT_ONCE = 10_000  # whose characters are counted together
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

    @cached_property
    def _of_characters(self) -> Array | None:
        """The number of each character by its code point; None where tokens are longer."""
        settings = json.loads(self._tokenizer.to_str())
        if settings["pre_tokenizer"] != _CHARACTERS or settings["normalizer"] is not None:
            return None
        numbers = np.full(sys.maxunicode + 1, UNK, np.int32)
        for token, number in self._tokenizer.get_vocab().items():
            if len(token) == 1:
                numbers[ord(token)] = number
        return numbers

    def encode(self, text: str) -> list[int]:
        """Return the token numbers of a text, without `<eos>`."""
        (numbers,) = self.encode_all([text])
        return cast(list[int], numbers.tolist())

    def encode_all(self, texts: Sequence[str]) -> list[Array]:
        """Return the token numbers [T] of each text, int32."""
        if self.is_segmented:
            texts = [segmented(text) for text in texts]
        if self._of_characters is not None:
            return [self._of_characters[code_points(text)] for text in texts]
        pieces: list[str] = []
        ends = []  # of each text, in pieces
        for text in texts:
            pieces += _pieces(text)
            ends.append(len(pieces))
        rows = self._encoded(pieces)
        return [joined(rows[start:end]) for start, end in pairwise([0, *ends])]

    def _encoded(self, pieces: Sequence[str]) -> list[Array]:
        """Return the numbers of pieces of texts, so many at a time that memory holds them."""
        rows: list[Array] = []
        start = 0
        while start < len(pieces):
            end, size = start, 0
            while end < len(pieces) and size < _AT_ONCE:
                size += len(pieces[end]) + 1
                end += 1
            with serial_tokenizers():
                encoded = self._tokenizer.encode_batch_fast(list(pieces[start:end]))
            ids = [piece.ids for piece in encoded]
            numbers = np.fromiter(chain.from_iterable(ids), np.int32)
            numbers[numbers <= EOS] = UNK  # no text holds a special token
            ends = accumulate(map(len, ids), initial=0)
            rows += [numbers[a:b] for a, b in pairwise(ends)]
            start = end
        return rows

    def numbers(self, tokens: Iterable[str]) -> list[int]:
        """Return the numbers of what is cut into tokens already."""
        numbers = []
        for token in tokens:
            number = self._tokenizer.token_to_id(token)
            if number is None:
                numbers.append(UNK)
            else:
                numbers.append(number if number > EOS else UNK)
        return numbers

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of token numbers, `<pad>` and `<eos>` left out."""
        shown = [number for number in numbers if number not in (PAD, EOS)]
        text = str(self._tokenizer.decode(shown, skip_special_tokens=False))
        return _BLANK_IN_CHINESE.sub("", text) if self.is_segmented else text


def code_points(text: str) -> Array:
    """Return the number in Unicode of each character [T]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def joined(rows: Sequence[Array]) -> Array:
    """Return the numbers of several pieces of a text in a row."""
    return np.concatenate(rows) if rows else np.zeros(0, np.int32)


def _pieces(text: str) -> Iterator[str]:
    """Yield a long text in parts, cut before single spaces: there words and byte pairs end, too."""
    start = 0
    while len(text) - start > _AT_ONCE:
        found = _WORD_ENDS.search(text, start + _AT_ONCE)
        if found is None:
            break
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


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
    pieces = chain.from_iterable(map(_pieces, texts))
    with serial_tokenizers():
        if kind == "chars":
            tokenizer = _learn_characters(texts, most)
        elif kind == "bpe":
            tokenizer = interruptible(lambda: _learn_bpe(pieces, most))
        else:
            tokenizer = interruptible(lambda: _learn_words(pieces, most, spaces_only))
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


def _learn_characters(texts: Sequence[str], most: int) -> Tokenizer:
    """Return the vocabulary of characters: the most frequent first, equally frequent by number."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    counts = np.zeros(sys.maxunicode + 1, np.int64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        batch = "".join(texts[start : start + _TEXTS_AT_ONCE])
        counts += np.bincount(code_points(batch), minlength=len(counts))
    by_count = np.argsort(-counts, kind="stable")
    used = by_count[: min(most - len(SPECIAL), int((counts > 0).sum()))]
    tokens = [*SPECIAL, *map(chr, used.tolist())]
    numbers = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=SPECIAL[UNK]))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_ONE_CHARACTER), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _learn_words(texts: Iterable[str], most: int, spaces_only: bool) -> Tokenizer:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel({}, unk_token=SPECIAL[UNK]))
    splitter: Any = pre_tokenizers.Whitespace()
    if spaces_only:
        splitter = pre_tokenizers.WhitespaceSplit()
        # A word that is spelt like a special token stays unknown.
        texts = map(_without_special_tokens, texts)
    tokenizer.pre_tokenizer = splitter
    trainer = trainers.WordLevelTrainer(
        vocab_size=most, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _without_special_tokens(text: str) -> str:
    words = [word for word in text.split() if word not in SPECIAL]
    return " ".join(words)


def _learn_bpe(texts: Iterable[str], most: int) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNK]))
    # Merges take time that grows faster than a word, so a word without end is taken in parts.
    parts = pre_tokenizers.Split(Regex(rf"\S{{{_LONGEST_WORD}}}"), "isolated")
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([parts, bytes_of])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
