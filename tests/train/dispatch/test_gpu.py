"""The same on a GPU as on a CPU, to rounding; skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from populations import close

from danlu import Data, Recipe, fit, load
from danlu.nn.cells import CELLS
from danlu.nn.scan import scan
from danlu.train import train

pytestmark = pytest.mark.gpu


def test_a_gpu_ends_near_the_cpu_s_test_loss(tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, model={"name": "dense", "dropout": 0.1})
    a, b = (
        fit(recipe, load("digits"), out=tmp_path / d, device=d).result["test_loss"]
        for d in ("cpu", "cuda")
    )
    assert a == pytest.approx(b, rel=1e-3)


@pytest.mark.parametrize(
    "section", [{}, {"phm_n": 2}, {"batch_norm": "after"}], ids=["chain", "vmap", "norm"]
)
def test_a_population_on_a_gpu_ends_near_the_one_on_the_cpu(
    tmp_path: Path, section: dict[str, Any]
) -> None:
    """Together there, too, and nearly the numbers of here: dropout, clipping, weights of examples, late joiners."""
    recipes = [
        Recipe(
            epochs=e,
            seed=s,
            model={"name": "dense", "dropout": p, **section},
            clip={"norm": c},
            augment={"rotate": r},
        )
        for s, (e, p, c, r) in enumerate(
            ((3, 0.0, 1.0, 0.0), (1, 0.2, 0.0, 5.0), (2, 0.1, 0.5, 0.0), (2, 0.2, 1.0, 5.0))
        )
    ]
    if "batch_norm" not in section:  # which refuses examples without weight
        recipes = [
            r.with_(["sample.bootstrap=true", f"sample.seed={k}"]) for k, r in enumerate(recipes)
        ]
    here, there = (
        train(recipes, load("digits"), out=tmp_path / d, device=d) for d in ("cpu", "cuda")
    )
    assert [p["population_size"] for p in there.info["plans"]] == [4], "none one by one"
    for a, b in zip(here.results, there.results, strict=True):
        assert a["test_loss"] == pytest.approx(b["test_loss"], rel=1e-2)


@pytest.fixture(scope="module")
def coloured() -> Data:
    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    return load(
        ((rng.integers(0, 160, (150, 3, 32, 32)) + 20 * y[:, None, None, None]).astype(np.uint8), y)
    )


@pytest.mark.parametrize(
    "model", ["alexnet", "zfnet", "vgg-narrow", "googlenet", "resnet18", "resnet50"]
)
def test_picture_networks_agree_on_gpu_and_cpu_alone_and_together(
    model: str, coloured: Data, tmp_path: Path
) -> None:
    """Alone in float64 as on the CPU, together as alone, and by bfloat16 not far off."""
    hidden = {"hidden": (12, 8)} if model in ("alexnet", "zfnet") else {}
    section = {"name": model, "width": 1 / 16, "stem": "small", **hidden}
    recipe = Recipe(
        model=section,
        optimizer={"name": "sgd", "lr": 1e-3},
        batch_size=25,
        epochs=1,
        dtype="float64",
    )
    recipe = recipe.with_(**{"augment.crop": 2, "augment.flip": True})
    here, there = (
        fit(recipe, coloured, out=tmp_path / d, device=d).model().cpu().state_dict()
        for d in ("cpu", "cuda")
    )
    close(here, there, 1e-8)
    recipes = [recipe.with_(seed=k) for k in range(3)]
    study = train(recipes, coloured, out=tmp_path / "study", device="cuda")
    assert [p["population_size"] for p in study.info["plans"]] == [3]
    for k, own in enumerate(recipes):
        close(
            study.weights(k),
            fit(own, coloured, out=tmp_path / str(k), device="cuda").model().cpu().state_dict(),
            1e-8,
        )
    full, mixed = (
        fit(recipe.with_(dtype=t), coloured, out=tmp_path / t, device="cuda").result["test_loss"]
        for t in ("float32", "bf16-mixed")
    )
    assert mixed == pytest.approx(full, rel=0.05)


@pytest.mark.parametrize("name", sorted(CELLS))
def test_recurrent_cells_agree_on_a_gpu(name: str) -> None:
    g, cell = torch.Generator().manual_seed(0), CELLS[name]
    shapes = (
        (7, 4, cell.gates * 5),
        (5, cell.gates * 5),
        (cell.extras, 5),
        (4, 5),
        (4, 5) if cell.memory else (0,),
    )
    args = [torch.randn(s, generator=g, dtype=torch.float64) for s in shapes]
    found = []
    for device in ("cpu", "cuda"):
        own = [a.to(device, copy=True).requires_grad_() for a in args]  # leaves on both
        h, c = scan(name, *own)
        (h.square().sum() + c.sum()).backward()
        found.append([h.detach().cpu(), *(a.grad.cpu() for a in own if a.grad is not None)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("source", ["names", "dna", "prose", "dates"])
def test_text_networks_agree_on_gpu_and_cpu_alone_and_together(
    name: str, source: str, tmp_path: Path
) -> None:
    """Alone by the framework's kernels, together by ours; CRF, attention and carried states among them."""
    data = load(source, limit=120)
    task = data.schema.task
    section: dict[str, Any] = {
        "name": name,
        "hidden": (6, 5),
        "embedding": 4,
        "dropout": 0.2,
        "bidirectional": task != "language",
    }
    section |= {
        "crf": task == "tagging",
        "attention": task == "pairs",
        "stateful": task == "language",
    }
    recipe = Recipe(model=section, batch_size=20, epochs=1, dtype="float64")
    here, there = (fit(recipe, data, out=tmp_path / d, device=d) for d in ("cpu", "cuda"))
    close(here.model().state_dict(), there.model().cpu().state_dict(), 1e-6)
    assert there.evaluate(data, "test").loss == pytest.approx(here.result["test_loss"], rel=1e-5)
    recipes = [recipe.with_(seed=k, **{"optimizer.lr": 1e-3 * (k + 1)}) for k in range(3)]
    study = train(recipes, data, out=tmp_path / "study", device="cuda")
    assert [p["population_size"] for p in study.info["plans"]] == [3]
    for k, own in enumerate(recipes):
        close(
            study.weights(k),
            fit(own, data, out=tmp_path / str(k), device="cuda").model().cpu().state_dict(),
            1e-6,
        )


def test_networks_that_share_their_batches_train_together_on_a_gpu(
    coloured: Data, tmp_path: Path
) -> None:
    """In float32, in which cuDNN rounds to TF32, and with a batch whose layout is chosen."""
    pictures = Recipe(
        model={"name": "resnet18", "width": 1 / 16, "stem": "small"}, batch_size=25, epochs=1
    )
    text = Recipe(model={"name": "lstm", "hidden": (64,), "embedding": 16}, batch_size=50, epochs=1)
    for name, recipe, data in (
        ("pictures", pictures, coloured),
        ("text", text, load("dna", limit=400)),
    ):
        recipes = [recipe.with_(seed=k, data_seed=0) for k in range(3)]
        study = train(recipes, data, out=tmp_path / name, device="cuda")
        (plan,) = study.info["plans"]
        assert not plan["is_surprising"], plan["reason"]
