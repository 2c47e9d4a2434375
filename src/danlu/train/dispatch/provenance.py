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
from danlu.files import as_json, pack_tensors
from danlu.models.weights import weights_file
from danlu.recipe import Recipe
from danlu.runs import Run, Study, folder
from danlu.runs.data_source import remember_source
from danlu.runs.measurements import check_level
from danlu.runs.normalizers import read_fitted
from danlu.runs.run import NORMALIZER


def label_of(data: Data, suffix: str) -> str:
    """Return what a folder for these data is called."""
    source = str(data.source.get("source", "data"))
    return f"{Path(source).name}-{suffix}"


def files_about(data: Data, normalize: str | None = None) -> dict[str, str | bytes]:
    """Return the content of data.json, and for a run of its normaliser's file, by name."""
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
    remember_source(data)
    files: dict[str, str | bytes] = {"data.json": as_json(info, indent=1) + "\n"}
    if fitted is not None:
        files[NORMALIZER] = pack_tensors(fitted.tensors())
    return files


def write_normalizers(study: Study, data: Data) -> dict[str, str]:
    """Write a study's normalisers, each with its kind in the name; use those that are there.

    Return the digests of what was written.
    """
    sealed = study.sealed
    kinds = {recipe.normalize for recipe in study.recipes}
    needed = {data.schema.normalization(kind) for kind in kinds}
    written: dict[str, str] = {}
    for kind in sorted(needed):
        name = f"normalizer.{kind}.safetensors"
        # Fitted on another number of threads, the last bits may differ.
        if sealed.has(name):
            data.set_normalizer(read_fitted(sealed, name, kind))
        else:
            written |= sealed.write(name, pack_tensors(data.normalizer(kind).tensors()))
    return written


def data_to_resume(found: Run | Study, data: Any) -> Data:
    """Return the data to go on with, loaded again where none are given.

    data: None, data, or what `load` takes. Raises RunError for what is finished, or other data.
    """
    if found.trained if isinstance(found, Study) else found.info["status"] == "finished":
        raise RunError(f"{str(found.path)!r} is finished; there is nothing to resume")
    if data is None:
        return found.load_data()
    again = data if isinstance(data, Data) else found.load_again(data)
    found.check_data(again)
    return again


def set_probes(found: Run | Study, probes: str | None) -> None:
    """Have a training measure at that level from now on; None: as before."""
    if probes is not None:
        check_level(probes)
        with folder.locked(found.path):
            found.sealed.update(probes=probes)


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
