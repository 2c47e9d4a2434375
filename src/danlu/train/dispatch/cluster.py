"""A Ray cluster at work on a study: chunks are tasks (`danlu.train.dispatch.task`)."""

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
from danlu.errors import Interrupted, RunError, reason_of, wrong
from danlu.files import storing, write
from danlu.host import environment, quiet_ray
from danlu.models.given import is_object
from danlu.recipe import Recipe
from danlu.runs import Study, checkpoint
from danlu.train.dispatch.chunk import Pruner, checkpoint_folder, chunk_name
from danlu.train.dispatch.device import choose_device
from danlu.train.dispatch.plan import ON_RAY, Plan
from danlu.train.dispatch.task import (
    Mailbox,
    StudyBundle,
    TaskId,
    TaskResult,
    TaskSpec,
    pack_data,
    plan_task,
    train_task,
)
from danlu.train.dispatch.workers import DONE, FAILED, REPORT, Message

# Machines that may die under a chunk without its getting any further.
_MOST_LOST_MACHINES = 5
# Seconds that tasks have to save what they have, when asked to stop.
_PATIENCE = 30.0
_POLL_SECONDS = 0.2
_connected_to: dict[str, str] = {}  # the address that this process was given


def connect(address: str) -> Cluster:
    """Return the cluster at an address ("auto", HOST:PORT or ray://HOST:PORT).

    Raises RunError when none answers.
    """
    try:
        import ray
    except ImportError as e:
        raise RunError(
            f"`ray` is {address!r}, but Ray is not installed; pip install 'danlu[ray]'"
        ) from e
    if ray.is_initialized():
        known = {"auto", _connected_to.get("address"), ray.get_runtime_context().gcs_address}
        if address not in known:
            rule = "this process is connected to another cluster"
            raise RunError(wrong("ray", address, rule, "call ray.shutdown() first"))
        return Cluster(ray)
    _check_that_someone_listens(address)
    try:
        with environment(RAY_USAGE_STATS_ENABLED="0"):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (
        Exception,
        SystemExit,
    ) as e:  # it has errors of many kinds, and exits on a bad handshake
        reason = "no handshake" if str(e).strip() in ("", "15") else reason_of(e)[:200]
        raise RunError(
            f"`ray` is {address!r}, but no Ray cluster answers ({reason}); "
            "start one with: ray start --head"
        ) from e
    _connected_to["address"] = address
    return Cluster(ray)


def _check_that_someone_listens(address: str) -> None:
    """Raise RunError where no one answers; Ray itself tries for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        rule = "must be auto, HOST:PORT or ray://HOST:PORT"
        raise RunError(wrong("ray", address, rule, "try 127.0.0.1:6379"))
    try:
        socket.create_connection((host, int(port)), 5).close()
    except (OSError, OverflowError) as e:
        raise RunError(
            f"`ray` is {address!r}, but no one answers there ({e}); "
            "start a cluster with: ray start --head"
        ) from e


class Cluster:
    """The cluster that this process is connected to.

    A context: when it ends, what was held on the cluster is released.
    """

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self._data: tuple[Data, Any] | None = None
        self._mailbox: Any = None
        self._quiet = contextlib.ExitStack()

    def __enter__(self) -> Cluster:
        self._quiet.enter_context(quiet_ray(self.ray))
        return self

    def __exit__(self, *_: object) -> None:
        self._quiet.close()
        if self._mailbox is not None:
            with contextlib.suppress(Exception):  # it may be gone, with its cluster
                self.ray.kill(self._mailbox)
        self._mailbox = self._data = None

    def check(self, data: Data, recipes: Sequence[Recipe]) -> None:
        """Raise RunError for what cannot be sent there."""
        if data.mapped and not data.reloadable:
            raise RunError(
                "arrays that are mapped from disk cannot be sent to a cluster; "
                "write them to a file that all can read"
            )
        if any(is_object(recipe.model.name) for recipe in recipes):
            raise RunError(
                "a network given as an object cannot be sent to a cluster; put what makes it into "
                "a module, and name that: model=package.module:function"
            )
        starts = sorted({recipe.init.weights for recipe in recipes if recipe.init.weights})
        if starts:
            rule = "must be none on a cluster, which does not have it"
            raise RunError(wrong("init.weights", starts[0], rule, "leave out --ray"))

    def device(self, name: str) -> str:
        """Return "cpu" or "cuda" for auto, cpu or cuda, by what the cluster has."""
        return choose_device(name, self.ray.cluster_resources().get("GPU", 0) >= 1)

    def places(self, device: str) -> int:
        """Return how many chunks can be trained at once: one for each core, or for each GPU."""
        resource = "GPU" if device == "cuda" else "CPU"
        found = int(self.ray.cluster_resources().get(resource, 0))
        if not found:
            raise RunError(
                "the Ray cluster has no cores to train on; "
                "add a machine with: ray start --address HOST:PORT"
            )
        return found

    def remote(self, function: Any, device: str, retries: int) -> Any:
        """Return a function as a task on one core, or on one GPU."""
        gpus = 1 if device == "cuda" else 0
        task = self.ray.remote(function)
        return task.options(num_cpus=1, num_gpus=gpus, max_retries=retries)

    def put(self, data: Data) -> Any:
        """Return the data in the cluster's memory; mapped data are read anew by each machine."""
        if self._data is None or self._data[0] is not data:
            packed = None if data.mapped else pack_data(data)
            self._data = (data, self.ray.put(packed))
        _, reference = self._data
        return reference

    def mailbox(self, pruner: Pruner | None) -> Any:
        """Return the one mailbox, on this machine."""
        if self._mailbox is None:
            here = self.ray.get_runtime_context().get_node_id()
            strategies = self.ray.util.scheduling_strategies
            # Wherever machines die, what they sent is here.
            pinned = strategies.NodeAffinitySchedulingStrategy(here, soft=False)
            actor = self.ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=pinned)
            self._mailbox = actor.remote(pruner)
        return self._mailbox

    def start_planning(
        self,
        study: Study,
        members: Sequence[int],
        data: Data,
        device: str,
    ) -> Any:
        """Begin to plan there how to train members of one structure."""
        # Measuring leaves nothing behind, so Ray may repeat it.
        task = self.remote(plan_task, device, retries=3)
        return task.remote(
            _bundle(study),
            members,
            self.put(data),
            device,
            self.places(device),
        )

    def cancel(self, pending: Iterable[Any]) -> None:
        """Give up what was begun."""
        for reference in pending:
            self.ray.cancel(reference, force=True)

    def wait_for_plan(self, pending: Any, should_stop: Callable[[], bool]) -> Plan | None:
        """Return the plan; None when asked to stop."""
        while not self.ray.wait([pending], timeout=0.3)[0]:
            if should_stop():
                self.ray.cancel(pending, force=True)
                return None
        try:
            plan: Plan = self.ray.get(pending)
        except self.ray.exceptions.RayError as e:
            raise _cause(e) from e
        plan.where = ON_RAY
        return plan


class ClusterRun:
    """Chunks (members, plan) of a study that are trained on a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        study: Study,
        data: Data,
        chunks: Sequence[tuple[list[int], Plan]],
        device: str,
        pruner: Pruner | None,
        checkpoint_every: float,
    ) -> None:
        self.ray, self.study, self.chunks, self.device = cluster.ray, study, chunks, device
        self.has_pruner, self.checkpoint_every = pruner is not None, checkpoint_every
        self.mailbox, self.data = cluster.mailbox(pruner), cluster.put(data)
        self.bundle = self.ray.put(_bundle(study))
        # Ray must not repeat a task: only danlu knows its checkpoints.
        self.task = cluster.remote(train_task, device, 0)
        self.name = uuid.uuid4().hex  # messages of a run before are not for this one
        self.attempts = [0] * len(chunks)
        self.lost_machines = [0] * len(chunks)  # since a chunk last got any further
        self.active: dict[Any, int] = {}  # number of the chunk, by the task's reference

    def train(self, should_stop: Callable[[], bool]) -> Generator[Message, None, None]:
        """Train all chunks, and yield messages as they come.

        should_stop: called now and then; True asks the tasks to save and stop. Raises RunError when
        the cluster is gone.
        """
        ray, asked_at = self.ray, 0.0
        try:
            if not should_stop():
                for chunk in range(len(self.chunks)):
                    self._send(chunk)  # Ray keeps those waiting for which there is no place yet
            while self.active:
                if not asked_at and should_stop():
                    asked_at = time.monotonic()
                    for reference in self.active:
                        ray.cancel(reference, recursive=False)  # not the messages it sends
                elif asked_at and time.monotonic() - asked_at > _PATIENCE:
                    return
                ended, _ = ray.wait(list(self.active), timeout=_POLL_SECONDS)
                yield from self._take_messages()
                for reference in ended:
                    yield from self._collect(reference, was_asked=asked_at > 0)
        except (ray.exceptions.RayActorError, ConnectionError) as e:
            raise RunError(
                f"the Ray cluster is gone; what was saved is intact, {self.study.way_on}"
            ) from e
        finally:
            # Nothing of a cluster that is gone can be cancelled.
            with contextlib.suppress(Exception):
                for reference in self.active:
                    ray.cancel(reference, force=True)

    def _send(self, chunk: int) -> None:
        """Send a chunk, with its checkpoints."""
        members, plan = self.chunks[chunk]
        files = self._checkpoints(chunk).glob("[0-9]*.safetensors")
        saved = {file.name: file.read_bytes() for file in files}
        spec = TaskSpec(members, plan, self.device, self.checkpoint_every, self.has_pruner, saved)
        # A machine taken for dead may go on sending; its messages have an old attempt.
        self.attempts[chunk] += 1
        task = TaskId(self.name, chunk, self.attempts[chunk])
        reference = self.task.remote(spec, self.bundle, self.data, self.mailbox, task)
        self.active[reference] = chunk

    def _take_messages(self) -> Iterator[Message]:
        """Yield what tasks reported since the last time; keep the checkpoints they sent."""
        for task, kind, value in self.ray.get(self.mailbox.take.remote()):
            if task.run != self.name or task.attempt != self.attempts[task.chunk]:
                continue  # of a machine that was given up
            if kind == REPORT:
                yield Message(task.chunk, REPORT, value)
            else:
                self.lost_machines[task.chunk] = 0
                checkpoint.put(self._checkpoints(task.chunk), *value)

    def _collect(self, reference: Any, was_asked: bool) -> Iterator[Message]:
        """Take a task that has ended, one way or another; was_asked: to stop."""
        chunk = self.active.pop(reference)
        try:
            result: TaskResult = self.ray.get(reference)
        except self.ray.exceptions.RayError as e:
            is_lost = self._is_not_at_fault(e)
            self.lost_machines[chunk] += is_lost
            if was_asked:
                return
            if is_lost and self.lost_machines[chunk] < _MOST_LOST_MACHINES:
                self._send(chunk)
            else:
                yield Message(chunk, FAILED, _cause(e))
            return
        for file, content in result.files.items():
            with storing(self.study.path):
                (self.study.path / file).parent.mkdir(exist_ok=True)
            write(self.study.path / file, content)
        yield Message(chunk, DONE, result.members)

    def _is_not_at_fault(self, e: Exception) -> bool:
        """Whether a task's machine or process died, or another process told it to stop."""
        exceptions = self.ray.exceptions
        raised_by_task = isinstance(e, (exceptions.RayTaskError, exceptions.OutOfMemoryError))
        return not raised_by_task or isinstance(getattr(e, "cause", None), Interrupted)

    def _checkpoints(self, chunk: int) -> Path:
        return checkpoint_folder(self.study, chunk_name(self.chunks[chunk][0]))


def _bundle(study: Study) -> StudyBundle:
    from danlu import __version__

    normalizers = [file.name for file in study.path.glob("normalizer.*.safetensors")]
    names = ["study.json", "recipes.jsonl", "data.json", *normalizers]
    files = {name: (study.path / name).read_bytes() for name in names}
    source = study.find_source() if study.is_reloadable else ""
    return StudyBundle(files, source, os.getcwd(), __version__)


def _cause(e: Exception) -> Exception:
    """Return the error of a task in our words."""
    cause = getattr(e, "cause", None)
    if isinstance(cause, Interrupted):
        return RunError(
            "other processes told machines of the cluster to stop, again and again; "
            "what was saved is intact"
        )
    if isinstance(cause, Exception) and not type(cause).__module__.startswith("ray"):
        return cause
    reason = reason_of(e)[:300]
    if type(e).__name__ == "OutOfMemoryError":
        return MemoryError(reason)
    return RunError(f"a machine of the cluster failed ({reason}); what was saved is intact")
