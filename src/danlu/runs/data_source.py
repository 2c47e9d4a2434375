"""What the folders of runs and studies have in common: an index, and the data they were made on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from danlu.data import Data, Schema, load
from danlu.data.data import VALIDATION_IN_TRAINING
from danlu.data.memmap import cache_folder
from danlu.data.sources.download import offline
from danlu.errors import DataNotice, RunError, way_on
from danlu.files import Sealed, parse_json, read_text, write
from danlu.guest import guest
from danlu.predict.compatibility import check_compatible
from danlu.runs import folder
from danlu.runs.facts import DataFacts, check_facts, check_source, schema_of


class TrainedOnData:
    """A folder with an index and a data.json.

    trust: whether code that it names may be imported, and whether it may have danlu reach for the
    network. What danlu reads from a folder is believed as docs/security.md says.
    """

    path: Path
    trust: bool
    index: ClassVar[str]

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        # Absolute: the program may go to another folder.
        self.path, self.trust = Path(path).absolute(), trust

    @property
    def sealed(self) -> Sealed:
        """Its files, held against the digests in the index."""
        return Sealed(self.path / self.index)

    @property
    def info(self) -> dict[str, Any]:
        """The index as it is now, held against its digest."""
        return self.sealed.verified()

    @property
    def created(self) -> float:
        """When it was begun, in seconds since 1970."""
        return float(self.info.get("created", 0.0))

    @cached_property
    def data_info(self) -> dict[str, Any]:
        """`data.json`: how to load the data again, their schema, sizes and fingerprint."""
        file = self.path / "data.json"
        try:
            info = parse_json(self.sealed.read("data.json"))
        except ValueError as e:
            raise RunError(f"{file} is damaged: it is not JSON ({e})") from e
        check_facts(info, DataFacts, file)
        return info  # type: ignore[no-any-return]

    @cached_property
    def schema(self) -> Schema:
        """What the examples are."""
        return schema_of(self.data_info["schema"], self.path / "data.json")

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

    @guest
    def load_data(self, source: str | None = None) -> Data:
        """Load the data again, and check them against the fingerprint.

        source: where they lie, where that is known. Raises RunError where they were arrays in
        memory, or have changed.
        """
        if not self.is_reloadable:
            kind = self.data_info["source"].get("source")
            raise RunError(
                f"{str(self.path)!r} was trained on arrays in memory ({kind}), which are "
                "not on disk; pass the same again as `data`"
            )
        data = self.load_again(source or self.find_source())
        self.check_data(data)
        return data

    def find_source(self) -> str:
        """Return the source by a name under which it is found from here.

        It was written down as it was typed, perhaps from another folder: then this machine may
        remember the place, or it lies where it lay as seen from the run.
        """
        typed = str(self.data_info["source"].get("source"))
        places = [_remembered(typed, self.data_info["fingerprint"]), Path(typed).expanduser()]
        places += [folder / typed for folder in self.path.parents]
        if os.path.isabs(typed) or typed.startswith("~"):
            places = places[:2]
        found = next((place for place in places if place and os.path.exists(place)), None)
        return typed if found is None else os.path.abspath(found)

    def load_again(self, source: Any, **changes: Any) -> Data:
        """Load a source with the options with which the data were first loaded, and changes."""
        options = {**self.data_info["source"], **changes}
        check_source({**options, "source": ""}, self.path / "data.json")
        options.pop("source")
        merges = options.pop(VALIDATION_IN_TRAINING, False)
        for name in ("resize", "split"):
            if isinstance(options.get(name), list):  # JSON knows no tuples
                options[name] = tuple(options[name])
        reach = contextlib.nullcontext() if self.trust else offline("use --trust (trust=True)")
        with warnings.catch_warnings(), reach:
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
            source = self.data_info["source"].get("source")
            raise RunError(
                f"{source!r} is no longer the data that {str(self.path)!r} was trained on"
            )


Kind = TypeVar("Kind", bound=TrainedOnData)


def readable(kind: type[Kind], root: Path | None) -> list[Kind]:
    """Return the runs or studies under a folder that can be read, oldest first."""
    found: list[Kind] = []
    for path in folder.with_files(root, kind.index):
        with contextlib.suppress(RunError):
            found.append(kind(path))
    return sorted(found, key=lambda one: (one.created, one.path.name))


def remember_source(data: Data) -> None:
    """Keep in this user's cache where a source lies.

    A run's folder has it as it was typed: it may go to others, whom our folders are no business of.
    """
    typed = str(data.source.get("source"))
    place = os.path.abspath(os.path.expanduser(typed))
    if data.reloadable and place != typed and os.path.exists(place):
        # Without it, the run is still found from where it was trained.
        with contextlib.suppress(OSError, RunError):
            write(_memory_of(typed, data.fingerprint), place)


def _remembered(typed: str, fingerprint: str) -> Path | None:
    with contextlib.suppress(OSError, RunError):
        return Path(read_text(_memory_of(typed, fingerprint)))
    return None


def _memory_of(typed: str, fingerprint: str) -> Path:
    key = f"{typed}\n{fingerprint}"
    name = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return cache_folder("sources") / name
