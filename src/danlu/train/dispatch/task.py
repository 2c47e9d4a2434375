"""What runs on the machines of a Ray cluster: a chunk trained as a task, and the mailbox between tasks and home.

A task gets the data and the little it needs of the study's folder, trains in a folder of its own, and sends back what it
would have written. It sends its checkpoints, too: a chunk whose machine dies goes on elsewhere from the last of them.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danlu.data import Data
from danlu.errors import RunError
from danlu.runs import Study, checkpoint
from danlu.train.batches.batch_stream import BatchStream
from danlu.train.dispatch import provenance
from danlu.train.dispatch.chunk import ChunkRecorder, Pruner, Row, files_of, populate, train_chunk
from danlu.train.dispatch.memory import keep_freed_memory
from danlu.train.dispatch.plan import Plan, choose
from danlu.train.engine.stopping import StopRequest

TaskId = tuple[str, int, int]  # of a task: the shift, the chunk, the try


@dataclass(frozen=True)
class StudyBundle:
    """What every task needs of home."""

    files: dict[str, bytes]  # of the study's folder
    folder: str  # where the user's own networks may be imported from
    version: str


@dataclass(frozen=True)
class Order:
    """What a task is told to do."""

    members: list[int]
    way: Plan
    device: str
    checkpoint_every: float
    judged: bool
    saved: dict[str, bytes]  # checkpoints to go on from, by name


Sent = tuple[Data, Any]  # data without their examples, and those as a NumPy array


def sent(data: Data) -> Sent:
    """Data as they go to a cluster: all tasks of a machine read one copy of an array, but of a tensor each has its own."""
    return replace(data, x=data.x[:0].clone(), _placed={}), data.x.numpy()


def _received(data: Sent) -> Data:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # that the array cannot be written to: nobody does
        return replace(data[0], x=torch.from_numpy(data[1]))


class Mailbox:
    """An actor between the tasks and whoever waits for them; the referee sits here, so that all are held to one."""

    def __init__(self, referee: Pruner | None) -> None:
        self.referee = referee
        self.mail: list[Any] = []

    def put(self, ticket: TaskId, kind: str, value: Any) -> None:
        """Leave a message."""
        self.mail.append((ticket, kind, value))

    def take(self) -> list[Any]:
        """All messages since the last time."""
        mail, self.mail = self.mail, []
        return mail

    def see(self, rows: Sequence[Row]) -> None:
        """Pass on to the referee what was reached before."""
        assert self.referee is not None
        self.referee.see(rows)

    def judge(self, rows: Sequence[Row]) -> set[int]:
        """Ask the referee who is to stop."""
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


class _Sent(ChunkRecorder):
    """A chunk whose checkpoints are sent home."""

    send: Callable[[str, bytes], None]

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        super().save(step, tensors, position)
        newest = max(self.folder.glob("*.safetensors"))
        self.send(newest.name, newest.read_bytes())


@contextlib.contextmanager
def _unpacked(parcel: StudyBundle, data: Sent | None) -> Iterator[tuple[Study, Data]]:
    """The study in a folder of its own, and the data, read here if they were not sent."""
    from danlu import __version__

    if parcel.version != __version__:
        raise RunError(
            f"a machine of the cluster has danlu {__version__}, and this one {parcel.version}; install the same on all"
        )
    if parcel.folder not in sys.path:
        sys.path.append(parcel.folder)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as home:
        for name, raw in parcel.files.items():
            (Path(home) / name).write_bytes(raw)
        study = Study(home, trust=True)  # checked before it was sent
        here = study.load_data() if data is None else _received(data)
        provenance.write_normalizers(study.path, here, {r.normalize for r in study.recipes})
        yield study, here


def work(order: Order, parcel: StudyBundle, data: Sent | None, mailbox: Any, ticket: TaskId) -> Any:
    """Train a chunk; the lines to be written of its members, and the files it made."""
    import ray

    with _unpacked(parcel, data) as (study, here), StopRequest() as stop:
        chunk = _Sent(
            study,
            order.members,
            _Away(mailbox) if order.judged else None,
            0.5,
            lambda *said: mailbox.put.remote(ticket, "said", said),
            lambda: "asked to stop",
        )
        chunk.send = lambda name, raw: ray.get(mailbox.put.remote(ticket, "saved", (name, raw)))
        for name, raw in order.saved.items():
            checkpoint.put(chunk.folder, name, raw)
        lines = train_chunk(
            chunk, order.way, here, torch.device(order.device), order.checkpoint_every, stop
        )
        return lines, {
            file: (study.path / file).read_bytes()
            for file in files_of(chunk.name)
            if (study.path / file).is_file()
        }


def measure(
    parcel: StudyBundle, members: Sequence[int], data: Sent | None, device: str, places: int
) -> Plan:
    """How to train some members of one structure in so many places, measured in one."""
    import ray

    node, nodes = ray.get_runtime_context().get_node_id(), ray.nodes()  # type: ignore[no-untyped-call]
    cores = next((int(n["Resources"].get("CPU", 1)) for n in nodes if n["NodeID"] == node), 1)
    tenants = max(1, cores) if device == "cpu" else 1
    on = torch.device(device)
    with _unpacked(parcel, data) as (study, here):
        recipes = [study.recipes[i] for i in members]
        make = functools.partial(populate, data=here, feed=BatchStream(recipes, here, on), device=on)
        return choose(
            recipes, make, here, on, cores=1, beside=False, places=places, tenants=tenants
        )
