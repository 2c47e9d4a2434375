"""Where a training broke: the first layer that gave NaN or infinity, and what to try."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from danlu.errors import Diverged
from danlu.recipe import Recipe


def explain(
    model: nn.Module, r: Recipe, x: Tensor, step: int, per_epoch: int, lr: float
) -> Diverged:
    """Run the batch through again and name the layer. The weights are those from before the step; lr: its rate."""
    layer, what = locate(model, x)
    tries = [f"a smaller `optimizer.lr` than {lr:.3g} ({lr / 10:.1g})"]
    if not r.clip.norm:
        tries.append("`clip.norm=1`")
    if r.schedule.warmup == 0 and r.epochs > 1:
        tries.append("`schedule.warmup=1`")
    if r.normalize == "none":
        tries.append("`normalize=zscore`")
    return Diverged(
        f"the loss became NaN or infinite at step {step} (epoch {step // per_epoch + 1}); it began in {what}; "
        f"try {' or '.join(tries)}",
        step=step,
        layer=layer,
    )


@torch.no_grad()
def locate(model: nn.Module, x: Tensor) -> tuple[str, str]:
    """(name, description) of the first layer whose weights or output are not finite."""
    if not bool(torch.isfinite(x).all()):
        return "input", "the input itself"
    for name, p in model.named_parameters():
        if not bool(torch.isfinite(p).all()):
            layer = name.rpartition(".")[0] or name
            return layer, f"the weights of layer `{layer}`, which the update before blew up"
    found: list[str] = []

    def see(name: str, out: Tensor) -> None:
        if not found and isinstance(out, Tensor) and not bool(torch.isfinite(out).all()):
            found.append(name)

    leaves = [(k, m) for k, m in model.named_modules() if not list(m.children())]
    hooks = [m.register_forward_hook(lambda m, a, o, k=k: see(k, o)) for k, m in leaves]
    try:
        model(x)
    finally:
        for h in hooks:
            h.remove()
    return (
        (found[0], f"the output of layer `{found[0]}`")
        if found
        else ("loss", "the loss, whose logits are still finite")
    )
