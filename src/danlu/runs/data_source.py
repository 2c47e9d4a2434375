"""The data a training was made on (`data.json`): what runs and studies know of them."""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

from danlu.data import Data, Schema, load
from danlu.data.data import VALIDATION_IN_TRAINING
from danlu.errors import DataNotice, RunError, way_on
from danlu.files import read_json
from danlu.predict.compatibility import check_compatible


class TrainedOnData:
    """A folder with a data.json."""

    path: Path

    @cached_property
    def data_info(self) -> dict[str, Any]:
        """`data.json`: how to load the data again, their schema, sizes and fingerprint."""
        return read_json(self.path / "data.json")  # type: ignore[no-any-return]

    @cached_property
    def schema(self) -> Schema:
        """What the examples are."""
        return Schema.from_json(self.data_info["schema"])

    @property
    def metric(self) -> str:
        """ "accuracy" for classes, "r2" for numbers."""
        return self.schema.metric

    @property
    def is_reloadable(self) -> bool:
        """Whether the data can be loaded again by name."""
        return "arrays" not in self.data_info

    @property
    def way_on(self) -> str:
        """What to do where it is not finished."""
        if self.is_reloadable:
            return way_on(self.path)
        return f"go on with: danlu.resume({str(self.path)!r}, data), with the data it was given"

    def load_data(self) -> Data:
        """Load the data again, and check them against the fingerprint.

        Raises RunError where they were arrays in memory, or have changed.
        """
        source = self.data_info["source"]["source"]
        if not self.is_reloadable:
            raise RunError(
                f"{str(self.path)!r} was trained on arrays in memory ({source}), which are "
                "not on disk; pass the same again as `data`"
            )
        data = self.load_again(source)
        self.check_data(data)
        return data

    def load_again(self, source: Any) -> Data:
        """Load a source with the options with which the data were first loaded."""
        options = dict(self.data_info["source"])
        options.pop("source")
        merges = options.pop(VALIDATION_IN_TRAINING, False)
        for name in ("resize", "split"):
            if isinstance(options.get(name), list):  # JSON knows no tuples
                options[name] = tuple(options[name])
        with warnings.catch_warnings():
            # It was said when they were first read.
            warnings.simplefilter("ignore", DataNotice)
            data = load(source, **options)
        if merges:
            data = data.with_validation_in_training()
        return data

    def data_to_score(self, data: Any, part: str) -> Data:
        """Return data that the trained network can be scored on: its own where none are given.

        data: data, or what `load` takes. Raises RunError for another schema or an empty part.
        """
        found: Data
        if data is None:
            found = self.load_data()
        elif isinstance(data, Data):
            found = data
        else:
            found = load(data, like=self.schema)
        check_compatible(self.schema, found.schema)
        if part != "all" and not found.size(part):
            raise RunError(f"the data have no {part} part")
        return found

    def check_data(self, data: Data) -> None:
        """Raise RunError for data that are not those it was trained on."""
        if data.fingerprint != self.data_info["fingerprint"]:
            if not self.is_reloadable:
                raise RunError(
                    f"the data given are not those that {str(self.path)!r} was trained on"
                )
            source = self.data_info["source"]["source"]
            raise RunError(
                f"{source!r} is no longer the data that {str(self.path)!r} was trained on"
            )
