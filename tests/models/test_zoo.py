"""The networks of the notes against their papers: parameters, values, published names, sizes they refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import PUBLISHED, STAGES, VGG, outputs

from danlu import Data, Recipe, fit, load
from danlu.data import Schema
from danlu.errors import ModelError, RecipeError, RunError
from danlu.models import MODELS, build
from danlu.models.summary import summarise
from danlu.nn.layers import Dropout
from danlu.runs.run import build_model

AUTO = {"name": "auto", "std": None, "bias": 0.0}
ZOO = [k for k, m in MODELS.items() if "width" in m.defaults]
SMALLER = {"width": 1 / 16}


def fields_of(name: str, **given: Any) -> dict[str, Any]:
    hidden = {"hidden": (12, 8)} if MODELS[name].defaults.get("hidden") else {}
    return {**MODELS[name].defaults, **hidden, **given}


@pytest.mark.parametrize("name", ZOO)
def test_published_counts(name: str) -> None:
    with torch.device("meta"):
        model = MODELS[name].build((3, 224, 224), 1000, **MODELS[name].defaults)
    n = sum(p.numel() for k, p in model.named_parameters() if not k.startswith("aux"))
    assert n == PUBLISHED.get(name, n)
    assert (name in PUBLISHED) or name in ("zfnet", "zfnet-lecture", "vgg-narrow", "googlenet-naive", "googlenet-factorised")


def test_what_the_notes_say_of_sizes() -> None:
    """GoogLeNet a fraction of AlexNet, its reductions and small kernels each save; ZFNet's filters; the notes' narrow VGG."""
    n = {}
    for name in ("googlenet", "googlenet-naive", "googlenet-factorised", "zfnet", "zfnet-lecture", "vgg-narrow"):
        with torch.device("meta"):
            n[name] = MODELS[name].build(
                (3, 224, 224), 1000, **{**MODELS[name].defaults, **({"auxiliary": 0.0} if "goog" in name else {})}
            )
    count = {k: sum(p.numel() for p in m.parameters()) for k, m in n.items()}
    assert count["googlenet-factorised"] < count["googlenet"] < count["googlenet-naive"]
    assert 8 < PUBLISHED["alexnet-ungrouped"] / count["googlenet"] < 12
    assert [m.out_channels for m in n["zfnet"].modules() if isinstance(m, torch.nn.Conv2d)] == [96, 256, 512, 512, 1024]
    assert [m.out_channels for m in n["zfnet-lecture"].modules() if isinstance(m, torch.nn.Conv2d)] == [96, 256, 512, 1024, 512]
    layers = [m for m in n["googlenet"].modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(layers) == 3 + 9 * 6 + 1  # 22 deep: of an inception two lie one after another
    own = build("vgg-narrow", (3, 32, 32), 10, MODELS["vgg-narrow"].defaults, AUTO, 0)
    assert sum(p.numel() for p in own.parameters()) == 9_231_114  # features 9,225,984 and a head for the classes there are
    assert own.classifier[-1].weight.shape == (10, 512)  # type: ignore[index,union-attr]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("side", [28, 32, 64, 96])  # the last is large: the stem is the published one
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
        wide = 4 if name == "resnet-50" else 1
        conv("conv1", 4, 3, 7, False)
        norm("bn1", 4)
        c = 4
        for stage, blocks in enumerate(STAGES[name], 1):
            w = 4 * 2 ** (stage - 1)
            for i in range(blocks):
                at = f"layer{stage}.{i}"
                for k, (q, n, f) in enumerate([(w, c, 1), (w, w, 3), (4 * w, w, 1)] if wide == 4 else [(w, c, 3), (w, w, 3)], 1):
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
        for k, q, c, f in ((0, 4, 3, 11), (3, 12, 4, 5), (6, 24, 12, 3), (8, 16, 24, 3), (10, 16, 16, 3)):
            conv(f"features.{k}", q, c, f, True)
        for k, q, n in ((1, 12, 16 * 36), (4, 8, 12), (6, 5, 8)):
            dense(f"classifier.{k}", q, n)
    return found


@pytest.mark.parametrize("name", ["resnet-18", "resnet-50", "vgg-16", "vgg-11", "alexnet-torch"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_published_weights_load_by_name(name: str, suffix: str, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    tensors = {k: torch.randn(shape, generator=g) for k, shape in public_names(name).items()}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({f"module.{k}": v for k, v in tensors.items()} if name == "vgg-11" else tensors, path)
    else:
        from safetensors.torch import save_file

        save_file(tensors, path)
    hidden = {"hidden": (12, 8)} if "hidden" in MODELS[name].defaults else {}
    recipe = Recipe(model={"name": name, **SMALLER, **hidden, "stem": "full"}, init={"from_run": str(path)})
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
    shapes: dict[str, tuple[int, ...]] = {f"{k}.conv.weight": (q, c, f, f) for k, (q, c, f) in convs.items()}
    norms = ("weight", "bias", "running_mean", "running_var")
    shapes |= {f"{k}.bn.{v}": (q,) for k, (q, _, _) in convs.items() for v in norms}
    shapes |= {f"{k}.bn.num_batches_tracked": () for k in convs}
    for k, (q, c) in {"aux1.fc1": (1024, 2048), "aux1.fc2": (5, 1024), "fc": (5, 1024)}.items():
        for at in (k, k.replace("aux1", "aux2")):
            shapes |= {f"{at}.weight": (q, c), f"{at}.bias": (q,)}
    g = torch.Generator().manual_seed(0)
    published = {k: torch.randn(v, generator=g) if v else torch.tensor(3) for k, v in shapes.items()}
    torch.save(published, tmp_path / "googlenet.pth")
    recipe = Recipe(model={"name": "googlenet-torch", "stem": "full"}, init={"from_run": str(tmp_path / "googlenet.pth")})
    found = build_model(recipe, Schema("classification", (3, 96, 96), tuple("abcde"))).state_dict()
    assert set(found) == set(published) and all(torch.equal(found[k], v) for k, v in published.items())


@pytest.mark.parametrize("name", ["zfnet", "zfnet-lecture"])
def test_zfnet_has_the_paper_s_sizes(name: str) -> None:
    model = MODELS[name].build((3, 224, 224), 10, **{**MODELS[name].defaults, "width": 1 / 32, "hidden": (8, 8)})
    sides = [r.output[1] for r in summarise(model, (3, 224, 224)) if r.kind in ("Conv2d", "MaxPool2d")]
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
            {"name": "vgg-16", "stem": "full"},
            (3, 16, 16),
            "`features.30` needs an input of at least 2×2, but gets 1×1 from images of",
        ),
        (
            {"name": "alexnet"},
            (1, 8, 8),
            "`features.12` needs an input of at least 3×3, but gets 1×1 from .* \\(--resize\\), or another",
        ),
        ({"name": "googlenet", "stem": "full"}, (3, 9, 9), "`maxpool3` needs an input of at least 2×2, but gets 1×1"),
        (
            {"name": "googlenet"},
            (3, 4, 4),
            "`maxpool4` needs an input of at least 2×2, but gets 1×1 .* \\(--resize\\), or another",
        ),
        ({"name": "resnet-18"}, (7,), "'resnet-18' needs pictures"),
        ({"name": "googlenet"}, (28, 28), "'googlenet' needs pictures .* of shape 28×28; try model=dense"),
    ],
)
def test_sizes_that_cannot_be_are_named(model: dict[str, Any], shape: tuple[int, ...], said: str) -> None:
    name = model["name"]
    with pytest.raises(ModelError, match=said):
        build(name, shape, 5, {**MODELS[name].defaults, **SMALLER, **{k: v for k, v in model.items() if k != "name"}}, AUTO, 0)


@pytest.fixture(scope="module")
def coloured() -> Data:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    return load(((rng.integers(0, 160, (90, 3, 32, 32)) + 20 * y[:, None, None, None]).astype(np.uint8), y))


def test_a_start_by_prefix(coloured: Data, tmp_path: Path) -> None:
    """Whole, by prefix, frozen, with a rate of its own."""
    model = {"name": "resnet-18", **SMALLER}
    first = fit(Recipe(model=model, batch_size=16, epochs=1), coloured, out=tmp_path / "first")
    weights = first.model().state_dict()
    body = ("conv1", "bn1", "layer")

    def after(**init: Any) -> dict[str, torch.Tensor]:
        k = len(list(tmp_path.iterdir()))
        init = {"from_run": str(first.path), **init}
        recipe = Recipe(model=model, init=init, optimizer={"name": "sgd", "lr": 1e-3}, batch_size=16, epochs=1, seed=1)
        return fit(recipe, coloured, out=tmp_path / f"run{k}").model().state_dict()

    held = after(prefix=body, frozen=True)
    for k, v in held.items():  # running statistics stay, too
        assert torch.equal(v, weights[k]) == (not k.startswith("fc")), k
    whole, slow = after(prefix=body), after(prefix=body, lr_factor=0.01)
    moved = {k: (v - weights[k]).abs().max() for k, v in whole.items() if k.startswith("layer") and k.endswith("conv1.weight")}
    moved_slowly = {k: (slow[k] - weights[k]).abs().max() for k in moved}
    assert all(0 < moved_slowly[k] < 0.05 * moved[k] for k in moved)
    assert (slow["fc.bias"]).abs().max() > 0
    fresh = after(prefix=("conv1",))
    assert (fresh["layer1.0.conv1.weight"] - weights["layer1.0.conv1.weight"]).abs().max() > 0.05


def test_weights_that_do_not_fit_are_listed(coloured: Data, tmp_path: Path) -> None:
    model = {"name": "resnet-18", **SMALLER}
    schema = Schema("classification", (3, 32, 32), tuple("abcdefg"))
    torch.save(build_model(Recipe(model=model), schema).state_dict(), tmp_path / "seven.pth")
    recipe = Recipe(model=model, init={"from_run": str(tmp_path / "seven.pth")}, batch_size=16)
    said = (
        r"'.*seven.pth' does not fit this network: 2 of its 102 weights differ or are missing there: "
        r"`fc.weight` is \(7, 32\) instead of \(3, 32\), `fc.bias`"
    )
    with pytest.raises(ModelError, match=said) as e:
        fit(recipe, coloured, out=tmp_path / "run")
    assert "init.prefix=conv1.,bn1.,layer1.,layer2.,layer3.,layer4." in str(e.value)
    for init, wrong in (
        ({"prefix": ("head",)}, "no weight's name begins so; the network has conv1, bn1, layer1"),
        ({"prefix": ("conv1", "bn1", "layer"), "frozen": True}, ""),
    ):
        fields = {**recipe.init.model_dump(exclude_none=True), **init}
        if wrong:
            with pytest.raises(ModelError, match=wrong):
                build_model(Recipe(model=model, init=fields), coloured.schema)
        else:
            build_model(Recipe(model=model, init=fields), coloured.schema)
    whole = Recipe(model={**model}, init={"from_run": str(tmp_path / "seven.pth"), "frozen": True})
    with pytest.raises(ModelError, match="leaves nothing to train"):
        build_model(whole, schema)


def test_files_that_hold_no_weights(coloured: Data, tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights here")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.ckpt")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04" + bytes(40))
    for name, said in (
        ("text.pth", "damaged or no safetensors file"),
        ("none.pt", "no weights by name"),
        ("list.pt", "no weights by name"),
        ("cut.pth", "damaged, or holds more than weights"),
        ("whole.ckpt", "holds more than weights; save model.state_dict\\(\\) there"),
    ):
        with pytest.raises(RunError, match=said):
            build_model(Recipe(model="vgg-narrow", init={"from_run": str(tmp_path / name)}), coloured.schema)
    with pytest.raises(RunError, match="must be a finished run or a file of weights"):
        build_model(Recipe(model="vgg-narrow", init={"from_run": str(tmp_path / "absent.pth")}), coloured.schema)


def test_weights_that_are_no_numbers(coloured: Data, tmp_path: Path) -> None:
    """NaN and complex numbers are refused; the kind of a file is seen from its bytes, whatever its name."""
    recipe = Recipe(model={"name": "resnet-18", **SMALLER})
    good = build_model(recipe, coloured.schema).state_dict()
    for k, (bad, said) in enumerate(((good["fc.bias"] / 0, "holds NaN or inf"), (good["fc.bias"] * 1j, "is of complex"))):
        torch.save({**good, "fc.bias": bad}, tmp_path / f"{k}.pth.tar")
        with pytest.raises(ModelError, match=f"1 of its 102 weights differ .*`fc.bias` {said}"):
            build_model(recipe.with_(**{"init.from_run": str(tmp_path / f"{k}.pth.tar")}), coloured.schema)
    torch.save({"state_dict": good}, tmp_path / "good.ckpt", _use_new_zipfile_serialization=False)
    found = build_model(recipe.with_(seed=1, **{"init.from_run": str(tmp_path / "good.ckpt")}), coloured.schema)
    assert all(torch.equal(v, good[k]) for k, v in found.state_dict().items())
    torch.save({"fc.bias": good["fc.bias"], "odd": good["fc.bias"]}, tmp_path / "one.pth")
    with pytest.raises(
        ModelError, match="101 of its 102 weights differ or are missing there, 1 weight of that file is not in it"
    ):
        build_model(recipe.with_(**{"init.from_run": str(tmp_path / "one.pth")}), coloured.schema)


def test_tensors_of_other_kinds_are_refused(coloured: Data, tmp_path: Path) -> None:
    recipe = Recipe(model={"name": "resnet-18", **SMALLER})
    good = build_model(recipe, coloured.schema).state_dict()
    row = torch.zeros_like(good["fc.weight"])
    huge = row.double() + 1e300  # of which float32 makes infinity
    quantised = torch.quantize_per_tensor(row, 0.1, 0, torch.qint8)
    for k, (bad, said) in enumerate(((row.to_sparse(), "sparse"), (quantised, "quantised"), (huge, "holds NaN or infinite"))):
        torch.save({**good, "fc.weight": bad}, tmp_path / f"{k}.pth")
        with pytest.raises(ModelError, match=f"`fc.weight` (is )?{said}"):
            build_model(recipe.with_(**{"init.from_run": str(tmp_path / f"{k}.pth")}), coloured.schema)


def test_counts_of_batches_that_do_not_fit_are_counted(coloured: Data, tmp_path: Path) -> None:
    recipe = Recipe(model={"name": "resnet-18", **SMALLER})
    good = build_model(recipe, coloured.schema).state_dict()
    torch.save({**good, "bn1.num_batches_tracked": torch.zeros(1)}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"1 of its 103 weights differ or are missing there: `bn1\.num_batches_tracked` is"):
        build_model(recipe.with_(**{"init.from_run": str(tmp_path / "c.pth")}), coloured.schema)
    torch.save({**{f"model.{k}": v for k, v in good.items()}, "loss.weight": torch.ones(3)}, tmp_path / "more.pth")
    with pytest.raises(ModelError, match=r"network: 1 weight of that file is not in it: `loss\.weight` is not in the network"):
        build_model(recipe.with_(**{"init.from_run": str(tmp_path / "more.pth")}), coloured.schema)


@pytest.mark.parametrize("wrapped", ["module.", "model.", "_orig_mod.", "module.net."])
def test_what_a_wrapper_put_before_every_name_is_taken_off(wrapped: str, coloured: Data, tmp_path: Path) -> None:
    recipe = Recipe(model={"name": "resnet-18", **SMALLER})
    good = build_model(recipe, coloured.schema).state_dict()
    torch.save({f"{wrapped}{k}": v for k, v in sorted(good.items(), reverse=True)}, tmp_path / "w.pth")
    found = build_model(recipe.with_(seed=1, **{"init.from_run": str(tmp_path / "w.pth")}), coloured.schema).state_dict()
    assert all(torch.equal(v, good[k]) for k, v in found.items())


def test_the_way_out_of_a_deeper_file_leads_out(coloured: Data, tmp_path: Path) -> None:
    deep, flat = (Recipe(model={"name": k, **SMALLER}) for k in ("resnet-34", "resnet-18"))
    torch.save(build_model(deep, coloured.schema).state_dict(), tmp_path / "deep.pth")
    start = {"init.from_run": str(tmp_path / "deep.pth")}
    with pytest.raises(ModelError, match="weights of that file are not in it") as e:
        build_model(flat.with_(**start), coloured.schema)
    way = str(e.value).rpartition("init.prefix=")[2].split(",")
    assert way == ["conv1.", "bn1.", "fc."]
    build_model(flat.with_(**start, **{"init.prefix": tuple(way)}), coloured.schema)


# The smallest of each kind, and the deepest of all; narrow, with the stem for small pictures.
LEARN = ("alexnet", "zfnet", "vgg-11", "vgg-narrow", "googlenet", "googlenet-torch", "resnet-18", "resnet-152")


@pytest.mark.parametrize("name", LEARN)
def test_networks_learn(name: str, coloured: Data, tmp_path: Path) -> None:
    """Three classes of brightness: far better than by chance, whose loss is ln 3."""
    fields = {k: v for k, v in {"dropout": 0.0, "hidden": (32,)}.items() if MODELS[name].defaults.get(k)}
    model = {"name": name, "width": 1 / 8, "stem": "small", **fields}
    recipe = Recipe(model=model, optimizer={"name": "adam", "lr": 1e-3}, batch_size=9, epochs=10)
    run = fit(recipe, coloured, out=tmp_path / "run")
    assert run.history[-1]["train_loss"] < 0.75 * math.log(3)
    assert run.history[-1]["train_accuracy"] > 0.6


def test_dropout_of_auxiliary_classifiers_gives_no_spread(coloured: Data, tmp_path: Path) -> None:
    x = coloured.part("test")[0]
    for name, fields, way in (
        ("googlenet", {"dropout": 0.0}, "train with model.dropout=0.5"),
        ("resnet-18", {}, "train one that can"),
    ):
        run = fit(Recipe(model={"name": name, "width": 1 / 16, **fields}, batch_size=16, epochs=1), coloured, out=tmp_path / name)
        with pytest.raises(RunError, match=f"`samples` needs a network with dropout, but this one has none; {way}"):
            run.predict(x, samples=3)


def test_a_file_of_weights_runs_no_code(coloured: Data, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"fc.weight": Evil()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(RunError, match="holds more than weights"):
            build_model(Recipe(model="vgg-narrow", init={"from_run": str(tmp_path / name)}), coloured.schema)
    assert not (tmp_path / "ran").exists()


def test_a_finished_run_needs_its_start_no_more(coloured: Data, tmp_path: Path) -> None:
    model = {"name": "vgg-narrow", **SMALLER}
    torch.save(build_model(Recipe(model=model), coloured.schema).state_dict(), tmp_path / "start.pth")
    run = fit(
        Recipe(model=model, init={"from_run": str(tmp_path / "start.pth")}, epochs=1, batch_size=16),
        coloured,
        out=tmp_path / "run",
    )
    (tmp_path / "start.pth").unlink()
    assert all(p.requires_grad for p in run.model().parameters())
    assert run.evaluate(coloured).accuracy == pytest.approx(run.result["test_accuracy"])


def test_fields_of_a_start_need_one() -> None:
    for init, said in (({"frozen": True}, "`init.frozen` needs `init.from_run`"), ({"prefix": ("a",)}, "`init.prefix` needs"),
                       ({"from_run": "x", "frozen": True, "lr_factor": 0.1}, "`init.lr_factor` must be left out")):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            Recipe(init=init)
