"""Small texts of every task."""

from __future__ import annotations

import pytest
import torch

from danlu import Data, load


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Data:
    path = tmp_path_factory.mktemp("tagged") / "all.bio"
    g = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(60):
        n = int(torch.randint(1, 9, (), generator=g))
        for k in torch.randint(0, 6, (n,), generator=g).tolist():
            rows.append(f"{'abcdef'[k]} {'B-X' if k == 2 else 'O'}")
        rows.append("")
    path.write_text("\n".join(rows))
    return load(str(path))


@pytest.fixture(scope="module")
def labelled() -> Data:
    g = torch.Generator().manual_seed(0)
    texts, labels = [], []
    for _ in range(60):
        n = int(torch.randint(1, 12, (), generator=g))
        texts.append("".join("abcd"[k] for k in torch.randint(0, 4, (n,), generator=g).tolist()))
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
        n = int(torch.randint(1, 7, (), generator=g))
        text = "".join("abcd"[k] for k in torch.randint(0, 4, (n,), generator=g).tolist())
        rows.append(f"{text}\t{text[::-1].upper()[: n // 2 + 1]}")
    path.write_text("\n".join(rows))
    return load(str(path), task="pairs")
