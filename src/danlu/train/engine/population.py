"""M networks of one structure in training, each exactly as if it were alone.

`step` trains all on their batches. Legend: M networks, S batches in a step (fewer than M where
networks share them), B examples, T tokens, K outputs.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from danlu.nn.protocols import auxiliary_weights, has_sequence_loss
from danlu.recipe import Recipe
from danlu.train.batches import StepBatch
from danlu.train.batches.batch_stream import Segments
from danlu.train.engine.accumulation import GradientAccumulator
from danlu.train.engine.backpropagation import Backpropagation, MixedTargets
from danlu.train.engine.batch_pass import BatchPass, batch_pass
from danlu.train.engine.loss_function import LossFunction, loss_rule, parameters_of
from danlu.train.engine.networks import Build, Networks, TrainingSpec
from danlu.train.engine.optimizer_step import OptimizerStep
from danlu.train.engine.random_streams import seed_of_step, set_mask_streams
from danlu.train.engine.running_metrics import StepResult
from danlu.train.forward import MemberLayout, Precision
from danlu.train.forward.chain import Chain
from danlu.train.forward.choice import choose_forward_pass
from danlu.train.forward.modules import SingleForward


class UpdateObserver(Protocol):
    """Looks at updates."""

    def before_update(self, population: Population) -> None:
        """Look at the gradient before penalties and clipping."""


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
        # Of the networks that there may be, the module of one that drops out: it has all layers.
        template = max([*recipes, *others], key=lambda recipe: recipe.model.dropout or 0.0)
        self.spec = spec
        self.is_imported = template.is_imported
        self.accumulate = template.accumulate
        model = build(template).to(spec.device)
        networks = Networks.start(recipes, others, build, model, spec)
        self._set_model(model, mixed=template.dtype == "bf16-mixed")
        self._set_networks(networks)

    def _set_model(self, model: nn.Module, mixed: bool) -> None:
        """Use a module as the structure of all networks."""
        self.model = model
        self.has_sequence_loss = has_sequence_loss(model)
        # A network with a sequence loss gives its choice beside the marginals.
        heads = 2 if self.has_sequence_loss else 1 + len(auxiliary_weights(model))
        self.precision = Precision(self.spec.device, mixed, heads)
        # Their running statistics must not move either, see `_set_training_mode`.
        self.frozen_layers = [module for module in model.modules() if _is_frozen(module)]

    def _set_networks(self, networks: Networks) -> None:
        """Set up everything that depends on which networks there are."""
        spec = self.spec
        self.networks = networks
        self.recipes = networks.recipes
        self.stack = networks.stack
        self.members = len(networks)
        if self.members == 1:
            # A single network's module and stack share their tensors.
            self.stack.bind(self.model)
        self.diverged: list[int] = []
        """Networks whose loss was not finite in the last step."""
        self.observer: UpdateObserver | None = None
        """Of the next update."""

        self.accumulator = GradientAccumulator(spec.steps_per_epoch, self.accumulate)
        # Whoever joins or leaves does so between epochs, when nothing is accumulated.
        self.accumulator.reset(self.stack)
        self.optimizer = OptimizerStep(
            self.stack,
            self.recipes,
            networks.examples_of_each(spec.examples),
            self.accumulator.updates_per_epoch,
            [self.accumulator.updates_before(step) for step in networks.start_steps],
        )
        self.optimizer.set_rate_drops(networks.rate_drops)
        if networks.optimizer_state is not None:
            self.optimizer.set_state(networks.optimizer_state)
        networks.optimizer_state = self.optimizer.state

        first = self.recipes[0]
        rule = loss_rule(first.loss, spec.classes)
        class_weights = spec.class_weights
        if class_weights is not None:
            class_weights = class_weights.to(spec.device, self.stack.theta.dtype)
        self.loss = LossFunction(
            rule,
            self.optimizer.column(parameters_of(rule, self.recipes)),
            class_weights,
            networks.mean_weights(spec),
        )
        self.layout = MemberLayout(self.members, [(0, self.members)])
        self.forward_pass = choose_forward_pass(
            self.model,
            self.stack,
            self.layout,
            self.precision,
            networks.dropout_p,
            spec.input_shape,
            first.batch_size,
            self.loss.has_closed_gradient,
        )
        self.uses_chain = isinstance(self.forward_pass, Chain)
        self.passes = Backpropagation.of(
            self.model, self.forward_pass, self.loss, self.stack.theta.dtype
        )
        self.draws_randomly = self.is_imported or bool(networks.dropout_p)
        self._set_training_mode()

    def _set_training_mode(self) -> None:
        """Set training mode, but not for frozen layers, whose running statistics stay as well."""
        self.model.train()
        for layer in self.frozen_layers:
            layer.eval()

    def set_batch_layout(self, segments: Segments) -> None:
        """Let networks a…z see the batch of that place from now on."""
        # The stream gives one list for a whole epoch; a comparison by value would cost each step.
        if segments is self.layout.segments:
            return
        self.layout.segments = segments
        batch_of = []
        for batch, (a, z) in enumerate(segments):
            batch_of += [batch] * (z - a)
        self.batch_of = torch.tensor(batch_of, device=self.spec.device)

    def step(self, batch: StepBatch, k: int) -> StepResult:
        """Train each network on its batch; k: steps of the population so far.

        The losses are those before the update, penalties left out. A network whose loss is not
        finite is named in `diverged` and not changed by the step.
        """
        # A carried state belongs to the text of one epoch's order.
        if batch.starts_epoch:
            self.forward_pass.state = None
        self.set_batch_layout(batch.segments)
        if self.draws_randomly:
            self.set_random_streams(k)
        x, y, weights, mixed, counts = self.pass_of(batch)
        examples = batch.y.size(1)
        with self.gradient_mode():
            losses, outputs = self.backpropagate(x, y, weights, mixed)
            if not self._has_lost_all:
                # A decorator would make a new context at each call, at twice the price.
                with torch.no_grad():
                    self.apply_update(examples, k)
        return StepResult(losses, outputs, y, counts, examples)

    def pass_of(self, batch: StepBatch) -> BatchPass:
        """Return what passes through the networks in a step, and the targets that count."""
        return batch_pass(batch, self.batch_of, self.loss, self.stack.theta.dtype)

    def gradient_mode(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a step: explicit passes do without autograd's bookkeeping."""
        if self.uses_chain:
            return torch.inference_mode()
        return contextlib.nullcontext()

    @property
    def _has_lost_all(self) -> bool:
        """Whether the only network diverged in this step: then nothing is left to do in it."""
        return self.members == 1 and len(self.diverged) == 1

    def backpropagate(
        self,
        x: Tensor,
        y: Tensor,
        weights: Tensor | None,
        mixed: MixedTargets | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the losses [M] and outputs [M, K, B], and overwrite the stack's gradients.

        Networks whose loss is not finite are named in `diverged`; where that is the only one, there
        is no backward pass.
        """
        passed = self.passes.forward(x, y, weights, mixed)
        self.diverged = self._not_finite(passed.objective)
        if not self._has_lost_all:
            self.passes.backward(passed)
        return passed.losses, passed.outputs

    def _not_finite(self, losses: Tensor) -> list[int]:
        # One look at the sum, as each look at a GPU's number waits for it.
        total = losses
        if self.members > 1:
            total = losses.sum()
        if math.isfinite(float(total)):
            return []
        return [i for i, loss in enumerate(losses.tolist()) if not math.isfinite(loss)]

    def apply_update(self, examples: int, k: int) -> None:
        """Change the weights by the gradients of step k, or add these up for a later update.

        examples: of the batch. Networks that diverged stay as they are.
        """
        is_due = not self.accumulator.is_on or self.accumulator.add(self.stack, examples, k)
        if not is_due:
            return
        update = self.accumulator.updates_before(k)
        if not self.diverged:
            self._update(update)
            return
        # One update serves all networks, so that of a diverged one is taken back afterwards.
        diverged = torch.tensor(self.diverged, device=self.spec.device)  # rows
        changed = []
        for vector in (self.stack.theta, *self.optimizer.state.values()):
            changed += [row.values for row in self.stack.param_rows(vector)]
        before = [values[diverged].clone() for values in changed]
        self._update(update)
        for values, of_diverged in zip(changed, before, strict=True):
            values[diverged] = of_diverged

    def _update(self, k: int) -> None:
        """Make update k = 0, 1, …, which the averages follow."""
        if self.observer is not None:
            self.observer.before_update(self)
        self.optimizer(k)
        average = self.networks.average
        if average is not None:
            updates = [k + 1 - start for start in self.optimizer.start_updates]
            average.update(self.stack, self.recipes, updates, self.accumulator.updates_per_epoch)

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
                # NaN and infinities go; the rest stays, but small.
                buffer[i] = torch.nan_to_num(buffer[i]).clamp(-1, 1)
            else:
                buffer[i] = 0

    def set_random_streams(self, k: int) -> None:
        """Set the streams of what is drawn in step k."""
        steps = [k - start for start in self.networks.start_steps]
        set_mask_streams(self.layout, self.recipes, steps)
        if self.is_imported and isinstance(self.forward_pass, SingleForward):
            self.forward_pass.seed = seed_of_step(self.recipes[0], steps[0])

    def outputs(self, x: Tensor, segments: Segments) -> tuple[Tensor, Tensor | None]:
        """Return outputs [M, K, B] (tokens in a row) for x [S, B, …] in evaluation mode.

        With a CRF also what it chooses [M, B].
        """
        before = self.layout.segments
        self.layout.segments = segments
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
        lr = self.lr(i, k)
        factors = self.stack.lr_factors
        if not factors:
            return {"lr": lr}
        lr_loaded = lr * next(iter(factors.values()))
        all_are_loaded = len(factors) == len(self.stack.shapes)
        if all_are_loaded:
            return {"lr": lr_loaded}
        return {"lr": lr, "lr_loaded": lr_loaded}

    def with_averages(self) -> contextlib.AbstractContextManager[None]:
        """Let the networks have their averages for weights, where they keep any."""
        average = self.networks.average
        if average is None:
            return contextlib.nullcontext()
        return average.in_place_of_weights(self.stack)

    def module(self, i: int) -> nn.Module:
        """Return a module with the weights of network i, in training mode.

        For a population of one it is the network itself.
        """
        if self.members > 1:
            # The module is a template: with several networks its own values are nobody's.
            self.model.load_state_dict(self.stack.state_dict(i))
        return self.model

    def keep(self, rows: list[int]) -> None:
        """Go on with these networks alone, in that order."""
        self._set_networks(self.networks.select(rows))

    def split_off(self, rows: list[int]) -> Population:
        """Return a population of these networks that shares nothing with this one."""
        other = Population.__new__(Population)
        other.spec = self.spec
        other.is_imported = self.is_imported
        other.accumulate = self.accumulate
        other._set_model(copy.deepcopy(self.model), self.precision.mixed)
        other._set_networks(self.networks.select(rows))
        return other

    def join(self, other: Population) -> None:
        """Go on with the networks of another population beside these."""
        self._set_networks(self.networks.join(other.networks))

    def set_start_steps(self, start_steps: list[int]) -> None:
        """Count each network's steps from there on."""
        self.networks.start_steps = start_steps
        self._set_networks(self.networks)

    def set_rate_drops(self, drops: list[int]) -> None:
        """Set how often the loss of each network stopped falling; see the schedule `plateau`."""
        self.networks.rate_drops = drops
        self.optimizer.set_rate_drops(drops)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a checkpoint needs to go on."""
        # Gradients are not kept: a checkpoint is written between two steps.
        tensors = {"theta": self.stack.theta}
        for name, vector in self.optimizer.state.items():
            tensors[f"optimizer.{name}"] = vector
        for name, buffer in self.stack.buffers.items():
            tensors[f"buffers.{name}"] = buffer
        tensors |= self.accumulator.tensors()
        if self.networks.average is not None:
            tensors |= self.networks.average.tensors()
        for k, carried in enumerate(self.forward_pass.state or ()):
            tensors[f"state.{k}"] = carried
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up where `tensors` left off."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])
        # A new population carries nothing yet, so its own tensors do not name this.
        carried: list[Tensor] = []
        while f"state.{len(carried)}" in tensors:
            carried.append(tensors[f"state.{len(carried)}"].to(self.spec.device))
        if carried:
            self.forward_pass.state = tuple(carried)

    @contextlib.contextmanager
    def separate_state(self) -> Iterator[None]:
        """Read other text: the state carried in training is taken up again afterwards."""
        carried = self.forward_pass.state
        self.forward_pass.state = None
        try:
            yield
        finally:
            self.forward_pass.state = carried


def _is_frozen(module: nn.Module) -> bool:
    """Whether a layer has parameters of its own, and none of them learns."""
    parameters = list(module.parameters(recurse=False))
    return bool(parameters) and not any(p.requires_grad for p in parameters)
