"""Causes that are there before the first step: initial values, scale of the inputs, depth."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, Prescription
from danlu.diagnosis.rules.table import (
    Rule,
    found,
    has_field,
    is_behind_simple_models,
    prescribe,
)
from danlu.diagnosis.signs import HANDFUL, Signs
from danlu.errors import some

_LINEAR = ("softmax", "softmax-explicit")  # networks of one layer
_FAR_INPUTS = 4  # root of the mean square; standardised ones have 1
_FAR = 4  # root of the mean square of what a layer gives
_LEARNT = 0.05  # unlearnt share below which there is nothing to complain of
_BARELY = 0.15  # from which units that are all alike are no accident
_SLOW_START = 0.3  # unlearnt share from which a bad start is worth a word


def init_symmetric(e: Evidence, s: Signs) -> Finding | None:
    """Every unit of a hidden layer is the same: they have equal weights, or give only zeros."""
    hidden = list(s.at_start("activation_rms").values())[:-1]
    gives_nothing = bool(hidden) and max(hidden) == 0
    is_zero = e.recipe is not None and e.recipe.init.name == "zeros"
    stayed_alike = e.network is not None and e.network.stayed_alike
    if math.isnan(s.unlearnt) or s.hidden_layers < 1:
        return None
    if not gives_nothing and not (s.unlearnt > _BARELY and (is_zero or stayed_alike)):
        return None
    return found(
        "init_symmetric",
        max(s.unlearnt, 0.5),
        {"layers": s.hidden_layers, "unlearnt": s.unlearnt},
        prescribe("usual_init", "init=auto"),
    )


def init_bias_bad(e: Evidence, s: Signs) -> Finding | None:
    """Biases, not inputs, decide what units give: rectifiers dead or units saturated at once."""
    means, sizes = s.at_start("activation_mean"), s.at_start("activation_rms")
    off = {**s.at_start("dead"), **s.at_start("saturated")}
    if not off or max(off.values()) < 0.7:
        return None
    layers = [k for k in s.weight_layers if sizes.get(k, 0) > 0]
    # Of a loop the biases themselves are known.
    if e.loop is not None:
        layers = [k for k in layers if e.loop.biases.get(k, math.inf) > 0.5 * sizes[k]]
    shares = {k: abs(means[k]) / sizes[k] for k in layers if k != s.weight_layers[-1]}
    shifted = [share for share in shares.values() if share > 0.9]
    if not shifted or not s.unlearnt > _SLOW_START:
        return None
    return found(
        "init_bias_bad",
        s.unlearnt,
        {"off": max(off.values()), "bias_share": max(shifted), "unlearnt": s.unlearnt},
        prescribe("zero_bias", "init.bias=0"),
    )


def inputs_not_normalised(e: Evidence, s: Signs) -> Finding | None:
    """Inputs far from 0 and 1: what the first layer gives is large before the first step."""
    is_raw = _are_far_from_0(e) if e.recipe is None else e.recipe.normalize == "none"
    if not is_raw or not s.weight_layers:
        return None
    first = s.at_start("activation_rms").get(s.weight_layers[0], math.nan)
    # A network of somebody's own may begin with a layer that nothing drives beyond 1.
    is_off = first > 5 or first < 0.02 or _are_far_from_0(e)
    if not is_off or not (s.start > 2 or s.unlearnt > _SLOW_START):
        return None
    return found(
        "inputs_not_normalised",
        max(s.unlearnt, 0.3),
        {"first_layer": first, "start": s.start},
        prescribe("normalise", "normalize=zscore"),
    )


def _are_far_from_0(e: Evidence) -> bool:
    """Whether what somebody's own loop shows the network are numbers far from 0 and 1."""
    if e.network is None or not e.network.x.is_floating_point() or not e.network.x.numel():
        return False
    if e.network.begins_normalised:
        return False
    return float(e.network.x.square().mean().sqrt()) > _FAR_INPUTS


def init_too_large(e: Evidence, s: Signs) -> Finding | None:
    """The first loss is far above that of chance, as layers enlarge what they are given."""
    sizes = s.at_start("activation_rms")
    if not s.weight_layers or not s.start > 3:
        return None
    first = sizes.get(s.weight_layers[0], math.nan)
    if e.recipe is not None and e.recipe.normalize == "none":
        return None
    largest = max((sizes[layer] for layer in s.weight_layers if layer in sizes), default=math.nan)
    is_usual = e.recipe is not None and e.recipe.init.name == "auto"
    has_suffered = s.unlearnt > _SLOW_START or is_behind_simple_models(e)
    is_shown = s.start > 2 * _FAR and largest > _FAR and has_suffered and not is_usual
    if not first > _FAR and not is_shown:
        return None
    return found(
        "init_too_large",
        max(s.unlearnt, 0.4),
        {"start": s.start, "first_layer": first, "largest": largest},
        prescribe("usual_init", "init=auto"),
        also=["inputs_not_normalised"],
    )


def init_too_small(e: Evidence, s: Signs) -> Finding | None:
    """Signals fade from layer to layer, and the first steps change nothing."""
    sizes = s.at_start("activation_rms")
    rows = [sizes[layer] for layer in s.weight_layers if layer in sizes]
    # A last layer of 0 is a common start: what comes before it is asked.
    if rows and rows[-1] == 0:
        rows = rows[:-1]
    if len(rows) < 2 or not rows[0] > 0 or s.hidden_layers > 12:
        return None
    fading = rows[-1] / rows[0]
    is_faint = rows[0] < 0.05 or fading < 1e-3
    if not is_faint or not len(s.losses) > 3 or max(rows) == 0:
        return None
    moved = abs(1 - float(s.losses[2] / s.losses[0]))
    if moved > 0.02 and not s.unlearnt > _SLOW_START:
        return None
    return found(
        "init_too_small",
        max(s.unlearnt, 0.2),
        {"first_layer": rows[0], "last_layer": rows[-1], "moved": moved},
        prescribe("usual_init", "init=auto"),
    )


def _gradient_ratio(s: Signs) -> float:
    """Return the norm of the first layer's gradient by that of the last one's."""
    gradients = s.at_start("weight_gradient")
    norms = [gradients[layer] for layer in s.weight_layers if layer in gradients]
    return norms[0] / norms[-1] if len(norms) > 1 and norms[-1] > 0 else math.nan


def _fading(s: Signs, sizes: Mapping[str, float]) -> float:
    """Return the size of what the last layer gives by that of the first."""
    rows = [sizes[layer] for layer in s.weight_layers if layer in sizes]
    return rows[-1] / rows[0] if rows and rows[0] > 0 else math.nan


def _is_plain(e: Evidence) -> bool:
    """Whether nothing in a network keeps signals at their size: no shortcut, no normalisation."""
    if e.recipe is None or not has_field(e, "residual") or e.recipe.has_batch_norm:
        return False
    model = e.recipe.model
    return not model.residual and model.layer_norm in (None, "none")


def too_deep(e: Evidence, s: Signs) -> Finding | None:
    """So many layers without a shortcut that signal or gradient fades on its way."""
    if s.hidden_layers < 12:
        return None
    # Of a plain network so deep, that it is behind simple models says as much.
    is_over = not s.still_falling > 0.03
    is_behind = is_over and _is_plain(e) and is_behind_simple_models(e)
    if not s.unlearnt > _SLOW_START and not is_behind:
        return None
    fading = _fading(s, s.at_start("activation_rms"))
    if s.unlearnt > 0.9 and _is_plain(e):
        # Units may die out on the way, only later.
        fading = float(np.fmin(fading, _fading(s, s.at_end("activation_rms"))))
    ratio = _gradient_ratio(s)
    fades = fading < 0.1 or ratio < 0.02 or ratio > 50
    if not fades and not is_behind:
        return None
    cures = _against_fading(e)
    if e.recipe is not None and e.recipe.model.hidden:
        fewer = list(e.recipe.model.hidden)[:3]
        cures.insert(0, prescribe("fewer_layers", f"model.hidden={fewer}"))
    return found(
        "too_deep",
        s.unlearnt,
        {
            "layers": s.hidden_layers,
            **({"fading": fading, "gradient_ratio": ratio} if fades else _behind(e)),
        },
        *cures,
    )


def _behind(e: Evidence) -> dict[str, float]:
    """Return what was reached on held-out examples, and what simple models reach."""
    assert e.data is not None
    if e.is_running_text:
        return {"loss": e.final("valid_loss"), "counted": e.data.pairs_loss}
    metric = e.data.data.schema.metric
    return {"held_out": e.final(f"valid_{metric}"), "simple": e.data.learnable}


def _against_fading(e: Evidence) -> list[Prescription]:
    """Return what keeps signals and gradients at their size through many layers."""
    cures = []
    if has_field(e, "batch_norm"):
        cures.append(prescribe("batch_norm", "model.batch_norm=before"))
    if has_field(e, "residual"):
        cures.append(prescribe("shortcuts", "model.residual=true", "model.layer_norm=before"))
    return cures


def _rectifier(e: Evidence) -> list[Prescription]:
    """Return ReLU where the network has another activation."""
    if e.recipe is None or e.recipe.model.activation in (None, "relu"):
        return []
    return [prescribe("rectifier", "model.activation=relu")]


def vanishing_gradient(e: Evidence, s: Signs) -> Finding | None:
    """The gradient of the first layer is a small part of that of the last."""
    ratio = _gradient_ratio(s)
    if not ratio < 1e-2 or s.hidden_layers < 3 or not s.unlearnt > _SLOW_START:
        return None
    return found(
        "vanishing_gradient",
        s.unlearnt,
        {"gradient_ratio": ratio, "layers": s.hidden_layers},
        *_rectifier(e),
        *_against_fading(e),
        also=["too_deep", "init_too_small"],
    )


def saturated_activations(e: Evidence, s: Signs) -> Finding | None:
    """Most values of an activation lie where its slope is nearly 0."""
    shares = s.at_start("saturated")
    late = s.at_end("saturated")
    both = [min(shares[k], late[k]) for k in shares if k in late]
    if not both or not max(both) > 0.6 or not s.unlearnt > 0.2:
        return None
    return found(
        "saturated_activations",
        max(s.unlearnt, 0.3),
        {"saturated": max(both), "unlearnt": s.unlearnt},
        prescribe("usual_init", "init=auto"),
        *_rectifier(e),
        *_against_fading(e)[:1],
        also=["init_too_large"],
    )


def dead_units(e: Evidence, s: Signs) -> Finding | None:
    """Rectifiers that give 0 for every example, and learn no more."""
    shares = s.at_end("dead")
    # Of a handful of examples many units are 0 for each, and may serve others.
    if e.recipe is None and (e.settings.batch_size or HANDFUL) < HANDFUL:
        shares = {}
    if not shares or not max(shares.values()) > 0.7:
        return _without_gradient(e, s)
    if not s.unlearnt > _SLOW_START and not is_behind_simple_models(e):
        return None
    worst = max(shares, key=lambda layer: shares[layer])
    return found(
        "dead_units",
        s.unlearnt * max(shares.values()),
        {"layer": worst, "dead": shares[worst], "at_start": s.at_start("dead").get(worst, 0.0)},
        *_against_dead_units(e),
        also=["lr_too_high", "init_bias_bad"],
    )


def _without_gradient(e: Evidence, s: Signs) -> Finding | None:
    """Return the finding where hidden weights of a loop never get a gradient, and biases do.

    Functions such as `relu` are not seen, but what they let through is.
    """
    first, last = s.at_start("weight_gradient"), s.at_end("weight_gradient")
    # What nothing calls has no gradient either.
    called = s.at_start("activation_rms")
    silent = [k for k in s.weight_layers if k in called and first.get(k) == last.get(k) == 0]
    is_alive = s.late("gradient_norm") > 0
    if e.recipe is not None or not silent or not is_alive or not s.unlearnt > _SLOW_START:
        return None
    figures = {"silent": some(silent, 3)}
    return found(
        "dead_units", s.unlearnt, {**figures}, *_against_dead_units(e), also=["init_bias_bad"]
    )


def _against_dead_units(e: Evidence) -> list[Prescription]:
    """Return what lets gradients through, and what kills fewer units."""
    cures = []
    if has_field(e, "activation"):
        cures.append(prescribe("leaky", "model.activation=leaky-relu"))
        cures.append(prescribe("self_normalising", "model.activation=selu"))
    if e.settings.lr is not None:
        cures.append(prescribe("lower_rate", f"optimizer.lr={e.settings.lr / 10:.3g}"))
    cures.append(prescribe("usual_init", "init=auto"))
    return [*cures, *_against_fading(e)[:1]]


def missing_nonlinearity(e: Evidence, s: Signs) -> Finding | None:
    """Hidden layers with nothing between them are one layer, which does not suffice."""
    is_one_layer = e.recipe is not None and e.recipe.model.name in _LINEAR
    if s.hidden_layers < 1 and not is_one_layer:
        return None
    is_own = e.network is not None and e.network.is_affine
    is_plain = e.recipe is not None and e.recipe.model.activation == "identity"
    if not is_own and not is_plain and not is_one_layer:
        return None
    if not _could_do_better(e, s):
        return None
    return found(
        "missing_nonlinearity",
        max(0.5, float(np.nan_to_num(s.unlearnt))),
        _errors_of_models(e) if is_one_layer else {"layers": s.hidden_layers},
        prescribe("hidden_layer", "model=dense")
        if is_one_layer
        else prescribe("rectifier", "model.activation=relu"),
    )


def _errors_of_models(e: Evidence) -> dict[str, float | int | str]:
    """Return the out-of-fold errors of models that are linear, and of others."""
    if e.data is None or e.data.data.schema.is_text:
        return {"layers": 1}
    linear, other = e.data.errors_of_models
    return {"linear": linear, "other": other}


def _could_do_better(e: Evidence, s: Signs) -> bool:
    """Whether models that are not linear err less; where that is not known, they might."""
    if e.data is None or e.data.data.schema.is_text:
        return s.unlearnt > _LEARNT
    linear, other = e.data.errors_of_models
    by_luck = 2 * math.sqrt((linear + other) / max(1, e.data.part_size("train")))
    is_shown = e.data.data.schema.is_regression or linear - other > by_luck
    return other < 0.85 * linear and is_shown


RULES = (
    Rule(
        "init_symmetric",
        init_symmetric,
        ("dead_units", "lr_too_low", "vanishing_gradient", "init_too_small", "too_few_epochs"),
    ),
    Rule(
        "inputs_not_normalised",
        inputs_not_normalised,
        ("init_too_large", "lr_too_high", "dead_units", "saturated_activations", "lr_too_low"),
    ),
    Rule(
        "init_bias_bad",
        init_bias_bad,
        ("dead_units", "saturated_activations", "lr_too_low", "vanishing_gradient"),
    ),
    Rule(
        "saturated_activations",
        saturated_activations,
        ("init_too_large", "lr_too_low", "too_few_epochs", "vanishing_gradient"),
    ),
    Rule(
        "init_too_large",
        init_too_large,
        ("lr_too_high", "lr_too_low", "dead_units", "too_few_epochs"),
    ),
    Rule(
        "too_deep",
        too_deep,
        ("vanishing_gradient", "init_too_small", "dead_units", "lr_too_low", "lr_too_high"),
    ),
    Rule("init_too_small", init_too_small, ("vanishing_gradient", "lr_too_low", "too_few_epochs")),
    Rule("vanishing_gradient", vanishing_gradient, ("lr_too_low", "too_few_epochs")),
    Rule("missing_nonlinearity", missing_nonlinearity, ()),
    Rule("dead_units", dead_units, ("lr_too_low",)),
)
