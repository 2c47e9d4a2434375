"""A layer of M networks, as the layer rules take it, and what they make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from danlu.train.forward.interface import MemberLayout


class ForwardBackward(NamedTuple):
    """The passes of a bound layer.

    forward(x) → (output, saved). backward(g, saved, wants_input) → the gradient by the input if it
    is wanted; it writes the parameters' gradients into theirs, and may overwrite g.
    """

    forward: Callable[[Tensor], tuple[Tensor, Any]]
    backward: Callable[[Tensor, Any, bool], Tensor]


@dataclass(frozen=True)
class BoundLayer:
    """A layer of M networks: its module, and its tensors [M, …] by name.

    p: of Dropout, a number, or [M]. may_overwrite: whether the input may be overwritten, as the
    layer before made it and has no use for it.
    """

    module: Any
    layout: MemberLayout
    tensors: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]
    p: Any = 0.0
    may_overwrite: bool = False


LayerRule = Callable[[BoundLayer], ForwardBackward]
