"""Suspected labels beside cleanlab's, on labels made wrong on purpose.

    python benchmarks/suspects.py [--repeats 3]

Both judge by the same out-of-fold probabilities, those of danlu's networks. A share of the labels is replaced by other
classes; found is what of these is listed, right what of the list is planted, AP the average precision of the order of
all examples. Needs cleanlab (pip install --no-deps cleanlab termcolor tqdm, as it asks for an old NumPy), whose licence
(AGPL) keeps it out of danlu. MNIST is looked for in DANLU_DATA.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import cleanlab
import numpy as np
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from measure import machine
from sklearn.metrics import average_precision_score

from danlu import Data, Recipe, cross_validate, load
from danlu.study.confident_learning import suspected
from danlu.study.folds import outputs_out_of_fold

RECIPES = {
    "digits": Recipe(model={"hidden": (64,)}, epochs=15, penalty={"l2": 3.0}),
    "mnist": Recipe(model={"hidden": (64,)}, epochs=8, penalty={"l2": 3.0}),
    "dna": Recipe(model={"name": "gru", "hidden": (32,), "embedding": 8}, epochs=8).with_(
        ["optimizer.lr=0.005", "batch_size=32"]
    ),
}


def planted(name: str, share: float, seed: int) -> tuple[Data, np.ndarray]:
    """Return data with labels made wrong, and which these are."""
    data = load(name, limit=4000 if name == "mnist" else None)
    rng = np.random.default_rng(seed)
    is_wrong = rng.random(len(data)) < share
    y = data.y.numpy().copy()
    classes = data.schema.outputs
    y[is_wrong] = (y[is_wrong] + rng.integers(1, classes, is_wrong.sum())) % classes
    return replace(data, y=torch.from_numpy(y), reloadable=False), is_wrong


def figures(is_listed: np.ndarray, quality: np.ndarray, is_wrong: np.ndarray) -> list[float]:
    """Return found, right and AP."""
    both = (is_listed & is_wrong).sum()
    found, right = both / is_wrong.sum(), both / max(1, is_listed.sum())
    return [found, right, average_precision_score(is_wrong, -quality)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore")
    print(f"{machine()}, cleanlab {cleanlab.__version__}; mean of {repeats}\n")
    print("| data | wrong | | found | right | AP |")
    print("|---|---|---|---|---|---|")
    for name, recipe in RECIPES.items():
        for share in (0.02, 0.1, 0.3):
            rows = defaultdict(list)
            for seed in range(repeats):
                data, is_wrong = planted(name, share, seed)
                with tempfile.TemporaryDirectory() as folder:
                    found = cross_validate(recipe, data, out=Path(folder) / "folds")
                    merged = data.with_validation_in_training()
                    examples, out, labels = outputs_out_of_fold(found.study, merged)
                p, y, wrong = out.double().softmax(1).numpy(), labels.numpy(), is_wrong[examples]
                rows["danlu"].append(figures(suspected(p, y), p[np.arange(len(y)), y], wrong))
                for kind in ("prune_by_noise_rate", "confident_learning"):
                    listed = find_label_issues(y, p, filter_by=kind)
                    quality = get_label_quality_scores(y, p)
                    rows[f"cleanlab, {kind}"].append(figures(listed, quality, wrong))
            for who, each in rows.items():
                means = [statistics.mean(column) for column in zip(*each, strict=True)]
                print(
                    f"| {name} | {share:.0%} | {who} | "
                    + " | ".join(f"{m:.3f}" for m in means)
                    + " |"
                )


if __name__ == "__main__":
    main()
