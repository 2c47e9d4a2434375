"""Loss and hits of a population over an epoch, kept on the device and counted a few steps at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from danlu.predict.evaluate import hits

_HELD = 1 << 16  # outputs kept before they are counted together: one comparison instead of many


class RunningMetrics:
    """Sums over the examples seen, one for each network: `loss`, `correct`, `seen`, float64 [M]."""

    def __init__(self, members: int, classes: bool) -> None:
        self.members, self.classes = members, classes
        self._held: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
        self._size = 0
        self.loss, self.correct, self.seen = (
            torch.zeros(members, dtype=torch.float64) for _ in range(3)
        )

    def add(self, losses: Tensor, out: Tensor, y: Tensor, counts: Tensor | None) -> None:
        """A step: losses [M], outputs [M, K, B], targets [M or 1, B], how often each example counts [M, B]."""
        self._held.append((losses, out, y, counts))
        self._size += out.numel()
        if self._size >= _HELD or len(self._held) >= 64:
            self.settle()

    def settle(self) -> None:
        """Count what is held."""
        if not self._held:
            return
        losses, outs, ys, counts = zip(*self._held, strict=True)
        weighted = any(c is not None for c in counts)
        if weighted:  # of text, a batch without padding may be among them
            counts = tuple(
                torch.ones_like(y, dtype=losses[0].dtype) if c is None else c
                for c, y in zip(counts, ys, strict=True)
            )
            sizes = torch.stack([c.sum(1).expand(self.members) for c in counts]).cpu().double()
        else:
            sizes = torch.tensor([[y.shape[1]] for y in ys], dtype=torch.float64)
        terms = torch.stack(losses).cpu().double() * sizes
        self.loss = torch.cat([self.loss.unsqueeze(0), terms]).cumsum(0)[
            -1
        ]  # one by one: the last bit does not tell when
        self.seen += sizes.sum(0)
        if self.classes:
            whole = outs[0] if len(outs) == 1 else torch.cat(outs, 2)
            right = hits(whole, torch.cat([y.expand(max(map(len, ys)), -1) for y in ys], 1))
            if weighted:
                right = right * torch.cat([c.expand(max(map(len, counts)), -1) for c in counts], 1)
            self.correct += right.sum(1).cpu().double()
        self._held.clear()
        self._size = 0

    def mean(self) -> Tensor:
        """Mean loss [M] so far."""
        return self.loss / self.seen.clamp_min(1e-30)

    def accuracy(self) -> Tensor:
        """Share of hits [M] so far, or R² where targets are numbers (standardised)."""
        return self.correct / self.seen.clamp_min(1e-30) if self.classes else 1 - self.mean()

    def tensors(self) -> dict[str, Tensor]:
        """The sums, for a checkpoint."""
        self.settle()
        return {"tally.loss": self.loss, "tally.correct": self.correct, "tally.seen": self.seen}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from sums."""
        self.loss, self.correct, self.seen = (
            tensors[f"tally.{k}"].clone() for k in ("loss", "correct", "seen")
        )

    def keep(self, keep: list[int]) -> RunningMetrics:
        """Only these networks."""
        new = RunningMetrics(len(keep), self.classes)
        new.restore({k: v[keep] for k, v in self.tensors().items()})
        return new
