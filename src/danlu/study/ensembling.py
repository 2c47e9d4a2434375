"""Ensembles: networks that differ by their seed alone, or the best of a study, averaged.

Legend: n examples, K outputs, M networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danlu import metrics
from danlu.data import Data, load
from danlu.data.target_scale import standardised
from danlu.errors import Mistake, RecipeError, RunError, count, wrong
from danlu.files import with_nan
from danlu.guest import guest
from danlu.models.given import Network
from danlu.recipe import Recipe
from danlu.runs import Study, folder
from danlu.runs.members import figure_of
from danlu.statistics import Estimate, estimate
from danlu.study.facts import ensemble_facts
from danlu.study.figure_format import FigureFormat
from danlu.study.together import Together, average, figures_of, outputs_of
from danlu.train import CHECKPOINT_EVERY, StudyListener, mistakes_in, resume_study, train
from danlu.train.dispatch.fit import recipe_for

KIND = "ensemble"
_FACTS = "ensemble"  # in the index of whatever study has one
MEMBERS = 5
_MOST = 1000


@guest
def ensemble(
    networks: Study | Recipe | Network | str | Path,
    data: Any = None,
    *,
    recipe: Recipe | None = None,
    members: int = MEMBERS,
    out: str | Path | None = None,
    device: str = "auto",
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Ensemble:
    """Average several networks: train them with different seeds, or take the best of a study.

    Predicts, evaluates and is saved like a run; the gain over the mean network is measured with its
    interval on the test part (where there is none, on the validation part).

    networks: a finished study, whose best members by the validation part are taken; or a recipe or
    network as of `fit`, to be trained on `data`. members: how many networks.

    Raises RecipeError for what cannot be averaged, RunError for a study with fewer members, and
    what `train` raises.
    """
    if isinstance(networks, (str, Path)):
        networks = Study(networks)
    if isinstance(networks, Study):
        if out is not None:
            raise RecipeError("`out` must be left out: an ensemble of a study lies in its folder")
        return _of_study(networks, data, members)
    data = data if isinstance(data, Data) else load(data)
    base = recipe_for(networks, recipe, data, data.size("train"))
    mistakes = _mistakes(data.schema.each_token, data.schema.task, members)
    mistakes += mistakes_in([base], data)
    if mistakes:
        raise RecipeError(*mistakes)
    recipes = [base.with_(seed=base.seed + k) for k in range(members)]
    study = train(
        recipes,
        data,
        out=out,
        device=device,
        parts=("train", "valid"),
        listener=listener,
        checkpoint_every=checkpoint_every,
        facts={"kind": KIND, "over": False},
    )
    return continue_ensemble(study, data)


def _mistakes(each_token: bool, task: str, members: int) -> list[Mistake]:
    mistakes = []
    if not isinstance(members, int) or not 2 <= members <= _MOST:
        rule = f"must be a whole number, 2 to {_MOST}"
        mistakes.append(wrong("members", members, rule, f"try {MEMBERS}"))
    if each_token:
        rule = "needs examples with one target each"
        mistakes.append(wrong("task", task, rule))
    return mistakes


@guest
def continue_ensemble(
    study: Study,
    data: Data | None = None,
    *,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    ray: str | None = None,
) -> Ensemble:
    """Go on with an ensemble: train what is missing, then measure what the average gains."""
    options: Any = {"listener": listener, "checkpoint_every": checkpoint_every, "ray": ray}
    with folder.locked(study.path):
        study.check_trust()
        if not study.trained:
            study = resume_study(study, data, **options)
        if not study.info.get("over"):
            sound = [i for i, member in sorted(study.members.items()) if member.result]
            if len(sound) < 2:
                raise RunError(
                    f"{count(len(study) - len(sound), 'network')} of {len(study)} diverged, which "
                    "leaves nothing to average; try a smaller optimizer.lr"
                )
            _measure(study, sound, data)
        return Ensemble(study)


def _of_study(study: Study, data: Any, members: int) -> Ensemble:
    """Return the ensemble of a study's best networks."""
    mistakes = _mistakes(study.schema.each_token, study.schema.task, members)
    if mistakes:
        raise RecipeError(*mistakes)
    if study.status != "finished":  # trained so far is not over: a search may go on
        raise RunError(f"{str(study.path)!r} is not finished; {study.way_on}")
    if data is not None and not isinstance(data, Data):
        data = study.load_again(data)
    with folder.locked(study.path):
        _measure(study, best_members(study, members), data)
    return Ensemble(study)


def best_members(study: Study, members: int) -> list[int]:
    """Return the numbers of a study's best networks by their figure on the validation part.

    Raises RunError where there are not so many.
    """
    asked = study.info.get("metric") or ""
    metric = asked if asked.startswith("valid_") else f"valid_{study.metric}"
    sign = 1 if metrics.higher_is_better(metric) else -1
    figures = [sign * figure_of(result, metric) for result in study.results]
    ranked = [i for i, figure in enumerate(figures) if math.isfinite(figure)]
    ranked.sort(key=lambda i: -figures[i])
    if len(ranked) < members:
        rule = (
            f"must be at most the {count(len(ranked), 'network')} of the study that can be ranked"
        )
        raise RunError(wrong("members", members, rule))
    return ranked[:members]


def _measure(study: Study, members: Sequence[int], data: Data | None) -> None:
    """Measure what the average gains, and keep it in the study's index."""
    data = study.load_data() if data is None else data
    study.check_data(data)
    part = next((p for p in ("test", "valid") if data.size(p)), None)
    facts: dict[str, Any] = {"members": list(members), "part": part}
    if part is not None:
        each = [outputs_of(study.run(i, data), data, part) for i in members]
        facts |= _figures([out for out, _ in each], each[0][1], study)
    # Of other kinds of study it is not for an ensemble to say that they are over.
    end = {"over": True} if study.info["kind"] == KIND else {}
    study.sealed.update(**{_FACTS: facts}, **end)


def _figures(each: Sequence[Tensor], y: Tensor, study: Study) -> dict[str, Any]:
    """Return figures of the networks alone and together, and the gains with their intervals."""
    schema = study.schema
    together = average(each, schema)
    alone = [figures_of(out, y, schema, schema.metric) for out in each]
    gains = {}
    for name in ("loss", schema.metric):
        values = [_of_examples(out, y, study, name) for out in each]
        mean = torch.stack(values).mean(0)
        gain = _of_examples(together, y, study, name) - mean  # [n]
        found = estimate(gain.tolist())
        gains[name] = {"gain": found.mean, "low": found.low, "high": found.high}
    return {
        "alone": [figures[schema.metric] for figures in alone],
        "mean": {name: sum(f[name] for f in alone) / len(alone) for name in alone[0]},
        "together": figures_of(together, y, schema, schema.metric),
        "gains": gains,
    }


def _of_examples(out: Tensor, y: Tensor, study: Study, name: str) -> Tensor:
    """Return what each example [n] adds to a figure, more being better: hits, or minus the loss."""
    if study.schema.is_regression:
        target = standardised(y, study.schema).double()
        error = (out[:, 0].double() - target).square()
        if name == "r2":
            return -error / max(1e-12, float(target.var(correction=0)))
        return -error
    if name == "accuracy":
        return (out.argmax(1) == y).double()
    log_p = out.double().log_softmax(1)
    return log_p.gather(1, y.clamp_min(0).unsqueeze(1)).squeeze(1)


class Ensemble(Together):
    """Networks of a study that predict by their mean, from the study's folder alone.

    alone: the figure of each network; mean, together: figures of the mean network, and of the
    ensemble; gains: what it gains over the mean network, by figure, positive being better. All on
    `part`; empty where the data have neither test nor validation part. Raises RunError for a study
    without an ensemble.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.path = study, study.path
        facts = study.info.get(_FACTS)
        if facts is None:
            raise RunError(
                f"{str(study.path)!r} has no ensemble; danlu ensemble {study.path.name} makes one"
            )
        ensemble_facts(study)
        self._members: list[int] = facts["members"]
        self.part: str | None = facts["part"]
        self.alone = [math.nan if x is None else float(x) for x in facts.get("alone", ())]
        self.mean: Mapping[str, float] = with_nan(facts.get("mean", {}))
        self.together: Mapping[str, float] = with_nan(facts.get("together", {}))
        self.gains: dict[str, Estimate] = {}
        for name, plain in facts.get("gains", {}).items():
            found = with_nan(plain)
            n = int(self.together.get("n", 0))
            self.gains[name] = Estimate(found["gain"], found["low"], found["high"], math.nan, n)

    @property
    def members(self) -> Sequence[int]:
        """The numbers of the networks in the study."""
        return self._members

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    def sentences(self) -> list[str]:
        """Return the verdict in words."""
        if self.part is None:
            return ["The data have neither test nor validation part to measure it on."]
        name = self.study.metric
        shown = FigureFormat(f"{self.part}_{name}")
        sentences = [
            f"On the {self.part} part ({int(self.together['n']):,} examples) the "
            f"{len(self.members)} networks reach {metrics.title_of(name)} "
            f"{shown.show(self.mean[name])} on average, and their ensemble "
            f"{shown.show(self.together[name])}."
        ]
        gain, loss = self.gains[name], self.gains["loss"]
        between = f"{shown.gap(abs(gain.mean))} ({shown.range(gain, negated=gain.high < 0)})"
        if gain.low > 0:
            sentences.append(f"That is a gain over the mean network of {between}.")
        elif gain.high < 0:
            sentences.append(f"That is a loss against the mean network of {between}.")
        else:
            sentences.append(f"No gain over the mean network is shown: {between}.")
        fall = "falls" if loss.mean > 0 else "rises"
        sentences.append(
            f"The loss {fall} from {self.mean['loss']:.4g} to {self.together['loss']:.4g} "
            f"(by {loss.mean:.3g}, {loss.low:.3g} to {loss.high:.3g})."
        )
        return sentences

    def method(self) -> str:
        """Return how the figures were made."""
        what = "numbers" if self.schema.is_regression else "probabilities"
        return f"the mean of the networks' {what}; intervals by Student's t over examples, 95 %"

    def to_json(self) -> dict[str, Any]:
        """Return everything that was found, as plain values."""
        gains = {
            name: {"gain": g.mean, "low": g.low, "high": g.high} for name, g in self.gains.items()
        }
        return {
            "study": str(self.path),
            "members": list(self.members),
            "part": self.part,
            "alone": self.alone,
            "mean": dict(self.mean),
            "together": dict(self.together),
            "gains": gains,
            "sentences": self.sentences(),
        }
