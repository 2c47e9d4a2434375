"""The checks: a row each, a question with its answer in figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from danlu.diagnosis import catalogue
from danlu.diagnosis.checkup.short_trainings import LrRange, loss_of_one_batch, lr_range
from danlu.diagnosis.checkup.start import Start
from danlu.diagnosis.data_evidence import DataEvidence
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, Prescription, that_apply
from danlu.diagnosis.rules import of_data, outcome
from danlu.diagnosis.rules.table import prescribe
from danlu.diagnosis.signs import Signs
from danlu.errors import clock, some
from danlu.memory import as_bytes
from danlu.recipe.build import build_model
from danlu.recipe.sample import examples_seen
from danlu.train import estimate_seconds
from danlu.train.dispatch.fit import make_population
from danlu.train.dispatch.footprint import bytes_of_network
from danlu.train.dispatch.memory import total_memory

State = Literal["ok", "look", "wrong", "skipped"]
OK, LOOK, WRONG, SKIPPED = "ok", "look", "wrong", "skipped"


@dataclass(frozen=True)
class Checked:
    """What a check found.

    state: "ok", "look" (unusual, worth a look), "wrong", or "skipped" (for want of time, or does
    not apply). figures: that its sentence names.
    """

    name: str
    state: State
    figures: Mapping[str, Any] = field(default_factory=dict)
    prescriptions: Sequence[Prescription] = ()
    finding: Finding | None = None

    def why(self, language: str = "en") -> str:
        """Return what was found, in a sentence."""
        if self.finding is not None:
            return self.finding.why(language)
        return catalogue.checked(self.name, self.state, self.figures, language)

    def title(self, language: str = "en") -> str:
        """Return what was checked."""
        if self.finding is not None:
            return self.finding.title(language)
        return catalogue.check_title(self.name, language)

    def to_json(self, language: str = "en") -> dict[str, Any]:
        """Return plain values."""
        return {
            "check": self.name,
            "state": self.state,
            "figures": dict(self.figures),
            "why": self.why(language),
            "prescriptions": [p.to_json(language) for p in self.prescriptions],
        }


def _worse(value: float, look: float, wrong: float) -> State:
    if value > wrong or math.isnan(value):
        return "wrong"
    return "look" if value > look else "ok"


def starting_loss(start: Start) -> Checked:
    """A network that knows nothing should say so: ln K, or the target's variance."""
    ratio = start.loss / start.chance
    # Outputs as spread as a standardised target have twice its variance for their error.
    look, wrong = (4.0, 10.0) if start.data.schema.is_regression else (2.0, 5.0)
    state: State = "wrong" if not math.isfinite(start.loss) else _worse(ratio, look, wrong)
    cures = []
    if state != "ok":
        cures = [prescribe("usual_init", "init=auto"), prescribe("normalise", "normalize=zscore")]
    figures = {"loss": start.loss, "chance": start.chance, "ratio": ratio}
    return Checked("starting_loss", state, figures, that_apply(cures, start.recipe))


def inputs_scaled(start: Start) -> Checked:
    """Inputs near 0 and 1 in size are what initial weights are made for."""
    x = start.inputs
    if not x.numel():
        return Checked("inputs_scaled", "skipped")
    rms, largest = float(x.square().mean().sqrt()), float(x.abs().max())
    figures = {"rms": rms, "largest": largest}
    off = max(rms, 1 / max(rms, 1e-12))
    state = _worse(off, 3.0, 20.0)
    cures = [] if state == "ok" else [prescribe("normalise", "normalize=zscore")]
    if state == "ok" and largest > 30:
        state, cures = "look", [prescribe("cut_off_inputs", "normalize=clipped")]
    return Checked("inputs_scaled", state, figures, that_apply(cures, start.recipe))


def gradients_reach(start: Start) -> Checked:
    """Every weight should get a gradient, and none a tiny part of what others get."""
    weights = {name: u for name, u in start.first_update.items() if u.is_matrix}
    none = [name for name, u in weights.items() if not u.gradient > 0]
    broken = [name for name, u in weights.items() if not math.isfinite(u.gradient)]
    if none or broken:
        names = some(none + broken, 4)
        return Checked("gradients_reach", "wrong", {"names": names, "layers": len(none + broken)})
    # What begins at 0 has no size to go by.
    norms = {name: u.gradient / u.size for name, u in weights.items() if u.size > 0}
    faintest = min(norms, key=lambda name: norms[name], default="")
    ratio = max(norms.values()) / norms[faintest] if norms else 1.0
    figures = {"ratio": ratio, "layers": len(weights), "names": faintest}
    return Checked("gradients_reach", _worse(ratio, 1e4, math.inf), figures)


def weights_move(start: Start) -> Checked:
    """An update should change every weight, by a thousandth of its size or so."""
    weights = {name: u for name, u in start.first_update.items() if u.is_matrix and u.size > 0}
    still = [name for name, u in weights.items() if u.change == 0 and u.gradient > 0]
    if still:
        return Checked("weights_move", "wrong", {"names": some(still, 4), "ratio": 0.0})
    ratios = sorted(u.change / u.size for u in weights.values() if u.gradient > 0)
    if not ratios:
        return Checked("weights_move", "skipped")
    ratio = ratios[len(ratios) // 2]
    lr = start.recipe.optimizer.lr
    state: State = "look" if ratio > 0.3 or ratio < 1e-6 else "ok"
    cures = []
    if state == "look" and lr is not None:
        reason, factor = ("lower_rate", 0.1) if ratio > 0.3 else ("higher_rate", 100)
        cures = [prescribe(reason, f"optimizer.lr={lr * factor:.3g}")]
    return Checked("weights_move", state, {"ratio": ratio, "names": ""}, cures)


def examples_apart(start: Start) -> Checked:
    """What is said of an example must not depend on what lies beside it."""
    in_training, later = start.mixing
    has_batch_norm = start.recipe.has_batch_norm or _has_batch_norm(start)
    figures = {"training": in_training, "evaluation": later}
    if later or (in_training and not has_batch_norm):
        return Checked("examples_apart", "wrong", figures)
    return Checked("examples_apart", "ok", figures)


def _has_batch_norm(start: Start) -> bool:
    kinds = {type(module).__name__ for module in start.population.model.modules()}
    return any(kind.startswith(("BatchNorm", "SyncBatchNorm")) for kind in kinds)


def answers_steady(start: Start) -> Checked:
    """In evaluation mode equal questions have equal answers: dropout must be off."""
    return Checked("answers_steady", "ok" if start.is_steady else "wrong")


def batch_norm(start: Start) -> Checked:
    """Batch normalisation by a handful of examples is noise."""
    size = start.recipe.batch_size
    if not start.recipe.has_batch_norm and not _has_batch_norm(start):
        return Checked("batch_norm", "skipped", {"batch_size": size})
    state: State = "wrong" if size <= 4 else "look" if size < 16 else "ok"
    cures = [] if state == "ok" else [prescribe("larger_batch", "batch_size=32")]
    return Checked("batch_norm", state, {"batch_size": size}, cures)


def one_batch(start: Start) -> Checked:
    """A network that cannot learn a single batch by heart will learn nothing else."""
    found = loss_of_one_batch(start)
    if found is None:
        return Checked("one_batch", "skipped")
    loss, steps = found
    share = loss / start.chance
    figures = {"loss": loss, "share": share, "steps": steps}
    return Checked("one_batch", _worse(share, 0.1, 0.5), figures)


def learning_rate(start: Start) -> Checked:
    """The rate should lie in the range that learns."""
    found = lr_range(start)
    if found is None:
        return Checked("learning_rate", "skipped")
    return of_range(found, start)


def of_range(found: LrRange, start: Start) -> Checked:
    """Return what a range test says of the recipe's rate."""
    lr = start.recipe.optimizer.lr or 0.0
    figures = {"lr": lr, **found.to_json()}
    if math.isnan(found.best):
        return Checked("learning_rate", "wrong", figures)
    cures = []
    state: State = "ok"
    if lr > 3 * found.high or lr < found.low / 30:
        state = "look"
        reason = "lower_rate" if lr > found.high else "higher_rate"
        cures = [prescribe(reason, f"optimizer.lr={found.suggested:g}")]
    return Checked("learning_rate", state, figures, cures)


def cost(start: Start) -> Checked:
    """How long the whole training takes, and how much memory."""
    recipe, data = start.recipe, start.data
    if start.is_slow:  # a pass of a whole batch takes too long to count what it does
        steps = math.ceil(examples_seen(recipe.sample, data.size("train")) / recipe.batch_size)
        seconds = start.step_cost.of_batch(recipe.batch_size) * steps * recipe.epochs
    else:
        seconds = estimate_seconds([recipe], data, "cpu")
    memory = _bytes(start)
    room = total_memory(start.population.spec.device)
    figures = {
        "seconds": seconds,
        "time": clock(max(1, seconds)),
        "bytes": memory,
        "memory": as_bytes(memory),
    }
    state: State = "wrong" if memory > room else "look" if seconds > 24 * 3600 else "ok"
    return Checked("cost", state, figures)


def _bytes(start: Start) -> float:
    """Return the bytes of a training: of a batch there is no time for, by two smaller ones."""
    small = start.batch_size
    of_small = _bytes_with(start, small)
    if not start.is_slow:
        return of_small
    of_half = _bytes_with(start, small // 2)
    of_example = (of_small - of_half) / (small - small // 2)
    return of_small + of_example * (start.recipe.batch_size - small)


def _bytes_with(start: Start, batch_size: int) -> float:
    batches = start.batches_of(batch_size)

    def make(recipes: Sequence[Any]) -> Any:
        device = start.population.spec.device
        return make_population(
            recipes, lambda r: build_model(r, start.data.schema), start.data, batches, device
        )

    return bytes_of_network([start.recipe], make, batches)


_OF_DATA = (
    of_data.constant_target,
    of_data.outliers_in_inputs,
    of_data.outliers_in_target,
    of_data.target_leak,
    of_data.leak_duplicates,
    of_data.vocabulary_too_small,
    of_data.wrong_task,
    outcome.train_test_shift,
)


def data(start: Start) -> list[Checked]:
    """Return what the data show by themselves, by the rules of the diagnosis."""
    evidence = Evidence(
        recipe=start.recipe,
        schema=start.data.schema,
        class_counts=start.data.training_class_counts,
        sizes={part: start.data.size(part) for part in ("train", "valid", "test")},
        data=DataEvidence(start.data),
    )
    signs = Signs(evidence)
    found = []
    for rule in _OF_DATA:
        finding = rule(evidence, signs)
        if finding is not None:
            found.append(
                Checked(finding.cause, "look", finding.figures, finding.prescriptions, finding)
            )
    return found or [Checked("data", "ok", {"train": start.data.size("train")})]


# The quick ones first; what a later one needs an earlier one has found sound.
CHECKS: tuple[Callable[[Start], Checked | list[Checked]], ...] = (
    data,
    inputs_scaled,
    starting_loss,
    gradients_reach,
    weights_move,
    examples_apart,
    answers_steady,
    batch_norm,
    one_batch,
    cost,
)
