"""Loss and hits of a population over an epoch, kept on the device and counted a few steps at once.

Legend: M networks, B examples, K outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from danlu.predict.scores import hits

# Outputs and steps kept before they are counted together: one comparison instead of many.
_MOST_PENDING_OUTPUTS = 1 << 16
_MOST_PENDING_STEPS = 64
_SUMS = ("loss", "examples", "correct", "seen")


class StepResult(NamedTuple):
    """What a step shows: losses [M], outputs [M, K, n], targets [M or 1, n], of so many examples.

    counts [M or 1, n]: how often each target counts; None where each counts once.
    """

    losses: Tensor
    outputs: Tensor
    targets: Tensor
    counts: Tensor | None
    examples: int


class RunningMetrics:
    """Sums over what was seen, float64 [M]: losses, and targets predicted right, and targets.

    A step's loss counts by its examples, as its gradient does.
    """

    def __init__(self, members: int, classes: bool) -> None:
        self.members = members
        self.classes = classes
        self._pending: list[StepResult] = []
        self._pending_outputs = 0
        self.loss = torch.zeros(members, dtype=torch.float64)
        self.examples = torch.zeros(members, dtype=torch.float64)
        self.correct = torch.zeros(members, dtype=torch.float64)
        self.seen = torch.zeros(members, dtype=torch.float64)

    def add(self, result: StepResult) -> None:
        """Add a step."""
        self._pending.append(result)
        self._pending_outputs += result.outputs.numel()
        is_full = self._pending_outputs >= _MOST_PENDING_OUTPUTS
        # On a GPU every look at a number waits for it, so looks are few.
        if is_full or len(self._pending) >= _MOST_PENDING_STEPS:
            self.flush()

    def flush(self) -> None:
        """Count what is pending."""
        if not self._pending:
            return
        pending = self._pending
        is_weighted = any(result.counts is not None for result in pending)
        if is_weighted:
            # Of text, a batch without padding may be among them.
            pending = [_with_counts(result) for result in pending]
        examples = torch.tensor([[result.examples] for result in pending], dtype=torch.float64)
        means = torch.stack([result.losses for result in pending])  # [steps, M]
        losses = means.cpu().double() * examples
        # One by one, so that the last bit does not depend on when they are counted.
        with_earlier = torch.cat([self.loss.unsqueeze(0), losses])  # [1 + steps, M]
        running = with_earlier.cumsum(0)
        self.loss = running[-1]
        self.examples += examples.sum(0)
        self.seen += self._targets(pending, is_weighted)
        if self.classes:
            hits_of_each = self._hits(pending, is_weighted)
            self.correct += hits_of_each.cpu().double()
        self._pending = []
        self._pending_outputs = 0

    def _targets(self, pending: list[StepResult], is_weighted: bool) -> Tensor:
        """Return how many targets each network saw, float64 [M or 1]."""
        if not is_weighted:
            seen = sum(result.targets.shape[1] for result in pending)
            return torch.tensor([seen], dtype=torch.float64)
        totals = [counts.sum(1).expand(self.members) for counts in _counts_of(pending)]
        return torch.stack(totals).cpu().double().sum(0)

    def _hits(self, pending: list[StepResult], is_weighted: bool) -> Tensor:
        """Return the weighted number of hits [M]."""
        outputs = [result.outputs for result in pending]
        # Of a large population one step may fill memory, so it is not copied.
        if len(outputs) == 1:
            whole = outputs[0]
        else:
            whole = torch.cat(outputs, 2)
        targets = _side_by_side([result.targets for result in pending])  # [M or 1, all examples]
        is_hit = hits(whole, targets)  # [M, all examples]
        if not is_weighted:
            return is_hit.sum(1)
        counts = _side_by_side(_counts_of(pending))
        return (is_hit * counts).sum(1)

    def mean(self) -> Tensor:
        """Return the mean loss [M] so far."""
        return self.loss / self.examples.clamp_min(1e-30)

    def accuracy(self) -> Tensor:
        """Return the share of hits [M] so far, or R² where targets are (standardised) numbers."""
        if self.classes:
            return self.correct / self.seen.clamp_min(1e-30)
        return 1 - self.mean()

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        self.flush()
        return {f"metrics.{name}": getattr(self, name) for name in _SUMS}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from the sums of a checkpoint."""
        for name in _SUMS:
            saved = tensors[f"metrics.{name}"]
            setattr(self, name, saved.clone())

    def select(self, rows: list[int]) -> RunningMetrics:
        """Return those of some of the networks."""
        selected = RunningMetrics(len(rows), self.classes)
        tensors = {}
        for name, values in self.tensors().items():
            tensors[name] = values[rows]
        selected.restore(tensors)
        return selected


def _with_counts(result: StepResult) -> StepResult:
    if result.counts is not None:
        return result
    once = torch.ones_like(result.targets, dtype=result.losses.dtype)
    return result._replace(counts=once)


def _counts_of(pending: list[StepResult]) -> list[Tensor]:
    return [result.counts for result in pending if result.counts is not None]


def _side_by_side(tensors: list[Tensor]) -> Tensor:
    """Return tensors [M or 1, B] as one, their examples in a row."""
    members = max(len(tensor) for tensor in tensors)
    expanded = [tensor.expand(members, -1) for tensor in tensors]
    return torch.cat(expanded, 1)
