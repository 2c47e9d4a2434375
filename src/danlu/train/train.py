"""`train`: recipes × data → runs."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from danlu.data import Augmenter, Data
from danlu.errors import Diverged, Interrupted, ModelError, RecipeError, RunError, wrong
from danlu.models.summary import multiply_adds
from danlu.recipe import Recipe
from danlu.runs import Run, evaluate, folder
from danlu.runs.run import build_model
from danlu.train.batches import Batches
from danlu.train.listener import Listener
from danlu.train.loop import Loop
from danlu.train.member import Member
from danlu.train.memory import keep_freed_memory
from danlu.train.stopping import StopRequest

CHECKPOINT_EVERY = 5.0  # seconds
_TRAIN_SAMPLE = 10_000  # training examples the finished network is scored on
_ONE_THREAD = 20_000_000  # multiply-adds of a step below which a second thread costs more than it brings


def fit(
    recipe: Recipe,
    data: Data,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    listener: Listener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> Run:
    """Train one recipe; see `train`."""
    return train([recipe], data, out=[out], device=device, listener=listener, checkpoint_every=checkpoint_every)[0]


def train(
    recipes: Sequence[Recipe],
    data: Data,
    *,
    out: Sequence[str | Path | None] | None = None,
    device: str = "auto",
    listener: Listener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
) -> list[Run]:
    """Train each recipe on the data and leave a run folder for each.

    out: the folders to make (default: a dated one each under `DANLU_RUNS` or ./runs).
    device: "cpu", "cuda", or "auto" for a GPU where there is one. checkpoint_every: seconds.

    Raises RecipeError or ModelError before any folder is made, Diverged when a loss becomes NaN or infinite,
    Interrupted after Ctrl-C (saved; `resume` goes on), StorageError when the disk refuses.
    """
    for recipe in recipes:
        check(recipe, data)
    folders = list(out) if out is not None else [None] * len(recipes)
    runs = []
    for recipe, path in zip(recipes, folders, strict=True):
        run = _create(recipe, data, Path(path) if path is not None else None, _device(device))
        _train(run, data, listener or Listener(), checkpoint_every, going_on=False)
        runs.append(run)
    return runs


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
    if run.status == "finished":
        raise RunError(f"{str(run.path)!r} is finished; there is nothing to resume")
    if data is None:
        data = run.load_data()
    else:
        run.check_data(data)
    _train(run, data, listener or Listener(), checkpoint_every, going_on=True)
    return run


def check(recipe: Recipe, data: Data) -> None:
    """Refuse a recipe that these data cannot be trained with. All mistakes at once."""
    mistakes, n = [], data.size("train")
    if recipe.batch_size > n:
        mistakes.append(wrong("batch_size", recipe.batch_size, f"must be at most the {n} training examples", f"try {min(64, n)}"))
    if recipe.early_stopping.patience and not data.size("valid"):
        mistakes.append(
            wrong("early_stopping.patience", recipe.early_stopping.patience, "needs a validation part, and these data have none")
        )
    moves = [k for k, v in recipe.augment.model_dump().items() if v and k != "noise"]
    if moves and not data.schema.is_image:
        mistakes.append(
            wrong(f"augment.{moves[0]}", getattr(recipe.augment, moves[0]), "needs pictures, and these data are a table")
        )
    regression = data.schema.task == "regression"
    if recipe.loss.name not in ("auto", "squared-error") and regression:
        mistakes.append(wrong("loss.name", recipe.loss.name, "must be auto or squared-error for a target of numbers"))
    if recipe.loss.name == "squared-error" and not regression:
        mistakes.append(wrong("loss.name", recipe.loss.name, "must be auto or cross-entropy for classes"))
    for name in ("label_smoothing", "class_weights"):
        value = getattr(recipe.loss, name)
        if regression and value not in (0, "none"):
            mistakes.append(wrong(f"loss.{name}", value, "needs classes, and the target is a number"))
    if recipe.augment.crop and data.schema.is_image and recipe.augment.crop >= min(data.schema.input_shape[1:]):
        mistakes.append(
            wrong("augment.crop", recipe.augment.crop, f"must be less than the side {min(data.schema.input_shape[1:])}")
        )
    try:
        build_model(recipe, data.schema)
    except ModelError as e:
        if not mistakes:
            raise
        mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)


def _device(name: str) -> str:
    has = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda"):
        raise RunError(wrong("device", name, "must be auto, cpu or cuda"))
    if name == "cuda" and not has:
        raise RunError(wrong("device", name, "must be cpu: this machine has no CUDA device that PyTorch can use"))
    return ("cuda" if has else "cpu") if name == "auto" else name


def _create(recipe: Recipe, data: Data, path: Path | None, device: str) -> Run:
    """The run's folder with what is known before the first step."""
    if path is None:
        path = folder.new_folder(f"{Path(str(data.source.get('source', 'data'))).name}-{recipe.model.name}")
    else:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(f"{str(path)!r} exists and is not empty; name another folder with --out, or resume it")
        with folder.storing(path):
            path.mkdir(parents=True, exist_ok=True)
    folder.write(path / "recipe.toml", recipe.to_toml())
    with ThreadPoolExecutor(1) as other:  # these read all the data once each; two cores read at once
        fingerprint, duplicates = other.submit(lambda: data.fingerprint), other.submit(data.duplicates)
        normalizer = data.normalizer(recipe.normalize)
    info: dict[str, Any] = {
        "source": data.source,
        "schema": data.schema.to_json(),
        "sizes": {p: data.size(p) for p in data.parts},
        "fingerprint": fingerprint.result(),
        "duplicates": {f"{a}/{b}": len(pairs) for (a, b), pairs in duplicates.result().items()},
        "missing": data.missing,
        "class_counts": data.class_counts("train").tolist() if data.schema.classes else [],
    }
    if data.in_memory:
        info["arrays"] = True
    folder.write_json(path / "data.json", info)
    folder.write_tensors(path / "normalizer.safetensors", normalizer.tensors())
    _say(
        path,
        status="running",
        format=folder.FORMAT,
        environment=_environment(recipe, data, device),
        started=time.strftime("%FT%T%z"),
        created=time.time(),
    )
    return Run(path, trust=True)


def _environment(recipe: Recipe, data: Data, device: str) -> dict[str, Any]:
    from danlu import __version__

    return {
        "danlu": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": device,
        "threads": threads_for(recipe, data),
    }


def threads_for(recipe: Recipe, data: Data) -> int:
    """Threads to train with: one for small steps, else all.

    A fixed rule, not a measurement: the number of threads changes the last bits of sums.
    """
    if ":" in recipe.model.name:
        return torch.get_num_threads()  # of anyone's network the cost is not known
    cost = 3 * recipe.batch_size * multiply_adds(build_model(recipe, data.schema), data.schema.input_shape)
    return 1 if cost < _ONE_THREAD else torch.get_num_threads()


def _say(path: Path, **changes: Any) -> None:
    """Update run.json."""
    file = path / "run.json"
    before = folder.read_json(file) if file.exists() else {}
    folder.write_json(file, {**before, **changes})


@contextlib.contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(run: Run, data: Data, listener: Listener, checkpoint_every: float, going_on: bool) -> None:
    """One member, from its folder's state to its end."""
    keep_freed_memory()
    if not checkpoint_every >= 0:
        raise RunError(wrong("checkpoint_every", checkpoint_every, "must be at least 0 seconds", "try 5"))
    environment = run.info["environment"]
    device = torch.device(_device(environment["device"]))
    with folder.locked(run.path), _threads(environment["threads"]), StopRequest() as stop:
        loop = _loop(run, data, listener, checkpoint_every, stop, device)
        if going_on:
            loop.resume()
            _say(run.path, status="running")
        listener.start(run, loop.member.recipe.epochs * loop.batches.steps, loop.at.step)
        try:
            loop.train()
            _finish(run, loop, data)
        except Interrupted:
            _say(run.path, status="interrupted")
            raise
        except Diverged as e:
            _say(run.path, status="diverged", error=str(e), step=e.step, layer=e.layer)
            raise
        finally:
            listener.end(run)


def _loop(run: Run, data: Data, listener: Listener, checkpoint_every: float, stop: StopRequest, device: torch.device) -> Loop:
    recipe = run.recipe
    dtype = getattr(torch, recipe.dtype)
    normed = recipe.model.batch_norm not in (None, "none") or ":" in recipe.model.name
    batches = Batches(
        data,
        data.normalizer(recipe.normalize).to(device, dtype),
        recipe.batch_size,
        recipe.seed,
        Augmenter(**recipe.augment.model_dump()),
        device,
        dtype,
        whole_only=normed,
    )
    counts = data.class_counts("train") if data.schema.task == "classification" else None
    member = Member(recipe, run.build(), data.schema.input_shape, data.size("train"), batches.steps, counts, device)
    return Loop(run, member, batches, data, listener, checkpoint_every, stop)


def _finish(run: Run, loop: Loop, data: Data) -> None:
    """Weights, final figures, the one reading of the test part."""
    model = loop.member.model
    folder.write_tensors(run.path / "weights.safetensors", loop.member.weights())
    result: dict[str, Any] = {"epochs": loop.at.epoch, "steps": loop.at.step, "seconds": round(loop.at.seconds, 3)}
    if loop.at.best_epoch:
        result["best_epoch"] = loop.at.best_epoch
    result["parameters"] = sum(p.numel() for p in model.parameters())
    last = [p for p in data.parts if data.size(p)][-1]
    for part in (p for p in data.parts if data.size(p)):
        out, y = loop.outputs(part, _TRAIN_SAMPLE if part == "train" else None)
        score = evaluate.score(out, y, data.schema)
        result |= {f"{part}_loss": score.loss, f"{part}_{run.metric}": score.accuracy, f"{part}_n": score.n}
        if part == last:
            _keep_predictions(run, data, out, part)
    _say(run.path, status="finished", result=result)
    for file in (run.path / "checkpoint").glob("*"):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (run.path / "checkpoint").rmdir()


def _keep_predictions(run: Run, data: Data, out: torch.Tensor, part: str) -> None:
    """Outputs and targets of the last part read (the test part), and the most confidently wrong examples."""
    index = data.parts[part]
    kept = {"outputs": out, "targets": data.y[index], "index": index}
    if data.schema.task == "classification":
        p, guess = out.softmax(1).max(1)
        wrong_ones = torch.where(guess != data.y[index])[0]
        worst = wrong_ones[p[wrong_ones].argsort(descending=True)][:24]
        kept |= {"worst": worst, "worst_x": data.x[index[worst]]}
    folder.write_tensors(run.path / "test.safetensors", kept, {"part": part})
