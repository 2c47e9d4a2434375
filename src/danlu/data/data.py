"""`Data`: the examples, their three parts, and what they are. Legend: N examples, K classes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.data import normalize, split
from danlu.data.checks import check_values
from danlu.data.duplicates import Digests, equal_groups, first_of_each_part, row_digests
from danlu.data.memmap import Array, is_mapped
from danlu.data.parts import PARTS
from danlu.data.schema import Schema
from danlu.data.vocabulary import UNK
from danlu.errors import DataError, count, some, wrong

_DIGESTED_BYTES = 1 << 20  # of rows digested at once: the steps of it stay in the cache
_ROWS = 8192  # rows touched at once when all of the data is passed over


@dataclass(frozen=True)
class Raw:
    """What a source reads: all examples in one array, official validation and test parts last."""

    x: Array
    y: Array
    schema: Schema
    official_test: int = 0
    official_valid: int = 0
    """How many examples just before the official test part are the official validation part."""
    missing: dict[str, int] = field(default_factory=dict)
    """Cells that each column lacked, in rows that were left out."""
    presplit: bool = False
    """Whether the official parts are all the parts there are to be."""
    encode: Callable[[Array], tuple[Array, Array, Schema]] | None = None
    """Of text: returns x, y and schema of all of it, once the training part is known."""


@dataclass(frozen=True, eq=False)
class Data:
    """Examples x [N, *input_shape] and targets y [N] (of each token [N, T]).

    x is uint8, float32, or int32 for tokens. A part is an index into both.
    """

    x: Tensor
    y: Tensor
    parts: dict[str, Tensor]
    schema: Schema
    source: dict[str, Any] = field(default_factory=dict)
    """How to load the same again."""
    mapped: bool = False
    """Whether x is read from disk as it is used."""
    reloadable: bool = True
    """Whether the data can be loaded again by name: not those that were made from arrays."""
    missing: dict[str, int] = field(default_factory=dict)
    """Cells that each column lacked, in rows that were left out."""
    _fitted: dict[str, normalize.Normalizer] = field(default_factory=dict, repr=False)
    _on_devices: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.schema.input_shape))
        sizes = ", ".join(f"{self.size(part):,} {part}" for part in PARTS)
        name = self.source.get("source", "")
        return f"<Data {name}: {self.schema.task}, examples of {shape}, {sizes}>"

    def size(self, part: str) -> int:
        """Return the number of examples in "train", "valid" or "test"."""
        return len(self.parts[part])

    def targets(self, part: str) -> int:
        """Return the number of targets in a part: of examples, or of tokens where each has one."""
        if not self.schema.each_token:
            return self.size(part)
        return int((self.y[self.parts[part]] >= 0).sum())

    def unknown(self, part: str) -> int:
        """Return how many tokens of a part ("all": of the whole) the vocabulary does not hold."""
        x = self.x if part == "all" else self.x[self.parts[part]]
        return int(x.eq(UNK).sum())

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """Return (x, y) of one part, gathered."""
        index = self.parts[name]
        return self.x[index], self.y[index]

    def chunks(self, part: str) -> Iterator[Tensor]:
        """Yield the part's x, some thousand rows at a time."""
        for index in self.parts[part].split(_ROWS):
            yield self.x.index_select(0, index)  # several times as fast as x[index]

    def normalizer(self, kind: str) -> normalize.Normalizer:
        """Return the normaliser of that kind, fitted on the training part (once)."""
        kind = self.schema.normalization(kind)
        if kind not in self._fitted:
            self._fitted[kind] = normalize.fit(kind, self.chunks("train"), self.schema.input_shape)
        return self._fitted[kind]

    def set_normalizer(self, fitted: normalize.Normalizer) -> None:
        """Use a normaliser fitted on these data before: fitted anew, last bits may differ."""
        self._fitted[fitted.kind] = fitted

    def on_device(self, device: torch.device) -> Tensor:
        """Return all examples on a device, moved there once; those mapped from disk stay there."""
        if self.mapped or device.type == "cpu":
            return self.x
        if str(device) not in self._on_devices:
            self._on_devices[str(device)] = self.x.to(device)
        return self._on_devices[str(device)]

    def class_counts(self, part: str) -> Tensor:
        """Return the examples per class [K] in a part."""
        y = self.y[self.parts[part]].flatten()
        return torch.bincount(y[y >= 0], minlength=self.schema.outputs)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of examples, targets and split: equal data, equal digest."""
        digest = hashlib.blake2b(repr((tuple(self.x.shape), self.x.dtype)).encode(), digest_size=16)
        for rows in self.x.split(_ROWS):
            digest.update(_bytes_of(rows))
        for tensor in (self.y, *(self.parts[part] for part in PARTS)):
            digest.update(_bytes_of(tensor) if len(tensor) else b"")
        return digest.hexdigest()

    def duplicates(self) -> dict[tuple[str, str], list[tuple[int, int]]]:
        """Return pairs of equal examples that lie in two different parts.

        Keys name the parts, such as ("train", "test"); values are pairs of indices into `x`, the
        earlier part's first.
        """
        part_of = self._part_numbers()
        pairs: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for group in equal_groups(self._digests()):
            originals = first_of_each_part(group, part_of)
            if len(originals) < 2:
                continue
            for example in map(int, group):
                for part, original in originals.items():
                    # Digests can collide: values are compared before anything is called equal.
                    if part < part_of[example] and torch.equal(self.x[original], self.x[example]):
                        names = PARTS[part], PARTS[part_of[example]]
                        pairs[names].append((original, example))
        return {names: sorted(found) for names, found in pairs.items()}

    def _part_numbers(self) -> Array:
        """Return the number of each example's part [N], −1 for an example in no part."""
        numbers = np.full(len(self.x), -1)
        for number, part in enumerate(PARTS):
            numbers[self.parts[part].numpy()] = number
        return numbers

    def _digests(self) -> Digests:
        rows_at_once = max(1, _DIGESTED_BYTES // self.x[0].nbytes)
        return np.concatenate([row_digests(rows.numpy()) for rows in self.x.split(rows_at_once)])

    @classmethod
    def from_raw(
        cls,
        raw: Raw,
        source: dict[str, Any],
        split_as: str | tuple[float, ...] | None = None,
        valid: bool = True,
        seed: int = 0,
        limit: int | None = None,
        reloadable: bool = True,
        all_test: bool = False,
    ) -> Data:
        """Split, check and wrap what a source read.

        all_test: all of it is to be scored, so it is one part and may lack classes. Raises
        DataError for what nothing can be learnt from.
        """
        labels = raw.y if raw.schema.task == "classification" else None
        if all_test:
            nothing = np.arange(0)
            parts = {"train": nothing, "valid": nothing, "test": np.arange(len(raw.x))}
        else:
            check_values(raw.x, raw.y, raw.schema)
            parts = _parts(raw, labels, split_as, valid, seed)
        if limit is not None:
            is_running_text = raw.schema.task == "language"
            parts["train"] = _limited(parts["train"], labels, limit, seed, is_running_text)
        if labels is not None and not all_test:
            split.check(parts, labels, raw.schema.classes)
        if raw.encode:
            x, y, schema = raw.encode(parts["train"])
            raw = replace(raw, x=x, y=y, schema=schema)
        schema = raw.schema
        if schema.is_regression:
            schema = replace(schema, scale=_target_scale(raw.y[parts["train"]]))
        return cls(
            torch.from_numpy(raw.x),
            torch.from_numpy(raw.y.astype(_target_type(schema))),
            {part: torch.from_numpy(index) for part, index in parts.items()},
            schema,
            source,
            is_mapped(raw.x),
            reloadable,
            raw.missing,
        )


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.contiguous().numpy().data.cast("B")


def _target_scale(y: Array) -> tuple[float, float]:
    """Return mean and standard deviation of a regression target; 1 for one that is constant."""
    known = y.astype(np.float64)
    return float(known.mean()), float(known.std()) or 1.0


def _target_type(schema: Schema) -> Any:
    if schema.is_regression:
        return np.float32
    return np.int64 if schema.task == "classification" else np.int32


def _parts(
    raw: Raw, labels: Array | None, split_as: str | tuple[float, ...] | None, valid: bool, seed: int
) -> dict[str, split.Index]:
    """Return the indices of each part: by shares that are given, by official parts, by the rule."""
    n = len(raw.x)
    if split_as is not None:
        shares = split.parse(split_as)
        if not valid:
            shares = (shares[0], 0.0, shares[1] + shares[2])
        rest, test = split.draw(labels, n, shares[2], seed, "split test")
    else:
        shares = (1.0, 0.0, 0.0) if raw.presplit else split.rule(n, valid)
        rest, test = _official_test(raw, labels, shares[2], seed)
    if split_as is None and raw.official_valid:
        first_valid = len(rest) - raw.official_valid
        train, held_out = (rest[:first_valid], rest[first_valid:]) if valid else (rest, rest[:0])
    else:
        share = min(1.0, shares[1] * n / len(rest)) if len(rest) else 0.0
        labels_left = labels[rest] if labels is not None else None
        inner_train, inner_valid = split.draw(labels_left, len(rest), share, seed, "split valid")
        train, held_out = rest[inner_train], rest[inner_valid]
    parts = {"train": train, "valid": held_out, "test": test}
    wanted = {"train": shares[0], "valid": shares[1] if valid else 0.0, "test": shares[2]}
    _refuse_empty(parts, wanted, n)
    return parts


def _official_test(
    raw: Raw, labels: Array | None, share: float, seed: int
) -> tuple[split.Index, split.Index]:
    """Return (the rest, the test part): the official test part where there is one, else a draw.

    An official validation part, which lies last, stays whole.
    """
    n = len(raw.x)
    if raw.official_test or raw.presplit:
        first_test = n - raw.official_test
        return np.arange(first_test), np.arange(first_test, n)
    free = n - raw.official_valid
    labels_free = labels[:free] if labels is not None else None
    rest, test = split.draw(labels_free, free, min(1.0, share * n / free), seed, "split test")
    return np.concatenate([rest, np.arange(free, n)]), test


def _refuse_empty(parts: dict[str, split.Index], wanted: dict[str, float], n: int) -> None:
    empty = [part for part, index in parts.items() if not len(index) and wanted[part] > 0]
    if empty or not len(parts["train"]):
        raise DataError(
            f"the data have {count(n, 'example')}, too few for {some(PARTS)} parts: "
            f"{some(empty or ['train'])} would be empty"
        )


def _limited(
    train: split.Index, labels: Array | None, limit: int, seed: int, is_running_text: bool
) -> split.Index:
    """Return a stratified, seeded `limit` of the training part; of running text its beginning."""
    if limit < 1:
        raise DataError(wrong("limit", limit, "must be at least 1"))
    classes = len(np.unique(labels[train])) if labels is not None else 1
    if limit < classes:
        raise DataError(wrong("limit", limit, f"must be at least {classes}, one example per class"))
    if limit >= len(train):
        return train
    if is_running_text:
        return train[:limit]
    labels_left = labels[train] if labels is not None else None
    _, kept = split.draw(labels_left, len(train), limit / len(train), seed, "limit")
    return train[kept]
