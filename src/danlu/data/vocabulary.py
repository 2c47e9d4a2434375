"""Vocabularies of characters, words or byte pairs, by `tokenizers`: text as numbers and back.

The first three tokens are always `<pad>` (fills up short examples), `<unk>` (what the training part did not hold) and
`<eos>` (the end of a text, and the beginning of the next).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from danlu.errors import DataError, wrong

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNK, EOS = 0, 1, 2
SPECIAL = ("<pad>", "<unk>", "<eos>")
KINDS = ("chars", "words", "bpe")
SIZE = {"chars": 20_000, "words": 20_000, "bpe": 2_000}  # tokens at most, unless told


class Vocabulary:
    """Tokens and their numbers. `text` is the whole of it as JSON, in the format of `tokenizers`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        try:
            found = Tokenizer.from_str(self.text)
        except Exception as e:  # the library has no kind of its own
            raise DataError(
                f"the vocabulary is damaged ({e}); load the data again, or train the run anew"
            ) from e
        found.encode_special_tokens = True  # a text that holds "<eos>" holds five signs
        return found

    @cached_property
    def tokens(self) -> list[str]:
        """Every token by its number; byte pairs show a space as Ġ."""
        found = self._tokenizer.get_vocab()
        return sorted(found, key=lambda t: found[t])

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text, without `<eos>`."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text."""
        return [
            [n if n > EOS else UNK for n in e.ids]
            for e in self._tokenizer.encode_batch_fast(list(texts))
        ]

    def numbers(self, tokens: Iterable[str]) -> list[int]:
        """Numbers of what is cut into tokens already."""
        return [n if (n := self._tokenizer.token_to_id(t) or UNK) > EOS else UNK for t in tokens]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of token numbers, `<pad>` and `<eos>` left out."""
        return str(
            self._tokenizer.decode(
                [n for n in numbers if n not in (PAD, EOS)], skip_special_tokens=False
            )
        )


def learn(
    texts: Iterable[str], kind: str = "chars", size: int | None = None, cut: bool = False
) -> Vocabulary:
    """The vocabulary of some texts: the most frequent tokens, `size` of them with the special ones.

    chars: every character is a token; words: runs of letters and digits, and every other sign (Chinese: what spaces
    or signs set apart; with `cut` by spaces alone); bpe: byte pairs, in which nothing is unknown (Sennrich et al. 2016).
    Raises DataError.
    """
    if kind not in KINDS:
        raise DataError(wrong("tokens", kind, "must be chars, words or bpe"))
    most = SIZE[kind] if size is None else size
    least = 260 if kind == "bpe" else len(SPECIAL) + 1
    if most < least:
        raise DataError(wrong("vocabulary", size, f"must be at least {least} for {kind}"))
    os.environ.setdefault(
        "TOKENIZERS_PARALLELISM", "false"
    )  # else it warns of every process that is forked later
    tokenizer = _bpe(texts, most) if kind == "bpe" else _levels(texts, kind, most, cut)
    return Vocabulary(tokenizer.to_str())


def _levels(texts: Iterable[str], kind: str, most: int, cut: bool) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel({}, unk_token=SPECIAL[UNK]))
    if cut:  # a word that is spelt like a special token is not known
        texts = (" ".join(w for w in t.split() if w not in SPECIAL) for t in texts)
    words: Any = pre_tokenizers.WhitespaceSplit() if cut else pre_tokenizers.Whitespace()
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated") if kind == "chars" else words
    )
    trainer = trainers.WordLevelTrainer(
        vocab_size=most, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "chars":
        tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _bpe(texts: Iterable[str], most: int) -> Tokenizer:
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
