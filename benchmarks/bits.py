"""Digests of the final weights of recipes that cover every way of training.

Two versions of danlu that train alike print the same lines on the same machine:

    python benchmarks/bits.py > before.txt
    (another checkout) python benchmarks/bits.py > after.txt; diff before.txt after.txt
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import danlu
from danlu.train import train

sys.path.insert(0, str(Path(__file__).parent))
os.environ["PYTHONPATH"] = str(Path(__file__).parent)

IMAGES = {"epochs": 2, "batch_size": 32}


def custom_network(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A stranger's network, with dropout and batch normalisation of PyTorch's own."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(int(np.prod(input_shape)), 12),
        nn.BatchNorm1d(12),
        nn.SiLU(),
        nn.Dropout(0.2),
        nn.Linear(12, outputs),
    )


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A digest of tensors, names and bits."""
    found = hashlib.blake2b(digest_size=8)
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


# Recipes of one training: overrides as on the command line, and the data.
SINGLE: list[tuple[str, str, Sequence[str]]] = [
    ("dense chain", "digits", ["model=dense", "optimizer=adam"]),
    (
        "small convolutions, unfolded",
        "digits",
        ["model=cnn", "model.kernel_size=3", "model.padding=1"],
    ),
    (
        "convolutions by the library",
        "pictures",
        ["model=cnn", "model.channels=32,32", "model.batch_norm=before"],
    ),
    (
        "residual network by autograd",
        "pictures",
        ["model=resnet-18", "model.width=0.1", "optimizer=momentum"],
    ),
    ("auxiliary classifiers", "pictures", ["model=googlenet", "model.width=0.1"]),
    ("bfloat16", "pictures", ["model=vgg-narrow", "model.width=0.1", "dtype=bf16-mixed"]),
    ("a stranger's network", "digits", ["model=bits:custom_network", "augment.noise=0.1"]),
    (
        "penalties, clipping, schedule",
        "digits",
        ["penalty.l1=0.01", "penalty.l2=0.1", "clip.norm=1", "schedule=cosine"],
    ),
    (
        "accumulation, averages",
        "digits",
        ["accumulate=3", "average=ema", "optimizer=adagrad", "model.dropout=0.3"],
    ),
    (
        "augmented pictures",
        "pictures",
        ["model=cnn", "augment.flip=true", "augment.crop=2", "augment.rotate=10"],
    ),
    (
        "language model with carried state",
        "text",
        ["model=lstm", "model.hidden=12", "model.carry=true", "clip.norm=1"],
    ),
    ("classifier of texts", "dna", ["model=gru", "model.hidden=12", "model.dropout=0.2"]),
    (
        "tagger with a CRF",
        "names",
        ["model=lstm", "model.hidden=8", "model.bidirectional=true", "model.crf=true"],
    ),
    (
        "encoder-decoder",
        "dates",
        ["model=lstm", "model.cell=gru-before", "model.hidden=12", "model.attention=true"],
    ),
]
# Populations: variants of one structure each, beside others.
MANY: list[tuple[str, str, Sequence[Sequence[str]]]] = [
    (
        "population of chains",
        "digits",
        [
            ["optimizer.lr=0.1"],
            ["optimizer.lr=0.01", "seed=1", "model.dropout=0.2"],
            ["sample.bootstrap=true", "epochs=4"],
            ["early_stopping.patience=1", "epochs=5", "optimizer.lr=0.5"],
            ["optimizer.lr=1e30", "seed=3"],
        ],
    ),
    (
        "population by vmap",
        "pictures",
        [
            ["model=resnet-18", "model.width=0.1", f"optimizer.lr={lr}", f"seed={seed}"]
            for lr in (0.01, 0.1)
            for seed in (0, 1)
        ],
    ),
    (
        "population of taggers",
        "names",
        [
            ["model=lstm", "model.hidden=8", "model.crf=true", f"optimizer.lr={lr}", "accumulate=2"]
            for lr in (0.01, 0.1)
        ],
    ),
    (
        "population of language models",
        "text",
        [["model=gru", "model.hidden=8", f"seed={s}", "model.dropout=0.1"] for s in (0, 1, 2)],
    ),
]


def sources() -> dict[str, danlu.Data]:
    """The data by name, all small."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.integers(0, 160, (120, 3, 32, 32)) + 20 * y[:, None, None, None]
    named = {name: danlu.load(name, limit=200) for name in ("digits", "dna", "names", "dates")}
    text = "".join(f"the cat of number {i} sat on mat {i * 7 % 11}.\n" for i in range(300))
    folder = Path(tempfile.mkdtemp())
    (folder / "text.txt").write_text(text)
    return {
        **named,
        "pictures": danlu.load((x.astype(np.uint8), y)),
        "text": danlu.load(folder / "text.txt"),
    }


def main() -> None:
    """Print a line for each training."""
    data = sources()
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        for k, (name, source, overrides) in enumerate(SINGLE):
            recipe = danlu.Recipe(**IMAGES).with_(list(overrides))
            run = danlu.fit(recipe, data[source], out=Path(home, f"single{k}"), device="cpu")
            print(f"{name:36}{digest(run.model().state_dict())}", flush=True)
        for k, (name, source, variants) in enumerate(MANY):
            recipes = [danlu.Recipe(**IMAGES).with_(list(v)) for v in variants]
            study = train(recipes, data[source], out=Path(home, f"many{k}"), device="cpu")
            for i in range(len(recipes)):
                print(f"{name + f', member {i}':36}{digest(study.weights(i))}", flush=True)


if __name__ == "__main__":
    main()
