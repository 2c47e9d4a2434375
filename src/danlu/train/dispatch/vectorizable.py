"""Whether a group can be vectorised: two of its networks together are held against each alone, before `vmap` is trusted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from danlu.recipe import Recipe
from danlu.train.batches.batch_stream import BatchStream, Step
from danlu.train.dispatch.memory import out_of_memory
from danlu.train.engine.population import Population
from danlu.train.forward.chain import Chain

Make = Callable[[Sequence[Recipe]], Population]


def objection(recipes: Sequence[Recipe], make: Make, feed: BatchStream) -> str | None:
    """Why recipes that share a structure cannot train as one population, in words; None where they can."""
    try:
        two = _unlike(recipes)
        pair = make(two)
        if (
            pair.manner.mixed
        ):  # that vmap can follow is seen in bfloat16, but what is right only in finer arithmetic
            _take_steps(pair, feed)
            pair = make([r.with_(dtype="float32") for r in two])
        if isinstance(pair.passes, Chain) or _alone_as_together(pair, make, feed):
            return None
        return "vectorised, its numbers are not those it gives alone, so each trains by itself"
    except Exception as e:  # vmap and anyone's module may raise anything
        if out_of_memory(e):
            return "memory does not suffice for two networks, so each trains by itself"
        said = (str(e).strip() or type(e).__name__).splitlines()[0]
        return f"cannot be vectorised ({said[:160]}), so each trains by itself"


def _unlike(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Two of the group that differ in their seeds, if there are any: luck is in a module where nobody looks for it."""
    first = recipes[0]
    return [first, next((r for r in recipes[1:] if r.seed != first.seed), recipes[1])]


def _alone_as_together(pair: Population, make: Make, feed: BatchStream) -> bool:
    """Whether each of two networks shows what it shows when it is alone."""
    together, steps = _take_steps(pair, feed)
    of = pair.batch_of.tolist()
    for i, r in enumerate(pair.recipes):
        one = make([r])
        own = [
            (
                x[of[i] : of[i] + 1],
                y[of[i] : of[i] + 1],
                None if counts is None else counts[i : i + 1],
            )
            for x, y, counts in steps
        ]
        one.sit([(0, 1)])
        if not _same(_seen(one, [(0, 1)], own), together, i):
            return False
    return True


def _take_steps(pair: Population, feed: BatchStream) -> tuple[dict[str, Tensor], list[Step]]:
    """What two steps show of two networks, and those steps."""
    segments = feed.segments(pair.recipes, [0, 0])
    pair.sit(segments)
    steps = list(itertools.islice(feed.epoch(pair.recipes, [0, 0], 0, pair.counts), 2))
    return _seen(pair, segments, steps), steps


def _seen(
    population: Population, segments: list[tuple[int, int]], steps: Sequence[Step]
) -> dict[str, Tensor]:
    """What some steps show of each network, [M, …] by name: outputs in evaluation, losses, the first gradients, buffers."""
    with population.aside():
        out = population.outputs(steps[0][0], segments)
        found = {"outputs": (out[0] if population.structured else out).clone()}
    for k, (x, y, counts) in enumerate(steps):
        found[f"loss {k}"] = population.step(x, *population.targets(y, counts), k)[0].clone()
        if not k:
            found |= {f"gradient {name}": g.clone() for name, g in population.stack.grads.items()}
    return found | {f"buffer {name}": b.clone() for name, b in population.stack.rest.items()}


def _same(one: dict[str, Tensor], together: dict[str, Tensor], i: int) -> bool:
    """Whether a network alone is the i-th of several, up to rounding."""
    sizes = {
        k: float(v.double().abs().nan_to_num(0, 0, 0).max()) for k, v in one.items() if v.numel()
    }
    # A bias before a normalisation has nothing but rounding for a gradient.
    slack = 1e-4 * max((size for k, size in sizes.items() if k.startswith("gradient")), default=0.0)
    return all(
        torch.allclose(
            one[k][0].double(),
            together[k][i].double(),
            1e-2,
            slack if k.startswith("gradient") else 1e-3 * size,
            equal_nan=True,
        )
        for k, size in sizes.items()
    )
