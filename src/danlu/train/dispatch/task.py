"""What runs on the machines of a Ray cluster: a chunk trained as a task, and the mailbox home.

A task gets the data and the little it needs of the study's folder, trains in a folder of its own,
and sends back what it would have written. It sends its checkpoints, too: a chunk whose machine dies
goes on elsewhere from the last of them.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from danlu.data import Data
from danlu.errors import RunError
from danlu.host import freed_memory_kept, importable
from danlu.runs import Member, Study, checkpoint
from danlu.train.batches import BatchStream
from danlu.train.dispatch import provenance
from danlu.train.dispatch.choose import Resources, choose_plan
from danlu.train.dispatch.chunk import (
    ChunkRecorder,
    Pruner,
    Row,
    files_of,
    population_maker,
    train_chunk,
)
from danlu.train.dispatch.plan import Plan
from danlu.train.dispatch.reports import Report, SendingReporter
from danlu.train.dispatch.workers import REPORT
from danlu.train.engine.stopping import StopRequest

CHECKPOINT = "checkpoint"  # a kind of message, beside those of workers
_REPORT_SECONDS = 0.5


class TaskId(NamedTuple):
    """Which task a message is from: the run on the cluster, the chunk, the attempt."""

    run: str
    chunk: int
    attempt: int


class MailboxMessage(NamedTuple):
    """A message of a task: a report, or a checkpoint (name, content)."""

    task: TaskId
    kind: str
    value: Any


@dataclass(frozen=True)
class StudyBundle:
    """What every task needs of the study.

    files: of the study's folder. source: where its data lie, unless they are sent. folder: where
    the user's own networks may be imported from.
    """

    files: dict[str, bytes]
    source: str
    folder: str
    version: str


@dataclass(frozen=True)
class TaskSpec:
    """What a task has to do; saved: checkpoints to go on from, by name."""

    members: list[int]
    plan: Plan
    device: str
    checkpoint_every: float
    has_pruner: bool
    saved: dict[str, bytes]


@dataclass(frozen=True)
class TaskResult:
    """What a task leaves: the members that ended, and the files it made."""

    members: list[Member]
    files: dict[str, bytes]


PackedData = tuple[Data, Any]  # data without their examples, and those as a NumPy array


def pack_data(data: Data) -> PackedData:
    """Return data as they go to a cluster.

    All tasks of a machine read one copy of an array, while each has a tensor of its own.
    """
    no_examples = data.x[:0].clone()
    without_examples = replace(data, x=no_examples, _on_devices={}, origins=(), digests=None)
    return without_examples, data.x.numpy()


def _unpack_data(packed: PackedData) -> Data:
    data, x = packed
    with warnings.catch_warnings():
        # That the array cannot be written to: nobody does.
        warnings.simplefilter("ignore", UserWarning)
        return replace(data, x=torch.from_numpy(x))


class Mailbox:
    """An actor between the tasks and whoever waits for them.

    The pruner is in here, so that one pruner judges all members.
    """

    def __init__(self, pruner: Pruner | None) -> None:
        self.pruner = pruner
        self.messages: list[MailboxMessage] = []

    def put(self, task: TaskId, kind: str, value: Any) -> None:
        """Leave a message."""
        self.messages.append(MailboxMessage(task, kind, value))

    def take(self) -> list[MailboxMessage]:
        """Return all messages since the last time."""
        messages, self.messages = self.messages, []
        return messages

    def observe(self, rows: Sequence[Row]) -> None:
        """Pass on to the pruner what was reached before."""
        assert self.pruner is not None
        self.pruner.observe(rows)

    def prune(self, rows: Sequence[Row]) -> set[int]:
        """Ask the pruner which members are to stop."""
        assert self.pruner is not None
        return self.pruner.prune(rows)


class _RemotePruner:
    """The pruner as a task sees it."""

    def __init__(self, mailbox: Any) -> None:
        import ray

        self.mailbox, self.get = mailbox, ray.get

    def observe(self, rows: Sequence[Row]) -> None:
        self.get(self.mailbox.observe.remote(rows))

    def prune(self, rows: Sequence[Row]) -> set[int]:
        return self.get(self.mailbox.prune.remote(rows))  # type: ignore[no-any-return]


class _SendingChunkRecorder(ChunkRecorder):
    """A chunk whose checkpoints are sent home."""

    send_checkpoint: Callable[[str, bytes], None]

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        super().save(step, tensors, position)
        newest = max(self.folder.glob("*.safetensors"))
        self.send_checkpoint(newest.name, newest.read_bytes())


@contextlib.contextmanager
def _unpacked(bundle: StudyBundle, packed: PackedData | None) -> Iterator[tuple[Study, Data]]:
    """Lay the study out in a folder of its own; yield it and its data.

    The data are read here if they were not sent. Raises RunError for another version of danlu.
    """
    from danlu import __version__

    if bundle.version != __version__:
        raise RunError(
            f"a machine of the cluster has danlu {__version__}, and this one {bundle.version}; "
            "install the same on all"
        )
    with (
        freed_memory_kept(),
        tempfile.TemporaryDirectory() as folder,
        importable(bundle.folder),
    ):
        for name, content in bundle.files.items():
            (Path(folder) / name).write_bytes(content)
        study = Study(folder, trust=True)  # it was checked before it was sent
        data = study.load_data(bundle.source) if packed is None else _unpack_data(packed)
        provenance.write_normalizers(study, data)
        yield study, data


def train_task(
    spec: TaskSpec, bundle: StudyBundle, packed: PackedData | None, mailbox: Any, task: TaskId
) -> TaskResult:
    """Train a chunk."""
    import ray

    def send_report(report: Report) -> None:
        mailbox.put.remote(task, REPORT, report)

    def send_checkpoint(name: str, content: bytes) -> None:
        ray.get(mailbox.put.remote(task, CHECKPOINT, (name, content)))

    with _unpacked(bundle, packed) as (study, data), StopRequest() as stop:
        recorder = _SendingChunkRecorder(
            study,
            spec.members,
            _RemotePruner(mailbox) if spec.has_pruner else None,
            _REPORT_SECONDS,
            SendingReporter(send_report),
            "asked to stop",
        )
        recorder.send_checkpoint = send_checkpoint
        for name, content in spec.saved.items():
            checkpoint.put(recorder.folder, name, content)
        device = torch.device(spec.device)
        members = train_chunk(recorder, spec.plan, data, device, spec.checkpoint_every, stop)
        made = [file for file in files_of(recorder.name) if (study.path / file).is_file()]
        return TaskResult(members, {file: (study.path / file).read_bytes() for file in made})


def plan_task(
    bundle: StudyBundle,
    members: Sequence[int],
    packed: PackedData | None,
    device: str,
    places: int,
) -> Plan:
    """Plan, in one place, how to train members of one structure in so many places."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    cores = 1
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["NodeID"] == here:
            cores = int(node["Resources"].get("CPU", 1))
    # As many tasks as cores share a machine's memory.
    tenants = max(1, cores) if device == "cpu" else 1
    on = torch.device(device)
    with _unpacked(bundle, packed) as (study, data):
        recipes = [study.recipes[i] for i in members]
        make = population_maker(data, BatchStream(recipes, data, on), on)
        resources = Resources(cores=1, processes=False, places=places, tenants=tenants)
        return choose_plan(recipes, make, data, on, resources)
