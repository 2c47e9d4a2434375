"""Conditional random field over the tags of a sentence.

(Lafferty et al. 2001; on a network's outputs: Lample et al. 2016.) The score of a path of tags y is
Σₜ e[t, yₜ] + Σₜ a[yₜ₋₁, yₜ] + b[y₁] + c[y_T]; P(y) = exp(score(y))/Σ exp(score(·)).

Legend: T steps, B sentences, K tags; e [T, B, K] the network's scores, a [K, K] of a tag after
another, b, c [K] of the first and the last tag; known [T, B] where there is a token (the first
ones of each sentence).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Added to the score of a forbidden step: finite, so that of paths that are all forbidden one is
# still the best.
_FORBIDDEN = -1e4


def log_partition(e: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return log Σ exp(score) over all paths [B], by the forward algorithm."""
    return torch.logsumexp(_forward(e, known, a, b)[-1] + c, 1)


def _forward(e: Tensor, known: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """Return log Σ exp(score) of what leads to each tag, step by step [B, K].

    After a sentence's end its last value is repeated.
    """
    sums = [e[0] + b]
    for e_t, known_t in zip(e.unbind()[1:], known.unbind()[1:], strict=True):
        longer = torch.logsumexp(sums[-1].unsqueeze(2) + a, 1) + e_t
        sums.append(torch.where(known_t.unsqueeze(1), longer, sums[-1]))
    return sums


def score(e: Tensor, tags: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return the score of one path [B]; tags [T, B] may be anything where nothing is known."""
    emissions = e.gather(2, tags.unsqueeze(2)).squeeze(2)
    transitions = a[tags[:-1], tags[1:]] * known[1:]
    last_step = (known.sum(0) - 1).unsqueeze(0)
    last_tag = tags.gather(0, last_step).squeeze(0)
    return (emissions * known).sum(0) + transitions.sum(0) + b[tags[0]] + c[last_tag]


def nll(e: Tensor, tags: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return −log P(tags) of each sentence [B]."""
    return log_partition(e, known, a, b, c) - score(e, tags, known, a, b, c)


def log_marginals(e: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return log P(yₜ = k) [T, B, K], by the forward–backward algorithm."""
    forward = _forward(e, known, a, b)
    backward = [c.expand_as(e[0])]
    steps = zip(reversed(e.unbind()[1:]), reversed(known.unbind()[1:]), strict=True)
    for e_t, known_t in steps:
        longer = torch.logsumexp(a + (backward[-1] + e_t).unsqueeze(1), 2)
        backward.append(torch.where(known_t.unsqueeze(1), longer, backward[-1]))
    total = torch.stack(forward) + torch.stack(backward[::-1])
    return torch.log_softmax(total, 2)


def viterbi(e: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return the path of the highest score, tags [T, B] (Viterbi 1967)."""
    best, came_from = e[0] + b, []
    for e_t, known_t in zip(e.unbind()[1:], known.unbind()[1:], strict=True):
        top, origin = (best.unsqueeze(2) + a).max(1)
        itself = torch.arange(e.shape[2], device=e.device).expand_as(origin)
        came_from.append(torch.where(known_t.unsqueeze(1), origin, itself))
        best = torch.where(known_t.unsqueeze(1), top + e_t, best)
    tags = [(best + c).argmax(1)]
    for origin in reversed(came_from):
        tags.append(origin.gather(1, tags[-1].unsqueeze(1)).squeeze(1))
    return torch.stack(tags[::-1])


class CRF(nn.Module):
    """The scores a, b, c, all 0 at first: then every tag is predicted by itself.

    allowed [K + 1, K + 1]: which tag may follow which; the last row says what a sentence may begin
    with, the last column what it may end with. Without it all may. Predictions keep to it;
    training does not, as real sentences may be cut within an entity.
    """

    def __init__(self, tags: int, allowed: Sequence[Sequence[bool]] = ()) -> None:
        super().__init__()
        if allowed:
            self.forbidden = _FORBIDDEN * (~torch.tensor(allowed)).float()
        else:
            self.forbidden = torch.zeros(tags + 1, tags + 1)
        self.after = nn.Parameter(torch.zeros(tags, tags))
        self.first = nn.Parameter(torch.zeros(tags))
        self.last = nn.Parameter(torch.zeros(tags))

    def best(self, e: Tensor, known: Tensor) -> Tensor:
        """Return the allowed path of the highest score, tags [T, B]."""
        forbidden = self.forbidden.to(e)
        a = self.after + forbidden[:-1, :-1]
        b = self.first + forbidden[-1, :-1]
        c = self.last + forbidden[:-1, -1]
        return viterbi(e, known, a, b, c)

    @property
    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """a, b, c."""
        return self.after, self.first, self.last
