"""The CRF against all paths written out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from danlu.nn import crf

T, B, K = 5, 4, 3
LENGTHS = (5, 3, 1, 4)


@pytest.fixture
def given() -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    shapes = ((T, B, K), (K, K), (K,), (K,))
    e, a, b, c = (torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes)
    known = torch.arange(T)[:, None] < torch.tensor(LENGTHS)
    tags = torch.randint(0, K, (T, B), generator=g)
    return e, known, a, b, c, tags


def path_score(e: Tensor, a: Tensor, b: Tensor, c: Tensor, path: tuple[int, ...]) -> Tensor:
    steps = sum((a[i, j] for i, j in itertools.pairwise(path)), torch.zeros(()))
    return (
        sum((e[t, k] for t, k in enumerate(path)), torch.zeros(()))
        + steps
        + b[path[0]]
        + c[path[-1]]
    )


def test_likelihood_marginals_and_best_path_equal_those_over_all_paths_written_out(
    given: tuple[Tensor, ...],
) -> None:
    e, known, a, b, c, tags = given
    values = crf.nll(e, tags, known, a, b, c)
    marginals, best = crf.log_marginals(e, known, a, b, c).exp(), crf.viterbi(e, known, a, b, c)
    for i, n in enumerate(LENGTHS):
        paths = list(itertools.product(range(K), repeat=n))
        scores = torch.stack([path_score(e[:, i], a, b, c, p) for p in paths])
        own = paths.index(tuple(tags[:n, i].tolist()))
        torch.testing.assert_close(values[i], scores.logsumexp(0) - scores[own])
        assert tuple(best[:n, i].tolist()) == paths[int(scores.argmax())]
        p = scores.softmax(0)
        for t in range(n):
            expected = torch.stack(
                [p[[k for k, path in enumerate(paths) if path[t] == tag]].sum() for tag in range(K)]
            )
            torch.testing.assert_close(marginals[t, i], expected)


def test_gradients_equal_finite_differences_and_the_marginals(given: tuple[Tensor, ...]) -> None:
    e, known, a, b, c, tags = given
    assert torch.autograd.gradcheck(lambda *v: crf.nll(v[0], tags, known, *v[1:]), (e, a, b, c))
    # ∂/∂e is P(yₜ = k) less the tag that is there.
    (g,) = torch.autograd.grad(crf.nll(e, tags, known, a, b, c).sum(), e)
    expected = crf.log_marginals(e, known, a, b, c).exp() - torch.nn.functional.one_hot(tags, K)
    torch.testing.assert_close(g, expected * known[:, :, None])


def test_without_transition_scores_a_crf_is_a_softmax_per_token(
    given: tuple[Tensor, ...],
) -> None:
    e, known, *_, tags = given
    none = (
        torch.zeros(K, K, dtype=torch.float64),
        torch.zeros(K, dtype=torch.float64),
        torch.zeros(K, dtype=torch.float64),
    )
    each = -(e.log_softmax(2).gather(2, tags[:, :, None])[:, :, 0] * known).sum(0)
    torch.testing.assert_close(crf.nll(e, tags, known, *none), each)
    torch.testing.assert_close(crf.log_marginals(e, known, *none)[known], e.log_softmax(2)[known])


def test_large_scores_stay_finite() -> None:
    e = torch.randn(6, 2, K) * 1e4
    known, zero = torch.ones(6, 2, dtype=torch.bool), torch.zeros(K)
    assert (
        crf.nll(e, torch.zeros(6, 2, dtype=torch.long), known, torch.zeros(K, K), zero, zero)
        .isfinite()
        .all()
    )


def test_the_best_path_keeps_to_the_allowed_transitions(given: tuple[Tensor, ...]) -> None:
    """The best of the paths in which 1 comes after 0 alone, is not first, and 0 is not last; without one, some path."""
    e, known, *_ = given
    order = [
        [True, True, True, False],
        [True, False, True, True],
        [True, False, True, True],
        [True, False, True, True],
    ]
    layer = crf.CRF(K, order).double()
    with torch.no_grad():
        for own, v in zip(layer.scores, given[2:5], strict=True):
            own.copy_(v)
    best = layer.best(e, known)
    for i, n in enumerate(LENGTHS):
        paths = [
            p
            for p in itertools.product(range(K), repeat=n)
            if all(order[a][b] for a, b in itertools.pairwise((-1, *p, -1)))
        ]
        scores = torch.stack([path_score(e[:, i], *layer.scores, p) for p in paths])
        assert tuple(best[:n, i].tolist()) == paths[int(scores.argmax())]
    never = crf.CRF(K, [[False] * (K + 1)] * (K + 1)).double()
    assert never.best(e, known).shape == (T, B)
    assert set(layer.state_dict()) == {"after", "first", "last"}
