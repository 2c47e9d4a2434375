"""A network before its first step: the engine's own batch, pass and update, once.

Legend: B examples, K outputs.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from danlu.data import Data
from danlu.diagnosis.network_checks import is_mixed, is_steady
from danlu.predict import evaluate
from danlu.predict.scores import scores
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.train.batches import BatchStream, StepBatch
from danlu.train.batches.loader import OrderKey
from danlu.train.dispatch.fit import make_population
from danlu.train.engine.population import Population

_SAMPLE = 512  # training examples on which the loss is taken
_BATCH_NORM_SAMPLE = 64
_FEW = 8  # examples that are held against each other


class FirstUpdate(NamedTuple):
    """Of each parameter that learns: its gradient's norm and its own, what the update changed.

    is_matrix: whether it is a weight, not a bias or a scale.
    """

    gradient: float
    size: float
    change: float
    is_matrix: bool


@dataclass(frozen=True)
class Start:
    """A recipe on data before training; seconds: that each longer check may take."""

    recipe: Recipe
    data: Data
    seconds: float

    @cached_property
    def batches(self) -> BatchStream:
        """The batches of the training."""
        return BatchStream([self.recipe], self.data, torch.device("cpu"))

    @cached_property
    def population(self) -> Population:
        """The network at its start, as the engine trains it."""

        def build(recipe: Recipe) -> nn.Module:
            return build_model(recipe, self.data.schema)

        return make_population([self.recipe], build, self.data, self.batches, torch.device("cpu"))

    @cached_property
    def batch(self) -> StepBatch:
        """The first batch."""
        counts = self.population.networks.counts
        return next(self.batches.epoch([self.recipe], [0], 0, counts))

    @cached_property
    def chance(self) -> float:
        """The loss of a network that has no opinion: ln K, or the target's variance."""
        schema = self.data.schema
        return 1.0 if schema.is_regression else math.log(max(2, schema.outputs))

    @cached_property
    def loss(self) -> float:
        """The loss on training examples in evaluation mode.

        Batch normalisation has the statistics of some of them: before training it has none.
        """
        model = build_model(self.recipe, self.data.schema)
        normalizer = self.data.normalizer(self.recipe.normalize).to(
            "cpu", self.recipe.weights_dtype
        )
        _take_statistics(model, self.some(_BATCH_NORM_SAMPLE))
        model.eval()
        stateful = bool(self.recipe.model.stateful)
        passes = evaluate.part_outputs(
            evaluate.forward_of(model), self.data, "train", [normalizer], _SAMPLE, None, stateful
        )
        sizes = evaluate.sentence_lengths(self.data, "train", _SAMPLE)
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
    def seconds_per_example(self) -> float:
        """How long a step takes on this machine as it is now, by the examples of its batch."""
        _ = self.first_update  # which makes what later steps keep
        taken = []
        for k in (1, 2):
            began = time.perf_counter()
            self.population.step(self.batch, k)
            taken.append(time.perf_counter() - began)
        return min(taken) / self.batch.x.shape[1]

    @cached_property
    def mixing(self) -> tuple[bool, bool]:
        """Whether an example's output depends on the others of its batch: in training, later."""
        model, x = build_model(self.recipe, self.data.schema), self.some(_FEW)
        return is_mixed(model.train(), x), is_mixed(model.eval(), x)

    @cached_property
    def is_steady(self) -> bool:
        """Whether two equal calls in evaluation mode give the same."""
        model, x = build_model(self.recipe, self.data.schema).eval(), self.some(_FEW)
        return is_steady(model, x)

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
