"""Whether a classifier has learnt anything, though its accuracy does not show it.

Where classes are rare, or weighted, accuracy may be that of a constant answer while losses are
lower, or the rare examples rank higher, than by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from danlu.metrics import Predicted
from danlu.statistics import holm, p_value

_LEVEL = 0.05
_LEAST = 1e-12  # probability: the loss of an impossible class is infinite


def what_is_shown(p: Predicted, class_counts: Sequence[int], classes: Sequence[str]) -> str | None:
    """Return in a sentence what shows that something was learnt; None where nothing does.

    class_counts: of the training part, whose shares are the constant prediction.
    """
    return _lower_loss(p, class_counts) or _ranks(p, classes)


def _lower_loss(p: Predicted, class_counts: Sequence[int]) -> str | None:
    """Compare the loss of each example with that of the classes' shares, paired."""
    assert p.probabilities is not None
    shares = np.asarray(class_counts, dtype=float)
    shares /= shares.sum()
    rows = np.arange(len(p.targets))
    losses = -np.log(np.maximum(p.probabilities[rows, p.targets], _LEAST))
    constant = -np.log(np.maximum(shares[p.targets], _LEAST))
    gains = constant - losses
    level = p_value(gains.tolist())
    if gains.mean() <= 0 or level >= _LEVEL:
        return None
    return (
        f"Its probabilities are better than constant ones all the same: a loss of "
        f"{losses.mean():.4f}, where the classes' shares have {constant.mean():.4f} "
        f"(paired test, p {_shown(level)})."
    )


def _ranks(p: Predicted, classes: Sequence[str]) -> str | None:
    """Test whether examples of some class get higher probabilities of it than others do."""
    # Its import is slow, and accuracy settles most cases.
    from scipy.stats import mannwhitneyu

    assert p.probabilities is not None
    levels = []
    tested = []
    for k in range(p.probabilities.shape[1]):
        is_class = p.targets == k
        if not 0 < is_class.sum() < len(is_class):
            continue
        of_class, of_others = p.probabilities[is_class, k], p.probabilities[~is_class, k]
        found = mannwhitneyu(of_class, of_others, alternative="greater")
        levels.append(float(found.pvalue))
        share_of_pairs = float(found.statistic) / (len(of_class) * len(of_others))
        tested.append((classes[k], share_of_pairs))
    corrected = holm(levels)
    if not levels or min(corrected) >= _LEVEL:
        return None
    name, auc = tested[int(np.argmin(levels))]
    way_out = "; another threshold would serve" if len(classes) == 2 else ""
    return (
        f"It tells {name!r} from the rest all the same: AUC is {auc:.3f} (rank test, "
        f"p {_shown(min(corrected))}){way_out}."
    )


def _shown(level: float) -> str:
    return "< 0.001" if level < 0.001 else f"= {level:.3f}"
