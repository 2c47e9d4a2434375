"""`fit`: one recipe on data → a run, and going on with an interrupted one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from danlu import metrics
from danlu.data import Data, load
from danlu.errors import (
    Interrupted,
    RecipeError,
    RunError,
    RunNotice,
    cut_off,
    notify,
    unknown,
    wrong,
)
from danlu.formats import RUN_FORMAT
from danlu.guest import guest
from danlu.host import compute_threads
from danlu.models.given import Network, name_of
from danlu.recipe import Recipe
from danlu.runs import Run, checkpoint, folder
from danlu.runs.measurements import OFF, check_level
from danlu.runs.normalizers import read_fitted
from danlu.runs.run import NORMALIZER
from danlu.train.batches import BatchStream
from danlu.train.batches.sampling import weights_of
from danlu.train.dispatch import provenance
from danlu.train.dispatch.device import choose_device, memory_reused, threads_for
from danlu.train.dispatch.listener import Listener
from danlu.train.dispatch.preflight import check
from danlu.train.dispatch.run_recorder import RunRecorder
from danlu.train.engine.loop import Loop
from danlu.train.engine.networks import TrainingSpec
from danlu.train.engine.population import Population
from danlu.train.engine.stopping import StopRequest
from danlu.train.probes.meter import meter_of

CHECKPOINT_EVERY = 5.0  # seconds


@guest
def fit(
    network: Recipe | Network,
    data: Any,
    *,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    metric: str | None = None,
    probes: str = "light",
    listener: Listener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Run:
    """Train one network on the data and leave a run folder.

    network: a recipe; or a torch.nn.Module, or a function or class that makes one (called with
    input_shape and outputs if it takes them), which `recipe` says how to train. A module is trained
    from the weights it has, as a copy. data: what `load` returns, or takes. out: the folder to make
    (default: a dated one under `DANLU_RUNS` or ./runs). device: "cpu", "cuda", or "auto" for a GPU
    where there is one. metric: the figure that counts in the verdict, such as macro_f1 or auc
    (unasked: what suits the task, and the data where classes are imbalanced); early stopping has
    its own. probes: what is measured while training, see `danlu.train.probes.table`: "off",
    "light", or "full", which takes longer. checkpoint_every: seconds.

    Raises DataError, RecipeError or ModelError before any folder is made, Diverged when a loss
    becomes NaN or infinite, Interrupted after Ctrl-C (saved; `resume` goes on), StorageError when
    the disk refuses.
    """
    data = data if isinstance(data, Data) else load(data)
    recipe = recipe_for(network, recipe, data, data.size("train"))
    check(recipe, data)
    if metric is not None:
        metric = metrics.canonical(metric)
        if not data.schema.has_metric(metric):
            raise RecipeError(unknown("metric", metric, data.schema.metrics))
    path = Path(out) if out is not None else None
    check_level(probes)
    run = _create(recipe, data, path, choose_device(device), metric, probes)
    _train(run, data, listener or Listener(), checkpoint_every, resuming=False)
    return run


def recipe_for(
    network: Recipe | Network, recipe: Recipe | None, data: Data, examples: int
) -> Recipe:
    """Return how to train what was given, on so many examples. Raises RecipeError for two."""
    if isinstance(network, Recipe):
        if recipe is not None:
            raise RecipeError("`recipe` is given twice; leave out recipe=…")
        return network
    if recipe is not None and not isinstance(recipe, Recipe):
        kind = type(recipe).__name__
        raise RecipeError(f"`recipe` is a {kind}, but must be a danlu.Recipe; try Recipe(epochs=3)")
    base = recipe or Recipe()
    is_default = base.batch_size == Recipe().batch_size
    if is_default and 0 < examples < base.batch_size:
        base = base.with_(batch_size=examples)  # nobody asked for more
    return base.with_(model={"name": name_of(network)})


@guest
def resume(
    run: Run | str | Path,
    data: Any = None,
    *,
    trust: bool = False,
    probes: str | None = None,
    listener: Listener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Run:
    """Go on with an interrupted or killed run, to the same weights as without a break.

    data: needed only for runs on arrays in memory, the same again. trust: as in `Run`. probes: what
    is measured from here on (default: what was measured so far). Raises RunError for a finished run
    or other data.
    """
    run = run if isinstance(run, Run) else Run(run, trust)
    run.recipe.check_trust()
    data = provenance.data_to_resume(run, data)
    provenance.set_probes(run, probes)
    _train(run, data, listener or Listener(), checkpoint_every, resuming=True)
    return run


def _create(
    recipe: Recipe,
    data: Data,
    path: Path | None,
    device: str,
    metric: str | None = None,
    probes: str = "off",
) -> Run:
    """Make the run's folder with what is known before the first step."""
    environment = provenance.environment(device, threads_for(recipe, data))
    model = recipe.model.name.rpartition(":")[2].partition("@")[0]
    files = {"recipe.toml": recipe.to_toml(), **provenance.files_about(data, recipe.normalize)}
    facts = {
        "format": RUN_FORMAT,
        "status": "running",
        "metric": metric,
        "probes": probes,
        "environment": environment,
        "starts": provenance.start_digests([recipe]),
        "started": time.strftime("%FT%T%z"),
        "created": time.time(),
    }
    path = folder.create(path, provenance.label_of(data, model), Run.index, files, facts)
    run = Run(path, trust=True)
    run.recipe = recipe  # the one that was given, not the one read back
    return run


def check_interval(checkpoint_every: float) -> None:
    """Raise RunError for an interval between checkpoints that is not a time."""
    if not checkpoint_every >= 0:  # NaN as well
        rule = "must be at least 0 seconds"
        raise RunError(wrong("checkpoint_every", checkpoint_every, rule, "try 5"))


def _train(
    run: Run,
    data: Data,
    listener: Listener,
    checkpoint_every: float,
    resuming: bool,
) -> None:
    """Train one network, from its folder's state to its end."""
    check_interval(checkpoint_every)
    environment = run.info["environment"]
    device = torch.device(choose_device(environment["device"]))
    with (
        folder.locked(run.path),
        memory_reused([run.recipe], data),
        compute_threads(environment["threads"]),
        StopRequest() as stop,
    ):
        recorder = RunRecorder(run, data, listener)
        saved = None
        if resuming:
            found = checkpoint.load(run.path / "checkpoint", run.identity)
            if found.damaged:
                notify(found.notice(run.path / "checkpoint"), RunNotice)
            saved = found.checkpoint
            if saved is None:  # a checkpoint no longer needs the weights it started from
                provenance.check_starts(run)
            kind = data.schema.normalization(run.recipe.normalize)
            data.set_normalizer(read_fitted(run.sealed, NORMALIZER, kind))
        batches = BatchStream([run.recipe], data, device)

        def make(recipes: Sequence[Recipe]) -> Population:
            def build(recipe: Recipe) -> nn.Module:
                return run.build(load_start=saved is None)

            return make_population(recipes, build, data, batches, device)

        recorder.meter = meter_of(run.info.get("probes", OFF), data, batches)
        loop = Loop(
            {0: run.recipe},
            make,
            1,
            batches,
            data,
            recorder,
            checkpoint_every,
            stop,
            meter=recorder.meter,
        )
        if resuming:
            recorder.resume(loop, saved)
        listener.start(run, run.recipe.epochs * batches.steps, loop.steps)
        try:
            loop.train()
        except (Interrupted, KeyboardInterrupt) as e:
            run.sealed.update(status="interrupted")
            if isinstance(e, KeyboardInterrupt):
                raise cut_off(run.way_on) from None
            raise
        finally:
            listener.end(run)
    if recorder.error is not None:
        raise recorder.error


def make_population(
    recipes: Sequence[Recipe],
    build: Callable[[Recipe], nn.Module],
    data: Data,
    batches: BatchStream,
    device: torch.device,
    others: Sequence[Recipe] = (),
) -> Population:
    """Return a population for these data; others: recipes that may join it."""
    class_weights, example_weights = weights_of(recipes[0], data)
    spec = TrainingSpec(
        data.schema.input_shape,
        data.size("train"),
        batches.steps,
        not data.schema.is_regression,
        device,
        class_weights,
        example_weights,
        data.training_labels,
    )
    return Population(recipes, build, spec, others)
