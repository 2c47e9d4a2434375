"""Causes in the steps: their size, their noise, what cuts or scales them."""

from __future__ import annotations

import math

from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, Prescription
from danlu.diagnosis.rules.length import FEW_EPOCHS, was_stopped
from danlu.diagnosis.rules.table import (
    Rule,
    found,
    has_field,
    is_behind_simple_models,
    prescribe,
    rates,
)
from danlu.diagnosis.signs import Signs
from danlu.optim.optimizers import OPTIMIZERS

_UNLEARNT = 0.15  # share from which a slow training is worth a word
_VIOLENT = 0.1  # ‖ΔW‖/‖W‖: ten steps make other weights
_OVERTURNS = 0.5  # ‖ΔW‖/‖W‖ of a single step
_MADE_GOOD = 1.1  # the highest of the early losses, by the first
_SHAKEN = 1.05  # the same of a single layer, whose faint weights a good step makes others
_MEMORY = 1 / 3  # share of a training's steps that momentum adds up
_ROUNDING = 1e-7  # ‖ΔW‖/‖W‖: the precision of float32
_TINY = 2e-4  # ‖ΔW‖/‖W‖: thousands of steps to change a weight
SMALL_UPDATE = 20 * _TINY  # from which clipping is no matter


def _first_step_fails(s: Signs) -> bool:
    """Whether the first update made the loss larger, or far less small than it promised."""
    progress = s.measured.whole("progress")
    return bool(len(progress) and progress[0] < 0.15)


def lr_too_high(e: Evidence, s: Signs) -> Finding | None:
    """Updates overshoot: the first ones make the loss larger, or the gradient turn round."""
    if not (e.has_diverged or s.unlearnt > 0.3):
        return None
    growth = s.early_growth
    # By updates that large, steps that make the loss no smaller are no accident.
    least = 1.0 if s.hidden_layers else _SHAKEN
    is_lost = growth > least and s.early_update > _VIOLENT
    # A first step that fails by chance is made good by those that follow.
    is_large = (growth > least or s.hidden_layers > 0) and s.largest_early_update > _OVERTURNS
    fails = _first_step_fails(s) and (growth > _MADE_GOOD or is_large)
    # A loss that begins above chance may end there without having risen.
    is_killed = s.hidden_layers > 0 and s.unlearnt > 0.97 and s.largest_early_update > _VIOLENT * 3
    is_shaken = growth > 1.5 or is_lost or fails or (is_killed and _first_step_fails(s))
    if not is_shaken or not s.largest_early_update > 0.02:
        return None
    figures: dict[str, float | int | str] = {"update_ratio": s.largest_early_update}
    if growth > 1:
        figures["growth"] = growth
    if e.diverged_at is not None:
        figures["diverged_at"] = e.diverged_at
    cures = [*_usual_rate(e), *rates(e, 0.1, 0.01, 0.001), prescribe("clip", "clip.norm=1")]
    return found("lr_too_high", s.unlearnt, figures, *cures)


def _usual_rate(e: Evidence) -> list[Prescription]:
    """Return the rule's own default rate, where the present one is more than 1,000 times off."""
    if e.recipe is None or e.recipe.optimizer.name not in OPTIMIZERS:
        return []
    lr, usual = e.recipe.optimizer.lr, OPTIMIZERS[e.recipe.optimizer.name].defaults["lr"]
    if lr is None or usual / 1000 <= lr <= 1000 * usual:
        return []
    return [prescribe("lower_rate" if lr > usual else "higher_rate", f"optimizer.lr={usual:.3g}")]


def diverged(e: Evidence, s: Signs) -> Finding | None:
    """It diverged, and no other rule says why."""
    if e.diverged_at is None:
        return None
    start = [prescribe("usual_init", "init=auto", "init.bias=0")]
    start.append(prescribe("normalise", "normalize=zscore"))
    cures = [*rates(e, 0.1, 0.01), prescribe("clip", "clip.norm=1")] if e.diverged_at else []
    also = ["lr_too_high"] if e.diverged_at else []
    return found("diverged", 1.0, {"step": e.diverged_at}, *cures, *start, also=also)


def momentum_too_high(e: Evidence, s: Signs) -> Finding | None:
    """Momentum so near 1 that steps add up to many times the rate, and swing past the minimum."""
    momentum = e.settings.momentum
    if momentum is None or momentum < 0.97 or not s.unlearnt > _UNLEARNT:
        return None
    # Of a loss that fell all the way what is left may be noise.
    added_up = 1 / (1 - momentum)
    if not s.has_swung and added_up < _MEMORY * e.final("steps"):
        return None
    return found(
        "momentum_too_high",
        s.unlearnt,
        {"momentum": momentum, "steps": added_up},
        prescribe("usual_momentum", "optimizer.momentum=0.9"),
        *rates(e, 0.1, 0.01),
        also=["lr_too_high"],
    )


def clip_too_tight(e: Evidence, s: Signs) -> Finding | None:
    """Clipping leaves little of nearly every gradient."""
    factors = s.measured.whole("clip_factor")
    if not len(factors) or not s.unlearnt > _UNLEARNT:
        return None
    typical = s.typical_clip
    if not typical < 0.1 or not s.late_update < SMALL_UPDATE:
        return None
    return found(
        "clip_too_tight",
        s.unlearnt,
        {"clip_factor": typical, "update_ratio": s.late_update},
        prescribe("looser_clip", "clip.norm=1"),
        prescribe("no_clip", "clip.norm=0"),
    )


def optimizer_eps(e: Evidence, s: Signs) -> Finding | None:
    """ε outweighs the root of the squared gradients, so the rule's own scale is lost."""
    eps = e.settings.eps
    if eps is None or eps < 1e-4 or not s.unlearnt > _UNLEARNT:
        return None
    # The root mean square of a gradient's entries, which ε is added to.
    entry = s.early("gradient_norm") / math.sqrt(max(1.0, e.final("parameters")))
    if eps < entry:
        return None
    return found(
        "optimizer_eps",
        s.unlearnt,
        {"eps": eps, "update_ratio": s.late_update},
        prescribe("usual_eps", "optimizer.eps=1e-08"),
        also=["lr_too_low"],
    )


def batch_too_large(e: Evidence, s: Signs) -> Finding | None:
    """So few updates that the training ends before it has begun, though gradients have no noise."""
    recipe = e.recipe
    examples = e.examples
    if recipe is None or not examples or not s.unlearnt > 0.2:
        return None
    steps = e.final("steps") / recipe.accumulate
    batch = recipe.batch_size * recipe.accumulate
    if batch < examples / 6 or not steps < 150 or was_stopped(e):
        return None
    if not s.still_falling > 0 and not is_behind_simple_models(e):
        return None
    # Of tiny steps more would not help, either.
    if s.early_update < _TINY:
        return None
    smaller = max(16, min(64, batch // 8))
    if smaller >= batch:
        return None
    # What is averaged over several batches may stay so, if these are few enough.
    edits = [f"batch_size={smaller}"] if smaller < recipe.batch_size else []
    edits += ["accumulate=1"] if recipe.accumulate > 1 else []
    return found(
        "batch_too_large",
        max(s.unlearnt, 0.3),
        {"batch_size": batch, "steps": steps, "noise": s.late("gradient_noise")},
        prescribe("smaller_batch", *edits),
        *rates(e, 10),
        also=["too_few_epochs"],
    )


def batch_too_small(e: Evidence, s: Signs) -> Finding | None:
    """Steps go by a handful of examples, and what they say drowns in their noise."""
    recipe = e.recipe
    if recipe is None or recipe.batch_size * recipe.accumulate > 8 or not s.unlearnt > 0.1:
        return None
    noise, batch = s.late("gradient_noise"), recipe.batch_size * recipe.accumulate
    # Noise many times the batch, where steps are not small: it does not average out.
    if not noise > 30 * batch or not s.late_update > _TINY:
        return None
    return found(
        "batch_too_small",
        max(0.3, s.unlearnt),
        {"batch_size": batch, "noise": noise, "unlearnt": s.unlearnt},
        prescribe("larger_batch", "batch_size=64"),
        prescribe("average_gradients", f"accumulate={max(2, 64 // batch)}"),
        *rates(e, 0.1),
        also=["lr_too_high"],
    )


def batch_norm_tiny_batch(e: Evidence, s: Signs) -> Finding | None:
    """Batch normalisation by the statistics of a handful of examples."""
    batch = e.settings.batch_size
    if batch is None or batch > 4 or not e.settings.has_batch_norm or not s.unlearnt > _UNLEARNT:
        return None
    return found(
        "batch_norm_tiny_batch",
        max(0.3, s.unlearnt),
        {"batch_size": batch, "unlearnt": s.unlearnt},
        prescribe("larger_batch", "batch_size=32"),
        prescribe("no_batch_norm", "model.batch_norm=none"),
        *_layer_norm(e),
    )


def _layer_norm(e: Evidence) -> list[Prescription]:
    if not has_field(e, "layer_norm"):
        return []
    return [prescribe("layer_norm", "model.batch_norm=none", "model.layer_norm=before")]


def lr_too_low(e: Evidence, s: Signs) -> Finding | None:
    """Each update changes the weights by next to nothing, in the same direction as the last."""
    if not s.unlearnt > _UNLEARNT or e.has_diverged:
        return None
    is_smooth = s.late("gradient_cosine") > 0.97 and s.early("progress") > 0.8
    # Less than weights can tell: of such steps the progress is rounding.
    is_lost = s.late_update < _ROUNDING and s.early_update < _ROUNDING and e.recipe is not None
    is_tiny = s.late_update < _TINY and s.early_update < 5 * _TINY
    # In somebody's own loop neither is measured: then much must be left, and a gradient be there.
    is_unseen = e.recipe is None and s.unlearnt > 0.5 and s.late("gradient_norm") > 1e-4
    # Where weights get no gradient, no rate is at fault.
    is_unseen &= s.late_update > 0
    # A network that was trained before begins with a low loss, and with small steps.
    if e.is_chance_guessed and s.late_update > _TINY / 10:
        is_unseen = False
    # Steps that each do all they promise, of which there are far too few.
    is_straight = is_smooth and s.late("progress") > 0.9 and s.still_falling > 0.003
    is_short = s.late_update < 10 * _TINY and (s.unlearnt > 0.9 or is_behind_simple_models(e))
    is_long = e.recipe is not None and len(e.history) > FEW_EPOCHS
    is_slow = is_long and is_straight and is_short and s.unlearnt > 0.5
    if not is_slow and not (is_tiny and (is_smooth or is_lost or is_unseen)):
        return None
    return found(
        "lr_too_low",
        s.unlearnt,
        {"update_ratio": s.late_update, "cosine": s.late("gradient_cosine")},
        *_usual_rate(e),
        *rates(e, 10, 100, 1000),
        also=["clip_too_tight"] if is_unseen else [],
    )


RULES = (
    Rule(
        "momentum_too_high",
        momentum_too_high,
        ("lr_too_high", "dead_units", "too_few_epochs"),
    ),
    Rule(
        "lr_too_high",
        lr_too_high,
        (
            "dead_units",
            "saturated_activations",
            "too_few_epochs",
            "lr_too_low",
            "train_test_shift",
        ),
    ),
    Rule(
        "batch_norm_tiny_batch",
        batch_norm_tiny_batch,
        ("lr_too_high", "lr_too_low", "too_few_epochs", "dead_units", "vanishing_gradient"),
    ),
    Rule("batch_too_small", batch_too_small, ("lr_too_high", "dead_units", "too_few_epochs")),
    Rule("clip_too_tight", clip_too_tight, ("lr_too_low", "too_few_epochs")),
    Rule("optimizer_eps", optimizer_eps, ("lr_too_low", "too_few_epochs")),
    Rule("batch_too_large", batch_too_large, ("lr_too_low", "too_few_epochs")),
    Rule("lr_too_low", lr_too_low, ("too_few_epochs",)),
    Rule("diverged", diverged, is_last_resort=True),
)
