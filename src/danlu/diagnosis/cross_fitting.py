"""Models that are fitted to the data themselves, to see what these tell.

Legend: n examples, F features, T tokens, K classes.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.data.vocabulary import PAD

_FOLDS = 5
_LONGEST_PHRASE = 4  # tokens
_PHRASES = 1 << 13  # numbers that phrases are hashed to

Probabilities = NDArray[np.float64]


def phrase_counts(tokens: NDArray[Any]) -> Any:
    """Return how often each text [n, T] has each phrase, hashed: a sparse matrix [n, F]."""
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = []
    for row in tokens:
        texts.append(" ".join(map(str, row[row != PAD].tolist())))
    vectorizer = HashingVectorizer(
        n_features=_PHRASES, ngram_range=(1, _LONGEST_PHRASE), token_pattern=r"\d+"
    )
    return vectorizer.transform(texts)


def cross_fitted(x: Any, y: NDArray[Any]) -> Probabilities | None:
    """Return the probability of each class [n, K], by a model that has not seen the example.

    x [n, F], y [n]: classes 0 … K − 1. Of sparse features a logistic regression with a penalty on
    its weights, of dense ones a few boosted trees. None where some class has fewer examples than
    folds.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    counts = np.bincount(y)
    if (counts > 0).sum() < 2 or counts[counts > 0].min() < _FOLDS:
        return None
    if isinstance(x, np.ndarray):
        model: Any = HistGradientBoostingClassifier(max_iter=30, max_depth=4, early_stopping=False)
    else:
        model = LogisticRegression(C=0.1, max_iter=200, class_weight="balanced")
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # One that has not converged still says something of examples it has not seen.
        warnings.simplefilter("ignore")
        found = cross_val_predict(model, x, y, cv=folds, method="predict_proba")
    # Columns are the classes that are there.
    probabilities = np.zeros((len(y), len(counts)))
    probabilities[:, np.unique(y)] = found
    return probabilities
