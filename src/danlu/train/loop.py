"""The training loop: steps, epochs, early stopping, checkpoints."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from danlu.data import Data
from danlu.errors import Interrupted
from danlu.runs import Run, checkpoint, evaluate, folder
from danlu.train.batches import Batches
from danlu.train.diverged import explain
from danlu.train.listener import Listener
from danlu.train.member import Member, NotFinite
from danlu.train.stopping import StopRequest

_HELD = 32  # outputs kept before they are counted together: one comparison instead of many


@dataclass
class Position:
    """Where a training is, to the step: all that is not a tensor."""

    step: int = 0  # taken so far
    epoch: int = 0  # finished so far
    loss_sum: float = 0.0  # of the epoch so far, weighted by examples
    correct: int = 0
    seen: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    seconds: float = 0.0

    def fresh_epoch(self) -> None:
        """Begin counting anew."""
        self.loss_sum, self.correct, self.seen = 0.0, 0, 0


class Loop:
    """Trains one member to the end of its recipe, from wherever it stands."""

    def __init__(
        self,
        run: Run,
        member: Member,
        batches: Batches,
        data: Data,
        listener: Listener,
        checkpoint_every: float,
        stop: StopRequest,
    ) -> None:
        self.run, self.member, self.batches, self.data = run, member, batches, data
        self.listener, self.checkpoint_every, self.stop = listener, checkpoint_every, stop
        self.at = Position()
        self.best: dict[str, Tensor] = {}
        self.classes = data.schema.task == "classification"
        self._held: list[tuple[Tensor, Tensor]] = []

    def resume(self) -> None:
        """Go back to the newest whole checkpoint, and cut the history to it."""
        found = checkpoint.load(self.run.path / "checkpoint", self.run.identity)
        if found:
            tensors, position = found
            self.at = Position(**position)
            self.member.restore(tensors)
            self.best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
        rows = [r for r in self.run.history if r["epoch"] <= self.at.epoch]
        folder.write_lines(self.run.path / "metrics.jsonl", rows)

    def train(self) -> None:
        """Run to the end. Raises Interrupted (saved), Diverged, StorageError."""
        started = time.perf_counter() - self.at.seconds
        saved = shown = time.perf_counter()
        at, member = self.at, self.member
        while at.epoch < member.recipe.epochs and not self._exhausted():
            for x, y in self.batches.epoch(at.epoch, at.step - at.epoch * self.batches.steps):
                try:
                    loss, out = member.step(x, y, at.step)
                except NotFinite:
                    raise explain(member, x, at.step) from None
                n = len(y)
                at.step += 1
                at.seen += n
                at.loss_sum += loss * n
                self._count(out, y)
                now = time.perf_counter()
                if now - shown > self.listener.interval:
                    shown = now
                    self._settle()
                    self.listener.step(at.step, at.loss_sum / at.seen, self._accuracy(at.loss_sum / at.seen))
                if self.stop.asked or now - saved > self.checkpoint_every:
                    at.seconds = now - started
                    self.save()
                    saved = time.perf_counter()
                    if self.stop.asked:
                        raise Interrupted(f"stopped at step {at.step}, saved; go on with: danlu resume {self.run.path}")
            at.seconds = time.perf_counter() - started
            self._end_epoch()
        if self.best:
            member.model.load_state_dict(self.best)

    def save(self) -> None:
        """A checkpoint of this very step."""
        self._settle()
        best = {f"best.{k}": v for k, v in self.best.items()}
        checkpoint.save(
            self.run.path / "checkpoint", self.at.step, {**self.member.tensors(), **best}, asdict(self.at), self.run.identity
        )

    def _exhausted(self) -> bool:
        patience = self.member.recipe.early_stopping.patience
        return bool(patience) and self.at.epoch - self.at.best_epoch >= patience and self.at.best_epoch > 0

    def _count(self, out: Tensor, y: Tensor) -> None:
        if self.classes:
            self._held.append((out, y))
            if len(self._held) >= _HELD:
                self._settle()

    def _settle(self) -> None:
        """Count the correct ones among the outputs held back."""
        if self._held:
            out, y = (torch.cat(part) for part in zip(*self._held, strict=True))
            self.at.correct += int((out.argmax(1) == y).sum())
            self._held.clear()

    def _accuracy(self, loss: float) -> float:
        return self.at.correct / self.at.seen if self.classes else 1 - loss

    def _end_epoch(self) -> None:
        at, member = self.at, self.member
        self._settle()
        loss = at.loss_sum / at.seen
        metric = self.run.metric
        row: dict[str, Any] = {
            "epoch": at.epoch + 1,
            "step": at.step,
            "lr": member.lr(at.step - 1),
            "train_loss": loss,
            f"train_{metric}": self._accuracy(loss),
        }
        if self.data.size("valid"):
            valid = evaluate.score(*self.outputs("valid"), self.data.schema)
            row |= {"valid_loss": valid.loss, f"valid_{metric}": valid.accuracy}
            self._keep_best(valid.loss, at.epoch + 1)
        row["seconds"] = round(at.seconds, 4)
        at.epoch += 1
        at.fresh_epoch()
        folder.append_line(self.run.path / "metrics.jsonl", row)
        self.listener.epoch(self.run, row)

    def outputs(self, part: str, most: int | None = None) -> tuple[Tensor, Tensor]:
        """(outputs, targets) of the network as it is now."""
        member = self.member
        forward = (lambda x: chain.forward(x)[0]) if (chain := member.chain) else None
        return evaluate.part_outputs(member.model, self.data, part, self.batches.normalizer, forward, most)

    def _keep_best(self, loss: float, epoch: int) -> None:
        stopping = self.member.recipe.early_stopping
        if stopping.patience and loss < self.at.best_loss - stopping.min_delta:
            self.at.best_loss, self.at.best_epoch = loss, epoch
            self.best = self.member.weights()
