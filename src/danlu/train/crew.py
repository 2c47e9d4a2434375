"""Trains the groups of a study, in whichever way a measurement shows fastest: here, side by side, or on a cluster."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import Interrupted, RunError
from danlu.runs import Study, checkpoint, folder
from danlu.runs.run import build_model
from danlu.train import plan, record, workers
from danlu.train.chunk import Chunk, Referee, Tell, checkpoints, populate, train_chunk
from danlu.train.cluster import Cluster, Shift
from danlu.train.feed import Feed
from danlu.train.listener import StudyListener
from danlu.train.ready import choose_device
from danlu.train.stopping import StopRequest

_ROUNDS = 8  # networks of a chunk for each place, where places get free one after another…
_FINALS = 1 << 28  # …as long as the final weights of a chunk, which wait for its end, are no more bytes
Job = tuple[list[int], plan.Plan]  # members of a chunk, and how they are trained


class Crew:
    """What is to be done of a study, and who does it."""

    def __init__(
        self,
        study: Study,
        data: Data,
        listener: StudyListener,
        checkpoint_every: float,
        stop: StopRequest,
        referee: Referee | None,
        cluster: Cluster | None = None,
    ) -> None:
        self.study, self.data, self.listener, self.stop, self.referee = study, data, listener, stop, referee
        self.checkpoint_every, self.cluster, self.info = checkpoint_every, cluster, study.info
        choose = cluster.device if cluster else choose_device
        self.device = torch.device(choose(self.info["environment"]["device"]))
        self.ended = set(study.members)
        self.told = set(self.ended)
        every = [r.epochs * -(-data.size("train") // r.batch_size) for r in study.recipes]
        self.all = sum(every)  # steps of all members together
        self.before = sum(every[i] for i in self.ended)
        self.steps: dict[str, int] = {}  # done since, by chunk

    def train(self, groups: Sequence[list[int]]) -> None:
        """What is left of each group: one after another here, all together on a cluster."""
        numbered = list(enumerate(groups))
        for some in [numbered] if self.cluster else [[pair] for pair in numbered]:
            while jobs := self._jobs(some):
                try:
                    self._work(jobs)
                except (RuntimeError, MemoryError) as e:
                    if not plan.out_of_memory(e):
                        raise
                    self._halve(some)

    def _jobs(self, groups: Sequence[tuple[int, list[int]]]) -> list[Job]:
        jobs: list[Job] = []
        for number, group in groups:
            left = [i for i in group if i not in self.ended]
            if left:
                way = self._plan(number, left)
                jobs += [(left[k : k + way.portion], way) for k in range(0, len(left), way.portion)]
        return jobs

    def _portion(self, members: list[int], way: plan.Plan) -> int:
        """Members of a chunk: as many as train together, or several times that where they do not all end at once.

        Kept in the plan: a resumed study has the same chunks, and so finds their checkpoints.
        """
        recipes = [self.study.recipes[i] for i in members]
        alike = len({r.epochs for r in recipes}) == 1 and not any(r.early_stopping.patience for r in recipes)
        if way.chunk == 1 or (alike and not self.referee):
            return way.chunk
        each = sum(p.nbytes for p in build_model(recipes[0], self.study.schema).parameters())
        most = min(_ROUNDS, _FINALS // max(1, each * way.chunk)) * way.chunk
        return max(way.chunk, min(most, -(-way.members // way.workers)))

    def _work(self, jobs: Sequence[Job]) -> None:
        if self.cluster:
            shift = Shift(self.cluster, self.study, self.data, jobs, self.device.type, self.referee, self.checkpoint_every)
            self._hear(shift.run(lambda: self.stop.asked))
        elif jobs[0][1].workers == 1:
            for members, way in jobs:
                self._write(self._chunk(members, way, self._tell))
        else:
            import pandas  # noqa: F401  # by which curves are written; once, not by every process that is forked
            import pyarrow.parquet  # noqa: F401

            self._hear(workers.run((self._beside(*job) for job in jobs), jobs[0][1].workers, lambda: self.stop.asked))

    def _beside(self, members: list[int], way: plan.Plan) -> Callable[[workers.Send], Any]:
        """A chunk to be trained in a process of its own."""

        def work(send: workers.Send) -> list[dict[str, Any]]:
            asked = self.stop.asked
            with StopRequest() as self.stop:
                self.stop.asked = asked
                return self._chunk(members, way, lambda *said: send(said))

        return work

    def _hear(self, heard: Generator[workers.Said, None, None]) -> None:
        """What workers say, until all are done; an error is raised when the others have saved what they have."""
        error: BaseException | None = None
        with contextlib.closing(heard):
            for _, kind, value in heard:
                if kind == "said":
                    self._tell(*value)
                elif kind == "done":
                    self._write(value)
                else:
                    error = error or value
                    self.stop.asked = True
        if error is not None:
            self.stop.asked = False
            raise error
        if self.stop.asked:
            raise Interrupted(self._stopped())

    def _halve(self, groups: Sequence[tuple[int, list[int]]]) -> None:
        """Smaller chunks of what is left, after memory ran out."""
        halved = False
        for number, group in groups:
            left = [i for i in group if i not in self.ended]
            way = self._plan(number, left) if left else None
            if not way or way.chunk == 1:
                continue
            halved = True
            way.chunk, way.why = way.chunk // 2, "memory ran out with larger ones"
            way.portion = self._portion(left, way)
            self._keep_plan(number, way)
            self.listener.plan(left, way.way, way.why, {})
        if not halved:
            raise RunError("memory does not suffice for a single network; try a smaller batch_size or model")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _plan(self, number: int, left: list[int]) -> plan.Plan:
        """The plan kept from before, or a new one: a resumed study goes on in the way it began, also elsewhere.

        Where members were added since, a plan for less than half as many no longer fits.
        """
        where, cores = "ray" if self.cluster else "here", torch.get_num_threads()
        for told in self.info["plans"]:
            if told["group"] == number and len(left) <= 2 * told["members"]:
                way = plan.Plan(**{k: v for k, v in told.items() if k != "group"})
                way.portion = way.portion or self._portion(left, way)
                if way.where != where:  # the same chunks on one core each: the same numbers
                    side = cores if workers.available() and not self.referee and self.device.type == "cpu" else 1
                    way.workers, way.where = self.cluster.places(self.device.type) if self.cluster else side, where
                    way.threads = 1
                return way
        if self.cluster:
            found = self.cluster.choose(self.study, left, self.data, self.device.type, lambda: self.stop.asked)
            if found is None:
                raise Interrupted(self._stopped())
            way = found
        else:
            recipes = [self.study.recipes[i] for i in left]
            make = functools.partial(populate, data=self.data, feed=Feed(recipes, self.data, self.device), device=self.device)
            # A referee sees every member, so those it judges are not spread over processes.
            way = plan.choose(recipes, make, self.data, self.device, cores, beside=self.referee is None)
        way.portion = self._portion(left, way)
        self._keep_plan(number, way)
        self.listener.plan(left, way.way, way.why, way.paces)
        return way

    def _keep_plan(self, number: int, way: plan.Plan) -> None:
        others = [p for p in self.info["plans"] if p["group"] != number]
        self.info["plans"] = [*others, {"group": number, **vars(way)}]
        record.say(self.study.path / "study.json", plans=self.info["plans"])

    def _chunk(self, members: list[int], way: plan.Plan, tell: Tell) -> list[dict[str, Any]]:
        if self.stop.asked:
            raise Interrupted(self._stopped())
        chunk = Chunk(self.study, members, self.referee, self.listener.interval, tell, self._stopped)
        return train_chunk(chunk, way, self.data, self.device, self.checkpoint_every, self.stop)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        """The members of a chunk ended: into members.jsonl; then its checkpoints are no longer needed."""
        folder.append_lines(self.study.path / "members.jsonl", lines)
        for line in lines:
            self.ended.add(line["member"])
            self._tell("ended", line)
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
