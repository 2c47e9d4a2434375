"""`test.safetensors`: what was predicted on the test part, or else the last part read.

Legend: N examples, T tokens, K outputs, n tokens of all sentences in a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from danlu.data import Data
from danlu.data.vocabulary import PAD
from danlu.files import read_tensors, write_tensors
from danlu.predict.scores import Outputs, PassOutputs

NAME = "test.safetensors"
_WORST = 24  # confidently wrong examples that are kept to be shown


def write_predictions(path: Path, data: Data, out: Tensor, part: str) -> None:
    """Keep outputs [N, K] and targets of a part, and the most confidently wrong examples."""
    index = data.parts[part]
    targets = data.y[index]
    kept = {"outputs": out, "targets": targets, "index": index}
    if data.schema.task == "classification":
        confidence, predicted = out.softmax(1).max(1)  # [N]
        mistakes = torch.where(predicted != targets)[0]  # which examples
        by_confidence = confidence[mistakes].argsort(descending=True)
        worst = mistakes[by_confidence][:_WORST]
        kept["worst"] = worst
        kept["worst_x"] = data.x[index[worst]]
    write_tensors(path / NAME, kept, {"part": part})


def write_tags(path: Path, outs: Outputs, x: Tensor) -> Iterator[PassOutputs]:
    """Pass outputs on, and keep what is predicted for every token [n] beside the truth.

    x: the sentences [N, T] in that order.
    """
    predicted, true = [], []
    for passed in outs:
        predicted.append(passed.predicted()[0].cpu())
        true.append(passed.targets.cpu())
        yield passed
    is_token = x != PAD  # [N, T]
    kept = {
        "tags": torch.cat(predicted),
        "targets": torch.cat(true),
        "sizes": is_token.sum(1),
        "tokens": x[is_token],
    }
    write_tensors(path / NAME, kept)


def write_pairs(path: Path, pairs: Tensor) -> None:
    """Keep some pairs, to be shown beside what is written to their sources."""
    write_tensors(path / NAME, {"pairs": pairs})


def has_outputs(path: Path) -> bool:
    """Whether a run's folder has them; members of studies keep none of text."""
    return (path / NAME).is_file()


def read_outputs(path: Path) -> dict[str, Tensor]:
    """Return what was kept. Raises RunError where it is missing."""
    return read_tensors(path / NAME)
