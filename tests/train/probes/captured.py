"""Trains, and keeps what the engine knows at every measured update, for the oracle to start from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from train.probes.oracle import Case, Tensors, in_training

from danlu import Data, Recipe
from danlu.recipe.build import build_model
from danlu.recipe.sample import example_counts
from danlu.runs import Study
from danlu.train import train
from danlu.train.engine.population import Population
from danlu.train.forward import MemberLayout
from danlu.train.probes.watch import Watch

Cases = dict[tuple[int, int], Case]  # by member and step


def of_member(tensors: dict[str, torch.Tensor], i: int) -> Tensors:
    return {name: tensor[i].detach().clone() for name, tensor in tensors.items()}


def train_and_capture(
    recipes: Sequence[Recipe], data: Data, path: Path, probes: str, patch: pytest.MonkeyPatch
) -> tuple[Study, Cases, set[str]]:
    """Return the study, the cases, and by which forward passes they were trained."""
    cases: Cases = {}
    ways = set()
    begin, before_update, end = Watch.begin, Watch.before_update, Watch.end

    def on_begin(watch: Watch, population: Population, steps: Any, rows: Any) -> None:
        ways.add(_way_of(population))
        layout = MemberLayout(population.members, watch.sample.segments)
        x, y = layout.per_member(watch.sample.x), layout.per_member(watch.sample.y)
        watch.captured = []  # type: ignore[attr-defined]
        for i, recipe in enumerate(population.recipes):
            m = example_counts(recipe.sample, data.size("train"), data.training_labels)
            case = Case(
                recipe,
                build_model(recipe, data.schema),
                steps[i],
                x[i],
                y[i],
                before=population.stack.state_dict(i),
                after={},
                gradient={},
                clipped={},
                lr=population.lr(i, steps[i] + population.networks.start_steps[i]),
                examples=data.size("train") if m is None else float(m.sum()),
            )
            watch.captured.append(case)  # type: ignore[attr-defined]
            if i in rows:
                cases[recipes.index(recipe), steps[i]] = case
        begin(watch, population, steps, rows)

    def on_update(watch: Watch, population: Population) -> None:
        for i, case in enumerate(watch.captured):  # type: ignore[attr-defined]
            case.gradient = of_member(population.stack.grads, i)
        before_update(watch, population)

    def on_end(watch: Watch, population: Population, step: int) -> None:
        for i, case in enumerate(watch.captured):  # type: ignore[attr-defined]
            case.clipped = of_member(population.stack.grads, i)
            case.after = population.stack.state_dict(i)
        end(watch, population, step)

    patch.setattr(Watch, "begin", on_begin)
    patch.setattr(Watch, "before_update", on_update)
    patch.setattr(Watch, "end", on_end)
    study = train(recipes, data, out=path, probes=probes)
    for case in cases.values():
        case.halves = in_training(case, case.before, 2)
    return study, copy.copy(cases), ways


def _way_of(population: Population) -> str:
    way = type(population.forward_pass).__name__
    if way == "Chain":
        return "chain" if population.forward_pass.columns else "library chain"  # type: ignore[attr-defined]
    return {"SingleForward": "module", "VmapForward": "vmap"}[way]
