"""The data a training was made on (`data.json`): what runs and studies know of them, loading them again."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from danlu.data import Data, Schema, load
from danlu.errors import RunError
from danlu.runs import folder


class TrainedOnData:
    """A folder with a data.json."""

    path: Path

    @cached_property
    def data_info(self) -> dict[str, Any]:
        """`data.json`: how to load the data again, their schema, sizes and fingerprint."""
        return folder.read_json(self.path / "data.json")  # type: ignore[no-any-return]

    @cached_property
    def schema(self) -> Schema:
        """What the examples are."""
        return Schema.from_json(self.data_info["schema"])

    @property
    def metric(self) -> str:
        """ "accuracy" for classes, "r2" for numbers."""
        return "r2" if self.schema.is_regression else "accuracy"

    def load_data(self) -> Data:
        """The data it trained on, loaded again and held against the fingerprint."""
        told = dict(self.data_info["source"])
        source = told.pop("source")
        if "arrays" in self.data_info:
            raise RunError(
                f"{str(self.path)!r} was trained on arrays in memory ({source}); pass the data again"
            )
        for key in ("resize", "split"):
            if isinstance(told.get(key), list):
                told[key] = tuple(told[key])
        data = load(source, **told)
        self.check_data(data)
        return data

    def check_data(self, data: Data) -> None:
        """Refuse data that are not those it was trained on."""
        if data.fingerprint != self.data_info["fingerprint"]:
            raise RunError(
                f"{self.data_info['source']['source']!r} is no longer the data that {str(self.path)!r} was trained on"
            )
