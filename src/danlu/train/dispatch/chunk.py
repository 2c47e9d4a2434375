"""What a population of a study leaves behind: curves, final weights and figures, checkpoints."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from danlu.data import Data
from danlu.errors import Diverged, Interrupted
from danlu.recipe import Recipe
from danlu.runs import Study, checkpoint, folder
from danlu.runs.run import build_model
from danlu.train.batches.batch_stream import BatchStream
from danlu.train.dispatch.fit import make_population, train_sample
from danlu.train.dispatch.plan import Plan
from danlu.train.dispatch.preflight import threads
from danlu.train.engine.loop import Loop, MemberState
from danlu.train.engine.population import Population
from danlu.train.engine.stopping import StopRequest

Tell = Callable[..., None]


Row = dict[str, Any]  # of a member's history, with its number as "member"


class Pruner(Protocol):
    """Decides after every epoch who need not go on."""

    def see(self, rows: Sequence[Row]) -> None:
        """What was reached before, when a study is resumed."""

    def judge(self, rows: Sequence[Row]) -> set[int]:
        """The members that are to stop, of those who reached these rows together."""
        ...


def name_of(members: Sequence[int]) -> str:
    """The name of a chunk's files: of the same members the same, of others another."""
    return f"{members[0]:06d}x{len(members)}-{hashlib.blake2b(repr(list(members)).encode(), digest_size=4).hexdigest()}"


def checkpoints(study: Study, name: str) -> Path:
    """Where the checkpoints of a chunk are."""
    return study.path / "checkpoint" / name


def files_of(name: str) -> tuple[str, str]:
    """What a chunk leaves in the study's folder."""
    return f"curves/{name}.parquet", f"weights/{name}.safetensors"


class ChunkRecorder:
    """The ledger of some members that are trained in one place; `finish` writes it down.

    tell: called with "steps", the chunk's name and the steps done by its members together, and with "ended" and the line
    of a member. stopped: the sentence for Ctrl-C.
    """

    def __init__(
        self,
        study: Study,
        members: list[int],
        referee: Pruner | None,
        interval: float,
        tell: Tell,
        stopped: Callable[[], str],
    ) -> None:
        self.study, self.members, self.parts, self.referee = (
            study,
            members,
            study.info["parts"],
            referee,
        )
        self.interval, self.tell, self.stopped = interval, tell, stopped
        self.name = name_of(members)
        self.rows: list[Row] = []
        self.lines: list[dict[str, Any]] = []  # of members that ended
        self.finals: list[dict[str, Tensor]] = []  # their weights
        self.steps: dict[int, int] = {}  # done, by member
        self.last: dict[int, dict[str, Any]] = {}  # newest row, by member

    @property
    def folder(self) -> Path:
        """Where its checkpoints are."""
        return checkpoints(self.study, self.name)

    @property
    def owner(self) -> str:
        """What its checkpoints must belong to."""
        return f"{self.study.identity}{self.members}"

    def resume(self, loop: Loop) -> None:
        """Go back to the newest whole checkpoint, if there is one."""
        found = checkpoint.load(self.folder, self.owner) if self.folder.is_dir() else None
        if not found:
            return
        tensors, position = found
        self.rows, self.lines = position["rows"], position["lines"]
        for row in self.rows:
            self.last[row["member"]], self.steps[row["member"]] = row, row["step"]
        for line in self.lines:
            self.tell("ended", line)
        if self.referee:
            self.referee.see(self.rows)
        names = [k.removeprefix("final.") for k in tensors if k.startswith("final.")]
        self.finals = [{k: tensors[f"final.{k}"][i] for k in names} for i in range(len(self.lines))]
        loop.restore(tensors, position)

    def stepped(self, loop: Loop) -> None:
        for p in loop.places:
            self.steps[p.index] = loop.steps_of(p)
        self.tell("steps", self.name, sum(self.steps.values()))

    def epoch(self, rows: list[tuple[MemberState, dict[str, Any]]]) -> None:
        fresh = [{"member": place.index, **row} for place, row in rows]
        self.rows += fresh
        for row in fresh:
            self.steps[row["member"]] = row["step"]
            self.last[row["member"]] = row
        if self.referee:
            stopped = self.referee.judge(fresh)
            for place, row in rows:
                over = row["epoch"] >= self.study.recipes[place.index].epochs
                place.stopped = not over and place.index in stopped
        self.tell("steps", self.name, sum(self.steps.values()))

    def left(self, loop: Loop, population: Population, leaving: list[tuple[MemberState, int]]) -> None:
        """Final figures and weights; the test part is read here, once."""
        metric, data = self.study.metric, loop.data
        parts = [p for p in data.parts if data.size(p) and p in self.parts]
        told = not any(
            place.best_epoch for place, _ in leaving
        )  # the last row's validation is that of the final weights
        whole = not all(place.stopped for place, _ in leaving)
        fresh = [p for p in parts if (p == "valid" and not told) or (p != "valid" and whole)]
        scores = {
            p: loop.scores(population, p, train_sample(data) if p == "train" else None)
            for p in fresh
        }
        numel = sum(p.numel() for p in population.model.parameters())
        for place, i in leaving:
            result = {**loop.told(place), "parameters": numel}
            for part in parts if not place.stopped else [p for p in parts if p == "valid"]:
                if part in scores:
                    s = scores[part][i]
                    result |= s.told(part, metric) | {f"{part}_n": s.n}
                else:
                    row = self.last[place.index]
                    result |= {k: v for k, v in row.items() if k.startswith("valid_")} | {
                        "valid_n": data.targets("valid")
                    }
            status = "stopped" if place.stopped else "finished"
            self._end(place, population.stack.row(i), {"status": status, "result": result})

    def broke(self, place: MemberState, weights: dict[str, Tensor], error: Diverged) -> None:
        self._end(
            place,
            weights,
            {"status": "diverged", "error": str(error), "step": error.step, "layer": error.layer},
        )

    def _end(self, place: MemberState, weights: dict[str, Tensor], told: dict[str, Any]) -> None:
        self.lines.append(
            {"member": place.index, "chunk": self.name, "row": len(self.lines), **told}
        )
        self.tell("ended", self.lines[-1])
        self.finals.append({k: v.cpu() for k, v in weights.items()})

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        with folder.storing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        kept = {f"final.{k}": t for k, t in self._stacked().items()}
        position = {**position, "rows": self.rows, "lines": self.lines}
        checkpoint.save(self.folder, step, {**tensors, **kept}, position, self.owner)

    def interrupted(self, step: int) -> Interrupted:
        return Interrupted(self.stopped())

    def _stacked(self) -> dict[str, Tensor]:
        return (
            {k: torch.stack([f[k] for f in self.finals]) for k in self.finals[0]}
            if self.finals
            else {}
        )

    def finish(self) -> list[dict[str, Any]]:
        """Write curves and weights; the lines to be written of its members. Then checkpoints are no longer needed."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        curves, weights = (self.study.path / file for file in files_of(self.name))
        for file in (curves, weights):
            with folder.storing(file.parent):
                file.parent.mkdir(exist_ok=True)
        if self.rows:
            sink = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist(self.rows), sink)
            folder.write(curves, sink.getvalue().to_pybytes())
        folder.write_tensors(weights, self._stacked())
        return self.lines


def populate(
    recipes: Sequence[Recipe],
    data: Data,
    feed: BatchStream,
    device: torch.device,
    others: Sequence[Recipe] = (),
) -> Population:
    """The networks of some recipes, as yet untrained; others: who may join them."""
    return make_population(
        recipes, lambda r: build_model(r, data.schema), data, feed, device, others
    )


def train_chunk(
    chunk: ChunkRecorder,
    way: Plan,
    data: Data,
    device: torch.device,
    checkpoint_every: float,
    stop: StopRequest,
) -> list[dict[str, Any]]:
    """Train some members of a study from where they stand to their end; what is to be written of them."""
    recipes = {i: chunk.study.recipes[i] for i in chunk.members}
    with threads(way.threads):
        feed = BatchStream(list(recipes.values()), data, device)
        others = list(recipes.values()) if len(recipes) > way.chunk > 1 else []
        make = functools.partial(populate, data=data, feed=feed, device=device, others=others)
        loop = Loop(
            recipes, make, way.chunk, feed, data, chunk.study.metric, chunk, checkpoint_every, stop
        )
        chunk.resume(loop)
        loop.train()
        return chunk.finish()
