"""What probes take from layers while a sample passes through them.

Legend: M networks, P examples of a half.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from danlu.train.forward.taps import Side
from danlu.train.probes.layer_value import LayerValue, Tokens, layer_value
from danlu.train.probes.table import Level, Probe, probes_at

Figures = dict[str, Tensor]  # [M] or [M, width] by probe


class LayerTap:
    """Applies the probes of layers to each half of a sample.

    is_first: whether it is the first half. tokens: where its texts have tokens.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        units_before: Mapping[str, bool],
        level: Level,
        half_size: int,
    ) -> None:
        self.modules = modules
        self.units_before = units_before
        self.half_size = half_size
        self.of_values = probes_at("activation", level)
        self.of_gradients = probes_at("output_gradient", level)
        self.is_first = True
        self.tokens: Tokens | None = None
        self.halves: dict[str, dict[str, list[Tensor]]] = {}

    def value(self, layer: str, side: Side, value: Tensor) -> None:
        """Take the probes of activations."""
        if side == "output":
            found = self._layer(layer, value)
            for probe in self.of_values:
                is_taken = self.is_first or probe.needs_both_halves
                if is_taken and probe.applies(found.module):
                    self._keep(layer, probe, probe.measure(found))

    def gradient(self, layer: str, side: Side, gradient: Tensor) -> None:
        """Take the probes of gradients by outputs."""
        if side == "output":
            found = self._layer(layer, gradient)
            for probe in self.of_gradients:
                self._keep(layer, probe, probe.measure(found, self.half_size))

    def _layer(self, layer: str, value: Tensor) -> LayerValue:
        name = layer.partition(":")[0]
        value = value.detach()
        if value.dtype in (torch.bfloat16, torch.float16):
            value = value.float()
        return layer_value(value, self.modules[name], self.units_before[name], self.tokens)

    def _keep(self, layer: str, probe: Probe, figure: Tensor) -> None:
        self.halves.setdefault(layer, {}).setdefault(probe.name, []).append(figure)

    def figures(self, members: int) -> dict[str, Figures]:
        """Return what was found of each layer, over both halves."""
        found: dict[str, Figures] = {}
        for layer, parts in self.halves.items():
            found[layer] = {}
            for probe in (*self.of_values, *self.of_gradients):
                if probe.name in parts:
                    figure = probe.combine(parts[probe.name])
                    # What no weights came before is the same for all networks.
                    found[layer][probe.name] = figure.expand(members, *figure.shape[1:])
        return found


class InputTap:
    """Keeps what recurrent layers see, and the gradients by that."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}

    def value(self, layer: str, side: Side, value: Tensor) -> None:
        """Keep an input."""
        if side == "input":
            self.values[layer] = value.detach().clone()

    def gradient(self, layer: str, side: Side, gradient: Tensor) -> None:
        """Keep the gradient by an input."""
        if side == "input":
            self.gradients[layer] = gradient.detach().clone()
