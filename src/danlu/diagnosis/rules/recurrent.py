"""Causes in how gradients travel: through time, or through many layers."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, Prescription
from danlu.diagnosis.rules.table import Rule, found, prescribe
from danlu.diagnosis.signs import Signs, median
from danlu.train.probes.recurrent import DISTANCES

_FORGOTTEN = 1e-3  # of the gradient of the last step
_GROWN = 30.0


def _by_distance(s: Signs) -> np.ndarray | None:
    """Return how large the gradient is at each distance in time, by that at the last step [D].

    The median over the measured steps, of the recurrent layer that sees the inputs; None without.
    """
    for layer in s.measured.layers:
        rows = [row for row in s.measured.lists(layer, "gradient_by_distance") if len(row)]
        if not rows:
            continue
        with np.errstate(all="ignore"):
            relative = np.stack(
                [row / row[0] for row in rows if row[0] > 0] or [rows[0] * math.nan]
            )
        if np.isfinite(relative).any():
            relative[~np.isfinite(relative)] = math.nan
            return np.array([median(column) for column in relative.T])
    return None


def rnn_memory_too_short(e: Evidence, s: Signs) -> Finding | None:
    """The gradient fades on its way back in time, and little is learnt."""
    by_distance = _by_distance(s)
    if by_distance is None or not s.unlearnt > 0.3 or e.has_diverged:
        return None
    faint = [DISTANCES[k] for k, g in enumerate(by_distance) if g < _FORGOTTEN]
    if not faint:
        return None
    reach = max((d for k, d in enumerate(DISTANCES[: len(by_distance)])
                 if by_distance[k] >= _FORGOTTEN), default=0)  # fmt: skip
    length = 0 if e.schema is None else e.schema.input_shape[0]
    # What is forgotten must be much of what there is to read.
    if length and reach > length / 2:
        return None
    if not _forgets(e):
        return None
    return found(
        "rnn_memory_too_short",
        s.unlearnt,
        {"distance": reach, "length": length, "unlearnt": s.unlearnt},
        *_gated(e),
    )


def _forgets(e: Evidence) -> bool:
    """Whether its cells have nothing that keeps a state, or what keeps it is shut."""
    if e.recipe is None:
        return True
    if e.recipe.is_imported:
        modules = [] if e.network is None else list(e.network.model.modules())
        is_plain = any(type(module) is nn.RNN for module in modules)
        return is_plain and not any(isinstance(module, (nn.LSTM, nn.GRU)) for module in modules)
    is_shut = (e.recipe.model.forget_bias or 0.0) < 0
    return e.recipe.model.name.startswith("rnn") or is_shut


def _gated(e: Evidence) -> list[Prescription]:
    if e.recipe is not None and (e.recipe.model.forget_bias or 0.0) < 0:
        return [prescribe("open_gate", "model.forget_bias=1")]
    if e.recipe is None or not e.recipe.model.name.startswith("rnn"):
        return [prescribe("gated_cell")]
    return [prescribe("gated_cell", "model=lstm"), prescribe("gated_cell", "model=gru")]


def exploding_gradient(e: Evidence, s: Signs) -> Finding | None:
    """Gradients grow from step to step in time, or from layer to layer on their way back."""
    if not (e.has_diverged or s.unlearnt > 0.3):
        return None
    by_distance = _by_distance(s)
    growth = math.nan
    if by_distance is not None and np.isfinite(by_distance).any():
        growth = float(np.nanmax(by_distance))
    norms = s.measured.whole("gradient_norm")
    finite = norms[np.isfinite(norms)]
    spike = float(finite.max() / max(np.median(finite), 1e-30)) if len(finite) > 2 else math.nan
    of_gradients = (growth, _growth_through_layers(s))
    worst = max((g for g in of_gradients if not math.isnan(g)), default=math.nan)
    of_values = _growth_of_values(s)
    if not worst > _GROWN and not of_values > _GROWN:
        return None
    cures = [prescribe("clip", "clip.norm=1")]
    if e.recipe is not None and e.recipe.optimizer.lr is not None:
        cures.append(prescribe("lower_rate", f"optimizer.lr={e.recipe.optimizer.lr / 10:.3g}"))
    cures.append(prescribe("usual_init", "init=auto"))
    if by_distance is not None:
        cures += _gated(e)
    figures: dict[str, float | int | str] = {"growth": worst, "spike": spike}
    if not worst > _GROWN:
        figures = {"of_values": of_values, "start": s.start}
    return found("exploding_gradient", s.unlearnt, figures, *cures, also=["lr_too_high"])


def _growth_through_layers(s: Signs) -> float:
    """Return the first layer's gradient by the last one's, before the first step."""
    gradients, sizes = s.at_start("weight_gradient"), s.at_start("weight_norm")
    layers = [k for k in s.weight_layers if k in gradients and sizes.get(k, 0) > 0]
    norms = [gradients[k] / sizes[k] for k in layers]
    return norms[0] / norms[-1] if len(norms) > 4 and norms[-1] > 0 else math.nan


def _growth_of_values(s: Signs) -> float:
    """Return what the last of many layers gives by what the first does, where the loss is far off.

    All gradients are as many times too large.
    """
    sizes = s.at_start("activation_rms")
    rows = [sizes[layer] for layer in s.weight_layers if layer in sizes]
    is_many = len(rows) > 4 and rows[0] > 0 and s.start > 3
    return rows[-1] / rows[0] if is_many else math.nan


RULES = (
    Rule(
        "exploding_gradient",
        exploding_gradient,
        (
            "lr_too_high",
            "dead_units",
            "saturated_activations",
            "too_few_epochs",
            "init_too_large",
        ),
    ),
    Rule(
        "rnn_memory_too_short",
        rnn_memory_too_short,
        # Of texts nothing but the network itself tells whether there is something to learn.
        (
            "lr_too_low",
            "too_few_epochs",
            "vanishing_gradient",
            "shuffled_labels",
            "nothing_to_learn",
            "overfitting",
        ),
    ),
)
