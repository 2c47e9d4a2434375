"""The measurements of a training: a table that grows, rides in checkpoints, and becomes a file.

Legend: R rows, C columns, W values of a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from danlu.train.probes.table import PROBES

WHOLE = ""  # the layer of rows about a network as a whole
_NUMBERS = tuple(name for name, probe in PROBES.items() if not probe.is_list)
_COLUMN = {name: k for k, name in enumerate(_NUMBERS)}
_LISTS = tuple(name for name, probe in PROBES.items() if probe.is_list)
_NAME = "measurements."  # before the names of tensors in a checkpoint

Figures = Mapping[str, Tensor]  # [M] or [M, W] by probe


class Measurements:
    """Rows of figures, by member, step and layer."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self._keys: list[Tensor] = []  # int64 [R, 3]
        self._epochs: list[Tensor] = []  # [R]
        self._numbers: list[Tensor] = []  # float64 [R, C]
        self._lists: dict[str, list[Tensor]] = {name: [] for name in _LISTS}  # [R, W] or [R, 0]

    def __len__(self) -> int:
        return sum(map(len, self._keys))

    def add(
        self,
        layer: str,
        members: Sequence[int],
        rows: list[int],
        steps: Sequence[int],
        epochs: Sequence[float],
        figures: Figures,
    ) -> None:
        """Add a row for each of some members; rows: where they are in the figures."""
        if layer not in self.layers:
            self.layers.append(layer)
        number = self.layers.index(layer)
        keys = [(member, step, number) for member, step in zip(members, steps, strict=True)]
        self._keys.append(torch.tensor(keys, dtype=torch.long))
        self._epochs.append(torch.tensor(epochs, dtype=torch.float64))
        names = [name for name in _NUMBERS if name in figures]
        numbers = torch.full((len(rows), len(_NUMBERS)), torch.nan, dtype=torch.float64)
        columns = [_COLUMN[name] for name in names]
        of_all = torch.stack([figures[name].double() for name in names], 1).cpu()  # [M, names]
        numbers[:, columns] = of_all[rows]
        self._numbers.append(numbers)
        for name, kept in self._lists.items():
            found = figures.get(name)
            kept.append(torch.zeros(len(rows), 0) if found is None else found.float().cpu()[rows])

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        if not self._keys:
            return {}
        kept = {
            f"{_NAME}keys": torch.cat(self._keys),
            f"{_NAME}epochs": torch.cat(self._epochs),
            f"{_NAME}numbers": torch.cat(self._numbers),
        }
        names = json.dumps(self.layers).encode()
        kept[f"{_NAME}layers"] = torch.frombuffer(bytearray(names), dtype=torch.uint8)
        for name, blocks in self._lists.items():
            width = max(block.shape[1] for block in blocks)
            if width:
                kept[f"{_NAME}{name}"] = torch.cat([_widened(b, width) for b in blocks])
        # Joined once: the next checkpoint has less to do.
        self.restore(kept)
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what a checkpoint kept."""
        self.__init__()  # type: ignore[misc]
        if f"{_NAME}keys" not in tensors:
            return
        self.layers = json.loads(tensors[f"{_NAME}layers"].numpy().tobytes())
        self._keys.append(tensors[f"{_NAME}keys"])
        self._epochs.append(tensors[f"{_NAME}epochs"])
        self._numbers.append(tensors[f"{_NAME}numbers"])
        n = len(self._keys[0])
        for name, kept in self._lists.items():
            kept.append(tensors.get(f"{_NAME}{name}", torch.zeros(n, 0)))

    def table(self) -> Any:
        """Return the rows as an Arrow table; without columns that have no figure in any row."""
        import pyarrow as pa

        kept = self.tensors()
        if not kept:
            return pa.table({})
        keys = kept[f"{_NAME}keys"]
        layers = [self.layers[k] for k in keys[:, 2].tolist()]
        columns: dict[str, Any] = {
            "member": keys[:, 0].numpy(),
            "step": keys[:, 1].numpy(),
            "epoch": kept[f"{_NAME}epochs"].numpy(),
            "layer": pa.array(layers).dictionary_encode(),
        }
        numbers = kept[f"{_NAME}numbers"]
        for k, name in enumerate(_NUMBERS):
            values = numbers[:, k].numpy()
            is_missing = numbers[:, k].isnan().numpy()
            if not is_missing.all():
                columns[name] = pa.array(values, mask=is_missing)
        for name in _LISTS:
            if f"{_NAME}{name}" in kept:
                columns[name] = _lists(kept[f"{_NAME}{name}"])
        return pa.table(columns)


def _widened(block: Tensor, width: int) -> Tensor:
    """Return rows [R, w] as [R, width], what is missing as NaN."""
    if block.shape[1] == width:
        return block
    wide = torch.full((len(block), width), torch.nan)
    wide[:, : block.shape[1]] = block
    return wide


def _lists(values: Tensor) -> Any:
    """Return rows [R, W] as lists without what is missing at their end; null where all is."""
    import pyarrow as pa

    is_there = ~values.isnan()
    # The last one that is there: in the middle a figure may be missing.
    widths = (is_there * torch.arange(1, values.shape[1] + 1)).amax(1)
    lists = []
    for row, width in zip(values.tolist(), widths.tolist(), strict=True):
        lists.append(row[:width] if width else None)
    return pa.array(lists, type=pa.list_(pa.float32()))
