"""What a trained network says of texts: classes, tags, how likely they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danlu.data.tags import Span, spans
from danlu.data.text import check_encodable, pad, tokenize
from danlu.data.vocabulary import EOS, UNK, Vocabulary
from danlu.errors import RunError, some, wrong
from danlu.predict.trained import Trained, vocabulary_for

EncodeAll = Callable[[Sequence[str]], list[list[int]]]


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
        return float(torch.tensor(-self.nats / self.tokens).exp())


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
    encode_all = vocabulary_for(trained, "classification").encode_all
    return torch.from_numpy(pad(encode_checked(encode_all, texts)))


def encode_checked(
    encode_all: EncodeAll, texts: Sequence[str], blank: bool = False
) -> list[list[int]]:
    """Return the token numbers of each text.

    blank: whether a text may be of spaces alone. Raises RunError for what is not text, empty, or
    without any known token.
    """
    texts = _checked_list(texts)
    rows = encode_all(texts)
    pairs = list(zip(rows, texts, strict=True))
    empty = [i for i, (row, t) in enumerate(pairs, 1) if not row or not (blank or t.strip())]
    unknown = [t for row, t in pairs if row and all(token == UNK for token in row)]
    mistakes = []
    if not rows:
        mistakes.append("there is no text; give at least one")
    if empty:
        mistakes.append(f"text {some(map(str, empty))} is empty; write at least one token")
    if unknown:
        listed = some(map(repr, unknown))
        mistakes.append(
            f"no token of {listed} was in the training text; use its language and characters"
        )
    if mistakes:
        raise RunError(*mistakes)
    return rows


def _checked_list(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise RunError(f"`texts` is one string, but must be a list of them; try [{texts[:30]!r}]")
    if not isinstance(texts, Iterable):
        raise RunError(wrong("texts", texts, "must be a list of strings"))
    listed = list(texts)
    for t in listed:
        if not isinstance(t, str):
            raise RunError(f"{t!r} is not text, but {type(t).__name__}; give strings")
        check_encodable(t, "the text")
    return listed


def tag(trained: Trained, texts: Sequence[str]) -> list[Tagged]:
    """Return the tags of each text.

    Tokens are characters where the network learnt characters, else what spaces separate. Raises
    RunError for a network that is not a tagger, or texts it cannot read.
    """
    vocabulary, schema = vocabulary_for(trained, "tagging"), trained.schema
    known = set(vocabulary.tokens)
    sentences: list[list[str]] = []

    def encode_all(texts: Sequence[str]) -> list[list[int]]:
        sentences.extend(tokenize(t, known, schema.spaced) for t in texts)
        return [vocabulary.numbers(tokens) for tokens in sentences]

    rows = encode_checked(encode_all, texts)
    model, gap = trained.model(), " " if schema.spaced else ""
    found = []
    with torch.no_grad():
        for tokens, row in zip(sentences, rows, strict=True):
            out = model(torch.tensor([row], dtype=torch.int32))
            # A network with a CRF gives the likeliest path after the marginals.
            scores = out[1] if isinstance(out, tuple) else out
            tags = [schema.classes[int(k)] for k in scores.argmax(-1)[0]]
            entities = spans(tags, schema.scheme) if schema.scheme else []
            found.append(Tagged(tuple(tokens), tuple(tags), tuple(entities), gap))
    return found


def unknown_tokens(trained: Trained, text: str) -> int:
    """Return how many tokens of a text the network has no number for."""
    return Vocabulary(trained.schema.vocabulary).encode(text).count(UNK)


def without_trailing_space(trained: Trained, text: str) -> str:
    """Return the text without a space at its end that is not a token: words bring theirs along."""
    vocabulary, shorter = Vocabulary(trained.schema.vocabulary), text.rstrip()
    return shorter if vocabulary.encode(shorter) == vocabulary.encode(text) else text


def score(trained: Trained, texts: Sequence[str]) -> list[SentenceScore]:
    """Return log P of each text by a language model, read from the beginning of a text.

    Raises RunError for another network, or texts it cannot read.
    """
    encode_all = vocabulary_for(trained, "language").encode_all
    rows = encode_checked(encode_all, texts, blank=True)
    model, ends_count = trained.model(), trained.schema.lines
    found = []
    with torch.no_grad():
        for text, row in zip(texts, rows, strict=True):
            tokens = [EOS, *row, EOS] if ends_count else [EOS, *row]
            out = model(torch.tensor([tokens[:-1]], dtype=torch.int32))
            logits = (out[0] if isinstance(out, tuple) else out)[0]
            log_p = torch.log_softmax(logits.double(), 1)
            nats = log_p.gather(1, torch.tensor(tokens[1:]).unsqueeze(1)).sum()
            found.append(SentenceScore(text, float(nats), len(tokens) - 1, row.count(UNK)))
    return found
