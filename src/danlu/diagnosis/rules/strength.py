"""Causes in what holds a network back: penalties, dropout, smoothing, augmentation."""

from __future__ import annotations

import math

import numpy as np

from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding
from danlu.diagnosis.rules.table import Rule, found, is_behind_simple_models, prescribe
from danlu.diagnosis.signs import Signs

_UNLEARNT = 0.2
_MORE_THAN_USUAL = 0.6  # dropout
_DOMINATES = 0.3  # share of the gradient, or of the update


def l1_too_strong(e: Evidence, s: Signs) -> Finding | None:
    """L1 is most of the gradient, and the network does not fit its own training part."""
    return _penalty(e, s, "l1")


def l2_too_strong(e: Evidence, s: Signs) -> Finding | None:
    """L2 is most of the gradient, and the network does not fit its own training part."""
    return _penalty(e, s, "l2")


def _penalty(e: Evidence, s: Signs, name: str) -> Finding | None:
    if e.recipe is None:
        return None
    strengths = {"l1": e.recipe.penalty.l1, "l2": e.recipe.penalty.l2}
    # Weights that are gone are penalised no more: the early steps tell.
    strength = strengths[name]
    share = float(np.fmax(s.early("penalty_share"), s.late("penalty_share")))
    is_weaker = strength < max(strengths.values())
    if not strength or is_weaker or not s.unlearnt > _UNLEARNT or not share > _DOMINATES:
        return None
    return found(
        f"{name}_too_strong",
        s.unlearnt,
        {"strength": strength, "share": share, "unlearnt": s.unlearnt},
        prescribe("weaker_penalty", f"penalty.{name}={strength / 100:.3g}"),
        prescribe("no_penalty", f"penalty.{name}=0"),
    )


def weight_decay_too_strong(e: Evidence, s: Signs) -> Finding | None:
    """Decay takes off as much as the updates put on."""
    decay = e.settings.weight_decay or 0.0
    share = float(np.nanmax(s.measured.whole("decay_share"), initial=0.0))
    if decay and e.settings.decays_gradient:
        share = s.late_decay(decay)
    elif e.recipe is None and e.loop is not None and decay:
        share = s.late_decay_of_weights(decay, e.loop.rates)
    # Of weights that keep their size what is left to learn may be noise.
    if e.recipe is None and not s.growth_of_weights < 0.9:
        return None
    if not decay or not s.unlearnt > _UNLEARNT or not share > _DOMINATES:
        return None
    return found(
        "weight_decay_too_strong",
        s.unlearnt,
        {"weight_decay": decay, "share": share, "unlearnt": s.unlearnt},
        prescribe("weaker_decay", f"optimizer.weight_decay={decay / 100:.3g}"),
        prescribe("no_decay", "optimizer.weight_decay=0"),
    )


def dropout_too_strong(e: Evidence, s: Signs) -> Finding | None:
    """So many units are left out that what is left cannot fit the training part."""
    p = e.settings.dropout or 0.0
    if p < 0.4 or not s.unlearnt > _UNLEARNT:
        return None
    with_masks, without = s.late("sample_loss_training"), s.late("sample_loss")
    if e.recipe is None:
        # Held-out examples are asked without masks. Half is usual, and no fault by itself.
        with_masks, without = e.final("train_loss"), e.final("valid_loss")
        if p < _MORE_THAN_USUAL and not without < 0.9 * with_masks:
            return None
    figures = {"dropout": p, "with": with_masks, "without": without, "unlearnt": s.unlearnt}
    return found(
        "dropout_too_strong",
        s.unlearnt,
        {name: figure for name, figure in figures.items() if not math.isnan(figure)},
        prescribe("less_dropout", "model.dropout=0.2"),
        prescribe("no_dropout", "model.dropout=0"),
    )


def label_smoothing_too_strong(e: Evidence, s: Signs) -> Finding | None:
    """Targets so soft that they are near what chance would answer, or beyond it."""
    smoothing = 0.0 if e.recipe is None else float(e.recipe.loss.label_smoothing or 0)
    classes = len(e.class_counts)
    if classes < 2 or not smoothing:
        return None
    # At (K − 1)/K every class has the same share; above it the right one has the least.
    even = (classes - 1) / classes
    if smoothing < 0.5 * even:
        return None
    return found(
        "label_smoothing_too_strong",
        max(0.5, float(np.nan_to_num(s.unlearnt))),
        {"smoothing": smoothing, "even": even, "right": 1 - smoothing},
        prescribe("less_smoothing", "loss.label_smoothing=0.1"),
        prescribe("no_smoothing", "loss.label_smoothing=0"),
    )


def augment_wrong(e: Evidence, s: Signs) -> Finding | None:
    """Pictures are turned or mirrored into pictures of something else."""
    on = _augmentations(e)
    if e.recipe is None or not (e.recipe.augment.rotate > 45 or on == ["flip"]):
        return None
    turning = [name for name in on if name in ("rotate", "flip")]
    return _harder_than_asked(e, s, "augment_wrong", turning)


def augment_too_strong(e: Evidence, s: Signs) -> Finding | None:
    """What the network is shown in training is much harder than what it is asked."""
    return _harder_than_asked(e, s, "augment_too_strong", _augmentations(e))


def _harder_than_asked(e: Evidence, s: Signs, cause: str, changes: list[str]) -> Finding | None:
    """Return the finding where augmentation makes examples harder, and the plain ones stay hard."""
    running = e.curve("train_loss")
    if e.recipe is None or not changes or not len(running) or not s.unlearnt > 0.15:
        return None
    shown, plain = float(running[-1]), s.late("sample_loss")
    # Where nothing at all is learnt, both are those of chance; a few dropped words do not do that.
    may_hide_all = changes != ["word_dropout"] or e.recipe.augment.word_dropout > 0.5
    is_lost = may_hide_all and s.unlearnt > 0.9
    is_harder = shown > 1.15 * plain > 0 or is_lost or is_behind_simple_models(e)
    if math.isnan(plain) or not is_harder:
        return None
    return found(
        cause,
        max(0.2, s.unlearnt),
        {"shown": shown, "plain": plain, "unlearnt": s.unlearnt},
        prescribe("no_augmentation", *(_off(name) for name in changes)),
    )


def _augmentations(e: Evidence) -> list[str]:
    """Return the augmentations that are on."""
    if e.recipe is None:
        return []
    return [name for name, value in e.recipe.augment.model_dump().items() if value]


def _off(name: str) -> str:
    return f"augment.{name}={'false' if name == 'flip' else 0}"


_SLOW = ("dead_units", "too_few_epochs", "lr_too_low")  # a network held back looks like that
RULES = (
    Rule("l1_too_strong", l1_too_strong, ("lr_too_low", "lr_too_high", "dead_units")),
    Rule("l2_too_strong", l2_too_strong, ("lr_too_low", "lr_too_high", "dead_units")),
    Rule("weight_decay_too_strong", weight_decay_too_strong, ("lr_too_high", "dead_units")),
    Rule(
        "dropout_too_strong",
        dropout_too_strong,
        ("dead_units", "init_too_large", "lr_too_high", "too_few_epochs", "lr_too_low"),
    ),
    Rule(
        "label_smoothing_too_strong", label_smoothing_too_strong, ("lr_too_low", "too_few_epochs")
    ),
    Rule("augment_wrong", augment_wrong, ("augment_too_strong", *_SLOW)),
    Rule("augment_too_strong", augment_too_strong, _SLOW),
)
