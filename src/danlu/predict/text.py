"""What a trained network says of texts: classes, tags, how likely they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from danlu.data.memmap import Array
from danlu.data.schema import Schema
from danlu.data.sources.text import LONGEST, cut
from danlu.data.tags import Span, spans
from danlu.data.text import check_encodable, pad, tokenize
from danlu.data.vocabulary import EOS, UNK, Vocabulary
from danlu.errors import DataNotice, RunError, first, notify, some, wrong
from danlu.nn.information import perplexity
from danlu.nn.protocols import State, Stateful
from danlu.predict.trained import Trained, vocabulary_for

AT_ONCE = 1 << 14  # tokens of a text that a recurrent network reads in one piece
_LOGITS_AT_ONCE = 1 << 24
_LONGEST_SENTENCE = 100_000  # tokens: all are tagged together
_PAIRS_AT_ONCE = 1 << 30  # of tags, over all tokens: by a CRF each takes a moment
EncodeAll = Callable[[Sequence[str]], Sequence[Array | list[int]]]


@dataclass(frozen=True)
class SentenceScore:
    """How likely a text is: log P in nats of its tokens, and of its end if lines were learnt.

    unknown: how many of the tokens the vocabulary does not hold.
    """

    text: str
    nats: float
    tokens: int
    unknown: int = 0

    @property
    def perplexity(self) -> float:
        """Exp of the mean −log P of a token."""
        return perplexity(-self.nats / self.tokens)


@dataclass(frozen=True)
class Tagged:
    """A sentence with a tag for each token, and the entities that the tags name.

    gap: what stands between tokens.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    entities: tuple[Span, ...]
    gap: str


def encode(trained: Trained, texts: Sequence[str]) -> Tensor:
    """Return token numbers [N, T] of texts for a classifier.

    Raises RunError for texts of which no token is known.
    """
    vocabulary = vocabulary_for(trained, "classification")
    rows = cut_as_in_training(encode_checked(vocabulary.encode_all, texts), trained.schema)
    return torch.from_numpy(pad(rows))


def cut_as_in_training(rows: Sequence[Array], schema: Schema) -> list[Array]:
    """Return the first numbers of long texts, as many as training had, and say what is cut."""
    places = [f"text {number}" for number in range(1, len(rows) + 1)]
    short, notices = cut(rows, {"like": schema}, places)
    for notice in notices:
        notify(notice, DataNotice)
    return short


def encode_checked(encode_all: EncodeAll, texts: Sequence[str], blank: bool = False) -> list[Array]:
    """Return the token numbers [T] of each text.

    blank: whether a text may be of spaces alone. Raises RunError for what is not text, empty, or
    without any known token.
    """
    texts = _checked_list(texts)
    rows = [np.asarray(row, np.int32) for row in encode_all(texts)]
    empty = []
    unknown = []
    for number, (row, text) in enumerate(zip(rows, texts, strict=True), 1):
        is_blank = not text.strip()
        if not len(row) or (is_blank and not blank):
            empty.append(str(number))
        if len(row) and (row == UNK).all():
            unknown.append(repr(text))
    mistakes = []
    if not rows:
        mistakes.append("there is no text; give at least one")
    if empty:
        mistakes.append(f"text {some(empty)} is empty; write at least one token")
    if unknown:
        mistakes.append(
            f"no token of {some(unknown)} was in the training text; use its language and characters"
        )
    if mistakes:
        raise RunError(*mistakes)
    return rows


def _checked_list(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        beginning = texts[:30]
        raise RunError(f"`texts` is one string, but must be a list of them; try [{beginning!r}]")
    if not isinstance(texts, Iterable):
        raise RunError(wrong("texts", texts, "must be a list of strings"))
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str):
            kind = type(text).__name__
            raise RunError(f"{text!r} is not text, but {kind}; give strings")
        check_encodable(text, "the text")
    return listed


def tag(trained: Trained, texts: Sequence[str]) -> list[Tagged]:
    """Return the tags of each text.

    Tokens are characters where the network learnt characters, else what spaces separate. Raises
    RunError for a network that is not a tagger, or texts it cannot read.
    """
    vocabulary = vocabulary_for(trained, "tagging")
    schema = trained.schema
    known = set(vocabulary.tokens)
    sentences: list[list[str]] = []

    def encode_all(texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            tokens = tokenize(text, known, schema.spaced)
            sentences.append(tokens)
        return [vocabulary.numbers(tokens) for tokens in sentences]

    rows = encode_checked(encode_all, texts)
    longest = _LONGEST_SENTENCE
    if trained.recipe.model.crf:
        longest = max(LONGEST, min(longest, _PAIRS_AT_ONCE // len(schema.classes) ** 2))
    too_long = [
        f"text {number} has {len(row):,} tokens, but may have {longest:,}; give it in sentences, "
        "one on each line"
        for number, row in enumerate(rows, 1)
        if len(row) > longest
    ]
    if too_long:
        raise RunError(*first(too_long, "texts"))
    model = trained.model()
    gap = " " if schema.spaced else ""
    tagged = []
    for tokens, row in zip(sentences, rows, strict=True):
        tags = _tags(model, row, schema.classes)
        entities = []
        # Plain labels, such as parts of speech, name no entities.
        if schema.scheme:
            entities = spans(tags, schema.scheme)
        tagged.append(Tagged(tuple(tokens), tuple(tags), tuple(entities), gap))
    return tagged


@torch.no_grad()
def _tags(model: nn.Module, tokens: Array, names: Sequence[str]) -> list[str]:
    x = torch.from_numpy(tokens)[None]  # [1, T]
    scores = model(x)
    # A network with a CRF gives the likeliest path after the marginals.
    if isinstance(scores, tuple):
        _, scores = scores
    (numbers,) = scores.argmax(-1).tolist()
    return [names[k] for k in numbers]


def unknown_tokens(trained: Trained, text: str) -> int:
    """Return how many tokens of a text the network has no number for."""
    vocabulary = Vocabulary(trained.schema.vocabulary)
    tokens = vocabulary.encode(text)
    return tokens.count(UNK)


def without_trailing_space(trained: Trained, text: str) -> str:
    """Return the text without a space at its end that is not a token: words bring theirs along."""
    vocabulary = Vocabulary(trained.schema.vocabulary)
    shorter = text.rstrip()
    if vocabulary.encode(shorter) == vocabulary.encode(text):
        return shorter
    return text


def score(trained: Trained, texts: Sequence[str]) -> list[SentenceScore]:
    """Return log P of each text by a language model, read from the beginning of a text.

    Raises RunError for another network, or texts it cannot read.
    """
    vocabulary = vocabulary_for(trained, "language")
    rows = encode_checked(vocabulary.encode_all, texts, blank=True)
    model = trained.model()
    ends = [EOS] if trained.schema.lines else []  # where lines were learnt, the end of one counts
    scores = []
    for text, row in zip(texts, rows, strict=True):
        tokens = torch.from_numpy(np.concatenate([[EOS], row, ends]).astype(np.int32))
        with _stateful(model):
            nats = _log_p(model, tokens, trained.schema.tokens)
        predicted = len(tokens) - 1
        unknown = int((row == UNK).sum())
        scores.append(SentenceScore(text, nats, predicted, unknown))
    return scores


def _tokens_at_once(tokens_known: int) -> int:
    """Return how many tokens are scored in one piece: each has a logit for every token."""
    return max(64, min(AT_ONCE, _LOGITS_AT_ONCE // max(1, tokens_known)))


@contextlib.contextmanager
def _stateful(model: nn.Module) -> Iterator[None]:
    """Have a recurrent network give its state, by which it reads a long text in pieces."""
    if not isinstance(model, Stateful):
        yield
        return
    before = model.stateful
    model.stateful = True
    try:
        yield
    finally:
        model.stateful = before


@torch.no_grad()
def _log_p(model: nn.Module, tokens: Tensor, tokens_known: int) -> float:
    """Return log P of the tokens after the first."""
    x, following = tokens[:-1], tokens[1:].long()
    nats = 0.0
    state: State | None = None
    step = _tokens_at_once(tokens_known) if isinstance(model, Stateful) else len(x)
    for piece, next_tokens in zip(x.split(step), following.split(step), strict=True):
        if isinstance(model, Stateful):
            (logits,), state = model(piece[None], state)  # [T, K]
        else:
            (logits,) = model(piece[None])
        log_p = torch.log_softmax(logits.double(), 1)
        nats += float(log_p.gather(1, next_tokens[:, None]).sum())
    return nats
