"""How often labels are called wrong (`label_noise`), be they right, hard to know, or wrong.

    python benchmarks/wrong_labels.py [--draws 6]

The rule is asked about the data alone; nothing is trained. Right labels: scikit-learn's sets and generators, the first
of MNIST, Fashion-MNIST and CIFAR-10 (looked for in DANLU_DATA). Weak ones are drawn from probabilities that hardly
depend on the inputs (logistic and softmax models, coins), or are quantiles of a number (diabetes). Wrong ones are the
right ones, of which a share became another class, drawn evenly.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measure import machine
from sklearn import datasets

from danlu import Data, load
from danlu.diagnosis.data_evidence import DataEvidence
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.rules.of_data import label_noise
from danlu.diagnosis.signs import Signs

SHARES = (0.1, 0.2, 0.35)
LIMITS = {"mnist": (300, 4000), "fashion-mnist-3600": (300, 2280), "cifar10": (1000, 2000, 6000)}


def as_data(x: np.ndarray, y: np.ndarray) -> Data:
    return load((x.astype(np.float32), y.astype(int)))


def right(draws: int) -> Iterator[Data]:
    for name in ("iris", "wine", "breast-cancer", "digits"):
        yield load(name)
    for name, limits in LIMITS.items():
        folder = Path(os.environ.get("DANLU_DATA", ".")) / name
        for limit in limits if folder.is_dir() else ():
            yield load(folder, limit=limit)
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        n, classes = int(rng.integers(300, 4000)), int(rng.integers(2, 9))
        yield as_data(*datasets.make_moons(n, noise=rng.uniform(0.1, 0.3), random_state=seed))
        yield as_data(
            *datasets.make_classification(
                n,
                30,
                n_informative=int(rng.integers(5, 15)),
                n_classes=classes,
                class_sep=rng.uniform(0.5, 1.5),
                flip_y=0,
                random_state=seed,
            )
        )
        yield as_data(
            *datasets.make_blobs(
                n,
                int(rng.integers(2, 10)),
                centers=classes,
                cluster_std=rng.uniform(1, 5),
                random_state=seed,
            )
        )


def weak(draws: int) -> Iterator[Data]:
    diabetes, target = datasets.load_diabetes(return_X_y=True)
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(target))
        for classes in (2, 3, 5):
            edges = np.quantile(target, np.arange(1, classes) / classes)
            yield as_data(diabetes[order], np.digitize(target, edges)[order])
        for slope in (0.5, 0.7, 1.0, 1.3):
            for n in (600, 1500, 4000):
                x = rng.normal(size=(n, 5))
                yield as_data(x, rng.random(n) < 1 / (1 + np.exp(-slope * x[:, 0])))
        for classes in (3, 4, 6):
            for slope in (0.5, 1.0):
                x = rng.normal(size=(2000, 8))
                p = np.exp(slope * x[:, :classes])
                drawn = (p / p.sum(1, keepdims=True)).cumsum(1) > rng.random((2000, 1))
                yield as_data(x, drawn.argmax(1))
            yield as_data(rng.normal(size=(2000, 20)), rng.integers(0, classes, 2000))


def relabelled(data: Data, share: float) -> Data:
    rng = np.random.default_rng(0)
    classes, y = data.schema.outputs, data.y.clone()
    wrong = torch.from_numpy(rng.random(len(y)) < share)
    other = (y + torch.from_numpy(rng.integers(1, classes, len(y)))) % classes
    return replace(data, y=torch.where(wrong, other, y), reloadable=False)


def is_called_wrong(data: Data) -> bool:
    evidence = Evidence(data=DataEvidence(data), schema=data.schema)
    return label_noise(evidence, Signs(evidence)) is not None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=6, help="of each generator")
    draws = parser.parse_args().draws
    warnings.simplefilter("ignore")
    sets, called = Counter[str](), Counter[str]()

    def ask(kind: str, data: Data) -> None:
        of_kind = f"{kind}, {'two or three' if data.schema.outputs <= 3 else 'more'} classes"
        sets[of_kind] += 1
        called[of_kind] += is_called_wrong(data)

    for data in right(draws):
        ask("all right", data)
        for share in SHARES:
            ask(f"{share:.0%} wrong", relabelled(data, share))
    for data in weak(draws):
        ask("all right, inputs say little", data)
    print(f"{machine()}\n")
    print("| labels | called wrong |")
    print("|---|---|")
    for kind in sorted(sets):
        print(f"| {kind} | {called[kind]} of {sets[kind]} |")


if __name__ == "__main__":
    main()
