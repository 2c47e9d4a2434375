"""Comparisons of real trainings: pairing, words, bad input, the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import danlu
from danlu import Comparison, Recipe, Study, compare, fit, load
from danlu.cli import app
from danlu.errors import DanluError, RecipeError, RunError
from danlu.statistics import looks
from danlu.study import continue_comparison, grid
from danlu.study.comparison import ALPHA, variant_results
from danlu.train import train

SMALL = Recipe(model={"name": "dense", "hidden": [16]}, epochs=3, batch_size=32)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    grid = {"optimizer": ["adam", "sgd"], "optimizer.lr": [0.01, 1e-6]}
    return compare(
        load("digits"), grid, recipe=SMALL, seeds=5, out=tmp_path_factory.mktemp("c") / "study"
    )


def test_every_combination_trains_with_the_same_seeds(found: Comparison) -> None:
    assert found.names == [
        f"optimizer={o} optimizer.lr={r}" for o in ("adam", "sgd") for r in ("0.01", "1e-06")
    ]
    assert [r.seed for r in found.study.recipes] == [s for s in range(5) for _ in range(4)]
    assert found.study.info["parts"] == ["train", "valid"]
    assert all("test_loss" not in r for r in found.study.results)


def test_a_variant_that_cannot_learn_is_worse(found: Comparison) -> None:
    words = [r.verdict for r in found.rows]
    assert words[0] == "control"
    assert words[1] == words[3] == "worse"
    assert "is worse than optimizer=adam optimizer.lr=0.01 by" in found.sentences()[0]


def test_figures_equal_those_of_single_trainings(found: Comparison, tmp_path: Path) -> None:
    alone = fit(found.study.recipes[6], load("digits"), out=tmp_path / "alone")
    assert found.figures[2][1] == pytest.approx(alone.result["valid_accuracy"])
    gaps = np.subtract(found.figures[2], found.figures[0])
    assert found.rows[2].difference.mean == pytest.approx(gaps.mean())


def test_a_comparison_is_rebuilt_from_its_folder(found: Comparison) -> None:
    again = Comparison(Study(found.study.path))
    assert again.to_json() == found.to_json()
    json.dumps(again.to_json())
    assert continue_comparison(Study(found.study.path)).rows == found.rows


def test_within_a_replicate_order_and_initial_weights_are_shared(tmp_path: Path) -> None:
    """A rate too small to move anything: equal initial weights give equal networks, whatever the optimiser."""
    c = compare(
        load("iris"),
        ["optimizer=sgd,momentum"],
        recipe=SMALL.with_(["lr=1e-30", "optimizer=sgd"]),
        seeds=2,
        out=tmp_path / "c",
    )
    assert (
        c.study.recipes[0].optimizer.lr != c.study.recipes[1].optimizer.lr
    )  # a variant has its own default rate
    frozen = compare(
        load("iris"),
        ["optimizer=sgd,momentum", "lr=1e-30"],
        recipe=SMALL,
        seeds=2,
        out=tmp_path / "f",
    )
    a, b, other = (frozen.study.weights(i) for i in (0, 1, 2))
    assert all(torch.allclose(a[k], b[k], atol=1e-20) for k in a)
    assert not torch.equal(a["dense1.weight"], other["dense1.weight"])
    # And a clip that clips nothing: with the same order of the data the curves are the same, with another they are not.
    same = compare(
        load("iris"), ["clip.norm=0,1e9"], recipe=SMALL, seeds=2, out=tmp_path / "s"
    ).study
    curves = [[row["train_loss"] for row in same.history(i)] for i in range(4)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    assert curves[0] != pytest.approx(curves[2], rel=1e-2)


@pytest.mark.slow
def test_identical_variants_rarely_give_a_false_claim(tmp_path: Path) -> None:
    """Networks that differ by luck alone, compared 200 times: false claims stay below the stated share."""
    data, n = load("iris"), 6
    base = Recipe(
        model={"name": "dense", "hidden": [4]},
        epochs=2,
        batch_size=16,
        optimizer={"name": "sgd", "lr": 0.05},
    )
    study = train(
        [base.with_(seed=s) for s in range(200 * 2 * n)],
        data,
        out=tmp_path / "study",
        parts=("train", "valid"),
    )
    figures = np.array([r["valid_loss"] for r in study.results]).reshape(200, 2, n)
    assert figures.std() > 0.01, "luck must make a difference for the test to mean anything"
    claims = sum(
        variant_results("ab", f.tolist(), 0, ALPHA, False, "t")[1].verdict != "no difference shown"
        for f in figures
    )
    assert claims <= 18  # 10 expected at 5 %; more than 18 in 1 of 100 such tests
    bad = figures.copy()
    bad[:, 1] += 0.5
    assert (
        sum(
            variant_results("ab", f.tolist(), 0, ALPHA, False, "t")[1].verdict == "worse"
            for f in bad
        )
        > 150
    )


def test_until_stops_when_every_question_is_settled(tmp_path: Path) -> None:
    c = compare(load("iris"), ["lr=0.05,1e-7"], recipe=SMALL, until=40, out=tmp_path / "c")
    assert c.seeds == looks(40)[0] == 10
    assert c.settled
    assert c.alpha == pytest.approx(ALPHA / 3)
    assert "a claim needs p < 0.0167, of 5% shared by 3 looks at the figures" in c.method()
    assert c.level == "98.3 %"


def test_until_goes_on_while_a_question_is_open(tmp_path: Path) -> None:
    c = compare(load("iris"), ["init=he,orthogonal"], recipe=SMALL, until=20, out=tmp_path / "c")
    assert c.seeds == (10 if c.settled else 20)
    assert len(c.study.members) == 2 * c.seeds
    same = compare(load("iris"), ["clip.norm=0,1e9"], recipe=SMALL, until=20, out=tmp_path / "d")
    assert same.seeds == 20
    assert same.rows[1].verdict == "no difference shown"


def test_until_stops_where_the_control_diverged(tmp_path: Path) -> None:
    c = compare(
        load("iris"),
        ["lr=1e30,0.01"],
        recipe=SMALL.with_(["optimizer=sgd"]),
        until=40,
        out=tmp_path / "c",
    )
    assert c.seeds == 10
    assert [r.verdict for r in c.rows] == ["control", "control diverged"]
    assert "nothing can be compared with it" in c.sentences()[-1]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": (
        {"grid": ["optimiser=sgd,adam"]},
        "`optimiser` is not a field of a recipe; did you mean `optimizer`?",
    ),
    "unknown value": (
        {"grid": ["optimizer=sgd,adan"]},
        "did you mean 'adam'? (variant optimizer=adan)",
    ),
    "no equals": (
        {"grid": ["adam"]},
        "`adam` is not of the form field=value,…; write, for example, optimizer=sgd,adam",
    ),
    "empty value": ({"grid": ["optimizer=sgd,"]}, "`optimizer=sgd,` has an empty value"),
    "one variant": (
        {"grid": ["optimizer=sgd"]},
        "the grid has one variant, but a comparison needs two",
    ),
    "twice": ({"grid": ["optimizer=sgd,sgd"]}, "`optimizer` names sgd more than once"),
    "five layers": ({"grid": ["model.hidden=100,100"]}, "write model.hidden=[100,100]"),
    "seed": ({"grid": ["seed=1,2"]}, "`seed` cannot be a field of the grid"),
    "zero seeds": (
        {"seeds": 0},
        "`seeds` is 0, but must be at least 2: one training shows no spread; try 10",
    ),
    "until": ({"until": 1}, "`until` is 1, but must be at least 2"),
    "control": (
        {"control": "adamax"},
        "`control` is 'adamax', but must be one of optimizer=adam, optimizer=sgd",
    ),
    "metric": ({"metric": "valid_acuracy"}, "did you mean 'valid_accuracy'?"),
    "seconds": ({"metric": "seconds"}, "`metric` is 'seconds', but must be one of"),
    "endless": (
        {"grid": {"optimizer.lr": [i / 1e6 for i in range(1, 20_000)]}},
        "has 19,999 variants, but must have at most 10,000",
    ),
    "interval": (
        {"interval": "T"},
        "`interval` is 'T', but must be one of bca, t; did you mean 't'?",
    ),
    "unused": (
        {"grid": ["optimizer=sgd,adam", "momentum=0.9"]},
        "`optimizer.momentum` is not used by 'sgd'",
    ),
    "seeds and until": (
        {"seeds": 5, "until": 10},
        "`until` is 10, but must stand alone, and `seeds` is 5",
    ),
    "two names": (
        {"grid": ["lr=0.1,0.2", "optimizer.lr=0.3,0.4"]},
        "`optimizer.lr` is given twice; name all its values at once",
    ),
    "two names in Python": (
        {"grid": {"optimizer": ["sgd", "adam"], "optimizer.name": ["adam"]}},
        "`optimizer` is given twice",
    ),
    "far too many": ({"seeds": 10_000_000}, "with 10,000,000 seeds 20,000,000 trainings, about"),
    "not for these data": (
        {"grid": ["augment.flip=true,false"], "seeds": 501},
        "needs pictures, and these data are a table",
    ),
    "too many": (
        {"seeds": 501},
        "the grid has 2 variants, with 501 seeds 1,002 trainings, about 0:",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_sentence(name: str, tmp_path: Path) -> None:
    given, sentence = BAD[name]
    with pytest.raises(RecipeError) as e:
        compare(
            load("iris"),
            **{"grid": ["optimizer=sgd,adam"], "recipe": SMALL, "out": tmp_path / "c", **given},
        )
    assert sentence in str(e.value)
    assert not (tmp_path / "c").exists()


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as e:
        compare(
            load("iris"), ["optimizer=sgd,adam"], seeds=0, metric="x", interval="y", control="nope"
        )
    assert len(e.value.mistakes) == 4


def test_if_everything_diverges_there_is_still_a_page(tmp_path: Path) -> None:
    words = [
        "compare",
        "iris",
        "lr=1e30,1e31",
        "optimizer=sgd",
        "model=dense",
        "--seeds",
        "2",
        "--out",
        str(tmp_path / "c"),
    ]
    done = command(*words)
    assert done.exit_code == 0, done.output
    assert "Diverged: optimizer.lr=1e+30 (2 of 2)" in done.output
    assert (tmp_path / "c" / "report.html").is_file()


def test_an_unfinished_comparison_says_so(tmp_path: Path) -> None:
    c = compare(load("iris"), ["lr=0.05,0.01"], recipe=SMALL, seeds=2, out=tmp_path / "c")
    lines = (tmp_path / "c" / "members.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "c" / "members.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(RunError, match="has 1 training to go"):
        Comparison(Study(c.study.path))


def test_a_control_is_found_by_part_of_its_name() -> None:
    variants = grid.expand({"optimizer": ["sgd", "adam"], "epochs": [1, 2]}, SMALL)
    assert grid.find("optimizer=adam epochs=2", variants) == 3
    assert grid.find("adam 1", variants) == 2
    with pytest.raises(RecipeError, match="fits 2 variants"):
        grid.find("adam", variants)


def test_another_kind_of_study_is_refused(tmp_path: Path) -> None:
    study = train([SMALL], load("iris"), out=tmp_path / "study")
    with pytest.raises(RunError, match="is not a comparison; danlu runs lists what there is"):
        Comparison(study)


def command(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_the_command_prints_a_table_a_verdict_and_a_page(tmp_path: Path) -> None:
    done = command(
        "compare",
        "iris",
        "lr=0.05,1e-7",
        "model=dense",
        "epochs=2",
        "--seeds",
        "4",
        "--out",
        str(tmp_path / "c"),
        "--explain",
    )
    assert done.exit_code == 0, done.output
    assert "optimizer.lr=1e-07" in done.output
    assert "worse" in done.output
    assert "8 networks vectorised by 8: about" in done.output
    page = (tmp_path / "c" / "report.html").read_text()
    assert "is worse than optimizer.lr=0.05 by" in page
    assert "Plotly.newPlot('curves'" in page
    again = command("resume", str(tmp_path / "c"), "--json")
    assert json.loads(again.output)["seeds"] == 4
    as_json = command(
        "compare",
        "iris",
        "lr=0.05,1e-7",
        "epochs=2",
        "--seeds",
        "2",
        "--json",
        "--metric",
        "test_loss",
    )
    assert json.loads(as_json.output)["metric"] == "test_loss"


def test_the_command_reports_all_mistakes() -> None:
    with pytest.raises(DanluError) as e:
        CliRunner().invoke(
            app,
            ["compare", "no-such-data", "optimiser=a", "--recipe", "nope"],
            catch_exceptions=False,
        )
    assert len(e.value.mistakes) == 3


def test_compare_and_comparison_are_public() -> None:
    assert danlu.compare is compare
    assert danlu.Comparison is Comparison
