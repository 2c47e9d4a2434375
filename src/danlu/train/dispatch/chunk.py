"""What a population of a study leaves behind: curves, final weights and figures, checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from danlu import metrics
from danlu.data import Data
from danlu.errors import Diverged, Interrupted
from danlu.files import digest_of, digest_of_file, subfolder, to_parquet, write, write_tensors
from danlu.host import compute_threads
from danlu.predict.scores import Score
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.runs import Member, Study, checkpoint
from danlu.runs.measurements import OFF
from danlu.runs.members import DIVERGED, FINISHED, STOPPED, Status
from danlu.train.batches import BatchStream
from danlu.train.dispatch.fit import make_population
from danlu.train.dispatch.plan import Plan
from danlu.train.dispatch.run_recorder import scored_examples
from danlu.train.engine.divergence import at_the_end
from danlu.train.engine.loop import Loop
from danlu.train.engine.members import FinishedMember, MemberState
from danlu.train.engine.population import Population
from danlu.train.engine.stopping import StopRequest
from danlu.train.probes.meter import Meter, meter_of

Row = dict[str, Any]  # of a member's history, with its number as "member"
_FINAL = "final."  # before the names of final weights in a checkpoint


class Reporter(Protocol):
    """Hears how a chunk goes on."""

    def steps(self, chunk: str, done: int) -> None:
        """Note the steps done by all members of a chunk together."""

    def ended(self, member: Member) -> None:
        """Take a member that has ended."""

    def note(self, sentence: str) -> None:
        """Pass on what the user should know."""


class Pruner(Protocol):
    """Decides after every epoch which members need not go on."""

    def observe(self, rows: Sequence[Row]) -> None:
        """Take in what was reached before, when a study is resumed."""

    def prune(self, rows: Sequence[Row]) -> set[int]:
        """Return the members to stop, of those who reached these rows together."""
        ...


def _watched(metric: str | None) -> list[str]:
    """Return what to compute beside loss and accuracy, for a study that chooses by valid_auc."""
    if metric is None:
        return []
    part, name = metrics.part_and_name(metric)
    return metrics.computed([name]) if part else []


def chunk_name(members: Sequence[int]) -> str:
    """Return the name of a chunk's files, which depends on its members alone."""
    # A resumed study finds its checkpoints by the name.
    listed = repr(list(members))
    digest = hashlib.blake2b(listed.encode(), digest_size=4).hexdigest()
    return f"{members[0]:06d}x{len(members)}-{digest}"


def checkpoint_folder(study: Study, chunk: str) -> Path:
    """Return where the checkpoints of a chunk are."""
    return study.path / "checkpoint" / chunk


def files_of(chunk: str) -> tuple[str, str, str]:
    """Return the files that a chunk leaves in the study's folder: curves, weights, measurements."""
    names = f"curves/{chunk}.parquet", f"weights/{chunk}.safetensors"
    return *names, f"measurements/{chunk}.parquet"


class ChunkRecorder:
    """Records members of a study that are trained in one place; `write` puts it on disk.

    interrupted_message: the sentence for Ctrl-C.
    """

    def __init__(
        self,
        study: Study,
        members: list[int],
        pruner: Pruner | None,
        interval: float,
        reporter: Reporter,
        interrupted_message: str,
    ) -> None:
        self.study = study
        self.members = members
        self.pruner = pruner
        info = study.info
        self.parts: list[str] = info["parts"]
        self.watched = _watched(info.get("metric"))
        self.interval = interval
        self.reporter = reporter
        self.interrupted_message = interrupted_message
        self.name = chunk_name(members)
        self.meter: Meter | None = None
        self.rows: list[Row] = []
        self.ended: list[Member] = []
        self.final_weights: list[dict[str, Tensor]] = []  # of the members that ended
        self.steps: dict[int, int] = {}  # done, by member
        self.last_row: dict[int, Row] = {}  # by member

    @property
    def folder(self) -> Path:
        """Where its checkpoints are."""
        return checkpoint_folder(self.study, self.name)

    @property
    def owner(self) -> str:
        """What its checkpoints must belong to."""
        return f"{self.study.identity}{self.members}"

    def resume(self, loop: Loop) -> None:
        """Go back to the newest whole checkpoint, if there is one."""
        if not self.folder.is_dir():
            return
        found = checkpoint.load(self.folder, self.owner)
        if found.damaged:
            self.reporter.note(found.notice(self.folder))
        if found.checkpoint is not None:
            with checkpoint.restoring(self.folder):
                self._restore(loop, found.checkpoint)

    def _restore(self, loop: Loop, saved: checkpoint.Checkpoint) -> None:
        self.rows = saved.position["rows"]
        for row in self.rows:
            self.last_row[row["member"]] = row
            self.steps[row["member"]] = row["step"]
        self.ended = [Member.from_json(line, self.folder) for line in saved.position["ended"]]
        for member in self.ended:
            self.reporter.ended(member)
        if self.pruner:
            self.pruner.observe(self.rows)
        for i in range(len(self.ended)):
            weights = {}
            for name, tensor in saved.tensors.items():
                if name.startswith(_FINAL):
                    weights[name.removeprefix(_FINAL)] = tensor[i]
            self.final_weights.append(weights)
        loop.restore(saved.tensors, saved.position)

    def stepped(self, loop: Loop) -> None:
        """Report the steps done."""
        for member in loop.members:
            self.steps[member.index] = loop.steps_of(member)
        self._report_steps()

    def _report_steps(self) -> None:
        self.reporter.steps(self.name, sum(self.steps.values()))

    def epoch_ended(self, rows: list[tuple[MemberState, dict[str, Any]]]) -> None:
        """Keep the rows, and ask the pruner who goes on."""
        new_rows = []
        for member, row in rows:
            self.steps[member.index] = row["step"]
            self.last_row[member.index] = {"member": member.index, **row}
            new_rows.append(self.last_row[member.index])
        self.rows += new_rows
        if self.pruner:
            stopped = self.pruner.prune(new_rows)
            for member, row in rows:
                is_over = row["epoch"] >= self.study.recipes[member.index].epochs
                member.stopped = member.index in stopped and not is_over
        self._report_steps()

    def finished(self, loop: Loop, population: Population, members: list[FinishedMember]) -> None:
        """Keep final figures and weights; the test part is read here, once."""
        scores = self._scores(loop, population, members)
        parameters = sum(p.numel() for p in population.model.parameters())
        for member in members:
            state = member.state
            result = {**loop.effort(state), "parameters": parameters}
            for part in self._parts_of(loop, state):
                result |= self._figures(part, member, scores, loop.data)
            weights = population.stack.state_dict(member.row)
            lr = self.study.recipes[state.index].optimizer.lr
            error = at_the_end(result, result["steps"], lr)
            if error is not None:
                self.diverged(state, weights, error, loop.recent_losses(state))
                continue
            status = STOPPED if state.stopped else FINISHED
            self._end(state, weights, status, result=result)

    def _scores(
        self, loop: Loop, population: Population, members: list[FinishedMember]
    ) -> dict[str, list[Score]]:
        """Score the parts that some member needs and that no row has scored yet."""
        data = loop.data
        # Without early stopping, the last row's validation is that of the final weights.
        kept_best = any(member.state.best_epoch for member in members)
        all_stopped = all(member.state.stopped for member in members)
        scores = {}
        if loop.scorer.by_fold and "valid" in self.parts:
            scores["valid"] = loop.scorer.validation_scores(population, loop.watched)
        for part in data.parts:
            if not data.size(part) or part not in self.parts:
                continue
            is_needed = kept_best if part == "valid" else not all_stopped
            if is_needed:
                if part == "train":
                    most = scored_examples(data)
                    scores[part] = loop.scorer.training_scores(population, most, loop.watched)
                else:
                    scores[part] = loop.scorer.scores(population, part, more=loop.watched)
        return scores

    def _parts_of(self, loop: Loop, member: MemberState) -> list[str]:
        """Return the parts that a member's result has; one that was stopped, only validation."""
        parts = []
        for part in loop.data.parts:
            is_wanted = part == "valid" or not member.stopped
            is_there = loop.data.size(part) or (part == "valid" and loop.scorer.by_fold)
            if is_there and part in self.parts and is_wanted:
                parts.append(part)
        return parts

    def _figures(
        self,
        part: str,
        member: FinishedMember,
        scores: dict[str, list[Score]],
        data: Data,
    ) -> dict[str, Any]:
        if part in scores:
            score = scores[part][member.row]
            figures: dict[str, Any] = dict(score.figures(part, self.study.metric))
            figures[f"{part}_n"] = score.n
            return figures
        row = self.last_row[member.state.index]
        figures = {name: value for name, value in row.items() if name.startswith("valid_")}
        figures["valid_n"] = data.targets("valid")
        return figures

    def diverged(
        self,
        member: MemberState,
        weights: dict[str, Tensor],
        error: Diverged,
        losses: list[float],
    ) -> None:
        """Keep why a member ended."""
        facts = {"error": str(error), "step": error.step, "layer": error.layer}
        self._end(member, weights, DIVERGED, **facts, last_losses=losses)

    def _end(
        self, state: MemberState, weights: dict[str, Tensor], status: Status, **facts: Any
    ) -> None:
        member = Member(state.index, self.name, len(self.ended), status, **facts)
        self.ended.append(member)
        # Kept in memory until the chunk ends: many small files would be slow.
        self.final_weights.append({name: tensor.cpu() for name, tensor in weights.items()})
        self.reporter.ended(member)

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """Write a checkpoint, with what the members that ended leave behind."""
        subfolder(self.folder.parent)
        tensors = dict(tensors)
        for name, weights in self._stacked_weights().items():
            tensors[_FINAL + name] = weights
        position = dict(position)
        position["rows"] = self.rows
        position["ended"] = [member.to_json() for member in self.ended]
        checkpoint.save(self.folder, step, tensors, position, self.owner)

    def interrupted(self, step: int) -> Interrupted:
        """Return the error for Ctrl-C."""
        return Interrupted(self.interrupted_message)

    def _stacked_weights(self) -> dict[str, Tensor]:
        """Return the final weights of all members that ended, [members, …] by name."""
        stacked: dict[str, Tensor] = {}
        if not self.final_weights:
            return stacked
        for name in self.final_weights[0]:
            stacked[name] = torch.stack([weights[name] for weights in self.final_weights])
        return stacked

    def write(self) -> list[Member]:
        """Write curves, measurements and weights; return the members that ended.

        Then checkpoints are no longer needed.
        """
        import pyarrow as pa

        curves, weights, measurements = (self.study.path / file for file in files_of(self.name))
        digest, digest_of_measurements = None, None
        if self.rows:
            digest = _write_table(curves, pa.Table.from_pylist(self.rows))
        if self.meter is not None and len(self.meter.found):
            digest_of_measurements = _write_table(measurements, self.meter.found.table())
        # After the curves: members.jsonl, which counts, is written last of all.
        write_tensors(subfolder(weights.parent) / weights.name, self._stacked_weights())
        ended = []
        for member, tensors in zip(self.ended, self.final_weights, strict=True):
            ended.append(
                replace(
                    member,
                    weights=digest_of(tensors),
                    curves=digest,
                    measurements=digest_of_measurements,
                )
            )
        return ended


def _write_table(file: Path, table: Any) -> str:
    """Write an Arrow table; return the file's digest."""
    content = to_parquet(table)
    write(subfolder(file.parent) / file.name, content)
    return digest_of_file(content)


def population_maker(
    data: Data,
    batches: BatchStream,
    device: torch.device,
    others: Sequence[Recipe] = (),
) -> Callable[[Sequence[Recipe]], Population]:
    """Return what makes populations, as yet untrained; others: recipes that may join them."""

    def build(recipe: Recipe) -> Any:
        return build_model(recipe, data.schema)

    def make(recipes: Sequence[Recipe]) -> Population:
        return make_population(recipes, build, data, batches, device, others)

    return make


def train_chunk(
    recorder: ChunkRecorder,
    plan: Plan,
    data: Data,
    device: torch.device,
    checkpoint_every: float,
    stop: StopRequest,
) -> list[Member]:
    """Train some members of a study to their end; return what became of them."""
    recipes = {i: recorder.study.recipes[i] for i in recorder.members}
    everyone = list(recipes.values())
    capacity = plan.population_size
    # Where some wait for a free slot, the population must be able to take each of them.
    others = everyone if len(everyone) > capacity > 1 else []
    with compute_threads(plan.threads):
        batches = BatchStream(everyone, data, device)
        make = population_maker(data, batches, device, others)
        recorder.meter = meter_of(recorder.study.info.get("probes", OFF), data, batches)
        loop = Loop(
            recipes,
            make,
            capacity,
            batches,
            data,
            recorder,
            checkpoint_every,
            stop,
            recorder.watched,
            recorder.meter,
            recorder.parts,
        )
        recorder.resume(loop)
        loop.train()
        return recorder.write()
