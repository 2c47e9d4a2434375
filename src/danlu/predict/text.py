"""What a finished run does with text: tell classes and tags, weigh sentences, write on, translate."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danlu.data.sources.tagged import cut, spans
from danlu.data.sources.text import padded, sound
from danlu.data.vocabulary import EOS, PAD, UNK, Vocabulary
from danlu.errors import RunError, some, wrong
from danlu.rng import stream
from danlu.runs.run import Run


@dataclass(frozen=True)
class SentenceScore:
    """How likely a text is: log P in nats, over its tokens and, where lines were learnt, its end; unknown: of the tokens."""

    text: str
    nats: float
    tokens: int
    unknown: int = 0

    @property
    def perplexity(self) -> float:
        """exp of the mean −log P of a token."""
        return float(torch.tensor(-self.nats / self.tokens).exp())


@dataclass(frozen=True)
class Tagged:
    """A sentence with a tag for each token; entities as (first token, one past the last, kind); gap: between tokens."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    entities: tuple[tuple[int, int, str], ...]
    gap: str


def needs(run: Run, *tasks: str) -> Vocabulary:
    """The run's vocabulary. Raises RunError when its task is another."""
    if run.schema.task not in tasks or not run.schema.is_text:
        what = f"{run.schema.task} of " + (
            "text" if run.schema.is_text else "pictures" if run.schema.is_image else "tables"
        )
        raise RunError(
            f"{str(run.path)!r} was trained for {what}, but this needs {' or '.join(tasks)} of text"
        )
    return Vocabulary(run.schema.vocabulary)


def encode(run: Run, texts: Sequence[str]) -> Tensor:
    """Token numbers [N, T] of texts for a classifier. Raises RunError for texts of which it knows no token."""
    return torch.from_numpy(padded(_rows(needs(run, "classification").encode_all, texts)))


def _rows(
    encode_all: Callable[[Sequence[str]], list[list[int]]],
    texts: Sequence[str],
    blank: bool = False,
) -> list[list[int]]:
    """Token numbers of each text. Raises DanluError for what is no text, empty, or without anything known.

    blank: whether a text may be of spaces alone.
    """
    if isinstance(texts, str):
        raise RunError(f"`texts` is one string, but must be a list of them; try [{texts[:30]!r}]")
    if not isinstance(texts, Iterable):
        raise RunError(wrong("texts", texts, "must be a list of strings"))
    texts = list(texts)
    for t in texts:
        if not isinstance(t, str):
            raise RunError(f"{t!r} is no text, but {type(t).__name__}; give strings")
        sound(t, "the text")
    rows = encode_all(texts)
    empty = [
        k
        for k, (row, t) in enumerate(zip(rows, texts, strict=True), 1)
        if not row or not (blank or t.strip())
    ]
    strange = [t for row, t in zip(rows, texts, strict=True) if row and all(n == UNK for n in row)]
    mistakes = [] if rows else ["there is no text; give at least one"]
    mistakes += (
        [f"text {some(map(str, empty))} is empty; write at least one token"] if empty else []
    )
    if strange:
        mistakes.append(
            f"no token of {some(map(repr, strange))} was in the training text; use its language and signs"
        )
    if mistakes:
        raise RunError(*mistakes)
    return rows


def tag(run: Run, texts: Sequence[str]) -> list[Tagged]:
    """The tags of each text: of its signs where the run learnt signs, else of what spaces set apart."""
    learnt, schema, pieces = needs(run, "tagging"), run.schema, list[list[str]]()
    known = set(learnt.tokens)

    def encode_all(texts: Sequence[str]) -> list[list[int]]:
        pieces.extend(cut(t, known, schema.spaced) for t in texts)
        return [learnt.numbers(tokens) for tokens in pieces]

    rows, found, model, names = _rows(encode_all, texts), [], run.model(), schema.classes
    gap = " " if schema.spaced else ""
    with torch.no_grad():
        for tokens, row in zip(pieces, rows, strict=True):
            out = model(torch.tensor([row], dtype=torch.int32))
            guess = out[1].argmax(-1) if isinstance(out, tuple) else out.argmax(-1)
            tags = [names[int(k)] for k in guess[0]]
            found.append(
                Tagged(
                    tuple(tokens),
                    tuple(tags),
                    tuple(spans(tags, schema.scheme)) if schema.scheme else (),
                    gap,
                )
            )
    return found


def unknown(run: Run, text: str) -> int:
    """How many tokens of a text the run has no number for."""
    return Vocabulary(run.schema.vocabulary).encode(text).count(UNK)


def without_idle_space(run: Run, text: str) -> str:
    """The text without the space at its end where that is no token: words bring theirs along."""
    learnt, short = Vocabulary(run.schema.vocabulary), text.rstrip()
    return short if learnt.encode(short) == learnt.encode(text) else text


def score(run: Run, texts: Sequence[str]) -> list[SentenceScore]:
    """log P of each text by a language model, read from the beginning of a text."""
    rows = _rows(needs(run, "language").encode_all, texts, blank=True)
    model: Any = run.model()
    found = []
    with torch.no_grad():
        for text, row in zip(texts, rows, strict=True):
            whole = [EOS, *row, *([EOS] if run.schema.lines else [])]
            out = model(torch.tensor([whole[:-1]], dtype=torch.int32))
            logits = (out[0] if isinstance(out, tuple) else out)[0]
            nats = (
                torch.log_softmax(logits.double(), 1)
                .gather(1, torch.tensor(whole[1:]).unsqueeze(1))
                .sum()
            )
            found.append(SentenceScore(text, float(nats), len(whole) - 1, row.count(UNK)))
    return found


def generate(
    run: Run,
    prompt: str = "",
    temperature: float = 0.8,
    top_k: int = 0,
    length: int = 500,
    seed: int = 0,
) -> Iterator[str]:
    """Write on from a prompt, piece by piece, until `<eos>` or `length` tokens.

    temperature: logits are divided by it; 0 takes the likeliest token each time. top_k: only among the k likeliest.
    Raises RunError for a prompt that holds nothing the network knows.
    """
    learnt = needs(run, "language")
    bad = not (isinstance(temperature, numbers.Real) and 0 <= temperature < math.inf)
    mistakes = (
        [wrong("temperature", temperature, "must be at least 0, and finite", "try 0.8")]
        if bad
        else []
    )
    mistakes += _whole(top_k=(top_k, 0, 40), length=(length, 1, 500))
    if mistakes:
        raise RunError(*mistakes)
    row = _rows(learnt.encode_all, [prompt], blank=True)[0] if prompt else []
    model: Any = run.model()
    return _written(model, learnt, row, temperature, top_k, length, seed)


def _whole(**given: tuple[Any, int, int]) -> list[str]:
    """What is wrong with whole numbers by name: each given, at least, and what to try."""
    kinds = [(k, v, least, f"try {way}") for k, (v, least, way) in given.items()]
    mistakes = [
        wrong(k, v, "must be a whole number", way)
        for k, v, _, way in kinds
        if not isinstance(v, numbers.Integral)
    ]
    return mistakes or [
        wrong(k, v, f"must be at least {least}", way) for k, v, least, way in kinds if v < least
    ]


def _written(
    model: Any,
    learnt: Vocabulary,
    row: list[int],
    temperature: float,
    top_k: int,
    length: int,
    seed: int,
) -> Iterator[str]:
    g, states, now = stream(seed, "generate"), None, [EOS, *row]
    numbers, since, shown = (
        list(row),
        max(0, len(row) - 8),
        len(row),
    )  # written: up to `shown`; decoded anew: from `since`
    for _ in range(length):
        with torch.no_grad():
            logits, states = model.step(torch.tensor([now], dtype=torch.int32), states)
        chosen = draw(logits[0], temperature, top_k, g)
        if chosen == EOS:
            break
        numbers.append(chosen)
        now = [chosen]
        text = learnt.decode(numbers[since:])
        if not text.endswith("�"):  # a character of several bytes is not whole yet
            yield text[len(learnt.decode(numbers[since:shown])) :]
            since, shown = shown, len(numbers)
    if shown < len(numbers):
        yield learnt.decode(numbers[since:])[len(learnt.decode(numbers[since:shown])) :]


def draw(logits: Tensor, temperature: float, top_k: int, g: torch.Generator) -> int:
    """A token by its logits [K]; never padding, nor what is unknown."""
    logits = logits.double().clone()
    logits[[PAD, UNK]] = -torch.inf
    if top_k:
        least = logits.topk(min(top_k, len(logits) - 2)).values[-1]
        logits[logits < least] = -torch.inf
    if temperature == 0:
        return int(logits.argmax())
    return int(
        torch.multinomial(((logits - logits.max()) / temperature).softmax(0), 1, generator=g)
    )


def translate(
    run: Run, texts: Sequence[str], beam: int = 1, length: int = 200
) -> list[tuple[str, float]]:
    """The second text of each pair by its first, and its log P; beam: how many beginnings are kept (1: the likeliest token).

    Texts that are done leave their places to others; the likeliest by log P wins.
    """
    learnt = needs(run, "pairs")
    mistakes = _whole(beam=(beam, 1, 5), length=(length, 1, 200))
    mistakes += [wrong("beam", beam, "must be at most 1,000", "try 5")] if beam > 1000 else []
    if mistakes:
        raise RunError(*mistakes)
    return write_to(run, _rows(learnt.encode_all, texts), beam, length)


def write_to(
    run: Run, sources: Sequence[Sequence[int]], beam: int = 1, length: int = 200
) -> list[tuple[str, float]]:
    """The same of sources as numbers of tokens, known or not."""
    learnt, model = Vocabulary(run.schema.vocabulary), run.model()
    with torch.no_grad():
        found = [_beamed(model, row, beam, length) for row in sources]
    return [(learnt.decode(numbers), nats) for numbers, nats in found]


def _beamed(model: Any, row: Sequence[int], beam: int, length: int) -> tuple[list[int], float]:
    """Legend: W beginnings side by side, K tokens."""
    states, (values, known) = model.read(torch.tensor([list(row)], dtype=torch.int32))
    written: list[tuple[list[int], float]] = [
        ([EOS], 0.0)
    ]  # still open, as many as `states` has rows
    done: list[tuple[list[int], float]] = []
    for _ in range(length):
        w = len(written)
        last = torch.tensor([[numbers[-1]] for numbers, _ in written], dtype=torch.int32)
        memory = values.expand(-1, w, -1), known.expand(-1, w)
        logits, states = model.write(last, states, memory)
        logits = logits[-1].double()
        logits[:, [PAD, UNK]] = -torch.inf
        total = logits.log_softmax(1) + torch.tensor(
            [nats for _, nats in written], dtype=torch.float64
        ).unsqueeze(1)
        top = total.flatten().topk(min(beam, int(total.isfinite().sum())))
        longer = [
            (*divmod(int(k), total.shape[1]), float(v))
            for k, v in zip(top.indices, top.values, strict=True)
        ]
        done += [(written[i][0], v) for i, k, v in longer if k == EOS]
        open_ones = [(i, k, v) for i, k, v in longer if k != EOS]
        best = max((v for _, v in done), default=-float("inf"))
        open_ones = [o for o in open_ones if o[2] > best]  # log P only falls
        if not open_ones:
            break
        written, index = (
            [(written[i][0] + [k], v) for i, k, v in open_ones],
            torch.tensor([i for i, *_ in open_ones]),
        )
        states = tuple(s[index] for s in states)
    numbers, nats = max(done or written, key=lambda d: d[1])
    return numbers[1:], nats
