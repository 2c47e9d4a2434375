"""Trains the groups of a study, in whichever way a measurement shows fastest: here, side by side, or on a cluster."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import Interrupted, RunError
from danlu.runs import Study, checkpoint, folder
from danlu.runs.run import build_model
from danlu.train.batches.batch_stream import BatchStream
from danlu.train.dispatch import plan, provenance, workers
from danlu.train.dispatch.chunk import (
    ChunkRecorder,
    Pruner,
    Tell,
    checkpoints,
    populate,
    train_chunk,
)
from danlu.train.dispatch.cluster import Cluster, ClusterRun
from danlu.train.dispatch.listener import StudyListener
from danlu.train.dispatch.memory import out_of_memory
from danlu.train.dispatch.preflight import choose_device
from danlu.train.engine.stopping import StopRequest

_ROUNDS = 8  # networks of a chunk for each place, where places get free one after another…
_FINALS = (
    1 << 28
)  # …as long as the final weights of a chunk, which wait for its end, are no more bytes
_MANY = 2  # groups for each core from which on every group trains on one core, and cores take groups in turn
Job = tuple[
    int, list[int], plan.Plan
]  # number of a group, members of a chunk of it, how they are trained


class StudyScheduler:
    """What is to be done of a study, and who does it."""

    def __init__(
        self,
        study: Study,
        data: Data,
        listener: StudyListener,
        checkpoint_every: float,
        stop: StopRequest,
        referee: Pruner | None,
        cluster: Cluster | None = None,
    ) -> None:
        self.study, self.data, self.listener, self.stop, self.referee = (
            study,
            data,
            listener,
            stop,
            referee,
        )
        self.checkpoint_every, self.cluster, self.info = checkpoint_every, cluster, study.info
        choose = cluster.device if cluster else choose_device
        self.device = torch.device(choose(self.info["environment"]["device"]))
        self.ended = set(study.members)
        self.told = set(self.ended)
        every = [r.epochs * -(-data.size("train") // r.batch_size) for r in study.recipes]
        self.all = sum(every)  # steps of all members together
        self.before = sum(every[i] for i in self.ended)
        self.steps: dict[str, int] = {}  # done since, by chunk
        self.measuring: dict[
            int, Any
        ] = {}  # of groups that are measured on a cluster, where to ask
        self.written: set[str] = set()  # chunks that are done
        self.spread = False  # whether all groups train at once

    @property
    def cores(self) -> int:
        """How many processes may train side by side."""
        # A referee sees every member, so those it judges are not spread over processes.
        side = workers.available() and not self.referee and self.device.type == "cpu"
        return torch.get_num_threads() if side else 1

    def train(self, groups: Sequence[list[int]]) -> None:
        """What is left of each group: all together on a cluster or where they are many, else one after another."""
        left = [(n, g) for n, g in enumerate(groups) if not self.ended.issuperset(g)]
        for spread, some in self._together(left):
            self.spread = spread
            while jobs := self._jobs(some):
                if tight := self._work(jobs):
                    self._halve([pair for pair in some if pair[0] in tight])

    def _together(
        self, groups: Sequence[tuple[int, list[int]]]
    ) -> Iterator[tuple[bool, Sequence[tuple[int, list[int]]]]]:
        """(whether they are spread over the cores, groups) that train at the same time."""
        if self.cluster:
            yield False, groups
            return
        # A chunk that began on several threads goes on so: on one the last bits of its sums could be others.
        wide = {p["group"] for p in self.info["plans"] if p["threads"] > 1}
        rest = [pair for pair in groups if pair[0] not in wide]
        many = self.cores > 1 and len(rest) >= _MANY * self.cores
        for pair in groups:
            if pair[0] in wide or not many:
                yield False, [pair]
        if many:
            yield True, rest

    def _jobs(self, groups: Sequence[tuple[int, list[int]]]) -> list[Job]:
        lefts = [
            (number, left)
            for number, group in groups
            if (left := [i for i in group if i not in self.ended])
        ]
        for number, left in lefts if self.cluster else []:
            if self.cluster and self._kept_plan(number, left) is None:
                self.measuring[number] = self.cluster.ask(
                    self.study, left, self.data, self.device.type
                )
        jobs: list[Job] = []
        for number, left in lefts:
            self.listener.alive()
            if self.stop.asked:  # measuring many groups takes its time
                if self.cluster:
                    self.cluster.drop(self.measuring.values())
                raise Interrupted(self._stopped())
            way = self._plan(number, left)
            jobs += [
                (number, left[k : k + way.portion], way) for k in range(0, len(left), way.portion)
            ]
        # The longest first, so that none is left over at the end while other cores are idle.
        return sorted(jobs, key=lambda job: -sum(self.study.recipes[i].epochs for i in job[1]))

    def _portion(self, members: list[int], way: plan.Plan) -> int:
        """Members of a chunk: as many as train together, or several times that where they do not all end at once.

        Kept in the plan: a resumed study has the same chunks, and so finds their checkpoints.
        """
        if (
            way.chunk == 1 and way.workers > 1 and not self.cluster
        ):  # a process of its own for each would warm up anew
            return max(1, min(_ROUNDS, way.members // (2 * way.workers)))
        recipes = [self.study.recipes[i] for i in members]
        alike = len({r.epochs for r in recipes}) == 1 and not any(
            r.early_stopping.patience for r in recipes
        )
        if way.chunk == 1 or (alike and not self.referee):
            return way.chunk
        each = sum(p.nbytes for p in build_model(recipes[0], self.study.schema).parameters())
        most = min(_ROUNDS, _FINALS // max(1, each * way.chunk)) * way.chunk
        return max(way.chunk, min(most, -(-way.members // way.workers)))

    def _work(self, jobs: Sequence[Job]) -> set[int]:
        """Do the jobs; the groups for which memory did not suffice."""
        if self.cluster:
            chunks = [(members, way) for _, members, way in jobs]
            shift = ClusterRun(
                self.cluster,
                self.study,
                self.data,
                chunks,
                self.device.type,
                self.referee,
                self.checkpoint_every,
            )
            return self._hear(shift.run, jobs)
        side = 1 if any(way.calm for *_, way in jobs) else max(way.workers for *_, way in jobs)
        if side == 1:
            for number, members, way in jobs:
                try:
                    self._write(self._chunk(members, way, self._tell))
                except (RuntimeError, MemoryError) as e:
                    if not out_of_memory(e):
                        raise
                    return {number}
            return set()
        import pandas  # noqa: F401  # by which curves are written; once, not by every process that is forked
        import pyarrow.parquet  # noqa: F401

        works = (self._beside(members, way) for _, members, way in jobs)
        return self._hear(functools.partial(workers.run, works, side), jobs)

    def _beside(self, members: list[int], way: plan.Plan) -> Callable[[workers.Send], Any]:
        """A chunk to be trained in a process of its own."""

        def work(send: workers.Send) -> list[dict[str, Any]]:
            before = self.stop
            with StopRequest() as self.stop:  # first, so that no signal falls between the two
                self.stop.asked = self.stop.asked or before.asked
                return self._chunk(members, way, lambda *said: send(said))

        return work

    def _hear(
        self,
        run: Callable[[Callable[[], bool]], Generator[workers.Said, None, None]],
        jobs: Sequence[Job],
    ) -> set[int]:
        """What workers say, until all are done, or one failed and the others have saved what they have.

        The groups for which memory did not suffice; other errors are raised.
        """
        errors: dict[int, BaseException] = {}  # the first of each group

        def idle() -> bool:
            self.listener.alive()
            return self.stop.asked or bool(errors)

        with contextlib.closing(run(idle)) as heard:
            for job, kind, value in heard:
                if kind == "said":
                    self._tell(*value)
                elif kind == "done":
                    self._write(value)
                elif not isinstance(value, Interrupted):
                    errors.setdefault(jobs[job][0], value)
                elif not (self.stop.asked or errors):
                    errors[jobs[job][0]] = RunError(
                        f"a worker was told to stop by others; {self._stopped()}"
                    )
        if self.stop.asked:
            raise Interrupted(self._stopped())
        for e in errors.values():
            if not out_of_memory(e):
                raise e
        return set(errors)

    def _halve(self, groups: Sequence[tuple[int, list[int]]]) -> None:
        """Smaller chunks of what is left, after memory ran out."""
        for number, group in groups:
            left = [i for i in group if i not in self.ended]
            way = self._plan(number, left)
            if way.chunk > 1:
                way.chunk //= 2
            elif way.workers > 1 and not self.cluster:
                way.calm, way.workers = True, 1
            else:
                raise RunError(
                    "memory does not suffice for a single network; try a smaller batch_size or model"
                )
            way.why, way.noted, way.paces = "memory ran out with more at once", True, {}
            way.portion = self._portion(left, way)
            self._keep_plan(number, left, way)
        self.steps = {
            name: n for name, n in self.steps.items() if name in self.written
        }  # others begin again
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _plan(self, number: int, left: list[int]) -> plan.Plan:
        """The plan kept from before, or a new one: a resumed study goes on in the way it began, also elsewhere."""
        if (kept := self._kept_plan(number, left)) is not None:
            return kept
        if self.cluster:
            found = self.cluster.answer(self.measuring.pop(number), lambda: self.stop.asked)
            if found is None:
                self.cluster.drop(self.measuring.values())
                raise Interrupted(self._stopped())
            way = found
        else:
            recipes = [self.study.recipes[i] for i in left]
            make = functools.partial(
                populate,
                data=self.data,
                feed=BatchStream(recipes, self.data, self.device),
                device=self.device,
            )
            if self.spread:
                way = plan.choose(
                    recipes, make, self.data, self.device, 1, beside=False, tenants=self.cores
                )
                way.workers = self.cores
            else:
                way = plan.choose(
                    recipes,
                    make,
                    self.data,
                    self.device,
                    torch.get_num_threads(),
                    beside=self.cores > 1,
                )
        way.portion = self._portion(left, way)
        self._keep_plan(number, left, way)
        return way

    def _kept_plan(self, number: int, left: list[int]) -> plan.Plan | None:
        """Where members were added since, a plan for less than half as many no longer fits."""
        where = "ray" if self.cluster else "here"
        told = next((p for p in self.info["plans"] if p["group"] == number), None)
        if told is None or len(left) > 2 * told["members"]:
            return None
        way = plan.kept(told)
        way.portion = way.portion or self._portion(left, way)
        if way.where != where:  # the same chunks on one core each: the same numbers
            way.workers, way.where = (
                self.cluster.places(self.device.type) if self.cluster else self.cores,
                where,
            )
            way.threads = 1
        elif self.spread and not way.calm:
            way.workers = self.cores
        return way

    def _keep_plan(self, number: int, left: list[int], way: plan.Plan) -> None:
        self.listener.plan(left, way.way, way.why, way.paces, way.noted)
        others = [p for p in self.info["plans"] if p["group"] != number]
        self.info["plans"] = [*others, {"group": number, **vars(way)}]
        provenance.say(self.study.path / "study.json", plans=self.info["plans"])

    def _chunk(self, members: list[int], way: plan.Plan, tell: Tell) -> list[dict[str, Any]]:
        if self.stop.asked:
            raise Interrupted(self._stopped())
        chunk = ChunkRecorder(
            self.study, members, self.referee, self.listener.interval, tell, self._stopped
        )
        return train_chunk(chunk, way, self.data, self.device, self.checkpoint_every, self.stop)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        """The members of a chunk ended: into members.jsonl; then its checkpoints are no longer needed."""
        folder.append_lines(self.study.path / "members.jsonl", lines)
        for line in lines:
            self.ended.add(line["member"])
            self._tell("ended", line)
        self.written.add(lines[0]["chunk"])
        checkpoint.forget(checkpoints(self.study, lines[0]["chunk"]))

    def _tell(self, kind: str, *said: Any) -> None:
        """Pass on what a chunk tells: "steps" done by name, or that a member "ended"."""
        if kind == "steps":
            name, done = said
            self.steps[name] = done
            self.listener.progress(self.before + sum(self.steps.values()))
        elif said[0]["member"] not in self.told:
            self.told.add(said[0]["member"])
            self.listener.ended(said[0]["member"], said[0]["status"], said[0].get("result", {}))

    def _stopped(self) -> str:
        return f"stopped, saved; go on with: danlu resume {self.study.path}"
