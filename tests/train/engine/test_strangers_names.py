"""A network of one's own may have attributes of any name: they do not change how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danlu import Recipe, fit, load
from danlu.files import read_tensors
from danlu.recipe.build import build_model
from danlu.train.batches import StepBatch
from danlu.train.engine.networks import TrainingSpec
from danlu.train.engine.population import Population


def make(with_names: bool) -> nn.Module:
    return Named() if with_names else Plain()


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Softplus(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Named(Plain):
    """The same, with every name that the engine once looked for."""

    carries = structured = stateful = has_sequence_loss = reading = True
    auxiliary_weights = (0.3, 0.3)

    def objective(self, *args: Any) -> Any:
        raise AssertionError("not the engine's to call")

    step = read = write = initialise = reset_weights = sequence_loss = objective


def test_attributes_of_a_stranger_s_network_change_nothing(tmp_path: Path) -> None:
    weights = []
    for with_names in (False, True):
        model = {"name": f"{__name__}:make", "args": {"with_names": with_names}}
        recipe = Recipe(model=model, epochs=2, batch_size=30)
        run = fit(recipe, load("iris"), out=tmp_path / str(with_names))
        weights.append(read_tensors(run.path / "weights.safetensors"))
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.parametrize("average", ["none", "ema"])
def test_a_population_that_is_split_off_shares_nothing(average: str) -> None:
    """Also in the middle of an accumulation, and whichever of the two goes on first."""
    data = load("iris")
    recipe = Recipe(accumulate=2, average=average, batch_size=30, optimizer="adam")
    recipes = [recipe.with_(seed=s) for s in range(3)]
    spec = TrainingSpec((4,), 90, 3, True, torch.device("cpu"))

    def population() -> Population:
        return Population(recipes, lambda r: build_model(r, data.schema), spec)

    def one_step(of: Population, k: int) -> None:
        g = torch.Generator().manual_seed(k)
        x = torch.randn(1, 30, 4, generator=g)
        y = torch.randint(0, 3, (1, 30), generator=g)
        of.step(StepBatch(x, y, None, [(0, of.members)], starts_epoch=False), k)

    alone = population()
    for k in range(4):
        one_step(alone, k)
    original = population()
    one_step(original, 0)
    before = {k: t.clone() for k, t in original.tensors().items()}
    other = original.split_off([1])
    for k in range(4):
        one_step(other, k)
    assert all(torch.equal(t, before[k]) for k, t in original.tensors().items())
    # It had learnt nothing before, so it is now where its member is that was never split off.
    torch.testing.assert_close(
        other.stack.state_dict(0), alone.stack.state_dict(1), rtol=1e-5, atol=1e-6
    )
    for k in range(1, 4):
        one_step(original, k)
    for i in range(3):
        ours, theirs = original.stack.state_dict(i), alone.stack.state_dict(i)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class Lazy(nn.Module):
    """Its layers have no weights before the first pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LazyLinear(8), nn.Softplus(), nn.LazyLinear(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_weights_of_lazy_layers_are_drawn_by_the_recipe_s_seed(tmp_path: Path) -> None:
    """Not by where the program's own generator happens to stand, which does not move either."""
    weights = []
    for k, seed in enumerate((0, 0, 1)):
        torch.manual_seed(k)
        before = torch.get_rng_state()
        recipe = Recipe(model=f"{__name__}:Lazy", epochs=1, batch_size=30, seed=seed)
        run = fit(recipe, load("iris"), out=tmp_path / str(k))
        assert torch.equal(torch.get_rng_state(), before)
        weights.append(read_tensors(run.path / "weights.safetensors")["body.0.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
