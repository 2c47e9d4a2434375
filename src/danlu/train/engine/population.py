"""M networks of one structure in training, each exactly as if it were alone; `step` trains all on their batches.

Legend: M networks, S batches in a step (fewer than M where networks share them), B examples, K outputs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from danlu.nn.layers import Dropout
from danlu.nn.losses import (
    GRADIENTS,
    LOSSES,
    balanced_weights,
    chosen,
    gradient_by_autograd,
    shares,
)
from danlu.optim.optimizers import State
from danlu.recipe import Recipe
from danlu.rng import seed_of, stream
from danlu.runs.weights import taken
from danlu.train.batches import sampling
from danlu.train.engine.accumulation import GradientAccumulator
from danlu.train.engine.averages import WeightAverage
from danlu.train.engine.optimizer_step import OptimizerStep
from danlu.train.forward import chain
from danlu.train.forward.layer_rules import MemberLayout
from danlu.train.forward.modules import Precision, SingleForward, VmapForward
from danlu.train.forward.stack import Stack


class Population:
    """Networks side by side, their optimisers' state, and what each is told to do.

    build: makes the network of a recipe. examples, per_epoch: training examples and steps in an epoch. class_counts:
    of the training part, None for a target of numbers. others: who may join later. Raises RuntimeError where several
    networks of this kind cannot be vectorised.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        build: Callable[[Recipe], nn.Module],
        input_shape: tuple[int, ...],
        examples: int,
        per_epoch: int,
        class_counts: Tensor | None,
        device: torch.device,
        others: Sequence[Recipe] = (),
    ) -> None:
        self.input_shape, self.examples, self.per_epoch, self.device = (
            input_shape,
            examples,
            per_epoch,
            device,
        )
        self.class_counts = class_counts
        every = [*recipes, *others]
        template = max(every, key=lambda r: r.model.dropout or 0.0)
        self.model = build(template).to(device)
        self.imported = ":" in template.model.name
        models = [self.model] if len(every) == 1 else [build(r) for r in recipes]
        drops = [k for k, m in self.model.named_modules() if isinstance(m, Dropout)]
        self.p = {
            k: [
                dict(m.named_modules())[k].p if k in dict(m.named_modules()) else 0.0
                for m in models
            ]
            for k in drops
        }
        samples = [sampling.counts(r.sample, examples) for r in recipes]
        self.counts = None  # [M, examples] how often each counts
        if any(c is not None for c in samples):
            self.counts = torch.stack(
                [torch.ones(examples) if c is None else c for c in samples]
            ).to(device)
        stack = Stack(models, device)
        self.counts = None if self.counts is None else self.counts.to(stack.theta.dtype)
        if len(every) > len(recipes) == 1:
            stack.bind(self.model)
        init = template.init
        if init.lr_factor != 1:
            stack.factors = {k: init.lr_factor for k in stack.shapes if taken(k, init.prefix)}
        self.auxiliary: tuple[float, ...] = getattr(self.model, "auxiliary_weights", ())
        self.structured = bool(
            getattr(self.model, "structured", False)
        )  # then it gives its choice beside the marginals
        self.manner = Precision(
            device,
            template.dtype == "bf16-mixed",
            2 if self.structured else 1 + len(self.auxiliary),
        )
        self.frozen = [
            m
            for m in self.model.modules()
            if (own := list(m.parameters(False))) and not any(p.requires_grad for p in own)
        ]
        self.rhythm = GradientAccumulator(per_epoch, template.accumulate)
        self._seat(list(recipes), stack, None, [0] * len(recipes), WeightAverage.start(stack, recipes))

    def _seat(
        self,
        recipes: list[Recipe],
        stack: Stack,
        state: State | None,
        late: list[int],
        average: WeightAverage | None,
    ) -> None:
        """Everything that depends on who is in."""
        self.recipes, self.stack, self.members, self.late, self.average = (
            recipes,
            stack,
            len(recipes),
            late,
            average,
        )
        self.broken: list[int] = []  # whose loss was not finite in the last step
        m = [self.examples] * self.members if self.counts is None else self.counts.sum(1).tolist()
        self.update = OptimizerStep(
            stack, recipes, m, self.rhythm.updates_per_epoch, [self.rhythm.updates(n) for n in late]
        )
        if state is not None:
            self.update.use(state)
        self.rhythm.start(stack)
        dtype, loss = stack.theta.dtype, chosen(recipes[0].loss.name, self.class_counts is not None)
        self.gradient = GRADIENTS.get(loss) or gradient_by_autograd(LOSSES[loss])
        smoothing = self.update._column([r.loss.label_smoothing for r in recipes])
        self.smoothing = smoothing.unsqueeze(2) if isinstance(smoothing, Tensor) else smoothing
        balanced = recipes[0].loss.class_weights == "balanced" and self.class_counts is not None
        self.class_weights = (
            balanced_weights(self.class_counts).to(self.device, dtype) if balanced else None
        )  # type: ignore[arg-type]
        self.crowd = MemberLayout(self.members, [(0, self.members)])
        self.passes = self._passes(loss)
        self.explicit = isinstance(self.passes, chain.Chain)
        self.draws = self.imported or bool(self.p)
        self._train()

    def _train(self) -> None:
        """Training mode, but for layers that are frozen: their running statistics are as well."""
        self.model.train()
        for module in self.frozen:
            module.eval()

    def _passes(self, loss: str) -> chain.Chain | SingleForward | VmapForward:
        p = {
            k: of[0]
            if len(set(of)) == 1
            else torch.tensor(of, device=self.device, dtype=torch.float64)
            for k, of in self.p.items()
        }
        columns = chain.fits(self.model, self.input_shape, self.recipes[0].batch_size)
        if (
            columns is not None
            and (columns or self.members == 1)
            and loss in GRADIENTS
            and not self.manner.mixed
        ):
            return chain.Chain(
                self.model, columns, self.crowd, self.stack.values, self.stack.grads, p
            )
        for name, of in self.p.items():
            # A layer whose p is 0 asks for no masks, and others of the group may need them.
            self.model.get_submodule(name).p = max(of)  # type: ignore[assignment]
        if self.members > 1:
            return VmapForward(self.model, self.crowd, self.stack, self.manner, p)
        return SingleForward(self.model, self.crowd, self.stack, self.manner)

    def sit(self, segments: list[tuple[int, int]]) -> None:
        """Networks a…z see the batch of that place from now on."""
        self.crowd.segments = segments
        of = [s for s, (a, z) in enumerate(segments) for _ in range(a, z)]
        self.batch_of = torch.tensor(of, device=self.device)

    def targets(self, y: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Targets of each batch [S, B] as those of each network [M or 1, B], and how often each counts, counts [M, B].

        Of targets for every token [S, B, T] the tokens of all examples in a row; −1, where there is none, does not count.
        """
        y = y if y.size(0) in (1, self.members) else y[self.batch_of]
        if y.ndim == 3:
            known = (y >= 0).to(self.stack.theta.dtype)
            if counts is not None or not bool(known.all()):
                counts = (known if counts is None else known * counts.unsqueeze(2)).flatten(1)
            y = y.clamp_min(0).flatten(1)
        return y, counts

    def step(self, x: Tensor, y: Tensor, counts: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """Train on one batch each: the losses [M] before the update, penalties left out, and the outputs [M, K, B].

        x [S, B, …], y [M or 1, B]; k: steps taken so far, of which each network missed its `late`; counts [M, B]: how
        often each example counts. A network whose loss is no finite number is named in `broken` and not changed by the step.
        """
        if self.draws:
            self._draw(k)
        per, whole = shares(y, self.class_weights, counts)
        with torch.inference_mode() if self.explicit else contextlib.nullcontext():
            if self.structured:
                losses, out, kept = self._objective(x, y, per)
                g = torch.ones_like(losses)
            else:
                out, kept = self.passes.forward(x)
                losses, g = self.gradient(out, y, self.smoothing, per)
            every, aside = self._aside(losses, kept, y, per) if self.auxiliary else (losses, [])
            self.broken = []
            if not math.isfinite(float(every if self.members == 1 else every.sum())):
                self.broken = [i for i, v in enumerate(every.tolist()) if not math.isfinite(v)]
                if self.members == len(self.broken) == 1:
                    return losses, out
            self.passes.backward(g, kept, *aside)
            with torch.no_grad():
                if self.rhythm.every == 1 or self.rhythm.gather(self.stack, whole, k):
                    self._change(self.rhythm.updates(k))
        return losses, out

    def _objective(self, x: Tensor, y: Tensor, per: Tensor | None) -> tuple[Tensor, Tensor, Any]:
        """Losses, outputs and graph of networks whose loss is of a whole sentence: what its first token counts, all do."""
        b, t = x.shape[1:]
        each = (
            x.new_full((1, b), 1 / (b * t), dtype=self.stack.theta.dtype)
            if per is None
            else per.view(-1, b, t)[..., 0]
        )
        return cast(SingleForward, self.passes).objective(x, y.view(-1, b, t), each)

    def _aside(
        self, losses: Tensor, kept: Any, y: Tensor, per: Tensor | None
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """The losses with those of the auxiliary classifiers, and the gradients of these."""
        slopes = []
        for weight, out in zip(self.auxiliary, cast(SingleForward, self.passes).aside(kept), strict=True):
            more, g = self.gradient(out, y, self.smoothing, per)
            losses = losses + weight * more
            slopes.append(g * weight)
        return losses, [slopes]

    def _change(self, k: int) -> None:
        """The update, from which networks that broke are held back."""
        if not self.broken:
            self._update(k)
            return
        held = torch.tensor(self.broken, device=self.device)
        vectors = [self.stack.theta, *self.update.state.values()]
        before = [[p[held].clone() for p, _ in self.stack.blocks(v)] for v in vectors]
        self._update(k)
        for v, rows in zip(vectors, before, strict=True):
            for (p, _), row in zip(self.stack.blocks(v), rows, strict=True):
                p[held] = row

    def _update(self, k: int) -> None:
        """Update k = 0, 1, …, which the averages follow."""
        self.update(k)
        if self.average:
            self.average.follow(
                self.stack,
                self.recipes,
                [k + 1 - n for n in self.update.late],
                self.update.per_epoch,
            )

    def still(self, i: int) -> None:
        """Make a broken network harmless until the next compaction takes it out: it starts again from zeros."""
        held = [] if self.rhythm.held is None else [self.rhythm.held]
        for v in (self.stack.theta, *self.update.state.values(), *held):
            for p, _ in self.stack.blocks(v):
                p[i] = 0
        for t in self.stack.rest.values():
            t[i] = 0 if not t.is_floating_point() else torch.nan_to_num(t[i]).clamp(-1, 1)

    def _draw(self, k: int) -> None:
        """The streams of masks of this step; networks of one seed that are equally far share theirs."""
        own = [(r.seed, k - late) for r, late in zip(self.recipes, self.late, strict=True)]
        distinct = list(dict.fromkeys(own))
        self.crowd.generators = [stream(seed, "dropout", step) for seed, step in distinct]
        self.crowd.stream_of = None
        if len(distinct) > 1:
            at = {name: j for j, name in enumerate(distinct)}
            self.crowd.stream_of = torch.tensor([at[name] for name in own])
        if self.imported and isinstance(self.passes, SingleForward):
            self.passes.seed = seed_of(own[0][0], "dropout", own[0][1])

    def outputs(self, x: Tensor, segments: list[tuple[int, int]]) -> Any:
        """Outputs [M, K, B] (tokens in a row) for x [S, B, …] in evaluation mode; with a CRF also its choice [M, B]."""
        before, self.crowd.segments = self.crowd.segments, segments
        self.model.eval()
        try:
            with torch.inference_mode() if self.explicit else torch.no_grad():
                out, kept = self.passes.forward(x)
                return (
                    (out, cast(SingleForward, self.passes).aside(kept)[0].argmax(1))
                    if self.structured
                    else out
                )
        finally:
            self._train()
            self.crowd.segments = before

    def lr(self, i: int, k: int) -> float:
        """The learning rate of network i at the population's step k = 0, 1, …"""
        return self.update.lr(i, self.rhythm.updates(k))

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Within, the networks have their averages for weights, where they keep any."""
        return self.average.instead(self.stack) if self.average else contextlib.nullcontext()

    def network(self, i: int) -> nn.Module:
        """A module with the weights of network i, in training mode (for a population of one: the network itself)."""
        if self.members > 1:
            self.model.load_state_dict(self.stack.row(i))
        return self.model

    def keep(self, keep: list[int]) -> None:
        """Go on with these networks alone, in that order."""
        index = torch.tensor(keep, device=self.device)
        self.p = {k: [of[i] for i in keep] for k, of in self.p.items()}
        self.counts = self.counts[index] if self.counts is not None else None
        state = {n: self.stack.only(s, index) for n, s in self.update.state.items()}
        average = self.average.only(self.stack, index) if self.average else None
        stack = self.stack.select(index)
        if len(keep) == 1:
            stack.bind(self.model)
        self._seat(
            [self.recipes[i] for i in keep], stack, state, [self.late[i] for i in keep], average
        )

    def join(self, other: Population) -> None:
        """Go on with the networks of another population beside these."""
        self.p = {k: of + other.p[k] for k, of in self.p.items()}
        if self.counts is not None and other.counts is not None:
            self.counts = torch.cat([self.counts, other.counts])
        state = {
            n: self.stack.joined(s, other.stack, other.update.state[n])
            for n, s in self.update.state.items()
        }
        average = self.average
        if average and other.average:
            average = average.joined(self.stack, other.average, other.stack)
        self._seat(
            self.recipes + other.recipes,
            self.stack.beside(other.stack),
            state,
            self.late + other.late,
            average,
        )

    def since(self, late: list[int]) -> None:
        """Count each network's steps from there on."""
        self._seat(self.recipes, self.stack, self.update.state, late, self.average)

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs to go on."""
        rest = {f"rest.{k}": v for k, v in self.stack.rest.items()} | self.rhythm.tensors()
        rest |= self.average.tensors() if self.average else {}
        rest |= {f"carried.{k}": t for k, t in enumerate(self.passes.carried or ())}
        return {
            "theta": self.stack.theta,
            **{f"state.{k}": v for k, v in self.update.state.items()},
            **rest,
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up where `tensors` left off."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])
        carried = [k for k in tensors if k.startswith("carried.")]
        if carried:
            self.passes.carried = tuple(
                tensors[f"carried.{k}"].to(self.device) for k in range(len(carried))
            )

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within, other text is read: what is carried in training is taken up again afterwards."""
        carried, self.passes.carried = self.passes.carried, None
        try:
            yield
        finally:
            self.passes.carried = carried

    def begin(self) -> None:
        """A new epoch: what was carried from batch to batch is forgotten."""
        self.passes.carried = None
