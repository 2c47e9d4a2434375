"""The functions of danlu that a plain loop needs, as source text.

They are the very ones that the engine uses, so nothing is written twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

from danlu import rng
from danlu.data import augment
from danlu.models import MODELS
from danlu.nn import init, layers, losses, penalties
from danlu.optim import clip, optimizers, schedules
from danlu.optim.optimizers import OPTIMIZERS
from danlu.recipe import Recipe
from danlu.train.batches import sampling

OWN_LAYERS: tuple[type[nn.Module], ...] = (
    layers.Dropout,
    layers.PHMLinear,
    layers.ExplicitLinear,
)
_SYMMETRIC = {"uniform", "torch"}  # rules that draw from U(−1, 1); zeros draws nothing


def is_chain(model: nn.Module) -> bool:
    """Whether a network is a plain chain of layers, which a script can write out."""
    return all(not list(layer.children()) for layer in model.children())


def has_dropout(model: nn.Module) -> bool:
    """Whether masks are drawn in training."""
    return any(isinstance(layer, layers.Dropout) for layer in model.modules())


def augments(recipe: Recipe) -> bool:
    """Whether training examples are changed at random."""
    return any(recipe.augment.model_dump().values())


def initial_values(recipe: Recipe) -> tuple[str, str, float]:
    """Return (rule, activation, std) of the weights, after the model's own preference."""
    own = MODELS[recipe.model.name].init if recipe.init.name == "auto" else {}
    rule = own.get("name", recipe.init.name)
    std = own.get("std", recipe.init.std) or 0.0
    return str(rule), recipe.model.activation or "relu", float(std)


def sources(recipe: Recipe, model: nn.Module, loss: str) -> list[str]:
    """Return the source of each function that the loop of a recipe calls.

    loss: the name of its loss.
    """
    needed: list[Any] = [
        rng.seed_of,
        rng.stream,
        *_drawing(recipe, model),
        *_layers(model),
        *_losses(recipe, loss),
        *_updates(recipe),
    ]
    return [inspect.getsource(thing) for thing in needed]


def _drawing(recipe: Recipe, model: nn.Module) -> Iterator[Any]:
    """Yield what draws initial weights."""
    rule, activation, _ = initial_values(recipe)
    rules = {chosen for _, _, chosen in init.plan(model, rule, activation)}
    if rules & _SYMMETRIC:
        yield init._rand_symmetric
    if rules - _SYMMETRIC - {"zeros"}:
        yield init._randn
    for name in sorted(rules):
        yield init.INITS[name]


def _layers(model: nn.Module) -> Iterator[Any]:
    if not is_chain(model):
        return
    if has_dropout(model):
        yield layers.dropout_source
    for kind in OWN_LAYERS:
        if any(isinstance(layer, kind) for layer in model.modules()):
            yield kind


def _losses(recipe: Recipe, name: str) -> Iterator[Any]:
    is_balanced, is_sampled = recipe.loss.class_weights == "balanced", not recipe.sample.whole
    if name == "cross-entropy-explicit":  # validation is scored with PyTorch's
        yield from (losses.smooth_labels, losses._CrossEntropy, losses.cross_entropy)
    yield losses.LOSSES[name]
    if is_balanced or is_sampled:
        yield losses.example_weights
    if is_balanced:
        yield losses.balanced_weights
    if is_sampled:
        yield sampling.example_counts


def _updates(recipe: Recipe) -> Iterator[Any]:
    """Yield what turns gradients into updates."""
    update = OPTIMIZERS[recipe.optimizer.name].update
    for helper in ("subtract", "accumulate_square", "root", "descend"):
        if helper in update.__code__.co_names:
            yield getattr(optimizers, helper)
    yield update
    if recipe.schedule.name != "constant":
        yield schedules.SCHEDULES[recipe.schedule.name].factor
    if recipe.penalty.l1:
        yield penalties.l1_gradient
    if recipe.penalty.l2:
        yield penalties.l2_gradient
    if recipe.clip.norm:
        yield from (clip.norm_factor, clip.clip_norm)
    if recipe.clip.value:
        yield clip.clip_value
    if augments(recipe):
        yield from (augment.Augmenter, augment.flip, augment.crop, augment.warp)
