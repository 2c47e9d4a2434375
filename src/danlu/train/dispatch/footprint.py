"""What memory networks take in training, and how many fit at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from danlu.recipe import Recipe
from danlu.train.batches import BatchStream
from danlu.train.dispatch.memory import total_memory
from danlu.train.dispatch.vectorizable import MakePopulation
from danlu.train.engine.population import Population

# Of the machine's memory, that a group may fill. Of all of it, not of what is free: that changes
# from one moment to the next, and with it the last bits of the results.
_MEMORY_SHARE = 0.3
# Vectors of all weights that a measured step takes: a copy with its gradient, two gradients of the
# sample, the step's own, weights and update. Counted without probes as well, so that measuring
# does not change how networks are grouped.
_PROBED = 7


def bytes_of_network(
    recipes: Sequence[Recipe], make: MakePopulation, batches: BatchStream
) -> float:
    """Return the bytes that each of several networks takes in a step, by what two of them take."""
    pair = make(recipes[:2])
    epochs = [0] * pair.members
    batch = next(batches.epoch(pair.recipes, epochs, 0, pair.networks.counts))
    pair.set_batch_layout(batch.segments)
    # Parameters, gradients, the update's temporaries, the optimiser's state.
    vectors = 4 + len(pair.optimizer.state) + _PROBED
    weights = pair.stack.theta.nbytes * vectors
    # What is kept, its gradients, and what operations need meanwhile.
    activations = 3 * _bytes_kept_by_forward(pair, batch.x)
    return (weights + activations) / pair.members


def most_at_once(bytes_of_each: float, device: torch.device, tenants: int) -> int:
    """Return how many networks fit into the memory at once, beside those of other groups."""
    room = _MEMORY_SHARE * total_memory(device) / tenants
    return max(1, int(room / bytes_of_each))


def _bytes_kept_by_forward(population: Population, x: Tensor) -> float:
    """Return the bytes that a forward pass keeps for the backward pass."""
    sizes: dict[int, int] = {}  # by address, as several tensors may share their memory

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    def note_all(value: Any) -> None:
        if isinstance(value, Tensor):
            note(value)
        elif isinstance(value, (list, tuple)):
            for item in value:
                note_all(item)

    population.set_random_streams(0)
    if not population.uses_chain:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            population.forward_pass.forward(x)
    else:
        with torch.no_grad():
            _, saved = population.forward_pass.forward(x)
            note_all(saved)
    if len(x) == 1:
        # All networks share the batch, so it is none of theirs.
        sizes.pop(x.untyped_storage().data_ptr(), None)
    return float(sum(sizes.values()))
