"""`Study`: many trainings on one set of data, in one folder.

study.json  recipes.jsonl  data.json  normalizer.KIND.safetensors
members.jsonl: a line when a member ends
curves/*.parquet, weights/*.safetensors: a file per chunk of networks that trained together
members/: members that were opened as runs
"""

from __future__ import annotations

import contextlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from danlu.data import Data
from danlu.data.parts import PARTS
from danlu.errors import RunError, some, wrong
from danlu.files import (
    read_json,
    read_lines,
    read_row,
    storing,
    with_nan,
    write,
    write_json,
    write_lines,
    write_tensors,
)
from danlu.formats import RUN_FORMAT, STUDY_FORMAT
from danlu.models.weights import load_weights
from danlu.predict import evaluate
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.recipe.sample import with_own_fold
from danlu.runs import folder
from danlu.runs.data_source import TrainedOnData
from danlu.runs.members import DIVERGED, Member
from danlu.runs.normalizers import read_normalizer
from danlu.runs.run import Run
from danlu.runs.saved_outputs import write_predictions

_NEEDED = {"kind", "status", "plans", "environment"}  # what study.json holds at least


class Study(TrainedOnData):
    """Many trainings on disk. Raises RunError when the folder is not a study."""

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        # Absolute: the program may go to another folder.
        self.path, self.trust = Path(path).absolute(), trust
        if not os.path.isfile(self.path / "study.json"):
            raise RunError(f"{str(path)!r} is not a study folder: it has no study.json")
        info = self.info
        version = info.get("format") if isinstance(info, dict) else None
        if version != STUDY_FORMAT:
            raise RunError(
                f"{str(path)!r} has the study format {version}, "
                f"but this danlu reads format {STUDY_FORMAT}"
            )
        if not set(info) >= _NEEDED:
            raise RunError(f"{str(path)!r} is not a study folder: its study.json is foreign")

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}, {len(self)} recipes, {self.status})"

    def __len__(self) -> int:
        return len(self.recipes)

    @property
    def info(self) -> dict[str, Any]:
        """`study.json` as it is now: format, kind, status, environment, plans."""
        return read_json(self.path / "study.json")  # type: ignore[no-any-return]

    @property
    def status(self) -> str:
        """running, interrupted or finished."""
        info = self.info
        has_more_to_come = not info.get("over", True)  # a search or comparison
        status = str(info["status"])
        if status == "running" or (status == "finished" and has_more_to_come):
            return "running" if folder.is_locked(self.path) else "interrupted"
        return status

    @property
    def trained(self) -> bool:
        """Whether all its recipes are, though a search or comparison may yet add more."""
        return bool(self.info["status"] == "finished")

    @cached_property
    def recipes(self) -> list[Recipe]:
        """The recipe of every member."""
        return [Recipe(**fields) for fields in read_lines(self.path / "recipes.jsonl")]

    def check_trust(self) -> None:
        """Raise RunError where anyone's code would be imported, which runs it, without trust."""
        if self.trust:
            return
        imported = {name for recipe in self.recipes for name in recipe.imports}
        if imported:
            raise RunError(
                f"{str(self.path)!r} imports {some(sorted(imported))}, and that runs code; "
                "if you trust it, use --trust (trust=True)"
            )

    @property
    def members(self) -> dict[int, Member]:
        """What is known of each member that has ended, by its number."""
        members = {}
        for line in read_lines(self.path / "members.jsonl"):
            member = Member(**{**line, "result": with_nan(line.get("result") or {})})
            members[member.member] = member
        return members

    @property
    def results(self) -> list[dict[str, Any]]:
        """The final figures of every member in order; empty for those not finished."""
        ended = self.members
        results: list[dict[str, Any]] = []
        for i in range(len(self)):
            results.append(dict(ended[i].result) if i in ended else {})
        return results

    def curves(self) -> Any:
        """Return all curves as a `pandas.DataFrame`.

        member, epoch, step, lr, losses and accuracies, seconds. Raises RunError before the first
        member has ended.
        """
        import pyarrow.parquet as pq
        from pyarrow import concat_tables

        files = sorted((self.path / "curves").glob("*.parquet"))
        if not files:
            raise RunError(f"{str(self.path)!r} has no curves yet; nothing in it has finished")
        tables = []
        chunks = []  # of each row
        for file in files:
            table = pq.read_table(file)
            tables.append(table)
            chunks += [file.stem] * len(table)
        curves = concat_tables(tables, promote_options="default").to_pandas()
        # A chunk of which not all members were written down before a crash was trained again,
        # under another name.
        chunk_of = {member.member: member.chunk for member in self.members.values()}
        is_current = curves["member"].map(chunk_of) == chunks
        return curves[is_current].sort_values(["member", "epoch"], ignore_index=True)

    def history(self, i: int) -> list[dict[str, Any]]:
        """Return the curve of member i, a row per epoch."""
        import pyarrow.parquet as pq

        file = self.path / "curves" / f"{self._ended(i).chunk}.parquet"
        if not file.is_file():  # all diverged in their first epoch
            return []
        history = []
        for row in pq.read_table(file, filters=[("member", "==", i)]).to_pylist():
            del row["member"]
            # Columns that other members of the chunk have are empty here.
            history.append({name: value for name, value in row.items() if value is not None})
        return sorted(history, key=lambda row: row["epoch"])

    def weights(self, i: int) -> dict[str, Tensor]:
        """Return the final weights of member i by name."""
        ended = self._ended(i)
        file = self.path / "weights" / f"{ended.chunk}.safetensors"
        return read_row(file, ended.row)

    def run(self, i: int, data: Data | None = None) -> Run:
        """Return member i as a run in a folder of its own, made on first use.

        data: the data, where they cannot be loaded again (arrays in memory); without them such a
        run has no predictions.
        """
        ended = self._ended(i)
        path = self.path / "members" / f"{i:06d}"
        if not (path / "run.json").is_file():
            self._write_run(path, ended, data)
        return Run(path, self.trust)

    def _write_run(self, path: Path, ended: Member, data: Data | None) -> None:
        """Write a member's folder; run.json, which makes it a run, comes last."""
        with storing(path):
            path.mkdir(parents=True, exist_ok=True)
        i, info = ended.member, self.info
        recipe = self.recipes[i]
        write(path / "recipe.toml", recipe.to_toml())
        write_json(path / "data.json", self.data_info)
        write_lines(path / "metrics.jsonl", self.history(i))
        write_tensors(path / "weights.safetensors", self.weights(i))
        kind = self.schema.normalization(recipe.normalize)
        fitted = self.path / f"normalizer.{kind}.safetensors"
        write(path / "normalizer.safetensors", fitted.read_bytes())
        self._write_predictions(path, ended, recipe, data)
        run_info = {
            "format": RUN_FORMAT,
            "environment": info["environment"],
            **ended.outcome(),
            "created": info["created"],
            "started": info["started"],
        }
        write_json(path / "run.json", run_info)

    def _write_predictions(
        self,
        path: Path,
        ended: Member,
        recipe: Recipe,
        data: Data | None,
    ) -> None:
        """Keep predictions on the last part that was read in training; they need the data."""
        if ended.status == DIVERGED or (data is None and not self.is_reloadable):
            return
        self.check_trust()
        if data is None:
            data = self.load_data()
        if recipe.sample.folds and not data.size("valid"):
            data = with_own_fold(data, recipe.sample)
        scored = [part for part in PARTS if f"{part}_loss" in ended.result]
        # A member that was stopped early may have been scored on no part.
        if not scored or self.schema.each_token:
            return
        part = scored[-1]
        model = build_model(recipe, self.schema, load_start=False, apply_frozen=False)
        load_weights(model, self.weights(ended.member), str(path))
        normalizer = read_normalizer(path / "normalizer.safetensors", recipe, self.schema)
        forward = evaluate.forward_of(model.eval())
        passes = evaluate.part_outputs(forward, data, part, [normalizer])
        outputs, _ = evaluate.collect(passes, data.size(part))
        write_predictions(path, data, outputs, part)

    def _ended(self, i: int) -> Member:
        if not 0 <= i < len(self):
            raise RunError(wrong("member", i, f"must be 0 to {len(self) - 1}"))
        ended = self.members.get(i)
        if ended is None:
            raise RunError(f"member {i} of {str(self.path)!r} has not finished; {self.way_on}")
        return ended

    @cached_property
    def identity(self) -> str:
        """What its checkpoints must belong to: these recipes on these data."""
        recipes = json.dumps([recipe.to_dict() for recipe in self.recipes])
        return recipes + str(self.data_info["fingerprint"])


def list_studies(root: Path | None = None) -> list[Study]:
    """Return every study under a folder (default: `DANLU_RUNS` or ./runs), oldest first."""
    found = []
    for path in (root or folder.runs_root()).glob("*/study.json"):
        with contextlib.suppress(RunError):
            study = Study(path.parent)
            found.append((study.info.get("created", 0.0), path.parent.name, study))
    return [study for _, _, study in sorted(found, key=lambda entry: entry[:2])]
