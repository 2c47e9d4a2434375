"""What a network shows when it is asked a few questions: whatever it was trained by.

Legend: n examples, K outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from danlu.data import Data
from danlu.diagnosis.gradients.checking import GradientCheck, gradcheck
from danlu.errors import DanluError
from danlu.rng import drawn_apart
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
    """Whether an example's output changes with the others, in the mode the network is in.

    The first and the last are asked: it may be that each sees only those before it, or behind. By
    the gradient of output i by input j ≠ i, exactly 0 where they do not meet; of tokens, which have
    none, by exchanging the others.
    """
    if len(x) < 2:
        return False
    depends = _depends_on_others if x.is_floating_point() else _changes_with_others
    return any(depends(model, x, i) for i in (0, len(x) - 1))


def _depends_on_others(model: nn.Module, x: Tensor, i: int) -> bool:
    with torch.enable_grad(), drawn_apart(0):
        x = x.detach().clone().requires_grad_()
        out = first_output(model(x.clone()))  # which the module may overwrite
        if not out.requires_grad or len(out) != len(x):
            return False
        (g,) = torch.autograd.grad(out[i].sum(), x, allow_unused=True)
    if g is None:
        return False
    g[i] = 0
    return bool(g.abs().max() > 0)


def _changes_with_others(model: nn.Module, x: Tensor, i: int) -> bool:
    others = x.flip(0)
    others[i] = x[i]
    answers = []
    for asked in (x.clone(), others):
        with torch.no_grad(), drawn_apart(0):
            answers.append(first_output(model(asked))[i])
    first, second = answers
    return not torch.allclose(first, second, rtol=1e-4, atol=1e-5, equal_nan=True)


def is_steady(model: nn.Module, x: Tensor) -> bool:
    """Whether two equal calls give the same, in the mode the network is in."""
    with torch.no_grad(), drawn_apart(0):
        first, second = (first_output(model(x.clone())) for _ in range(2))
    # Of a network that diverged NaN is the same answer as NaN.
    return torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)


@dataclass(frozen=True)
class NetworkEvidence:
    """A network of somebody's own, and a few examples as it sees them.

    frozen: its weights that do not learn, as far as is known. stayed_alike: whether all units of
    each hidden layer had the same weights before training, and have them still.
    """

    model: nn.Module
    x: Tensor
    frozen: tuple[str, ...] = ()
    stayed_alike: bool = False

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
            start = run.build(load_start=False)
            model = run.model(check=False)
            stayed_alike = units_are_alike(start) and units_are_alike(model)
            return cls(model, x, _frozen(start), stayed_alike)
        return None

    @classmethod
    def of_module(cls, model: nn.Module, x: Tensor, began_alike: bool = False) -> NetworkEvidence:
        """Return that of a module at hand."""
        return cls(model, x, _frozen(model), began_alike and units_are_alike(model))

    @contextlib.contextmanager
    def _in_evaluation(self) -> Iterator[None]:
        """Ask it in evaluation mode, and leave it as it was: modes, buffers, what it draws from."""
        training = [module for module in self.model.modules() if module.training]
        buffers = [(buffer, buffer.detach().clone()) for buffer in self.model.buffers()]
        self.model.eval()
        try:
            with drawn_apart(0):
                yield
        finally:
            for module in training:
                module.training = True
            with torch.no_grad():
                for buffer, before in buffers:
                    # A loop between its passes must not find them written to.
                    if not torch.equal(buffer, before):
                        buffer.copy_(before)

    @cached_property
    def outputs(self) -> Tensor:
        """What it gives in evaluation mode, [n, K]; empty where it gives something else."""
        with contextlib.suppress(Exception), self._in_evaluation(), torch.no_grad():
            out = first_output(self.model(self.x.clone())).float()
            if out.ndim == 2 and len(out) == len(self.x):
                return out
        return torch.empty(0, 0)

    @cached_property
    def far_outputs(self) -> Tensor:
        """What it gives for inputs 100 and −100 times as large, which shows what bounds it [2n, K].

        Empty for tokens, and where it gives something else.
        """
        if self.x.is_floating_point():
            with contextlib.suppress(Exception), self._in_evaluation(), torch.no_grad():
                far = torch.cat((100 * self.x, -100 * self.x))
                return first_output(self.model(far)).float()
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
                first_output(self.model(x.clone())).double()
                for x in (a + b, torch.zeros_like(a), a, b)
            )
            size = float((first - nothing).abs().max())
            gap = float((whole + nothing - first - second).abs().max())
            return 0 < size < float("inf") and gap < 1e-4 * size
        return False

    @property
    def unlisted(self) -> list[str]:
        """Lists and dictionaries of layers or parameters, whose weights no optimiser is given."""
        known = {id(child) for child in (*self.model.modules(), *self.model.parameters())}
        found = []
        for path, module in self.model.named_modules():
            for name, value in vars(module).items():
                kept = value.values() if isinstance(value, dict) else value
                is_plain = isinstance(value, (list, tuple, dict)) and not name.startswith("_")
                if is_plain and any(_learns(item) and id(item) not in known for item in kept):
                    found.append(f"{path}.{name}".lstrip("."))
        return found

    @property
    def begins_normalised(self) -> bool:
        """Whether the first layer with weights normalises what it is given."""
        leaves = [m for m in self.model.modules() if not list(m.children())]
        first = next((m for m in leaves if list(m.parameters(recurse=False))), None)
        return "Norm" in type(first).__name__

    @property
    def is_chain(self) -> bool:
        """Whether its layers follow each other, and nothing else happens."""
        with_children = [m for m in self.model.modules() if list(m.children())]
        return all(type(module) is nn.Sequential for module in with_children)

    @property
    def hidden_widths(self) -> list[int]:
        """How many units its dense layers have, the last left out."""
        dense = [m for m in self.model.modules() if isinstance(m, nn.Linear)]
        return [layer.out_features for layer in dense[:-1]]

    @cached_property
    def gradients(self) -> GradientCheck | None:
        """Its gradients held against differences; None where that cannot be done."""
        with contextlib.suppress(Exception), self._in_evaluation():
            # An answer that changes by itself has no differences.
            if self.is_steady:
                return gradcheck(self.model, self.x[:8], seconds=_SECONDS)
        return None


def units_are_alike(model: nn.Module) -> bool:
    """Whether all units of each hidden layer have the same weights.

    The last layer may begin so: what comes before it tells its units apart.
    """
    known = [p.detach() for p in model.parameters() if not nn.parameter.is_lazy(p)]
    matrices = [p.flatten(1) for p in known if p.ndim >= 2]
    layers = [units for units in matrices[:-1] if len(units) > 1]
    return bool(layers) and all(bool((units == units[0]).all()) for units in layers)


def _learns(item: object) -> bool:
    if isinstance(item, nn.Module):
        return any(p.requires_grad for p in item.parameters())
    return isinstance(item, nn.Parameter) and item.requires_grad


def _frozen(model: nn.Module) -> tuple[str, ...]:
    return tuple(
        name for name, p in model.named_parameters() if not p.requires_grad and p.ndim >= 2
    )
