"""Gradient checks find what was put in wrong, and pass what is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from faults.spoiling import say
from torch import Tensor, nn

import danlu
from danlu import Recipe, fit, gradcheck, load
from danlu.diagnosis.gradients.checking import TOLERANCE
from danlu.diagnosis.gradients.recipe_problem import gradcheck_recipe
from danlu.errors import ModelError


class _Square(torch.autograd.Function):
    """x², whose backward pass may be given a mistake."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float, place: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factor, ctx.place = factor, place
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        slope = 2 * x
        if ctx.place < 0:
            slope = slope * ctx.factor
        else:
            slope[..., ctx.place] *= ctx.factor
        return grads[0] * slope, None, None


class Squares(nn.Module):
    def __init__(self, factor: float = 1.0, place: int = -1) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(5, 6), nn.Linear(6, 3)
        self.factor, self.place = factor, place

    def forward(self, x: Tensor) -> Tensor:
        return self.out(_Square.apply(self.inner(x), self.factor, self.place))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(0))


def test_a_right_backward_pass_is_right(x: Tensor) -> None:
    found = gradcheck(Squares(), x)
    assert found.is_right
    assert found.error < 1e-7
    assert {t.name for t in found.tensors} == {
        "inner.weight", "inner.bias", "out.weight", "out.bias", "input"}  # fmt: skip
    assert all(t.checked == t.entries for t in found.tensors)


@pytest.mark.parametrize("factor", [0.5, 1.001, -1.0, 0.0])
def test_a_wrong_factor_is_found_where_it_acts(x: Tensor, factor: float) -> None:
    found = gradcheck(Squares(factor), x)
    wrong = {t.name for t in found.tensors if not t.is_right}
    assert wrong == {"inner.weight", "inner.bias", "input"}  # what lies behind it is right


def test_the_worst_entry_is_located(x: Tensor) -> None:
    found = gradcheck(Squares(3.0, place=2), x)
    bias = next(t for t in found.tensors if t.name == "inner.bias")
    (first, *_) = bias.worst
    assert first.place == (2,)
    assert first.claimed == pytest.approx(3 * first.numeric, rel=1e-4)
    assert "inner.bias" in str(found)


def test_one_sided_differences_err_more(x: Tensor) -> None:
    tensors = gradcheck(Squares(), x).tensors
    assert all(1e-10 < t.one_sided < 1e-3 for t in tensors if t.name != "out.bias")
    assert sum(t.one_sided for t in tensors) > 10 * sum(t.error for t in tensors)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Dropout(0.4), nn.Linear(9, 3), nn.Softmax(1)),
        nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.GELU(), nn.LayerNorm(6)),
        nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh()).eval(),
    ],
    ids=["dropout", "norms in training", "norms in evaluation"],
)
def test_library_layers_pass(module: nn.Module, x: Tensor) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert gradcheck(module, x).error < TOLERANCE / 100
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_losses_targets_and_penalties_are_part_of_it(x: Tensor) -> None:
    def penalties(tensors: Any) -> Tensor:
        return sum((p.square().sum() for p in tensors.values()), torch.zeros(()))

    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    y = torch.arange(8) % 3
    found = gradcheck(model, x, F.cross_entropy, targets=y, penalties=penalties)
    assert found.is_right
    plain = F.cross_entropy(model.double()(x.double()), y)
    extra = penalties({**dict(model.named_parameters()), "input": x.double()})
    assert found.loss == pytest.approx(float((plain + extra).detach()))


def test_where_a_rectifier_bends_nothing_is_claimed() -> None:
    class Bent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([0.0, 1.0, -2.0]))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.w * x)

    found = gradcheck(Bent(), torch.ones(3))
    assert found.is_right
    assert sum(t.kinks for t in found.tensors) == 1  # w₀ = 0
    assert "bends" in str(found)


def test_weights_out_of_all_proportion_are_not_called_wrong(x: Tensor) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1e6)
    assert not any(t.is_wrong for t in gradcheck(model, x).tensors)


def test_what_could_not_be_seen_is_not_called_right(x: Tensor) -> None:
    tiny = gradcheck(Squares(1.5), x, lambda out: out.sum() * 1e-9)
    assert any(t.is_wrong for t in tiny.tensors)  # however small the loss is
    drowned = gradcheck(Squares(1.5), x, lambda out: out.sum() * 1e-6 + 1e8)
    assert not any(t.is_known for t in drowned.tensors)
    assert not drowned.is_right
    assert "Not checked" in str(drowned)
    bent = gradcheck(nn.ReLU(), torch.zeros(3, 4))
    assert not bent.is_right
    assert not gradcheck(nn.Linear(5, 2), torch.randn(0, 5)).tensors[0].is_wrong


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (nn.Linear(3, 2), torch.randn(3, 5).t()),
        (nn.Conv2d(3, 2, 3).to(memory_format=torch.channels_last), torch.randn(2, 3, 5, 5)),
    ],
)
def test_tensors_may_lie_in_memory_as_they_like(module: nn.Module, given: Tensor) -> None:
    assert gradcheck(module, given).is_right


def test_large_modules_are_checked_along_directions(x: Tensor) -> None:
    wide = nn.Sequential(nn.Linear(5, 3000), Squares.__new__(Squares), nn.Linear(3000, 3))
    wide[1] = nn.Tanh()
    found = gradcheck(wide, x, seconds=0.3)
    assert found.is_right
    assert all(t.checked < t.entries for t in found.tensors if t.entries > 1000)

    class Wide(Squares):
        def __init__(self) -> None:
            super().__init__(0.5)
            self.inner, self.out = nn.Linear(5, 3000), nn.Linear(3000, 3)

    assert not gradcheck(Wide(), x, seconds=0.3).is_right


def test_what_cannot_be_checked_is_said(x: Tensor) -> None:
    class Rounds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).argmax(1).float()

    class Random(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.generator = nn.Linear(5, 3), torch.Generator()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * torch.rand((), generator=self.generator)

    class Empty(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 1.0

    for module, given, told in (
        (Rounds(), x, "not differentiable"),
        (nn.Linear(5, 2), x / 0, "the loss is nan"),
        (Empty(), torch.arange(3), "no gradients to check"),
        (nn.Linear(5, 2), "text", "`inputs` must be a tensor"),
        (lambda x: x, x, "must be a torch.nn.Module"),
    ):
        with pytest.raises(ModelError, match=told):
            gradcheck(module, given)
    try:
        found = gradcheck(Random(), x)
    except ModelError as e:
        assert "two equal calls give the losses" in str(e) or "copy" in str(e)
    else:
        assert not found.is_right


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("digits", ["model.hidden=[6,5]", "penalty.l1=3", "penalty.l2=20", "model.dropout=0.3"]),
        ("digits", ["model.hidden=[6,6]", "model.residual=true", "model.layer_norm=after"]),
        ("digits", ["model.hidden=[5]", "loss=focal", "loss.class_weights=balanced"]),
        ("digits", ["model.hidden=[5]", "augment.mixup=0.4", "model.batch_norm=before"]),
        ("diabetes", ["model.hidden=[5]", "loss=huber", "loss.delta=0.3"]),
        ("iris", ["model.hidden=[5]", "sample.share=0.5", "loss.label_smoothing=0.2"]),
    ],
)
def test_the_engine_s_gradients_are_those_of_the_loss_with_penalties(
    source: str, changes: list[str]
) -> None:
    found = gradcheck_recipe(Recipe(batch_size=16).with_(changes), load(source))
    assert found.is_right, found
    assert found.error < 1e-7


def test_a_fault_in_the_engine_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from danlu.nn import penalties

    true = penalties.l2_gradient
    monkeypatch.setattr(penalties, "l2_gradient", lambda w, s, m: true(w, s, m) * 1.1)
    recipe = Recipe(model={"name": "dense", "hidden": (5,)}, penalty={"l2": 50.0}, batch_size=16)
    found = gradcheck_recipe(recipe, load("iris"))
    assert {t.name for t in found.tensors if not t.is_right} == {"dense1.weight", "output.weight"}


def test_the_command_checks_a_source_and_a_run(tmp_path: Path) -> None:
    said = say("gradcheck", "iris", "model.hidden=[4]", "batch_size=16")
    assert said.code == 0
    assert "before training" in said.out
    fit(Recipe(model={"name": "dense", "hidden": (4,)}, batch_size=16, epochs=2),
        load("iris"), out=tmp_path / "run")  # fmt: skip
    plain = json.loads(say("gradcheck", tmp_path / "run", "--json").out)
    assert set(plain) == {"start", "end"}
    assert all(found["right"] for found in plain.values())
    refused = say("gradcheck", tmp_path / "run", "lr=1")
    assert refused.code == 2
    assert "a run has its own recipe" in refused.err
    assert say("gradcheck", "iris", "--seconds", "0").code == 2
    assert danlu.gradcheck is gradcheck


class Overwrites(nn.Module):
    """Takes the mean off its input in place, as it may in training."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x -= x.mean(1, keepdim=True)
        return self.out(x)


class Rounds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x).float()


@pytest.mark.parametrize("seed", range(3))
def test_many_rectifiers_are_not_called_wrong(seed: int) -> None:
    """Some of 25,000 switch within any step of a difference, on either side."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n, q in ((1, 8), (8, 8), (8, 8)):
        layers += [nn.Conv2d(n, q, 3, padding=1), nn.BatchNorm2d(q), nn.ReLU()]
    network = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    for _ in range(3):
        network(torch.randn(32, 1, 28, 28))
    checked = gradcheck(network.eval(), torch.randn(8, 1, 28, 28), seconds=2)
    assert any(tensor.is_known for tensor in checked.tensors)
    assert not any(tensor.is_wrong for tensor in checked.tensors)


def test_what_a_module_overwrites_is_its_own_affair() -> None:
    given = torch.randn(4, 5)
    kept = given.clone()
    assert gradcheck(Overwrites(), given).is_right
    assert torch.equal(given, kept)


def test_rounding_on_the_way_is_told_whatever_it_hides() -> None:
    """By some numbers all differences drown, and none is shown to be wrong."""
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.raises(ModelError, match="taken to float32"):
            gradcheck(Rounds(), torch.randn(3, 5))


@pytest.mark.parametrize(
    ("module", "given", "options", "message"),
    [
        (Rounds(), torch.randn(3, 5), {}, "taken to float32 on the way"),
        (nn.Linear(5, 2), torch.randn(3, 4), {}, "the module raised RuntimeError"),
        (nn.Linear(5, 2), torch.randn(3, 5), {"loss": "mse"}, "must be a function"),
        (nn.Linear(5, 2), torch.randn(3, 5), {"loss": nn.MSELoss()}, "`loss` raised TypeError"),
        (
            nn.Linear(5, 2),
            torch.randn(3, 5),
            {"penalties": lambda: 0},
            "`penalties` raised TypeError",
        ),
    ],
)
def test_mistakes_of_the_caller_are_told(
    module: nn.Module, given: Tensor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        gradcheck(module, given, **options)
