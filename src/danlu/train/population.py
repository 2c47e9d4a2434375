"""M networks of one structure in training, each exactly as if it were alone; `step` trains all on their batches.

Legend: M networks, S batches in a step (fewer than M where networks share them), B examples, K outputs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from danlu.nn.layers import Dropout
from danlu.nn.losses import GRADIENTS, LOSSES, balanced_weights, chosen, gradient_by_autograd, shares
from danlu.optim.rules import State
from danlu.recipe import Recipe
from danlu.streams import seed_of, stream
from danlu.train import chain, sampling
from danlu.train.forward import Solo, Vectorised
from danlu.train.passes import Crowd
from danlu.train.stack import Stack
from danlu.train.update import Update


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
        self.input_shape, self.examples, self.per_epoch, self.device = input_shape, examples, per_epoch, device
        self.class_counts = class_counts
        every = [*recipes, *others]
        template = max(every, key=lambda r: r.model.dropout or 0.0)
        self.model = build(template).to(device)
        self.imported = ":" in template.model.name
        models = [self.model] if len(every) == 1 else [build(r) for r in recipes]
        drops = [k for k, m in self.model.named_modules() if isinstance(m, Dropout)]
        self.p = {k: [dict(m.named_modules())[k].p if k in dict(m.named_modules()) else 0.0 for m in models] for k in drops}
        samples = [sampling.counts(r.sample, examples) for r in recipes]
        self.counts = None  # [M, examples] how often each counts
        if any(c is not None for c in samples):
            self.counts = torch.stack([torch.ones(examples) if c is None else c for c in samples]).to(device)
        stack = Stack(models, device)
        self.counts = None if self.counts is None else self.counts.to(stack.theta.dtype)
        if len(every) > len(recipes) == 1:
            stack.bind(self.model)
        self._seat(list(recipes), stack, None, [0] * len(recipes))

    def _seat(self, recipes: list[Recipe], stack: Stack, state: State | None, late: list[int]) -> None:
        """Everything that depends on who is in."""
        self.recipes, self.stack, self.members, self.late = recipes, stack, len(recipes), late
        self.broken: list[int] = []  # whose loss was not finite in the last step
        m = [self.examples] * self.members if self.counts is None else self.counts.sum(1).tolist()
        self.update = Update(stack, recipes, m, self.per_epoch, late)
        if state is not None:
            self.update.use(state)
        dtype, loss = stack.theta.dtype, chosen(recipes[0].loss.name, self.class_counts is not None)
        self.gradient = GRADIENTS.get(loss) or gradient_by_autograd(LOSSES[loss])
        smoothing = self.update._column([r.loss.label_smoothing for r in recipes])
        self.smoothing = smoothing.unsqueeze(2) if isinstance(smoothing, Tensor) else smoothing
        balanced = recipes[0].loss.class_weights == "balanced" and self.class_counts is not None
        self.class_weights = balanced_weights(self.class_counts).to(self.device, dtype) if balanced else None  # type: ignore[arg-type]
        self.crowd = Crowd(self.members, [(0, self.members)])
        self.passes = self._passes(loss)
        self.explicit = isinstance(self.passes, chain.Chain)
        self.draws = self.imported or bool(self.p)
        self.model.train()

    def _passes(self, loss: str) -> chain.Chain | Solo | Vectorised:
        p = {
            k: of[0] if len(set(of)) == 1 else torch.tensor(of, device=self.device, dtype=torch.float64)
            for k, of in self.p.items()
        }
        columns = chain.fits(self.model, self.input_shape, self.recipes[0].batch_size)
        if columns is not None and (columns or self.members == 1) and loss in GRADIENTS:
            return chain.Chain(self.model, columns, self.crowd, self.stack.values, self.stack.grads, p)
        for name, of in self.p.items():
            # A layer whose p is 0 asks for no masks, and others of the group may need them.
            self.model.get_submodule(name).p = max(of)  # type: ignore[assignment]
        return Vectorised(self.model, self.crowd, self.stack, p) if self.members > 1 else Solo(self.model, self.crowd, self.stack)

    def sit(self, segments: list[tuple[int, int]]) -> None:
        """Networks a…z see the batch of that place from now on."""
        self.crowd.segments = segments
        of = [s for s, (a, z) in enumerate(segments) for _ in range(a, z)]
        self.batch_of = torch.tensor(of, device=self.device)

    def targets(self, y: Tensor) -> Tensor:
        """Targets of each batch [S, B] as those of each network [M or 1, B]."""
        return y if y.size(0) in (1, self.members) else y[self.batch_of]

    def step(self, x: Tensor, y: Tensor, k: int, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Train on one batch each: the losses [M] before the update, penalties left out, and the outputs [M, K, B].

        x [S, B, …], y [M or 1, B]; k: steps taken so far, of which each network missed its `late`; counts [M, B]: how
        often each example counts. A network whose loss is no finite number is named in `broken` and not changed by the step.
        """
        if self.draws:
            self._draw(k)
        per = shares(y, self.class_weights, counts)
        with torch.inference_mode() if self.explicit else contextlib.nullcontext():
            out, kept = self.passes.forward(x)
            losses, g = self.gradient(out, y, self.smoothing, per)
            self.broken = []
            if not math.isfinite(float(losses if self.members == 1 else losses.sum())):
                self.broken = [i for i, v in enumerate(losses.tolist()) if not math.isfinite(v)]
                if self.members == len(self.broken) == 1:
                    return losses, out
            self.passes.backward(g, kept)
            with torch.no_grad():
                self._change(k)
        return losses, out

    def _change(self, k: int) -> None:
        """The update, from which networks that broke are held back."""
        if not self.broken:
            self.update(k)
            return
        held = torch.tensor(self.broken, device=self.device)
        vectors = [self.stack.theta, *self.update.state.values()]
        before = [[p[held].clone() for p, _ in self.stack.blocks(v)] for v in vectors]
        self.update(k)
        for v, rows in zip(vectors, before, strict=True):
            for (p, _), row in zip(self.stack.blocks(v), rows, strict=True):
                p[held] = row

    def still(self, i: int) -> None:
        """Make a broken network harmless until the next compaction takes it out: it starts again from zeros."""
        for v in (self.stack.theta, *self.update.state.values()):
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
        if self.imported and isinstance(self.passes, Solo):
            self.passes.seed = seed_of(own[0][0], "dropout", own[0][1])

    def outputs(self, x: Tensor, segments: list[tuple[int, int]]) -> Tensor:
        """Outputs [M, K, B] for x [S, B, …] in evaluation mode."""
        before, self.crowd.segments = self.crowd.segments, segments
        self.model.eval()
        try:
            with torch.inference_mode() if self.explicit else torch.no_grad():
                return self.passes.forward(x)[0]
        finally:
            self.model.train()
            self.crowd.segments = before

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
        stack = self.stack.select(index)
        if len(keep) == 1:
            stack.bind(self.model)
        self._seat([self.recipes[i] for i in keep], stack, state, [self.late[i] for i in keep])

    def join(self, other: Population) -> None:
        """Go on with the networks of another population beside these."""
        self.p = {k: of + other.p[k] for k, of in self.p.items()}
        if self.counts is not None and other.counts is not None:
            self.counts = torch.cat([self.counts, other.counts])
        state = {n: self.stack.joined(s, other.stack, other.update.state[n]) for n, s in self.update.state.items()}
        self._seat(self.recipes + other.recipes, self.stack.beside(other.stack), state, self.late + other.late)

    def since(self, late: list[int]) -> None:
        """Count each network's steps from there on."""
        self._seat(self.recipes, self.stack, self.update.state, late)

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs to go on."""
        rest = {f"rest.{k}": v for k, v in self.stack.rest.items()}
        return {"theta": self.stack.theta, **{f"state.{k}": v for k, v in self.update.state.items()}, **rest}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up where `tensors` left off."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])
