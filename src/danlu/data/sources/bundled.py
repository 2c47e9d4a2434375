"""Small real data sets that need no network: the files scikit-learn ships."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from danlu.data.column import Column
from danlu.data.raw import Raw
from danlu.data.schema import Schema
from danlu.errors import DataError


@dataclass(frozen=True)
class Embedded:
    """A file of scikit-learn's `datasets/data`, and the names its columns and classes go by."""

    file: str
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    header: int = 1
    target_file: str = ""


_BODY = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
SETS = {
    "digits": Embedded("digits.csv.gz", tuple("0123456789"), header=0),
    "iris": Embedded(
        "iris.csv",
        ("setosa", "versicolor", "virginica"),
        ("sepal length", "sepal width", "petal length", "petal width"),
    ),
    "wine": Embedded(
        "wine_data.csv",
        ("class_0", "class_1", "class_2"),
        (
            "alcohol",
            "malic acid",
            "ash",
            "alcalinity of ash",
            "magnesium",
            "total phenols",
            "flavanoids",
            "nonflavanoid phenols",
            "proanthocyanins",
            "color intensity",
            "hue",
            "od280/od315",
            "proline",
        ),
    ),
    "breast-cancer": Embedded(
        "breast_cancer.csv",
        ("malignant", "benign"),
        tuple(f"{kind} {b}" for kind in ("mean", "error of", "worst") for b in _BODY),
    ),
    "diabetes": Embedded(
        "diabetes_data_raw.csv.gz",
        columns=("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
        header=0,
        target_file="diabetes_target.csv.gz",
    ),
}


def folder() -> Path:
    """Return where scikit-learn keeps its data.

    Found without importing it, which would take longer than training does.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the embedded data sets come with scikit-learn, which is not installed; try pip "
            "install scikit-learn"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def load(name: str) -> Raw:
    """Return one of `SETS`: digits as 8×8 pictures of 17 grey levels, the others as tables."""
    row, at = SETS[name], folder()
    delimiter = None if row.target_file else ","
    table = np.loadtxt(at / row.file, delimiter=delimiter, skiprows=row.header)
    if row.target_file:
        columns = tuple(Column(c) for c in row.columns)
        y = np.loadtxt(at / row.target_file)
        return Raw(
            table.astype(np.float32),
            y,
            Schema("regression", (table.shape[1],), columns=columns, target="progression"),
        )
    x, labels = table[:, :-1], table[:, -1].astype(np.int64)
    if name == "digits":
        pixels = (
            np.round(x * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        )  # so that picture files fit
        return Raw(pixels, labels, Schema("classification", (1, 8, 8), row.classes, mode="L"))
    schema = Schema(
        "classification",
        (x.shape[1],),
        row.classes,
        columns=tuple(Column(c) for c in row.columns),
        target="class",
    )
    return Raw(x.astype(np.float32), labels, schema)
