"""The engine against plain PyTorch loops, over models, optimisers and techniques, in float64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from populations import CALM, SMALL, ZOO, narrow
from processes import run_script
from torch import nn

from danlu import Data, Recipe, fit, load
from danlu.errors import RecipeError
from danlu.export.plain_loop import as_code
from danlu.models import MODELS
from danlu.nn.init import INITS, USES_STD
from danlu.nn.layers import dropout_source
from danlu.optim import Optimizer
from danlu.optim.optimizers import OPTIMIZERS
from danlu.optim.schedules import SCHEDULES
from danlu.recipe.build import build_model
from danlu.rng import stream

TECHNIQUES: dict[str, dict[str, Any]] = {
    "plain": {},
    "penalties": {"penalty": {"l1": 0.5, "l2": 0.5}},
    "clipping": {"clip": {"norm": 0.5, "value": 0.1}},
    "smoothing": {"loss": {"label_smoothing": 0.1, "class_weights": "balanced"}},
    "explicit": {"loss": "cross-entropy-explicit"},
    "decay": {"decay": 0.3},
    "schedule": {"schedule": {"name": "one-cycle", "warmup": 0.5}},
}
MODEL_TECHNIQUES: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.4},
    "norm-before": {"batch_norm": "before"},
    "norm-after": {"batch_norm": "after"},
    "layer-norm": {"layer_norm": "before"},
    "residual": {"residual": True, "hidden": (8, 8, 6), "layer_norm": "after", "dropout": 0.3},
    "selu": {"activation": "selu"},
    "factor": {"phm_n": 2},
}


def recipe_for(model: str, optimizer: str, technique: str) -> Recipe:
    section = narrow(model) | MODEL_TECHNIQUES.get(technique, {})
    fields = dict(TECHNIQUES.get(technique, {}))
    rule = {"name": optimizer, "weight_decay": fields.pop("decay", 0.0)}
    rule |= {"lr": OPTIMIZERS[optimizer].defaults["lr"] * CALM[model]} if model in ZOO else {}
    return Recipe(model=section, optimizer=rule, batch_size=13, epochs=2, dtype="float64", **fields)


def hand_written(recipe: Recipe, data: Data) -> dict[str, torch.Tensor]:
    """A loop as anyone would write it: autograd, penalties in the loss, the optimiser's public class."""
    model = build_model(recipe, data.schema)
    weights = [p for p in model.parameters() if p.ndim >= 2]
    biases = [p for p in model.parameters() if p.ndim < 2]
    hyper = recipe.optimizer.model_dump(exclude_none=True, exclude={"name"})
    optimizer = Optimizer(
        [{"params": weights}, {"params": biases, "weight_decay": 0.0}],
        recipe.optimizer.name,
        **hyper,
    )
    x, y = data.part("train")
    x = data.normalizer(recipe.normalize).to("cpu", torch.float64)(x)
    w = None
    if recipe.loss.class_weights == "balanced":
        counts = torch.bincount(y)
        w = (counts.sum() / (3 * counts)).double()
    steps, k, eps = -(-len(x) // recipe.batch_size), 0, recipe.loss.label_smoothing
    for epoch in range(recipe.epochs):
        for batch in torch.randperm(len(x), generator=stream(recipe.seed, "order", epoch)).split(
            recipe.batch_size
        ):
            s = recipe.schedule
            if k < s.warmup * steps:
                rate = min(1.0, (k + 1) / (s.warmup * steps))
            else:
                rate = SCHEDULES[s.name].factor(
                    k / steps - s.warmup, recipe.epochs - s.warmup, s.model_dump(exclude_none=True)
                )
            for group in optimizer.param_groups:
                group["lr"] = recipe.optimizer.lr * rate
            with dropout_source(stream(recipe.seed, "dropout", k)):
                out = model(x[batch])
            heads = out if isinstance(out, tuple) else (out,)
            loss = torch.zeros(())
            for weight, head in zip((1.0, 0.3, 0.3), heads, strict=False):
                log_p = F.log_softmax(head, 1)
                soft = torch.full_like(log_p, eps / 2).scatter_(1, y[batch, None], 1 - eps)
                per = torch.ones(len(batch)) if w is None else w[y[batch]]
                loss = loss - weight * ((soft * log_p).sum(1) * per).sum() / len(batch)
            m, p = len(x), recipe.penalty
            loss = loss + sum(
                p.l1 / (2 * m) * (v**2 + p.eps).sqrt().sum() + p.l2 / (2 * m) * (v**2).sum()
                for v in weights
            )
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip.norm:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip.norm)
            if recipe.clip.value:
                nn.utils.clip_grad_value_(model.parameters(), recipe.clip.value)
            optimizer.step()
            k += 1
    return model.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 1e-7) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


CASES = [
    *[(m, o, "plain") for m in sorted(SMALL) for o in sorted(OPTIMIZERS)],
    *[(m, "momentum", t) for m in sorted(SMALL) for t in TECHNIQUES],
    *[(m, "momentum", "plain") for m in ZOO],
    *[
        (m, "adam", t)
        for m in sorted(SMALL)
        for t, f in MODEL_TECHNIQUES.items()
        if set(f) <= set(MODELS[m].defaults)
    ],
]


@pytest.mark.parametrize(("model", "optimizer", "technique"), CASES)
def test_a_fit_equals_a_hand_written_loop(
    pictures: Data, tmp_path: Path, model: str, optimizer: str, technique: str
) -> None:
    recipe = recipe_for(model, optimizer, technique)
    run = fit(recipe, pictures, out=tmp_path / "run")
    same(run.model().state_dict(), hand_written(recipe, pictures))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x + torch.tanh(self.inner(x)))


def test_an_imported_module_trains_by_autograd(tmp_path: Path) -> None:
    data = load("iris")
    recipe = Recipe(
        model=f"{__name__}:Residual", dtype="float64", batch_size=32, epochs=3, optimizer="adagrad"
    )
    run = fit(recipe, data, out=tmp_path / "run")
    same(run.model().state_dict(), hand_written(recipe, data))


class Noisy(nn.Module):
    """Somebody's network with the framework's own dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def test_an_imported_module_s_dropout_is_drawn_by_the_recipe_s_seed(tmp_path: Path) -> None:
    recipe, ends = Recipe(model=f"{__name__}:Noisy", epochs=3, batch_size=32), []
    for k in range(2):
        torch.manual_seed(k)  # whatever else draws in this process
        ends.append(fit(recipe, load("iris"), out=tmp_path / str(k)).model().state_dict())
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])


CODE = {
    "softmax": ["model=softmax", "optimizer=sgd"],
    "everything": [
        "model.dropout=0.2",
        "model.batch_norm=after",
        "optimizer=adamw",
        "schedule=cosine",
        "schedule.warmup=1",
        "penalty.l1=0.1",
        "penalty.l2=0.1",
        "clip.norm=1",
        "clip.value=0.5",
        "loss.label_smoothing=0.1",
        "loss.class_weights=balanced",
        "augment.rotate=10",
        "augment.crop=1",
        "augment.noise=0.1",
        "early_stopping.patience=1",
        "init=orthogonal",
    ],
    "sampled": [
        "sample.share=0.5",
        "sample.bootstrap=true",
        "data_seed=3",
        "penalty.l2=0.1",
        "loss.class_weights=balanced",
    ],
    "blocks": [
        "model=vgg11",
        "model.width=0.0625",
        "model.hidden=16,8",
        "model.dropout=0.2",
        "model.batch_norm=before",
    ],
    "residual": ["model=resnet18", "model.width=0.0625", "lr=0.0001"],
    "factorised": [
        "model.factor=2",
        "loss=cross-entropy-explicit",
        "optimizer=rmsprop",
        "normalize=whiten",
    ],
}


@pytest.mark.parametrize("name", sorted(CODE))
@pytest.mark.parametrize("source", ["digits", "diabetes"])
def test_the_exported_plain_loop_gives_the_same_numbers(
    name: str, source: str, tmp_path: Path
) -> None:
    wanted = [
        w
        for w in CODE[name]
        if source == "digits" or not w.startswith(("loss", "augment.r", "augment.c"))
    ]
    if source == "diabetes" and name in ("blocks", "residual"):
        pytest.skip("these networks take pictures")
    if source == "diabetes":
        wanted = [w for w in wanted if not w.startswith("model=softmax")]
    recipe = Recipe(epochs=3, dtype="float64").with_(wanted)
    script = tmp_path / "loop.py"
    script.write_text(as_code(recipe, source))
    refuse_undefined_names(script)
    last = run_script(script).splitlines()[-1].split()
    run = fit(recipe, load(source), out=tmp_path / "run")
    assert float(last[2].rstrip(",")) == pytest.approx(run.result["test_loss"], abs=2e-6)
    assert float(last[-1]) == pytest.approx(run.result[f"test_{run.metric}"], abs=2e-6)


def refuse_undefined_names(script: Path) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=F821"]
    found = subprocess.run([*command, str(script)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    "field", ["average=ema", "accumulate=2", "dtype=bf16-mixed", "model=googlenet", "model=lstm"]
)
def test_recipes_without_a_plain_loop_are_refused(field: str) -> None:
    with pytest.raises(
        RecipeError, match=r"is not written into plain loops; try \S+=|reads text is not written"
    ):
        as_code(Recipe().with_([field]), "digits")


def test_equal_recipes_give_equal_bits(tmp_path: Path) -> None:
    recipe = Recipe.read("digits").with_(["epochs=3", "model.dropout=0.2", "augment.rotate=5"])
    a, b = (
        fit(recipe, load("digits"), out=tmp_path / str(i)).model().state_dict() for i in range(2)
    )
    assert all(torch.equal(a[k], b[k]) for k in a)
    c = fit(recipe.with_(seed=1), load("digits"), out=tmp_path / "c").model().state_dict()
    assert not torch.equal(a["output.weight"], c["output.weight"])


@pytest.mark.parametrize("name", sorted(INITS))
def test_every_init_is_set_by_recipe(name: str) -> None:
    spread = {"std": 0.5} if name in USES_STD else {}
    model = build_model(Recipe(init={"name": name, "bias": 0.25, **spread}), load("iris").schema)
    assert float(model.dense1.bias.detach()[0]) == 0.25
    if spread:
        assert float(model.dense2.weight.detach().std()) == pytest.approx(0.5, rel=0.1)
