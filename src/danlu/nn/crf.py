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
    at_end = _forward(e, known, a, b)[-1]  # [B, K]
    return torch.logsumexp(at_end + c, 1)


def _forward(e: Tensor, known: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """Return log Σ exp(score) of what leads to each tag, step by step [B, K].

    After a sentence's end its last value is repeated.
    """
    sums = [e[0] + b]  # [B, K]
    for e_t, known_t in _later_steps(e, known):
        before = sums[-1]
        by_steps = before.unsqueeze(2) + a  # [B, K, K]: from each tag to each
        reached = torch.logsumexp(by_steps, 1)
        after = reached + e_t
        sums.append(torch.where(known_t, after, before))
    return sums


def _later_steps(e: Tensor, known: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the scores [B, K] of each step but the first, and where there is a token [B, 1]."""
    later_scores = e.unbind()[1:]
    later_known = known.unsqueeze(2).unbind()[1:]
    return list(zip(later_scores, later_known, strict=True))


def score(
    e: Tensor,
    tags: Tensor,
    known: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
) -> Tensor:
    """Return the score of one path [B]; tags [T, B] may be anything where nothing is known."""
    of_tags = e.gather(2, tags.unsqueeze(2)).squeeze(2)  # [T, B]
    emissions = of_tags * known
    between_tags = a[tags[:-1], tags[1:]]  # [T − 1, B]
    transitions = between_tags * known[1:]
    last_step = (known.sum(0) - 1).unsqueeze(0)  # [1, B]
    last_tag = tags.gather(0, last_step).squeeze(0)  # [B]
    within = emissions.sum(0) + transitions.sum(0)
    return within + b[tags[0]] + c[last_tag]


def nll(
    e: Tensor,
    tags: Tensor,
    known: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
) -> Tensor:
    """Return −log P(tags) of each sentence [B]."""
    all_paths = log_partition(e, known, a, b, c)
    this_path = score(e, tags, known, a, b, c)
    return all_paths - this_path


def log_marginals(e: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return log P(yₜ = k) [T, B, K], by the forward–backward algorithm."""
    forward = _forward(e, known, a, b)
    backward = [c.expand_as(e[0])]  # [B, K]
    for e_t, known_t in reversed(_later_steps(e, known)):
        after = backward[-1]
        by_steps = a + (after + e_t).unsqueeze(1)  # [B, K, K]
        before = torch.logsumexp(by_steps, 2)
        backward.append(torch.where(known_t, before, after))
    backward.reverse()
    total = torch.stack(forward) + torch.stack(backward)
    return torch.log_softmax(total, 2)


def viterbi(e: Tensor, known: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return the path of the highest score, tags [T, B] (Viterbi 1967)."""
    best = e[0] + b
    every_tag = torch.arange(e.shape[2], device=e.device).expand_as(best)  # [B, K]
    came_from = []
    for e_t, known_t in _later_steps(e, known):
        top, origin = (best.unsqueeze(2) + a).max(1)
        # After a sentence's end each tag comes from itself, so that the last tag is handed on.
        came_from.append(torch.where(known_t, origin, every_tag))
        best = torch.where(known_t, top + e_t, best)
    tag = (best + c).argmax(1)  # [B]
    path = [tag]
    for origin in reversed(came_from):
        tag = origin.gather(1, tag.unsqueeze(1)).squeeze(1)
        path.append(tag)
    path.reverse()
    return torch.stack(path)


class CRF(nn.Module):
    """The scores a, b, c, all 0 at first: then every tag is predicted by itself.

    allowed [K + 1, K + 1]: which tag may follow which; the last row says what a sentence may begin
    with, the last column what it may end with. Without it all may. Predictions keep to it;
    training does not, as real sentences may be cut within an entity.
    """

    def __init__(self, tags: int, allowed: Sequence[Sequence[bool]] = ()) -> None:
        super().__init__()
        if allowed:
            # Not a buffer: it follows from the tags, and is not part of the weights.
            is_forbidden = ~torch.tensor(allowed)
            self.forbidden = _FORBIDDEN * is_forbidden.float()
        else:
            self.forbidden = torch.zeros(tags + 1, tags + 1)
        self.after = nn.Parameter(torch.zeros(tags, tags))
        self.first = nn.Parameter(torch.zeros(tags))
        self.last = nn.Parameter(torch.zeros(tags))

    def best(self, e: Tensor, known: Tensor) -> Tensor:
        """Return the allowed path of the highest score, tags [T, B]."""
        forbidden = self.forbidden.to(e)
        # The last row is what a sentence begins with, the last column what it ends with.
        steps = forbidden[:-1, :-1]
        beginnings = forbidden[-1, :-1]
        ends = forbidden[:-1, -1]
        return viterbi(
            e,
            known,
            self.after + steps,
            self.first + beginnings,
            self.last + ends,
        )

    @property
    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """a, b, c."""
        return self.after, self.first, self.last
