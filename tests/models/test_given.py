"""Networks as people write them: modules, functions, several inputs, outputs of other shapes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from danlu import Recipe, Run, compare, fit, load
from danlu.errors import DataError, DataNotice, ModelError, RecipeError, RunError
from danlu.models.external import build
from danlu.models.given import name_of


class Net(nn.Module):
    """Two layers and a sum over parts of the input, which no chain of layers is."""

    def __init__(self, outputs: int = 3, width: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last(h + x.sum(1, keepdim=True))


class InPlace(nn.Module):
    """Cannot be vectorised: it looks at a number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if float(x.sum()) > -1e9 else self.layer(-x)


def make(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(*input_shape, 6), nn.ReLU(), nn.Linear(6, outputs))


RECIPE = Recipe(epochs=4, batch_size=16)


def test_a_module_is_trained_as_a_copy_from_its_own_weights(tmp_path: Path) -> None:
    net, data = Net(), load("iris")
    before = {name: p.clone() for name, p in net.state_dict().items()}
    run = fit(net, data, recipe=RECIPE.with_(["lr=1e-9"]), out=tmp_path / "run")
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
    for name, p in run.model().state_dict().items():
        torch.testing.assert_close(p, before[name], atol=1e-5, rtol=0)  # from these it began
    again = fit(net, data, recipe=RECIPE, out=tmp_path / "a")
    twice = fit(net, data, recipe=RECIPE, out=tmp_path / "b")
    assert again.result["test_loss"] == twice.result["test_loss"]
    assert fit(net, data, out=tmp_path / "default").recipe.epochs == Recipe().epochs


@pytest.mark.parametrize("given", [Net, make, functools.partial(Net, width=5), lambda: Net(3, 2)])
def test_functions_and_classes_draw_new_weights_by_the_seed(given: Any, tmp_path: Path) -> None:
    data = load("iris")
    runs = [
        fit(given, data, recipe=RECIPE.with_(seed=seed), out=tmp_path / f"{k}")
        for k, seed in enumerate((0, 0, 1))
    ]
    first, same, other = (run.result["test_loss"] for run in runs)
    assert first == same != other
    assert runs[0].predict(data.part("test")[0]).values.shape == (30,)


def test_another_program_imports_it_or_is_given_one(tmp_path: Path, monkeypatch: Any) -> None:
    """Of a class the name suffices; of a closure the weights go into a network that is given."""
    from danlu.models import given

    data = load("iris")
    named = fit(Net(), data, recipe=RECIPE, out=tmp_path / "named")
    closure = fit(lambda: Net(3, 2), data, recipe=RECIPE, out=tmp_path / "closure")
    monkeypatch.setattr(given, "_given", {})  # another program knows none of them
    with pytest.raises(RunError, match="use --trust"):
        Run(named.path).model()
    x = data.part("test")[0]
    again = Run(named.path, trust=True)
    assert torch.equal(again.predict(x).values, named.predict(x).values)
    with pytest.raises(ModelError, match="was given as an object"):
        Run(closure.path, trust=True).model()
    mine = Run(closure.path).model(Net(3, 2))
    logits = mine(Run(closure.path).normalizer(x))
    right = (logits.argmax(1) == data.part("test")[1]).float().mean()
    assert float(right) == pytest.approx(closure.result["test_accuracy"])
    with pytest.raises(ModelError, match="does not fit"):
        Run(closure.path).model(Net(3, 5))


def test_networks_are_compared_vectorisable_or_not(tmp_path: Path) -> None:
    networks = {"mine": Net, "rigid": InPlace(), "zoo": "softmax"}
    found = compare(load("iris"), models=networks, recipe=RECIPE, seeds=3, out=tmp_path / "study")
    assert found.names == ["mine", "rigid", "zoo"]
    assert found.rows[0].verdict == "control"
    crossed = compare(
        load("iris"),
        {"optimizer.lr": [0.1, 0.01]},
        models={"a": Net(), "b": make},
        recipe=RECIPE,
        control="b optimizer.lr=0.1",
        seeds=2,
        out=tmp_path / "crossed",
    )
    assert crossed.names[3] == "b optimizer.lr=0.01"
    assert crossed.control == 2
    with pytest.raises(RecipeError, match="given twice"):
        compare(load("iris"), ["model=dense,softmax"], models=networks)


class Both(nn.Module):
    """A picture and a word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(10, 3), nn.Linear(9 + 3, 2)

    def forward(self, picture: Tensor, word: Tensor) -> Tensor:
        assert picture.shape[-2:] == (3, 3)
        assert word.dtype == torch.int64
        return self.layer(torch.cat([picture.flatten(1), self.words(word[:, 0])], 1))


def two_inputs(n: int = 120) -> tuple[dict[str, Any], Any]:
    rng = np.random.default_rng(0)
    word = rng.integers(0, 10, n)
    picture = rng.normal(size=(n, 3, 3)).astype(np.float32) * 50 + 100
    return {"picture": picture, "word": word}, (word > 4).astype(int)


def test_examples_may_have_several_inputs(tmp_path: Path) -> None:
    """By name, in a tuple, by part, or from a dataset: the network gets them apart."""
    x, y = two_inputs()
    data = load((x, y))
    recipe = Recipe(epochs=20, batch_size=16, optimizer={"lr": 0.03})
    run = fit(Both, data, recipe=recipe, out=tmp_path / "run")
    assert run.result["test_accuracy"] > 0.9
    few = {"word": x["word"][:5], "picture": x["picture"][:5]}  # in whatever order
    assert run.predict(few).labels == [str(label) for label in y[:5]]
    in_order = load(((torch.from_numpy(x["picture"]), torch.from_numpy(x["word"])), y))
    assert torch.equal(in_order.x, data.x)
    assert fit(Both, in_order, recipe=RECIPE, out=tmp_path / "order").status == "finished"
    rows = [({"picture": p, "word": w}, label) for p, w, label in zip(*x.values(), y, strict=True)]
    holder = type("Rows", (), {"__len__": lambda s: len(rows), "__getitem__": lambda s, i: rows[i]})
    assert torch.equal(load(holder()).x, data.x)
    parts = load({"train": (x, y), "test": (x, y)})
    assert parts.size("test") == 120
    found = compare(
        data,
        {"optimizer.lr": [0.1, 0.01]},
        recipe=run.recipe.with_(epochs=3),
        seeds=2,
        out=tmp_path / "study",
    )
    alone = fit(found.study.recipes[0], data, out=tmp_path / "alone")
    assert alone.result["valid_loss"] == pytest.approx(
        found.study.results[0]["valid_loss"], rel=1e-4
    )


def test_bad_inputs_are_sentences(tmp_path: Path) -> None:
    x, y = two_inputs()
    with pytest.raises(DataError, match="different numbers of examples: picture 120, word 7"):
        load(({**x, "word": x["word"][:7]}, y))
    with pytest.raises(DataError, match="NaN or infinite"):
        load(({**x, "picture": x["picture"] * np.nan}, y))
    with pytest.raises(DataError, match="y has the shape"):
        load((x, y[:9]))
    run = fit(Both, load((x, y)), recipe=RECIPE, out=tmp_path / "run")
    with pytest.raises(DataError, match="the inputs lack word"):
        run.predict({"picture": x["picture"]})
    with pytest.raises(DataError, match="must have the shapes"):
        run.predict({**x, "picture": x["picture"][:, :2]})


@pytest.mark.parametrize(
    "forward",
    [
        lambda z: z.squeeze(1),
        lambda z: z,
        lambda z: SimpleNamespace(logits=torch.cat([-z, z], 1)),
        lambda z: {"logits": torch.cat([-z, z], 1)},
    ],
)
def test_outputs_may_be_one_logit_or_an_object_with_logits(forward: Any, tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(30, 1)

        def forward(self, x: Tensor) -> Any:
            return forward(self.layer(x))

    recipe = Recipe(epochs=8, batch_size=16, optimizer={"lr": 0.03})
    run = fit(Own(), load("breast-cancer"), recipe=recipe, out=tmp_path / "run")
    assert run.result["test_accuracy"] > 0.9


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    data = load("iris")
    for given, words in (
        (3, "`network` is a int"),
        (lambda: 3, "it makes a int"),
        (nn.ReLU(), "no parameters"),
        (nn.Linear(7, 3), "cannot take examples of shape"),
        (nn.Linear(4, 2), "must give \\(2, 3\\)"),
    ):
        with pytest.raises((ModelError, RecipeError), match=words):
            fit(given, data, out=tmp_path / "run")
    with pytest.raises(RecipeError, match="given twice"):
        fit(Recipe(), data, recipe=Recipe())
    with pytest.warns(DataNotice, match="logits are expected"):
        fit(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), data, recipe=RECIPE, out=tmp_path / "p")


class Sloped(nn.Module):
    """What it computes depends on a number that is no weight."""

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        self.slope, self.layer = slope, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(nn.functional.leaky_relu(x, self.slope))


def test_another_program_makes_no_other_network_than_was_given(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """A slope of 1 is not that of the class; given one, the run predicts by it."""
    from danlu.models import given

    data = load("iris")
    run = fit(Sloped(slope=1.0), data, recipe=RECIPE, out=tmp_path / "run")
    x = data.part("test")[0]
    want = run.predict(x).probabilities
    monkeypatch.setattr(given, "_given", {})
    again = Run(run.path, trust=True)
    with pytest.raises(ModelError, match="was given as an object to another program"):
        again.model()
    again.model(Sloped(slope=1.0))
    torch.testing.assert_close(again.predict(x).probabilities, want)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_network_that_squeezes_takes_a_single_row(rows: int, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(10, 1), nn.Flatten(0))
    run = fit(net.to(torch.bfloat16).float(), load("diabetes"), out=tmp_path / "run")
    assert run.predict(load("diabetes").x[:rows]).values.shape == (rows,)
    again = fit(run.model(), load("diabetes"), recipe=RECIPE, out=tmp_path / "again")
    assert again.status == "finished"


class Configured(nn.Module):
    """What it computes depends on a function, a dictionary and a buffer that is not kept."""

    def __init__(self, act: Any = torch.relu, scale: float = 1.0, masked: bool = False) -> None:
        super().__init__()
        self.act, self.options, self.layer = act, {"scale": scale}, nn.Linear(4, 3)
        mask = torch.tensor([1.0, 0.0, 1.0, 1.0]) if masked else torch.ones(4)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.act(x * self.options["scale"] * self.mask))


@pytest.mark.parametrize("fields", [{"act": torch.tanh}, {"scale": 3.0}, {"masked": True}])
def test_what_is_no_weight_tells_networks_apart(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    from danlu.models import given

    torch.manual_seed(0)
    plain = Configured()
    other = Configured(**fields)
    other.load_state_dict(plain.state_dict())
    assert given.name_of(plain) != given.name_of(other)
    run = fit(other, load("iris"), recipe=RECIPE, out=tmp_path / "run")
    monkeypatch.setattr(given, "_given", {})
    again = Run(run.path, trust=True)
    with pytest.raises(ModelError, match="was given as an object to another program"):
        again.model()
    with pytest.raises(ModelError, match="does not give the outputs"):
        again.model(Configured())
    assert again.model(Configured(**fields)) is not None


def test_what_would_train_to_nothing_is_said_before(tmp_path: Path) -> None:
    data = load("iris")
    with pytest.raises(ModelError, match="all of its parameters are frozen"):
        fit(Net().requires_grad_(False), data, out=tmp_path / "frozen")
    with pytest.warns(DataNotice, match="leave out the last sigmoid"):
        net = nn.Sequential(nn.Linear(30, 1), nn.Sigmoid())
        fit(net, load("breast-cancer"), recipe=RECIPE, out=tmp_path / "sigmoid")
    few = fit(
        Net(), load((data.x[:150:3], data.y[:150:3])), recipe=Recipe(epochs=1), out=tmp_path / "few"
    )
    assert few.recipe.batch_size == few.data_info["sizes"]["train"] < 64
    assert few.evaluate((data.x, data.y)).n == 150
    with pytest.raises(RecipeError, match=r"must be a danlu\.Recipe"):
        fit(Net(), data, recipe={"epochs": 3})
    with pytest.raises(RecipeError, match="must name its networks"):
        compare(data, models=["dense", "softmax"])
    with pytest.raises(RunError, match="must be a module"):
        few.model(Net)


class OverTime(nn.Module):
    """Reads sequences [B, T, F]."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.cell, self.last = nn.GRU(3, 6, batch_first=True), nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cell(x)[0][:, -1])


class Embedded(nn.Module):
    """Looks whole numbers up."""

    def __init__(self, rows: int = 30) -> None:
        super().__init__()
        self.rows, self.last = nn.Embedding(rows, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.last(self.rows(ids).mean(1))


def test_sequences_reach_a_network_that_knows_no_channels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(120, 5, 3)).astype(np.float32)
    y = (x[:, -1, 0] > 0).astype(int)
    recipe = Recipe(epochs=15, batch_size=16, optimizer={"name": "adam", "lr": 0.02})
    run = fit(OverTime, (x, y), recipe=recipe, out=tmp_path / "run")
    assert run.result["train_accuracy"] > 0.9
    # Its file of weights fits the network as it was written.
    plain = OverTime()
    plain.load_state_dict(run.model().state_dict())
    scaled = run.normalizer(torch.from_numpy(x[:, None])).squeeze(1)
    said = plain(scaled).softmax(1)
    torch.testing.assert_close(run.predict(x).probabilities, said.detach(), atol=1e-5, rtol=0)


def test_whole_numbers_that_a_network_has_no_row_for_are_refused() -> None:
    ids = np.random.default_rng(0).integers(0, 30, size=(60, 5))
    y = np.arange(60) % 2
    with pytest.raises(ModelError, match=r"by the name of an input: \(\{\"ids\": x\}, y\)"):
        fit(Embedded, (ids, y), recipe=RECIPE)
    once = np.zeros_like(ids)
    once[17, 3] = 29  # in a single example
    with pytest.raises(ModelError, match="cannot take 'ids' of 0 to 29: index out of range"):
        fit(lambda: Embedded(20), ({"ids": once}, y), recipe=RECIPE)


def test_a_network_for_another_task_names_the_option() -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    with pytest.raises(ModelError, match='the target is 4 classes; task="regression"'):
        fit(lambda: nn.Linear(4, 1), (x, np.arange(60) % 4), recipe=RECIPE)


def test_sums_of_whole_numbers_are_looked_up_where_they_occur(tmp_path: Path) -> None:
    class OfSums(Embedded):
        def forward(self, ids: Tensor) -> Tensor:
            return self.last(self.rows(ids.sum(1)))

    ids = np.zeros((60, 3), int)
    ids[np.arange(60), np.arange(60) % 3] = np.arange(60) % 30  # no row sums to more than 29
    run = fit(OfSums, ({"ids": ids}, np.arange(60) % 2), recipe=RECIPE, out=tmp_path / "run")
    assert run.status == "finished"


def test_equal_functions_make_equal_networks() -> None:
    """However many functions of their name were given before."""

    def factory() -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

        return make

    drawn = []
    for _ in range(2):
        name = name_of(factory())
        network = build(name, (64,), 10, {}, seed=0)
        drawn.append(network.state_dict())
    for key, tensor in drawn[0].items():
        assert torch.equal(tensor, drawn[1][key])
