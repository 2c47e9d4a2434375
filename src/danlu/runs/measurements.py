"""The measurements of a training: a table that grows, rides in checkpoints, and becomes a file.

A row is a network as a whole, or one of its layers, at a step. Legend: R rows, C columns, W values
of a list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from danlu.errors import RecipeError, RunError, unknown
from danlu.files import parse_json

if TYPE_CHECKING:
    import pandas as pd

NAME = "measurements.parquet"
OFF = "off"
LEVELS = (OFF, "light", "full")  # of what is measured
WHOLE = ""  # the layer of rows about a network as a whole
_SAVED = "measurements."  # before the names of tensors in a checkpoint

Figures = Mapping[str, Tensor]  # numbers [M], lists [M, W], by the name of their column


class Measurements:
    """Rows of figures, by member, step and layer."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.columns: list[str] = []  # of numbers
        self.lists: dict[str, list[Tensor]] = {}  # [R, W] or [R, 0], by column
        self._keys: list[Tensor] = []  # member, step, layer: int64 [R, 3]
        self._epochs: list[Tensor] = []  # [R]
        self._numbers: list[Tensor] = []  # float64 [R, C], or fewer columns
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

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
        number = _number_of(layer, self.layers)
        keys = [(member, step, number) for member, step in zip(members, steps, strict=True)]
        self._keys.append(torch.tensor(keys, dtype=torch.long))
        self._epochs.append(torch.tensor(epochs, dtype=torch.float64))
        numbers = {name: figure for name, figure in figures.items() if figure.ndim == 1}
        places = [_number_of(name, self.columns) for name in numbers]
        block = torch.full((len(rows), len(self.columns)), torch.nan, dtype=torch.float64)
        if numbers:
            of_all = torch.stack([figure.double() for figure in numbers.values()], 1)
            block[:, places] = of_all.cpu()[rows]
        self._numbers.append(block)
        for name, figure in figures.items():
            is_list = figure.ndim == 2 and figure.shape[1] > 0
            if is_list and name not in self.lists:
                self.lists[name] = [torch.zeros(self._rows, 0)]
        for name, kept in self.lists.items():
            found = figures.get(name)
            kept.append(torch.zeros(len(rows), 0) if found is None else found.float().cpu()[rows])
        self._rows += len(rows)

    def forget(self, steps: Callable[[int], bool]) -> None:
        """Keep such steps alone."""
        saved = self.tensors()
        if not saved:
            return
        kept = torch.tensor([steps(step) for step in saved[f"{_SAVED}keys"][:, 1].tolist()])
        names = f"{_SAVED}names"
        self.restore({k: tensor if k == names else tensor[kept] for k, tensor in saved.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        if not self._rows:
            return {}
        numbers = [_widened(block, len(self.columns)) for block in self._numbers]
        names = {"layers": self.layers, "columns": self.columns, "lists": list(self.lists)}
        encoded = bytearray(json.dumps(names).encode())
        kept = {
            "names": torch.frombuffer(encoded, dtype=torch.uint8),
            "keys": torch.cat(self._keys),
            "epochs": torch.cat(self._epochs),
            "numbers": torch.cat(numbers),
        }
        for name, blocks in self.lists.items():
            width = max(block.shape[1] for block in blocks)
            kept[f"list.{name}"] = torch.cat([_widened(block, width) for block in blocks])
        saved = {_SAVED + name: tensor for name, tensor in kept.items()}
        # Joined once: the next checkpoint has less to do.
        self.restore(saved)
        return saved

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what a checkpoint kept."""
        if f"{_SAVED}keys" not in tensors:
            return
        names = parse_json(tensors[f"{_SAVED}names"].numpy().tobytes())
        self.layers, self.columns = names["layers"], names["columns"]
        self._keys = [tensors[f"{_SAVED}keys"]]
        self._epochs = [tensors[f"{_SAVED}epochs"]]
        self._numbers = [tensors[f"{_SAVED}numbers"]]
        self._rows = len(self._keys[0])
        self.lists = {name: [tensors[f"{_SAVED}list.{name}"]] for name in names["lists"]}

    def table_of_run(self) -> Any:
        """Return the rows of a single network as an Arrow table, without its number."""
        table = self.table()
        return table.drop_columns(["member"]) if self._rows else table

    def table(self) -> Any:
        """Return the rows as an Arrow table."""
        import pyarrow as pa

        kept = {name.removeprefix(_SAVED): tensor for name, tensor in self.tensors().items()}
        if not kept:
            return pa.table({})
        keys = kept["keys"]
        layers = [self.layers[k] for k in keys[:, 2].tolist()]
        columns = {
            "member": _numbers(keys[:, 0]),
            "step": _numbers(keys[:, 1]),
            "epoch": _numbers(kept["epochs"]),
            "layer": _texts(layers),
        }
        for k, name in enumerate(self.columns):
            columns[name] = _numbers(kept["numbers"][:, k])
        for name in self.lists:
            columns[name] = _lists(kept[f"list.{name}"])
        return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def check_level(level: str) -> None:
    """Raise RecipeError for a level of probes that there is not."""
    if level not in LEVELS:
        raise RecipeError(unknown("probes", level, LEVELS))


def _number_of(name: str, names: list[str]) -> int:
    """Return the place of a name in a list, to which it is added if it is not there."""
    if name not in names:
        names.append(name)
    return names.index(name)


def _widened(block: Tensor, width: int) -> Tensor:
    """Return rows [R, w] as [R, width], what is missing as NaN."""
    if block.shape[1] == width:
        return block
    wide = torch.full((len(block), width), torch.nan, dtype=block.dtype)
    wide[:, : block.shape[1]] = block
    return wide


# Arrays from their buffers: `pyarrow.array` would import pandas, which takes longer than all else.


def _numbers(values: Tensor) -> Any:
    """Return numbers as an Arrow array, NaN as null."""
    import pyarrow as pa

    array = values.contiguous().numpy()
    types = {torch.int64: pa.int64(), torch.float64: pa.float64(), torch.float32: pa.float32()}
    is_valid = pa.py_buffer(np.packbits(~np.isnan(array), bitorder="little"))
    buffers = [is_valid, pa.py_buffer(array)]
    return pa.Array.from_buffers(types[values.dtype], len(array), buffers)


def _texts(texts: Sequence[str]) -> Any:
    """Return texts as an Arrow array."""
    import pyarrow as pa

    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))
    )


def _lists(values: Tensor) -> Any:
    """Return rows [R, W] as lists without what is missing at their end; null where all is."""
    import pyarrow as pa

    places = torch.arange(1, values.shape[1] + 1)
    widths = torch.where(values.isnan(), 0, places).amax(1)  # [R]
    kept = values[places <= widths.unsqueeze(1)]
    ends = np.concatenate(([0], widths.cumsum(0).numpy())).astype(np.int32)
    is_valid = pa.py_buffer(np.packbits((widths > 0).numpy(), bitorder="little"))
    return pa.Array.from_buffers(
        pa.list_(pa.float32()),
        len(values),
        [is_valid, pa.py_buffer(ends)],
        children=[_numbers(kept)],
    )


def of_member(table: Any, member: int) -> Any:
    """Return the rows of a member, without the column that says so."""
    import pyarrow.compute as pc

    if not table.num_rows:
        return table
    return table.filter(pc.field("member") == member).drop_columns(["member"])


def as_frame(table: Any) -> pd.DataFrame:
    """Return an Arrow table as a data frame; lists are arrays."""
    frame: pd.DataFrame = table.to_pandas()
    return frame


# What the rows of a run must be for rules to read them: text in one column, else numbers.
_KEYS = ("step", "epoch", "layer")


def check_columns(table: Any, file: object) -> Any:
    """Return a table of measurements. Raises RunError where it is none."""
    import pyarrow as pa

    if not table.num_columns:
        return table
    missing = [name for name in _KEYS if name not in table.column_names]
    for column in table.schema:
        kind = column.type.value_type if pa.types.is_list(column.type) else column.type
        is_text = pa.types.is_string(kind)
        if missing or is_text != (column.name == "layer"):
            what = f"it has no `{missing[0]}`" if missing else f"`{column.name}` is {column.type}"
            raise RunError(f"{file} is foreign: {what}")
    return table
