"""`Study`: many trainings on one set of data, in one folder.

study.json  recipes.jsonl  data.json  normalizer.KIND.safetensors  members.jsonl (a line when one ends)
curves/*.parquet and weights/*.safetensors, one file per chunk of networks that trained together  members/ (opened as runs)
"""

from __future__ import annotations

import contextlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from danlu.data import Data
from danlu.errors import RunError, some, wrong
from danlu.predict import evaluate
from danlu.recipe import Recipe
from danlu.runs import folder
from danlu.runs.data_source import TrainedOnData
from danlu.runs.run import Run, build_model, read_normalizer, write_predictions
from danlu.runs.weights import load_weights

FORMAT = 2


class Study(TrainedOnData):
    """Many trainings on disk. Raises RunError when the folder is no study."""

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        self.path, self.trust = Path(path), trust
        if not (self.path / "study.json").is_file():
            raise RunError(f"{str(path)!r} is no study folder: it has no study.json")
        info = self.info
        found = info.get("format") if isinstance(info, dict) else None
        if found != FORMAT:
            raise RunError(
                f"{str(path)!r} has the study format {found}, but this danlu reads format {FORMAT}"
            )
        if not {"kind", "status", "plans", "environment"} <= set(info):
            raise RunError(f"{str(path)!r} is no study folder: its study.json is foreign")

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}, {len(self)} recipes, {self.status})"

    def __len__(self) -> int:
        return len(self.recipes)

    @property
    def info(self) -> dict[str, Any]:
        """`study.json` as it is now: format, kind, status, environment, plan."""
        return folder.read_json(self.path / "study.json")  # type: ignore[no-any-return]

    @property
    def status(self) -> str:
        """running, interrupted or finished."""
        info = self.info
        if info["status"] == "finished" and not info.get(
            "over", True
        ):  # a search or comparison has more to come
            return "running" if folder.held(self.path) else "interrupted"
        return str(info["status"])

    @property
    def trained(self) -> bool:
        """Whether all its recipes are, though a search or comparison may yet add more."""
        return bool(self.info["status"] == "finished")

    @cached_property
    def recipes(self) -> list[Recipe]:
        """The recipe of every member."""
        return [Recipe(**r) for r in folder.read_lines(self.path / "recipes.jsonl")]

    def check_trust(self) -> None:
        """Refuse to import networks, which runs their code, unless the study is trusted."""
        imported = sorted({r.model.name for r in self.recipes if ":" in r.model.name})
        if imported and not self.trust:
            raise RunError(
                f"{str(self.path)!r} imports networks ({some(imported)}), and that runs code; "
                "if you trust them, use --trust (trust=True)"
            )

    @property
    def members(self) -> dict[int, dict[str, Any]]:
        """What is known of each member that has ended: status (finished, stopped, diverged), chunk and row, final figures."""
        return {m["member"]: m for m in folder.read_lines(self.path / "members.jsonl")}

    @property
    def results(self) -> list[dict[str, Any]]:
        """The final figures of every member in order; empty for those not finished."""
        ended = self.members
        return [dict(ended.get(i, {}).get("result", {})) for i in range(len(self))]

    def curves(self) -> Any:
        """All curves as a `pandas.DataFrame`: member, epoch, step, lr, losses and accuracies, seconds."""
        import pyarrow.parquet as pq
        from pyarrow import concat_tables

        files = sorted((self.path / "curves").glob("*.parquet"))
        if not files:
            raise RunError(f"{str(self.path)!r} has no curves yet; nothing in it has finished")
        tables = [pq.read_table(f) for f in files]
        chunks = [f.stem for f, t in zip(files, tables, strict=True) for _ in range(len(t))]
        table = concat_tables(tables, promote_options="default").to_pandas()
        # A chunk of which not all members were written down before a crash was trained again, under another name.
        valid = {m["member"]: m["chunk"] for m in self.members.values()}
        table = table[
            [valid.get(i) == chunk for i, chunk in zip(table["member"], chunks, strict=True)]
        ]
        return table.sort_values(["member", "epoch"], ignore_index=True)

    def history(self, i: int) -> list[dict[str, Any]]:
        """The curve of member i, a row per epoch."""
        import pyarrow.parquet as pq

        file = self.path / "curves" / f"{self._ended(i)['chunk']}.parquet"
        if not file.is_file():  # all diverged in their first epoch
            return []
        rows = pq.read_table(file, filters=[("member", "==", i)]).to_pylist()
        kept = [{k: v for k, v in row.items() if k != "member" and v is not None} for row in rows]
        return sorted(kept, key=lambda row: row["epoch"])

    def weights(self, i: int) -> dict[str, Tensor]:
        """The final weights of member i by name."""
        told = self._ended(i)
        return folder.read_row(self.path / "weights" / f"{told['chunk']}.safetensors", told["row"])

    def run(self, i: int, data: Data | None = None) -> Run:
        """Member i as a run in a folder of its own, made on first use.

        data: the data, where they cannot be loaded again (arrays in memory); without them such a run has no predictions.
        """
        told = self._ended(i)
        path = self.path / "members" / f"{i:06d}"
        if not (path / "run.json").is_file():
            with folder.storing(path):
                path.mkdir(parents=True, exist_ok=True)
            recipe = self.recipes[i]
            folder.write(path / "recipe.toml", recipe.to_toml())
            folder.write_json(path / "data.json", self.data_info)
            folder.write_lines(path / "metrics.jsonl", self.history(i))
            folder.write_tensors(path / "weights.safetensors", self.weights(i))
            kept = (
                self.path / f"normalizer.{self.schema.normalization(recipe.normalize)}.safetensors"
            )
            folder.write(path / "normalizer.safetensors", kept.read_bytes())
            info = self.info
            whole = {
                "format": folder.FORMAT,
                "environment": info["environment"],
                "created": info["created"],
            }
            whole |= {
                k: told[k] for k in ("status", "error", "step", "layer", "result") if k in told
            }
            self._predict(path, told, recipe, data)
            folder.write_json(path / "run.json", {**whole, "started": info["started"]})
        return Run(path, self.trust)

    def _predict(self, path: Path, told: dict[str, Any], recipe: Recipe, data: Data | None) -> None:
        """Predictions on the last part that was read in training; they need the data."""
        if told["status"] == "diverged" or (data is None and "arrays" in self.data_info):
            return
        self.check_trust()
        data = self.load_data() if data is None else data
        part = next((p for p in ("test", "valid", "train") if f"{p}_loss" in told["result"]), None)
        if part is None or self.schema.each_token:  # stopped early, without a validation part
            return
        model = build_model(recipe, self.schema, start=False, fixed=False)
        load_weights(model, self.weights(told["member"]), str(path))
        normalizer = read_normalizer(path / "normalizer.safetensors", recipe, self.schema)
        outs = evaluate.part_outputs(evaluate.alone(model.eval()), data, part, [normalizer])
        write_predictions(path, data, evaluate.collect(outs, data.size(part))[0], part)

    def _ended(self, i: int) -> dict[str, Any]:
        if not 0 <= i < len(self):
            raise RunError(wrong("member", i, f"must be 0 to {len(self) - 1}"))
        told = self.members.get(i)
        if told is None:
            raise RunError(
                f"member {i} of {str(self.path)!r} has not finished; go on with: danlu resume {self.path}"
            )
        return told

    @cached_property
    def identity(self) -> str:
        """What its checkpoints must belong to: these recipes on these data."""
        return json.dumps([r.to_dict() for r in self.recipes]) + str(self.data_info["fingerprint"])


def higher_is_better(metric: str) -> bool:
    """Of a final figure such as "valid_accuracy": more of it is better, unlike of a loss or of epochs."""
    return metric.endswith(("accuracy", "r2", "f1"))


def list_studies(root: Path | None = None) -> list[Study]:
    """Every study under a folder (default: `DANLU_RUNS` or ./runs), oldest first."""
    found = []
    for path in (root or folder.runs_root()).glob("*/study.json"):
        with contextlib.suppress(RunError):
            study = Study(path.parent)
            found.append((study.info.get("created", 0.0), path.parent.name, study))
    return [study for _, _, study in sorted(found, key=lambda f: f[:2])]
