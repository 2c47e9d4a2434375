"""Trains the groups of a study, in whichever way a measurement shows fastest: here, side by side, or on a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import Interrupted, RunError
from danlu.runs import Study, folder
from danlu.train import plan, record
from danlu.train.chunk import Chunk, Referee, Tell, populate, train_chunk
from danlu.train.cluster import Cluster
from danlu.train.feed import Feed
from danlu.train.listener import StudyListener
from danlu.train.ready import choose_device
from danlu.train.stopping import StopRequest
from danlu.train.workers import Said, Send, run

_ROUNDS = 8  # networks of a chunk for each place, where places get free one after another


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
        every = [r.epochs * -(-data.size("train") // r.batch_size) for r in study.recipes]
        self.all = sum(every)  # steps of all members together
        self.before = sum(every[i] for i in self.ended)
        self.steps: dict[str, int] = {}  # done since, by chunk

    def train(self, number: int, group: list[int]) -> None:
        """What is left of a group."""
        left = [i for i in group if i not in self.ended]
        if not left:
            return
        way = self._plan(number, left)
        while left:
            try:
                self._work(self._cut(left, way), way)
                return
            except (RuntimeError, MemoryError) as e:
                if not plan.out_of_memory(e):
                    raise
            left = [i for i in left if i not in self.ended]
            self._halve(number, left, way)

    def _cut(self, left: list[int], way: plan.Plan) -> list[list[int]]:
        """Chunks: as many as train together, or several times that where they do not all end at once."""
        recipes = [self.study.recipes[i] for i in left]
        alike = len({r.epochs for r in recipes}) == 1 and not any(r.early_stopping.patience for r in recipes)
        size = way.chunk
        if self.referee or not alike:
            size = max(size, min(_ROUNDS * size, -(-len(left) // way.workers)))
        return [left[k : k + size] for k in range(0, len(left), size)]

    def _work(self, queue: list[list[int]], way: plan.Plan) -> None:
        if self.cluster:
            how = (way, self.device.type, self.referee, self.checkpoint_every, lambda: self.stop.asked)
            self._hear(self.cluster.run(self.study, self.data, queue, *how))
            return
        if way.workers == 1:
            for members in queue:
                self._write(self._chunk(members, way, self._tell))
            return
        import pandas  # noqa: F401  # by which curves are written; once, not by every process that is forked
        import pyarrow.parquet  # noqa: F401

        self._hear(run(map(functools.partial(self._job, way), queue), way.workers, lambda: self.stop.asked))

    def _job(self, way: plan.Plan, members: list[int]) -> Callable[[Send], Any]:
        """A chunk to be trained in a process of its own."""

        def work(send: Send) -> list[dict[str, Any]]:
            asked = self.stop.asked
            with StopRequest() as self.stop:
                self.stop.asked = asked
                return self._chunk(members, way, lambda *said: send(said))

        return work

    def _hear(self, heard: Iterable[Said]) -> None:
        """What workers say, until all are done; an error is raised when the others have saved what they have."""
        error: BaseException | None = None
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

    def _halve(self, number: int, left: list[int], way: plan.Plan) -> None:
        """Smaller chunks after memory ran out."""
        if way.chunk == 1:
            raise RunError("memory does not suffice for a single network; try a smaller batch_size or model")
        way.chunk, way.why = way.chunk // 2, "memory ran out with larger ones"
        self._keep_plan(number, way)
        self.listener.plan(left, way.way, way.why, {})
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _plan(self, number: int, left: list[int]) -> plan.Plan:
        """The plan kept from before, or a new one: a resumed study goes on in the way it began.

        Where members were added since, a plan for less than half as many no longer fits.
        """
        where = "ray" if self.cluster else "here"
        for told in self.info["plans"]:
            if told["group"] == number and len(left) <= 2 * told["members"] and told.get("where", "here") == where:
                return plan.Plan(**{k: v for k, v in told.items() if k != "group"})
        recipes = [self.study.recipes[i] for i in left]
        if self.cluster:
            found = self.cluster.choose(recipes, self.data, self.device.type, lambda: self.stop.asked)
            if found is None:
                raise Interrupted(self._stopped())
            way = found
        else:
            make = functools.partial(populate, data=self.data, feed=Feed(recipes, self.data, self.device), device=self.device)
            # A referee sees every member, so those it judges are not spread over processes.
            way = plan.choose(recipes, make, self.data, self.device, torch.get_num_threads(), beside=self.referee is None)
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
        chunk = Chunk(self.study, members, self.info["parts"], self.referee, self.listener.interval, tell, self._stopped)
        return train_chunk(chunk, way, self.data, self.device, self.checkpoint_every, self.stop)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        """Members that ended: into members.jsonl, and to whoever listens."""
        folder.append_lines(self.study.path / "members.jsonl", lines)
        for line in lines:
            self.ended.add(line["member"])
            self.listener.ended(line["member"], line["status"], line.get("result", {}))

    def _tell(self, name: str, done: int) -> None:
        self.steps[name] = done
        self.listener.progress(self.before + sum(self.steps.values()))

    def _stopped(self) -> str:
        return f"stopped, saved; go on with: danlu resume {self.study.path}"
