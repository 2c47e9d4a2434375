"""`test.safetensors`: what was predicted on the test part, or else the last part read.

Legend: N examples, T tokens, K outputs, n tokens of all sentences in a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from danlu.data import Data
from danlu.data.vocabulary import PAD
from danlu.files import Sealed, pack_tensors, parse_tensors
from danlu.predict.scores import Outputs, PassOutputs

Digests = dict[str, str]  # of files that were written, by their names

NAME = "test.safetensors"
_WORST = 24  # confidently wrong examples that are kept to be shown


def write_predictions(sealed: Sealed, data: Data, out: Tensor, part: str) -> Digests:
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
    return _write(sealed, kept, {"part": part})


def _write(
    sealed: Sealed, kept: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> Digests:
    return sealed.write(NAME, pack_tensors(kept, metadata))


def write_tags(sealed: Sealed, outs: Outputs, x: Tensor, digests: Digests) -> Iterator[PassOutputs]:
    """Pass outputs on, and keep what is predicted for every token [n] beside the truth.

    x: the sentences [N, T] in that order. digests: takes that of the file.
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
    digests.update(_write(sealed, kept))


def write_pairs(sealed: Sealed, pairs: Tensor) -> Digests:
    """Keep some pairs, to be shown beside what is written to their sources."""
    return _write(sealed, {"pairs": pairs})


def has_outputs(sealed: Sealed) -> bool:
    """Whether a run's folder has them; members of studies keep none of text."""
    return sealed.vouches_for(NAME)


def read_outputs(sealed: Sealed) -> dict[str, Tensor]:
    """Return what was kept. Raises RunError where it is missing."""
    return parse_tensors(sealed.read(NAME), sealed.folder / NAME)
