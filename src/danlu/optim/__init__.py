"""Update rules, schedules, clipping. `Optimizer` serves any PyTorch loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danlu.optim.torch import Optimizer

__all__ = ["Optimizer"]


def __getattr__(name: str) -> Any:
    # Importing torch.optim's base class costs time that the engine does not pay.
    if name == "Optimizer":
        from danlu.optim.torch import Optimizer

        return Optimizer
    raise AttributeError(name)
