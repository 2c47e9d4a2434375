"""The sections of a recipe that concern training examples: how they change, which count."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as PydanticField
from pydantic import FiniteFloat

from danlu.recipe.variants import Flag, NotNegative, Probability, Section, Seed


class Augment(Section):
    """Random changes of the training examples, new in every epoch; 0 is off."""

    flip: Flag = False
    """Mirror half of them left to right."""
    rotate: Annotated[FiniteFloat, PydanticField(strict=True, ge=0, le=180)] = 0.0
    """Turn by up to ± degrees."""
    scale: Probability = 0.0
    """Enlarge by a factor within 1 ± scale."""
    shift: NotNegative = 0.0
    """Move by up to ± pixels."""
    crop: Annotated[int, PydanticField(strict=True, ge=0, le=64)] = 0
    """Pad by that many pixels and cut the old size out at a random place."""
    noise: NotNegative = 0.0
    """Standard deviation of noise added to the normalised input (tables too)."""
    cutout: Annotated[int, PydanticField(strict=True, ge=0, le=1024)] = 0
    """Side in pixels of a square that is hidden, anywhere (DeVries and Taylor 2017)."""
    brightness: Probability = 0.0
    """Multiply by a factor within 1 ± brightness."""
    invert: Probability = 0.0
    """The probability that light and dark change places."""
    mixup: NotNegative = 0.0
    """α: mix each example and its target with another's of the batch, by a weight drawn from
    Beta(α, α) (Zhang et al. 2018; tables too)."""
    word_dropout: Probability = 0.0
    """Of texts: the probability that a token is read as `<unk>`, so that something is learnt for
    unknown ones."""


class Sample(Section):
    """Which training examples count, and how often.

    Batches stay as they are, and what does not count has no weight.
    """

    share: Annotated[FiniteFloat, PydanticField(strict=True, gt=0, le=1)] = 1.0
    """Share of the training examples that count; a smaller share is part of a larger one."""
    bootstrap: Flag = False
    """Weigh examples as often as they are drawn, with replacement, as many as there are."""
    resample: Flag = False
    """Draw as many examples with replacement as there are, and make batches of what was drawn: a
    bootstrap whose batches are as large as ever, but shared with no other network."""
    folds: Annotated[int, PydanticField(strict=True, ge=0, le=1000)] = 0
    """Number of folds the training part is cut into; 0 is off."""
    fold: Annotated[int, PydanticField(strict=True, ge=0)] = 0
    """The fold left out, 0 … folds − 1."""
    seed: Seed = 0
    """Names the draw of shares, bootstraps and folds."""
    balanced: Flag = False
    """Draw every class equally often, however rare: each epoch as many examples as there are, with
    replacement."""

    @property
    def whole(self) -> bool:
        """Whether every example counts once."""
        return not self.folds and self.share == 1 and not self.bootstrap
