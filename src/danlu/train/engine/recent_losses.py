"""The losses of the last steps: what a network that diverged leaves to be looked at.

Legend: M networks, N steps.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

_MOST = 200  # steps
_NAME = "recent_losses"  # in a checkpoint


class RecentLosses:
    """The losses [M] of the last steps of a population."""

    def __init__(self, members: int) -> None:
        self.members = members
        self._steps: deque[Tensor] = deque(maxlen=_MOST)

    def add(self, losses: Tensor) -> None:
        """Add those of a step."""
        self._steps.append(losses)

    def of(self, i: int) -> list[float]:
        """Return those of network i, the oldest first, since it joined."""
        losses = self._table()[:, i]
        # Steps from before it joined are marked: a loss may be NaN at the end alone.
        joined = int(losses.isnan().cummin(0).values.sum())
        return [float(f"{loss:.6g}") for loss in losses[joined:].tolist()]

    def _table(self) -> Tensor:
        """Return all of them, float64 [N, M]."""
        if not self._steps:
            return torch.zeros(0, self.members, dtype=torch.float64)
        return torch.stack([losses.detach().double().cpu() for losses in self._steps])

    def select(self, rows: list[int]) -> RecentLosses:
        """Return those of some networks, in that order."""
        selected = RecentLosses(len(rows))
        selected._steps.extend(self._table()[:, rows])
        return selected

    def join(self, newcomers: int) -> RecentLosses:
        """Return these, with networks behind that have not taken a step."""
        joined = RecentLosses(self.members + newcomers)
        table = self._table()
        unknown = torch.full((len(table), newcomers), torch.nan, dtype=torch.float64)
        joined._steps.extend(torch.cat([table, unknown], 1))
        return joined

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {_NAME: self._table()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self._steps.clear()
        self._steps.extend(tensors[_NAME])
