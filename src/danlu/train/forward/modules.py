"""Any module by autograd: as it is for one network, vectorised by `torch.func.vmap` for several.

The interface is that of `danlu.train.chain.Chain`. A network with auxiliary classifiers gives their outputs after its own
while training: a tuple. Legend: M networks, B examples, q outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from danlu.errors import ModelError
from danlu.nn.layers import Dropout, noise
from danlu.nn.recurrent import several
from danlu.train.forward.layer_rules import MemberLayout, keep_scaled
from danlu.train.forward.stack import Stack


@dataclass(frozen=True)
class Precision:
    """How the arithmetic is done. mixed: products in bfloat16 while training. classifiers: of a network, those that count."""

    device: torch.device
    mixed: bool = False
    classifiers: int = 1

    @contextlib.contextmanager
    def within(self, training: bool) -> Iterator[None]:
        """Within, a forward pass."""
        with (
            torch.set_grad_enabled(training),
            torch.autocast(self.device.type, torch.bfloat16, self.mixed and training),
        ):
            yield

    def arranged(self, x: Tensor) -> Tensor:
        """Pictures with their channels innermost where that is faster; on a CPU in float32 it is not."""
        if x.ndim != 4 or not (self.mixed or self.device.type == "cuda"):
            return x
        return x.contiguous(memory_format=torch.channels_last)

    def heads(self, out: Any) -> tuple[Tensor, ...]:
        """The outputs of every classifier that counts, the network's own first, in the precision of the loss."""
        every = out[: self.classifiers] if isinstance(out, tuple) else (out,)
        every = (
            tuple(h.flatten(0, -2) for h in every) if every[0].ndim > 2 else every
        )  # tokens of all examples in a row
        return tuple(h.float() for h in every) if self.mixed else every


class _Known(torch.autograd.Function):
    """A number whose gradient by some tensors is known: theirs come first, then what it is."""

    @staticmethod
    def forward(ctx: Any, *both: Tensor) -> Tensor:
        ctx.slopes = both[len(both) // 2 :]
        return both[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return *ctx.slopes, *(None for _ in ctx.slopes)


def _go_back(outs: Sequence[Tensor], slopes: Sequence[Tensor]) -> None:
    """`torch.autograd.backward(outs, slopes)`, which would import a library of symbolic algebra first (half a second)."""
    cast(Tensor, _Known.apply(*outs, *slopes)).backward()  # type: ignore[no-untyped-call]


class _Objective(nn.Module):
    """A network's objective in the place of its forward pass, which is what can be called with other weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Tensor) -> Any:
        """As the model's `objective`."""
        return cast(Any, self.model).objective(*args)


def _within(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{k}": v for k, v in tensors.items()}


class SingleForward:
    """One network, by its own `forward`. seed: of PyTorch's generators in a step, for modules that draw from them."""

    def __init__(self, model: nn.Module, crowd: MemberLayout, stack: Stack, manner: Precision) -> None:
        self.model, self.crowd, self.stack, self.manner = model, crowd, stack, manner
        self.seed: int | None = None
        self.carried: tuple[Tensor, ...] | None = (
            None  # states [1, B, H] from one batch to the next
        )
        self.buffers = [
            (m, k, b, name)
            for path, m in model.named_modules()
            for k, b in m._buffers.items()
            if b is not None and (name := f"{path}.{k}".lstrip(".")) in stack.rest
        ]

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            if self.crowd.generators:
                held.enter_context(noise(self.crowd.generators[0]))
            if self.seed is not None:
                held.enter_context(torch.random.fork_rng())
                torch.random.manual_seed(self.seed)
            yield

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """Outputs [1, q, B] for x [1, B, …], and the graph."""
        with self._drawing(), self.manner.within(self.model.training):
            if getattr(self.model, "carries", False):
                states = (
                    None
                    if self.carried is None
                    else tuple(s[0, : x.shape[1]] for s in self.carried)
                )
                out, states = self.model(x[0], states)
                self.carried = tuple(s.detach().unsqueeze(0) for s in states)
            else:
                out = self.model(self.manner.arranged(x[0]))
            heads = self.manner.heads(out)
        self._take_back()
        return heads[0].detach().t().unsqueeze(0), heads

    def objective(self, x: Tensor, y: Tensor, per: Tensor) -> tuple[Tensor, Tensor, Any]:
        """The losses [1], the outputs [1, q, B·T], and the graph, of a network that has its own objective.

        x [1, B, T], y [1, B, T], per [1, B].
        """
        with self._drawing(), self.manner.within(True):
            loss, logits = cast(Any, self.model).objective(x[0], y[0], per[0])
        self._take_back()
        return loss.detach().unsqueeze(0), logits.detach().flatten(0, -2).t().unsqueeze(0), (loss,)

    def aside(self, kept: Any) -> list[Tensor]:
        """Outputs [1, q, B] of the auxiliary classifiers."""
        return [h.detach().t().unsqueeze(0) for h in kept[1:]]

    @torch.no_grad()
    def _take_back(self) -> None:
        """What a module put in the place of a buffer, into the buffer: the stack has that one."""
        for module, key, bound, name in self.buffers:
            found = module._buffers[key]
            if found is bound:
                continue
            if (
                found is None
                or found.shape != bound.shape
                or found.is_floating_point() != bound.is_floating_point()
            ):
                was, now = (
                    f"{list(t.shape)} of {str(t.dtype)[6:]}" if t is not None else "nothing"
                    for t in (bound, found)
                )
                raise ModelError(
                    f"`{name}` of the network became {now} in training, but a buffer must stay what it is: {was}"
                )
            bound.copy_(found)
            module._buffers[key] = bound

    def backward(self, g: Tensor, kept: Any, aside: Sequence[Tensor] = ()) -> None:
        """Overwrite the gradient of every parameter; g [1, q, B], and of each auxiliary classifier its own."""
        self.stack.grad.zero_()
        _go_back(kept, [slope[0].t() if slope.ndim > 1 else slope[0] for slope in (g, *aside)])


class VmapForward:
    """M networks of one structure. Raises RuntimeError where `vmap` cannot follow the module."""

    def __init__(
        self, model: nn.Module, crowd: MemberLayout, stack: Stack, manner: Precision, p: dict[str, Any]
    ) -> None:
        self.model, self.crowd, self.stack, self.manner = model, crowd, stack, manner
        self.carried: tuple[Tensor, ...] | None = (
            None  # states [M, B, H] from one batch to the next
        )
        self.carries = getattr(model, "carries", False)
        self.leaves = {k: v.detach().requires_grad_() for k, v in stack.parameters.items()}
        for k, leaf in self.leaves.items():
            leaf.grad = stack.grads[k]
        self.p = {
            m: p.get(name, m.p) for name, m in model.named_modules() if isinstance(m, Dropout)
        }
        self.calls: dict[
            int, list[tuple[Dropout, tuple[int, ...]]]
        ] = {}  # by batch size: dropouts met on the way

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """Outputs [M, q, B] for x [S, B, …], and the graph."""
        shared = len(x) == 1
        x = (
            self.manner.arranged(x[0]) if shared else self.crowd.spread(x)
        )  # within vmap the layout cannot be chosen
        masks = self._masks(x if shared else x[0]) if self.model.training and self.p else []
        rest = dict(self.stack.rest)

        size = x.shape[0 if shared else 1]
        states = None if self.carried is None else tuple(s[:, :size] for s in self.carried)

        def one(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            x: Tensor,
            masks: list[Tensor],
            states: Any,
        ) -> Any:
            given = iter(masks)
            inputs = (x, states) if self.carries else (x,)
            with noise(lambda layer, value: next(given)):
                out = torch.func.functional_call(self.model, (parameters, buffers), inputs)
            out, ends = out if self.carries else (out, ())
            return self.manner.heads(out), ends

        with self.manner.within(self.model.training), several():
            dims = (0, 0, None if shared else 0, 0, None if states is None else 0)
            heads, ends = torch.func.vmap(one, in_dims=dims)(self.leaves, rest, x, masks, states)
        self.carried = tuple(s.detach() for s in ends) if self.carries else None
        return heads[0].detach().mT, heads

    def objective(self, x: Tensor, y: Tensor, per: Tensor) -> tuple[Tensor, Tensor, Any]:
        """The losses [M], the outputs [M, q, B·T], and the graph, of networks that have their own objective."""
        x = self.crowd.spread(x)
        masks = self._masks(x[0]) if self.p else []
        y, per = y.expand(self.stack.members, -1, -1), per.expand(self.stack.members, -1)

        def one(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            masks: list[Tensor],
            *given: Tensor,
        ) -> Any:
            left = iter(masks)
            with noise(lambda layer, value: next(left)):
                return torch.func.functional_call(
                    _Objective(self.model), (_within(parameters), _within(buffers)), given
                )

        with self.manner.within(True), several():
            losses, logits = torch.func.vmap(one)(
                self.leaves, dict(self.stack.rest), masks, x, y, per
            )
        return losses.detach(), logits.detach().flatten(1, -2).mT, (losses,)

    def aside(self, kept: Any) -> list[Tensor]:
        """Outputs [M, q, B] of the auxiliary classifiers."""
        return [h.detach().mT for h in kept[1:]]

    def _masks(self, x: Tensor) -> list[Tensor]:
        """The masks of a step [M, B, …], in the order in which the module will ask for them."""
        if len(x) not in self.calls:
            self.calls[len(x)] = self._listen(x)
        masks = []
        for layer, shape in self.calls[len(x)]:
            p = self.p[layer]
            u = self.crowd.uniform(shape).expand(self.stack.members, *shape)
            masks.append(keep_scaled(u, p, self.stack.theta))
        return masks

    @torch.no_grad()
    def _listen(self, x: Tensor) -> list[tuple[Dropout, tuple[int, ...]]]:
        """Which dropouts a pass asks for a mask, and of what shapes."""
        calls: list[tuple[Dropout, tuple[int, ...]]] = []

        def heard(layer: Dropout, value: Tensor) -> Tensor:
            calls.append((layer, tuple(value.shape)))
            return torch.ones_like(value)

        first = {k: v[0].clone() for k, v in self.stack.values.items()}
        with noise(heard):
            torch.func.functional_call(self.model, first, (x,))
        return calls

    def backward(self, g: Tensor, kept: Any, aside: Sequence[Tensor] = ()) -> None:
        """Overwrite the gradient of every parameter; g [M, q, B], and of each auxiliary classifier its own."""
        self.stack.grad.zero_()
        _go_back(kept, [slope.mT if slope.ndim > 1 else slope for slope in (g, *aside)])
