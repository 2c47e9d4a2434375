"""Cross-validation: K networks as one population, each trained without its fold.

Legend: K folds, n examples.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danlu import metrics
from danlu.data import Data, load
from danlu.errors import Mistake, RecipeError, RunError, count, wrong
from danlu.files import with_nan
from danlu.guest import guest
from danlu.models.given import Network
from danlu.recipe import Recipe
from danlu.recipe.sample import with_own_fold
from danlu.runs import Study, folder
from danlu.runs.measurements import OFF
from danlu.runs.members import figure_of
from danlu.statistics import Estimate, estimate_over_folds
from danlu.study import metric as choosing
from danlu.study.facts import folds_facts
from danlu.study.together import Together, average, figures_of, outputs_of
from danlu.train import CHECKPOINT_EVERY, StudyListener, mistakes_in, resume_study, train
from danlu.train.dispatch.fit import recipe_for

KIND = "folds"


@guest
def cross_validate(
    network: Recipe | Network,
    data: Any,
    *,
    recipe: Recipe | None = None,
    folds: int = 5,
    metric: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    probes: str = OFF,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Folds:
    """Train K networks, each on all folds of the training part but one, and score it on that one.

    A validation part joins the training part; the test part is read once, for the ensemble of all.
    Folds are stratified by class. Scaling is fitted on all folds together. network, data, recipe,
    probes: as of `fit`. metric: the figure that counts (unasked: what suits the task and its
    classes).

    Raises RecipeError for what cannot be cut into folds, and what `train` raises.
    """
    data = data if isinstance(data, Data) else load(data)
    data = data.with_validation_in_training()
    base = recipe_for(network, recipe, data, data.size("train") * (folds - 1) // max(1, folds))
    note = choosing.note_on_default(metric, data)
    # On folds, which are stratified, every figure has a value.
    metric = choosing.resolve(metric, data, ("valid",)).replace("train_", "valid_")
    mistakes = _mistakes(data, folds, metric)
    recipes = []
    if not mistakes:
        recipes = [base.with_([f"sample.folds={folds}", f"sample.fold={k}"]) for k in range(folds)]
        mistakes += mistakes_in(recipes, data)
    if mistakes:
        raise RecipeError(*mistakes)
    facts = {"kind": KIND, "over": False, "metric": metric, "metric_note": note, "folds": folds}
    parts = ("train", "valid")
    study = train(
        recipes,
        data,
        out=out,
        device=device,
        parts=parts,
        listener=listener,
        checkpoint_every=checkpoint_every,
        facts=facts,
        probes=probes,
    )
    return continue_folds(study, data)


def _mistakes(data: Data, folds: int, metric: str) -> list[Mistake]:
    mistakes = []
    n = data.size("train")
    if not 2 <= folds <= n:
        rule = f"must be 2 to the {n:,} examples"
        mistakes.append(wrong("folds", folds, rule, "try 5"))
    if data.schema.each_token:
        rule = f"needs examples with one target each, and the task is {data.schema.task}"
        mistakes.append(wrong("folds", folds, rule))
        return mistakes
    known = [f"valid_{name}" for name in data.schema.metrics]
    part, name = metrics.part_and_name(metric)
    if part != "valid" or not data.schema.has_metric(name):
        rule = f"must be one of {', '.join(data.schema.metrics)}"
        mistakes.append(wrong("metric", metric, rule, f"try {known[0].removeprefix('valid_')}"))
    return mistakes


@guest
def continue_folds(
    study: Study,
    data: Data | None = None,
    *,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Folds:
    """Go on with a cross-validation: train what is missing, then score what all say together."""
    if data is not None:
        data = data.with_validation_in_training()
    with folder.locked(study.path):
        if not study.trained:
            study = resume_study(study, data, listener=listener, checkpoint_every=checkpoint_every)
        if not study.info.get("over"):
            if data is None:
                data = study.load_data()
            together = _scores_together(study, data)
            study.sealed.update(over=True, together=together)
        return Folds(study)


def _scores_together(study: Study, data: Data) -> dict[str, dict[str, float]]:
    """Return figures of all predictions out of fold, and of the ensemble on the test part."""
    schema, (_, metric) = study.schema, metrics.part_and_name(study.info["metric"])
    finished = _finished(study)
    if not finished:
        return {}
    _, out, y = outputs_out_of_fold(study, data)
    together = {"out_of_fold": figures_of(out, y, schema, metric)}
    if data.size("test"):
        of_test = [outputs_of(study.run(i, data), data, "test") for i in finished]
        y = of_test[0][1]
        each = [out for out, _ in of_test]
        together["ensemble"] = figures_of(average(each, schema), y, schema, metric)
        alone = [figures_of(out, y, schema, metric) for out in each]
        together["alone"] = {
            name: sum(figures[name] for figures in alone) / len(alone) for name in alone[0]
        }
    return together


def _finished(study: Study) -> list[int]:
    return [i for i, member in study.members.items() if member.result]


def outputs_out_of_fold(study: Study, data: Data) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs [n, K] of networks on the fold that each left out, for all folds together.

    Before them the examples' numbers [n], behind them their targets [n]; empty where every network
    diverged.
    """
    rows, outputs, targets = [torch.empty(0).long()], [], []
    for i in _finished(study):
        fold = with_own_fold(data, study.recipes[i].sample)
        out, y = outputs_of(study.run(i, data), fold, "valid")
        rows.append(fold.parts["valid"])
        outputs.append(out)
        targets.append(y)
    if not outputs:
        return rows[0], torch.empty(0, study.schema.outputs), torch.empty(0)
    return torch.cat(rows), torch.cat(outputs), torch.cat(targets)


class Folds(Together):
    """What a cross-validation shows, from its folder alone; as a predictor, the folds' ensemble.

    Raises RunError for another study, or one with trainings to go.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.path = study, study.path
        info = study.info
        if info["kind"] != KIND:
            raise RunError(f"{str(study.path)!r} is not a cross-validation; danlu runs lists all")
        folds_facts(study)
        if not info.get("over"):
            raise RunError(f"{str(study.path)!r} is not finished; {study.way_on}")
        self.metric: str = info["metric"]
        _, self.name = metrics.part_and_name(self.metric)
        self.figures = [figure_of(result, self.metric) for result in study.results]
        self.together: dict[str, dict[str, float]] = {}
        for what, figures in info.get("together", {}).items():
            self.together[what] = with_nan(figures)

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    @property
    def members(self) -> list[int]:
        """The networks that did not diverge."""
        return [i for i, m in sorted(self.study.members.items()) if m.result]

    @cached_property
    def estimate(self) -> Estimate:
        """The mean of the figure over the folds that did not diverge, with its interval."""
        found = estimate_over_folds([value for value in self.figures if math.isfinite(value)])
        # No share is above 1, and no loss below 0.
        if metrics.higher_is_better(self.name):
            least = -math.inf if self.name == "r2" else 0.0
            return replace(found, low=max(found.low, least), high=min(found.high, 1.0))
        return replace(found, low=max(found.low, 0.0))

    def sentences(self) -> list[str]:
        """Return the verdict in words."""
        sentences = []
        if note := self.study.info.get("metric_note"):
            sentences.append(note)
        title = metrics.title_of(self.name)
        found = self.estimate
        folds = len(self.figures)
        between = ""
        if math.isfinite(found.low):
            between = f" (95 % interval {found.low:.4f} to {found.high:.4f})"
        sentences.append(
            f"{title[0].upper()}{title[1:]} over {folds} folds is {found.mean:.4f}{between}."
        )
        missing = folds - found.n
        if missing:
            sentences.append(
                f"{count(missing, 'fold')} diverged, or left the figure undefined; where they "
                "diverged, try a smaller optimizer.lr."
            )
        if pooled := self.together.get("out_of_fold"):
            sentences.append(
                f"All {int(pooled['n']):,} examples, each predicted by the network that was not "
                f"trained on it: {title} {pooled[self.name]:.4f}."
            )
        if any(recipe.early_stopping.patience for recipe in self.study.recipes):
            sentences.append(
                "Each network's epoch was chosen on its own fold, which flatters these figures, "
                "the more so the fewer examples there are; early_stopping.patience=0 does not "
                "choose."
            )
        if ensemble := self.together.get("ensemble"):
            alone = self.together["alone"]
            sentences.append(
                f"On the test part ({int(ensemble['n']):,} examples) the networks reach "
                f"{alone[self.name]:.4f} on average, and their ensemble {ensemble[self.name]:.4f}."
            )
        return sentences

    def to_json(self) -> dict[str, Any]:
        """Return everything that was found, as plain values."""
        found = self.estimate
        return {
            "study": str(self.path),
            "metric": self.metric,
            "folds": self.figures,
            "mean": found.mean,
            "low": found.low,
            "high": found.high,
            **self.together,
            "sentences": self.sentences(),
        }
