"""What a network shows when it is asked a few questions: whatever it was trained by.

Legend: n examples, K outputs.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from danlu.data import Data
from danlu.diagnosis.gradients.checking import GradientCheck, gradcheck
from danlu.errors import DanluError
from danlu.runs import Run

_EXAMPLES = 16
_SECONDS = 2.0  # that the gradient check of a diagnosis may take


def first_output(out: object) -> Tensor:
    """Return a network's own output, where others come with it."""
    while isinstance(out, (tuple, list)):
        out = out[0]
    if not isinstance(out, Tensor):
        raise TypeError(f"the output is a {type(out).__name__}")
    return out


def is_mixed(model: nn.Module, x: Tensor) -> bool:
    """Whether the first example's output changes with the others, in the mode the network is in.

    By the gradient of output 0 by input j ≠ 0, exactly 0 where they do not meet; of tokens, which
    have none, by exchanging the others.
    """
    if len(x) < 2:
        return False
    with torch.random.fork_rng(devices=[]):
        if x.is_floating_point():
            with torch.enable_grad():
                x = x.detach().clone().requires_grad_()
                out = first_output(model(x))
                if not out.requires_grad or len(out) != len(x):
                    return False
                (g,) = torch.autograd.grad(out[0].sum(), x, allow_unused=True)
            return g is not None and bool(g[1:].abs().max() > 0)
        others = torch.cat((x[:1], x[1:].flip(0)))
        with torch.no_grad():
            torch.manual_seed(0)
            first = first_output(model(x))[0]
            torch.manual_seed(0)
            second = first_output(model(others))[0]
    return not torch.allclose(first, second, rtol=1e-4, atol=1e-5, equal_nan=True)


def is_steady(model: nn.Module, x: Tensor) -> bool:
    """Whether two equal calls give the same, in the mode the network is in."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        first, second = (first_output(model(x)) for _ in range(2))
    # Of a network that diverged NaN is the same answer as NaN.
    return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


@dataclass(frozen=True)
class NetworkEvidence:
    """A network of somebody's own, and a few examples as it sees them.

    frozen: its weights that do not learn, as far as is known.
    """

    model: nn.Module
    x: Tensor
    frozen: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run, data: Data | None) -> NetworkEvidence | None:
        """Return that of a run whose network is not of the zoo; None where it cannot be had."""
        if data is None or not run.recipe.is_imported or run.status == "diverged":
            return None
        # Without trust, or in another program, there is no network to ask.
        with contextlib.suppress(DanluError):
            run.recipe.check_trust()
            x = data.x.index_select(0, data.parts["train"][:_EXAMPLES])
            if not data.schema.is_text:
                x = run.normalizer(x)
            return cls(run.model(check=False), x, _frozen(run.build(load_start=False)))
        return None

    @classmethod
    def of_module(cls, model: nn.Module, x: Tensor) -> NetworkEvidence:
        """Return that of a module at hand."""
        return cls(model, x, _frozen(model))

    @contextlib.contextmanager
    def _in_evaluation(self):  # type: ignore[no-untyped-def]
        was_training = self.model.training
        self.model.eval()
        try:
            yield self.model
        finally:
            self.model.train(was_training)

    @cached_property
    def outputs(self) -> Tensor:
        """What it gives in evaluation mode, [n, K]; empty where it gives something else."""
        with contextlib.suppress(Exception), self._in_evaluation(), torch.no_grad():
            out = first_output(self.model(self.x)).float()
            if out.ndim == 2 and len(out) == len(self.x):
                return out
        return torch.empty(0, 0)

    @cached_property
    def is_steady(self) -> bool:
        """Whether it answers equal questions alike in evaluation mode."""
        with contextlib.suppress(Exception), self._in_evaluation():
            return is_steady(self.model, self.x)
        return True

    @cached_property
    def is_mixed(self) -> bool:
        """Whether an example's answer depends on the others, in evaluation mode."""
        # An answer that changes by itself would seem to depend on anything.
        with contextlib.suppress(Exception), self._in_evaluation():
            return self.is_steady and is_mixed(self.model, self.x)
        return False

    @cached_property
    def is_affine(self) -> bool:
        """Whether it is no more than one linear layer: f(a + b) + f(0) = f(a) + f(b)."""
        if not self.x.is_floating_point() or len(self.x) < 2:
            return False
        with contextlib.suppress(Exception), self._in_evaluation(), torch.no_grad():
            a, b = self.x, self.x.roll(1, 0)
            whole, nothing, first, second = (
                first_output(self.model(x)).double() for x in (a + b, torch.zeros_like(a), a, b)
            )
            size = float((first - nothing).abs().max())
            gap = float((whole + nothing - first - second).abs().max())
            return 0 < size < float("inf") and gap < 1e-4 * size
        return False

    @cached_property
    def gradients(self) -> GradientCheck | None:
        """Its gradients held against differences; None where that cannot be done."""
        with contextlib.suppress(Exception), self._in_evaluation():
            return gradcheck(self.model, self.x[:8], seconds=_SECONDS)
        return None


def _frozen(model: nn.Module) -> tuple[str, ...]:
    return tuple(
        name for name, p in model.named_parameters() if not p.requires_grad and p.ndim >= 2
    )
