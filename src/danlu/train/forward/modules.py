"""Any module by autograd: as it is for one network, vectorised by `torch.func.vmap` for several.

Both are a `danlu.train.forward.SequenceForwardPass`. Legend: M networks, S batches in a step,
B examples, T tokens, K outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from danlu.errors import ModelError
from danlu.nn.layers import Dropout, dropout_source
from danlu.nn.protocols import HasSequenceLoss, is_stateful
from danlu.nn.recurrent import under_vmap
from danlu.train.forward.interface import Heads, MemberLayout, Precision, scaled_keep_mask
from danlu.train.forward.stack import Stack


class _WithKnownGradients(torch.autograd.Function):
    """A number whose gradients by some tensors are known: first the tensors, then the gradients."""

    @staticmethod
    def forward(ctx: Any, *tensors_and_gradients: Tensor) -> Tensor:
        half = len(tensors_and_gradients) // 2
        ctx.gradients = tensors_and_gradients[half:]
        return tensors_and_gradients[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return *ctx.gradients, *(None for _ in ctx.gradients)


def _backward(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Do what `torch.autograd.backward(outputs, gradients)` does.

    That would first import a library of symbolic algebra, which takes half a second.
    """
    whole = _WithKnownGradients.apply(*outputs, *gradients)  # type: ignore[no-untyped-call]
    cast(Tensor, whole).backward()


class _OwnBuffer(NamedTuple):
    """A buffer of a module that is a view of the stack's."""

    module: nn.Module
    key: str
    tensor: Tensor
    name: str


class SingleForward:
    """One network, by its own `forward`.

    seed: of PyTorch's generators in a step, for modules that draw from them.
    """

    def __init__(
        self, model: nn.Module, layout: MemberLayout, stack: Stack, precision: Precision
    ) -> None:
        self.model, self.layout, self.stack, self.precision = model, layout, stack, precision
        self.seed: int | None = None
        self.state: tuple[Tensor, ...] | None = None
        self.own_buffers = []
        for path, module in model.named_modules():
            for key, buffer in module._buffers.items():
                name = f"{path}.{key}".lstrip(".")
                if buffer is not None and name in stack.buffers:
                    self.own_buffers.append(_OwnBuffer(module, key, buffer, name))

    @contextlib.contextmanager
    def _random_streams(self) -> Iterator[None]:
        """Draw from the streams of this step."""
        with contextlib.ExitStack() as contexts:
            if self.layout.generators:
                contexts.enter_context(dropout_source(self.layout.generators[0]))
            if self.seed is not None:
                contexts.enter_context(torch.random.fork_rng())
                torch.random.manual_seed(self.seed)
            yield

    def forward(self, x: Tensor) -> tuple[Heads, Any]:
        """Return outputs [1, K, B] for x [1, B, …], and the graph."""
        with self._random_streams(), self.precision.of_pass(self.model.training):
            if is_stateful(self.model):
                start = None
                if self.state is not None:
                    start = tuple(s[0, : x.shape[1]] for s in self.state)
                out, ends = self.model(x[0], start)
                self.state = tuple(s.detach().unsqueeze(0) for s in ends)
            else:
                out = self.model(self.precision.arrange(x[0]))
            heads = self.precision.outputs(out)
        self._take_back_buffers()
        return tuple(head.detach().t().unsqueeze(0) for head in heads), heads

    def sequence_loss(self, x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Return the loss [1], the outputs [1, K, B·T], and the graph."""
        model = cast(HasSequenceLoss, self.model)
        with self._random_streams(), self.precision.of_pass(True):
            loss, logits = model.sequence_loss(x[0], y[0], weights[0])
        self._take_back_buffers()
        out = logits.detach().flatten(0, -2).t().unsqueeze(0)
        return loss.detach().unsqueeze(0), out, (loss,)

    @torch.no_grad()
    def _take_back_buffers(self) -> None:
        """Copy what a module put in the place of a buffer into the buffer, which the stack holds.

        Raises ModelError for a buffer of another shape or type.
        """
        for module, key, tensor, name in self.own_buffers:
            found = module._buffers[key]
            if found is tensor:
                continue
            is_float = tensor.is_floating_point()
            if (
                found is None
                or found.shape != tensor.shape
                or found.is_floating_point() != is_float
            ):
                raise ModelError(
                    f"`{name}` of the network became {_describe(found)} in training, "
                    f"but a buffer must stay what it is: {_describe(tensor)}"
                )
            tensor.copy_(found)
            module._buffers[key] = tensor

    def backward(self, gradients: Sequence[Tensor], saved: Any) -> None:
        """Overwrite the gradient of every parameter; gradients [1, K, B] by each output."""
        self.stack.grad.zero_()
        _backward(saved, [g[0].t() if g.ndim > 1 else g[0] for g in gradients])


def _describe(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"{list(tensor.shape)} of {str(tensor.dtype)[6:]}"


class _SequenceLoss(nn.Module):
    """A network's sequence loss in the place of its forward pass.

    `functional_call` replaces the weights of a module whose `forward` it calls.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Tensor) -> Any:
        """As the model's `sequence_loss`."""
        return cast(HasSequenceLoss, self.model).sequence_loss(*args)


def _in_sequence_loss(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": tensor for name, tensor in tensors.items()}


class VmapForward:
    """M networks of one structure. Raises RuntimeError where `vmap` cannot follow the module."""

    def __init__(
        self,
        model: nn.Module,
        layout: MemberLayout,
        stack: Stack,
        precision: Precision,
        p: dict[str, Any],
    ) -> None:
        self.model, self.layout, self.stack, self.precision = model, layout, stack, precision
        self.state: tuple[Tensor, ...] | None = None
        self.stateful = is_stateful(model)
        self.leaves = {}
        for name, parameter in stack.parameters.items():
            leaf = parameter.detach().requires_grad_()
            leaf.grad = stack.grads[name]
            self.leaves[name] = leaf
        self.p = {
            layer: p.get(path, layer.p)
            for path, layer in model.named_modules()
            if isinstance(layer, Dropout)
        }
        # By batch size: which dropouts a pass asks for a mask, and the masks' shapes.
        self.mask_requests: dict[int, list[tuple[Dropout, tuple[int, ...]]]] = {}

    def forward(self, x: Tensor) -> tuple[Heads, Any]:
        """Return outputs [M, K, B] for x [S, B, …], and the graph."""
        is_shared = len(x) == 1
        # Inside vmap the layout in memory cannot be chosen, so only a shared batch is arranged.
        x = self.precision.arrange(x[0]) if is_shared else self.layout.per_member(x)
        masks = []
        if self.model.training and self.p:
            masks = self._masks(x if is_shared else x[0])
        states = None
        if self.state is not None:
            size = x.shape[0 if is_shared else 1]
            states = tuple(s[:, :size] for s in self.state)

        def one(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            x: Tensor,
            masks: list[Tensor],
            states: Any,
        ) -> Any:
            remaining = iter(masks)
            inputs = (x, states) if self.stateful else (x,)
            with dropout_source(lambda layer, value: next(remaining)):
                out = torch.func.functional_call(self.model, (parameters, buffers), inputs)
            out, ends = out if self.stateful else (out, ())
            return self.precision.outputs(out), ends

        dims = (0, 0, None if is_shared else 0, 0, None if states is None else 0)
        with self.precision.of_pass(self.model.training), under_vmap():
            heads, ends = torch.func.vmap(one, in_dims=dims)(
                self.leaves, dict(self.stack.buffers), x, masks, states
            )
        self.state = tuple(s.detach() for s in ends) if self.stateful else None
        return tuple(head.detach().mT for head in heads), heads

    def sequence_loss(self, x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Return the losses [M], the outputs [M, K, B·T], and the graph."""
        x = self.layout.per_member(x)
        masks = self._masks(x[0]) if self.p else []
        y = y.expand(self.stack.members, -1, -1)
        weights = weights.expand(self.stack.members, -1)
        wrapper = _SequenceLoss(self.model)

        def one(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            masks: list[Tensor],
            *args: Tensor,
        ) -> Any:
            remaining = iter(masks)
            tensors = (_in_sequence_loss(parameters), _in_sequence_loss(buffers))
            with dropout_source(lambda layer, value: next(remaining)):
                return torch.func.functional_call(wrapper, tensors, args)

        with self.precision.of_pass(True), under_vmap():
            losses, logits = torch.func.vmap(one)(
                self.leaves, dict(self.stack.buffers), masks, x, y, weights
            )
        return losses.detach(), logits.detach().flatten(1, -2).mT, (losses,)

    def _masks(self, x: Tensor) -> list[Tensor]:
        """Return the masks of a step [M, B, …], in the order in which the module asks for them."""
        if len(x) not in self.mask_requests:
            self.mask_requests[len(x)] = self._record_mask_requests(x)
        masks = []
        for layer, shape in self.mask_requests[len(x)]:
            u = self.layout.uniform(shape).expand(self.stack.members, *shape)
            masks.append(scaled_keep_mask(u, self.p[layer], self.stack.theta))
        return masks

    @torch.no_grad()
    def _record_mask_requests(self, x: Tensor) -> list[tuple[Dropout, tuple[int, ...]]]:
        """Return which dropouts a pass asks for a mask, and of what shapes."""
        requests: list[tuple[Dropout, tuple[int, ...]]] = []

        def record(layer: Dropout, value: Tensor) -> Tensor:
            requests.append((layer, tuple(value.shape)))
            return torch.ones_like(value)

        first = {name: tensor[0].clone() for name, tensor in self.stack.tensors.items()}
        with dropout_source(record):
            torch.func.functional_call(self.model, first, (x,))
        return requests

    def backward(self, gradients: Sequence[Tensor], saved: Any) -> None:
        """Overwrite the gradient of every parameter; gradients [M, K, B] by each output."""
        self.stack.grad.zero_()
        _backward(saved, [g.mT if g.ndim > 1 else g for g in gradients])
