"""What a step of a population asks of a machine: operations, products, memory traffic.

Counted, not timed: the same recipes on the same data always give the same counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from danlu.memory import is_out_of_memory
from danlu.recipe import Recipe
from danlu.train.batches import BatchStream, StepBatch
from danlu.train.engine.population import Population

CHAIN, VMAP, SINGLE = "chain", "vmap", "single"
_FEW, _MORE = 2, 4  # networks that are counted; what more of them take follows on a line


@dataclass(frozen=True)
class Work:
    """Of a step: calls of PyTorch's kernels, single products, multiply-adds, bytes moved."""

    calls: float = 0.0
    products: float = 0.0
    multiply_adds: float = 0.0
    bytes_moved: float = 0.0

    def extrapolated(self, other: Work, factor: float) -> Work:
        """Return self + factor·(other − self)."""
        return Work(*(a + factor * (b - a) for a, b in zip(self._all, other._all, strict=True)))

    @property
    def _all(self) -> tuple[float, ...]:
        return self.calls, self.products, self.multiply_adds, self.bytes_moved


class _Counter(TorchDispatchMode):
    """Counts every kernel that is called while it is on."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing here is compiled, and keeping the compiler away would import it, for a second.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0
        self.products = 0
        self.multiply_adds = 0
        self.bytes_moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        name = func.overloadpacket.__name__
        products, multiply_adds = _products(name, args, out)
        self.products += products
        self.multiply_adds += multiply_adds
        if not func.is_view:
            self.bytes_moved += _bytes(args) + _bytes(out)
        return out

    @property
    def work(self) -> Work:
        return Work(self.calls, self.products, self.multiply_adds, self.bytes_moved)


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    return 0


def _products(name: str, args: Any, out: Any) -> tuple[int, int]:
    """Return how many products a kernel makes, and their multiply-adds."""
    if name in ("mm", "bmm"):
        left, right = args[0], args[1]
        return _of_matrices(left, right)
    if name in ("addmm", "baddbmm", "addbmm"):
        return _of_matrices(args[1], args[2])
    if name in ("convolution", "_convolution"):
        x, weight = args[0], args[1]
        return 1, out.numel() * math.prod(weight.shape[1:]) if x.numel() else 0
    if name == "convolution_backward":
        gradient, _, weight = args[:3]
        wanted = sum(bool(of) for of in args[-1][:2])
        return wanted, wanted * gradient.numel() * math.prod(weight.shape[1:])
    if name in ("mkldnn_rnn_layer", "mkldnn_rnn_layer_backward"):
        x, by_input, by_state = args[:3]  # [T, B, I], [4H, I], [4H, H]
        passes = 1 if name == "mkldnn_rnn_layer" else 2
        steps = x.shape[0] * x.shape[1]
        return passes, passes * steps * (by_input.numel() + by_state.numel())
    return 0, 0


def _of_matrices(left: Tensor, right: Tensor) -> tuple[int, int]:
    several = left.shape[0] if left.ndim == 3 else 1
    return several, left.numel() * right.shape[-1]


def kind_of(population: Population) -> str:
    """Return how the calls of a population's step are made, which decides what one costs."""
    if population.uses_chain:
        return CHAIN
    return VMAP if population.members > 1 else SINGLE


class StepWork:
    """The work of a step for any number of networks of a group.

    make: a population of some recipes.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        make: Callable[[Sequence[Recipe]], Population],
        batches: BatchStream,
        vectorizable: bool,
    ) -> None:
        self.alone, self.kind_alone = _count(recipes[:1], make, batches)
        self.kind = self.kind_alone
        self.few = self.more = self.alone
        self.counted = min(_MORE, len(recipes)) - min(_FEW, len(recipes))
        if not vectorizable or len(recipes) == 1:
            return
        self.few, self.kind = _count(recipes[:_FEW], make, batches)
        try:
            self.more, _ = _count(recipes[:_MORE], make, batches)
        except (RuntimeError, MemoryError) as e:
            if not is_out_of_memory(e):
                raise
            # Networks that large are not trained by the dozen, so the line matters little.
            self.more = self.few

    def of(self, members: int) -> tuple[Work, str]:
        """Return the work of a step of so many networks, and how its calls are made."""
        if members == 1:
            return self.alone, self.kind_alone
        if not self.counted:
            return self.few, self.kind
        return self.few.extrapolated(self.more, (members - _FEW) / self.counted), self.kind


def _count(
    recipes: Sequence[Recipe],
    make: Callable[[Sequence[Recipe]], Population],
    batches: BatchStream,
) -> tuple[Work, str]:
    """Return the work of a step of some networks, after a first that makes what later ones keep."""
    population = make(recipes)
    epochs = [0] * len(recipes)
    first = next(batches.epoch(population.recipes, epochs, 0, population.networks.counts))
    population.step(first, 0)
    return count_step(population, first, 1), kind_of(population)


def count_step(population: Population, batch: StepBatch, k: int) -> Work:
    """Take a step and return its work."""
    counter = _Counter()
    with counter:
        population.step(batch, k)
    return counter.work
