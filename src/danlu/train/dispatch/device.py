"""Choosing the device, the number of threads, and how memory is reused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import torch

from danlu.data import Data
from danlu.errors import RunError, wrong
from danlu.host import freed_memory_kept
from danlu.nn.recurrent import has_bfloat16
from danlu.recipe import Recipe
from danlu.train.dispatch.cost import network_cost

# Multiply-adds of a step below which a second thread costs more than it brings…
_ONE_THREAD = 20_000_000
# …for recurrent networks: those of one token of every example.
_ONE_THREAD_PER_TOKEN = 1_000_000
_LARGE_STEP = 1 << 29  # bytes that the layers of a step give


def choose_device(name: str, has_gpu: bool | None = None) -> str:
    """Return "cpu" or "cuda" for auto, cpu or cuda.

    has_gpu: whether a cluster has one; by default this machine is asked. Raises RunError for
    another name, and where there is no GPU.
    """
    reason = "the cluster has no GPU"
    if has_gpu is None:
        reason = "this machine has no CUDA device that PyTorch can use"
        has_gpu = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda"):
        raise RunError(wrong("device", name, "must be auto, cpu or cuda"))
    if name == "cuda" and not has_gpu:
        raise RunError(wrong("device", name, f"must be cpu: {reason}"))
    if name == "auto":
        return "cuda" if has_gpu else "cpu"
    return name


def is_emulated(recipe: Recipe, device: str) -> bool:
    """Whether bfloat16 arithmetic is asked of a processor that has no instructions for it."""
    return recipe.dtype == "bf16-mixed" and device == "cpu" and not has_bfloat16()


def threads_for(recipe: Recipe, data: Data) -> int:
    """Return the threads to train with: one for small steps, else all.

    A fixed rule, not a measurement: the number of threads changes the last bits of sums.
    """
    everything = torch.get_num_threads()
    if recipe.is_imported:  # the cost of anyone's own network is not known
        return everything
    cost = network_cost(recipe.model, data.schema)
    multiply_adds = recipe.batch_size * cost.multiply_adds
    if data.schema.is_text:
        (tokens,) = data.schema.input_shape
        is_small = multiply_adds // tokens < _ONE_THREAD_PER_TOKEN
    else:
        # Forward, and backward by weights and by inputs.
        is_small = 3 * multiply_adds < _ONE_THREAD
    return 1 if is_small else everything


def memory_reused(recipes: Iterable[Recipe], data: Data) -> contextlib.AbstractContextManager[None]:
    """Have the allocator keep what is freed within, unless a step is large.

    With large steps little time is saved, and holes between blocks grow.
    """
    for recipe in recipes:
        if recipe.is_imported:
            continue
        values = recipe.batch_size * network_cost(recipe.model, data.schema).values
        if 4 * values >= _LARGE_STEP:
            return contextlib.nullcontext()
    return freed_memory_kept()
