"""Whether a group can be vectorised.

Two of its networks together are compared with each alone, before `vmap` is trusted.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from danlu.errors import reason_of
from danlu.memory import is_out_of_memory
from danlu.recipe import Recipe
from danlu.train.batches import BatchStream, StepBatch
from danlu.train.batches.loader import Mix
from danlu.train.engine.population import Population

MakePopulation = Callable[[Sequence[Recipe]], Population]

_STEPS = 2
_RELATIVE, _OF_LARGEST, _OF_LARGEST_GRADIENT = 1e-2, 1e-3, 1e-4  # tolerances
_LONGEST_REASON = 160


def why_not_vectorizable(
    recipes: Sequence[Recipe], make: MakePopulation, batches: BatchStream
) -> str | None:
    """Return why recipes that share a structure cannot train as one population, in words.

    None where they can.
    """
    try:
        two = _two_with_different_seeds(recipes)
        pair = make(two)
        if pair.precision.mixed:
            # Whether vmap can follow shows in bfloat16; whether numbers agree, only in a finer
            # arithmetic.
            _take_steps(pair, batches)
            pair = make([recipe.with_(dtype="float32") for recipe in two])
        if pair.uses_chain:
            return None
        with _without_tf32():
            if _equals_each_alone(pair, make, batches):
                return None
        return "vectorised, its numbers are not those it gives alone, so each trains by itself"
    except Exception as e:  # vmap and anyone's module may raise anything
        if is_out_of_memory(e):
            return "memory does not suffice for two networks, so each trains by itself"
        reason = reason_of(e)[:_LONGEST_REASON]
        return f"cannot be vectorised ({reason}), so each trains by itself"


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Keep cuDNN from rounding products to 10 bits, as it does by default on a GPU.

    Its recurrent kernels would differ from our float32 by that rounding alone.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


def _two_with_different_seeds(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Return two of the group that differ in their seeds, if there are any.

    A module may draw random numbers where nobody looks for it.
    """
    first, second, *_ = recipes
    for recipe in recipes[1:]:
        if recipe.seed != first.seed:
            return [first, recipe]
    return [first, second]


def _equals_each_alone(pair: Population, make: MakePopulation, batches: BatchStream) -> bool:
    """Whether each of two networks shows what it shows when it is alone."""
    together, steps = _take_steps(pair, batches)
    # Each network alone sees the batches that it saw in the pair.
    batch_of = pair.batch_of.tolist()
    for i, recipe in enumerate(pair.recipes):
        own_steps = [_for_one(step, batch_of[i], i) for step in steps]
        alone = _observe(make([recipe]), own_steps)
        if not _agrees(alone, together, i):
            return False
    return True


def _for_one(step: StepBatch, batch: int, i: int) -> StepBatch:
    """Return the batch that one network sees of a step of several."""
    counts = step.counts
    if counts is not None:
        counts = counts[i : i + 1]
    x = step.x[batch : batch + 1]
    y = step.y[batch : batch + 1]
    mix = step.mix
    if mix is not None:
        mix = Mix(*(column[batch : batch + 1] for column in mix))
    return StepBatch(x, y, counts, [(0, 1)], step.starts_epoch, mix)


def _take_steps(
    pair: Population, batches: BatchStream
) -> tuple[dict[str, Tensor], list[StepBatch]]:
    """Return what some steps show of two networks, and those steps."""
    epoch = batches.epoch(pair.recipes, [0, 0], counts=pair.networks.counts)
    steps = list(itertools.islice(epoch, _STEPS))
    return _observe(pair, steps), steps


def _observe(population: Population, steps: Sequence[StepBatch]) -> dict[str, Tensor]:
    """Return what some steps show of each network, [M, …] by name.

    Outputs in evaluation, losses, the first gradients, buffers.
    """
    first = steps[0]
    with population.separate_state():
        outputs, _ = population.outputs(first.x, first.segments)
    observed = {"outputs": outputs.clone()}
    for k, step in enumerate(steps):
        result = population.step(step, k)
        observed[f"loss {k}"] = result.losses.clone()
        if k == 0:
            for name, grad in population.stack.grads.items():
                observed[f"gradient {name}"] = grad.clone()
    for name, buffer in population.stack.buffers.items():
        observed[f"buffer {name}"] = buffer.clone()
    return observed


def _agrees(alone: dict[str, Tensor], together: dict[str, Tensor], i: int) -> bool:
    """Whether a network alone is the i-th of several, up to rounding."""
    largest = {}
    for name, values in alone.items():
        if values.numel():
            sizes = values.double().abs().nan_to_num(0, 0, 0)
            largest[name] = float(sizes.max())
    gradients = [size for name, size in largest.items() if name.startswith("gradient")]
    # A bias before a normalisation has nothing but rounding for a gradient, so gradients are
    # compared at the scale of the largest.
    gradient_slack = _OF_LARGEST_GRADIENT * max(gradients, default=0.0)
    for name, size in largest.items():
        slack = _OF_LARGEST * size
        if name.startswith("gradient"):
            slack = gradient_slack
        one = alone[name][0].double()
        of_several = together[name][i].double()
        if not torch.allclose(one, of_several, _RELATIVE, slack, equal_nan=True):
            return False
    return True
