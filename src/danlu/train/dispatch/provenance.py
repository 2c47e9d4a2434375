"""What a training writes down before its first step, and what it keeps of its last."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import RunError
from danlu.recipe import Recipe
from danlu.runs import Run, Study, folder
from danlu.runs.run import read_fitted
from danlu.runs.weights import start_file


def make_folder(path: Path | None, label: str) -> Path:
    """An empty folder: the one named, or a dated one under the runs folder."""
    if path is None:
        return folder.new_folder(label)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(
            f"{str(path)!r} exists and is not empty; name another folder with --out, or resume it"
        )
    with folder.storing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_data(path: Path, data: Data, normalize: str | None = None) -> None:
    """data.json, and of a run its normaliser."""
    with ThreadPoolExecutor(
        1
    ) as other:  # these read all the data once each; two cores read at once
        fingerprint, duplicates = (
            other.submit(lambda: data.fingerprint),
            other.submit(data.duplicates),
        )
        fitted = data.normalizer(normalize) if normalize else None
    info: dict[str, Any] = {
        "source": data.source,
        "schema": data.schema.to_json(),
        "sizes": {p: data.size(p) for p in data.parts},
        "fingerprint": fingerprint.result(),
        "duplicates": {f"{a}/{b}": len(pairs) for (a, b), pairs in duplicates.result().items()},
        "missing": data.missing,
        "class_counts": [] if data.schema.is_regression else data.class_counts("train").tolist(),
    }
    if data.in_memory:
        info["arrays"] = True
    folder.write_json(path / "data.json", info)
    if fitted is not None:
        folder.write_tensors(path / "normalizer.safetensors", fitted.tensors())


def write_normalizers(path: Path, data: Data, kinds: Iterable[str]) -> None:
    """The normalisers of a study, each with its kind in the name; those that are there are used."""
    for kind in sorted({data.schema.normalization(k) for k in kinds}):
        file = path / f"normalizer.{kind}.safetensors"
        if file.is_file():
            data.adopt(read_fitted(file, kind))
        else:
            folder.write_tensors(file, data.normalizer(kind).tensors())


def data_to_resume(found: Run | Study, data: Data | None) -> Data:
    """The data to go on with, loaded again where none are given. Raises RunError for what is finished, or other data."""
    if found.info["status"] == "finished":
        raise RunError(f"{str(found.path)!r} is finished; there is nothing to resume")
    if data is None:
        return found.load_data()
    found.check_data(data)
    return data


def starts(recipes: Iterable[Recipe]) -> dict[str, str]:
    """A digest of each file of weights that recipes start from."""
    found = {}
    for start in sorted({r.init.from_run for r in recipes if r.init.from_run}):
        with start_file(start).open("rb") as f:
            found[start] = hashlib.file_digest(f, "blake2b").hexdigest()[:32]
    return found


def check_starts(found: Run | Study) -> None:
    """Raise RunError where weights that a training starts from are no longer what they were when it was made."""
    for start, digest in found.info.get("starts", {}).items():
        if Path(start).exists() and starts([Recipe(init={"from_run": start})])[start] != digest:
            raise RunError(
                f"the weights of {start!r}, which {str(found.path)!r} starts from, have changed; train it anew"
            )


def environment(device: str, threads: int) -> dict[str, Any]:
    """Versions and machine."""
    from danlu import __version__

    return {
        "danlu": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": device,
        "threads": threads,
    }


def say(file: Path, **changes: Any) -> None:
    """Update a JSON file of facts (run.json, study.json)."""
    before = folder.read_json(file) if file.exists() else {}
    folder.write_json(file, {**before, **changes})
