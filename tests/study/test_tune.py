"""Searches: the space, the strategies, bad input, the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from searches import BASE, SPACE
from typer.testing import CliRunner

import danlu
from danlu import Data, Recipe, Study, Tuning, load, tune
from danlu.cli import app
from danlu.errors import RecipeError, RunError
from danlu.runs import folder
from danlu.study import search
from danlu.study.space import Range
from danlu.study.storage import url_of
from danlu.study.strategies import Halving, Proposal, propose


def test_every_trial_is_within_the_space_and_counted_once(found: Tuning) -> None:
    assert len(found.study) == len(found.study.members) == 48
    for i in range(48):
        v = found.own[i].values
        assert 1e-5 <= v["optimizer.lr"] <= 1e-1
        assert 1e-8 <= v["optimizer.weight_decay"] <= 1e-4
        assert v["model.hidden"] in ([8], [16])
        assert v["epochs"] in (1, 2, 3)
    trials = found.trials.store.get_trials(deepcopy=False)
    assert len(trials) == 48
    told = {t.user_attrs["mark"].split(":")[1]: t.value for t in trials}
    assert told == {str(i): r["valid_accuracy"] for i, r in enumerate(found.study.results)}


def test_the_second_round_searches_near_the_best_of_the_first(found: Tuning) -> None:
    first = sorted(range(24), key=lambda i: -found.own[i].figure)[:5]
    rates = sorted(found.own[i].values["optimizer.lr"] for i in first)
    later = [found.own[i].values["optimizer.lr"] for i in range(24, 48)]
    spare = math.exp(max((math.log(rates[-1]) - math.log(rates[0])) / 8, math.log(1e4) / 20))
    assert rates[0] / spare <= min(later) * 1.000001
    assert max(later) <= min(rates[-1] * spare, 0.1) * 1.000001
    mean = lambda of: np.mean([found.own[i].figure for i in of])  # noqa: E731
    assert mean(range(24, 48)) > mean(range(24))


def test_only_the_winner_reads_the_test_part(found: Tuning) -> None:
    assert all("test_accuracy" not in r for r in found.study.results)
    assert found.winner is not None
    best = found.ranked[0].member
    assert found.ranked[0].figure == max(t.figure for t in found.ranked)
    assert found.winner["member"] == best
    assert found.winner["test_accuracy"] == pytest.approx(
        found.study.run(best).evaluate(part="test").accuracy
    )
    again = Recipe.read(str(found.study.path / "best.toml"))
    assert again == found.study.recipes[best]


def test_the_learning_rate_is_found_most_important(digits: Data, tmp_path: Path) -> None:
    t = tune(
        digits,
        ["optimizer.lr=1e-6..1e-1:log", "weight_decay=1e-8..1e-4:log"],
        recipe=BASE,
        trials=40,
        out=tmp_path / "t",
    )
    assert t.importance["optimizer.lr"] > 0.8
    assert sum(t.importance.values()) == pytest.approx(1)


def test_equal_seeds_give_equal_searches(digits: Data, tmp_path: Path) -> None:
    a, b, c = (
        tune(digits, SPACE, recipe=BASE, trials=5, seed=s, out=tmp_path / str(k))
        for k, s in enumerate((3, 3, 4))
    )
    assert a.study.recipes == b.study.recipes != c.study.recipes
    assert [t.figure for t in a.ranked] == [t.figure for t in b.ranked]


def test_random_search_finds_what_a_fine_grid_finds(digits: Data, tmp_path: Path) -> None:
    """One field: the best of 40 draws is as good as the best of 40 points, to the luck of a training."""
    grid = danlu.compare(
        digits,
        {"optimizer.lr": np.geomspace(1e-6, 1e-1, 40).tolist()},
        recipe=BASE,
        seeds=2,
        out=tmp_path / "g",
    )
    best = max(r.mean.mean for r in grid.rows)
    drawn = tune(
        digits, ["optimizer.lr=1e-6..1e-1:log"], recipe=BASE, trials=40, out=tmp_path / "t"
    )
    assert drawn.ranked[0].figure >= best - 0.02


def test_halving_stops_the_worse_and_keeps_the_best(digits: Data, tmp_path: Path) -> None:
    recipe, lr = BASE.with_(epochs=9), ["optimizer.lr=1e-6..1e-1:log"]
    whole = tune(digits, lr, recipe=recipe, trials=27, out=tmp_path / "w")
    cut = tune(digits, lr, recipe=recipe, trials=27, strategy="halving", out=tmp_path / "h")
    assert cut.study.recipes == whole.study.recipes
    epochs = [r["epochs"] for r in cut.study.results]
    assert set(epochs) == {1, 3, 9}
    assert 15 <= epochs.count(1) <= 18, "a third goes on, and who is level with them"
    assert epochs.count(9) >= 3
    assert cut.ranked[0].figure >= whole.ranked[0].figure - 0.03
    for i, n in enumerate(epochs):  # what was trained is what the whole training began with
        a, b = cut.study.history(i), whole.study.history(i)[:n]
        assert [r["valid_loss"] for r in a] == pytest.approx([r["valid_loss"] for r in b], rel=1e-3)
    statuses = [cut.study.members[i].status for i in range(27)]
    assert statuses.count("stopped") == 27 - epochs.count(9)


def test_successive_halving_keeps_the_best_third_at_each_rung() -> None:
    h = Halving("valid_loss", higher_is_better=False, eta=3)
    for epoch in (1, 2, 3):
        alive = [m for m in range(9) if epoch == 1 or m < 3]
        rows = [
            {"member": m, "epoch": epoch, "valid_loss": float(m) if m != 8 else math.nan}
            for m in alive
        ]
        stopped = sorted(h.prune(rows))
        assert stopped == {1: [3, 4, 5, 6, 7, 8], 2: [], 3: [1, 2]}[epoch]


def test_scores_reached_after_a_rung_do_not_count_at_it() -> None:
    """A chunk that was trained to epoch 5 and goes on from an older checkpoint is judged as the first time."""
    h = Halving("valid_accuracy", higher_is_better=True, eta=3)
    h.observe([{"member": 0, "epoch": e, "valid_accuracy": 0.1 * e} for e in range(1, 6)])
    h.observe([{"member": 0, "epoch": 1, "valid_accuracy": 0.1}])
    assert h.rungs == {1: {0: 0.1}, 3: {0: pytest.approx(0.3)}}


def test_values_that_do_not_go_together_are_drawn_again(digits: Data, tmp_path: Path) -> None:
    t = tune(
        digits, ["epochs=2,1", "schedule.warmup=0..1.5"], recipe=BASE, trials=8, out=tmp_path / "t"
    )
    assert len(t.study.recipes) == 8
    assert all(r.schedule.warmup < r.epochs for r in t.study.recipes)
    with pytest.raises(RecipeError, match="hardly any values"):
        sampled = optuna.create_study(sampler=optuna.samplers.RandomSampler())
        unit: dict[str, Any] = {"x": Range(0, 1)}
        propose(sampled, Proposal(unit, unit, 1, lambda values: False), "ab")


def test_spaces_that_the_data_refuse_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match="`batch_size` is 256, but must be at most the 90 training examples"
    ):
        tune(load("iris"), ["batch_size=16..256"], recipe=BASE, out=tmp_path / "t")
    with pytest.raises(RecipeError, match="`seed` is -1"):
        tune(load("iris"), SPACE, recipe=BASE, seed=-1, out=tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_bayes_learns_from_its_batches(digits: Data, tmp_path: Path) -> None:
    t = tune(
        digits,
        ["optimizer.lr=1e-6..1e-1:log"],
        recipe=BASE,
        trials=48,
        strategy="bayes",
        out=tmp_path / "b",
    )
    first, last = (
        np.mean([t.own[i].figure for i in part if i in t.own])
        for part in (range(16), range(32, 48))
    )
    assert last > first + 0.1


def test_a_search_whose_trials_all_diverge_says_so(digits: Data, tmp_path: Path) -> None:
    wild = BASE.with_(["optimizer=sgd"])
    t = tune(digits, ["optimizer.lr=1e20..1e30:log"], recipe=wild, trials=4, out=tmp_path / "t")
    assert "diverged" in t.sentences()[0]
    assert len(t.study) == 4
    assert t.winner is None


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"space": ["optimiser.lr=1..2"]}, "did you mean `optimizer.lr`?"),
    "empty range": (
        {"space": ["optimizer.lr=1e-1..1e-3:log"]},
        "is an empty range; did you mean optimizer.lr=1e-3..1e-1:log?",
    ),
    "a point": ({"space": ["optimizer.lr=0.1..0.1"]}, "is an empty range"),
    "through zero": (
        {"space": ["weight_decay=0..1:log"]},
        "is a log range through zero; its lower end must be greater than 0",
    ),
    "below zero": (
        {"space": ["optimizer.lr=-1..1"]},
        "`optimizer.lr` is -1, but must be greater than 0",
    ),
    "endless": ({"space": ["optimizer.lr=1..inf"]}, "must have two finite ends"),
    "twice": (
        {"space": ["lr=1e-4..1e-1:log", "optimizer.lr=0.01"]},
        "`optimizer.lr` is given twice",
    ),
    "equal values": ({"space": ["epochs=1,1"]}, "`epochs` names 1 more than once"),
    "empty in Python": (
        {"space": {"lr": Range(0.1, 0.001, log=True)}},
        "empty range; did you mean optimizer.lr=0.001..0.1:log?",
    ),
    "zero in Python": (
        {"space": {"weight_decay": Range(0, 1, log=True)}},
        "is a log range through zero",
    ),
    "half in Python": ({"space": {"epochs": Range(1, 2.5)}}, "must run between whole numbers"),
    "narrow bayes": ({"strategy": "bayes", "rounds": 2}, "`rounds` is 2, but must be 1 for bayes"),
    "many": ({"trials": 501, "rounds": 2}, "the search has 1,002 trainings, about 0:"),
    "no numbers": ({"space": ["optimizer.lr=a..b"]}, "is not a range of numbers"),
    "another scale": (
        {"space": ["optimizer.lr=1..2:ln"]},
        "ends in 'ln', but a range can only be :log",
    ),
    "half epochs": ({"space": ["epochs=1.5..3"]}, "must run between whole numbers"),
    "nothing": ({"space": ["epochs=3"]}, "nothing is searched"),
    "seed": ({"space": ["seed=1..9"]}, "`seed` cannot be searched: it is luck"),
    "unused": ({"space": ["momentum=0.1..0.9"]}, "`optimizer.momentum` is not used by 'adam'"),
    "no equals": ({"space": ["lr"]}, "`lr` is not of the form field=range"),
    "trials": ({"trials": 0}, "`trials` is 0, but must be at least 1; try 100"),
    "rounds": ({"rounds": 0}, "`rounds` is 0, but must be at least 1"),
    "strategy": ({"strategy": "baies"}, "did you mean 'bayes'?"),
    "metric": ({"metric": "test_accuracy"}, "did you mean 'valid_accuracy'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_sentence(name: str, digits: Data, tmp_path: Path) -> None:
    given, sentence = BAD[name]
    with pytest.raises(RecipeError) as e:
        tune(digits, **{"space": SPACE, "recipe": BASE, "out": tmp_path / "t", **given})
    assert sentence in str(e.value)
    assert not (tmp_path / "t").exists()


def test_a_search_needs_a_validation_part(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="needs a validation part"):
        tune(load("iris", valid=False), SPACE, out=tmp_path / "t")


def test_the_command_prints_the_best_and_writes_a_page(tmp_path: Path) -> None:
    out = str(tmp_path / "t")
    words = [
        "tune",
        "digits",
        "lr=1e-4..1e-1:log",
        "model=dense",
        "epochs=1",
        "--trials",
        "8",
        "--rounds",
        "2",
        "--out",
        out,
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "round 1 of 2: optimizer.lr=0.0001..0.1:log" in done.output
    assert all(f"Best-{k}" in done.output for k in range(1, 6))
    assert "on the test part, read once and for it alone" in done.output
    page = (tmp_path / "t" / "report.html").read_text()
    assert "Plotly.newPlot('parallel'" in page
    assert "Plotly.newPlot('slices'" in page
    again = CliRunner().invoke(app, ["resume", out, "--json"])
    assert json.loads(again.output)["winner"]["test_n"] == 359
    assert url_of(Study(out)).startswith("sqlite:///")
    shown = CliRunner().invoke(app, ["show", out, "--json"])
    assert json.loads(shown.output)["winner"] == json.loads(again.output)["winner"]
    member = CliRunner().invoke(app, ["evaluate", f"{out}:3", "--part", "valid", "--json"])
    assert json.loads(member.output)["accuracy"] == pytest.approx(
        Study(out).results[3]["valid_accuracy"]
    )


def test_a_member_is_shown_like_any_run(found: Tuning, tmp_path: Path) -> None:
    """Though it was scored on the validation part alone; of numbers, too."""
    numbers = tune(
        load("diabetes"), ["lr=1e-3..1e-1:log"], recipe=BASE, trials=3, out=tmp_path / "t"
    )
    for study in (found.study, numbers.study):
        for words in (["show"], ["report"]):
            done = CliRunner().invoke(app, [*words, f"{study.path}:1"], catch_exceptions=False)
            assert done.exit_code == 0, done.output
    assert "Validation R² is" in CliRunner().invoke(app, ["show", f"{numbers.study.path}:1"]).output
    assert CliRunner().invoke(app, ["report", str(numbers.study.path)]).output.strip() == str(
        tmp_path / "t" / "report.html"
    )


def test_an_unfinished_search_says_so(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two batches, all that is there is trained, but more is to come."""
    monkeypatch.setenv("DANLU_RUNS", str(tmp_path))
    batch = search._Search._batch

    def die(self: Any, *a: Any) -> None:
        if len(self.study):
            raise KeyboardInterrupt
        batch(self, *a)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(search._Search, "_batch", die)
        tune(digits, SPACE[:1], recipe=BASE, trials=20, strategy="bayes", out=tmp_path / "t")
    study = Study(tmp_path / "t")
    assert (study.trained, study.status, len(study)) == (True, "interrupted", 16)
    with folder.locked(study.path):
        assert study.status == "running"
    assert "interrupted, 16 of 16 trained; go on with: danlu resume" in CliRunner().invoke(
        app, ["show", "last"]
    ).output.replace("\n", "")
    with pytest.raises(RunError, match="is interrupted; only a finished study has a report"):
        CliRunner().invoke(app, ["report", str(study.path)], catch_exceptions=False)
    done = CliRunner().invoke(app, ["resume", "last", "--json"])
    assert len(json.loads(done.output)["ranked"]) == 20
    assert Study(tmp_path / "t").status == "finished"


@pytest.mark.slow
def test_bayes_draws_fewer_diverging_trials_later(digits: Data, tmp_path: Path) -> None:
    wild = BASE.with_(["optimizer=sgd"])
    t = tune(
        digits,
        ["optimizer.lr=1e-3..1e9:log"],
        recipe=wild,
        trials=64,
        strategy="bayes",
        out=tmp_path / "t",
    )
    states = [x.state == optuna.trial.TrialState.PRUNED for x in t.trials.claimed()]
    assert t.diverged == sum(states)
    assert sum(states[:16]) > 3
    assert sum(states[48:]) < sum(states[:16])


def test_a_search_of_many_trials_is_refused_with_the_time_it_would_take(
    digits: Data, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="the search has 1,001 trainings, about 0:"):
        tune(
            digits,
            ["optimizer=sgd,adam", "model.hidden=4,8"],
            recipe=BASE,
            trials=1001,
            out=tmp_path / "t",
        )


def test_a_field_is_searched_where_the_variant_uses_it(tmp_path: Path) -> None:
    """Momentum belongs to momentum alone: for sgd it is neither set nor shown."""
    texts = ["optimizer=sgd,momentum", "optimizer.momentum=0.8..0.99", "epochs=1"]
    found = tune(load("iris"), texts, trials=12, rounds=2, out=tmp_path / "t")
    momenta = [recipe.optimizer.momentum for recipe in found.study.recipes]
    names = [recipe.optimizer.name for recipe in found.study.recipes]
    assert {"sgd", "momentum"} <= set(names)
    for name, momentum in zip(names, momenta, strict=True):
        assert (momentum is None) == (name == "sgd")
    for trial in found.ranked:
        assert ("optimizer.momentum" in trial.values) == (trial.values["optimizer.name"] != "sgd")
    with pytest.raises(RecipeError, match="is not used by any of sgd,adam"):
        tune(load("iris"), ["optimizer=sgd,adam", "optimizer.momentum=0.8..0.99"])
