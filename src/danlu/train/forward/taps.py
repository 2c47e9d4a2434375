"""Looking at what layers see and give, without changing it.

A tap is called with tensors [M, …] of all networks at once. Taps are put on networks of their own:
copies, so that whatever happens there cannot reach those in training.

Legend: M networks, B examples, n units.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from danlu.nn.layers import Dropout
from danlu.nn.recurrent import Recurrent
from danlu.train.forward.chain import Chain

Side = Literal["input", "output"]  # of a layer

# Layers whose outputs are those of the layer before, in another shape or in part.
_PASS_ON = (
    Dropout,
    nn.modules.dropout._DropoutNd,
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
RECURRENT = (Recurrent, nn.RNNBase)  # whose inputs are looked at, too


class Tap(Protocol):
    """Takes what passes through layers; values may be overwritten after the call."""

    def value(self, layer: str, side: Side, value: Tensor) -> None:
        """Look at what a layer sees or gives [M, …]."""

    def gradient(self, layer: str, side: Side, gradient: Tensor) -> None:
        """Look at the gradient of the objective by that [M, …]."""


def tapped_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of a network that taps look at, by name."""
    layers = {}
    for name, module in model.named_modules():
        is_leaf = not list(module.children())
        if is_leaf and not isinstance(module, _PASS_ON):
            layers[name] = module
    return layers


def tap_chain(chain: Chain, tap: Tap) -> None:
    """Show what a chain's layers give, from the first with weights on.

    The chain must keep to the module's order.
    """
    tapped = tapped_layers(chain.model)
    for k, (path, _) in enumerate(chain.order):
        if path in tapped and k >= chain.first:
            chain.forwards[k] = _shown_forward(chain, k, path, tap)
    backwards = []
    for k, layer_backward, wants_input in chain.backwards:
        path, _ = chain.order[k]
        if path in tapped:
            layer_backward = _shown_backward(chain, k, path, tap)
        backwards.append((k, layer_backward, wants_input))
    chain.backwards = backwards


def _members_first(chain: Chain, k: int, value: Tensor) -> Tensor:
    """Return what layer k of a chain gives as [M, B, n, …]."""
    if chain.has_columns_before(k + 1):
        return value.movedim(-1, 1)
    return value.unsqueeze(0)


def _shown_forward(chain: Chain, k: int, layer: str, tap: Tap) -> Any:
    forward = chain.forwards[k]

    def show(x: Tensor) -> tuple[Tensor, Any]:
        out, saved = forward(x)
        # In evaluation nothing is looked at.
        if chain.model.training:
            tap.value(layer, "output", _members_first(chain, k, out))
        return out, saved

    return show


def _shown_backward(chain: Chain, k: int, layer: str, tap: Tap) -> Any:
    backward = next(passed for number, passed, _ in chain.backwards if number == k)

    def show(g: Tensor, saved: Any, wants_input: bool) -> Tensor:
        tap.gradient(layer, "output", _members_first(chain, k, g))
        return backward(g, saved, wants_input)

    return show


class _Identity(torch.autograd.Function):
    """Shows a value of one network or, under `vmap`, of all, and in the backward pass its gradient.

    is_of_all: whether the value has the networks' axis.
    """

    @staticmethod
    def forward(
        value: Tensor, tap: Tap, layer: str, side: Side, is_of_all: bool, copies: bool
    ) -> Tensor:
        tap.value(layer, side, value if is_of_all else value.unsqueeze(0))
        return value.clone() if copies else value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.tap, ctx.layer, ctx.side, ctx.is_of_all, _ = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (g,) = gradients
        ctx.tap.gradient(ctx.layer, ctx.side, g if ctx.is_of_all else g.unsqueeze(0))
        return g, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, value: Tensor, *args: Any) -> Any:
        tap, layer, side, _, copies = args
        value = value.movedim(in_dims[0], 0)
        out = _Identity.apply(value, tap, layer, side, True, copies)  # type: ignore[no-untyped-call]
        return out, 0


class ModuleTaps:
    """Hooks that show what the layers of a network see and give, for as long as it lives.

    copies: whether a layer behind may overwrite what it gets, as anyone's module may.
    """

    def __init__(self, model: nn.Module, tap: Tap, copies: bool) -> None:
        self.tap = tap
        self.copies = copies
        self.calls: dict[str, int] = {}  # in this pass, by layer
        for module in model.modules():
            # What is overwritten could not be looked at, nor put behind an identity.
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        for name, module in tapped_layers(model).items():
            if isinstance(module, RECURRENT):
                module.register_forward_pre_hook(self._input_hook(name))
            module.register_forward_hook(self._output_hook(name))

    def begin(self) -> None:
        """Begin a new pass."""
        self.calls.clear()

    def _show(self, value: Any, layer: str, side: Side) -> Any:
        # In evaluation, and in a pass that only records shapes, there are no gradients.
        is_shown = isinstance(value, Tensor) and torch.is_grad_enabled()
        if not is_shown or not value.is_floating_point():
            return value
        return _Identity.apply(value, self.tap, layer, side, False, self.copies)  # type: ignore[no-untyped-call]

    def _input_hook(self, name: str) -> Any:
        def show(module: nn.Module, args: Any) -> Any:
            first, *others = args
            return (self._show(first, self._name_of_call(name), "input"), *others)

        return show

    def _output_hook(self, name: str) -> Any:
        def show(module: nn.Module, args: Any, out: Any) -> Any:
            layer = self._name_of_call(name)
            if torch.is_grad_enabled():
                self.calls[name] = self.calls.get(name, 0) + 1
            if isinstance(out, tuple) and out:
                return (self._show(out[0], layer, "output"), *out[1:])
            return self._show(out, layer, "output")

        return show

    def _name_of_call(self, name: str) -> str:
        """Return a layer's name, with a number where it is called again."""
        calls = self.calls.get(name, 0) + 1
        return name if calls == 1 else f"{name}:{calls}"


def is_recurrent(module: nn.Module) -> bool:
    """Whether a layer reads a sequence step by step."""
    return isinstance(module, cast(Any, RECURRENT))
