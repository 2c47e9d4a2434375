"""Kill it, starve it, spoil its files: nothing is lost, and the end is the same bit for bit."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from processes import SLOW, Outcome, StopAt, in_child
from resuming import RECIPE, assert_same, part_way, pause

from danlu import Recipe, Run, files, fit, load, resume
from danlu.data import normalize
from danlu.errors import Interrupted, RunError
from danlu.runs import Study, checkpoint, folder
from danlu.train import resume_study, train
from danlu.train.batches import loader
from danlu.train.dispatch.fit import _create
from danlu.train.engine.loop import Loop

EVERY = {"often": 0.05, "always": 0.0}  # seconds between checkpoints
KILLED = RECIPE.with_(["epochs=2"])


def fit_in_child(path: Path, every: float, at: int | None = None) -> Outcome:
    def work() -> None:
        fit(KILLED, load("digits"), out=path, checkpoint_every=every)

    return in_child(work, path / "run.json", at)


def resume_in_child(path: Path, every: float, at: int | None = None) -> Outcome:
    return in_child(lambda: resume(path, checkpoint_every=every), path / "run.json", at)


class Uninterrupted(NamedTuple):
    """A run that nothing came across, how often it saved, and how many events it had."""

    path: Path
    every: float
    events: int


@pytest.fixture(scope="module", params=sorted(EVERY))
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Uninterrupted:
    path, every = tmp_path_factory.mktemp("uninterrupted") / "run", EVERY[request.param]
    ended = fit_in_child(path, every)
    assert ended.code == 0, ended.error
    return Uninterrupted(path, every, ended.events)


@pytest.mark.parametrize("seed", [0, 1, *map(SLOW, (2, 3, 4))])
def test_killed_at_random_events_a_resumed_run_ends_the_same(
    tmp_path: Path, uninterrupted: Uninterrupted, seed: int
) -> None:
    """Two kills a run: in a step, or, with a checkpoint after every step, mostly while writing one."""
    every, chance, path = uninterrupted.every, random.Random(seed), tmp_path / "run"
    first = chance.randint(1, uninterrupted.events - 1)
    killed = fit_in_child(path, every, at=first)
    assert killed.code == -signal.SIGKILL, killed.error
    left = uninterrupted.events - first  # at least, as what was done since a checkpoint is lost
    again = resume_in_child(path, every, at=chance.randint(1, max(1, left // 2)))
    assert again.code == -signal.SIGKILL, again.error
    ended = resume_in_child(path, every)
    assert ended.code == 0, ended.error
    assert_same(path, uninterrupted.path)


@pytest.mark.parametrize(
    "more", [[], ["sample.bootstrap=true", "data_seed=3"]], ids=["whole", "bootstrap"]
)
def test_stopped_after_any_step_a_resumed_run_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    """Also at the last step of an epoch, before its row is written, where no stretch of batches is left."""
    monkeypatch.setattr(loader, "_BLOCK_BYTES", 1)  # one batch a stretch
    data, recipe = load("iris"), Recipe(epochs=2, batch_size=30, optimizer="momentum").with_(more)
    want = fit(recipe, data, out=tmp_path / "whole")
    for steps in range(1, 7):
        run = part_way(tmp_path / str(steps), steps, recipe, "iris")
        resume(run)
        assert_same(run.path, want.path)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_and_says_how_to_go_on(
    tmp_path: Path, whole: Path, stop: signal.Signals
) -> None:
    path = tmp_path / "run"
    stopped = in_child(
        lambda: fit(RECIPE, load("digits"), out=path), path / "run.json", at=100, send=stop
    )
    assert stopped.code == 1
    assert f"go on with: danlu resume {path}" in stopped.error
    assert Run(path).status == "interrupted"
    resume(path)
    assert_same(path, whole)


SPOIL = {
    "truncated": lambda p: p.write_bytes(p.read_bytes()[:-100]),
    "empty": lambda p: p.write_bytes(b""),
    "foreign": lambda p: p.write_bytes(b"PK\x03\x04 something else"),
    "a flipped bit": lambda p: p.write_bytes(
        p.read_bytes()[:-5] + bytes([p.read_bytes()[-5] ^ 1]) + p.read_bytes()[-4:]
    ),
    "another safetensors": lambda p: files.write_tensors(p, {"x": torch.ones(3)}),
    "another run's": lambda p: p.write_bytes(of_another_run(p)),
}


def of_another_run(path: Path) -> bytes:
    """A whole checkpoint of the same step and shapes, of a run with another seed."""
    other = part_way(path.parents[2] / f"other-{path.stem}", 70, RECIPE.with_(seed=1))
    return (other.path / "checkpoint" / f"{70:012d}.safetensors").read_bytes()


@pytest.mark.parametrize("how", sorted(SPOIL))
@pytest.mark.parametrize("how_many", [1, 2])
def test_a_spoilt_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, whole: Path, how: str, how_many: int
) -> None:
    run = part_way(tmp_path / "run")
    newest = sorted(run.path.glob("checkpoint/*.safetensors"))[::-1]
    for path in newest[:how_many]:
        SPOIL[how](path)
    found = checkpoint.load(run.path / "checkpoint", run.identity)
    assert (found.checkpoint is None) == (how_many == 2)
    assert len(found.damaged) == how_many
    assert len(list(run.path.glob("checkpoint/*.bad"))) == how_many
    resume(run)
    assert_same(run.path, whole)


def test_a_resumed_run_keeps_its_whitening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted anew, on another number of threads or another machine, the last bits may be others."""
    recipe, data = Recipe(epochs=3, normalize="whiten"), lambda: load("digits")
    fit(recipe, data(), out=tmp_path / "whole")
    train([recipe], data(), out=tmp_path / "study")
    real = normalize.fit
    monkeypatch.setattr(
        normalize, "fit", lambda *a: replace(real(*a), scale=real(*a).scale * 1.001)
    )
    for name, go_on in (("run", resume), ("many", resume_study)):
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(normalize, "fit", real)
            patch.setattr(
                Loop,
                "_between_steps",
                lambda self: setattr(self.stop, "asked", True) or pause(self),
            )
            (
                fit(recipe, data(), out=tmp_path / name)
                if name == "run"
                else train([recipe], data(), out=tmp_path / name)
            )
        assert go_on(tmp_path / name).status == "finished"
    assert_same(tmp_path / "run", tmp_path / "whole")
    a, b = (Study(tmp_path / name).weights(0) for name in ("many", "study"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_torn_line_of_the_history_is_left_out(tmp_path: Path, whole: Path) -> None:
    run = part_way(tmp_path / "run", 150)
    with (run.path / "metrics.jsonl").open("a") as f:
        f.write('{"epoch": 3, "tr')
    assert len(run.history) == 2
    resume(run)
    assert_same(run.path, whole)


def test_a_checkpoint_holds_a_history_larger_than_a_safetensors_header(tmp_path: Path) -> None:
    """The header of a safetensors file holds at most 100 MB."""
    rows = ["x" * 1_000_000] * 101
    checkpoint.save(tmp_path / "c", 3, {"w": torch.ones(2)}, {"rows": rows}, "me")
    found, _ = checkpoint.load(tmp_path / "c", "me")
    assert found is not None
    tensors, position = found
    assert position == {"rows": rows}
    assert list(tensors) == ["w"]


def test_a_second_process_on_a_run_is_refused(tmp_path: Path) -> None:
    run = part_way(tmp_path / "run")
    with folder.locked(run.path), pytest.raises(RunError, match="being trained by another process"):
        code = f"import danlu; danlu.resume({str(run.path)!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        raise RunError(done.stderr.strip().splitlines()[-1])


def test_a_finished_run_and_other_data_are_refused(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(RunError, match="is finished; there is nothing to resume"):
        resume(whole)
    run = part_way(tmp_path / "run")
    with pytest.raises(RunError, match="is no longer the data"):
        resume(run, load("digits", seed=1))


def test_resuming_on_arrays_needs_the_data_again(tmp_path: Path) -> None:
    x, y = torch.rand(60, 4), torch.arange(60) % 2
    data = load((x, y))
    run = _create(Recipe(epochs=2), data, tmp_path / "run", "cpu")
    with pytest.raises(RunError, match="pass the same again"):
        resume(run)
    assert "danlu.resume(" in run.way_on
    assert resume(run, (x, y)).status == "finished"  # what was given, or what it was loaded as


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda p: shutil.rmtree(p), "does not exist"),
        (lambda p: (p / "run.json").unlink(), "run.json is missing"),
        (lambda p: (p / "run.json").write_text("{"), "is damaged"),
        (lambda p: (p / "run.json").write_text("[]"), "is foreign"),
        (lambda p: (p / "run.json").write_text('{"format": 3}'), "is damaged"),
        (
            lambda p: (p / "run.json").write_text(json.dumps({"format": 99})),
            "has format 99, but this danlu reads format 3",
        ),
        (
            lambda p: (p / "run.json").write_text(json.dumps({"format": 1})),
            "was made by an earlier danlu, so train it again",
        ),
    ],
)
def test_a_folder_that_is_not_a_run_is_refused(
    tmp_path: Path, spoil: object, sentence: str
) -> None:
    fit(Recipe(epochs=1), load("iris"), out=tmp_path / "run")
    spoil(tmp_path / "run")  # type: ignore[operator]
    with pytest.raises(RunError, match=sentence):
        Run(tmp_path / "run")


def test_after_ctrl_c_the_host_s_signal_handlers_come_back(tmp_path: Path) -> None:
    """From Python: the signal becomes Interrupted, and the old handlers come back."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in signals]
    with pytest.raises(Interrupted, match="danlu resume"):
        fit(RECIPE, load("digits"), out=tmp_path / "run", listener=StopAt(2))
    assert [signal.getsignal(number) for number in signals] == before


def test_a_resumed_run_does_not_need_its_initial_weights(tmp_path: Path) -> None:
    """Its checkpoint holds the weights; which of them stay as they are is known from the recipe."""
    data = load("digits")
    first = fit(Recipe(epochs=1), data, out=tmp_path / "first")
    recipe = Recipe(
        epochs=2,
        init={
            "weights": str(tmp_path / "start.safetensors"),
            "prefix": ("dense1",),
            "frozen": True,
        },
    )

    def begin(name: str, **how: Any) -> Any:
        (tmp_path / "start.safetensors").write_bytes(
            (first.path / "weights.safetensors").read_bytes()
        )
        return fit(recipe, data, out=tmp_path / name, **how)

    through = begin("through").model().state_dict()
    with pytest.raises(Interrupted):
        begin("stopped", listener=StopAt(20))
    (tmp_path / "start.safetensors").unlink()
    again = resume(tmp_path / "stopped").model().state_dict()
    assert all(torch.equal(again[k], v) for k, v in through.items())
    assert torch.equal(again["dense1.weight"], first.model().state_dict()["dense1.weight"])
