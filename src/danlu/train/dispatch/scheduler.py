"""Trains the groups of a study: here, side by side, or on a cluster, as measured plans say."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import Interrupted, RunError
from danlu.files import append_lines
from danlu.recipe.build import build_model
from danlu.runs import Member, Study, checkpoint
from danlu.train.batches import BatchStream
from danlu.train.dispatch import provenance
from danlu.train.dispatch.choose import Resources, choose_plan
from danlu.train.dispatch.chunk import (
    ChunkRecorder,
    Pruner,
    Reporter,
    checkpoint_folder,
    population_maker,
    train_chunk,
)
from danlu.train.dispatch.cluster import Cluster, ClusterRun
from danlu.train.dispatch.device import choose_device
from danlu.train.dispatch.listener import StudyListener
from danlu.train.dispatch.memory import is_out_of_memory
from danlu.train.dispatch.plan import HERE, ON_RAY, Plan
from danlu.train.dispatch.reports import Report, SendingReporter, StepsDone
from danlu.train.dispatch.workers import DONE, REPORT, Message, Send, can_fork, run_workers
from danlu.train.engine.stopping import StopRequest

# Members of a chunk for each slot, where slots get free one after another…
_MEMBERS_PER_SLOT = 8
# …as long as the final weights of a chunk, which wait for its end, are no more bytes.
_MOST_FINAL_BYTES = 1 << 28
# Groups for each core from which on every group trains on one core, and cores take them in turn.
_MANY_GROUPS = 2

RunJobs = Callable[[Callable[[], bool]], Generator[Message, None, None]]


@dataclass(frozen=True)
class Group:
    """Members that share a structure; number: of the group in the study."""

    number: int
    members: list[int]


@dataclass(frozen=True)
class Job:
    """A chunk of a group, and how it is trained."""

    group: int
    members: list[int]
    plan: Plan


class StudyScheduler:
    """What is left to do of a study, and who does it."""

    def __init__(
        self,
        study: Study,
        data: Data,
        listener: StudyListener,
        checkpoint_every: float,
        stop: StopRequest,
        pruner: Pruner | None,
        cluster: Cluster | None = None,
    ) -> None:
        self.study, self.data, self.listener = study, data, listener
        self.checkpoint_every, self.stop = checkpoint_every, stop
        self.pruner, self.cluster, self.info = pruner, cluster, study.info
        choose = cluster.device if cluster else choose_device
        self.device = torch.device(choose(self.info["environment"]["device"]))
        self.ended = set(study.members)
        self.reported = set(self.ended)
        steps = [r.epochs * -(-data.size("train") // r.batch_size) for r in study.recipes]
        self.steps_in_all = sum(steps)  # of all members together
        self.steps_before = sum(steps[i] for i in self.ended)
        self.steps_of_chunks: dict[str, int] = {}  # done since
        self.written_chunks: set[str] = set()
        self.measuring: dict[int, Any] = {}  # on a cluster: pending plans by group
        self.groups_in_turn = False  # whether many groups train at once, each on one core

    @property
    def processes(self) -> int:
        """How many processes may train side by side.

        A pruner sees every member, so those it judges are not spread over processes.
        """
        may_fork = can_fork() and not self.pruner and self.device.type == "cpu"
        return torch.get_num_threads() if may_fork else 1

    def train(self, groups: Sequence[list[int]]) -> None:
        """Train what is left of each group.

        All together on a cluster or where they are many, else one after another.
        """
        unfinished = [
            Group(number, members)
            for number, members in enumerate(groups)
            if not self.ended.issuperset(members)
        ]
        for in_turn, some in self._that_train_together(unfinished):
            self.groups_in_turn = in_turn
            while jobs := self._jobs(some):
                if too_large := self._run(jobs):
                    self._use_smaller_chunks([group for group in some if group.number in too_large])

    def _that_train_together(
        self, groups: Sequence[Group]
    ) -> Iterator[tuple[bool, Sequence[Group]]]:
        """Yield (whether cores take them in turn, groups) that train at the same time."""
        if self.cluster:
            yield False, groups
            return
        # A chunk that began on several threads goes on so: on one the last bits of its sums could
        # be others.
        wide = {kept["group"] for kept in self.info["plans"] if kept["threads"] > 1}
        others = [group for group in groups if group.number not in wide]
        are_many = self.processes > 1 and len(others) >= _MANY_GROUPS * self.processes
        for group in groups:
            if group.number in wide or not are_many:
                yield False, [group]
        if are_many:
            yield True, others

    def _left_of(self, group: Group) -> list[int]:
        return [i for i in group.members if i not in self.ended]

    def _jobs(self, groups: Sequence[Group]) -> list[Job]:
        """Return the chunks that are left, the longest first.

        So none is left over at the end while other cores are idle.
        """
        unfinished = [Group(g.number, left) for g in groups if (left := self._left_of(g))]
        if self.cluster:
            for group in unfinished:
                if self._kept_plan(group) is None:
                    self.measuring[group.number] = self.cluster.start_measuring(
                        self.study, group.members, self.data, self.device.type
                    )
        jobs: list[Job] = []
        for group in unfinished:
            self.listener.heartbeat()
            if self.stop.asked:  # measuring many groups takes its time
                self._cancel_measuring()
                raise Interrupted(self._interrupted_message)
            plan = self._plan(group)
            for first in range(0, len(group.members), plan.chunk_size):
                members = group.members[first : first + plan.chunk_size]
                jobs.append(Job(group.number, members, plan))
        recipes = self.study.recipes
        return sorted(jobs, key=lambda job: -sum(recipes[i].epochs for i in job.members))

    def _cancel_measuring(self) -> None:
        if self.cluster:
            self.cluster.cancel(self.measuring.values())

    def _chunk_size(self, members: list[int], plan: Plan) -> int:
        """Return how many members a chunk has.

        As many as train together, or several times that where they do not all end at once. Kept in
        the plan: a resumed study has the same chunks, and so finds their checkpoints.
        """
        size = plan.population_size
        if size == 1 and plan.workers > 1 and not self.cluster:
            # A process of its own for each would warm up anew.
            return max(1, min(_MEMBERS_PER_SLOT, plan.members // (2 * plan.workers)))
        recipes = [self.study.recipes[i] for i in members]
        same_epochs = len({recipe.epochs for recipe in recipes}) == 1
        any_patience = any(recipe.early_stopping.patience for recipe in recipes)
        end_together = same_epochs and not any_patience and not self.pruner
        if size == 1 or end_together:
            return size
        model = build_model(recipes[0], self.study.schema)
        bytes_of_each = sum(p.nbytes for p in model.parameters())
        slots = min(_MEMBERS_PER_SLOT, _MOST_FINAL_BYTES // max(1, bytes_of_each * size))
        return max(size, min(slots * size, -(-plan.members // plan.workers)))

    def _run(self, jobs: Sequence[Job]) -> set[int]:
        """Do the jobs; return the groups for which memory did not suffice."""
        if self.cluster:
            chunks = [(job.members, job.plan) for job in jobs]
            run = ClusterRun(
                self.cluster,
                self.study,
                self.data,
                chunks,
                self.device.type,
                self.pruner,
                self.checkpoint_every,
            )
            return self._run_elsewhere(run.train, jobs)
        is_exclusive = any(job.plan.exclusive for job in jobs)
        workers = 1 if is_exclusive else max(job.plan.workers for job in jobs)
        if workers == 1:
            return self._run_here(jobs)
        # Curves are written by these; loaded once, not by every process that is forked.
        import pandas  # noqa: F401
        import pyarrow.parquet  # noqa: F401

        works = (self._work_in_process(job) for job in jobs)
        return self._run_elsewhere(functools.partial(run_workers, works, workers), jobs)

    def _run_here(self, jobs: Sequence[Job]) -> set[int]:
        for job in jobs:
            try:
                self._write(self._train_chunk(job, SendingReporter(self.report)))
            except (RuntimeError, MemoryError) as e:
                if not is_out_of_memory(e):
                    raise
                return {job.group}
        return set()

    def _work_in_process(self, job: Job) -> Callable[[Send], Any]:
        """Return a chunk's training for a process of its own."""

        def work(send: Send) -> list[Member]:
            before = self.stop
            with StopRequest() as self.stop:  # first, so that no signal falls between the two
                self.stop.asked = self.stop.asked or before.asked
                return self._train_chunk(job, SendingReporter(send))

        return work

    def _run_elsewhere(self, run: RunJobs, jobs: Sequence[Job]) -> set[int]:
        """Follow jobs until all are done, or one failed and the others have saved what they have.

        Return the groups for which memory did not suffice; other errors are raised.
        """
        errors: dict[int, BaseException] = {}  # the first of each group

        def should_stop() -> bool:
            self.listener.heartbeat()
            return self.stop.asked or bool(errors)

        with contextlib.closing(run(should_stop)) as messages:
            for message in messages:
                group = jobs[message.job].group
                if message.kind == REPORT:
                    self.report(message.value)
                elif message.kind == DONE:
                    self._write(message.value)
                elif not isinstance(message.value, Interrupted):
                    errors.setdefault(group, message.value)
                elif not self.stop.asked and not errors:
                    errors[group] = RunError(
                        f"a worker was told to stop by another process; {self._interrupted_message}"
                    )
        if self.stop.asked:
            raise Interrupted(self._interrupted_message)
        for error in errors.values():
            if not is_out_of_memory(error):
                raise error
        return set(errors)

    def _use_smaller_chunks(self, groups: Sequence[Group]) -> None:
        """Plan smaller populations for what is left, after memory ran out."""
        for group in groups:
            left = Group(group.number, self._left_of(group))
            plan = self._plan(left)
            if plan.population_size > 1:
                plan.population_size //= 2
            elif plan.workers > 1 and not self.cluster:
                plan.exclusive, plan.workers = True, 1
            else:
                raise RunError(
                    "memory does not suffice for a single network; "
                    "try a smaller batch_size or model"
                )
            plan.reason, plan.is_surprising = "memory ran out with more at once", True
            plan.seconds_per_step = {}
            plan.chunk_size = self._chunk_size(left.members, plan)
            self._keep_plan(left, plan)
        # Chunks that were not written begin again.
        self.steps_of_chunks = {
            chunk: steps
            for chunk, steps in self.steps_of_chunks.items()
            if chunk in self.written_chunks
        }
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _plan(self, group: Group) -> Plan:
        """Return the plan kept from before, or a new one.

        A resumed study goes on in the way it began, also elsewhere.
        """
        kept = self._kept_plan(group)
        if kept is not None:
            return kept
        plan = self._plan_of_cluster(group) if self.cluster else self._measured_plan(group)
        plan.chunk_size = self._chunk_size(group.members, plan)
        self._keep_plan(group, plan)
        return plan

    def _plan_of_cluster(self, group: Group) -> Plan:
        assert self.cluster is not None
        pending = self.measuring.pop(group.number)
        plan = self.cluster.wait_for_plan(pending, lambda: self.stop.asked)
        if plan is None:
            self._cancel_measuring()
            raise Interrupted(self._interrupted_message)
        return plan

    def _measured_plan(self, group: Group) -> Plan:
        recipes = [self.study.recipes[i] for i in group.members]
        batches = BatchStream(recipes, self.data, self.device)
        make = population_maker(self.data, batches, self.device)
        if self.groups_in_turn:
            resources = Resources(cores=1, processes=False, tenants=self.processes)
        else:
            resources = Resources(torch.get_num_threads(), processes=self.processes > 1)
        plan = choose_plan(recipes, make, self.data, self.device, resources)
        if self.groups_in_turn:
            plan.workers = self.processes
        return plan

    def _kept_plan(self, group: Group) -> Plan | None:
        """Return the plan from before, or None.

        Where members were added since, one for less than half as many no longer fits.
        """
        kept = next((p for p in self.info["plans"] if p["group"] == group.number), None)
        if kept is None or len(group.members) > 2 * kept["members"]:
            return None
        plan = Plan.from_json(kept)
        plan.chunk_size = plan.chunk_size or self._chunk_size(group.members, plan)
        where = ON_RAY if self.cluster else HERE
        if plan.where != where:  # the same chunks on one core each give the same numbers
            plan.where, plan.threads = where, 1
            plan.workers = self.cluster.places(self.device.type) if self.cluster else self.processes
        elif self.groups_in_turn and not plan.exclusive:
            plan.workers = self.processes
        return plan

    def _keep_plan(self, group: Group, plan: Plan) -> None:
        self.listener.plan(group.members, plan)
        others = [kept for kept in self.info["plans"] if kept["group"] != group.number]
        self.info["plans"] = [*others, plan.to_json(group.number)]
        provenance.update_json(self.study.path / "study.json", plans=self.info["plans"])

    def _train_chunk(self, job: Job, reporter: Reporter) -> list[Member]:
        if self.stop.asked:
            raise Interrupted(self._interrupted_message)
        recorder = ChunkRecorder(
            self.study,
            job.members,
            self.pruner,
            self.listener.interval,
            reporter,
            self._interrupted_message,
        )
        return train_chunk(
            recorder, job.plan, self.data, self.device, self.checkpoint_every, self.stop
        )

    def _write(self, members: list[Member]) -> None:
        """Write members that ended into members.jsonl; then their checkpoints are not needed."""
        lines = [member.to_json() for member in members]
        append_lines(self.study.path / "members.jsonl", lines)
        for member in members:
            self.ended.add(member.member)
            self.report(member)
        chunk = members[0].chunk
        self.written_chunks.add(chunk)
        checkpoint.remove_all(checkpoint_folder(self.study, chunk))

    def report(self, report: Report) -> None:
        """Pass on what a chunk reports."""
        if isinstance(report, StepsDone):
            self.steps_of_chunks[report.chunk] = report.steps
            self.listener.progress(self.steps_before + sum(self.steps_of_chunks.values()))
        elif report.member not in self.reported:
            self.reported.add(report.member)
            self.listener.ended(report.member, report.status, report.result)

    @property
    def _interrupted_message(self) -> str:
        return f"stopped, saved; go on with: danlu resume {self.study.path}"
