"""`train`: many recipes on one set of data → a study. Recipes of one structure train together, each as if alone."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from danlu.data import Data
from danlu.errors import DanluError, Interrupted, RecipeError, RunError, some, wrong
from danlu.recipe import Recipe
from danlu.runs import Study, folder
from danlu.runs.run import build_model
from danlu.runs.study import FORMAT
from danlu.train import plan, record
from danlu.train.chunk import Chunk, Referee, Tell, name_of
from danlu.train.feed import Feed
from danlu.train.groups import grouped
from danlu.train.listener import StudyListener
from danlu.train.loop import Loop, Place
from danlu.train.memory import keep_freed_memory
from danlu.train.population import Population
from danlu.train.ready import check, choose_device, threads
from danlu.train.single import CHECKPOINT_EVERY, make_population
from danlu.train.stopping import StopRequest
from danlu.train.workers import Send, run

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
) -> Study:
    """Train every recipe on the data and leave a study folder. A member equals the run its recipe would give alone.

    out: the folder to make (default: a dated one under `DANLU_RUNS` or ./runs). parts: those to score finished networks
    on; the test part is not read without "test" among them. facts: kept in study.json. A member whose loss becomes NaN
    is marked as diverged; the others go on.

    Raises RecipeError or ModelError before any folder is made, Interrupted after Ctrl-C (saved; `resume` goes on),
    StorageError when the disk refuses.
    """
    if not recipes:
        raise RecipeError("`recipes` is empty, but needs at least one recipe")
    check_all(recipes, data)
    study = create(recipes, data, out, device, parts, facts)
    _train(study, data, listener or StudyListener(), checkpoint_every)
    return study


def create(
    recipes: Sequence[Recipe],
    data: Data,
    out: str | Path | None = None,
    device: str = "auto",
    parts: Sequence[str] = PARTS,
    facts: Mapping[str, Any] | None = None,
) -> Study:
    """The folder of a study that is yet to be trained; `extend` adds to it."""
    chosen, facts = choose_device(device), {"kind": "study", **(facts or {})}
    label = f"{Path(str(data.source.get('source', 'data'))).name}-{facts['kind']}"
    path = record.make_folder(Path(out) if out is not None else None, label)
    folder.write_lines(path / "recipes.jsonl", [r.to_dict() for r in recipes])
    record.write_data(path, data)
    record.say(
        path / "study.json",
        **facts,
        status="running" if recipes else "finished",
        format=FORMAT,
        parts=list(parts),
        environment=record.environment(chosen, torch.get_num_threads()),
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
    referee: Referee | None = None,
) -> Study:
    """Go on with an interrupted or killed study; no member is lost or trained twice. As `resume` for runs."""
    study = study if isinstance(study, Study) else Study(study, trust)
    data = record.data_to_resume(study, data)
    _train(study, data, listener or StudyListener(), checkpoint_every, referee)
    return study


def extend(
    study: Study,
    recipes: Sequence[Recipe],
    data: Data,
    *,
    listener: StudyListener | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    referee: Referee | None = None,
) -> Study:
    """Add recipes to a finished study and train them. The same errors as `train`; the study stays resumable.

    referee: decides after every epoch who stops.
    """
    if study.status != "finished":
        raise RunError(f"{str(study.path)!r} is not finished; go on with: danlu resume {study.path}")
    study.check_data(data)
    check_all(recipes, data)
    lines = [r.to_dict() for r in [*study.recipes, *recipes]]
    record.say(study.path / "study.json", status="interrupted")
    folder.write_lines(study.path / "recipes.jsonl", lines)
    study = Study(study.path, study.trust)
    _train(study, data, listener or StudyListener(), checkpoint_every, referee)
    return study


def estimate_seconds(recipes: Sequence[Recipe], data: Data, device: str = "auto") -> float:
    """About how long `train` would take, from a short measurement of each structure."""
    chosen, seconds = torch.device(choose_device(device)), 0.0
    for group in grouped(recipes):
        part = [recipes[i] for i in group]
        feed = Feed(part, data, chosen)
        make = functools.partial(_make, data=data, feed=feed, device=chosen)
        pace = plan.quickest(part, make, data, chosen, torch.get_num_threads())
        seconds += pace * feed.steps * sum(r.epochs for r in part)
    return seconds


def check_all(recipes: Sequence[Recipe], data: Data) -> None:
    """Refuse recipes that these data cannot be trained with; every mistake once, with the members that make it."""
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
    if found:
        whole = len(recipes)
        raise RecipeError(*(m if len(of) == whole else f"{m} (recipe {some(of)} of {whole})" for m, of in found.items()))


def _train(study: Study, data: Data, listener: StudyListener, checkpoint_every: float, referee: Referee | None = None) -> None:
    """Every group of the study that is not done."""
    keep_freed_memory()
    if not checkpoint_every >= 0:
        raise RunError(wrong("checkpoint_every", checkpoint_every, "must be at least 0 seconds", "try 5"))
    with folder.locked(study.path), StopRequest() as stop:
        study.check_trust()
        members = study.path / "members.jsonl"
        folder.write_lines(members, folder.read_lines(members))  # without a line torn by a crash
        record.write_normalizers(study.path, data, {r.normalize for r in study.recipes})
        record.say(study.path / "study.json", status="running")
        crew = _Crew(study, data, listener, checkpoint_every, stop, referee)
        listener.start(study, crew.all, crew.before)
        try:
            for number, group in enumerate(grouped(study.recipes)):
                crew.train(number, group)
            record.say(study.path / "study.json", status="finished")
        except Interrupted:
            record.say(study.path / "study.json", status="interrupted")
            raise
        finally:
            listener.end(study)


def _make(recipes: Sequence[Recipe], data: Data, feed: Feed, device: torch.device) -> Population:
    return make_population(recipes, lambda r: build_model(r, data.schema), data, feed, device)


class _Crew:
    """Trains the groups of a study, some chunks at a time."""

    def __init__(
        self,
        study: Study,
        data: Data,
        listener: StudyListener,
        checkpoint_every: float,
        stop: StopRequest,
        referee: Referee | None,
    ) -> None:
        self.study, self.data, self.listener, self.stop, self.referee = study, data, listener, stop, referee
        self.checkpoint_every = checkpoint_every
        self.info = study.info
        self.device = torch.device(choose_device(self.info["environment"]["device"]))
        self.ended = set(study.members)
        every = [r.epochs * -(-data.size("train") // r.batch_size) for r in study.recipes]
        self.all = sum(every)  # steps of all members together
        self.before = sum(every[i] for i in self.ended)
        self.steps: dict[str, int] = {}  # done since, by chunk

    def train(self, number: int, group: list[int]) -> None:
        """What is left of a group."""
        left = [i for i in group if i not in self.ended]
        if not left:
            return
        way = self._plan(number, left)
        while left:
            queue = [left[k : k + way.chunk] for k in range(0, len(left), way.chunk)]
            try:
                self._beside(queue, way) if way.workers > 1 else self._in_turn(queue, way)
                return
            except (RuntimeError, MemoryError) as e:
                if not plan.out_of_memory(e):
                    raise
            left = [i for i in left if i not in self.ended]
            self._halve(number, left, way)

    def _in_turn(self, queue: list[list[int]], way: plan.Plan) -> None:
        for members in queue:
            self._write(self._chunk(members, way, self._tell))

    def _beside(self, queue: list[list[int]], way: plan.Plan) -> None:
        """Some chunks at a time, each in a process of its own."""

        def job(members: list[int]) -> Callable[[Send], Any]:
            def work(send: Send) -> list[dict[str, Any]]:
                asked = self.stop.asked
                with StopRequest() as self.stop:
                    self.stop.asked = asked
                    return self._chunk(members, way, lambda *said: send(said))

            return work

        error: BaseException | None = None
        for _, kind, value in run(map(job, queue), way.workers, lambda: self.stop.asked):
            if kind == "said":
                self._tell(*value)
            elif kind == "done":
                self._write(value)
            else:
                error = error or value
                self.stop.asked = True  # the others save what they have
        if error is not None:
            self.stop.asked = False
            raise error
        if self.stop.asked:
            raise Interrupted(self._stopped())

    def _halve(self, number: int, left: list[int], way: plan.Plan) -> None:
        """Smaller chunks after memory ran out."""
        if way.chunk == 1:
            raise RunError("memory does not suffice for a single network; try a smaller batch_size or model")
        way.chunk, way.why = way.chunk // 2, "memory ran out with larger ones"
        self._keep_plan(number, way)
        self.listener.plan(left, way.way, way.why, {})
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _plan(self, number: int, left: list[int]) -> plan.Plan:
        """The plan kept from before, or a new one: a resumed study goes on in the way it began.

        Where members were added since, a plan for less than half as many no longer fits.
        """
        kept = {p["group"]: p for p in self.info["plans"]}
        if number in kept and len(left) <= 2 * kept[number]["members"]:
            told = kept[number]
            return plan.Plan(told["members"], told["chunk"], told["workers"], told["threads"], told["why"], told["paces"])
        recipes = [self.study.recipes[i] for i in left]
        feed = Feed(recipes, self.data, self.device)

        make = functools.partial(_make, data=self.data, feed=feed, device=self.device)
        # A referee sees every member, so those it judges are not spread over processes.
        way = plan.choose(recipes, make, self.data, self.device, torch.get_num_threads(), beside=self.referee is None)
        self._keep_plan(number, way)
        self.listener.plan(left, way.way, way.why, way.paces)
        return way

    def _keep_plan(self, number: int, way: plan.Plan) -> None:
        others = [p for p in self.info["plans"] if p["group"] != number]
        self.info["plans"] = [*others, {"group": number, **vars(way)}]
        record.say(self.study.path / "study.json", plans=self.info["plans"])

    def _chunk(self, members: list[int], way: plan.Plan, tell: Tell) -> list[dict[str, Any]]:
        """Train one population from where it stands to its end; what is to be written of its members."""
        if self.stop.asked:
            raise Interrupted(self._stopped())
        recipes = [self.study.recipes[i] for i in members]
        with threads(way.threads):
            feed = Feed(recipes, self.data, self.device)
            population = _make(recipes, self.data, feed, self.device)
            chunk = Chunk(
                self.study, name_of(members), self.info["parts"], self.referee, self.listener.interval, tell, self._stopped
            )
            places = [Place(i) for i in members]
            loop = Loop(population, places, feed, self.data, self.study.metric, chunk, self.checkpoint_every, self.stop)
            chunk.resume(loop)
            loop.train()
            return chunk.finish()

    def _write(self, lines: list[dict[str, Any]]) -> None:
        """Members that ended: into members.jsonl, and to whoever listens."""
        folder.append_lines(self.study.path / "members.jsonl", lines)
        for line in lines:
            self.ended.add(line["member"])
            self.listener.ended(line["member"], line["status"], line.get("result", {}))

    def _tell(self, name: str, done: int) -> None:
        self.steps[name] = done
        self.listener.progress(self.before + sum(self.steps.values()))

    def _stopped(self) -> str:
        return f"stopped, saved; go on with: danlu resume {self.study.path}"
