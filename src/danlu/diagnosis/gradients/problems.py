"""What gradients are checked of: a loss as a function of named tensors.

Legend: θ a tensor's entries in a row.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from danlu.errors import DanluError, ModelError, wrong
from danlu.rng import drawn_apart

Loss = Callable[..., Tensor]


class GradientProblem(Protocol):
    """A loss that depends on tensors, and the gradient that is claimed for it."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What the loss depends on, in float64; changed in place by the check, and put back."""
        ...

    def value(self) -> float:
        """Return the loss at what the tensors hold now."""

    def gradients(self) -> dict[str, Tensor]:
        """Return the claimed gradient by each tensor."""


class ModuleProblem:
    """Autograd's gradients of a module, custom layers' own backward passes among them.

    inputs: of one call. loss: of the output (and targets, where given); without it, the output's
    weighted sum. Dropout is held to one mask, and running statistics to their values.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: tuple[Any, ...],
        loss: Loss | None,
        targets: Tensor | None,
        penalties: Callable[[Mapping[str, Tensor]], Tensor] | None,
    ) -> None:
        if not any(isinstance(x, Tensor) for x in inputs):
            raise ModelError("`inputs` must be a tensor, or a tuple of them")
        copied = self._called(lambda: copy.deepcopy(module), "copying the module")
        self.module: nn.Module = copied.double()
        if loss is not None and not callable(loss):
            raise ModelError(wrong("loss", loss, "must be a function of output and targets"))
        self.inputs = tuple(_as_double(x) for x in inputs)
        self.loss = loss
        self.targets = None if targets is None else _as_double(targets)
        self.penalties = penalties
        self.buffers = {name: b.clone() for name, b in self.module.named_buffers()}
        self.weights: Tensor | None = None
        self.cast_to = ""  # a lower precision, if numbers are taken to one on the way
        tensors: dict[str, Tensor] = {
            name: p for name, p in self.module.named_parameters() if p.requires_grad
        }
        for k, x in enumerate(self.inputs):
            if isinstance(x, Tensor) and x.is_floating_point():
                tensors["input" if len(self.inputs) == 1 else f"input {k + 1}"] = x
        self.tensors: Mapping[str, Tensor] = tensors
        if not self.tensors:
            raise ModelError(
                f"{type(module).__name__} has neither parameters that learn nor inputs of floating "
                "point, so it has no gradients to check"
            )

    def value(self) -> float:
        """Return the loss, in a call like every other."""
        with torch.no_grad():
            return float(self._loss())

    def gradients(self) -> dict[str, Tensor]:
        """Return autograd's gradients."""
        for x in self.tensors.values():
            x.requires_grad_(True)
        with _Casts() as casts:  # type: ignore[no-untyped-call]
            loss = self._loss()
        self.cast_to = casts.to
        if not loss.requires_grad:
            raise ModelError(
                f"the output of {type(self.module).__name__} is not differentiable: it does not "
                "depend on its parameters or inputs by differentiable steps (argmax, round, "
                ".detach(), .item() and NumPy end the graph)"
            )
        found = torch.autograd.grad(loss, list(self.tensors.values()), allow_unused=True)
        gradients = {}
        for (name, x), g in zip(self.tensors.items(), found, strict=True):
            gradients[name] = torch.zeros_like(x) if g is None else g
        return gradients

    def _loss(self) -> Tensor:
        with self._same_circumstances():
            # What a module overwrites must not be what is differentiated by.
            inputs = [x.clone() if isinstance(x, Tensor) else x for x in self.inputs]
            out = self._called(lambda: self.module(*inputs), "the module")
            loss = self._of_output(out)
        if self.penalties is not None:
            penalties = self.penalties
            loss = loss + self._called(lambda: penalties(self.tensors), "`penalties`")
        return loss

    def _called(self, call: Callable[[], Any], what: str) -> Any:
        """Return what somebody's own code gives. Raises ModelError with what it raises."""
        try:
            return call()
        except DanluError:
            raise
        except Exception as e:
            raise ModelError(f"{what} raised {type(e).__name__}: {e}") from e

    def _of_output(self, out: Any) -> Tensor:
        if self.loss is not None:
            of_output = self.loss
            arguments: tuple[Any, ...] = (out,)
            if self.targets is not None:
                arguments = (out, self.targets)
            loss = self._called(lambda: of_output(*arguments), "`loss`")
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                raise ModelError("`loss` must return one number, as a tensor")
            return loss.reshape(())
        if isinstance(out, tuple):
            out = out[0]
        if not isinstance(out, Tensor):
            raise ModelError(
                f"the output is a {type(out).__name__}, so `loss` must say what is differentiated"
            )
        if out.is_complex():
            raise ModelError("the output is complex, so `loss` must say what is differentiated")
        out = out.double()
        if self.weights is None or self.weights.shape != out.shape:
            # A plain sum is 0 for what ends in a softmax or a normalisation.
            g = torch.Generator().manual_seed(0)
            self.weights = torch.randn(out.shape, generator=g, dtype=torch.float64)
        total: Tensor = (out * self.weights).sum()
        return total

    @contextlib.contextmanager
    def _same_circumstances(self) -> Iterator[None]:
        """Draw the same masks in every call, and leave running statistics as they are."""
        # Before the call: what it leaves is still needed on the way back.
        with torch.no_grad():
            for name, buffer in self.module.named_buffers():
                buffer.copy_(self.buffers[name])
        with drawn_apart(0):
            yield


class _Casts(TorchDispatchMode):
    """Notes to which type numbers of double precision are taken, if any are."""

    to = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation of PyTorch, and look at the types of what it took and gives."""
        out = func(*args, **(kwargs or {}))
        if torch.float64 in _float_types(args):
            for kind in _float_types(out) - {torch.float64}:
                self.to = str(kind).removeprefix("torch.")
        return out


def _float_types(values: Any) -> set[torch.dtype]:
    tensors = [x for x in tree_leaves(values) if isinstance(x, Tensor)]
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}


def _as_double(x: Any) -> Any:
    if isinstance(x, Tensor) and x.is_floating_point():
        return x.detach().double().clone()
    return x
