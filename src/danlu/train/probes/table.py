"""The probes: what is measured of each layer, and of each network as a whole.

A probe is a row: its name, the place it looks at, and a function of what M networks have there.
Sample: `danlu.train.probes.sample`, passed forward and backward in training mode, in two halves.

Legend: M networks, P examples of a half, n units of a layer, K classes, D distances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from danlu.train.probes.layer_value import MOST_BINNED, LayerValue
from danlu.train.probes.saturation import RECTIFIERS, SATURATION

Place = Literal["activation", "output_gradient", "weight", "network", "update", "recurrent"]
Level = Literal["light", "full"]

BINS = 20


def _mean(halves: Sequence[Tensor]) -> Tensor:
    total: Tensor = sum(halves[1:], halves[0])
    return total / len(halves)


def _root_of_mean(halves: Sequence[Tensor]) -> Tensor:
    return _mean(halves).sqrt()


def _share_in_all(halves: Sequence[Tensor]) -> Tensor:
    """Return the share of units [M] for which something holds in every half [M, n]."""
    return torch.stack(list(halves)).all(0).float().mean(1)


def _of_first(halves: Sequence[Tensor]) -> Tensor:
    """Return a figure that is taken of the first half alone."""
    return halves[0]


@dataclass(frozen=True)
class Probe:
    """A row of the table.

    measure: a function of what is at the place, [M] or [M, width], of a half where there are two;
    combine: of the halves' values. layers: kinds that it is taken of, None for all.
    """

    name: str
    place: Place
    description: str
    measure: Callable[..., Tensor]
    combine: Callable[[Sequence[Tensor]], Tensor] = _mean
    layers: tuple[type[nn.Module], ...] | None = None
    is_list: bool = False
    level: Level = "light"

    def applies(self, module: nn.Module) -> bool:
        """Whether it is taken of such a layer."""
        return self.layers is None or isinstance(module, self.layers)

    @property
    def needs_both_halves(self) -> bool:
        """Whether it is taken of the sample's second half, too."""
        return self.combine is not _of_first


def _mean_activation(v: LayerValue) -> Tensor:
    return v.mean(v.value)


def _mean_square(v: LayerValue) -> Tensor:
    return v.squared_norm / v.count


def _is_zero_for_all(v: LayerValue) -> Tensor:
    """Return whether each unit is zero for every example and at every position [M, n]."""
    gives = v.value != 0
    if v.known is not None:
        gives = gives & v.known
    return ~gives.any(v.others) if v.others else ~gives


def _share_saturated(v: LayerValue) -> Tensor:
    is_saturated = SATURATION[type(v.module)]
    return v.mean(is_saturated(v.module, v.value).float())


def _histogram(v: LayerValue) -> Tensor:
    """Count values in bins of equal width between the lowest and the highest, [M, BINS]."""
    low, high = (end.unsqueeze(1) for end in v.ends)
    bins_per_unit = BINS / (high - low)
    # Values that are all equal, or not finite, lie in the first bin.
    place = torch.nan_to_num((v.even_share - low) * bins_per_unit, 0.0, 0.0, 0.0)
    place = place.clamp_(0, BINS - 1).long()
    counts = torch.zeros(len(place), BINS, device=place.device)
    known = torch.ones_like(place) if v.known_share is None else v.known_share
    return counts.scatter_add_(1, place, known.to(counts.dtype))


def _gradient_square(v: LayerValue, examples: int) -> Tensor:
    """Return the mean square, over examples, of the norm of each one's gradient."""
    # The objective is a mean over the half: an example's own gradient is so many times as large.
    return v.squared_norm * examples


_ROWS = (
    Probe(
        "activation_mean",
        "activation",
        "Mean of what the layer gives.",
        _mean_activation,
    ),
    Probe(
        "activation_rms",
        "activation",
        "Root mean square of what the layer gives.",
        _mean_square,
        _root_of_mean,
    ),
    Probe(
        "dead",
        "activation",
        "Share of a rectifier's units that are zero for every example of the sample.",
        _is_zero_for_all,
        _share_in_all,
        RECTIFIERS,
    ),
    Probe(
        "saturated",
        "activation",
        "Share of an activation's values with a slope below a tenth of the largest.",
        _share_saturated,
        layers=tuple(SATURATION),
    ),
    Probe(
        "histogram_low",
        "activation",
        "Where the histogram begins.",
        lambda v: v.ends[0],
        _of_first,
    ),
    Probe(
        "histogram_high",
        "activation",
        "Where the histogram ends.",
        lambda v: v.ends[1],
        _of_first,
    ),
    Probe(
        "histogram",
        "activation",
        f"Counts in {BINS} bins of equal width, of at most {MOST_BINNED:,} values of a half.",
        _histogram,
        _of_first,
        is_list=True,
    ),
    Probe(
        "output_gradient",
        "output_gradient",
        "Root mean square, over examples, of the norm of an example's gradient by the output.",
        _gradient_square,
        _root_of_mean,
    ),
    Probe(
        "weight_norm",
        "weight",
        "Norm of the layer's weights (of its biases or scales where it has no weights).",
        lambda s: s.weights.sqrt(),
    ),
    Probe(
        "weight_gradient",
        "weight",
        "Norm of their gradient in this step, penalties left out.",
        lambda s: s.gradients.sqrt(),
    ),
    Probe(
        "weight_gradient_zeros",
        "weight",
        "Share of them whose gradient is exactly 0.",
        lambda s: s.zeros / s.values,
    ),
    Probe(
        "update_ratio",
        "weight",
        "‖ΔW‖/‖W‖ of this update.",
        lambda s: (s.updates / s.weights).sqrt(),
    ),
    Probe(
        "gates_saturated",
        "recurrent",
        "Share of saturated values of each gate, in the order of `danlu.nn.cells`.",
        lambda r: r.gates(),
        is_list=True,
    ),
    Probe(
        "gradient_by_distance",
        "recurrent",
        "Norm of an example's gradient by the layer's input so many steps before the last one, at "
        "the distances of `danlu.train.probes.distances`; of the loss at the last step.",
        lambda r: r.by_distance(),
        is_list=True,
    ),
    Probe(
        "sample_loss",
        "network",
        "Loss on the sample in evaluation mode.",
        lambda m: m.evaluated.loss,
    ),
    Probe(
        "sample_accuracy",
        "network",
        "Accuracy on the sample in evaluation mode (R² of numbers).",
        lambda m: m.evaluated.accuracy,
    ),
    Probe(
        "sample_loss_training",
        "network",
        "Loss on the sample in training mode: with dropout and the batch's own statistics.",
        lambda m: _mean(m.losses),
    ),
    Probe(
        "class_losses",
        "network",
        "Loss on the sample's examples of each class, in evaluation mode.",
        lambda m: m.evaluated.class_losses,
        is_list=True,
    ),
    Probe(
        "class_accuracies",
        "network",
        "Accuracy on the sample's examples of each class, in evaluation mode.",
        lambda m: m.evaluated.class_accuracies,
        is_list=True,
    ),
    Probe(
        "gradient_norm",
        "update",
        "Norm of this step's gradient, penalties left out.",
        lambda m: m.gradient.sqrt(),
    ),
    Probe(
        "penalty_share",
        "update",
        "‖p‖/(‖g‖ + ‖p‖), with p the gradient of L1 and L2, g that of the loss.",
        lambda m: m.penalty.sqrt() / (m.gradient.sqrt() + m.penalty.sqrt()),
    ),
    Probe(
        "decay_share",
        "update",
        "‖d‖/(‖d‖ + ‖u‖), with d what decoupled decay takes off the weights, u the update.",
        lambda m: m.decay.sqrt() / (m.update.sqrt() + m.decay.sqrt()),
    ),
    Probe(
        "clip_factor",
        "update",
        "What clipping leaves of the gradient's norm; 1 where it cuts nothing.",
        lambda m: (m.clipped / m.penalised).sqrt(),
    ),
    Probe(
        "update_norm",
        "update",
        "Norm of this update.",
        lambda m: m.update.sqrt(),
    ),
    Probe(
        "gradient_noise",
        "network",
        "Simple noise scale tr Σ/‖G‖², in examples, from the gradients of the sample's halves "
        "(McCandlish et al. 2018, appendix A.1); infinite where they do not agree at all.",
        lambda m: m.noise_scale(),
    ),
    Probe(
        "gradient_cosine",
        "update",
        "Cosine of the gradients of the sample's first half before and after this update.",
        lambda m: m.cosine(),
    ),
    Probe(
        "progress",
        "update",
        "What the update took off the first half's loss, by what its gradient promised: 1 for "
        "small steps, below 0 where the loss rose.",
        lambda m: m.progress(),
    ),
    Probe(
        "sharpness",
        "network",
        "Largest eigenvalue of the Hessian on the sample's first half, by power iteration.",
        lambda m: m.sharpness,
        level="full",
    ),
    Probe(
        "gradient_spread",
        "network",
        "tr Σ/‖G‖², in examples, from the gradients of single examples in evaluation mode.",
        lambda m: m.spread,
        level="full",
    ),
)
PROBES: dict[str, Probe] = {row.name: row for row in _ROWS}


def probes_at(place: Place, level: str) -> list[Probe]:
    """Return the probes of a place that a level takes."""
    return [
        p for p in PROBES.values() if p.place == place and (level == "full" or p.level == "light")
    ]
