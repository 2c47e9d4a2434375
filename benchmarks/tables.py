"""Tables as people have them: danlu's defaults against scikit-learn's, on the same parts.

    python benchmarks/tables.py FOLDER [--tables adult,bank,ames,california,churn,titanic] [--seeds 5] [--out tables.json]

FOLDER holds the public files adult.data, bank.csv (bank-full), ames.csv (AmesHousing), california.csv (housing.csv of
Géron's book), churn.csv (Telco) and titanic.csv (Kaggle's train.csv); a file that is not there is left out.

danlu: what `danlu fit FILE --target Y` does: the preset `table` on the columns as read by default, nothing set by hand.
MLP: scikit-learn's `ColumnTransformer` (median with an indicator, standardised; one-hot) and `MLPClassifier` or
`MLPRegressor` with their defaults, of a standardised target. boosting: `HistGradientBoosting` with its defaults, on numbers
and on categories as such. Both get the columns that danlu uses, typed by pandas, and the same training and test part; the
validation part, by which danlu stops, is theirs for nothing.

Seeds draw the parts and the initial values. Score: accuracy, or R², on the test part. What is better: by a paired t-test
over the seeds at 5 %.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import torch
from scipy import stats
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import danlu
from danlu.cli.opening import read_recipe

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Table:
    file: str
    target: str
    read: dict  # for pandas


TABLES = {
    "adult": Table(
        "adult.data", "c15", {"header": None, "skipinitialspace": True, "na_values": "?"}
    ),
    "bank": Table("bank.csv", "y", {"sep": ";"}),
    "ames": Table("ames.csv", "SalePrice", {}),
    "california": Table("california.csv", "median_house_value", {}),
    "churn": Table("churn.csv", "Churn", {"na_values": " "}),
    "titanic": Table("titanic.csv", "Survived", {}),
}
Parts = tuple[pd.DataFrame, pd.Series, pd.DataFrame, pd.Series]


def peers_data(table: Table, path: Path, data: danlu.Data) -> Parts:
    frame = pd.read_csv(path, **table.read)
    if "header" in table.read:
        frame.columns = [f"c{k + 1}" for k in range(frame.shape[1])]
    used = [column.name for column in data.columns if column.is_used]
    train, test = (data.parts[part].numpy() for part in ("train", "test"))
    x, y = frame[used], frame[table.target]
    return x.iloc[train], y.iloc[train], x.iloc[test], y.iloc[test]


def mlp(x: pd.DataFrame, is_regression: bool, seed: int):
    numbers = [c for c in x if pd.api.types.is_numeric_dtype(x[c])]
    words = [c for c in x if c not in numbers]
    columns = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
            ("c", make_pipeline(SimpleImputer(strategy="constant", fill_value="missing"),
                                OneHotEncoder(handle_unknown="ignore")), words),
        ]
    )  # fmt: skip
    if is_regression:
        network = MLPRegressor(random_state=seed)
        return make_pipeline(
            columns, TransformedTargetRegressor(network, transformer=StandardScaler())
        )
    return make_pipeline(columns, MLPClassifier(random_state=seed))


def boosting(x: pd.DataFrame, is_regression: bool, seed: int):
    numbers = [c for c in x if pd.api.types.is_numeric_dtype(x[c])]
    words = [c for c in x if c not in numbers]
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=250
    )
    columns = ColumnTransformer([("n", "passthrough", numbers), ("c", codes, words)])
    kind = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    places = list(range(len(numbers), x.shape[1]))
    return make_pipeline(columns, kind(random_state=seed, categorical_features=places))


def danlu_score(data: danlu.Data, seed: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        recipe = read_recipe(None, [f"seed={seed}"], None, data)
        run = danlu.fit(recipe, data, out=Path(folder) / "run")
        seconds = time.perf_counter() - began
        metric = "test_r2" if data.schema.is_regression else "test_accuracy"
        return run.result[metric], seconds


def measure(name: str, folder: Path, seeds: int) -> dict:
    table = TABLES[name]
    path = folder / table.file
    found: dict[str, list] = {}
    for seed in range(seeds):
        data = danlu.load(str(path), target=table.target, seed=seed)
        score, seconds = danlu_score(data, seed)
        found.setdefault("danlu", []).append((score, seconds))
        x, y, x_test, y_test = peers_data(table, path, data)
        for peer, make in (("MLP", mlp), ("boosting", boosting)):
            model = make(x, data.schema.is_regression, seed)
            began = time.perf_counter()
            model.fit(x, y)
            seconds = time.perf_counter() - began
            found.setdefault(peer, []).append((model.score(x_test, y_test), seconds))
    shape = [data.size("train"), data.size("test"), data.schema.input_shape[0]]
    figure = "R²" if data.schema.is_regression else "accuracy"
    return {"figure": figure, "shape": shape, "found": found}


def compared(ours: list[float], theirs: list[float]) -> str:
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    p = float(stats.ttest_rel(ours, theirs).pvalue)
    if p >= SIGNIFICANT:
        return f"level ({difference:+.4f}, p {p:.2f})"
    return f"{'better' if difference > 0 else 'worse'} ({difference:+.4f}, p {p:.3f})"


def row_of(name: str, row: dict) -> str:
    scores = {peer: [score for score, _ in runs] for peer, runs in row["found"].items()}
    seconds = {peer: statistics.median(s for _, s in runs) for peer, runs in row["found"].items()}
    cells = [f"{name} ({row['shape'][0]:,} rows, {row['figure']})"]
    for peer in ("danlu", "MLP", "boosting"):
        spread = statistics.stdev(scores[peer])
        cells.append(f"{statistics.fmean(scores[peer]):.4f} ± {spread:.4f}, {seconds[peer]:.1f} s")
    cells += [
        compared(scores["danlu"], scores["MLP"]),
        compared(scores["danlu"], scores["boosting"]),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="tables.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {}
    for name in given.tables.split(","):
        if not (given.folder / TABLES[name].file).is_file():
            print(f"left out: {TABLES[name].file} is not in {given.folder}")
            continue
        found[name] = measure(name, given.folder, given.seeds)
        print(row_of(name, found[name]), flush=True)
        Path(given.out).write_text(json.dumps(found, indent=1))
    print(f"\n{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
          f"PyTorch {torch.__version__}, scikit-learn {sklearn.__version__}, danlu {danlu.__version__}; mean ± standard "
          f"deviation over {given.seeds} seeds, median seconds\n")  # fmt: skip
    print("| table | danlu | MLP | boosting | danlu against MLP | danlu against boosting |")
    print("|---|---|---|---|---|---|")
    for name, row in found.items():
        print(row_of(name, row))


if __name__ == "__main__":
    main()
