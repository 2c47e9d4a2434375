"""Bias and variance of one network: danlu against mlxtend with skorch, on the same networks and training sets.

    python benchmarks/bias_variance.py [--repeats 5] [--replicates 200] [--source digits] [--hidden 64] [--batch 64]

Both train as many networks, each on a bootstrap sample of the training part, for the same epochs and batch size, and
decompose the 0–1 loss on the test part (`mlxtend.evaluate.bias_variance_decomp`). skorch trains as its documentation has
it, without a validation split and without callbacks that print. Interleaved, each measurement in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

from measure import faster, interleaved, machine

EPOCHS, LR = 10, 0.003
PEERS = ("danlu", "mlxtend")


def by_danlu(asked: argparse.Namespace) -> dict[str, float]:
    import danlu

    data = danlu.load(asked.source)
    recipe = danlu.Recipe(
        model={"name": "dense", "hidden": (asked.hidden,)},
        optimizer={"name": "adam", "lr": LR},
        batch_size=asked.batch,
        epochs=EPOCHS,
        init="torch",
        seed=asked.seed,
        sample={"seed": asked.seed},
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = danlu.decompose(
            recipe, data, replicates=asked.replicates, part="test", out=Path(folder) / "d"
        )
        seconds = time.perf_counter() - start
    (parts, _) = found.found[0]
    return {
        "seconds": seconds,
        "loss": parts.loss.mean,
        "bias": parts.bias.mean,
        "variance": parts.variance.mean,
    }


def by_mlxtend(asked: argparse.Namespace) -> dict[str, float]:
    import numpy as np
    import torch
    from mlxtend.evaluate import bias_variance_decomp
    from skorch import NeuralNetClassifier
    from torch import nn

    import danlu

    data = danlu.load(asked.source)
    normalize = data.normalizer("zscore")
    x, y = {}, {}
    for part in ("train", "test"):
        raw, target = data.part(part)
        x[part] = normalize(raw).flatten(1).numpy().astype(np.float32)
        y[part] = target.numpy().astype(np.int64)
    torch.manual_seed(asked.seed)
    features, classes = x["train"].shape[1], data.schema.outputs

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Linear(features, asked.hidden), nn.ReLU(), nn.Linear(asked.hidden, classes)
        )

    net = NeuralNetClassifier(
        network,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=LR,
        max_epochs=EPOCHS,
        batch_size=asked.batch,
        train_split=None,
        verbose=0,
        callbacks__print_log=None,
        iterator_train__shuffle=True,
    )
    start = time.perf_counter()
    loss, bias, variance = bias_variance_decomp(
        net, x["train"], y["train"], x["test"], y["test"], loss="0-1_loss",
        num_rounds=asked.replicates, random_seed=asked.seed,
    )  # fmt: skip
    return {
        "seconds": time.perf_counter() - start,
        "loss": loss,
        "bias": bias,
        "variance": variance,
    }


def main() -> None:
    """Measure as a worker, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--source", default="digits")
    parser.add_argument("--hidden", type=int, default=64, help="units of the hidden layer")
    parser.add_argument("--batch", type=int, default=64, help="examples of a batch")
    parser.add_argument("--worker", choices=PEERS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.worker:
        run = by_danlu if asked.worker == "danlu" else by_mlxtend
        print(json.dumps(run(asked)))
        return
    names = ("replicates", "source", "hidden", "batch")
    options = {name: getattr(asked, name) for name in names}
    found = interleaved(__file__, PEERS, asked.repeats, seeds=True, **options)
    print(f"{machine()}\n")
    print(
        f"{asked.replicates} networks with {asked.hidden} hidden units on {asked.source}, batches of {asked.batch}, "
        f"{EPOCHS} epochs, median of {asked.repeats} (lowest to highest)\n"
    )
    print("| | seconds | 0–1 loss | bias | variance | danlu faster by |")
    print("|---|---|---|---|---|---|")
    for peer in PEERS:
        rows = found[peer]
        cells = []
        for name in ("seconds", "loss", "bias", "variance"):
            values = sorted(row[name] for row in rows)
            middle = values[len(values) // 2]
            cells.append(f"{middle:.4g} ({values[0]:.4g} to {values[-1]:.4g})")
        print(f"| {peer} | {' | '.join(cells)} | {faster(found, peer)} |")


if __name__ == "__main__":
    main()
