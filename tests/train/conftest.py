"""Data that several tests look at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from danlu import Data, load


@pytest.fixture(scope="module")
def pictures() -> Data:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.integers(0, 160, (120, 1, 16, 16)) + 20 * y[:, None, None, None]
    return load((x.astype(np.uint8), y))


def letters(g: torch.Generator, longest: int, alphabet: str) -> str:
    """Return from one to `longest` random letters."""
    n = int(torch.randint(1, longest + 1, (), generator=g))
    return "".join(alphabet[k] for k in torch.randint(0, len(alphabet), (n,), generator=g).tolist())


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Data:
    path = tmp_path_factory.mktemp("tagged") / "all.bio"
    g = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(60):
        for letter in letters(g, 8, "abcdef"):
            rows.append(f"{letter} {'B-X' if letter == 'c' else 'O'}")
        rows.append("")
    path.write_text("\n".join(rows))
    return load(str(path))


@pytest.fixture(scope="module")
def labelled() -> Data:
    g = torch.Generator().manual_seed(0)
    texts, labels = [], []
    for _ in range(60):
        texts.append(letters(g, 11, "abcd"))
        labels.append(str(texts[-1].count("a") % 2))
    return load((texts, labels))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Data:
    path = tmp_path_factory.mktemp("running") / "text.txt"
    path.write_text("the cat sat on the mat. the dog sat on the log.\n" * 20)
    return load(str(path), length=10)


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Data:
    path = tmp_path_factory.mktemp("paired") / "pairs.tsv"
    g = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(60):
        text = letters(g, 6, "abcd")
        rows.append(f"{text}\t{text[::-1].upper()[: len(text) // 2 + 1]}")
    path.write_text("\n".join(rows))
    return load(str(path), task="pairs")


@pytest.fixture(scope="module")
def big() -> Data:
    """Pictures of 32 pixels."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.integers(0, 160, (120, 3, 32, 32)) + 20 * y[:, None, None, None]
    return load((x.astype(np.uint8), y))


@pytest.fixture(scope="module")
def numbers() -> Data:
    """Numbers to predict."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 4))
    return load((x, x @ [1.0, -2.0, 0.5, 0.0] + 0.1 * rng.normal(size=160)))
