"""Weights to start from: by run, file and prefix, frozen; files and tensors that are refused; what is to be done then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from danlu import Data, Recipe, fit
from danlu.data import Schema
from danlu.errors import ModelError, RecipeError, RunError
from danlu.recipe.build import build_model

SMALLER = {"width": 1 / 16}


def test_initial_weights_by_prefix_train_stay_frozen_or_move_slowly(
    coloured: Data, tmp_path: Path
) -> None:
    """Whole, by prefix, frozen, with a rate of its own."""
    model = {"name": "resnet18", **SMALLER}
    first = fit(Recipe(model=model, batch_size=16, epochs=1), coloured, out=tmp_path / "first")
    weights = first.model().state_dict()
    body = ("conv1", "bn1", "layer")

    def after(**init: Any) -> dict[str, torch.Tensor]:
        k = len(list(tmp_path.iterdir()))
        init = {"weights": str(first.path), **init}
        recipe = Recipe(
            model=model,
            init=init,
            optimizer={"name": "sgd", "lr": 1e-3},
            batch_size=16,
            epochs=1,
            seed=1,
        )
        return fit(recipe, coloured, out=tmp_path / f"run{k}").model().state_dict()

    held = after(prefix=body, frozen=True)
    for k, v in held.items():  # running statistics stay, too
        assert torch.equal(v, weights[k]) == (not k.startswith("fc")), k
    whole, slow = after(prefix=body), after(prefix=body, lr_factor=0.01)
    moved = {
        k: (v - weights[k]).abs().max()
        for k, v in whole.items()
        if k.startswith("layer") and k.endswith("conv1.weight")
    }
    moved_slowly = {k: (slow[k] - weights[k]).abs().max() for k in moved}
    assert all(0 < moved_slowly[k] < 0.05 * moved[k] for k in moved)
    assert (slow["fc.bias"]).abs().max() > 0
    fresh = after(prefix=("conv1",))
    assert (fresh["layer1.0.conv1.weight"] - weights["layer1.0.conv1.weight"]).abs().max() > 0.05


def test_weights_that_do_not_fit_are_listed(coloured: Data, tmp_path: Path) -> None:
    model = {"name": "resnet18", **SMALLER}
    schema = Schema("classification", (3, 32, 32), tuple("abcdefg"))
    torch.save(build_model(Recipe(model=model), schema).state_dict(), tmp_path / "seven.pth")
    recipe = Recipe(model=model, init={"weights": str(tmp_path / "seven.pth")}, batch_size=16)
    said = (
        r"'.*seven.pth' does not fit this network: 2 of its 102 weights differ or are missing there: "
        r"`fc.weight` is \(7, 32\) instead of \(3, 32\), `fc.bias`"
    )
    with pytest.raises(ModelError, match=said) as e:
        fit(recipe, coloured, out=tmp_path / "run")
    assert "init.prefix=conv1.,bn1.,layer1.,layer2.,layer3.,layer4." in str(e.value)
    for init, wrong in (
        (
            {"prefix": ("head",)},
            "no weight's name begins with it; the network has conv1, bn1, layer1",
        ),
        ({"prefix": ("conv1", "bn1", "layer"), "frozen": True}, ""),
    ):
        fields = {**recipe.init.model_dump(exclude_none=True), **init}
        if wrong:
            with pytest.raises(ModelError, match=wrong):
                build_model(Recipe(model=model, init=fields), coloured.schema)
        else:
            build_model(Recipe(model=model, init=fields), coloured.schema)
    whole = Recipe(model={**model}, init={"weights": str(tmp_path / "seven.pth"), "frozen": True})
    with pytest.raises(ModelError, match="leaves nothing to train"):
        build_model(whole, schema)


def test_files_that_hold_no_weights_are_refused(coloured: Data, tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights here")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.ckpt")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04" + bytes(40))
    for name, said in (
        ("text.pth", "damaged or not a safetensors file"),
        ("none.pt", "no weights by name"),
        ("list.pt", "no weights by name"),
        ("cut.pth", "damaged, or holds more than weights"),
        ("whole.ckpt", "holds more than weights; save model.state_dict\\(\\) there"),
    ):
        with pytest.raises(RunError, match=said):
            build_model(
                Recipe(model="vgg-narrow", init={"weights": str(tmp_path / name)}), coloured.schema
            )
    with pytest.raises(RunError, match="must be a finished run or a file of weights"):
        build_model(
            Recipe(model="vgg-narrow", init={"weights": str(tmp_path / "absent.pth")}),
            coloured.schema,
        )


def test_weights_that_are_not_finite_are_refused(coloured: Data, tmp_path: Path) -> None:
    """NaN and complex numbers are refused; the kind of a file is seen from its bytes, whatever its name."""
    recipe = Recipe(model={"name": "resnet18", **SMALLER})
    good = build_model(recipe, coloured.schema).state_dict()
    for k, (bad, said) in enumerate(
        ((good["fc.bias"] / 0, "holds NaN or inf"), (good["fc.bias"] * 1j, "is complex"))
    ):
        torch.save({**good, "fc.bias": bad}, tmp_path / f"{k}.pth.tar")
        with pytest.raises(ModelError, match=f"1 of its 102 weights differ .*`fc.bias` {said}"):
            build_model(
                recipe.with_(**{"init.weights": str(tmp_path / f"{k}.pth.tar")}), coloured.schema
            )
    torch.save({"state_dict": good}, tmp_path / "good.ckpt", _use_new_zipfile_serialization=False)
    found = build_model(
        recipe.with_(seed=1, **{"init.weights": str(tmp_path / "good.ckpt")}), coloured.schema
    )
    assert all(torch.equal(v, good[k]) for k, v in found.state_dict().items())
    torch.save({"fc.bias": good["fc.bias"], "odd": good["fc.bias"]}, tmp_path / "one.pth")
    with pytest.raises(
        ModelError,
        match="101 of its 102 weights differ or are missing there, 1 weight of that file is not in it",
    ):
        build_model(recipe.with_(**{"init.weights": str(tmp_path / "one.pth")}), coloured.schema)


def test_tensors_of_other_kinds_are_refused(coloured: Data, tmp_path: Path) -> None:
    recipe = Recipe(model={"name": "resnet18", **SMALLER})
    good = build_model(recipe, coloured.schema).state_dict()
    row = torch.zeros_like(good["fc.weight"])
    huge = row.double() + 1e300  # of which float32 makes infinity
    quantised = torch.quantize_per_tensor(row, 0.1, 0, torch.qint8)
    for k, (bad, said) in enumerate(
        ((row.to_sparse(), "sparse"), (quantised, "quantised"), (huge, "holds NaN or infinite"))
    ):
        torch.save({**good, "fc.weight": bad}, tmp_path / f"{k}.pth")
        with pytest.raises(ModelError, match=f"`fc.weight` (is )?{said}"):
            build_model(
                recipe.with_(**{"init.weights": str(tmp_path / f"{k}.pth")}), coloured.schema
            )


def test_batch_counts_that_do_not_fit_are_listed_too(coloured: Data, tmp_path: Path) -> None:
    recipe = Recipe(model={"name": "resnet18", **SMALLER})
    good = build_model(recipe, coloured.schema).state_dict()
    torch.save({**good, "bn1.num_batches_tracked": torch.zeros(1)}, tmp_path / "c.pth")
    with pytest.raises(
        ModelError,
        match=r"1 of its 103 weights differ or are missing there: `bn1\.num_batches_tracked` is",
    ):
        build_model(recipe.with_(**{"init.weights": str(tmp_path / "c.pth")}), coloured.schema)
    torch.save(
        {**{f"model.{k}": v for k, v in good.items()}, "loss.weight": torch.ones(3)},
        tmp_path / "more.pth",
    )
    with pytest.raises(
        ModelError,
        match=r"network: 1 weight of that file is not in it: `loss\.weight` is not in the network",
    ):
        build_model(recipe.with_(**{"init.weights": str(tmp_path / "more.pth")}), coloured.schema)


@pytest.mark.parametrize("wrapped", ["module.", "model.", "_orig_mod.", "module.net."])
def test_prefixes_of_wrappers_are_taken_off_the_names(
    wrapped: str, coloured: Data, tmp_path: Path
) -> None:
    recipe = Recipe(model={"name": "resnet18", **SMALLER})
    good = build_model(recipe, coloured.schema).state_dict()
    torch.save(
        {f"{wrapped}{k}": v for k, v in sorted(good.items(), reverse=True)}, tmp_path / "w.pth"
    )
    found = build_model(
        recipe.with_(seed=1, **{"init.weights": str(tmp_path / "w.pth")}), coloured.schema
    ).state_dict()
    assert all(torch.equal(v, good[k]) for k, v in found.items())


def test_the_prefixes_proposed_for_a_deeper_file_load_it(coloured: Data, tmp_path: Path) -> None:
    deep, flat = (Recipe(model={"name": k, **SMALLER}) for k in ("resnet34", "resnet18"))
    torch.save(build_model(deep, coloured.schema).state_dict(), tmp_path / "deep.pth")
    start = {"init.weights": str(tmp_path / "deep.pth")}
    with pytest.raises(ModelError, match="weights of that file are not in it") as e:
        build_model(flat.with_(**start), coloured.schema)
    way = str(e.value).rpartition("init.prefix=")[2].split(",")
    assert way == ["conv1.", "bn1.", "fc."]
    build_model(flat.with_(**start, **{"init.prefix": tuple(way)}), coloured.schema)


def test_a_file_of_weights_runs_no_code(coloured: Data, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    torch.save({"fc.weight": Evil()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(RunError, match="holds more than weights"):
            build_model(
                Recipe(model="vgg-narrow", init={"weights": str(tmp_path / name)}), coloured.schema
            )
    assert not (tmp_path / "ran").exists()


def test_a_finished_run_loads_without_the_weights_it_started_from(
    coloured: Data, tmp_path: Path
) -> None:
    model = {"name": "vgg-narrow", **SMALLER}
    torch.save(
        build_model(Recipe(model=model), coloured.schema).state_dict(), tmp_path / "start.pth"
    )
    run = fit(
        Recipe(model=model, init={"weights": str(tmp_path / "start.pth")}, epochs=1, batch_size=16),
        coloured,
        out=tmp_path / "run",
    )
    (tmp_path / "start.pth").unlink()
    assert all(p.requires_grad for p in run.model().parameters())
    assert run.evaluate(coloured).accuracy == pytest.approx(run.result["test_accuracy"])


def test_fields_about_initial_weights_need_initial_weights() -> None:
    for init, said in (({"frozen": True}, "`init.frozen` needs `init.weights`"), ({"prefix": ("a",)}, "`init.prefix` needs"),
                       ({"weights": "x", "frozen": True, "lr_factor": 0.1}, "`init.lr_factor` must be left out")):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            Recipe(init=init)
