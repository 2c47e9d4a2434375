from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from folders import change_facts, reseal

from danlu import Recipe, Run, files, fit, load
from danlu.errors import ModelError, RunError
from danlu.report.pages.outputs import confusion_counts
from danlu.report.pages.run_page import write_report
from danlu.runs import folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = Recipe(model={"name": "dense", "dropout": 0.3}, epochs=6)
    return fit(recipe, load("digits"), out=tmp_path_factory.mktemp("r") / "run")


def test_a_run_s_model_is_a_plain_module_with_its_predictions(run: Run) -> None:
    data = load("digits")
    x, y = data.part("test")
    p = run.predict(x)
    model = run.model()
    assert type(model) is torch.nn.Sequential
    torch.testing.assert_close(p.probabilities, model(run.normalizer(x)).softmax(1).detach())
    assert (p.values == y).float().mean() == pytest.approx(run.result["test_accuracy"])
    assert p.labels[0] == data.schema.classes[int(p.values[0])]
    assert len(run.predict(x[0]).values) == 1
    assert torch.equal(run.predict(x.numpy()).values, p.values)


def test_monte_carlo_dropout_is_a_mean_over_masks(run: Run) -> None:
    x, _ = load("digits").part("test")
    p = run.predict(x[:20], samples=200)
    assert p.spread is not None
    assert p.spread.shape == p.probabilities.shape == (20, 10)
    torch.testing.assert_close(p.probabilities.sum(1), torch.ones(20))
    assert float(p.spread.max()) > 0.01
    assert torch.equal(p.probabilities, run.predict(x[:20], samples=200).probabilities)
    # Two independent means of 200 passes differ by about √(2/200) spreads.
    other = run.predict(x[:20], samples=200, seed=1)
    assert (
        float((other.probabilities - p.probabilities).abs().max())
        < 5 * float(p.spread.max()) * (2 / 200) ** 0.5
    )


def test_wrong_shapes_and_networks_without_dropout_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"`x` is \(3, 4\), but must have the shape \(N, 1, 8, 8\)"):
        run.predict(np.zeros((3, 4)))
    plain = fit(Recipe(epochs=1), load("iris"), out=tmp_path / "run")
    with pytest.raises(RunError, match="needs a network with dropout"):
        plain.predict(np.zeros((1, 4)), samples=3)


def test_weights_that_do_not_fit_are_refused(run: Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    files.write_tensors(copy / "weights.safetensors", {"dense1.weight": torch.zeros(2, 2)})
    reseal(copy)
    with pytest.raises(
        ModelError,
        match=r"`dense1.weight` is \(2, 2\) instead of \(64, 64\), `dense1.bias` is missing",
    ):
        Run(copy).model()
    (copy / "weights.safetensors").write_bytes(b"x")
    reseal(copy)
    with pytest.raises(RunError, match="is damaged or not a safetensors file"):
        Run(copy).model()


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f"
    files.write(path, "old")

    with pytest.raises(TypeError):
        files.write(path, 3)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["f"]


def test_the_confusion_matrix_counts_predictions_and_the_report_shows_it(run: Run) -> None:
    kept = files.read_tensors(run.path / "test.safetensors")
    counts = confusion_counts(kept, 10)
    guess, true = kept["outputs"].argmax(1), kept["targets"]
    for t in range(10):
        for g in range(10):
            assert counts[t, g] == ((true == t) & (guess == g)).sum()
    p = kept["outputs"].softmax(1).max(1).values[kept["worst"]]
    assert (guess[kept["worst"]] != true[kept["worst"]]).all()
    assert torch.equal(p, p.sort(descending=True).values)
    page = write_report(run).read_text()
    for words in (
        "Confusion matrix",
        "Most confidently wrong",
        "data:image/png;base64,",
        "Plotly.newPlot",
        "[optimizer]",
        "taken for",
    ):
        assert words in page
    assert "https://cdn" not in page.split("</script>")[-1]


def test_plot_is_a_plotly_figure(run: Run) -> None:
    figure = run.plot()
    assert len(figure.data) == 4
    assert list(figure.data[0].x) == [1, 2, 3, 4, 5, 6]
    assert list(figure.data[0].y) == [row["train_loss"] for row in run.history]


def test_a_stranger_s_text_is_escaped(tmp_path: Path) -> None:
    y = np.array(["<script>alert(1)</script>", "b"] * 100)
    run = fit(
        Recipe(epochs=1),
        load((np.random.default_rng(0).normal(size=(200, 2)), y)),
        out=tmp_path / "run",
    )
    assert "<script>alert(1)" not in write_report(run).read_text()


def test_a_stranger_s_network_runs_only_when_trusted(tmp_path: Path) -> None:
    run = fit(Recipe(epochs=1), load("iris"), out=tmp_path / "run")
    mark = tmp_path / "ran"
    (run.path / "recipe.toml").write_text(
        f'[model]\nname = "os:system"\nargs = {{command = "touch {mark}"}}\n'
    )
    reseal(run.path)
    for act in (lambda r: r.model(), lambda r: r.predict(np.zeros((1, 4))), lambda r: r.evaluate()):
        with pytest.raises(RunError, match="imports os:system"):
            act(Run(run.path))
    assert not mark.exists()


def test_other_data_must_have_the_same_columns(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {"a": np.arange(100.0), "b": -np.arange(100.0), "label": np.arange(100) % 2}
    )
    run = fit(Recipe(epochs=1, batch_size=10), load(frame, target="label"), out=tmp_path / "run")
    with pytest.raises(
        RunError, match="the data have the columns b, a, but the run was trained on a, b"
    ):
        run.evaluate(load(frame[["b", "a", "label"]], target="label"))
    assert run.evaluate(load(frame, target="label"), "all").n == 100


def test_runs_are_listed_by_age(runs_folder: Path) -> None:
    from danlu.runs import list_runs

    for name in ("zzz", "aaa"):
        fit(Recipe(epochs=1), load("iris"), out=runs_folder / name)
    assert [r.path.name for r in list_runs()] == ["zzz", "aaa"]


def test_a_run_is_found_after_the_program_changed_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = fit(Recipe(epochs=1), load("iris"), out="here")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert made.path == tmp_path / "here"
    assert made.result["epochs"] == 1
    assert made.model() is not None


def test_a_run_that_was_killed_is_not_called_running(tmp_path: Path) -> None:
    """Only who holds the lock trains; `status` of a crash is what it was before."""
    made = fit(Recipe(epochs=1), load("iris"), out=tmp_path / "run")
    change_facts(made.path, status="running")
    assert Run(made.path).status == "interrupted"
    with folder.locked(made.path):
        assert Run(made.path).status == "running"


def test_a_page_of_thousands_of_classes_shows_the_most_confused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(9000) % 3000
    x = rng.normal(size=(9000, 4)).astype(np.float32)
    run = fit(
        Recipe(model="softmax", epochs=1),
        load((x, y), split="60/20/20", task="classification"),
        out=tmp_path / "r",
    )
    page = write_report(run)
    without_library = page.stat().st_size - 4_800_000
    assert without_library < 1_000_000  # it was 77 MB
    text = page.read_text()
    assert "Confusion matrix of the 30 classes with the most errors" in text
    assert "more, which do better" in text
