"""`train`: many recipes on one set of data → a study.

Recipes of one structure train together, each as if alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from danlu.data import PARTS, Data
from danlu.errors import (
    DanluError,
    Interrupted,
    Mistake,
    RecipeError,
    RunError,
    RunNotice,
    cut_off,
    notify,
    short_path,
    some,
)
from danlu.files import as_json, sound_lines, write_lines
from danlu.formats import STUDY_FORMAT
from danlu.guest import guest
from danlu.recipe import Recipe
from danlu.runs import Study, checkpoint, folder
from danlu.runs.measurements import OFF, check_level
from danlu.runs.study import RECIPES
from danlu.train.batches import BatchStream
from danlu.train.dispatch import provenance
from danlu.train.dispatch.choose import expected_seconds_per_step
from danlu.train.dispatch.chunk import Pruner, population_maker
from danlu.train.dispatch.cluster import connect
from danlu.train.dispatch.device import choose_device, memory_reused, threads_for
from danlu.train.dispatch.fit import CHECKPOINT_EVERY, check_interval
from danlu.train.dispatch.grouping import group_recipes
from danlu.train.dispatch.listener import StudyListener
from danlu.train.dispatch.preflight import check
from danlu.train.dispatch.scheduler import StudyScheduler
from danlu.train.engine.stopping import StopRequest


@guest
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
    probes: str = OFF,
    ray: str | None = None,
) -> Study:
    """Train every recipe on the data and leave a study folder.

    A member equals the run its recipe would give alone.

    out: the folder to make (default: a dated one under `DANLU_RUNS` or ./runs). parts: those to
    score finished networks on; the test part is not read without "test" among them. facts: kept in
    study.json. probes: what is measured, as of `fit`. ray: address of a Ray cluster to train on. A
    member whose loss becomes NaN is marked as diverged; the others go on.

    Raises RecipeError or ModelError before any folder is made, Interrupted after Ctrl-C (saved;
    `resume` goes on), StorageError when the disk refuses.
    """
    if not recipes:
        raise RecipeError("`recipes` is empty, but needs at least one recipe")
    check_level(probes)
    check_all(recipes, data)
    facts = {**(facts or {}), "probes": probes}
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
    """Make the folder of a study that is yet to be trained; `extend` adds to it."""
    facts = {"kind": "study", **(facts or {})}
    if ray:
        cluster = connect(ray)
        cluster.check(data, recipes)
        chosen = cluster.device(device)
        machine = {"machine": f"Ray cluster, {cluster.places(chosen)} places"}
    else:
        chosen, machine = choose_device(device), {}
    environment = provenance.environment(chosen, torch.get_num_threads()) | machine
    label = provenance.label_of(data, facts["kind"])
    facts |= {
        "status": "running" if recipes else "finished",
        "format": STUDY_FORMAT,
        "parts": list(parts),
        "starts": provenance.start_digests(recipes),
        "environment": environment,
        "started": time.strftime("%FT%T%z"),
        "created": time.time(),
        "plans": [],
    }
    files = {RECIPES: _as_lines(recipes), **provenance.files_about(data)}
    place = Path(out) if out is not None else None
    return Study(folder.create(place, label, Study.index, files, facts), trust=True)


def _as_lines(recipes: Sequence[Recipe]) -> str:
    return "".join(f"{as_json(recipe.to_dict())}\n" for recipe in recipes)


@guest
def resume_study(
    study: Study | str | Path,
    data: Data | None = None,
    *,
    trust: bool = False,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    pruner: Pruner | None = None,
    probes: str | None = None,
    ray: str | None = None,
) -> Study:
    """Go on with an interrupted or killed study; no member is lost or trained twice.

    As `resume` for runs.
    """
    study = study if isinstance(study, Study) else Study(study, trust)
    data = provenance.data_to_resume(study, data)
    provenance.check_starts(study)
    provenance.set_probes(study, probes)
    _train(study, data, listener, checkpoint_every, pruner, ray)
    return study


@guest
def extend(
    study: Study,
    recipes: Sequence[Recipe],
    data: Data,
    *,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    pruner: Pruner | None = None,
    ray: str | None = None,
) -> Study:
    """Add recipes to a finished study and train them; the study stays resumable.

    pruner: decides after every epoch which members stop. Raises the errors of `train`.
    """
    with folder.locked(study.path):
        if not study.trained:
            raise RunError(f"{str(study.path)!r} is not finished; {study.way_on}")
        study.check_data(data)
        check_all(recipes, data)
        provenance.check_starts(study)
        # Read anew: another process may have added some since.
        everyone = [*Study(study.path).recipes, *recipes]
        starts = {**study.info.get("starts", {}), **provenance.start_digests(recipes)}
        facts = {"status": "interrupted", "starts": starts}
        study.sealed.replace(RECIPES, _as_lines(everyone), **facts)
        study = Study(study.path, study.trust)
        _train(study, data, listener, checkpoint_every, pruner, ray)
    return study


@guest
def estimate_seconds(recipes: Sequence[Recipe], data: Data, device: str = "auto") -> float:
    """Return about how long `train` would take, by the costs of each structure on this machine."""
    chosen, seconds = torch.device(choose_device(device)), 0.0
    for group in group_recipes(recipes):
        members = [recipes[i] for i in group]
        batches = BatchStream(members, data, chosen)
        make = population_maker(data, batches, chosen)
        threads = threads_for(members[0], data)
        per_step = expected_seconds_per_step(members, make, data, chosen, threads)
        seconds += per_step * batches.steps * sum(recipe.epochs for recipe in members)
    return seconds


def mistakes_in(recipes: Sequence[Recipe], data: Data) -> dict[Mistake, list[int]]:
    """Return why these data cannot be trained with some of the recipes.

    Every mistake once, with the numbers of the recipes that make it.
    """
    found: dict[Mistake, list[int]] = {}
    checked: dict[str, tuple[Mistake, ...]] = {}
    for i, recipe in enumerate(recipes):
        key = recipe.with_(seed=0).model_dump_json()  # no mistake depends on the seed
        if key not in checked:
            try:
                check(recipe, data)
                checked[key] = ()
            except DanluError as e:
                checked[key] = e.mistakes
        for mistake in checked[key]:
            found.setdefault(mistake, []).append(i)
    return found


def check_all(recipes: Sequence[Recipe], data: Data) -> None:
    """Raise RecipeError for recipes that these data cannot be trained with."""
    mistakes = []
    for mistake, of in mistakes_in(recipes, data).items():
        if len(of) < len(recipes):
            mistake = mistake.with_note(f"(recipe {some(of)} of {len(recipes)})")
        mistakes.append(mistake)
    if mistakes:
        raise RecipeError(*mistakes)


def _train(
    study: Study,
    data: Data,
    listener: StudyListener | None,
    checkpoint_every: float,
    pruner: Pruner | None = None,
    ray: str | None = None,
) -> None:
    """Train every group of the study that is not done."""
    listener = listener or StudyListener()
    check_interval(checkpoint_every)
    cluster = connect(ray) if ray else None
    if cluster:
        cluster.check(data, study.recipes)
    with (
        cluster or contextlib.nullcontext(),
        folder.locked(study.path),
        memory_reused(study.recipes, data),
        StopRequest() as stop,
    ):
        study.check_trust()
        _drop_damaged_members(study)
        files = provenance.write_normalizers(study, data) | study.sealed.settled(RECIPES)
        study.sealed.update(status="running", files=files)
        scheduler = StudyScheduler(study, data, listener, checkpoint_every, stop, pruner, cluster)
        listener.start(study, scheduler.steps_in_all, scheduler.steps_before)
        try:
            scheduler.train(group_recipes(study.recipes))
            study.sealed.update(status="finished")
            _remove_checkpoints(study)
        except (Interrupted, KeyboardInterrupt) as e:
            study.sealed.update(status="interrupted")
            if isinstance(e, KeyboardInterrupt):
                raise cut_off(study.way_on) from None
            raise
        finally:
            listener.end(study)


def _drop_damaged_members(study: Study) -> None:
    """Write members.jsonl without lines that were damaged; their members are trained again."""
    file = study.path / "members.jsonl"
    lines, damaged = sound_lines(file)
    if damaged:
        notify(
            f"{short_path(file)} is damaged in line {some(damaged)}; "
            "the networks it told of are trained again",
            RunNotice,
        )
    write_lines(file, lines)  # also without one that was torn by a crash


def _remove_checkpoints(study: Study) -> None:
    """Remove what is left of checkpoints when all is trained."""
    folders = study.path / "checkpoint"
    if not folders.is_dir():
        return
    for chunk in folders.iterdir():
        checkpoint.remove_all(chunk)
    checkpoint.remove_all(folders)
