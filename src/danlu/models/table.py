"""Networks for tables: learnt vectors of categories beside the numbers, then dense layers.

Legend: B rows, F features; L levels of a category, E length of their vectors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.models import fields
from danlu.nn.protocols import ResetsWeights

# The defaults are those that did best over the tables of benchmarks/tables.py.
FIELDS = (
    fields.HIDDEN.with_default((128, 64)),
    fields.ACTIVATION,
    fields.BATCH_NORM,
    fields.LAYER_NORM,
    fields.DROPOUT.with_default(0.1),
    fields.RESIDUAL,
)
Embeddings = tuple[tuple[int, int], ...]  # place among the features, number of levels

_LONGEST = 50


def vector_length(levels: int) -> int:
    """Return how long the vectors of so many levels are: 1.6·L^0.56, at most 50.

    (A rule of thumb of the library fastai.)
    """
    rule: float = 1.6 * levels**0.56
    return min(_LONGEST, round(rule))


class TableInput(nn.Module, ResetsWeights):
    """Features [B, F] with a vector of E numbers in place of each number of a level.

    Features that are no numbers of levels come first. (Guo and Berkhahn 2016, "Entity embeddings of
    categorical variables".)
    """

    def __init__(self, features: int, embeddings: Embeddings) -> None:
        super().__init__()
        places = [place for place, _ in embeddings]
        numbers = [place for place in range(features) if place not in places]
        self.places = places
        self.features = len(numbers)
        self.numbers: Tensor
        self.register_buffer("numbers", torch.tensor(numbers), persistent=False)
        for place, levels in embeddings:
            size = vector_length(levels)
            self.features += size
            weight = nn.Parameter(torch.empty(levels, size))
            self.register_parameter(f"levels{place}", weight)

    def reset_weights(self, fill: Callable[[str, Tensor, str], None], bias: float) -> None:
        """N(0, 1), as spread as the standardised numbers beside them."""
        for name, weight in self.named_parameters():
            fill(name, weight, "unit")

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, features]."""
        parts = [x.index_select(1, self.numbers)]
        for place in self.places:
            # In a population the parameters are tensors in the place of nn.Parameter.
            weight = cast(Tensor, getattr(self, f"levels{place}"))
            level = x[:, place].long().clamp(0, len(weight) - 1)
            parts.append(F.embedding(level, weight).to(x.dtype))
        return torch.cat(parts, 1)

    def extra_repr(self) -> str:
        """Return what `print(model)` shows."""
        sizes = [str(tuple(weight.shape)) for weight in self.parameters()]
        return f"{len(self.numbers)} numbers, vectors of {', '.join(sizes)}"


def with_input(model: nn.Module, table_input: TableInput) -> nn.Module:
    """Return a network that first looks its categories up."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(input=table_input)
    if type(model) is nn.Sequential:
        layers.update(model.named_children())
    else:
        layers["network"] = model
    return nn.Sequential(layers)
