"""A Ray cluster at work on a study: chunks are tasks (`danlu.train.task`), on whatever machines it has."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from danlu.data import Data
from danlu.errors import Interrupted, RunError, wrong
from danlu.recipe import Recipe
from danlu.runs import Study, checkpoint, folder
from danlu.train.dispatch import plan
from danlu.train.dispatch.chunk import Pruner, checkpoints, name_of
from danlu.train.dispatch.preflight import choose_device
from danlu.train.dispatch.task import Mailbox, Order, StudyBundle, measure, sent, work
from danlu.train.dispatch.workers import Said

_TRIES = 5  # machines that may die under a chunk without its getting any further
_PATIENCE = 30.0  # seconds that tasks have to save what they have, when asked to stop
_connected: dict[str, str] = {}  # the address that this process was told


def connect(address: str) -> Cluster:
    """The cluster at an address ("auto", HOST:PORT or ray://HOST:PORT). Raises RunError when none answers."""
    try:
        import ray
    except ImportError as e:
        raise RunError(
            f"`ray` is {address!r}, but Ray is not installed; pip install 'danlu[ray]'"
        ) from e
    if ray.is_initialized():
        known = {"auto", _connected.get("address"), ray.get_runtime_context().gcs_address}
        if address not in known:
            raise RunError(
                wrong(
                    "ray",
                    address,
                    "this process is connected to another cluster",
                    "call ray.shutdown() first",
                )
            )
        return Cluster(ray)
    _knock(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (
        Exception,
        SystemExit,
    ) as e:  # it has errors of many kinds, and exits when a handshake fails
        why = (
            str(e).strip().splitlines()[0][:200]
            if str(e).strip() not in ("", "15")
            else "no handshake"
        )
        raise RunError(
            f"`ray` is {address!r}, but no Ray cluster answers ({why}); start one with: ray start --head"
        ) from e
    _connected["address"] = address
    # Ray prints the logs of machines that died to standard output, into the tables and the JSON there.
    ray._private.worker.print_to_stdstream = lambda *a, **k: None
    return Cluster(ray)


def _knock(address: str) -> None:
    """Whether anyone listens: Ray itself tries for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise RunError(
            wrong(
                "ray", address, "must be auto, HOST:PORT or ray://HOST:PORT", "try 127.0.0.1:6379"
            )
        )
    try:
        socket.create_connection((host, int(port)), 5).close()
    except (OSError, OverflowError) as e:
        raise RunError(
            f"`ray` is {address!r}, but nobody answers there ({e}); start a cluster with: ray start --head"
        ) from e


class Cluster:
    """The cluster that this process is connected to. A context: when it ends, what was held there is let go."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self._data: tuple[Data, Any] | None = None
        self._mailbox: Any = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._mailbox is not None:
            with contextlib.suppress(Exception):  # it may be gone, with its cluster
                self.ray.kill(self._mailbox)
        self._mailbox = self._data = None

    def check(self, data: Data, recipes: Sequence[Recipe]) -> None:
        """Refuse what cannot get there."""
        if data.mapped and data.in_memory:
            raise RunError(
                "arrays that are mapped from disk cannot be sent to a cluster; write them to a file that all can read"
            )
        if runs := sorted({r.init.from_run for r in recipes if r.init.from_run}):
            raise RunError(
                wrong(
                    "init.from_run",
                    runs[0],
                    "must be none on a cluster, which does not have it",
                    "leave out --ray",
                )
            )

    def device(self, name: str) -> str:
        """ "cpu" or "cuda" for auto, cpu or cuda, by what the cluster has."""
        return choose_device(name, self.ray.cluster_resources().get("GPU", 0) >= 1)

    def places(self, device: str) -> int:
        """How many chunks can be trained at once: one for each core, or for each GPU."""
        found = int(self.ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0))
        if not found:
            raise RunError(
                "the Ray cluster has no cores to train on; add a machine with: ray start --address HOST:PORT"
            )
        return found

    def remote(self, function: Any, device: str, retries: int) -> Any:
        """A function as a task on one core, or on one GPU."""
        options = {"num_cpus": 1, "num_gpus": 1 if device == "cuda" else 0, "max_retries": retries}
        return self.ray.remote(function).options(**options)

    def put(self, data: Data) -> Any:
        """The data in the cluster's memory; those that are mapped are read anew by each machine."""
        if self._data is None or self._data[0] is not data:
            self._data = (data, self.ray.put(None if data.mapped else sent(data)))
        return self._data[1]

    def mailbox(self, referee: Pruner | None) -> Any:
        """The one mailbox, beside this process."""
        if self._mailbox is None:
            here = self.ray.get_runtime_context().get_node_id()
            pinned = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                here, soft=False
            )
            self._mailbox = (
                self.ray.remote(Mailbox)
                .options(num_cpus=0, scheduling_strategy=pinned)
                .remote(referee)
            )
        return self._mailbox

    def ask(self, study: Study, members: Sequence[int], data: Data, device: str) -> Any:
        """Begin to measure there how to train members of one structure; `answer` has the result."""
        return self.remote(measure, device, 3).remote(
            _parcel(study), members, self.put(data), device, self.places(device)
        )

    def drop(self, refs: Iterable[Any]) -> None:
        """What was asked need not be answered."""
        for ref in refs:
            self.ray.cancel(ref, force=True)

    def answer(self, ref: Any, idle: Callable[[], bool]) -> plan.Plan | None:
        """The way that was found; None when `idle` asks to stop."""
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


class ClusterRun:
    """Chunks (members, plan) of a study under way on a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        study: Study,
        data: Data,
        jobs: Sequence[tuple[list[int], plan.Plan]],
        device: str,
        referee: Pruner | None,
        checkpoint_every: float,
    ) -> None:
        self.ray, self.study, self.jobs, self.device, self.judged = (
            cluster.ray,
            study,
            jobs,
            device,
            referee is not None,
        )
        self.checkpoint_every = checkpoint_every
        self.mailbox, self.stored, self.parcel = (
            cluster.mailbox(referee),
            cluster.put(data),
            self.ray.put(_parcel(study)),
        )
        self.task = cluster.remote(work, device, 0)
        self.name = uuid.uuid4().hex  # messages of a shift before are not for this one
        self.tries, self.vain = [0] * len(jobs), [0] * len(jobs)
        self.active: dict[Any, int] = {}  # number of the chunk, by the task's reference

    def run(self, idle: Callable[[], bool]) -> Generator[Said, None, None]:
        """Train all: (number, "said" or "done" or "failed", value) as they come.

        idle: called now and then; True asks the tasks to save and stop. Raises RunError when the cluster is gone.
        """
        ray, asked = self.ray, 0.0
        try:
            for number in range(0 if idle() else len(self.jobs)):
                self.send(number)  # Ray keeps those waiting for which there is no place yet
            while self.active:
                if not asked and idle():
                    asked = time.monotonic()
                    for ref in self.active:
                        ray.cancel(ref, recursive=False)  # not what it sends home
                elif asked and time.monotonic() - asked > _PATIENCE:
                    return
                ended, _ = ray.wait(list(self.active), timeout=0.2)
                yield from self.mail()
                for ref in ended:
                    yield from self.settle(ref, asked > 0)
        except (ray.exceptions.RayActorError, ConnectionError) as e:
            found = f"the Ray cluster is gone; what was saved is intact, go on with: danlu resume {self.study.path}"
            raise RunError(found) from e
        finally:
            with contextlib.suppress(
                Exception
            ):  # of a cluster that is gone nothing can be cancelled
                for ref in self.active:
                    ray.cancel(ref, force=True)

    def send(self, number: int) -> None:
        """Send a chunk, with its checkpoints."""
        members, way = self.jobs[number]
        saved = {
            p.name: p.read_bytes() for p in self._checkpoints(number).glob("[0-9]*.safetensors")
        }
        told = (self.device, self.checkpoint_every, self.judged, saved)
        self.tries[number] += 1
        ticket = (self.name, number, self.tries[number])
        self.active[
            self.task.remote(
                Order(members, way, *told), self.parcel, self.stored, self.mailbox, ticket
            )
        ] = number

    def mail(self) -> Iterator[Said]:
        """What tasks said since the last time; checkpoints they sent are kept."""
        for (name, number, attempt), kind, value in self.ray.get(self.mailbox.take.remote()):
            if name != self.name or attempt != self.tries[number]:
                continue  # of a machine that was given up
            if kind == "said":
                yield number, kind, value
            else:
                self.vain[number] = 0
                checkpoint.put(self._checkpoints(number), *value)

    def settle(self, ref: Any, asked: bool) -> Iterator[Said]:
        """A task has ended, one way or another; asked: it was to stop."""
        number, exceptions = self.active.pop(ref), self.ray.exceptions
        try:
            lines, made = self.ray.get(ref)
        except exceptions.RayError as e:
            of_task = isinstance(e, (exceptions.RayTaskError, exceptions.OutOfMemoryError))
            # Whose machine or process died, or was told to stop by others than us, is not at fault.
            lost = not of_task or isinstance(getattr(e, "cause", None), Interrupted)
            self.vain[number] += lost
            if asked:
                return
            if lost and self.vain[number] < _TRIES:
                self.send(number)
            else:
                yield number, "failed", _cause(e)
            return
        for file, raw in made.items():
            with folder.storing(self.study.path):
                (self.study.path / file).parent.mkdir(exist_ok=True)
            folder.write(self.study.path / file, raw)
        yield number, "done", lines

    def _checkpoints(self, number: int) -> Path:
        return checkpoints(self.study, name_of(self.jobs[number][0]))


def _parcel(study: Study) -> StudyBundle:
    from danlu import __version__

    names = [
        "study.json",
        "recipes.jsonl",
        "data.json",
        *(p.name for p in study.path.glob("normalizer.*.safetensors")),
    ]
    files = {n: (study.path / n).read_bytes() for n in names}
    return StudyBundle(files, os.getcwd(), __version__)


def _cause(e: Exception) -> Exception:
    """The error of a task in our words."""
    cause = getattr(e, "cause", None)
    if isinstance(cause, Interrupted):
        return RunError(
            "machines of the cluster were told to stop by others, again and again; what was saved is intact"
        )
    if isinstance(cause, Exception) and not type(cause).__module__.startswith("ray"):
        return cause
    first = str(e).strip().splitlines()[0][:300]
    if type(e).__name__ == "OutOfMemoryError":
        return MemoryError(first)
    return RunError(f"a machine of the cluster failed ({first}); what was saved is intact")
