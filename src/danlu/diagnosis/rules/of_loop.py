"""Causes in the code of a loop that is not danlu's: what it forgets, cuts and scores by."""

from __future__ import annotations

import numpy as np

from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding
from danlu.diagnosis.rules.of_network import ANYTHING
from danlu.diagnosis.rules.steps import SMALL_UPDATE
from danlu.diagnosis.rules.table import Rule, found, prescribe
from danlu.diagnosis.signs import Signs

_LEARNT = 0.05
_UNLEARNT = 0.15
_SLOW = 0.2  # share of chance's loss from which a bad start or output is worth a word
_MEASURED = 4  # steps, from which equal gradients are no accident
_EQUAL = 1e-3
_CUT = 0.2  # share of a gradient's entries that are as large as its largest
_FAR = 100  # times the usual loss of a step


def gradients_kept(e: Evidence, s: Signs) -> Finding | None:
    """Every gradient has those of all steps before in it: nothing sets them to zero."""
    if e.loop is None or e.loop.kept < 2 or e.loop.zeroed > 1 or not s.unlearnt > _LEARNT:
        return None
    return found(
        "wrong_gradient", max(0.5, s.unlearnt), {"kept": e.loop.kept}, prescribe("zero_gradients")
    )


def gradients_lost(e: Evidence, s: Signs) -> Finding | None:
    """Something sets gradients to zero between the backward pass and the step."""
    if e.loop is None or e.loop.lost < 2 or s.late_update > 0:
        return None
    return found("wrong_gradient", 1.0, {"lost": e.loop.lost}, prescribe("zero_before_backward"))


def below_zero(e: Evidence, s: Signs) -> Finding | None:
    """The loss of classes is below 0, as no cross-entropy is."""
    losses = np.array(e.step_losses, dtype=float)
    if e.loop is None or not e.class_counts or not len(losses) or not np.nanmin(losses) < -0.1:
        return None
    lowest = float(np.nanmin(losses))
    return found("wrong_output_layer", 0.9, {"lowest": lowest}, prescribe("log_probabilities"))


def scored_in_training(e: Evidence, s: Signs) -> Finding | None:
    """Examples are scored in training mode, in which units are dropped and batches matter."""
    # Once may be another purpose, such as statistics that are made anew.
    if e.loop is None or not 2 * e.loop.scored_in_training >= max(1, len(e.history)):
        return None
    return found(
        "dropout_in_evaluation",
        0.7,
        {"scored": e.loop.scored_in_training, "epochs": len(e.history)},
        prescribe("evaluation_mode"),
    )


def squeezed_twice(e: Evidence, s: Signs) -> Finding | None:
    """The loss takes logits, and gets what a sigmoid or the like leaves of them."""
    if e.loop is None or e.loop.squeezed_by is None or not s.unlearnt > _SLOW:
        return None
    return found(
        "wrong_output_layer",
        max(0.6, s.unlearnt),
        {"what": e.loop.squeezed_by},
        prescribe("plain_outputs"),
    )


def always_clipped(e: Evidence, s: Signs) -> Finding | None:
    """Every gradient has the same size, as only clipping makes it, and steps are small."""
    if e.loop is None or not s.unlearnt > _UNLEARNT or not s.late_update < SMALL_UPDATE:
        return None
    # Other rules than SGD divide by the gradient's own size: to them clipping is all one.
    if e.settings.eps is not None or not e.settings.decays_gradient:
        return None
    # Of a loss that stays where it is, gradients do so as well.
    losses = np.array(e.step_losses, dtype=float)
    if not len(losses) or not np.nanmax(losses) - np.nanmin(losses) > _EQUAL * np.nanmax(losses):
        return None
    is_cut = float(np.median(e.loop.at_largest or [0.0])) > _CUT
    for sizes in (e.loop.norms, e.loop.largest if is_cut else []):
        is_equal = len(sizes) >= _MEASURED and np.ptp(sizes) < _EQUAL * max(sizes)
        if is_equal and max(sizes) > 0:
            figures = {"clipped_to": float(np.median(sizes)), "update_ratio": s.late_update}
            return found("clip_too_tight", s.unlearnt, {**figures}, prescribe("no_clip"))
    return None


def biases_decide(e: Evidence, s: Signs) -> Finding | None:
    """Initial biases are most of what a layer gives, and it starts far off or gets no gradient."""
    if e.loop is None or not s.unlearnt > _SLOW:
        return None
    sizes, gradients = s.at_start("activation_rms"), s.at_start("weight_gradient")
    for layer in s.weight_layers:
        bias, size = e.loop.biases.get(layer, 0.0), sizes.get(layer, 0.0)
        is_last = layer == s.weight_layers[-1]
        is_lost = s.start > 3 and size > 3 if is_last else gradients.get(layer) == 0
        if is_lost and bias > (0.7 if is_last else 0.9) * size > 0:
            return found(
                "init_bias_bad",
                s.unlearnt,
                {"layer": layer, "bias": bias, "size": size},
                prescribe("zero_bias"),
            )
        # What follows a layer that gives the same for all gives its biases.
        if gradients.get(layer) == 0:
            return None
    return None


def few_large_targets(e: Evidence, s: Signs) -> Finding | None:
    """A few steps have most of the loss, and held-out examples almost none of it."""
    losses = np.array(e.step_losses, dtype=float)
    if e.loop is None or e.class_counts or e.has_diverged or len(losses) < 30:
        return None
    late = losses[len(losses) // 3 :]
    largest, usual = float(late.max()), float(np.median(late))
    trained, held_out = e.final("train_loss"), e.final("valid_loss")
    if not s.unlearnt > _UNLEARNT or not trained > 10 * held_out > 0 or not usual > 0:
        return None
    # Again and again: a loss that falls has its large ones at the beginning.
    if not all((third > _FAR * usual).any() for third in np.array_split(late, 3)):
        return None
    return found(
        "outliers_in_target",
        0.8,
        {"largest": largest, "usual": usual, "running": trained, "held_out": held_out},
        prescribe("look_at_outliers"),
        also=["lr_too_high"],
    )


_BAD_STEPS = ("lr_too_high", "lr_too_low", "too_few_epochs", "dead_units", "init_too_large")
RULES = (
    Rule("wrong_gradient", gradients_kept, (*ANYTHING, "momentum_too_high", "exploding_gradient")),
    Rule("wrong_gradient", gradients_lost, (*ANYTHING, "frozen_weights")),
    Rule("wrong_output_layer", below_zero, (*ANYTHING, "exploding_gradient")),
    Rule(
        "dropout_in_evaluation",
        scored_in_training,
        ("overfitting", "overtrained", "train_test_shift", "dropout_too_strong"),
    ),
    Rule("wrong_output_layer", squeezed_twice, ANYTHING),
    Rule("clip_too_tight", always_clipped, ("lr_too_low", "too_few_epochs")),
    Rule("init_bias_bad", biases_decide, _BAD_STEPS),
    Rule("outliers_in_target", few_large_targets, ("lr_too_high", "exploding_gradient")),
)
