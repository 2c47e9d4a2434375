"""A Ray cluster at work on a study: chunks are tasks, on whatever machines it has.

A task gets the data and the little it needs of the study's folder, trains in a folder of its own, and sends back what it
would have written. Its checkpoints come here too: a chunk whose machine dies goes on elsewhere from the last of them.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danlu.data import Data
from danlu.errors import RunError, wrong
from danlu.recipe import Recipe
from danlu.runs import Study, checkpoint, folder
from danlu.train import plan
from danlu.train.chunk import Chunk, Referee, Row, files_of, name_of, populate, train_chunk
from danlu.train.feed import Feed
from danlu.train.stopping import StopRequest
from danlu.train.workers import Said

_TRIES = 5  # machines that may die under a chunk without its getting any further
_PATIENCE = 30.0  # seconds that tasks have to save what they have, when asked to stop
_NEEDED = ("study.json", "recipes.jsonl", "data.json")


@dataclass(frozen=True)
class Order:
    """What a task is told to do."""

    members: list[int]
    way: plan.Plan
    device: str
    parts: Sequence[str]
    checkpoint_every: float
    judged: bool
    version: str
    folder: str  # where the user's own networks may be imported from
    saved: dict[str, bytes]  # checkpoints to go on from, by name


class Mailbox:
    """An actor between the tasks and whoever waits for them; the referee sits here, so that all are held to one."""

    def __init__(self, referee: Referee | None) -> None:
        self.referee = referee
        self.mail: list[Any] = []

    def put(self, ticket: tuple[int, int], kind: str, value: Any) -> None:
        """Leave a message; ticket: number of the chunk, and of the try."""
        self.mail.append((ticket, kind, value))

    def take(self) -> list[Any]:
        """All messages since the last time."""
        mail, self.mail = self.mail, []
        return mail

    def see(self, rows: Sequence[Row]) -> None:
        """As of a referee."""
        assert self.referee is not None
        self.referee.see(rows)

    def judge(self, rows: Sequence[Row]) -> set[int]:
        """As of a referee."""
        assert self.referee is not None
        return self.referee.judge(rows)


class _Away:
    """The referee as a task sees it."""

    def __init__(self, mailbox: Any) -> None:
        import ray

        self.mailbox, self.get = mailbox, ray.get

    def see(self, rows: Sequence[Row]) -> None:
        self.get(self.mailbox.see.remote(rows))

    def judge(self, rows: Sequence[Row]) -> set[int]:
        return self.get(self.mailbox.judge.remote(rows))  # type: ignore[no-any-return]


class _Sent(Chunk):
    """A chunk whose checkpoints are sent home."""

    send: Callable[[str, bytes], None]

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        super().save(step, tensors, position)
        newest = max(self.folder.glob("*.safetensors"))
        self.send(newest.name, newest.read_bytes())


def work(order: Order, files: dict[str, bytes], data: Data | None, mailbox: Any, ticket: tuple[int, int]) -> Any:
    """In a task: train a chunk; the lines to be written of its members, and the files it made."""
    import ray

    from danlu import __version__

    if order.version != __version__:
        raise RunError(f"a machine of the cluster has danlu {__version__}, and this one {order.version}; install the same on all")
    if order.folder not in sys.path:
        sys.path.append(order.folder)
    with tempfile.TemporaryDirectory() as home, StopRequest() as stop:
        path, name = Path(home), name_of(order.members)
        (path / "checkpoint" / name).mkdir(parents=True)
        for file, raw in [*files.items(), *((f"checkpoint/{name}/{k}", v) for k, v in order.saved.items())]:
            (path / file).write_bytes(raw)
        study = Study(path, trust=True)  # checked before it was sent
        chunk = _Sent(
            study,
            order.members,
            order.parts,
            _Away(mailbox) if order.judged else None,
            0.5,
            lambda *said: mailbox.put.remote(ticket, "said", said),
            lambda: "asked to stop",
        )
        chunk.send = lambda file, raw: ray.get(mailbox.put.remote(ticket, "saved", (file, raw)))
        data = study.load_data() if data is None else data
        lines = train_chunk(chunk, order.way, data, torch.device(order.device), order.checkpoint_every, stop)
        return lines, {file: (path / file).read_bytes() for file in files_of(name) if (path / file).is_file()}


def measure(recipes: Sequence[Recipe], data: Data, device: str, places: int) -> plan.Plan:
    """In a task: the best chunk for one of so many places."""
    on = torch.device(device)
    make = functools.partial(populate, data=data, feed=Feed(recipes, data, on), device=on)
    return plan.choose(recipes, make, data, on, cores=1, beside=False, places=places)


def connect(address: str) -> Cluster:
    """The cluster at an address ("auto", HOST:PORT or ray://HOST:PORT). Raises RunError when none answers."""
    try:
        import ray
    except ImportError as e:
        raise RunError(f"`ray` is {address!r}, but Ray is not installed; pip install 'danlu[ray]'") from e
    if not ray.is_initialized():
        _knock(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (Exception, SystemExit) as e:  # it has errors of many kinds, and exits when a handshake fails
            why = str(e).strip().splitlines()[0][:200] if str(e).strip() not in ("", "15") else "no handshake"
            raise RunError(f"`ray` is {address!r}, but no Ray cluster answers ({why}); start one with: ray start --head") from e
        # Ray prints the logs of machines that died to standard output, into the tables and the JSON there.
        ray._private.worker.print_to_stdstream = lambda *a, **k: None
    return Cluster(ray)


def _knock(address: str) -> None:
    """Whether anyone listens: Ray itself tries for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise RunError(wrong("ray", address, "must be auto, HOST:PORT or ray://HOST:PORT", "try 127.0.0.1:6379"))
    try:
        socket.create_connection((host, int(port)), 5).close()
    except (OSError, OverflowError) as e:
        raise RunError(f"`ray` is {address!r}, but nobody answers there ({e}); start a cluster with: ray start --head") from e


class Cluster:
    """The cluster that this process is connected to."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self._data: tuple[Data, Any] | None = None

    def device(self, name: str) -> str:
        """ "cpu" or "cuda" for auto, cpu or cuda, by what the cluster has."""
        has = self.ray.cluster_resources().get("GPU", 0) >= 1
        if name not in ("auto", "cpu", "cuda"):
            raise RunError(wrong("device", name, "must be auto, cpu or cuda"))
        if name == "cuda" and not has:
            raise RunError(wrong("device", name, "must be cpu: the cluster has no GPU"))
        return ("cuda" if has else "cpu") if name == "auto" else name

    def places(self, device: str) -> int:
        """How many chunks can be trained at once: one for each core, or for each GPU."""
        found = int(self.ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0))
        if not found:
            raise RunError("the Ray cluster has no cores to train on; add a machine with: ray start --address HOST:PORT")
        return found

    def _remote(self, function: Any, device: str, retries: int) -> Any:
        options = {"num_cpus": 1, "num_gpus": 1 if device == "cuda" else 0, "max_retries": retries}
        return self.ray.remote(function).options(**options)

    def _put(self, data: Data) -> Any:
        """The data in the cluster's memory; those that are mapped are read anew by each machine."""
        if self._data is None or self._data[0] is not data:
            self._data = (data, self.ray.put(None if data.mapped else data))
        return self._data[1]

    def choose(self, recipes: Sequence[Recipe], data: Data, device: str, idle: Callable[[], bool]) -> plan.Plan | None:
        """How to train recipes of one structure there, measured there; None when asked to stop. idle: as of `run`."""
        ref = self._remote(measure, device, 3).remote(recipes, self._put(data), device, self.places(device))
        while not self.ray.wait([ref], timeout=0.3)[0]:
            if idle():
                self.ray.cancel(ref, force=True)
                return None
        try:
            way: plan.Plan = self.ray.get(ref)
        except self.ray.exceptions.RayError as e:
            raise _cause(e) from e
        way.where = "ray"
        return way

    def run(
        self,
        study: Study,
        data: Data,
        queue: Sequence[list[int]],
        way: plan.Plan,
        device: str,
        referee: Referee | None,
        checkpoint_every: float,
        idle: Callable[[], bool],
    ) -> Iterator[Said]:
        """Train chunks: (number, "said" or "done" or "failed", value) as they come. idle: as of `workers.run`."""
        from danlu import __version__

        ray, here = self.ray, self.ray.get_runtime_context().get_node_id()
        pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=pinned).remote(referee)
        files, stored = ray.put({n: (study.path / n).read_bytes() for n in _NEEDED}), self._put(data)
        task, parts = self._remote(work, device, 0), study.info["parts"]
        tries, idle_tries = [0] * len(queue), [0] * len(queue)

        def send(number: int) -> Any:
            tries[number] += 1
            saved = {p.name: p.read_bytes() for p in _checkpoints(study, queue[number]).glob("[0-9]*.safetensors")}
            order = Order(
                queue[number], way, device, parts, checkpoint_every, referee is not None, __version__, os.getcwd(), saved
            )
            return task.remote(order, files, stored, mailbox, (number, tries[number]))

        def mail() -> Iterator[Said]:
            for (number, attempt), kind, value in ray.get(mailbox.take.remote()):
                if attempt != tries[number]:
                    continue  # of a machine that was given up
                if kind == "said":
                    yield number, kind, value
                else:
                    idle_tries[number] = 0
                    checkpoint.put(_checkpoints(study, queue[number]), *value)

        active = {} if idle() else {send(number): number for number in range(len(queue))}
        asked = 0.0
        try:
            while active:
                if not asked and idle():
                    asked = time.monotonic()
                    for ref in active:
                        ray.cancel(ref)
                elif asked and time.monotonic() - asked > _PATIENCE:
                    return
                ended, _ = ray.wait(list(active), timeout=0.2)
                yield from mail()
                for ref in ended:
                    number = active.pop(ref)
                    try:
                        lines, made = ray.get(ref)
                    except (ray.exceptions.RayTaskError, ray.exceptions.OutOfMemoryError) as e:
                        if not asked:
                            yield number, "failed", _cause(e)
                    except ray.exceptions.RayError as e:  # not the task's fault: its machine or process died
                        idle_tries[number] += 1
                        if asked:
                            continue
                        if idle_tries[number] < _TRIES:
                            active[send(number)] = number
                        else:
                            yield number, "failed", _cause(e)
                    else:
                        for file, raw in made.items():
                            with folder.storing(study.path):
                                (study.path / file).parent.mkdir(exist_ok=True)
                            folder.write(study.path / file, raw)
                        checkpoint.forget(_checkpoints(study, queue[number]))
                        yield number, "done", lines
        except (ray.exceptions.ActorDiedError, ConnectionError) as e:
            raise RunError(f"the Ray cluster is gone; what was saved is intact, go on with: danlu resume {study.path}") from e
        finally:
            for ref in active:
                ray.cancel(ref, force=True)
            ray.kill(mailbox)


def _checkpoints(study: Study, members: list[int]) -> Path:
    return study.path / "checkpoint" / name_of(members)


def _cause(e: Exception) -> Exception:
    """The error of a task in our words."""
    cause = getattr(e, "cause", None)
    if isinstance(cause, Exception):
        return cause
    first = str(e).strip().splitlines()[0][:300]
    if type(e).__name__ == "OutOfMemoryError":
        return MemoryError(first)
    return RunError(f"a machine of the cluster failed ({first}); what was saved is intact")
