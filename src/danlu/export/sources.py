"""The functions of danlu that a plain loop needs, as source text.

They are the very ones that the engine uses, so nothing is written twice.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

from danlu import rng
from danlu.data import augment
from danlu.models import MODELS
from danlu.nn import init, layers, loss_values, losses, penalties
from danlu.optim import clip, schedules
from danlu.optim.optimizers import OPTIMIZERS
from danlu.recipe import Recipe, sample

OWN_LAYERS: tuple[type[nn.Module], ...] = (
    layers.Dropout,
    layers.PHMLinear,
    layers.ExplicitLinear,
)


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
    preferred = {}
    if recipe.init.name == "auto":
        preferred = MODELS[recipe.model.name].init
    rule = preferred.get("name", recipe.init.name)
    std = preferred.get("std", recipe.init.std) or 0.0
    return str(rule), recipe.model.activation or "relu", float(std)


def sources(recipe: Recipe, model: nn.Module, loss: str) -> list[str]:
    """Return the source of each function that the loop of a recipe calls.

    loss: the name of its loss.
    """
    called: list[Any] = [
        rng.seed_of,
        rng.stream,
        *_drawing(recipe, model),
        *_layers(model),
        *_losses(recipe, loss),
        *_updates(recipe),
    ]
    needed: dict[Any, str] = {}  # in order: what a function calls comes before it
    for thing in called:
        _add_with_helpers(thing, needed)
    return list(needed.values())


def _add_with_helpers(thing: Any, needed: dict[Any, str]) -> None:
    """Add the source of a function or class, after those of its module that it uses."""
    if thing in needed:
        return
    source = inspect.getsource(thing)
    module = sys.modules[thing.__module__]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Name):
            continue
        used = vars(module).get(node.id)
        is_definition = inspect.isfunction(used) or inspect.isclass(used)
        if is_definition and used is not thing and used.__module__ == module.__name__:
            _add_with_helpers(used, needed)
    needed[thing] = source


def _drawing(recipe: Recipe, model: nn.Module) -> Iterator[Any]:
    """Yield what draws initial weights."""
    rule, activation, _ = initial_values(recipe)
    # Sorted below: the script is the same, however a set is ordered.
    rules = {chosen for _, _, chosen in init.plan(model, rule, activation)}
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
    is_weighted = recipe.loss.class_weights != "none"
    is_sampled = not recipe.sample.whole
    if losses.LOSSES[name].classes and name != "cross-entropy":
        yield loss_values.cross_entropy  # by which validation is scored
    yield losses.LOSSES[name].value
    if is_weighted or is_sampled:
        yield loss_values.example_weights
    if recipe.loss.class_weights == "balanced":
        yield losses.balanced_weights
    if is_sampled:
        yield sample.example_counts


def _updates(recipe: Recipe) -> Iterator[Any]:
    """Yield what turns gradients into updates."""
    yield OPTIMIZERS[recipe.optimizer.name].update
    if recipe.schedule.name != "constant":
        yield schedules.SCHEDULES[recipe.schedule.name].factor
    if recipe.penalty.l1:
        yield penalties.l1_gradient
    if recipe.penalty.l2:
        yield penalties.l2_gradient
    if recipe.clip.norm:
        yield clip.clip_norm
    if recipe.clip.value:
        yield clip.clip_value
    if augments(recipe):
        yield augment.Augmenter
