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
from danlu.train.probes.observer import PopulationObserver

Cases = dict[tuple[int, int], Case]  # by member and step


def of_member(tensors: dict[str, torch.Tensor], i: int) -> Tensors:
    return {name: tensor[i].detach().clone() for name, tensor in tensors.items()}


def train_and_capture(
    recipes: Sequence[Recipe], data: Data, path: Path, probes: str, patch: pytest.MonkeyPatch
) -> tuple[Study, Cases, set[str]]:
    """Return the study, the cases, and by which forward passes they were trained."""
    cases: Cases = {}
    ways = set()
    begin, before_update, end = (
        PopulationObserver.begin,
        PopulationObserver.before_update,
        PopulationObserver.end,
    )

    def on_begin(
        observer: PopulationObserver, population: Population, steps: Any, rows: Any
    ) -> None:
        ways.add(_way_of(population))
        layout = MemberLayout(population.members, observer.sample.segments)
        x, y = layout.per_member(observer.sample.x), layout.per_member(observer.sample.y)
        observer.captured = []  # type: ignore[attr-defined]
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
            observer.captured.append(case)  # type: ignore[attr-defined]
            if i in rows:
                cases[recipes.index(recipe), steps[i]] = case
        begin(observer, population, steps, rows)

    def on_update(observer: PopulationObserver, population: Population) -> None:
        for i, case in enumerate(observer.captured):  # type: ignore[attr-defined]
            case.gradient = of_member(population.stack.grads, i)
        before_update(observer, population)

    def on_end(observer: PopulationObserver, population: Population, step: int) -> None:
        for i, case in enumerate(observer.captured):  # type: ignore[attr-defined]
            case.clipped = of_member(population.stack.grads, i)
            case.after = population.stack.state_dict(i)
        end(observer, population, step)

    patch.setattr(PopulationObserver, "begin", on_begin)
    patch.setattr(PopulationObserver, "before_update", on_update)
    patch.setattr(PopulationObserver, "end", on_end)
    study = train(recipes, data, out=path, probes=probes)
    for case in cases.values():
        case.halves = in_training(case, case.before, 2)
    return study, copy.copy(cases), ways


def _way_of(population: Population) -> str:
    way = type(population.forward_pass).__name__
    if way == "Chain":
        return "chain" if population.forward_pass.columns else "library chain"  # type: ignore[attr-defined]
    return {"SingleForward": "module", "VmapForward": "vmap"}[way]
