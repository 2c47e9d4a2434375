"""Where a training diverged: the first layer that gave NaN or infinity, and what to try."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from danlu.data.parts import TITLES
from danlu.errors import Diverged
from danlu.recipe import Recipe

_BLOWN_UP = 1e10  # a loss (nats, or variances of the target) that is beyond all learning


def explain(
    model: nn.Module,
    recipe: Recipe,
    x: Tensor,
    step: int,
    per_epoch: int,
    lr: float,
) -> Diverged:
    """Return the error that names the layer, by passing the batch through once more.

    The weights must be those from before the step; lr: its learning rate.
    """
    # The batch is passed once more: hooks in every step would cost all the others.
    layer, place = locate(model, x)
    epoch = step // per_epoch + 1
    return Diverged(
        f"the loss became NaN or infinite at step {step} (epoch {epoch}); it began in {place}; "
        f"{_advice(recipe, step, lr)}",
        step=step,
        layer=layer,
    )


def _advice(recipe: Recipe, step: int, lr: float) -> str:
    """Return what to try, the likeliest cause first."""
    start = []
    if recipe.init.name != "auto" or recipe.init.bias:
        start.append("`init=auto init.bias=0` (the initial weights)")
    if recipe.normalize == "none":
        start.append("`normalize=zscore`")
    if step == 0:
        # Nothing was updated yet, so no rate is to blame.
        start.append("a look at the values of the inputs and the targets")
        return f"no weight was updated before, so try {' or '.join(start)}"
    tries = [f"a smaller `optimizer.lr` than {lr:.3g} ({lr / 10:.1g})"]
    if not recipe.clip.norm:
        tries.append("`clip.norm=1`")
    if recipe.schedule.warmup == 0 and recipe.epochs > 1:
        tries.append("`schedule.warmup=1`")
    return f"try {' or '.join([*tries, *start])}"


def at_the_end(figures: Mapping[str, Any], step: int, lr: float) -> Diverged | None:
    """Return the error for final figures that no trained network has; None for others.

    A loss that is not finite, as the last update may blow up weights that no later step looks at;
    or one on the training part that is finite only because training ended in time.
    """
    for part, title in TITLES.items():
        loss = figures.get(f"{part}_loss")
        if loss is None:
            continue
        is_lost = not math.isfinite(loss)
        # Held-out examples may lie far out, and are no fault of the training.
        if is_lost or (part == "train" and loss > _BLOWN_UP):
            what = "NaN or infinite" if is_lost else f"{loss:.2g}"
            return Diverged(
                f"the loss on the {title} part is {what} at the end, after step {step}; "
                f"try a smaller `optimizer.lr` than {lr:.3g} ({lr / 10:.1g})",
                step=step,
                layer="loss",
            )
    return None


@torch.no_grad()
def locate(model: nn.Module, x: Tensor) -> tuple[str, str]:
    """Return the first layer whose weights or output are not finite: its name, and in words."""
    if not _is_finite(x):
        return "input", "the input itself"
    # Weights before outputs: one bad weight spoils the output of every layer behind it.
    for name, p in model.named_parameters():
        if not _is_finite(p):
            layer = name.rpartition(".")[0] or name
            return layer, f"the weights of layer `{layer}`, which the update before blew up"
    bad_layer = _first_bad_output(model, x)
    if bad_layer is None:
        return "loss", "the loss, whose logits are still finite"
    return bad_layer, f"the output of layer `{bad_layer}`"


def _first_bad_output(model: nn.Module, x: Tensor) -> str | None:
    """Return the name of the first layer to give a value that is not finite, None where none."""
    bad_layers: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, object], None]:
        def note(module: nn.Module, args: Any, out: object) -> None:
            if isinstance(out, Tensor) and not _is_finite(out):
                bad_layers.append(name)

        return note

    hooks = []
    for name, module in model.named_modules():
        is_leaf = not list(module.children())
        if is_leaf:
            hooks.append(module.register_forward_hook(watch(name)))
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return next(iter(bad_layers), None)


def _is_finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x).all())
