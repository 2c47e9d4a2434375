from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from danlu.errors import ModelError
from danlu.models import MODELS, build
from danlu.models.sizes import window
from danlu.models.summary import multiply_adds, summarise

AUTO = {"name": "auto", "std": 0.01, "bias": 0.0}


def make(
    name: str, shape: tuple[int, ...] = (1, 28, 28), seed: int = 0, **fields: object
) -> nn.Module:
    return build(
        name, shape, 10, {**(MODELS[name].defaults if name in MODELS else {}), **fields}, AUTO, seed
    )


COUNTS = [
    ("softmax", (1, 28, 28), {}, 7850),
    ("softmax-explicit", (1, 28, 28), {}, 7850),
    ("dense", (1, 28, 28), {"hidden": (8, 8)}, 6442),  # the notes' fully connected net
    ("cnn", (1, 28, 28), {}, 6422),  # the notes' convolutional net
    ("cnn-wide", (3, 32, 32), {}, 62006),  # the notes' 6·16·120·84·10
]


@pytest.mark.parametrize(("name", "shape", "fields", "count"), COUNTS)
def test_parameter_counts_are_those_of_the_notes(
    name: str, shape: tuple[int, ...], fields: dict[str, object], count: int
) -> None:
    assert sum(p.numel() for p in make(name, shape, **fields).parameters()) == count


@pytest.mark.parametrize("name", sorted(k for k, m in MODELS.items() if not m.reads_text))
@pytest.mark.parametrize(
    "shape",
    [
        (1, 28, 28),
        (3, 32, 32),
        (3, 64, 64),
        pytest.param((3, 128, 96), marks=pytest.mark.slow),
    ],
)
def test_sizes_by_formula_equal_the_outputs(name: str, shape: tuple[int, ...]) -> None:
    small = {"width": 0.125, "hidden": (16, 8)}
    model = make(name, shape, **{k: v for k, v in small.items() if MODELS[name].defaults.get(k)})
    rows = summarise(model, shape)
    assert all(r.by_formula == r.output for r in rows)
    assert rows[-1].output == (10,)
    assert sum(r.parameters for r in rows) == sum(p.numel() for p in model.parameters())


def test_the_window_formula_gives_the_output_size() -> None:
    assert window(28, 5) == 24
    assert window(224, 11, 4, 2) == 55
    assert window(7, 3, 2) == 3


def test_receptive_field_is_measured_by_gradients() -> None:
    """Which input pixels move one output of the last pooling."""
    model = make("cnn")
    rows = {r.name: r for r in summarise(model, (1, 28, 28))}
    x = torch.rand(1, 1, 28, 28, requires_grad=True)
    conv = nn.Sequential(
        *[
            m
            if not isinstance(m, (nn.ReLU, nn.MaxPool2d))
            else nn.AvgPool2d(2)
            if isinstance(m, nn.MaxPool2d)
            else nn.Identity()
            for m in list(model)[:6]
        ]
    )
    conv(x)[0, 0, 1, 1].backward()
    touched = (x.grad[0, 0] != 0).any(0).sum()
    assert rows["pool2"].receptive_field == int(touched) == 16


def test_the_receptive_field_through_branches_equals_the_gradients() -> None:
    """Of GoogLeNet's third branch: the pixels that move one value, by gradients of a network without a single weight below 0."""
    model = build(
        "googlenet",
        (3, 224, 224),
        5,
        {**MODELS["googlenet"].defaults, "width": 1 / 16, "auxiliary": 0.0},
        AUTO,
        0,
    )
    rows = {r.name: r.receptive_field for r in summarise(model, (3, 224, 224))}
    for p in model.parameters():
        nn.init.uniform_(p, 0.01, 0.1)
    for m in model.modules():
        for k, child in m.named_children():
            if isinstance(child, nn.MaxPool2d):  # a mean passes a gradient to all of its window
                setattr(
                    m,
                    k,
                    nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode),
                )
    seen = {}
    layer = model.get_submodule("inception3b.branch3.1.conv")
    layer.register_forward_hook(lambda m, a, out: seen.update(out=out))
    x = torch.rand(1, 3, 224, 224, requires_grad=True)
    model.eval()(x)
    seen["out"][0, 0, 14, 14].backward()
    touched = (x.grad[0, 0] != 0).any(0).sum()  # type: ignore[index]
    assert rows["inception3b.branch3.1.conv"] == int(touched) == 91


def test_multiply_adds_are_those_counted_by_hand() -> None:
    assert multiply_adds(make("dense", hidden=(8, 8)), (1, 28, 28)) == 784 * 8 + 64 + 80
    assert (
        multiply_adds(make("cnn"), (1, 28, 28))
        == 6 * 24 * 24 * 25 + 6 * 8 * 8 * 150 + 96 * 50 + 500
    )


def test_softmax_regression_starts_as_the_notes_say() -> None:
    model = make("softmax")
    assert float(model.output.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert (model.output.bias == 0).all()
    x = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(model(x), make("softmax-explicit")(x))


def test_batch_norm_is_placed_before_or_after_the_activation() -> None:
    for place, order in (
        ("before", ["dense1", "norm1", "relu1"]),
        ("after", ["dense1", "relu1", "norm1"]),
    ):
        names = [k for k, _ in make("dense", batch_norm=place).named_children()]
        assert names[1:4] == order


@pytest.mark.parametrize(
    ("shape", "fields", "words"),
    [
        ((1, 3, 3), {}, ["`pool2` needs an input of at least 2×2, but gets 1×1", "images of 3×3"]),
        ((1, 8, 8), {"channels": (4,) * 4}, ["`pool4` needs an input of at least 2×2"]),
        ((1, 1, 9), {}, ["`pool1` needs an input of at least 2×2, but gets 1×9"]),
        ((13,), {}, ["needs pictures", "model=dense"]),
    ],
)
def test_too_small_pictures_name_the_layer_and_both_sizes(
    shape: tuple[int, ...], fields: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(ModelError) as caught:
        make("cnn", shape, **fields)
    assert all(w in str(caught.value) for w in words)


@pytest.mark.parametrize("side", range(4, 28))
def test_pictures_that_the_windows_do_not_fit_get_half_a_window_of_zeros(side: int) -> None:
    model = make("cnn", (1, side, side))
    fits = (side - 4) // 2 - 4 >= 2
    assert {layer.padding for layer in model if isinstance(layer, torch.nn.Conv2d)} == {
        (0, 0) if fits else (2, 2)
    }
    assert model(torch.zeros(2, 1, side, side)).shape == (2, 10)


def test_phm_n_must_divide_inputs_and_outputs() -> None:
    with pytest.raises(
        ModelError,
        match=r"`model.phm_n` is 3, but must divide the 784 inputs and 64 outputs of `dense1`",
    ):
        make("dense", phm_n=3)
    plain, cheap = (
        sum(p.numel() for p in make("dense", hidden=(64,), phm_n=n).parameters()) for n in (1, 4)
    )
    assert plain - cheap == 784 * 64 * 3 // 4 - 4**3


def external(width: int = 3, outputs: int = 2, input_shape: tuple[int, ...] = ()) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(input_shape), width), nn.Linear(width, outputs)
    )


def wrong_width() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))


class Silent(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError


def says_nothing() -> nn.Module:
    return Silent(784, 10)


def fails_without_a_word() -> nn.Module:
    raise KeyError


def no_module() -> int:
    return 3


def test_a_factory_of_the_user_s_is_a_model() -> None:
    here = __name__
    a, b = (
        build(f"{here}:external", (1, 28, 28), 10, {"args": {"width": 7}}, AUTO, 5)
        for _ in range(2)
    )
    assert a[1].out_features == 7
    assert torch.equal(a[1].weight, b[1].weight)
    assert not torch.equal(
        a[1].weight,
        build(f"{here}:external", (1, 28, 28), 10, {"args": {"width": 7}}, AUTO, 6)[1].weight,
    )
    for path, words in (
        ("no.such.module:f", "cannot be imported"),
        (f"{here}:nothing", "has no callable 'nothing'"),
        (f"{here}:wrong_width", "gives (2, 3) for two examples, but must give (2, 10)"),
        (f"{here}:no_module", "it makes a int"),
        (f"{here}:says_nothing", "cannot take examples of shape (1, 28, 28): AssertionError"),
        (f"{here}:fails_without_a_word", "calling it failed: KeyError; give its arguments"),
    ):
        with pytest.raises(ModelError) as caught:
            build(path, (1, 28, 28), 10, {}, AUTO, 0)
        assert words in str(caught.value)
    with pytest.raises(ModelError, match=r"model\.args"):
        build(f"{here}:external", (1, 28, 28), 10, {"args": {"nope": 1}}, AUTO, 0)
    with pytest.raises(ModelError, match="cannot take examples"):
        build(f"{here}:wrong_width", (1, 3, 3), 10, {}, AUTO, 0)
