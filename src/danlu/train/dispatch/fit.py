"""`fit`: one recipe on data → a run, and going on with an interrupted one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danlu.data import Data
from danlu.errors import Diverged, Interrupted, RunError, wrong
from danlu.predict import evaluate
from danlu.recipe import Recipe
from danlu.runs import Run, checkpoint, folder
from danlu.runs.run import read_fitted, write_predictions, write_tags
from danlu.train.batches.batch_stream import BatchStream
from danlu.train.dispatch import provenance
from danlu.train.dispatch.listener import Listener
from danlu.train.dispatch.preflight import check, choose_device, reuse_memory, threads, threads_for
from danlu.train.engine.loop import Loop, MemberState
from danlu.train.engine.population import Population
from danlu.train.engine.stopping import StopRequest

CHECKPOINT_EVERY = 5.0  # seconds
TRAIN_SAMPLE = 10_000  # training examples a finished network is scored on
PAIRS_KEPT = 12  # to be shown beside what is written
TOKENS_SAMPLE = 200_000  # of text in which each token has a target: so many places


def fit(
    recipe: Recipe,
    data: Data,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    listener: Listener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Run:
    """Train one recipe on the data and leave a run folder.

    out: the folder to make (default: a dated one under `DANLU_RUNS` or ./runs).
    device: "cpu", "cuda", or "auto" for a GPU where there is one. checkpoint_every: seconds.

    Raises RecipeError or ModelError before any folder is made, Diverged when a loss becomes NaN or infinite,
    Interrupted after Ctrl-C (saved; `resume` goes on), StorageError when the disk refuses.
    """
    check(recipe, data)
    run = _create(recipe, data, Path(out) if out is not None else None, choose_device(device))
    _train(run, data, listener or Listener(), checkpoint_every, going_on=False)
    return run


def resume(
    run: Run | str | Path,
    data: Data | None = None,
    *,
    trust: bool = False,
    listener: Listener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Run:
    """Go on with an interrupted or killed run, to the same final weights as if nothing had happened.

    data: needed only for runs on arrays in memory. trust: as in `Run`. Raises RunError for a finished run or other data.
    """
    run = run if isinstance(run, Run) else Run(run, trust)
    data = provenance.data_to_resume(run, data)
    _train(run, data, listener or Listener(), checkpoint_every, going_on=True)
    return run


def _create(recipe: Recipe, data: Data, path: Path | None, device: str) -> Run:
    """The run's folder with what is known before the first step."""
    environment = provenance.environment(device, threads_for(recipe, data))
    path = provenance.make_folder(
        path, f"{Path(str(data.source.get('source', 'data'))).name}-{recipe.model.name}"
    )
    folder.write(path / "recipe.toml", recipe.to_toml())
    provenance.write_data(path, data, recipe.normalize)
    provenance.say(
        path / "run.json",
        status="running",
        format=folder.FORMAT,
        environment=environment,
        starts=provenance.starts([recipe]),
        started=time.strftime("%FT%T%z"),
        created=time.time(),
    )
    return Run(path, trust=True)


def _train(
    run: Run, data: Data, listener: Listener, checkpoint_every: float, going_on: bool
) -> None:
    """One network, from its folder's state to its end."""
    reuse_memory([run.recipe], data)
    if not checkpoint_every >= 0:
        raise RunError(
            wrong("checkpoint_every", checkpoint_every, "must be at least 0 seconds", "try 5")
        )
    environment = run.info["environment"]
    device = torch.device(choose_device(environment["device"]))
    with folder.locked(run.path), threads(environment["threads"]), StopRequest() as stop:
        ledger = RunRecorder(run, data, listener)
        saved = checkpoint.load(run.path / "checkpoint", run.identity) if going_on else None
        if going_on and not saved:  # what was saved needs its start no more
            provenance.check_starts(run)
        if going_on:
            data.adopt(
                read_fitted(
                    run.path / "normalizer.safetensors",
                    data.schema.normalization(run.recipe.normalize),
                )
            )
        feed = BatchStream([run.recipe], data, device)

        def make(recipes: Sequence[Recipe]) -> Population:
            return make_population(
                recipes, lambda _: run.build(start=saved is None), data, feed, device
            )

        loop = Loop(
            {0: run.recipe}, make, 1, feed, data, run.metric, ledger, checkpoint_every, stop
        )
        if going_on:
            ledger.resume(loop, saved)
        listener.start(run, run.recipe.epochs * feed.steps, loop.steps)
        try:
            loop.train()
        except Interrupted:
            provenance.say(run.path / "run.json", status="interrupted")
            raise
        finally:
            listener.end(run)
    if ledger.error is not None:
        raise ledger.error


def train_sample(data: Data) -> int:
    """Training examples that a finished network is scored on."""
    if not data.schema.each_token:
        return TRAIN_SAMPLE
    return max(1, TOKENS_SAMPLE * data.size("train") // max(1, data.targets("train")))


def make_population(
    recipes: Sequence[Recipe],
    build: Any,
    data: Data,
    feed: BatchStream,
    device: torch.device,
    others: Sequence[Recipe] = (),
) -> Population:
    """A population for these data; others: who may join it."""
    counts = None if data.schema.is_regression else data.class_counts("train")
    return Population(
        recipes,
        build,
        data.schema.input_shape,
        data.size("train"),
        feed.steps,
        counts,
        device,
        others,
    )


class RunRecorder:
    """Writes a run's folder, and tells its listener."""

    def __init__(self, run: Run, data: Data, listener: Listener) -> None:
        self.run, self.data, self.listener, self.interval = run, data, listener, listener.interval
        self.error: Diverged | None = None

    def resume(self, loop: Loop, saved: tuple[dict[str, Tensor], dict[str, Any]] | None) -> None:
        """Go back to the newest whole checkpoint, and cut the history to it."""
        run = self.run
        if saved:
            loop.restore(*saved)
        rows = [r for r in run.history if r["epoch"] <= loop.at.epoch]
        folder.write_lines(run.path / "metrics.jsonl", rows)
        provenance.say(run.path / "run.json", status="running")

    def stepped(self, loop: Loop) -> None:
        self.listener.step(loop.steps, float(loop.tally.mean()[0]), float(loop.tally.accuracy()[0]))

    def epoch(self, rows: list[tuple[MemberState, dict[str, Any]]]) -> None:
        for _, row in rows:
            folder.append_lines(self.run.path / "metrics.jsonl", [row])
            self.listener.epoch(self.run, row)

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        checkpoint.save(self.run.path / "checkpoint", step, tensors, position, self.run.identity)

    def interrupted(self, step: int) -> Interrupted:
        return Interrupted(
            f"stopped at step {step}, saved; go on with: danlu resume {self.run.path}"
        )

    def broke(self, place: MemberState, weights: dict[str, Tensor], error: Diverged) -> None:
        self.error = error
        provenance.say(
            self.run.path / "run.json",
            status="diverged",
            error=str(error),
            step=error.step,
            layer=error.layer,
        )

    def left(self, loop: Loop, population: Population, leaving: list[tuple[MemberState, int]]) -> None:
        """Weights, final figures, the one reading of the test part."""
        (place, _), path, data = leaving[0], self.run.path, self.data
        folder.write_tensors(path / "weights.safetensors", population.stack.row(0))
        result = {
            **loop.told(place),
            "parameters": sum(p.numel() for p in population.model.parameters()),
        }
        last = [p for p in data.parts if data.size(p)][-1]
        for part in (p for p in data.parts if data.size(p)):
            n = min(data.size(part), train_sample(data)) if part == "train" else data.size(part)
            outs = loop.outputs(population, part, n)
            if part == last and data.schema.scheme:
                outs = write_tags(path, outs, data.x[evaluate.in_order(data, part, n)])
            elif part == last and data.schema.task == "pairs":
                folder.write_tensors(
                    path / "test.safetensors", {"pairs": data.x[data.parts[part][:PAIRS_KEPT]]}
                )
            if not data.schema.each_token:
                out, y = evaluate.collect(outs, n)
                outs = iter([(out.t().unsqueeze(0), y)])
            score = evaluate.scores(outs, data.schema, evaluate.sentences(data, part, n))[0]
            result |= score.told(part, self.run.metric) | {f"{part}_n": score.n}
            if part == last and not data.schema.each_token:
                write_predictions(path, data, out, part)
        provenance.say(path / "run.json", status="finished", result=result)
        checkpoint.forget(path / "checkpoint")
