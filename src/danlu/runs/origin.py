"""The data a training was made on (`data.json`): loading them again, and refusing others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from danlu.data import Data, load
from danlu.errors import RunError


def load_data(info: dict[str, Any], path: Path) -> Data:
    """The data of `data.json`, loaded again and held against the fingerprint."""
    told = dict(info["source"])
    source = told.pop("source")
    if "arrays" in info:
        raise RunError(f"{str(path)!r} was trained on arrays in memory ({source}); pass the data again")
    for key in ("resize", "split"):
        if isinstance(told.get(key), list):
            told[key] = tuple(told[key])
    data = load(source, **told)
    check_data(data, info, path)
    return data


def check_data(data: Data, info: dict[str, Any], path: Path) -> None:
    """Refuse data that are not those of `data.json`."""
    if data.fingerprint != info["fingerprint"]:
        raise RunError(f"{info['source']['source']!r} is no longer the data that {str(path)!r} was trained on")
