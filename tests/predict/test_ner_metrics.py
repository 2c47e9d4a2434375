"""How well entities are found: counts by kind, and the interval of their F1."""

from __future__ import annotations

import torch

from danlu.data import Schema
from danlu.predict.ner_metrics import entity_counts, f1_interval

SCHEMA = Schema("tagging", (4,), ("O", "B-X", "I-X", "B-Y"), scheme="bio")


def tags(n: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 4, (n,), generator=torch.Generator().manual_seed(seed))


def test_the_f1_interval_is_a_bootstrap_over_sentences() -> None:
    """Against sentences put together anew and counted as a whole."""
    sizes = torch.randint(1, 9, (60,), generator=torch.Generator().manual_seed(0)).tolist()
    true, noise = tags(sum(sizes), 1), tags(sum(sizes), 2)
    guess = torch.where(
        torch.rand(sum(sizes), generator=torch.Generator().manual_seed(3)) < 0.8, true, noise
    )
    pairs = list(zip(guess.split(sizes), true.split(sizes), strict=True))
    g, values = torch.Generator().manual_seed(5), []
    for _ in range(600):
        drawn = [pairs[k] for k in torch.randint(0, 60, (60,), generator=g).tolist()]
        own = [torch.cat([p[i] for p in drawn]) for i in (0, 1)]
        values.append(entity_counts(own[0], own[1], [len(p[0]) for p in drawn], SCHEMA)["all"].f1)
    expected = torch.tensor(values).quantile(torch.tensor([0.025, 0.975]))
    low, high = f1_interval(guess, true, sizes, SCHEMA)
    torch.testing.assert_close(torch.tensor([low, high]), expected, atol=0.02, rtol=0)
    assert low < entity_counts(guess, true, sizes, SCHEMA)["all"].f1 < high
    assert f1_interval(guess, true, sizes, SCHEMA) == (low, high)
