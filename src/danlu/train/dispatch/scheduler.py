"""Trains the groups of a study: here, side by side, or on a cluster, as plans say."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import Interrupted, RunError, RunNotice, notify, stopped
from danlu.files import append_lines
from danlu.memory import is_out_of_memory
from danlu.runs import Member, Study, checkpoint
from danlu.train.dispatch.chunk import (
    ChunkRecorder,
    Pruner,
    Reporter,
    checkpoint_folder,
    train_chunk,
)
from danlu.train.dispatch.cluster import Cluster, ClusterRun
from danlu.train.dispatch.device import choose_device
from danlu.train.dispatch.listener import StudyListener
from danlu.train.dispatch.plan import Plan
from danlu.train.dispatch.planner import Group, Planner
from danlu.train.dispatch.reports import Note, Report, SendingReporter, StepsDone
from danlu.train.dispatch.workers import DONE, REPORT, Message, Send, run_workers
from danlu.train.engine.stopping import StopRequest

# Groups for each core from which on every group trains on one core, and cores take them in turn.
_MANY_GROUPS = 2

RunJobs = Callable[[Callable[[], bool]], Generator[Message, None, None]]


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
        self.study = study
        self.data = data
        self.listener = listener
        self.checkpoint_every = checkpoint_every
        self.stop = stop
        self.pruner = pruner
        self.cluster = cluster
        choose = cluster.device if cluster else choose_device
        self.device = torch.device(choose(study.info["environment"]["device"]))
        self.ended = set(study.members)
        self.reported = set(self.ended)
        steps = self._steps_of_each()
        self.steps_in_all = sum(steps)  # of all members together
        self.steps_before = sum(steps[i] for i in self.ended)
        self.steps_of_chunks: dict[str, int] = {}  # done since
        self.written_chunks: set[str] = set()
        self.planner = Planner(study, data, self.device, listener, stop, pruner, cluster)

    def _steps_of_each(self) -> list[int]:
        """Return the steps that each member takes in all."""
        examples = self.data.size("train")
        steps = []
        for recipe in self.study.recipes:
            steps_per_epoch = math.ceil(examples / recipe.batch_size)
            steps.append(recipe.epochs * steps_per_epoch)
        return steps

    def train(self, groups: Sequence[list[int]]) -> None:
        """Train what is left of each group.

        All together on a cluster or where they are many, else one after another.
        """
        unfinished = []
        for number, members in enumerate(groups):
            if not self.ended.issuperset(members):
                unfinished.append(Group(number, members))
        for in_turn, some in self._that_train_together(unfinished):
            self.planner.groups_in_turn = in_turn
            while jobs := self._jobs(some):
                too_large = self._run(jobs)
                for group in some:
                    if group.number in too_large:
                        self._begin_again(group)

    def _that_train_together(
        self, groups: Sequence[Group]
    ) -> Iterator[tuple[bool, Sequence[Group]]]:
        """Yield (whether cores take them in turn, groups) that train at the same time."""
        if self.cluster:
            yield False, groups
            return
        # A chunk that began on several threads goes on so: on one the last bits of its sums could
        # be others.
        on_threads = self.planner.groups_on_threads()
        others = [group for group in groups if group.number not in on_threads]
        processes = self.planner.processes
        are_many = processes > 1 and len(others) >= _MANY_GROUPS * processes
        for group in groups:
            if group.number in on_threads or not are_many:
                yield False, [group]
        if are_many:
            yield True, others

    def _left_of(self, group: Group) -> list[int]:
        return [i for i in group.members if i not in self.ended]

    def _jobs(self, groups: Sequence[Group]) -> list[Job]:
        """Return the chunks that are left, the longest first.

        So none is left over at the end while other cores are idle.
        """
        unfinished = []
        for group in groups:
            left = self._left_of(group)
            if left:
                unfinished.append(Group(group.number, left))
        self.planner.start_planning(unfinished)
        jobs: list[Job] = []
        for group in unfinished:
            self.listener.heartbeat()
            if self.stop.asked:  # measuring many groups takes its time
                self.planner.cancel_planning()
                raise stopped(self.study.way_on)
            plan = self.planner.plan(group)
            for first in range(0, len(group.members), plan.chunk_size):
                members = group.members[first : first + plan.chunk_size]
                jobs.append(Job(group.number, members, plan))
        return sorted(jobs, key=self._epochs_of, reverse=True)

    def _epochs_of(self, job: Job) -> int:
        return sum(self.study.recipes[i].epochs for i in job.members)

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
        # Without a process of its own nothing is pickled, and errors have their tracebacks.
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
                # What is written stays; the rest is planned anew, in smaller chunks.
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
                    saved = stopped(self.study.way_on)
                    errors[group] = RunError(
                        f"a worker was told to stop by another process; {saved}"
                    )
        if self.stop.asked:
            raise stopped(self.study.way_on)
        for error in errors.values():
            if not is_out_of_memory(error):
                raise error
        return set(errors)

    def _begin_again(self, group: Group) -> None:
        """Go on with smaller chunks, after memory ran out; those not written begin again."""
        self.planner.use_smaller_chunks(Group(group.number, self._left_of(group)))
        for chunk in self.steps_of_chunks.keys() - self.written_chunks:
            del self.steps_of_chunks[chunk]
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _train_chunk(self, job: Job, reporter: Reporter) -> list[Member]:
        if self.stop.asked:
            raise stopped(self.study.way_on)
        recorder = ChunkRecorder(
            self.study,
            job.members,
            self.pruner,
            self.listener.interval,
            reporter,
            str(stopped(self.study.way_on)),
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
            steps_since = sum(self.steps_of_chunks.values())
            self.listener.progress(self.steps_before + steps_since)
        elif isinstance(report, Note):
            notify(report.sentence, RunNotice)
        elif report.member not in self.reported:
            self.reported.add(report.member)
            self.listener.ended(report.member, report.status, report.result)
