"""M networks of one structure in training, each exactly as if it were alone.

`step` trains all on their batches. Legend: M networks, S batches in a step (fewer than M where
networks share them), B examples, T tokens, K outputs.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from danlu.models.weights import matches_prefix
from danlu.nn.layers import Dropout
from danlu.nn.protocols import auxiliary_weights, has_sequence_loss
from danlu.recipe import Recipe
from danlu.rng import seed_of, stream
from danlu.train.batches import StepBatch
from danlu.train.batches.batch_stream import Segments
from danlu.train.batches.sampling import example_counts
from danlu.train.engine.accumulation import GradientAccumulator
from danlu.train.engine.averages import WeightAverage
from danlu.train.engine.loss_function import LossFunction
from danlu.train.engine.networks import Networks
from danlu.train.engine.optimizer_step import OptimizerStep
from danlu.train.engine.running_metrics import StepResult
from danlu.train.forward import (
    ForwardPass,
    MemberLayout,
    Precision,
    SequenceForwardPass,
    Stack,
)
from danlu.train.forward.chain import Chain, chain_layout
from danlu.train.forward.modules import SingleForward, VmapForward

Build = Callable[[Recipe], nn.Module]


@dataclass(frozen=True)
class TrainingSpec:
    """What all networks of a population share.

    examples, steps_per_epoch: of the training part. class_counts: of it, None for a target of
    numbers.
    """

    input_shape: tuple[int, ...]
    examples: int
    steps_per_epoch: int
    class_counts: Tensor | None
    device: torch.device


class Population:
    """Networks side by side, their optimisers' state, and what each has to do.

    build: makes the network of a recipe. others: recipes that may join later. Raises RuntimeError
    where several networks of this kind cannot be vectorised.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        build: Build,
        spec: TrainingSpec,
        others: Sequence[Recipe] = (),
    ) -> None:
        everyone = [*recipes, *others]
        # Of the networks that there may be, the module of one that drops out: it has all layers.
        template = max(everyone, key=lambda r: r.model.dropout or 0.0)
        self.spec = spec
        self.model = build(template).to(spec.device)
        self.is_imported = template.is_imported
        models = [self.model] if len(everyone) == 1 else [build(recipe) for recipe in recipes]
        stack = Stack(models, spec.device)
        if len(everyone) > len(recipes) == 1:
            stack.bind(self.model)
        if template.init.lr_factor != 1:
            loaded = [name for name in stack.shapes if matches_prefix(name, template.init.prefix)]
            stack.lr_factors = dict.fromkeys(loaded, template.init.lr_factor)
        networks = Networks(
            list(recipes),
            stack,
            [0] * len(recipes),
            _dropout_probabilities(self.model, models),
            _example_counts(recipes, spec, stack.theta.dtype),
            average=WeightAverage.start(stack, recipes),
        )
        self.accumulate = template.accumulate
        self._set_model(self.model, template.dtype == "bf16-mixed")
        self._set_networks(networks)

    def _set_model(self, model: nn.Module, mixed: bool) -> None:
        """Use a module as the structure of all networks."""
        self.model = model
        self.auxiliary_weights = auxiliary_weights(model)
        self.has_sequence_loss = has_sequence_loss(model)
        # A network with a sequence loss gives its choice beside the marginals.
        heads = 2 if self.has_sequence_loss else 1 + len(self.auxiliary_weights)
        self.precision = Precision(self.spec.device, mixed, heads)
        self.frozen_layers = [m for m in model.modules() if _is_frozen(m)]

    def _set_networks(self, networks: Networks) -> None:
        """Set up everything that depends on which networks there are."""
        self.networks, self.recipes, self.stack = networks, networks.recipes, networks.stack
        self.members = len(networks)
        self.diverged: list[int] = []
        """Networks whose loss was not finite in the last step."""
        spec, stack = self.spec, networks.stack
        self.accumulator = GradientAccumulator(spec.steps_per_epoch, self.accumulate)
        self.accumulator.reset(stack)
        self.optimizer = OptimizerStep(
            stack,
            networks.recipes,
            self._examples_of_each(),
            self.accumulator.updates_per_epoch,
            [self.accumulator.updates_before(step) for step in networks.start_steps],
        )
        if networks.optimizer_state is not None:
            self.optimizer.set_state(networks.optimizer_state)
        networks.optimizer_state = self.optimizer.state
        smoothing = self.optimizer.column([r.loss.label_smoothing for r in self.recipes])
        self.loss = LossFunction(
            self.recipes[0], smoothing, spec.class_counts, spec.device, stack.theta.dtype
        )
        self.layout = MemberLayout(self.members, [(0, self.members)])
        self.forward_pass: ForwardPass = self._choose_forward_pass()
        self.uses_chain = isinstance(self.forward_pass, Chain)
        self.draws_randomly = self.is_imported or bool(networks.dropout_p)
        self._set_training_mode()

    def _examples_of_each(self) -> list[float]:
        """Return how many examples each network trains on."""
        if self.networks.counts is None:
            return [self.spec.examples] * self.members
        return cast(list[float], self.networks.counts.sum(1).tolist())

    def _set_training_mode(self) -> None:
        """Set training mode, but not for frozen layers, whose running statistics stay as well."""
        self.model.train()
        for layer in self.frozen_layers:
            layer.eval()

    def _choose_forward_pass(self) -> ForwardPass:
        """Return the fastest way that gives each network's own numbers."""
        p = {layer: self._dropout_column(of_each) for layer, of_each in self._dropout_p().items()}
        batch_size = self.recipes[0].batch_size
        layout = chain_layout(self.model, self.spec.input_shape, batch_size)
        is_vectorisable = layout == "columns" or self.members == 1
        if (
            layout
            and is_vectorisable
            and self.loss.has_closed_gradient
            and not self.precision.mixed
        ):
            tensors, grads = self.stack.tensors, self.stack.grads
            return Chain(self.model, layout == "columns", self.layout, tensors, grads, p)
        for layer, of_each in self._dropout_p().items():
            # A layer whose p is 0 asks for no masks, and other networks may need them.
            self.model.get_submodule(layer).p = max(of_each)  # type: ignore[assignment]
        if self.members > 1:
            return VmapForward(self.model, self.layout, self.stack, self.precision, p)
        return SingleForward(self.model, self.layout, self.stack, self.precision)

    def _dropout_p(self) -> dict[str, list[float]]:
        return self.networks.dropout_p

    def _dropout_column(self, of_each: list[float]) -> Any:
        """Return one number where all agree, else float64 [M]."""
        if len(set(of_each)) == 1:
            return of_each[0]
        return torch.tensor(of_each, device=self.spec.device, dtype=torch.float64)

    def set_batch_layout(self, segments: Segments) -> None:
        """Let networks a…z see the batch of that place from now on."""
        if segments is self.layout.segments:
            return
        self.layout.segments = segments
        batch_of = []
        for batch, (a, z) in enumerate(segments):
            batch_of += [batch] * (z - a)
        self.batch_of = torch.tensor(batch_of, device=self.spec.device)

    def _targets(self, y: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the targets of each network [M or 1, B], and how often each counts [M or 1, B].

        y [S, B], or of every token [S, B, T]: then the tokens of all examples come in a row, and
        −1, where there is no target, does not count.
        """
        if y.size(0) not in (1, self.members):
            y = y[self.batch_of]
        if y.ndim == 3:
            has_target = (y >= 0).to(self.stack.theta.dtype)
            if counts is not None:
                counts = (has_target * counts.unsqueeze(2)).flatten(1)
            elif not bool(has_target.all()):
                counts = has_target.flatten(1)
            y = y.clamp_min(0).flatten(1)
        return y, counts

    def step(self, batch: StepBatch, k: int) -> StepResult:
        """Train each network on its batch; k: steps of the population so far.

        The losses are those before the update, penalties left out. A network whose loss is not
        finite is named in `diverged` and not changed by the step.
        """
        if batch.starts_epoch:
            self.forward_pass.state = None
        self.set_batch_layout(batch.segments)
        y, counts = self._targets(batch.y, batch.counts)
        if self.draws_randomly:
            self._set_random_streams(k)
        weights, total = self.loss.weights(y, counts)
        with torch.inference_mode() if self.uses_chain else contextlib.nullcontext():
            losses, outputs = self.backpropagate(batch.x, y, weights)
            is_lost = self.members == len(self.diverged) == 1
            if not is_lost:
                self.apply_update(total, k)
        return StepResult(losses, outputs, y, counts)

    def backpropagate(self, x: Tensor, y: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the losses [M] and outputs [M, K, B], and overwrite the stack's gradients.

        Networks whose loss is not finite are named in `diverged`; where that is the only one, there
        is no backward pass.
        """
        if self.has_sequence_loss:
            losses, outputs, saved = self._sequence_loss(x, y, weights)
            objective, gradients = losses, [torch.ones_like(losses)]
        else:
            heads, saved = self.forward_pass.forward(x)
            outputs = heads[0]
            losses, gradient = self.loss(outputs, y, weights)
            objective, gradients = losses, [gradient]
            for weight, head in zip(self.auxiliary_weights, heads[1:], strict=True):
                auxiliary_losses, gradient = self.loss(head, y, weights)
                objective = objective + weight * auxiliary_losses
                gradients.append(gradient * weight)
        self.diverged = self._not_finite(objective)
        if not self.members == len(self.diverged) == 1:
            self.forward_pass.backward(gradients, saved)
        return losses, outputs

    def _not_finite(self, losses: Tensor) -> list[int]:
        # One look at the sum, as each look at a GPU's number waits for it.
        if math.isfinite(float(losses if self.members == 1 else losses.sum())):
            return []
        return [i for i, loss in enumerate(losses.tolist()) if not math.isfinite(loss)]

    def _sequence_loss(
        self, x: Tensor, y: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Any]:
        """Return losses, outputs and graph of networks whose loss is of a whole sentence.

        What its first token counts, all of its tokens do.
        """
        b, t = x.shape[1:]
        if weights is None:
            per_token = x.new_full((1, b), 1 / (b * t), dtype=self.stack.theta.dtype)
        else:
            per_token = weights.view(-1, b, t)[..., 0]
        forward_pass = cast(SequenceForwardPass, self.forward_pass)
        return forward_pass.sequence_loss(x, y.view(-1, b, t), per_token)

    @torch.no_grad()
    def apply_update(self, total: Any, k: int) -> None:
        """Change the weights by the gradients of step k, or add these up for a later update.

        total: what the batch counts. Networks that diverged stay as they are.
        """
        is_due = not self.accumulator.is_on or self.accumulator.add(self.stack, total, k)
        if not is_due:
            return
        update = self.accumulator.updates_before(k)
        if not self.diverged:
            self._update(update)
            return
        rows = torch.tensor(self.diverged, device=self.spec.device)
        targets = []
        for vector in (self.stack.theta, *self.optimizer.state.values()):
            targets += [row.values for row in self.stack.param_rows(vector)]
        before = [target[rows].clone() for target in targets]
        self._update(update)
        for target, values in zip(targets, before, strict=True):
            target[rows] = values

    def _update(self, k: int) -> None:
        """Make update k = 0, 1, …, which the averages follow."""
        self.optimizer(k)
        if self.networks.average:
            updates = [k + 1 - start for start in self.optimizer.start_updates]
            per_epoch = self.accumulator.updates_per_epoch
            self.networks.average.update(self.stack, self.recipes, updates, per_epoch)

    def zero_member(self, i: int) -> None:
        """Set a diverged network to zeros, so that it is harmless until the next compaction."""
        vectors = [self.stack.theta, *self.optimizer.state.values()]
        if self.accumulator.sum is not None:
            vectors.append(self.accumulator.sum)
        for vector in vectors:
            for row in self.stack.param_rows(vector):
                row.values[i] = 0
        for buffer in self.stack.buffers.values():
            if buffer.is_floating_point():
                buffer[i] = torch.nan_to_num(buffer[i]).clamp(-1, 1)
            else:
                buffer[i] = 0

    def _set_random_streams(self, k: int) -> None:
        """Set the streams of masks of step k.

        Networks of one seed that have taken as many steps share theirs.
        """
        starts = self.networks.start_steps
        names = [(r.seed, k - start) for r, start in zip(self.recipes, starts, strict=True)]
        distinct = list(dict.fromkeys(names))
        self.layout.generators = [stream(seed, "dropout", step) for seed, step in distinct]
        self.layout.stream_of = None
        if len(distinct) > 1:
            place = {name: j for j, name in enumerate(distinct)}
            self.layout.stream_of = torch.tensor([place[name] for name in names])
        if self.is_imported and isinstance(self.forward_pass, SingleForward):
            seed, step = names[0]
            self.forward_pass.seed = seed_of(seed, "dropout", step)

    def outputs(self, x: Tensor, segments: Segments) -> tuple[Tensor, Tensor | None]:
        """Return outputs [M, K, B] (tokens in a row) for x [S, B, …] in evaluation mode.

        With a CRF also what it chooses [M, B].
        """
        before, self.layout.segments = self.layout.segments, segments
        self.model.eval()
        try:
            with torch.inference_mode() if self.uses_chain else torch.no_grad():
                heads, _ = self.forward_pass.forward(x)
                chosen = heads[1].argmax(1) if self.has_sequence_loss else None
                return heads[0], chosen
        finally:
            self._set_training_mode()
            self.layout.segments = before

    def lr(self, i: int, k: int) -> float:
        """Return the learning rate of network i at the population's step k = 0, 1, …

        `init.lr_factor` comes on top, see `learning_rates`.
        """
        return self.optimizer.lr(i, self.accumulator.updates_before(k))

    def learning_rates(self, i: int, k: int) -> dict[str, float]:
        """Return the learning rates of network i at step k as a row of the history has them.

        "lr", and "lr_loaded" where loaded weights have a rate of their own.
        """
        lr, factors = self.lr(i, k), self.stack.lr_factors
        if not factors:
            return {"lr": lr}
        loaded = lr * next(iter(factors.values()))
        is_everything = len(factors) == len(self.stack.shapes)
        return {"lr": loaded} if is_everything else {"lr": lr, "lr_loaded": loaded}

    def with_averages(self) -> contextlib.AbstractContextManager[None]:
        """Let the networks have their averages for weights, where they keep any."""
        average = self.networks.average
        return average.in_place_of_weights(self.stack) if average else contextlib.nullcontext()

    def module(self, i: int) -> nn.Module:
        """Return a module with the weights of network i, in training mode.

        For a population of one it is the network itself.
        """
        if self.members > 1:
            self.model.load_state_dict(self.stack.state_dict(i))
        return self.model

    def keep(self, rows: list[int]) -> None:
        """Go on with these networks alone, in that order."""
        networks = self.networks.select(rows)
        if len(rows) == 1:
            networks.stack.bind(self.model)
        self._set_networks(networks)

    def split_off(self, rows: list[int]) -> Population:
        """Return a population of these networks that shares nothing with this one."""
        other = Population.__new__(Population)
        other.spec, other.is_imported = self.spec, self.is_imported
        other.accumulate = self.accumulate
        other._set_model(copy.deepcopy(self.model), self.precision.mixed)
        networks = self.networks.select(rows)
        if len(rows) == 1:
            networks.stack.bind(other.model)
        other._set_networks(networks)
        return other

    def join(self, other: Population) -> None:
        """Go on with the networks of another population beside these."""
        self._set_networks(self.networks.join(other.networks))

    def set_start_steps(self, start_steps: list[int]) -> None:
        """Count each network's steps from there on."""
        self.networks.start_steps = start_steps
        self._set_networks(self.networks)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a checkpoint needs to go on."""
        tensors = {"theta": self.stack.theta}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.state.items()}
        tensors |= {f"buffers.{k}": v for k, v in self.stack.buffers.items()}
        tensors |= self.accumulator.tensors()
        if self.networks.average:
            tensors |= self.networks.average.tensors()
        for k, carried in enumerate(self.forward_pass.state or ()):
            tensors[f"state.{k}"] = carried
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up where `tensors` left off."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])
        carried = [name for name in tensors if name.startswith("state.")]
        if carried:
            states = [tensors[f"state.{k}"].to(self.spec.device) for k in range(len(carried))]
            self.forward_pass.state = tuple(states)

    @contextlib.contextmanager
    def separate_state(self) -> Iterator[None]:
        """Read other text: the state carried in training is taken up again afterwards."""
        carried, self.forward_pass.state = self.forward_pass.state, None
        try:
            yield
        finally:
            self.forward_pass.state = carried


def _is_frozen(module: nn.Module) -> bool:
    """Whether a layer has parameters of its own, and none of them learns."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(p.requires_grad for p in own)


def _dropout_probabilities(
    template: nn.Module, models: Sequence[nn.Module]
) -> dict[str, list[float]]:
    """Return the p of each dropout layer of the template, for each network; 0 where it has none."""
    layers = [path for path, m in template.named_modules() if isinstance(m, Dropout)]
    found: dict[str, list[float]] = {path: [] for path in layers}
    for model in models:
        own = dict(model.named_modules())
        for path in layers:
            found[path].append(own[path].p if path in own else 0.0)
    return found


def _example_counts(
    recipes: Sequence[Recipe], spec: TrainingSpec, dtype: torch.dtype
) -> Tensor | None:
    """Return how often each training example counts for each network [M, examples]."""
    counts = [example_counts(recipe.sample, spec.examples) for recipe in recipes]
    if all(own is None for own in counts):
        return None
    once = torch.ones(spec.examples)
    rows = [once if own is None else own for own in counts]
    return torch.stack(rows).to(spec.device).to(dtype)
