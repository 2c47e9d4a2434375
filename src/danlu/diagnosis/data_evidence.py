"""What the data say by themselves, without the network: neighbours, scales, single columns.

Legend: n examples, F features, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from danlu.data import Data
from danlu.data.vocabulary import PAD, UNK, Vocabulary
from danlu.diagnosis.cross_fitting import (
    WEAK,
    Contradiction,
    by_own_spread,
    contradiction,
    cross_fitted,
    folds,
    kernels,
    phrase_shares,
    recognised,
)
from danlu.diagnosis.leaks import (
    ALL,
    FEW_VALUES,
    MARGINS,
    Telling,
    margin,
    telling_column,
    telling_pixel,
    telling_words,
)
from danlu.diagnosis.pair_counts import pairs_loss
from danlu.diagnosis.shift import Shift, shift

Numbers = NDArray[np.float64]

_MOST = {"train": 2000, "valid": 1000, "test": 1000}  # examples that are looked at
_MOST_FEATURES = 4000
_NEIGHBOURS = 10


@dataclass(frozen=True)
class Part:
    """Some examples of a part: features [n, F], as the training part scales them, and targets."""

    x: Numbers
    y: Numbers


@dataclass(frozen=True)
class DataEvidence:
    """The data of a training."""

    data: Data

    @cached_property
    def has_features(self) -> bool:
        """Whether examples are rows of numbers, or can be counted as such."""
        return not self.data.schema.each_token

    def _rows(self, part: str) -> torch.Tensor:
        """Return the examples of a part that are looked at."""
        rows = self.data.parts[part]
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows))[: _MOST[part]])
        return rows[order.sort().values]

    def _raw(self, part: str) -> tuple[Numbers, Numbers]:
        """Return some examples of a part as numbers [n, F]; of texts the counts of tokens."""
        rows = self._rows(part)
        x, y = self.data.x.index_select(0, rows), self.data.y[rows].double().numpy()
        if not self.data.schema.is_text:
            return x.flatten(1).double().numpy()[:, :_MOST_FEATURES], y
        counts = torch.zeros(len(x), self.data.schema.tokens)
        counts.scatter_add_(1, x.long(), torch.ones(x.shape))
        counts[:, PAD] = 0
        return counts[:, :_MOST_FEATURES].double().numpy(), y

    @cached_property
    def _scale(self) -> tuple[Numbers, Numbers]:
        """Middle and spread of each feature in the training part, which outliers do not change.

        Of pictures one for all pixels, as these are of one kind.
        """
        x, _ = self._raw("train")
        if self.data.schema.is_image:
            x = x.reshape(-1, 1)
        low, middle, high = np.quantile(x, [0.05, 0.5, 0.95], axis=0)
        spread = (high - low) / 3.29
        deviation = x.std(0)
        return middle, np.where(spread > 0, spread, np.where(deviation > 0, deviation, 1.0))

    def part(self, name: str) -> Part:
        """Return a part, scaled."""
        x, y = self._raw(name)
        middle, spread = self._scale
        return Part(np.clip((x - middle) / spread, -10, 10), y)

    def part_size(self, name: str) -> int:
        """Return how many examples of a part are looked at."""
        return min(_MOST[name], self.data.size(name))

    @cached_property
    def train(self) -> Part:
        """The training part."""
        return self.part("train")

    @cached_property
    def neighbours(self) -> Numbers:
        """The targets of each training example's nearest others [n, k]."""
        return self._nearest(self.train, own=True)[1]

    def _nearest(self, part: Part, own: bool) -> tuple[Numbers, Numbers]:
        """Return distances to the nearest training examples [n, k], and their targets."""
        x = torch.from_numpy(part.x).float()
        distances = torch.cdist(x, torch.from_numpy(self.train.x).float())
        if own:
            distances.fill_diagonal_(math.inf)
        k = min(_NEIGHBOURS, distances.shape[1] - 1)
        nearest = distances.topk(k, largest=False)
        targets: Numbers = self.train.y[nearest.indices.numpy()]
        return nearest.values.double().numpy(), targets

    @cached_property
    def shift(self) -> Shift | None:
        """How well inputs of the test part can be told from those of training.

        None for running text, whose parts are other chapters, and for too few examples.
        """
        return None if self.data.schema.task == "language" else shift(self.data)

    def reference(self, part: str) -> float:
        """Return the accuracy of ten nearest neighbours on a part; R² of their mean for numbers."""
        if not self.data.size(part) or not self.has_features:
            return math.nan
        of_part = self.part(part)
        _, targets = self._nearest(of_part, own=False)
        if self.data.schema.is_regression:
            error = ((targets.mean(1) - of_part.y) ** 2).mean()
            return float(1 - error / max(1e-12, of_part.y.var()))
        return float((self._votes(targets).argmax(1) == of_part.y).mean())

    def _votes(self, targets: Numbers) -> Numbers:
        """Return the share of each class among neighbours [n, K]."""
        classes = np.arange(self.data.schema.outputs)
        votes: Numbers = (targets[:, :, None] == classes).mean(1)
        return votes

    @cached_property
    def recognised(self) -> tuple[float, float]:
        """The mean recall of classes by neighbours' votes, and its standard error.

        Votes count by how rare a class is, so that a common one does not win them all.
        """
        votes, y = self._votes(self.neighbours), self.train.y.astype(int)
        counts = np.bincount(y, minlength=votes.shape[1])
        chosen = (votes / np.maximum(counts, 1)).argmax(1)
        return _mean_recall(y, chosen)

    @cached_property
    def recognised_by_models(self) -> tuple[float, float]:
        """The mean recall of classes by models that have not seen the examples, and its error."""
        y = self.train.y.astype(int)
        shares = np.bincount(y, minlength=self.out_of_fold.shape[1]) / len(y)
        return _mean_recall(y, by_own_spread(self.out_of_fold - shares, shares))

    @cached_property
    def recognised_by_phrases(self) -> tuple[float, float]:
        """The mean recall of classes of texts by a linear model of their phrases, cross-fitted.

        Phrases are of one to four tokens, wherever they stand. With its standard error.
        """
        return self._recognised_without([])

    def _recognised_without(self, tokens: Sequence[int]) -> tuple[float, float]:
        rows = self._rows("train")
        x, y = self.data.x[rows].numpy(), self.data.y[rows].numpy()
        left = np.where(np.isin(x, tokens), PAD, x)
        return _mean_recall(y, recognised(phrase_shares(left), y))

    @cached_property
    def out_of_fold(self) -> Numbers:
        """Out-of-fold predictions of training examples [n, K]; [n, 1] for numbers.

        Kernel ridge regression on the examples, of targets, or of classes as 0 and 1. Its penalty
        is weak, as single examples matter here.
        """
        _, gaussian = kernels(self.train.x)
        return self._predicted_by(gaussian)

    def told_as_numbers(self, values: Numbers) -> float:
        """Return how predictions are related to classes, were these the numbers values [K].

        The correlation, cross-fitted.
        """
        numbers = values[self.train.y.astype(int)]
        kernel, _ = kernels(self.train.x)
        found = cross_fitted(kernel, (numbers - numbers.mean())[:, None], folds(len(numbers)))
        return float(np.corrcoef(found[:, 0], numbers)[0, 1]) if found.std() > 0 else 0.0

    def _predicted_by(self, kernel: Numbers) -> Numbers:
        y = self.train.y
        targets = y[:, None]
        if not self.data.schema.is_regression:
            targets = np.eye(self.data.schema.outputs)[y.astype(int)]
        middle = targets.mean(0)
        found: Numbers = middle + cross_fitted(
            kernel, targets - middle, folds(len(y)), penalty=WEAK
        )
        return found

    @cached_property
    def errors_of_models(self) -> tuple[float, float]:
        """Out-of-fold errors (1 − accuracy, or 1 − R²) of a linear model and of one that is not."""
        linear, _ = kernels(self.train.x)
        return self._error_of(self._predicted_by(linear)), self._error_of(self.out_of_fold)

    def _error_of(self, predicted: Numbers) -> float:
        y = self.train.y
        if self.data.schema.is_regression:
            return float(((predicted[:, 0] - y) ** 2).mean() / max(1e-12, y.var()))
        return float((predicted.argmax(1) != y).mean())

    @cached_property
    def learnable(self) -> float:
        """Accuracy of simple models on held-out examples, or R² for numbers.

        The better of neighbours and, but for texts, of the kernel models; NaN where neither is
        known.
        """
        known = [self.reference("valid")]
        if not self.data.schema.is_text:
            is_numeric = self.data.schema.is_regression
            known.append(
                1 - self._error_of(self.out_of_fold) if is_numeric else self.contradiction.accuracy
            )
        return float(np.fmax.reduce(known))

    @cached_property
    def pairs_loss(self) -> float:
        """The held-out loss of counted pairs of tokens; NaN of anything but running text."""
        data = self.data
        if data.schema.task != "language" or not data.size("train") or not data.size("valid"):
            return math.nan
        train, held_out = (
            (data.x[rows].numpy(), data.y[rows].numpy())
            for rows in (data.parts["train"], data.parts["valid"])
        )
        return pairs_loss(train, held_out, data.schema.tokens)

    @cached_property
    def contradiction(self) -> Contradiction:
        """Training labels that contradict the out-of-fold predictions."""
        return contradiction(self.out_of_fold, self.train.y.astype(int))

    @cached_property
    def structure(self) -> float:
        """The largest variance along a direction, by what independent features would have.

        Near 1 where features have nothing to do with each other (Marchenko and Pastur 1967).
        """
        x = self.train.x - self.train.x.mean(0)
        deviation = x.std(0)
        x = x[:, deviation > 0] / deviation[deviation > 0]
        if x.shape[1] < 2 or len(x) < 10:
            return math.nan
        largest = float(np.linalg.norm(x, 2) ** 2 / len(x))
        return largest / (1 + math.sqrt(x.shape[1] / len(x))) ** 2

    @cached_property
    def far_inputs(self) -> tuple[float, float]:
        """How far the farthest value lies, by the width of the middle 98 %; what share does so."""
        x, _ = self._raw("train")
        low, high = np.quantile(x, [0.01, 0.99])
        width = max(high - low, 1e-12)
        reach = np.maximum(x - high, low - x).max(1) / width
        return float(reach.max()), float((reach > 5).mean())

    def far_features(self) -> tuple[str, float, float]:
        """Return the column with the farthest value: its name, how far it lies, what share does."""
        x, _ = self._raw("train")
        low, middle, high = np.quantile(x, [0.05, 0.5, 0.95], axis=0)
        width = high - low
        is_varied = width > 0
        if not is_varied.any():
            return "", 0.0, 0.0
        reach = np.abs(x - middle)[:, is_varied] / width[is_varied]
        worst = int(reach.max(0).argmax())
        name = self.data.schema.feature_names[int(np.flatnonzero(is_varied)[worst])]
        return name, float(reach[:, worst].max()), float((reach[:, worst] > 10).mean())

    @cached_property
    def far_targets(self) -> tuple[float, float]:
        """How far training targets lie out, by the width of the middle 90 %; what share far."""
        y = self.data.y[self.data.parts["train"]].double().numpy()
        low, middle, high = np.quantile(y, [0.05, 0.5, 0.95])
        if not high > low:
            return 0.0, 0.0
        reach = np.abs(y - middle) / (high - low)
        return float(reach.max()), float((reach > 5).mean())

    @property
    def has_positive_targets(self) -> bool:
        """Whether every target is above 0, and not taken as its logarithm already."""
        return not self.data.schema.log_target and float(self.data.y.min()) > 0

    @cached_property
    def telling(self) -> Telling | None:
        """The column that says most of the target, a pixel at the edge, or a word for each class.

        None for sequences of numbers, and where one word is all that tells anything: it is asked.
        """
        schema, x, y = self.data.schema, self.train.x, self.train.y
        if schema.is_text and schema.is_regression:
            return None
        if schema.is_text:
            names = Vocabulary(schema.vocabulary).tokens[: x.shape[1]]
            words, places = telling_words(self._raw("train")[0] > 0, y, names)
            if words.score < ALL:
                return words
            recalled, error = self._recognised_without(places.tolist())
            return words if recalled - 2.5 * error > 1 / len(np.unique(y)) else None
        if schema.is_image and min(schema.input_shape[1:]) >= MARGINS:
            places, names = margin(schema.input_shape)
            pictures = self.data.x.index_select(0, self._rows("train")).flatten(1)
            edge = pictures[:, torch.from_numpy(places)].double().numpy()
            return telling_pixel(edge, y, names, schema.is_regression)
        if len(schema.input_shape) > 1:
            return None
        return telling_column(x, y, schema.column_of_features, schema.is_regression)

    def near_copies(self, part: str) -> tuple[float, int]:
        """Return the share of a part's examples that are nearly one of training, and how many.

        Nearly: a tenth of the distance at which training examples usually have their nearest; of
        texts, equal ones.
        """
        if self.data.schema.is_text and self.data.schema.task != "language":
            copies = self.data.duplicate_counts().get(f"train/{part}", 0)
            return copies / max(1, self.data.size(part)), copies
        if not self.data.size(part) or not self.has_features:
            return 0.0, 0
        usual = float(np.median(self._nearest(self.train, own=True)[0][:, 0]))
        nearest = self._nearest(self.part(part), own=False)[0][:, 0]
        is_copy = nearest < 0.1 * usual
        if usual == 0 and self._has_numbers:
            is_copy = nearest == 0
        return float(is_copy.mean()), int(is_copy.sum())

    @property
    def _has_numbers(self) -> bool:
        """Whether a feature has many values, so that equal examples are no coincidence."""
        return any(len(np.unique(column)) > FEW_VALUES for column in self.train.x.T)

    @cached_property
    def unknown_share(self) -> float:
        """The share of the training part's tokens that the vocabulary does not hold."""
        x = self.data.x[self.data.parts["train"]]
        tokens = int((x != PAD).sum())
        return float((x == UNK).sum()) / max(1, tokens)


def _mean_recall(y: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean recall of the classes that are there, and its standard error."""
    counts = np.bincount(y)
    present = counts > 0
    hits = np.bincount(y, weights=chosen == y)
    recalls = hits[present] / counts[present]
    variances = recalls * (1 - recalls) / counts[present]
    return float(recalls.mean()), float(np.sqrt(variances.sum()) / present.sum())
