"""Causes in a network of somebody's own: what it computes, and what reaches its weights."""

from __future__ import annotations

import numpy as np
import torch

from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding
from danlu.diagnosis.gradients.checking import TensorCheck
from danlu.diagnosis.rules.table import Rule, found, prescribe
from danlu.diagnosis.signs import Signs
from danlu.errors import some

_LEARNT = 0.05  # share of chance's loss below which nothing keeps a network from learning
_BY_BENDS = 0.05  # relative error
_BOUND = 1e-3  # within which outputs count as those of a bounded function


def examples_mixed_in_batch(e: Evidence, s: Signs) -> Finding | None:
    """The answer to one example changes with those beside it, in evaluation mode."""
    if e.network is None or not e.network.is_mixed:
        return None
    return found("examples_mixed_in_batch", 1.0, {}, prescribe("look_at_axes"))


def dropout_in_evaluation(e: Evidence, s: Signs) -> Finding | None:
    """Equal questions get different answers in evaluation mode."""
    if e.network is None or e.network.is_steady:
        return None
    return found("dropout_in_evaluation", 0.9, {"calls": 2}, prescribe("switch_dropout_off"))


def wrong_gradient(e: Evidence, s: Signs) -> Finding | None:
    """Finite differences do not agree with what the backward pass gives."""
    checked = None if e.network is None else e.network.gradients
    if checked is None:
        return None
    wrong = [tensor for tensor in checked.tensors if tensor.is_wrong and not tensor.is_cut_off]
    # A detached input is nobody's mistake: only what learns counts.
    learning = [t for t in wrong if not _is_input(t) and not _may_be_bent(t)]
    if not learning:
        return None
    worst = max(learning, key=lambda tensor: tensor.error)
    return found(
        "wrong_gradient",
        1.0,
        {"error": worst.error, "names": some([t.name for t in learning], 3)},
        prescribe("mend_backward"),
    )


def _may_be_bent(tensor: TensorCheck) -> bool:
    """Whether a small error may be a bend that was not seen, as others were."""
    return tensor.error < _BY_BENDS and tensor.kinks > 0


def wrong_output_layer(e: Evidence, s: Signs) -> Finding | None:
    """Outputs are squeezed before the loss squeezes them again, or cannot reach the targets."""
    if e.network is None or not s.unlearnt > _LEARNT:
        return None
    far, outputs = e.network.far_outputs, e.network.outputs
    what = _squeezed(outputs) or _bounded(far)
    # In somebody's own loop the loss may take the probability of one of two classes.
    if e.recipe is None and what in ("sigmoid", "tanh") and len(e.class_counts) < 3:
        return None
    # Where the loss showed what it is made of, that has been looked at.
    if e.loop is not None and e.loop.has_seen_loss and e.class_counts:
        return None
    # Classes can be told by outputs between bounds, only not surely; numbers beyond them cannot.
    is_of_numbers = e.schema is not None and e.schema.is_regression
    if is_of_numbers and min(_lowest(far), _lowest(outputs)) >= 0:
        what = what or "softplus"
    if what is None or not (is_of_numbers or s.unlearnt > 0.2):
        return None
    return found(
        "wrong_output_layer",
        max(0.6, float(np.nan_to_num(s.unlearnt))),
        {"what": what},
        prescribe("plain_outputs"),
    )


def _squeezed(out: torch.Tensor) -> str | None:
    """Return which function outputs look like they went through; None for plain ones."""
    if out.numel() < 8 or not out.isfinite().all():
        return None
    low, high = float(out.min()), float(out.max())
    if out.shape[1] > 1 and low >= 0:
        sums = out.sum(1)
        if bool(((sums - 1).abs() < _BOUND).all()):
            return "softmax"
    if out.shape[1] > 1 and high <= 0:
        sums = out.exp().sum(1)
        if bool(((sums - 1).abs() < _BOUND).all()):
            return None  # log-softmax changes nothing for cross-entropy
    if low >= 0 and bool((out == 0).float().mean() > 0.1):
        return "relu"
    return None


def _lowest(out: torch.Tensor) -> float:
    """Return the lowest of some outputs; standardised targets lie on both sides of 0."""
    return float(out.min()) if out.numel() >= 8 else -1.0


def _bounded(far: torch.Tensor) -> str | None:
    """Return which function keeps outputs in bounds, however large inputs are; None for none."""
    if far.numel() < 8 or not far.isfinite().all():
        return None
    low, high = float(far.min()), float(far.max())
    # Layers before the last may be bounded, too, but not at 1.
    at_ends = float(
        ((far - low).abs() < _BOUND).logical_or((far - high).abs() < _BOUND).float().mean()
    )
    if at_ends < 0.5 or not abs(high - 1) < _BOUND:
        return None
    if abs(low) < _BOUND:
        sums = far.sum(-1)
        is_softmax = far.ndim == 2 and far.shape[1] > 1 and bool(((sums - 1).abs() < _BOUND).all())
        return "softmax" if is_softmax else "sigmoid"
    return "tanh" if abs(low + 1) < _BOUND else None


def frozen_weights(e: Evidence, s: Signs) -> Finding | None:
    """Weights that cannot learn, while the training part is not learnt."""
    if not s.unlearnt > 0.2:
        return None
    if e.recipe is not None and e.recipe.optimizer.lr == 0:
        return None
    names, cut_off = _without_updates(e), _without_gradient(e)
    unlisted = [] if e.network is None else e.network.unlisted
    if unlisted:
        figures: dict[str, float | int | str] = {"unlisted": some(unlisted, 3)}
    elif names:
        figures = {"names": some(names, 3), "layers": len(names)}
    elif cut_off:
        figures = {"cut_off": some(cut_off, 3)}
    else:
        return None
    cures = [prescribe("let_them_learn")]
    if unlisted:
        cures = [prescribe("register_modules")]
    elif cut_off and not names:
        cures = [prescribe("attach")]
    if e.recipe is not None and e.recipe.init.frozen:
        cures = [
            prescribe("unfreeze", "init.frozen=false"),
            prescribe("unfreeze_slowly", "init.frozen=false", "init.lr_factor=0.1"),
        ]
    return found("frozen_weights", s.unlearnt, figures, *cures)


def _without_updates(e: Evidence) -> list[str]:
    """Return weights that are frozen, or that the optimiser of a loop does not move."""
    names = dict.fromkeys(e.network.frozen if e.network is not None else ())
    if e.recipe is not None and e.recipe.init.frozen:
        names["the loaded weights"] = None
    return list(names | dict.fromkeys(e.unmoved))


def _without_gradient(e: Evidence) -> list[str]:
    """Return weights that the loss depends on, and no gradient reaches: something was detached."""
    checked = None if e.network is None else e.network.gradients
    if checked is None:
        return []
    return [t.name for t in checked.tensors if t.is_wrong and t.is_cut_off and not _is_input(t)]


def _is_input(tensor: TensorCheck) -> bool:
    return tensor.name.startswith("input")


ANYTHING = (
    "lr_too_low",
    "lr_too_high",
    "too_few_epochs",
    "dead_units",
    "overfitting",
    "overtrained",
    "too_little_data",
    "train_test_shift",
    "model_too_small",
    "vanishing_gradient",
    "init_too_small",
    "batch_too_large",
)


def too_narrow(e: Evidence, s: Signs) -> Finding | None:
    """In somebody's own loop, a layer of fewer units than classes need, and no other cause fits."""
    if e.recipe is not None or e.network is None or e.has_diverged or not s.unlearnt > 0.3:
        return None
    # Of a layer beside the others, such as a gate, nothing follows.
    if not e.class_counts or not e.network.is_chain:
        return None
    widths = e.network.hidden_widths
    if not widths or not min(widths) < np.sqrt(len(e.class_counts)) + 2:
        return None
    return found(
        "model_too_small",
        s.unlearnt,
        {"narrowest": min(widths), "unlearnt": s.unlearnt},
        prescribe("wider"),
    )


RULES = (
    Rule("model_too_small", too_narrow, is_last_resort=True),
    Rule("wrong_gradient", wrong_gradient, ANYTHING),
    Rule("examples_mixed_in_batch", examples_mixed_in_batch, (*ANYTHING, "wrong_output_layer")),
    Rule("dropout_in_evaluation", dropout_in_evaluation, ("overfitting", "train_test_shift")),
    Rule("wrong_output_layer", wrong_output_layer, ANYTHING),
    Rule("frozen_weights", frozen_weights, ANYTHING),
)
