"""How well a single column, a pixel at the edge or a word for each class tells the target.

Legend: n examples, F features, W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

ALL = 0.97  # what tells so much of the target gives it away
FEW_VALUES = 20  # of a column, each of which many examples have
MARGINS = 8  # a margin is an eighth of a picture wide; what it shows lies further in
_MARKED = (0.5, 0.98)  # shares of the way to the farthest value that make a pixel a mark
_SAME = 0.95  # what two words have in common that stand in the same texts


class Telling(NamedTuple):
    """What tells most of the target: its name, how well it does, and what tells next most."""

    name: str
    score: float
    next_score: float


def telling_column(x: Numbers, y: Numbers, column_of: Sequence[str], is_numeric: bool) -> Telling:
    """Return which column tells most of the targets y [n].

    x [n, F]; column_of: the column of each feature. is_numeric: whether targets are numbers.
    """
    features: dict[str, list[int]] = {}
    for place, name in enumerate(column_of[: x.shape[1]]):
        features.setdefault(name, []).append(place)
    scores = {}
    for name, places in features.items():
        scores[name] = _score(x[:, places], y, is_numeric)
    ranked = sorted(scores, key=lambda name: -scores[name])
    best, *others = ranked
    return Telling(best, scores[best], scores[others[0]] if others else 0.0)


def margin(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the places of a margin in pictures of a shape (C, H, W), flat, and their names."""
    channels, height, width = shape
    row, column = np.divmod(np.arange(channels * height * width) % (height * width), width)
    from_edge = np.minimum(
        np.minimum(row, height - 1 - row), np.minimum(column, width - 1 - column)
    )
    places = np.flatnonzero(from_edge < max(1, min(height, width) // MARGINS))
    of_channel = [f" of channel {p // (height * width)}" if channels > 1 else "" for p in places]
    names = zip(row[places], column[places], of_channel, strict=True)
    return places, [f"({r}, {c}){channel}" for r, c, channel in names]


def telling_pixel(x: Numbers, y: Numbers, names: Sequence[str], is_numeric: bool) -> Telling:
    """Return which number x [n, F] in the margin of pictures tells most, or one for each class.

    What tells next most is what half of the margin tells: a mark may be several pixels large.
    """
    scores = np.array([_score(x[:, [place]], y, is_numeric) for place in range(x.shape[1])])
    best = int(scores.argmax())
    one = Telling(f"the pixel {names[best]}", scores[best], float(np.median(scores)))
    if is_numeric or one.score >= ALL:
        return one
    # A mark may lie elsewhere for each class: bright where the margin is mostly dark, or dark.
    far = np.abs(x - np.median(x))
    marks = [telling_words(far > share * far.max(), y, names)[0] for share in _MARKED]
    several = max(marks, key=lambda telling: telling.score)
    several = several._replace(name=f"the pixels {several.name.replace(chr(39), '')}")
    return max(one, several, key=lambda telling: telling.score)


def telling_words(
    has: Flags, y: Numbers, names: Sequence[str]
) -> tuple[Telling, NDArray[np.int64]]:
    """Return which words, one for each class, tell most of the classes y [n], and their places.

    has [n, W]: which words a text has. What tells next most are words that do not stand in the same
    texts; those that do are among the places.
    """
    chosen, score = _told_by_words(has, y)
    sizes = has.sum(0)
    common = has[:, chosen].T.astype(np.float32) @ has.astype(np.float32)
    is_same = 2 * common > _SAME * (sizes[chosen][:, None] + sizes)
    is_mark = is_same.any(0)
    is_mark[chosen] = True
    shown = ", ".join(repr(names[word]) for word in dict.fromkeys(chosen.tolist()))
    telling = Telling(shown, score, _told_by_words(has & ~is_mark, y)[1])
    return telling, np.flatnonzero(is_mark)


def _told_by_words(has: Flags, y: Numbers) -> tuple[NDArray[np.int64], float]:
    """Return a word for each class, and the share of right classes by the surest one that is there.

    Learnt on a half of the texts, asked of the other.
    """
    is_learnt = _random_half(len(y))
    classes = np.eye(int(y.max()) + 1, dtype=np.float32)[y.astype(int)]
    known, truth = has[is_learnt].astype(np.float32), classes[is_learnt]
    texts_of = known.T @ truth
    precision = texts_of / np.maximum(1, known.sum(0)[:, None])
    harmonic = 2 * texts_of / np.maximum(1, known.sum(0)[:, None] + truth.sum(0))
    words = harmonic.argmax(0)
    sureness = np.where(has[:, words], precision[words, np.arange(len(words))], 0)
    is_silent = sureness.max(1) == 0
    silent = is_silent & is_learnt
    otherwise = classes[silent if silent.any() else is_learnt].sum(0).argmax()
    told = np.where(is_silent, otherwise, sureness.argmax(1))
    return words, float((told == y)[~is_learnt].mean())


def _random_half(n: int) -> Flags:
    half: Flags = np.random.default_rng(0).permutation(n) < n // 2
    return half


def _score(x: Numbers, y: Numbers, is_numeric: bool) -> float:
    """Return how well a column [n, features] tells the target.

    Of many numbers: how often examples beside each other in its order have one class; for a numeric
    target, the correlation of ranks.
    """
    _, value_of = np.unique(x, axis=0, return_inverse=True)
    if value_of.max() < FEW_VALUES or x.shape[1] > 1:
        return told_by_values(value_of.ravel(), y, is_numeric)
    # Of equal numbers examples must not lie as they were stored: perhaps by class.
    shuffled = np.random.default_rng(0).permutation(len(y))
    order = shuffled[np.argsort(x[shuffled, 0], kind="stable")]
    if not is_numeric:
        ordered = y[order]
        return float((ordered[1:] == ordered[:-1]).mean())
    return float(abs(np.corrcoef(_ranks(x[:, 0]), _ranks(y))[0, 1]))


def _ranks(values: Numbers) -> Numbers:
    from scipy.stats import rankdata

    ranks: Numbers = rankdata(values)
    return ranks


def told_by_values(value_of: NDArray[np.int64], y: Numbers, is_numeric: bool) -> float:
    """Return how well the value that each example has [n] tells targets of examples not seen.

    The share of right classes, or R² for numbers: learnt on a half of the examples, asked of the
    other. Of a value that was not seen nothing is known but what holds for all.
    """
    is_learnt = _random_half(len(y))
    learnt, asked = value_of[is_learnt], value_of[~is_learnt]
    targets, truth = y[is_learnt], y[~is_learnt]
    values = int(value_of.max()) + 1
    times = np.bincount(learnt, minlength=values)
    if is_numeric:
        sums = np.bincount(learnt, weights=targets, minlength=values)
        means = np.where(times > 0, sums / np.maximum(times, 1), targets.mean())
        error = ((means[asked] - truth) ** 2).mean()
        return float(1 - error / max(1e-12, truth.var()))
    counts = np.zeros((values, int(y.max()) + 1))
    np.add.at(counts, (learnt, targets.astype(int)), 1)
    counts[times == 0] = counts.sum(0)
    commonest = counts.argmax(1)
    return float((commonest[asked] == truth).mean())
