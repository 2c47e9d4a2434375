"""A treatment tries what was prescribed, reports what helps, and keeps its error rate."""

from __future__ import annotations

import json
import math
import shutil
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.spoiling import say
from scipy.stats import t

import danlu
from danlu import Data, Recipe, Run, Study, Treatment, fit, load, resume, treat
from danlu.errors import Diverged, Interrupted, RecipeError, RunError
from danlu.study.treating import course
from danlu.study.treating.budget import seconds_of
from danlu.train import StudyListener

BASE = Recipe(
    model={"name": "dense", "hidden": (32,)},
    optimizer={"name": "adam", "lr": 0.003},
    batch_size=32,
    epochs=6,
)


def trained(data: Data, path: Path, *changes: str) -> Run:
    try:
        return fit(BASE.with_(list(changes)), data, out=path)
    except Diverged:
        return Run(path)


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits", limit=600)


@pytest.fixture(scope="module")
def sick(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(digits, tmp_path_factory.mktemp("sick") / "run", "optimizer.lr=0.4")


@pytest.fixture(scope="module")
def treated(sick: Run, tmp_path_factory: pytest.TempPathFactory) -> Treatment:
    return treat(sick, out=tmp_path_factory.mktemp("treated") / "study")


def timeless(plain: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in plain.items() if k not in ("seconds", "study")}


def test_a_rate_too_high_is_cured_by_a_lower_one(sick: Run, treated: Treatment) -> None:
    assert treated.before.findings[0].cause == "lr_too_high"
    assert treated.helped
    assert treated.gain is not None
    assert treated.gain.low > 0.3
    (edit,) = treated.edits
    assert edit.startswith("optimizer.lr=")
    assert treated.best == sick.recipe.with_([edit])
    assert Recipe.read(str(treated.study.path / "best.toml")) == treated.best
    assert treated.after.is_healthy
    assert treated.end == "healthy"


def test_the_gain_is_that_of_paired_fresh_seeds(treated: Treatment, digits: Data) -> None:
    """By hand: train both recipes with the seeds of the confirmation, and take the t-interval."""
    (test,) = treated.rounds[0].tests
    seeds = test.seeds
    assert seeds == treated.rounds[0].confirming
    assert not set(seeds) & set(treated.rounds[0].screening)
    figures = []
    for recipe in (treated.patient_recipe, treated.best):
        study = danlu.train.train(
            [recipe.with_(seed=s) for s in seeds],
            digits,
            out=treated.study.path.parent / f"by-hand-{recipe.optimizer.lr}",
            parts=("train", "valid"),
        )
        figures.append([result["valid_accuracy"] for result in study.results])
    gains = np.subtract(figures[1], figures[0])
    half = t.ppf(0.9875, 4) * gains.std(ddof=1) / math.sqrt(5)
    assert treated.gain is not None
    assert treated.gain.mean == pytest.approx(gains.mean(), abs=1e-6)
    assert treated.gain.low == pytest.approx(gains.mean() - half, abs=1e-6)


def test_the_test_part_is_read_once_and_last(treated: Treatment, digits: Data) -> None:
    assert all("test_accuracy" not in result for result in treated.study.results)
    assert treated.test is not None
    patient, best, _ = treated.test
    run = treated.study.run(treated.trained.member(treated.best, treated.rounds[0].confirming[0]))
    assert best[0] == run.evaluate(digits, "test").accuracy
    assert len(patient) == len(best) == 5


def test_equal_treatments_are_equal(sick: Run, treated: Treatment, tmp_path: Path) -> None:
    again = treat(sick, out=tmp_path / "again")
    assert timeless(again.to_json()) == timeless(treated.to_json())


class _Stops(StudyListener):
    """Interrupts when so many networks have ended."""

    def __init__(self, after: int) -> None:
        self.left = after

    def ended(self, member: int, status: str, result: dict[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [2, 9, 14])
def test_an_interrupted_treatment_goes_on_to_the_same_end(
    after: int, sick: Run, treated: Treatment, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        treat(sick, out=tmp_path / "cut", listener=_Stops(after))
    assert Study(tmp_path / "cut").status == "interrupted"
    found = resume(tmp_path / "cut")
    assert isinstance(found, Treatment)
    assert timeless(found.to_json()) == timeless(treated.to_json())


def test_the_healthy_are_left_alone(digits: Data, tmp_path: Path) -> None:
    run = trained(digits, tmp_path / "run", "epochs=15")
    found = treat(run, out=tmp_path / "study")
    assert found.before.is_healthy
    assert not found.helped
    assert found.trainings == 0
    assert found.end == "healthy"
    assert "Nothing is wrong." in found.sentences()


def test_a_diverged_patient_counts_as_a_constant_answer(tmp_path: Path) -> None:
    data = load("diabetes")
    run = trained(data, tmp_path / "run", "optimizer=sgd", "optimizer.lr=3", "batch_size=16")
    assert run.status == "diverged"
    found = treat(run, out=tmp_path / "study", seeds=4, rounds=1)
    assert found.metric == "valid_r2"
    assert found.helped
    patient, _ = found.figures
    assert patient == [found.scale.constant] * 4
    assert abs(found.scale.constant) < 0.2  # R² of a constant is about 0
    assert "counts as the best constant answer" in found.method()


def test_members_of_studies_are_treated_too(digits: Data, tmp_path: Path) -> None:
    recipes = [BASE, BASE.with_(["optimizer.lr=1e-6"])]
    study = danlu.train.train(recipes, digits, out=tmp_path / "s", probes="light")
    found = treat(study.run(1), out=tmp_path / "t", rounds=1, seeds=3)
    assert found.before.findings[0].cause == "lr_too_low"
    assert found.helped


def test_options_of_the_data_are_tried_where_they_ask_the_same(tmp_path: Path) -> None:
    data = load("names", vocabulary=6, limit=60)
    recipe = Recipe.read("tagging").with_(
        ["epochs=3", "model.hidden=[12]", "model.embedding=8", "optimizer.lr=0.02", "batch_size=16"]
    )
    run = fit(recipe, data, out=tmp_path / "run")
    assert "vocabulary_too_small" in [f.cause for f in run.diagnose().findings]
    found = treat(run, out=tmp_path / "t", seeds=3, rounds=1)
    (trial,) = found.data_trials
    assert not trial.why_not
    assert len(trial.figures) == 3
    assert trial.candidate.edits == ("data.vocabulary=60",)
    told = [sentence for sentence in found.sentences() if "data.vocabulary=60" in sentence]
    assert "on 3 seeds" in told[0]
    assert (found.to_json()["best"]["edits"] == ["data.vocabulary=60"]) == trial.won
    assert Study(found.study.path / "data" / "0").schema.tokens > 6


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    data = load((np.random.default_rng(0).normal(size=(200, 3)), np.arange(200) % 4 * 1.0),
                task="regression")  # fmt: skip
    run = fit(BASE.with_(["epochs=2"]), data, out=tmp_path / "run")
    assert "wrong_task" in [f.cause for f in run.diagnose(data).findings]
    found = treat(run, data, out=tmp_path / "t", seeds=2, rounds=1)
    (trial,) = found.data_trials
    assert "in memory" in trial.why_not
    assert any("data.task=classification" in sentence for sentence in found.sentences())


def test_bad_options_are_sentences(sick: Run, digits: Data, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        treat(sick, seeds=1, budget="soon", rounds=0, metric="speed")
    message = str(caught.value)
    for told in ("`seeds` is 1", "`budget` is 'soon'", "`rounds` is 0", "`metric` is 'speed'"):
        assert told in message
    with pytest.raises(RecipeError, match=r"`budget` is 0\.001, but must be enough for one trial"):
        treat(sick, budget=0.001)
    (tmp_path / "file.csv").write_text("a,b\n" + "1,x\n2,y\n" * 30)
    run = fit(
        BASE.with_(["epochs=1", "batch_size=8"]),
        load(tmp_path / "file.csv", target="b"),
        out=tmp_path / "run",
    )
    (tmp_path / "file.csv").unlink()
    with pytest.raises(RunError, match="danlu diagnose"):
        treat(run)


def test_without_a_validation_part_nothing_can_be_judged(tmp_path: Path) -> None:
    data = load("digits", limit=300).with_validation_in_training()
    run = fit(BASE.with_(["epochs=1"]), data, out=tmp_path / "run")
    with pytest.raises(RecipeError, match="no validation part"):
        treat(run, data)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("90s", 90), ("1h30m", 5400), (45, 45), ("1.5 h", 5400)]
)
def test_durations(text: Any, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5m", "ten", "5 parsecs", "1m x", math.inf, True])
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(RecipeError, match="must be a duration"):
        seconds_of(text)


def test_the_command(sick: Run, treated: Treatment, tmp_path: Path) -> None:
    said = say("treat", sick.path, "--json", "--out", tmp_path / "t", "--lang", "en")
    plain = json.loads(said.out)
    assert timeless(plain) == timeless(json.loads(json.dumps(treated.to_json())))
    assert list(plain["best"]) == ["edits", "gain", "low", "high"]
    shown = say("show", tmp_path / "t").out
    assert "better" in shown
    assert "Nothing is wrong with it any more." in shown
    page = (tmp_path / "t" / "report.html").read_text()
    assert "Round 1" in page
    assert "What changed" in page
    chinese = say("treat", sick.path, "--lang", "zh", "--rounds", "1", "--seeds", "2",
                  "--out", tmp_path / "zh").out  # fmt: skip
    assert "学习率" in chinese
    assert "第 1 轮试了" in chinese.replace("\n", "")
    assert "seeds" not in chinese
    assert "valid" not in chinese


def test_what_stays_open_goes_on_to_further_seeds_and_resumes_there(
    sick: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first test is made too strict for any gain, the one on all ten seeds is not."""
    monkeypatch.setattr(course, "levels_of_tests", lambda _: (1 - 1e-12, 0.97, 0.99))
    whole = treat(sick, out=tmp_path / "whole", rounds=1)
    first, again = whole.rounds[0].tests
    assert again.seeds == [*first.seeds, *whole.rounds[0].further]
    assert (again.candidate, again.level) == (first.candidate, 0.97)
    assert whole.last_seeds == again.seeds
    assert whole.gain is not None
    assert whole.gain.n == 10
    for after in (16, 23, 30):
        with pytest.raises(Interrupted):
            treat(sick, out=tmp_path / f"cut{after}", rounds=1, listener=_Stops(after))
        found = resume(tmp_path / f"cut{after}")
        assert isinstance(found, Treatment)
        assert timeless(found.to_json()) == timeless(whole.to_json())


def test_that_there_was_no_time_is_kept(
    sick: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "levels_of_tests", lambda _: (1 - 1e-12, 0.97, 0.99))
    monkeypatch.setattr(course, "estimate_seconds", lambda *_: math.inf)
    whole = treat(sick, out=tmp_path / "whole", rounds=1)
    (test,) = whole.rounds[0].tests
    assert len(test.seeds) == 5
    assert whole.rounds[0].is_cut
    assert not whole.helped
    again = resume(whole.study.path)
    assert isinstance(again, Treatment)
    assert timeless(again.to_json()) == timeless(whole.to_json())


def test_no_round_is_judged_by_seeds_of_another(treated: Treatment, digits: Data) -> None:
    going = course.Course(treated.study, digits)
    screening, *_ = going._seeds_of_round(0)
    judged = list(screening)
    for number in range(going.most_rounds):
        _, confirming, further = going._seeds_of_round(number)
        judged += [*confirming, *further]
    assert len(judged) == len(set(judged)) == 3 + going.most_rounds * 10


def test_a_treatment_of_an_earlier_danlu_is_said_to_be_one(
    treated: Treatment, tmp_path: Path
) -> None:
    shutil.copytree(treated.study.path, tmp_path / "old")
    old = Study(tmp_path / "old")
    rounds = old.info["rounds_tried"]
    for plain in rounds:
        plain["tested"] = [test["candidate"] for test in plain.pop("tests")]
    old.sealed.update(rounds_tried=rounds)
    said = say("show", tmp_path / "old")
    assert said.code == 2
    assert "made by an earlier danlu" in said.err
    assert "treat the run again" in said.err.replace("\n", " ")


def test_what_beats_no_constant_answer_is_said(tmp_path: Path) -> None:
    """Rates that are a thousand times as high are still tiny."""
    data = load("digits", limit=300)
    recipe = Recipe(epochs=4, model={"hidden": [16]}, optimizer={"name": "sgd", "lr": 1e-4})
    recipe = recipe.with_(["clip.norm=1e-6"])
    run = fit(recipe, data, out=tmp_path / "run")
    found = treat(run, data, seeds=2, rounds=1, metric="valid_loss", out=tmp_path / "t")
    assert not found.helped
    assert "better than the best constant answer" in " ".join(found.sentences())
    assert "常数答案" in "".join(found.sentences("zh"))


def test_every_sentence_has_both_languages() -> None:
    from danlu.diagnosis import catalogue

    for section in ("treatment", "errors"):
        for name, words in catalogue._words()[section].items():
            assert set(words) == {"en", "zh"}, name
            fields = [
                {f for _, f, _, _ in string.Formatter().parse(w) if f} for w in words.values()
            ]
            # Chinese counts need no plural.
            plain = {"edits": "missed" if name == "no_time" else "tried"}
            assert {plain.get(field, field) for field in fields[0]} == fields[1], name


def test_a_last_round_that_mends_everything_leaves_nothing(tmp_path: Path) -> None:
    run = fit(Recipe(epochs=8, optimizer={"lr": 0.3}), load("digits"), out=tmp_path / "run")
    found = treat(run, seeds=3, rounds=1, out=tmp_path / "t")
    assert found.after.is_healthy
    said = " ".join(found.sentences())
    assert "What is left" not in said
    assert "Nothing is wrong with it any more." in said
