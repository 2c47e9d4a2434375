"""Anyone's own loss: functions and modules, by their names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu import Recipe, Run, fit, load, resume
from danlu.errors import ModelError, RecipeError, RunError
from danlu.nn.own_loss import check_own_loss, own_loss
from danlu.train import train


def margin(o: Tensor, y: Tensor) -> Tensor:
    """A multi-class hinge: of each example."""
    of_class = o.gather(1, y[:, None])
    return (1 - of_class + o).clamp_min(0).sum(1) - 1


def in_one_number(o: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(o, y)


def of_probabilities(o: Tensor, y: Tensor) -> Tensor:
    return -torch.log(o.gather(1, y[:, None])).squeeze(1)


def test_a_loss_of_pytorch_s_gives_what_ours_gives(tmp_path: Path) -> None:
    """Alone and in a population, for classes and for numbers, as a function and as a module."""
    data, numbers = load("iris"), load("diabetes")
    base = Recipe(epochs=3, dtype="float64")
    for theirs in ("torch.nn.functional:cross_entropy", "torch.nn:CrossEntropyLoss"):
        recipes = [base.with_([f"loss={theirs}", f"seed={s}"]) for s in range(2)]
        study = train(recipes, data, out=tmp_path / theirs.replace(":", "-"))
        for seed in range(2):
            ours = fit(base.with_(seed=seed), data, out=tmp_path / f"{theirs[-3:]}{seed}")
            for name, value in ours.model().state_dict().items():
                torch.testing.assert_close(study.weights(seed)[name], value)
    mse = fit(base.with_(["loss=torch.nn:MSELoss"]), numbers, out=tmp_path / "mse")
    ours = fit(base, numbers, out=tmp_path / "numbers")
    assert mse.result["test_loss"] == pytest.approx(ours.result["test_loss"])
    huber = base.with_(["loss=torch.nn:HuberLoss", "loss.args.delta=0.5"])
    assert fit(huber, numbers, out=tmp_path / "huber").result["test_r2"] > 0


def test_a_loss_may_be_weighted_where_it_is_of_each_example(tmp_path: Path) -> None:
    data = load("iris")
    base = Recipe(epochs=20, batch_size=16).with_([f"loss={__name__}:margin"])
    weighted = base.with_(["loss.class_weights=balanced", "sample.share=0.8"])
    run = fit(weighted, data, out=tmp_path / "run")
    assert run.result["test_accuracy"] > 0.7
    # A folder from elsewhere runs no code: the network is ours, and training on would need the loss.
    assert Run(run.path).model() is not None
    with pytest.raises(RunError, match=f"imports {__name__}:margin"):
        resume(run.path)
    in_one = base.with_([f"loss={__name__}:in_one_number"])
    fit(in_one, data, out=tmp_path / "one")
    with pytest.raises(ModelError, match="must give the loss of each of them"):
        fit(in_one.with_(["sample.share=0.8"]), data, out=tmp_path / "weighted")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no.such:loss", "cannot be imported"),
        (f"{__name__}:nothing", "has no callable 'nothing'"),
        (f"{__name__}:of_probabilities", "take logits, not probabilities"),
        ("torch.nn:Linear", "calling it failed"),
        ("torch.nn.functional:relu", "cannot be trained by"),
    ],
)
def test_what_is_no_loss_is_refused_before_anything_is_trained(
    path: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises((ModelError, RecipeError), match=words):
        fit(Recipe(loss=path), load("iris"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_arguments_of_a_loss_reach_it() -> None:
    loss = own_loss("torch.nn.functional:cross_entropy", {"label_smoothing": 0.5}, classes=True)
    o, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    want = F.cross_entropy(o, y, label_smoothing=0.5)
    assert float(loss.value(o, y, 0.0, None)) == pytest.approx(float(want))
    with pytest.raises(ModelError, match=r"loss\.args"):
        check_own_loss("torch.nn:HuberLoss", {"nope": 1}, classes=False, outputs=1)
    assert issubclass(nn.HuberLoss, nn.Module)
