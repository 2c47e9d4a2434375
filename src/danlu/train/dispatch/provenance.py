"""What a training writes down before its first step, and what it checks before it goes on."""

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
from danlu.files import read_json, storing, write_json, write_tensors
from danlu.models.weights import weights_file
from danlu.recipe import Recipe
from danlu.runs import Run, Study, folder
from danlu.runs.normalizers import read_fitted


def make_folder(path: Path | None, label: str) -> Path:
    """Return an empty folder: the one named, or a dated one under the runs folder.

    Raises RunError for one that is not empty, StorageError when the disk refuses.
    """
    if path is None:
        return folder.new_folder(label)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(
            f"{str(path)!r} exists and is not empty; name another folder with --out, or resume it"
        )
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def label_of(data: Data, suffix: str) -> str:
    """Return what a folder for these data is called."""
    source = str(data.source.get("source", "data"))
    return f"{Path(source).name}-{suffix}"


def write_data(path: Path, data: Data, normalize: str | None = None) -> None:
    """Write data.json, and for a run its normaliser."""
    # These read all the data once each; two cores read at once.
    with ThreadPoolExecutor(1) as other:
        fingerprint = other.submit(lambda: data.fingerprint)
        duplicates = other.submit(data.duplicate_counts)
        fitted = data.normalizer(normalize) if normalize else None
    info: dict[str, Any] = {
        "source": data.source,
        "schema": data.schema.to_json(),
        "sizes": {part: data.size(part) for part in data.parts},
        "fingerprint": fingerprint.result(),
        "duplicates": duplicates.result(),
        "missing": data.missing,
        "notices": list(data.notices),
        "class_counts": data.training_class_counts,
    }
    if not data.reloadable:
        info["arrays"] = True
    write_json(path / "data.json", info)
    if fitted is not None:
        write_tensors(path / "normalizer.safetensors", fitted.tensors())


def write_normalizers(path: Path, data: Data, kinds: Iterable[str]) -> None:
    """Write a study's normalisers, each with its kind in the name; use those that are there."""
    needed = {data.schema.normalization(kind) for kind in kinds}
    for kind in sorted(needed):
        file = path / f"normalizer.{kind}.safetensors"
        # Fitted on another number of threads, the last bits may differ.
        if file.is_file():
            data.set_normalizer(read_fitted(file, kind))
        else:
            write_tensors(file, data.normalizer(kind).tensors())


def data_to_resume(found: Run | Study, data: Any) -> Data:
    """Return the data to go on with, loaded again where none are given.

    data: None, data, or what `load` takes. Raises RunError for what is finished, or other data.
    """
    if found.info["status"] == "finished":
        raise RunError(f"{str(found.path)!r} is finished; there is nothing to resume")
    if data is None:
        return found.load_data()
    again = data if isinstance(data, Data) else found.load_again(data)
    found.check_data(again)
    return again


def start_digests(recipes: Iterable[Recipe]) -> dict[str, str]:
    """Return a digest of each file of weights that recipes start from."""
    starts = {recipe.init.weights for recipe in recipes if recipe.init.weights}
    digests = {}
    for start in sorted(starts):
        digests[start] = _digest(start)
    return digests


def _digest(start: str) -> str:
    with weights_file(start).open("rb") as f:
        return hashlib.file_digest(f, "blake2b").hexdigest()[:32]


def check_starts(found: Run | Study) -> None:
    """Raise RunError where weights that a training starts from have changed since it was made."""
    for start, digest in found.info.get("starts", {}).items():
        if Path(start).exists() and _digest(start) != digest:
            raise RunError(
                f"the weights of {start!r}, which {str(found.path)!r} starts from, have changed; "
                "train it anew"
            )


def environment(device: str, threads: int) -> dict[str, Any]:
    """Return versions and machine."""
    from danlu import __version__

    return {
        "danlu": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": device,
        "threads": threads,
    }


def update_json(file: Path, **changes: Any) -> None:
    """Update a JSON file of facts (run.json, study.json)."""
    before = read_json(file) if file.exists() else {}
    write_json(file, {**before, **changes})
