"""A network before its first step: the engine's own batch, pass and update, once.

Of large networks it is a smaller batch, so that each takes no more than its share of the time.

Legend: B examples, K outputs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from danlu.data import Data
from danlu.diagnosis.network_checks import is_mixed, is_steady
from danlu.host import compute_threads
from danlu.predict import evaluate
from danlu.predict.scores import scores
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.train.batches import BatchStream, StepBatch
from danlu.train.batches.loader import OrderKey
from danlu.train.dispatch.device import threads_for
from danlu.train.dispatch.fit import make_population
from danlu.train.engine.population import Population

_SAMPLE = 512  # training examples on which the loss is taken
_LEAST_OF_LOSS = 32  # of these at the least: a few may be unlike the rest
_LEAST = 4  # of any batch
_BATCH_NORM_SAMPLE = 64
_FEW = 8  # examples that are held against each other
_SHARE = 0.2  # of the seconds of a longer check: those of what is quick for small networks
_PASSES = 12  # that all steps taken here are worth, by the time of one forward pass

Found = TypeVar("Found")


def _on_own_threads(look: Callable[[Start], Found]) -> Callable[[Start], Found]:
    """Have something computed on as many threads as the training has."""

    @wraps(look)
    def on_threads(start: Start) -> Found:
        with compute_threads(threads_for(start.recipe, start.data)):
            return look(start)

    return on_threads


class FirstUpdate(NamedTuple):
    """Of each parameter that learns: its gradient's norm and its own, what the update changed.

    is_matrix: whether it is a weight, not a bias or a scale.
    """

    gradient: float
    size: float
    change: float
    is_matrix: bool


class StepCost(NamedTuple):
    """The seconds of a step: those of any, and those that each example adds."""

    of_any: float
    of_example: float

    @classmethod
    def of(cls, seconds: dict[int, float]) -> StepCost:
        """Return that of steps by the sizes of their batches."""
        large, small = max(seconds), min(seconds)
        of_example = seconds[large] / large
        if small < large:
            of_example = max(0.0, seconds[large] - seconds[small]) / (large - small)
        return cls(max(0.0, seconds[large] - large * of_example), of_example)

    def of_batch(self, size: int) -> float:
        """Return the seconds of a step of so many examples."""
        return self.of_any + size * self.of_example


@dataclass(frozen=True)
class Start:
    """A recipe on data before training; seconds: that each longer check may take."""

    recipe: Recipe
    data: Data
    seconds: float

    @cached_property
    def model(self) -> nn.Module:
        """The network at its start, to be asked a few examples."""
        return build_model(self.recipe, self.data.schema)

    @cached_property
    @_on_own_threads
    def seconds_of_forward(self) -> float:
        """How long it takes to pass an example forward, by a few of them."""
        model, x = self.model.eval(), self.some(_FEW)
        with torch.no_grad():
            return _least_time(lambda: model(x)) / len(x)

    def affordable(self, most: int, passes: int = 1) -> int:
        """Return how many examples, up to `most`, can pass so often in a share of the time."""
        of_each = self.seconds_of_forward * passes
        return min(most, max(_LEAST, int(_SHARE * self.seconds / max(of_each, 1e-9))))

    @cached_property
    def batch_size(self) -> int:
        """That of the training, or what of it there is time for."""
        return self.affordable(self.recipe.batch_size, _PASSES)

    @property
    def is_slow(self) -> bool:
        """Whether there is no time for whole batches."""
        return self.batch_size < self.recipe.batch_size

    @cached_property
    def batches(self) -> BatchStream:
        """The batches of the training."""
        return self.batches_of(self.batch_size)

    def batches_of(self, size: int) -> BatchStream:
        """Return batches of another size."""
        recipe = self.recipe.with_(batch_size=size)
        return BatchStream([recipe], self.data, torch.device("cpu"))

    @cached_property
    def population(self) -> Population:
        """The network at its start, as the engine trains it."""

        def build(recipe: Recipe) -> nn.Module:
            return build_model(recipe, self.data.schema)

        return make_population([self.recipe], build, self.data, self.batches, torch.device("cpu"))

    @cached_property
    def batch(self) -> StepBatch:
        """The first batch."""
        return self._first_batch(self.batches)

    def _first_batch(self, batches: BatchStream) -> StepBatch:
        counts = self.population.networks.counts
        return next(batches.epoch([self.recipe], [0], 0, counts))

    @cached_property
    def chance(self) -> float:
        """The loss of a network that has no opinion: ln K, or the target's variance."""
        schema = self.data.schema
        return 1.0 if schema.is_regression else math.log(max(2, schema.outputs))

    @cached_property
    @_on_own_threads
    def loss(self) -> float:
        """The loss on training examples in evaluation mode.

        Batch normalisation has the statistics of some of them: before training it has none.
        """
        model = build_model(self.recipe, self.data.schema)
        normalizer = self.data.normalizer(self.recipe.normalize).to(
            "cpu", self.recipe.weights_dtype
        )
        _take_statistics(model, self.some(self.affordable(_BATCH_NORM_SAMPLE)))
        model.eval()
        stateful = bool(self.recipe.model.stateful)
        sample = max(_LEAST_OF_LOSS, self.affordable(_SAMPLE))
        passes = evaluate.part_outputs(
            evaluate.forward_of(model), self.data, "train", [normalizer], sample, None, stateful
        )
        sizes = evaluate.sentence_lengths(self.data, "train", sample)
        (score,) = scores(passes, self.data.schema, sizes)
        return score.loss

    def some(self, examples: int) -> Tensor:
        """Return some training examples as the network sees them."""
        x = self.data.x.index_select(0, self.data.parts["train"][:examples])
        if self.data.schema.is_text:
            return x
        return self.data.normalizer(self.recipe.normalize)(x).to(self.recipe.weights_dtype)

    @cached_property
    def inputs(self) -> Tensor:
        """Some training examples as the network sees them; empty for tokens."""
        if self.data.schema.is_text:
            return torch.empty(0)
        return self.some(_SAMPLE)

    @cached_property
    @_on_own_threads
    def first_update(self) -> dict[str, FirstUpdate]:
        """What the first step does to each parameter that learns."""
        population, stack = self.population, self.population.stack
        learnt = {name for name, p in population.model.named_parameters() if p.requires_grad}
        before = {name: x[0].clone() for name, x in stack.tensors.items() if name in learnt}
        # Without autograd's bookkeeping views could not be read here.
        population.set_batch_layout(self.batch.segments)
        population.set_random_streams(0)
        x, y, weights, mixed, _ = population.pass_of(self.batch)
        with population.gradient_mode():
            population.backpropagate(x, y, weights, mixed)
        gradients = {name: float(stack.grads[name][0].norm()) for name in before}
        with torch.no_grad():
            population.optimizer(0)
        found = {}
        for name, old in before.items():
            change = float((stack.tensors[name][0] - old).norm())
            found[name] = FirstUpdate(gradients[name], float(old.norm()), change, old.ndim >= 2)
        return found

    @cached_property
    @_on_own_threads
    def step_cost(self) -> StepCost:
        """What a step takes on this machine as it is now, by two sizes of batch."""
        _ = self.first_update  # which makes what later steps keep
        seconds = {}
        # Batch normalisation needs two examples.
        sizes = {self.batch_size, self.batch_size // 4 if self.batch_size >= 8 else self.batch_size}
        for size in sorted(sizes):
            batch = self._first_batch(self.batches_of(size))
            self.population.set_batch_layout(batch.segments)
            seconds[size] = _least_time(lambda b=batch: self.population.step(b, 1))  # type: ignore[misc]
        return StepCost.of(seconds)

    @cached_property
    @_on_own_threads
    def mixing(self) -> tuple[bool, bool]:
        """Whether an example's output depends on the others of its batch: in training, later."""
        x = self.some(_FEW)
        return is_mixed(self.model.train(), x), is_mixed(self.model.eval(), x)

    @cached_property
    @_on_own_threads
    def is_steady(self) -> bool:
        """Whether two equal calls in evaluation mode give the same."""
        return is_steady(self.model.eval(), self.some(_FEW))

    def few(self, examples: int, times: int = 1) -> Data:
        """Return data whose training part is the first examples in the order of training.

        times: how often each comes.
        """
        order = self.batches.loaders
        loader = next(iter(order.values()))
        places = loader.indices(OrderKey(self.recipe.order_seed, 0))[:examples]
        rows = self.data.parts["train"][places].repeat(times)
        nothing = rows[:0]
        kept = torch.arange(len(rows))
        return replace(
            self.data,
            x=self.data.x.index_select(0, rows),
            y=self.data.y[rows],
            parts={"train": kept, "valid": nothing, "test": nothing},
            mapped=False,
            reloadable=False,
            origins=(),
            digests=None,
            # As the whole training part is scaled.
            _fitted={self.data.normalizer(self.recipe.normalize).kind:
                     self.data.normalizer(self.recipe.normalize)},
            _on_devices={},
        )  # fmt: skip


def _least_time(call: Callable[[], object]) -> float:
    """Return the least time of two calls."""
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


@torch.no_grad()
def _take_statistics(model: nn.Module, x: Tensor) -> None:
    """Let batch normalisation take the statistics of x for those it has gathered so far."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers or len(x) < 2:
        return
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # their mean over all batches: of this one
        layer.train()
    model(x)
