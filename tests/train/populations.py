"""What the tests of populations train, and what they hold it against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from danlu import Data, Recipe, fit
from danlu.models import MODELS
from danlu.optim.optimizers import OPTIMIZERS
from danlu.optim.schedules import SCHEDULES
from danlu.runs import Study

WARMUPS = (0.0, 0.5, 0, 1.0, 0.0)
LATE_SCHEDULES = ({"name": "plateau", "wait": 1, "gamma": 0.5}, {"name": "warm-restarts", "period": 1.5, "growth": 2.0, "warmup": 0.5},
                  {"name": "plateau", "wait": 2}, "one-cycle", {"name": "plateau", "wait": 1, "warmup": 1.0})  # fmt: skip


# What each technique gives to five members; None leaves a member as it is.
TECHNIQUES: dict[str, list[dict[str, Any]]] = {
    "plain": [{}] * 5,
    "penalties": [{"penalty": p} for p in ({"l1": 0.5}, {"l2": 0.5}, {"l1": 0.1, "l2": 2.0}, {}, {"l1": 0.3, "eps": 1e-4})],
    "clipping": [{"clip": c} for c in ({"norm": 0.5}, {"value": 0.01}, {"norm": 0.1, "value": 0.1}, {}, {"norm": 1e6})],
    "smoothing": [{"loss": {"label_smoothing": e}} for e in (0.0, 0.1, 0.3, 0.05, 0.0)],
    "balanced": [{"loss": {"label_smoothing": e, "class_weights": "balanced"}} for e in (0.0, 0.1, 0.0, 0.2, 0.0)],
    "explicit": [{"loss": {"name": "cross-entropy-explicit", "label_smoothing": e}} for e in (0.0, 0.1, 0.0, 0.2, 0.0)],
    "decay": [{"decay": d} for d in (0.0, 0.3, 0.1, 1.0, 0.0)],
    "augmentation": [{"augment": a} for a in ({}, {"rotate": 9.0}, {"crop": 1, "flip": True}, {"noise": 0.1}, {"rotate": 9.0})],
    "normalisation": [{"normalize": n} for n in ("zscore", "minmax", "zscore", "none", "whiten")],
    "sample": [{"sample": s} for s in ({"share": 0.4}, {"bootstrap": True}, {"folds": 3, "fold": 1},
                                       {"share": 0.5, "bootstrap": True, "seed": 4}, {"folds": 5, "fold": 4, "seed": 1})],
    "init": [{"init": i} for i in ("auto", {"name": "normal", "std": 0.05}, {"name": "normal", "std": 0.2}, "orthogonal", "he")],
    "early stopping": [{"early_stopping": {"patience": p}, "epochs": 6} for p in (0, 1, 2, 1, 3)],
    "epochs": [{"epochs": e} for e in (1, 3, 2, 4, 2)],
    "ema": [{"average": {"name": "ema", "decay": d}} for d in (0.9, 0.5, 0.0, 0.9, 0.99)],
    "swa": [{"average": {"name": "swa", "start": s}, "epochs": e} for s, e in ((0.5, 2), (0, 3), (0.5, 4), (0.25, 3), (0, 1))],
    "accumulation": [{"accumulate": 3, "average": "ema", "schedule": s} for s in ("step", "cosine", "step", "cosine", "step")],
    "schedules": [{"schedule": {"name": s, "warmup": w}, "epochs": 3} for s, w in zip(SCHEDULES, WARMUPS, strict=False)],
    "late schedules": [{"schedule": s, "epochs": 6} for s in LATE_SCHEDULES],
    "robust scaling": [{"normalize": n} for n in ("robust", "clipped", "robust", "zscore", "clipped")],
    "pictures changed": [{"augment": a} for a in ({"cutout": 2}, {"brightness": 0.5, "invert": 0.5}, {}, {"invert": 0.3, "cutout": 1, "noise": 0.1}, {"cutout": 3})],
    "resampled": [{"sample": {"resample": True, "seed": s}} for s in (0, 1, 0, 7, 1)],
    "mixup": [{"augment": {"mixup": a}, "loss": {"label_smoothing": e}} for a, e in ((0.2, 0.0), (1.0, 0.1), (0.0, 0.0), (0.2, 0.3), (1.0, 0.0))],
}  # fmt: skip


MODEL_TECHNIQUES: dict[str, list[dict[str, Any]]] = {
    "dropout": [{"dropout": p} for p in (0.0, 0.2, 0.5, 0.2, 0.7)],
    "norm-before": [{"batch_norm": "before"}] * 5,
    "norm-after": [{"batch_norm": "after", "dropout": p} for p in (0.0, 0.2, 0.5, 0.0, 0.7)],
    "layer-norm": [{"layer_norm": "before", "dropout": p} for p in (0.0, 0.2, 0.5, 0.0, 0.7)],
    "residual": [
        {"residual": True, "hidden": (8, 8, 6), "layer_norm": "after", "dropout": p}
        for p in (0.0, 0.2, 0.5, 0.0, 0.7)
    ],
    "selu": [{"activation": "selu", "dropout": p} for p in (0.0, 0.2, 0.5, 0.0, 0.7)],
    "phm": [{"phm_n": 2, "dropout": p} for p in (0.0, 0.2, 0.5, 0.0, 0.7)],
}


# Networks made for large pictures, a thirty-second as wide, for small ones.
ZOO = [k for k, m in MODELS.items() if "width" in m.defaults]
SMALL = [k for k, m in MODELS.items() if k not in ZOO and not m.reads_text]
# Through a hundred layers two channels wide gradients grow, and rounding with them.
CALM = {**dict.fromkeys(ZOO, 0.01), "resnet101": 1e-4, "resnet152": 1e-5}


def narrow(model: str) -> dict[str, Any]:
    """The model section of a test."""
    section: dict[str, Any] = {"name": model}
    if "kernel_size" in MODELS[model].defaults:
        section["kernel_size"] = (
            3 if model == "cnn-wide" else 5
        )  # 3: odd sides, which only autograd can pool
    if model in ZOO:
        section |= {"width": 1 / 32, "stem": "small"}
        section |= {"hidden": (8, 6)} if MODELS[model].defaults.get("hidden") else {}
    return section


SEEDS = [
    {"seed": 0},
    {"seed": 1},
    {"seed": 0, "data_seed": 5},
    {"seed": 2},
    {"seed": 3, "data_seed": 5},
]


def members(model: str, optimizer: str, technique: str) -> list[Recipe]:
    """Five recipes of one structure that differ in every number they can."""
    out = []
    for i, seeds in enumerate(SEEDS):
        section = narrow(model)
        fields = dict(TECHNIQUES[technique][i]) if technique in TECHNIQUES else {}
        section |= MODEL_TECHNIQUES[technique][i] if technique in MODEL_TECHNIQUES else {}
        rule: dict[str, Any] = {"name": optimizer, "weight_decay": fields.pop("decay", 0.0)}
        for name, value in OPTIMIZERS[optimizer].defaults.items():
            if name == "lr":
                # Half the units dropped and a large rate make rounding grow a hundredfold in an epoch.
                calm = (
                    0.1
                    if optimizer == "sgd" and technique in MODEL_TECHNIQUES
                    else CALM.get(model, 1.0)
                )
                rule["lr"] = calm * value * (1, 0.5, 2, 0.1, 1)[i]
            elif name == "eps":
                rule["eps"] = value * (1, 100, 1, 10, 1)[i]
            elif name != "weight_decay":
                rule[name] = 1 - (1 - value) * (1, 2, 1, 3, 0.5)[i]
        out.append(
            Recipe(
                **{
                    "model": section,
                    "optimizer": rule,
                    "batch_size": 13,
                    "epochs": 2,
                    "dtype": "float64",
                    **seeds,
                    **fields,
                }
            )
        )
    return out


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != "seconds"}


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 1e-7) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def equals(study: Study, i: int, recipe: Recipe, data: Data, path: Path) -> None:
    """Member i of the study against the recipe trained alone: weights, curve, final figures."""
    alone = fit(recipe, data, out=path)
    close(study.weights(i), alone.model().state_dict())
    own, theirs = [*study.history(i), study.results[i]], [*alone.history, alone.result]
    assert len(own) == len(theirs)
    for a, b in zip(own, theirs, strict=True):
        assert untimed(a) == pytest.approx(untimed(b), rel=1e-6, abs=1e-8)


def equal_alone(study: Study, recipes: Sequence[Recipe], data: Data, path: Path) -> None:
    """Every member of the study against its recipe trained alone."""
    for i, recipe in enumerate(recipes):
        equals(study, i, recipe, data, path / f"alone{i}")


def plain(rows: Any) -> Any:
    return [{k: v for k, v in r.items() if k != "seconds"} for r in rows]


def assert_same(a: Study, b: Study) -> None:
    assert a.status == b.status == "finished"
    lines = [r.member for r in a.members.values()]
    assert sorted(lines) == list(range(len(a)))
    assert [*map(untimed, a.results)] == [*map(untimed, b.results)]
    for i in range(len(a)):
        x, y = a.weights(i), b.weights(i)
        assert all(torch.equal(x[k], y[k]) for k in y)
        assert [*map(untimed, a.history(i))] == [*map(untimed, b.history(i))]
    assert a.measurements().equals(b.measurements())
