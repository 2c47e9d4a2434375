"""`Study`: many trainings on one set of data, in one folder.

study.json (digests of:)  recipes.jsonl  data.json  normalizer.KIND.safetensors
members.jsonl: a line when a member ends
curves/*.parquet, weights/*.safetensors, measurements/*.parquet: a file per chunk of networks that
trained together
members/: members that were opened as runs
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from danlu.data import Data
from danlu.data.parts import PARTS
from danlu.errors import RunError, wrong
from danlu.files import (
    Sealed,
    check_file,
    check_folder,
    digest_of,
    digest_of_file,
    is_file,
    pack_tensors,
    parse_json,
    parse_parquet,
    read_bytes,
    read_lines,
    read_row,
    refuse_links,
    subfolder,
    to_parquet,
    write_lines,
)
from danlu.formats import RUN_FORMAT, STUDY_FORMAT
from danlu.guest import guest
from danlu.models.weights import load_weights
from danlu.predict import evaluate
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.recipe.sample import with_own_fold
from danlu.runs import folder
from danlu.runs.data_source import TrainedOnData, readable
from danlu.runs.facts import StudyFacts, check_facts
from danlu.runs.measurements import NAME as MEASUREMENTS
from danlu.runs.measurements import Measurements, as_frame, check_columns, of_member
from danlu.runs.members import DIVERGED, Member
from danlu.runs.normalizers import read_normalizer
from danlu.runs.run import NORMALIZER, WEIGHTS, Run
from danlu.runs.saved_outputs import Digests, write_predictions

if TYPE_CHECKING:
    import pandas as pd

RECIPES = "recipes.jsonl"


class Study(TrainedOnData):
    """Many trainings on disk; trust: as of `Run`.

    Raises RunError when the folder is not a study, or is damaged.
    """

    index = "study.json"

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        super().__init__(path, trust)
        if not os.path.lexists(self.path / self.index):
            raise RunError(f"{str(path)!r} is not a study folder: it has no study.json")
        refuse_links(self.path)
        version = self.sealed.facts().get("format")
        if version != STUDY_FORMAT:
            raise RunError(
                f"{str(path)!r} has the study format {version}, "
                f"but this danlu reads format {STUDY_FORMAT}"
            )
        check_facts(self.info, StudyFacts, self.path / self.index)

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}, {len(self)} recipes, {self.status})"

    def __len__(self) -> int:
        return len(self.recipes)

    @property
    def status(self) -> str:
        """running, interrupted or finished."""
        info = self.info
        has_more_to_come = not info.get("over", True)  # a search or comparison
        status = str(info["status"])
        is_over = status == "finished" and not has_more_to_come and self.trained
        if is_over or status == "interrupted":
            return status
        return "running" if folder.is_locked(self.path) else "interrupted"

    @property
    def trained(self) -> bool:
        """Whether all its recipes are, though a search or comparison may yet add more."""
        # Lines of members that were lost since are trained again.
        return self.info["status"] == "finished" and len(self.members) == len(self)

    @cached_property
    def recipes(self) -> list[Recipe]:
        """The recipe of every member."""
        file = self.path / RECIPES
        recipes = []
        for line in self.sealed.read(RECIPES).splitlines():
            try:
                fields = parse_json(line)
            except ValueError as e:
                raise RunError(f"{file} is damaged: it is not JSON ({e})") from e
            recipes.append(self.recipe_from(fields, file))
        return recipes

    def recipe_from(self, fields: Any, file: Path) -> Recipe:
        """Return the recipe that a file of this study has. Raises RunError where it is none."""
        if not isinstance(fields, dict):
            raise RunError(f"{file} is foreign: a recipe in it is no JSON object")
        return Recipe(**fields).from_file(str(file), self.trust)

    def check_trust(self) -> None:
        """Raise RunError where anyone's code would be imported, which runs it, without trust."""
        for recipe in self.recipes:
            recipe.check_trust()

    @property
    def members(self) -> dict[int, Member]:
        """What is known of each member that has ended, by its number."""
        members = {}
        file = self.path / "members.jsonl"
        for line in read_lines(file):
            member = Member.from_json(line, file)
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

    @guest
    def curves(self) -> Any:
        """Return all curves as a `pandas.DataFrame`.

        member, epoch, step, lr, losses and accuracies, seconds. Raises RunError before the first
        member has ended.
        """
        from pyarrow import concat_tables

        members = self.members.values()
        # A chunk of which not all members were written down before a crash was trained again,
        # under another name.
        chunk_of = {member.member: member.chunk for member in members}
        tables = []
        chunks = []  # of each row
        for chunk, digest in {member.chunk: member.curves for member in members}.items():
            table = self._curves_of(chunk, digest)
            tables.append(table)
            chunks += [chunk] * len(table)
        if not chunks:
            raise RunError(f"{str(self.path)!r} has no curves yet; nothing in it has finished")
        curves = concat_tables(tables, promote_options="default").to_pandas()
        is_current = curves["member"].map(chunk_of) == chunks
        return curves[is_current].sort_values(["member", "epoch"], ignore_index=True)

    def _curves_of(self, chunk: str, digest: str | None) -> Any:
        """Return the curves of a chunk as an Arrow table; of one that diverged at once, no rows."""
        import pyarrow as pa

        if digest is None:
            return pa.table({"member": pa.array([], pa.int64()), "epoch": pa.array([], pa.int64())})
        file = self.path / "curves" / f"{chunk}.parquet"
        content = read_bytes(file)
        if digest_of_file(content) != digest:
            raise RunError(f"{file} is damaged")
        return parse_parquet(content, file)

    @guest
    def measurements(self, i: int | None = None) -> pd.DataFrame:
        """Return what the probes found as `Run.measurements`, of member i or, with member, of all.

        Empty where nothing was measured.
        """
        from pyarrow import concat_tables

        if i is not None:
            return as_frame(self._measured(self._ended(i)))
        members = self.members
        # In their order, whichever ended first.
        tables = [self._measured(members[k], with_member=True) for k in sorted(members)]
        tables = [table for table in tables if table.num_rows]
        if not tables:
            return as_frame(Measurements().table())
        return as_frame(concat_tables(tables, promote_options="default"))

    def _measured(self, ended: Member, with_member: bool = False) -> Any:
        """Return a member's measurements as an Arrow table."""
        if ended.measurements is None:
            return Measurements().table()
        file = self.path / "measurements" / f"{ended.chunk}.parquet"
        content = read_bytes(file)
        if digest_of_file(content) != ended.measurements:
            raise RunError(f"{file} is damaged")
        table = check_columns(of_member(parse_parquet(content, file), ended.member), file)
        if not with_member:
            return table
        return table.add_column(0, "member", [[ended.member] * table.num_rows])

    @guest
    def history(self, i: int) -> list[dict[str, Any]]:
        """Return the curve of member i, a row per epoch."""
        import pyarrow.compute as pc

        ended = self._ended(i)
        table = self._curves_of(ended.chunk, ended.curves)
        history = []
        for row in table.filter(pc.field("member") == i).to_pylist():
            del row["member"]
            # Columns that other members of the chunk have are empty here.
            history.append({name: value for name, value in row.items() if value is not None})
        return sorted(history, key=lambda row: row["epoch"])

    @guest
    def weights(self, i: int) -> dict[str, Tensor]:
        """Return the final weights of member i by name."""
        return self._weights_of(self._ended(i))

    def each_weights(self, members: Sequence[int]) -> Iterator[dict[str, Tensor]]:
        """Yield the final weights of members one after the other; the list of them is read once."""
        known = self.members
        for i in members:
            yield self._weights_of(known[i] if i in known else self._ended(i))

    def _weights_of(self, ended: Member) -> dict[str, Tensor]:
        file = self.path / "weights" / f"{ended.chunk}.safetensors"
        check_folder(file.parent)
        tensors = read_row(file, ended.row)
        if digest_of(tensors) != ended.weights:
            number = ended.member
            raise RunError(
                f"{file} is damaged: the weights of member {number} are not those it had"
            )
        return tensors

    @guest
    def run(self, i: int, data: Data | None = None) -> Run:
        """Return member i as a run in a folder of its own, made on first use.

        data: the data, where they cannot be loaded again (arrays in memory); without them such a
        run has no predictions.
        """
        ended = self._ended(i)
        path = self.path / "members" / f"{i:06d}"
        check_folder(path.parent)
        check_folder(path)
        if not is_file(path / "run.json"):
            self._write_run(path, ended, data)
        return Run(path, self.trust)

    def _write_run(self, path: Path, ended: Member, data: Data | None) -> None:
        """Write a member's folder; run.json, which makes it a run, comes last."""
        subfolder(path.parent)
        sealed = Sealed(subfolder(path) / Run.index)
        check_file(sealed.index)
        i, info = ended.member, self.info
        recipe = self.recipes[i]
        write_lines(path / "metrics.jsonl", self.history(i))
        kind = self.schema.normalization(recipe.normalize)
        files = {
            **sealed.write("recipe.toml", recipe.to_toml()),
            **sealed.write("data.json", self.sealed.read("data.json")),
            **sealed.write(WEIGHTS, pack_tensors(self.weights(i))),
            **sealed.write(NORMALIZER, self.sealed.read(f"normalizer.{kind}.safetensors")),
        }
        files |= self._write_predictions(sealed, ended, recipe, data)
        if ended.measurements is not None:
            files |= sealed.write(MEASUREMENTS, to_parquet(self._measured(ended)))
        sealed.update(
            format=RUN_FORMAT,
            environment=info["environment"],
            **ended.outcome(),
            created=info["created"],
            started=info["started"],
            files=files,
        )

    def _write_predictions(
        self,
        sealed: Sealed,
        ended: Member,
        recipe: Recipe,
        data: Data | None,
    ) -> Digests:
        """Keep predictions on the last part that was read in training; they need the data."""
        if ended.status == DIVERGED or (data is None and not self.is_reloadable):
            return {}
        recipe.check_trust(recipe.model.name)
        if data is None:
            data = self.load_data()
        if recipe.sample.folds and not data.size("valid"):
            data = with_own_fold(data, recipe.sample)
        scored = [part for part in PARTS if f"{part}_loss" in ended.result]
        # A member that was stopped early may have been scored on no part.
        if not scored or self.schema.each_token:
            return {}
        part = scored[-1]
        model = build_model(recipe, self.schema, load_start=False, apply_frozen=False)
        load_weights(model, self.weights(ended.member), str(sealed.folder))
        name = f"normalizer.{self.schema.normalization(recipe.normalize)}.safetensors"
        normalizer = read_normalizer(self.sealed, name, recipe, self.schema)
        forward = evaluate.forward_of(model.eval())
        passes = evaluate.part_outputs(forward, data, part, [normalizer])
        outputs, _ = evaluate.collect(passes, data.size(part))
        return write_predictions(sealed, data, outputs, part)

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
        info = self.info
        recipes = json.dumps([recipe.to_dict() for recipe in self.recipes])
        begun_with = [info["files"][name] for name in sorted(info["files"]) if name != RECIPES]
        return repr((recipes, begun_with, info["environment"], info.get("starts", {})))


def list_studies(root: Path | None = None) -> list[Study]:
    """Return every study under a folder (default: `DANLU_RUNS` or ./runs), oldest first.

    Those that cannot be read are left out.
    """
    return readable(Study, root)
