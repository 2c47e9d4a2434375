"""Confident learning: which labels contradict probabilities of networks that have not seen them.

Northcutt, Jiang and Chuang 2021, "Confident learning: estimating uncertainty in dataset labels".
Legend: n examples, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]

NONE = -1  # an example that belongs to no class with confidence


def confident_classes(p: Probabilities, labels: Labels) -> Labels:
    """Return the class that each example belongs to with confidence [n], −1 where none (Eq. 1).

    p [n, K]: out-of-fold probabilities. An example may belong to a class where its probability is
    at least the mean one of examples labelled so; of several the most probable counts.
    """
    classes = p.shape[1]
    thresholds = np.full(classes, np.inf)
    for k in range(classes):
        if (labels == k).any():
            thresholds[k] = p[labels == k, k].mean()
    # Rounding must not take the threshold from a class whose examples are all alike.
    is_confident = p >= thresholds - 1e-6
    found: Labels = np.where(is_confident, p, -1.0).argmax(1)
    return np.where(is_confident.any(1), found, NONE)


def suspected(p: Probabilities, labels: Labels) -> NDArray[np.bool_]:
    """Return which labels are suspected [n]: off the diagonal of the confident joint.

    Not those of examples whose label is the most probable class all the same.
    """
    confident = confident_classes(p, labels)
    is_other = (confident != NONE) & (confident != labels)
    found: NDArray[np.bool_] = is_other & (p.argmax(1) != labels)
    return found
