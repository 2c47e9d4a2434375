"""`decompose`: networks trained on resampled training sets, and what their errors are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from danlu.data import Data, load
from danlu.data.target_scale import in_units
from danlu.errors import Mistake, RecipeError, RunError, unknown, wrong
from danlu.guest import guest
from danlu.models.given import Network
from danlu.models.weights import load_weights
from danlu.predict import evaluate
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.runs import Study, folder
from danlu.runs.normalizers import read_normalizer
from danlu.study import grid as grids
from danlu.study.cost import MANY, refuse_many
from danlu.study.decomposing.bias_variance import (
    Array,
    Decomposition,
    equal_inputs,
    squared,
    zero_one,
)
from danlu.study.decomposing.decomposition import KIND, BiasVariance, decomposition_facts
from danlu.study.grid import Grid, Variant
from danlu.train import CHECKPOINT_EVERY, StudyListener, mistakes_in, resume_study, train
from danlu.train.dispatch.fit import recipe_for

REPLICATES = 50
VARIED = ("both", "data", "seed")
_PARTS = ("valid", "test")


@guest
def decompose(
    network: Recipe | Network,
    data: Any,
    grid: Grid | Sequence[str] = (),
    *,
    recipe: Recipe | None = None,
    replicates: int = REPLICATES,
    vary: str = "both",
    part: str | None = None,
    yes: bool = False,
    out: str | Path | None = None,
    device: str = "auto",
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> BiasVariance:
    """Measure bias², variance and noise over resampled training sets, all as one population.

    Each network is trained on a bootstrap sample of the training part (Efron 1979); with
    sample.share below 1, on a part drawn anew. Squared loss for numbers and probabilities, 0–1 loss
    for classes.

    network, data, recipe: as of `fit`. grid: values of fields to measure against, as of `compare`,
    such as {"model.hidden": [(4,), (64,)]}. replicates: training sets. vary: what differs between
    networks: their training sets ("data"), their seeds ("seed"), or "both". part: on which they are
    judged, "valid" or "test" (default: the validation part where there is one).

    Raises RecipeError for what cannot be decomposed, with all mistakes, and what `train` raises.
    """
    data = data if isinstance(data, Data) else load(data)
    base = recipe_for(network, recipe, data, data.size("train"))
    part = part or next((p for p in _PARTS if data.size(p)), "valid")
    mistakes = _mistakes(data, replicates, vary, part)
    variants: list[Variant] = []
    try:
        values = grid if isinstance(grid, Mapping) else grids.parse(grid)
        variants = grids.expand(values, base)
    except RecipeError as e:
        mistakes += e.mistakes
    recipes = []
    if not mistakes:
        recipes = _resampled(variants, replicates, vary)
        mistakes += mistakes_in(recipes[: len(variants)], data)
    if mistakes:
        raise RecipeError(*mistakes)
    if len(recipes) > MANY and not yes:
        samples = recipes[:: max(1, len(recipes) // 20)]
        refuse_many("these are", samples, len(recipes), data, device)
    named = [[list(pair) for pair in variant.values] for variant in variants]
    study = train(
        recipes,
        data,
        out=out,
        device=device,
        parts=(part,),
        listener=listener,
        checkpoint_every=checkpoint_every,
        facts={
            "kind": KIND,
            "over": False,
            "variants": named,
            "replicates": replicates,
            "vary": vary,
            "part": part,
        },
    )
    return continue_decomposition(study, data)


def _mistakes(data: Data, replicates: int, vary: str, part: str) -> list[Mistake]:
    mistakes = []
    if not isinstance(replicates, int) or not 2 <= replicates <= 100_000:
        rule = "must be a whole number, at least 2: one training set shows no variance"
        mistakes.append(wrong("replicates", replicates, rule, f"try {REPLICATES}"))
    if vary not in VARIED:
        mistakes.append(unknown("vary", vary, VARIED))
    if part not in _PARTS:
        mistakes.append(unknown("part", part, _PARTS))
    elif not data.size(part):
        mistakes.append(wrong("part", part, "has no examples in these data"))
    if data.schema.each_token:
        rule = "needs examples with one target each"
        mistakes.append(wrong("task", data.schema.task, rule))
    return mistakes


def _resampled(variants: Sequence[Variant], replicates: int, vary: str) -> list[Recipe]:
    """Return the recipes: training set by training set, every variant."""
    recipes = []
    for k in range(replicates):
        for variant in variants:
            recipe = variant.recipe
            changes: dict[str, Any] = {}
            if vary != "seed":
                # A share is drawn anew; the whole would be the same set again.
                changes["sample.seed"] = recipe.sample.seed + k
                if recipe.sample.share == 1:
                    changes["sample.resample"] = True
            if vary != "data":
                changes["seed"] = recipe.seed + k
            recipes.append(recipe.with_(**changes))
    return recipes


@guest
def continue_decomposition(
    study: Study,
    data: Data | None = None,
    *,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    ray: str | None = None,
) -> BiasVariance:
    """Go on with a decomposition: train what is missing, then take the errors apart."""
    options: Any = {"listener": listener, "checkpoint_every": checkpoint_every, "ray": ray}
    with folder.locked(study.path):
        decomposition_facts(study)
        study.check_trust()
        if not study.trained:
            study = resume_study(study, data, **options)
        if not study.info.get("over"):
            data = study.load_data() if data is None else data
            parts = _decomposed(study, data)
            study.sealed.update(over=True, parts_of_loss=parts)
        return BiasVariance(study)


def _decomposed(study: Study, data: Data) -> list[dict[str, Any]]:
    """Return the decompositions of every variant, as plain values, and how many diverged."""
    info = study.info
    n_variants, part = len(info["variants"]), info["part"]
    x, y = data.part(part)
    groups = equal_inputs(x.numpy())
    found, results = [], study.results
    for k in range(n_variants):
        numbers = range(k, len(study), n_variants)
        sound = [i for i in numbers if results[i]]
        if len(sound) < 2:
            raise RunError(
                f"{len(numbers) - len(sound)} of {len(numbers)} trainings of a variant diverged, "
                "which leaves nothing to measure; try a smaller optimizer.lr"
            )
        outputs = _outputs(study, sound, data, part)  # [R, n, K]
        losses = [d.to_json() for d in _of_variant(outputs, y.numpy(), groups, data)]
        found.append({"losses": losses, "diverged": len(numbers) - len(sound)})
    return found


def _outputs(study: Study, members: Sequence[int], data: Data, part: str) -> Array:
    """Return what members give on a part, [R, n, K]; numbers in the target's own units."""
    recipe = study.recipes[members[0]]
    model = build_model(recipe, study.schema, load_start=False, apply_frozen=False).eval()
    name = f"normalizer.{study.schema.normalization(recipe.normalize)}.safetensors"
    normalizer = read_normalizer(study.sealed, name, recipe, study.schema)
    forward = evaluate.forward_of(model)
    found = []
    for weights in study.each_weights(members):
        load_weights(model, weights, str(study.path))
        passes = evaluate.part_outputs(forward, data, part, [normalizer])
        out, _ = evaluate.collect(passes, data.size(part))
        found.append(out)
    outputs = torch.stack(found).double()  # [R, n, K]
    if not study.schema.is_regression:
        return outputs.softmax(2).numpy()
    return in_units(outputs, study.schema).numpy()


def _of_variant(outputs: Array, y: Array, groups: Array | None, data: Data) -> list[Decomposition]:
    if data.schema.is_regression:
        return [squared(outputs[:, :, 0], y.astype(float), groups)]
    one_hot = np.eye(outputs.shape[2])[y]
    return [zero_one(outputs.argmax(2), y, groups), squared(outputs, one_hot, groups)]
