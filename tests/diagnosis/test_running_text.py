"""Language models beside counted pairs of tokens."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from danlu import Recipe, fit, load
from danlu.diagnosis.data_evidence import DataEvidence
from danlu.diagnosis.pair_counts import pairs_loss

SOUND = Recipe(
    model={"name": "lstm", "hidden": (48,), "embedding": 16},
    optimizer={"name": "adam", "lr": 0.01},
    batch_size=16,
    epochs=6,
)


def test_pairs_are_counted_as_by_hand() -> None:
    rng = np.random.default_rng(0)
    kinds = 6
    train, held_out = rng.integers(0, kinds - 1, (5, 9)), rng.integers(0, kinds, (4, 9))
    x, y = train[:, :-1], train[:, 1:].copy()
    y[0, 3] = -1  # a place with no target
    pairs = [(a, b) for a, b in zip(x.ravel(), y.ravel(), strict=True) if b >= 0]
    count, before = Counter(pairs), Counter(a for a, _ in pairs)
    after = Counter(b for _, b in pairs)

    def probability(a: int, b: int) -> float:
        share = (after[b] + 1) / (len(pairs) + kinds)
        if not before[a]:
            return share
        followers = sum(1 for (first, _) in count if first == a)
        return (max(count[a, b] - 0.75, 0) + 0.75 * followers * share) / before[a]

    for a in range(kinds):
        assert sum(probability(a, b) for b in range(kinds)) == pytest.approx(1)
    asked = zip(held_out[:, :-1].ravel(), held_out[:, 1:].ravel(), strict=True)
    losses = [-math.log(probability(a, b)) for a, b in asked]
    found = pairs_loss((x, y), (held_out[:, :-1], held_out[:, 1:]), kinds)
    assert found == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ([], "healthy"),
        (["model.hidden=[4]"], "model_too_small"),
        (["optimizer=sgd", "optimizer.lr=0.3", "epochs=10"], "underfitting"),
    ],
)
def test_a_model_behind_pairs_is_not_healthy(
    changes: list[str], cause: str, tmp_path: Path
) -> None:
    data = load("prose", limit=400)
    run = fit(SOUND.with_(changes), data, out=tmp_path / "run")
    counted = DataEvidence(data).pairs_loss
    assert (run.result["valid_loss"] > counted) == bool(changes)
    (finding, *_) = run.diagnose(data).findings
    assert finding.cause == cause
    if changes:
        assert finding.figures["counted"] == pytest.approx(counted, rel=1e-3)
        assert "pairs of tokens" in finding.why()
