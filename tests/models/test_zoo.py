"""The networks of the notes against their papers: parameters, values, published names, sizes they refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import PUBLISHED, STAGES, VGG, outputs

from danlu import Data, Recipe, fit
from danlu.data import Schema
from danlu.errors import ModelError, RunError
from danlu.models import MODELS, build
from danlu.models.summary import summarise
from danlu.nn.layers import Dropout
from danlu.recipe.build import build_model

AUTO = {"name": "auto", "std": None, "bias": 0.0}
ZOO = [k for k, m in MODELS.items() if "width" in m.defaults]
SMALLER = {"width": 1 / 16}


def fields_of(name: str, **given: Any) -> dict[str, Any]:
    hidden = {"hidden": (12, 8)} if MODELS[name].defaults.get("hidden") else {}
    return {**MODELS[name].defaults, **hidden, **given}


@pytest.mark.parametrize("name", ZOO)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = MODELS[name].build((3, 224, 224), 1000, **MODELS[name].defaults)
    n = sum(p.numel() for k, p in model.named_parameters() if not k.startswith("aux"))
    assert n == PUBLISHED.get(name, n)
    assert (name in PUBLISHED) or name in (
        "zfnet",
        "zfnet-lecture",
        "vgg-narrow",
        "googlenet-naive",
        "googlenet-factorised",
    )


def test_sizes_are_those_of_the_notes() -> None:
    """GoogLeNet a fraction of AlexNet, its reductions and small kernels each save; ZFNet's filters; the notes' narrow VGG."""
    n = {}
    for name in (
        "googlenet",
        "googlenet-naive",
        "googlenet-factorised",
        "zfnet",
        "zfnet-lecture",
        "vgg-narrow",
    ):
        with torch.device("meta"):
            n[name] = MODELS[name].build(
                (3, 224, 224),
                1000,
                **{**MODELS[name].defaults, **({"auxiliary": 0.0} if "goog" in name else {})},
            )
    count = {k: sum(p.numel() for p in m.parameters()) for k, m in n.items()}
    assert count["googlenet-factorised"] < count["googlenet"] < count["googlenet-naive"]
    assert 8 < PUBLISHED["alexnet-ungrouped"] / count["googlenet"] < 12
    assert [m.out_channels for m in n["zfnet"].modules() if isinstance(m, torch.nn.Conv2d)] == [
        96,
        256,
        512,
        512,
        1024,
    ]
    assert [
        m.out_channels for m in n["zfnet-lecture"].modules() if isinstance(m, torch.nn.Conv2d)
    ] == [96, 256, 512, 1024, 512]
    layers = [
        m for m in n["googlenet"].modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    assert len(layers) == 3 + 9 * 6 + 1  # 22 deep: of an inception two lie one after another
    own = build("vgg-narrow", (3, 32, 32), 10, MODELS["vgg-narrow"].defaults, AUTO, 0)
    assert (
        sum(p.numel() for p in own.parameters()) == 9_231_114
    )  # features 9,225,984 and a head for the classes there are
    assert own.classifier[-1].weight.shape == (10, 512)  # type: ignore[index,union-attr]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize(
    "side", [28, 32, 64, 96]
)  # the last is large: the stem is the published one
def test_outputs_are_those_of_the_paper(name: str, side: int) -> None:
    torch.manual_seed(0)
    model = build(name, (3, side, side), 5, fields_of(name, **SMALLER), AUTO, 1).double()
    x = torch.randn(3, 3, side, side, dtype=torch.float64)
    for m in model.modules():
        if isinstance(m, Dropout):
            m.p = 0.0
        if isinstance(m, torch.nn.BatchNorm2d):  # as after some training
            m.running_mean.normal_()  # type: ignore[union-attr]
            m.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    expected = outputs(name, dict(model.state_dict()), x, side <= 64)
    torch.testing.assert_close(model.eval()(x), expected[0], rtol=1e-9, atol=1e-9)
    if len(expected) > 1:
        model.training = True  # the whole, not its layers
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


def public_names(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes in PyTorch's published files, at a sixteenth of the width and five classes."""
    found: dict[str, tuple[int, ...]] = {}

    def conv(at: str, q: int, c: int, k: int, bias: bool) -> None:
        found[f"{at}.weight"] = (q, c, k, k)
        if bias:
            found[f"{at}.bias"] = (q,)

    def norm(at: str, q: int) -> None:
        found.update({f"{at}.{k}": (q,) for k in ("weight", "bias", "running_mean", "running_var")})

    def dense(at: str, q: int, n: int) -> None:
        found.update({f"{at}.weight": (q, n), f"{at}.bias": (q,)})

    if name.startswith("resnet"):
        wide = 4 if name == "resnet50" else 1
        conv("conv1", 4, 3, 7, False)
        norm("bn1", 4)
        c = 4
        for stage, blocks in enumerate(STAGES[name], 1):
            w = 4 * 2 ** (stage - 1)
            for i in range(blocks):
                at = f"layer{stage}.{i}"
                for k, (q, n, f) in enumerate(
                    [(w, c, 1), (w, w, 3), (4 * w, w, 1)] if wide == 4 else [(w, c, 3), (w, w, 3)],
                    1,
                ):
                    conv(f"{at}.conv{k}", q, n, f, False)
                    norm(f"{at}.bn{k}", q)
                if i == 0 and (stage > 1 or wide == 4):
                    conv(f"{at}.downsample.0", wide * w, c, 1, False)
                    norm(f"{at}.downsample.1", wide * w)
                c = wide * w
        dense("fc", 5, c)
    elif name.startswith("vgg"):
        k, c = 0, 3
        for what in VGG[name].split():
            if what != "M":
                conv(f"features.{k}", int(what) // 16, c, 3, True)
                c = int(what) // 16
            k += 1 if what == "M" else 2
        for k, q, n in ((0, 12, c * 49), (3, 8, 12), (6, 5, 8)):
            dense(f"classifier.{k}", q, n)
    elif name == "alexnet-torch":
        for k, q, c, f in (
            (0, 4, 3, 11),
            (3, 12, 4, 5),
            (6, 24, 12, 3),
            (8, 16, 24, 3),
            (10, 16, 16, 3),
        ):
            conv(f"features.{k}", q, c, f, True)
        for k, q, n in ((1, 12, 16 * 36), (4, 8, 12), (6, 5, 8)):
            dense(f"classifier.{k}", q, n)
    return found


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16", "vgg11", "alexnet-torch"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_published_weights_load_by_name(name: str, suffix: str, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    tensors = {k: torch.randn(shape, generator=g) for k, shape in public_names(name).items()}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(
            {f"module.{k}": v for k, v in tensors.items()} if name == "vgg11" else tensors, path
        )
    else:
        from safetensors.torch import save_file

        save_file(tensors, path)
    hidden = {"hidden": (12, 8)} if "hidden" in MODELS[name].defaults else {}
    recipe = Recipe(
        model={"name": name, **SMALLER, **hidden, "stem": "full"}, init={"weights": str(path)}
    )
    schema = Schema("classification", (3, 96, 96), tuple("abcde"))
    own = build_model(recipe, schema).state_dict()
    assert {k for k in own if not k.endswith("num_batches_tracked")} == set(tensors)
    assert all(torch.equal(own[k], v) for k, v in tensors.items())


INCEPTIONS = {  # Szegedy et al. 2014, table 1: channels in; 1×1; 3×3 reduced, 3×3; 5×5 reduced, 5×5; after the pooling
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def test_published_weights_of_googlenet_load_by_name(tmp_path: Path) -> None:
    """Names of the published file, and the shapes that the paper's table gives them (with 3×3 for 5×5)."""
    convs = {
        "conv1": (64, 3, 7),
        "conv2": (64, 64, 1),
        "conv3": (192, 64, 3),
        "aux1.conv": (128, 512, 1),
        "aux2.conv": (128, 528, 1),
    }
    for name, (n, one, less3, three, less5, five, pool) in INCEPTIONS.items():
        branches = {"1": (one, n, 1), "2.0": (less3, n, 1), "2.1": (three, less3, 3)}
        branches |= {"3.0": (less5, n, 1), "3.1": (five, less5, 3), "4.1": (pool, n, 1)}
        convs |= {f"inception{name}.branch{b}": of for b, of in branches.items()}
    shapes: dict[str, tuple[int, ...]] = {
        f"{k}.conv.weight": (q, c, f, f) for k, (q, c, f) in convs.items()
    }
    norms = ("weight", "bias", "running_mean", "running_var")
    shapes |= {f"{k}.bn.{v}": (q,) for k, (q, _, _) in convs.items() for v in norms}
    shapes |= {f"{k}.bn.num_batches_tracked": () for k in convs}
    for k, (q, c) in {"aux1.fc1": (1024, 2048), "aux1.fc2": (5, 1024), "fc": (5, 1024)}.items():
        for at in (k, k.replace("aux1", "aux2")):
            shapes |= {f"{at}.weight": (q, c), f"{at}.bias": (q,)}
    g = torch.Generator().manual_seed(0)
    published = {
        k: torch.randn(v, generator=g) if v else torch.tensor(3) for k, v in shapes.items()
    }
    torch.save(published, tmp_path / "googlenet.pth")
    recipe = Recipe(
        model={"name": "googlenet-torch", "stem": "full"},
        init={"weights": str(tmp_path / "googlenet.pth")},
    )
    found = build_model(recipe, Schema("classification", (3, 96, 96), tuple("abcde"))).state_dict()
    assert set(found) == set(published) and all(
        torch.equal(found[k], v) for k, v in published.items()
    )


@pytest.mark.parametrize("name", ["zfnet", "zfnet-lecture"])
def test_zfnet_has_the_paper_s_sizes(name: str) -> None:
    model = MODELS[name].build(
        (3, 224, 224), 10, **{**MODELS[name].defaults, "width": 1 / 32, "hidden": (8, 8)}
    )
    sides = [
        r.output[1] for r in summarise(model, (3, 224, 224)) if r.kind in ("Conv2d", "MaxPool2d")
    ]
    assert sides == [110, 55, 26, 13, 13, 13, 13, 6]


@pytest.mark.parametrize(
    ("model", "shape", "said"),
    [
        (
            {"name": "alexnet", "stem": "full"},
            (3, 30, 30),
            "`features.5` needs an input of at least 3×3, but gets 2×2 from images of 30×30; use larger images \\(--resize\\), "
            "`model.stem=small`, or another model",
        ),
        (
            {"name": "vgg16", "stem": "full"},
            (3, 16, 16),
            "`features.30` needs an input of at least 2×2, but gets 1×1 from images of",
        ),
        (
            {"name": "alexnet"},
            (1, 8, 8),
            "`features.12` needs an input of at least 3×3, but gets 1×1 from .* \\(--resize\\), or another",
        ),
        (
            {"name": "googlenet", "stem": "full"},
            (3, 9, 9),
            "`maxpool3` needs an input of at least 2×2, but gets 1×1",
        ),
        (
            {"name": "googlenet"},
            (3, 4, 4),
            "`maxpool4` needs an input of at least 2×2, but gets 1×1 .* \\(--resize\\), or another",
        ),
        ({"name": "resnet18"}, (7,), "'resnet18' needs pictures"),
        (
            {"name": "googlenet"},
            (28, 28),
            "'googlenet' needs pictures .* shape 28×28; try model=dense",
        ),
    ],
)
def test_sizes_too_small_for_a_network_are_named(
    model: dict[str, Any], shape: tuple[int, ...], said: str
) -> None:
    name = model["name"]
    with pytest.raises(ModelError, match=said):
        build(
            name,
            shape,
            5,
            {**MODELS[name].defaults, **SMALLER, **{k: v for k, v in model.items() if k != "name"}},
            AUTO,
            0,
        )


# The smallest of each kind, and the deepest of all; narrow, with the stem for small pictures.
LEARN = (
    "alexnet",
    "zfnet",
    "vgg11",
    "vgg-narrow",
    "googlenet",
    "googlenet-torch",
    "resnet18",
    "resnet152",
)


@pytest.mark.parametrize("name", LEARN)
def test_networks_learn(name: str, coloured: Data, tmp_path: Path) -> None:
    """Three classes of brightness: far better than by chance, whose loss is ln 3.

    In small batches the deepest network's loss jumps from epoch to epoch, by a processor's last
    bits. In halves of the data it does not: over three seeds it ended at 0.35·ln 3 and 81 %, or
    better.
    """
    fields = {
        k: v for k, v in {"dropout": 0.0, "hidden": (32,)}.items() if MODELS[name].defaults.get(k)
    }
    model = {"name": name, "width": 1 / 8, "stem": "small", **fields}
    recipe = Recipe(model=model, optimizer={"name": "adam", "lr": 1e-3}, batch_size=9, epochs=10)
    if name == "resnet152":
        calm = {"batch_size": 27, "epochs": 20, "optimizer.lr": 3e-3}
        recipe = recipe.with_(["schedule=cosine", "schedule.warmup=2"], **calm)
    run = fit(recipe, coloured, out=tmp_path / "run")
    assert run.history[-1]["train_loss"] < 0.75 * math.log(3)
    assert run.history[-1]["train_accuracy"] > 0.6


def test_auxiliary_classifiers_dropout_gives_no_spread(coloured: Data, tmp_path: Path) -> None:
    x = coloured.part("test")[0]
    for name, fields, way in (
        ("googlenet", {"dropout": 0.0}, "train one with model.dropout=0.5"),
        ("resnet18", {}, "train one that can"),
    ):
        run = fit(
            Recipe(model={"name": name, "width": 1 / 16, **fields}, batch_size=16, epochs=1),
            coloured,
            out=tmp_path / name,
        )
        with pytest.raises(
            RunError, match=f"`samples` needs a network with dropout, but this one has none; {way}"
        ):
            run.predict(x, samples=3)
