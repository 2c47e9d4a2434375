"""Conditional random field over the tags of a sentence (Lafferty et al. 2001; on a network's outputs: Lample et al. 2016).

The score of a path of tags y is Σₜ e[t, yₜ] + Σₜ a[yₜ₋₁, yₜ] + b[y₁] + c[y_T]; P(y) = exp(score(y))/Σ exp(score(·)).

Legend: T steps, B sentences, K tags; e [T, B, K] the network's scores, a [K, K] of a tag after another, b, c [K] of the
first and the last; known [T, B] where there is a token (the first ones of each sentence).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_BARRED = (
    1e4  # of a score: finite, so that of paths that are all out of order one is still the best
)


def log_partition(e: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """log Σ exp(score) over all paths [B], by the forward algorithm."""
    return torch.logsumexp(_forward(e, known, a, b)[-1] + c, 1)


def _forward(e: Tensor, known: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """log Σ exp(score) of what leads to each tag, step by step [B, K]; after a sentence's end its last."""
    found = [e[0] + b]
    for now, here in zip(e.unbind()[1:], known.unbind()[1:], strict=True):
        step = torch.logsumexp(found[-1].unsqueeze(2) + a, 1) + now
        found.append(torch.where(here.unsqueeze(1), step, found[-1]))
    return found


def score(e: Tensor, tags: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The score of one path [B]; tags [T, B], any where nothing is known."""
    own = e.gather(2, tags.unsqueeze(2)).squeeze(2)
    steps = a[tags[:-1], tags[1:]] * known[1:]
    last = tags.gather(0, (known.sum(0) - 1).unsqueeze(0)).squeeze(0)
    return (own * known).sum(0) + steps.sum(0) + b[tags[0]] + c[last]


def nll(e: Tensor, tags: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """−log P(tags) of each sentence [B]."""
    return log_partition(e, known, a, b, c) - score(e, tags, known, a, b, c)


def log_marginals(e: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """log P(yₜ = k) [T, B, K], by the forward–backward algorithm."""
    there = _forward(e, known, a, b)
    back = [c.expand_as(e[0])]
    for now, here in zip(reversed(e.unbind()[1:]), reversed(known.unbind()[1:]), strict=True):
        step = torch.logsumexp(a + (back[-1] + now).unsqueeze(1), 2)
        back.append(torch.where(here.unsqueeze(1), step, back[-1]))
    whole = torch.stack(there) + torch.stack(back[::-1])
    return torch.log_softmax(whole, 2)


def viterbi(e: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The path of the highest score, tags [T, B] (Viterbi 1967)."""
    best, came = e[0] + b, []
    for now, here in zip(e.unbind()[1:], known.unbind()[1:], strict=True):
        top, origin = (best.unsqueeze(2) + a).max(1)
        own = torch.arange(e.shape[2], device=e.device).expand_as(origin)
        came.append(torch.where(here.unsqueeze(1), origin, own))
        best = torch.where(here.unsqueeze(1), top + now, best)
    tags = [(best + c).argmax(1)]
    for origin in reversed(came):
        tags.append(origin.gather(1, tags[-1].unsqueeze(1)).squeeze(1))
    return torch.stack(tags[::-1])


class CRF(nn.Module):
    """The scores a, b, c, all 0 at first: then every tag is told by itself.

    order: which tag may follow which [K + 1, K + 1], what a sentence may begin and end with last; else all may. What is told
    keeps to it; training does not, as real sentences may be cut within an entity.
    """

    def __init__(self, tags: int, order: Sequence[Sequence[bool]] = ()) -> None:
        super().__init__()
        self.barred = (
            -_BARRED * (~torch.tensor(order)).float() if order else torch.zeros(tags + 1, tags + 1)
        )
        self.after = nn.Parameter(torch.zeros(tags, tags))
        self.first, self.last = nn.Parameter(torch.zeros(tags)), nn.Parameter(torch.zeros(tags))

    def best(self, e: Tensor, known: Tensor) -> Tensor:
        """The path of the highest score of those in order, tags [T, B]."""
        barred = self.barred.to(e)
        return viterbi(
            e,
            known,
            self.after + barred[:-1, :-1],
            self.first + barred[-1, :-1],
            self.last + barred[:-1, -1],
        )

    @property
    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """a, b, c."""
        return self.after, self.first, self.last
