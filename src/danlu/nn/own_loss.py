"""Anyone's own loss: `loss=package.module:function`.

Legend: B examples, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from danlu.errors import ModelError, reason_of
from danlu.imported import find, parameters_of
from danlu.nn.losses import LossRule

_FIELD = "loss.name"


def own_loss(path: str, args: Mapping[str, Any], classes: bool) -> LossRule:
    """Return the loss at a path.

    A function takes outputs and targets, [B, K] and class numbers [B] or numbers [B] and [B], and
    returns the loss of each example [B], or their mean. A subclass of nn.Module, such as
    torch.nn:HuberLoss, is made first. args: of the function or the class; where it takes a
    `reduction`, it is "none". Raises ModelError where there is nothing callable.
    """
    found = find(path, _FIELD)
    given = dict(args)
    if "reduction" in parameters_of(found):
        given.setdefault("reduction", "none")
    function = _function(path, found, given)

    def value(
        o: Tensor, y: Tensor, parameter: float = 0.0, weights: Tensor | None = None
    ) -> Tensor:
        losses: Tensor = function(o if classes else o.squeeze(1), y)
        if losses.ndim == 0 and weights is None:
            return losses
        if losses.shape != y.shape:
            shape = tuple(losses.shape)
            raise ModelError(
                f"`{_FIELD}` is {path!r}, which gives {shape} for {len(y)} examples, but must "
                f"give the loss of each of them, ({len(y)},), where examples do not count alike"
            )
        return losses.mean() if weights is None else (losses * weights).sum()

    return LossRule(value, classes)


def _function(path: str, found: Any, args: dict[str, Any]) -> Callable[[Tensor, Tensor], Tensor]:
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        return lambda o, y: found(o, y, **args)
    try:
        module = found(**args)
    except Exception as e:  # anyone's code may raise anything
        raise ModelError(
            f"`{_FIELD}` is {path!r}, but calling it failed: {reason_of(e)}; "
            "give its arguments in `loss.args`"
        ) from e
    return module


def check_own_loss(
    path: str, args: Mapping[str, Any], classes: bool, outputs: int, is_weighted: bool = False
) -> None:
    """Raise ModelError for a loss that no network could be trained by.

    is_weighted: whether examples will not count alike.
    """
    loss = own_loss(path, args, classes)
    # Not zeros: there a loss may have no gradient.
    o = torch.linspace(-1, 1, 3 * outputs).view(3, outputs).requires_grad_()
    y = torch.arange(3) % outputs if classes else torch.tensor([-0.5, 0.25, 1.0])
    try:
        value = loss.value(o, y, 0.0, torch.full((3,), 1 / 3) if is_weighted else None)
        (gradient,) = torch.autograd.grad(value, o)
    except ModelError:
        raise
    except Exception as e:  # anyone's code may raise anything
        raise ModelError(
            f"`{_FIELD}` is {path!r}, but it cannot be trained by: {reason_of(e)}; it takes "
            "outputs and targets, and returns the loss of each example"
        ) from e
    if not torch.isfinite(value) or not torch.isfinite(gradient).all():
        raise ModelError(
            f"`{_FIELD}` is {path!r}, but for outputs between -1 and 1 the loss or its gradient is "
            "not finite; take logits, not probabilities"
        )
