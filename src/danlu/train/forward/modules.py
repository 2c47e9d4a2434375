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
from torch.nn.modules.batchnorm import _BatchNorm

from danlu.errors import ModelError
from danlu.nn.layers import Dropout, dropout_source
from danlu.nn.protocols import HasSequenceLoss, is_stateful
from danlu.nn.recurrent import under_vmap
from danlu.train.forward.interface import Heads, MemberLayout, Precision, scaled_keep_mask
from danlu.train.forward.stack import Stack

MaskRequest = tuple[Dropout, tuple[int, ...]]  # a dropout, and the shape of the mask it asks for


class _WithKnownGradients(torch.autograd.Function):
    """A number whose gradients by some tensors are known: first the tensors, then the gradients."""

    @staticmethod
    def forward(ctx: Any, *tensors_and_gradients: Tensor) -> Tensor:
        half = len(tensors_and_gradients) // 2
        ctx.gradients = tensors_and_gradients[half:]
        return tensors_and_gradients[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        of_gradients = [None] * len(ctx.gradients)  # these are constants
        return *ctx.gradients, *of_gradients


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
        self,
        model: nn.Module,
        layout: MemberLayout,
        stack: Stack,
        precision: Precision,
    ) -> None:
        self.model = model
        self.layout = layout
        self.stack = stack
        self.precision = precision
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
                # danlu's own dropout draws from the network's stream.
                contexts.enter_context(dropout_source(self.layout.generators[0]))
            if self.seed is not None:
                # A stranger's module draws from PyTorch's generator, which is given back
                # afterwards.
                contexts.enter_context(torch.random.fork_rng())
                torch.random.manual_seed(self.seed)
            yield

    def forward(self, x: Tensor) -> tuple[Heads, Any]:
        """Return outputs [1, K, B] for x [1, B, …], and the graph."""
        with self._random_streams(), self.precision.of_pass(self.model.training):
            if is_stateful(self.model):
                start = self._start_state(x.shape[1])
                out, ends = self.model(x[0], start)
                # Truncated backpropagation: the next batch takes the values, not their graph.
                self.state = tuple(s.detach().unsqueeze(0) for s in ends)
            else:
                arranged = self.precision.arrange(x[0])
                out = self.model(arranged)
            heads = self.precision.outputs(out)
        self._take_back_buffers()
        detached = tuple(_as_columns(head.detach()) for head in heads)
        return detached, heads

    def _start_state(self, size: int) -> tuple[Tensor, ...] | None:
        """Return what the batch before left, [B, H] each, for a batch of that many examples."""
        if self.state is None:
            return None
        return tuple(s[0, :size] for s in self.state)

    def sequence_loss(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor, Any]:
        """Return the loss [1], the outputs [1, K, B·T], and the graph."""
        model = cast(HasSequenceLoss, self.model)
        with self._random_streams(), self.precision.of_pass(True):
            loss, logits = model.sequence_loss(x[0], y[0], weights[0])
        self._take_back_buffers()
        by_token = logits.detach().flatten(0, -2)  # [B·T, K]
        return loss.detach().unsqueeze(0), _as_columns(by_token), (loss,)

    @torch.no_grad()
    def _take_back_buffers(self) -> None:
        """Copy what a module put in the place of a buffer into the buffer, which the stack holds.

        Raises ModelError for a buffer of another shape or type.
        """
        for module, key, tensor, name in self.own_buffers:
            current = module._buffers[key]
            if current is tensor:
                continue
            if current is None or not _fits(current, tensor):
                raise ModelError(
                    f"`{name}` of the network became {_describe(current)} in training, "
                    f"but a buffer must stay what it is: {_describe(tensor)}"
                )
            tensor.copy_(current)
            module._buffers[key] = tensor

    def backward(self, gradients: Sequence[Tensor], saved: Any) -> None:
        """Overwrite the gradient of every parameter; gradients [1, K, B] by each output."""
        self.stack.grad.zero_()
        by_output = []
        for g in gradients:
            of_network = g[0]
            is_loss = g.ndim == 1  # [1], where the model computes the loss itself
            by_output.append(of_network if is_loss else of_network.t())
        _backward(saved, by_output)


def _as_columns(out: Tensor) -> Tensor:
    """Return one network's outputs [B, K] as [1, K, B]."""
    return out.t().unsqueeze(0)


def _fits(tensor: Tensor, buffer: Tensor) -> bool:
    """Whether a tensor has a buffer's shape, and its kind of number."""
    if tensor.shape != buffer.shape:
        return False
    return tensor.is_floating_point() == buffer.is_floating_point()


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "nothing"
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"{list(tensor.shape)} of {dtype}"


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
        self.model = model
        self.layout = layout
        self.stack = stack
        self.precision = precision
        self.state: tuple[Tensor, ...] | None = None
        self.stateful = is_stateful(model)
        self.normalizes = any(isinstance(m, _BatchNorm) for m in model.modules())
        self.leaves = {}
        for name, parameter in stack.parameters.items():
            # Leaves of their own, whose gradients are written straight into the stack's vector.
            leaf = parameter.detach().requires_grad_()
            leaf.grad = stack.grads[name]
            self.leaves[name] = leaf
        self.p = {}
        for path, layer in model.named_modules():
            if isinstance(layer, Dropout):
                self.p[layer] = p.get(path, layer.p)
        self.mask_requests: dict[int, list[MaskRequest]] = {}  # by batch size

    def forward(self, x: Tensor) -> tuple[Heads, Any]:
        """Return outputs [M, K, B] for x [S, B, …], and the graph."""
        is_shared = len(x) == 1
        if is_shared:
            x = x[0]
            if not self.normalizes:
                # Inside vmap the layout in memory cannot be chosen, so only a shared batch is
                # arranged. cuDNN's batch normalisation would ask for that layout within.
                x = self.precision.arrange(x)
        else:
            x = self.layout.per_member(x)
        masks = []
        if self.model.training and self.p:
            masks = self._masks(x if is_shared else x[0])
        states = None
        if self.state is not None:
            batch_size = x.shape[0 if is_shared else 1]
            states = tuple(s[:, :batch_size] for s in self.state)

        def one(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            x: Tensor,
            masks: list[Tensor],
            states: Any,
        ) -> Any:
            inputs = (x, states) if self.stateful else (x,)
            with _masks_in_order(masks):
                out = torch.func.functional_call(self.model, (parameters, buffers), inputs)
            ends = ()
            if self.stateful:
                out, ends = out
            return self.precision.outputs(out), ends

        of_x = None if is_shared else 0
        of_states = None if states is None else 0
        every_network = torch.func.vmap(one, in_dims=(0, 0, of_x, 0, of_states))
        buffers = dict(self.stack.buffers)
        with self.precision.of_pass(self.model.training), under_vmap():
            heads, ends = every_network(self.leaves, buffers, x, masks, states)
        if self.stateful:
            self.state = tuple(s.detach() for s in ends)
        return tuple(head.detach().mT for head in heads), heads

    def sequence_loss(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor, Any]:
        """Return the losses [M], the outputs [M, K, B·T], and the graph."""
        x = self.layout.per_member(x)
        masks = []
        if self.p:
            masks = self._masks(x[0])
        y = y.expand(self.stack.members, -1, -1)  # [M, B, T]
        weights = weights.expand(self.stack.members, -1)  # [M, B]
        wrapper = _SequenceLoss(self.model)

        def one(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            masks: list[Tensor],
            *args: Tensor,
        ) -> Any:
            tensors = (_in_sequence_loss(parameters), _in_sequence_loss(buffers))
            with _masks_in_order(masks):
                return torch.func.functional_call(wrapper, tensors, args)

        every_network = torch.func.vmap(one)
        buffers = dict(self.stack.buffers)
        with self.precision.of_pass(True), under_vmap():
            losses, logits = every_network(self.leaves, buffers, masks, x, y, weights)
        by_token = logits.detach().flatten(1, -2)  # [M, B·T, K]
        return losses.detach(), by_token.mT, (losses,)

    def _masks(self, x: Tensor) -> list[Tensor]:
        """Return the masks of a step [M, B, …], in the order in which the module asks for them."""
        if len(x) not in self.mask_requests:
            self.mask_requests[len(x)] = self._record_mask_requests(x)
        masks = []
        for layer, shape in self.mask_requests[len(x)]:
            u = self.layout.uniform(shape)  # [M or 1, B, …]
            of_each = u.expand(self.stack.members, *shape)
            masks.append(scaled_keep_mask(of_each, self.p[layer], self.stack.theta))
        return masks

    @torch.no_grad()
    def _record_mask_requests(self, x: Tensor) -> list[MaskRequest]:
        """Return the masks that a pass asks for, in order."""
        requests: list[MaskRequest] = []

        def record(layer: Dropout, value: Tensor) -> Tensor:
            shape = tuple(value.shape)
            requests.append((layer, shape))
            return torch.ones_like(value)

        # Copies, as this pass must not move the running statistics of batch normalisation.
        first = {}
        for name, tensor in self.stack.tensors.items():
            first[name] = tensor[0].clone()
        with dropout_source(record):
            torch.func.functional_call(self.model, first, (x,))
        return requests

    def backward(self, gradients: Sequence[Tensor], saved: Any) -> None:
        """Overwrite the gradient of every parameter; gradients [M, K, B] by each output."""
        self.stack.grad.zero_()
        by_output = []
        for g in gradients:
            is_loss = g.ndim == 1  # [M], where the model computes the losses itself
            by_output.append(g if is_loss else g.mT)
        _backward(saved, by_output)


def _masks_in_order(masks: list[Tensor]) -> contextlib.AbstractContextManager[None]:
    """Give the dropouts of a pass these masks, one after another."""
    remaining = iter(masks)
    return dropout_source(lambda layer, value: next(remaining))
