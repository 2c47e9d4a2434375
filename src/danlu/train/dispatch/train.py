"""`train`: many recipes on one set of data → a study. Recipes of one structure train together, each as if alone."""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import DanluError, Interrupted, RecipeError, RunError, some, wrong
from danlu.recipe import Recipe
from danlu.runs import Study, folder
from danlu.runs.study import FORMAT
from danlu.train.batches.batch_stream import BatchStream
from danlu.train.dispatch import plan, provenance
from danlu.train.dispatch.chunk import Pruner, populate
from danlu.train.dispatch.cluster import connect
from danlu.train.dispatch.fit import CHECKPOINT_EVERY
from danlu.train.dispatch.grouping import grouped
from danlu.train.dispatch.listener import StudyListener
from danlu.train.dispatch.preflight import check, choose_device, reuse_memory, threads_for
from danlu.train.dispatch.scheduler import StudyScheduler
from danlu.train.engine.stopping import StopRequest

PARTS = ("train", "valid", "test")


def train(
    recipes: Sequence[Recipe],
    data: Data,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    parts: Sequence[str] = PARTS,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    facts: Mapping[str, Any] | None = None,
    ray: str | None = None,
) -> Study:
    """Train every recipe on the data and leave a study folder. A member equals the run its recipe would give alone.

    out: the folder to make (default: a dated one under `DANLU_RUNS` or ./runs). parts: those to score finished networks
    on; the test part is not read without "test" among them. facts: kept in study.json. ray: address of a Ray cluster to
    train on. A member whose loss becomes NaN is marked as diverged; the others go on.

    Raises RecipeError or ModelError before any folder is made, Interrupted after Ctrl-C (saved; `resume` goes on),
    StorageError when the disk refuses.
    """
    if not recipes:
        raise RecipeError("`recipes` is empty, but needs at least one recipe")
    check_all(recipes, data)
    study = create(recipes, data, out, device, parts, facts, ray)
    _train(study, data, listener, checkpoint_every, ray=ray)
    return study


def create(
    recipes: Sequence[Recipe],
    data: Data,
    out: str | Path | None = None,
    device: str = "auto",
    parts: Sequence[str] = PARTS,
    facts: Mapping[str, Any] | None = None,
    ray: str | None = None,
) -> Study:
    """The folder of a study that is yet to be trained; `extend` adds to it."""
    cluster = connect(ray) if ray else None
    if cluster:
        cluster.check(data, recipes)
    chosen, facts = (
        cluster.device(device) if cluster else choose_device(device),
        {"kind": "study", **(facts or {})},
    )
    there = {"machine": f"Ray cluster, {cluster.places(chosen)} places"} if cluster else {}
    label = f"{Path(str(data.source.get('source', 'data'))).name}-{facts['kind']}"
    path = provenance.make_folder(Path(out) if out is not None else None, label)
    folder.write_lines(path / "recipes.jsonl", [r.to_dict() for r in recipes])
    provenance.write_data(path, data)
    provenance.say(
        path / "study.json",
        **facts,
        status="running" if recipes else "finished",
        format=FORMAT,
        parts=list(parts),
        starts=provenance.starts(recipes),
        environment=provenance.environment(chosen, torch.get_num_threads()) | there,
        started=time.strftime("%FT%T%z"),
        created=time.time(),
        plans=[],
    )
    return Study(path, trust=True)


def resume_study(
    study: Study | str | Path,
    data: Data | None = None,
    *,
    trust: bool = False,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    referee: Pruner | None = None,
    ray: str | None = None,
) -> Study:
    """Go on with an interrupted or killed study; no member is lost or trained twice. As `resume` for runs."""
    study = study if isinstance(study, Study) else Study(study, trust)
    data = provenance.data_to_resume(study, data)
    provenance.check_starts(study)
    _train(study, data, listener, checkpoint_every, referee, ray)
    return study


def extend(
    study: Study,
    recipes: Sequence[Recipe],
    data: Data,
    *,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    referee: Pruner | None = None,
    ray: str | None = None,
) -> Study:
    """Add recipes to a finished study and train them. The same errors as `train`; the study stays resumable.

    referee: decides after every epoch who stops.
    """
    with folder.locked(study.path):
        if not study.trained:
            raise RunError(
                f"{str(study.path)!r} is not finished; go on with: danlu resume {study.path}"
            )
        study.check_data(data)
        check_all(recipes, data)
        provenance.check_starts(study)
        lines = [r.to_dict() for r in [*Study(study.path).recipes, *recipes]]
        known = {**study.info.get("starts", {}), **provenance.starts(recipes)}
        provenance.say(study.path / "study.json", status="interrupted", starts=known)
        folder.write_lines(study.path / "recipes.jsonl", lines)
        study = Study(study.path, study.trust)
        _train(study, data, listener, checkpoint_every, referee, ray)
    return study


def estimate_seconds(recipes: Sequence[Recipe], data: Data, device: str = "auto") -> float:
    """About how long `train` would take, from a short measurement of each structure."""
    chosen, seconds = torch.device(choose_device(device)), 0.0
    for group in grouped(recipes):
        part = [recipes[i] for i in group]
        feed = BatchStream(part, data, chosen)
        make = functools.partial(populate, data=data, feed=feed, device=chosen)
        pace = plan.quickest(part, make, data, chosen, threads_for(part[0], data))
        seconds += pace * feed.steps * sum(r.epochs for r in part)
    return seconds


def mistakes_in(recipes: Sequence[Recipe], data: Data) -> dict[str, list[int]]:
    """Why these data cannot be trained with some of the recipes: every mistake once, with the numbers of those that make it."""
    found: dict[str, list[int]] = {}
    seen: dict[str, tuple[str, ...]] = {}
    for i, recipe in enumerate(recipes):
        key = recipe.with_(seed=0).model_dump_json()
        if key not in seen:
            try:
                check(recipe, data)
                seen[key] = ()
            except DanluError as e:
                seen[key] = e.mistakes
        for mistake in seen[key]:
            found.setdefault(mistake, []).append(i)
    return found


def check_all(recipes: Sequence[Recipe], data: Data) -> None:
    """Refuse recipes that these data cannot be trained with."""
    if found := mistakes_in(recipes, data):
        whole = len(recipes)
        raise RecipeError(
            *(
                m if len(of) == whole else f"{m} (recipe {some(of)} of {whole})"
                for m, of in found.items()
            )
        )


def _train(
    study: Study,
    data: Data,
    listener: StudyListener | None,
    checkpoint_every: float,
    referee: Pruner | None = None,
    ray: str | None = None,
) -> None:
    """Every group of the study that is not done."""
    reuse_memory(study.recipes, data)
    listener = listener or StudyListener()
    if not checkpoint_every >= 0:
        raise RunError(
            wrong("checkpoint_every", checkpoint_every, "must be at least 0 seconds", "try 5")
        )
    cluster = connect(ray) if ray else None
    if cluster:
        cluster.check(data, study.recipes)
    with cluster or contextlib.nullcontext(), folder.locked(study.path), StopRequest() as stop:
        study.check_trust()
        members = study.path / "members.jsonl"
        folder.write_lines(members, folder.read_lines(members))  # without a line torn by a crash
        provenance.write_normalizers(study.path, data, {r.normalize for r in study.recipes})
        provenance.say(study.path / "study.json", status="running")
        crew = StudyScheduler(study, data, listener, checkpoint_every, stop, referee, cluster)
        listener.start(study, crew.all, crew.before)
        try:
            crew.train(grouped(study.recipes))
            provenance.say(study.path / "study.json", status="finished")
            shutil.rmtree(study.path / "checkpoint", ignore_errors=True)
        except Interrupted:
            provenance.say(study.path / "study.json", status="interrupted")
            raise
        finally:
            listener.end(study)
