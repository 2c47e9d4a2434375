"""`Data`: the examples, their three parts, and what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.data import normalize, split
from danlu.data.memmap import Array, is_mapped
from danlu.data.schema import Schema
from danlu.data.vocabulary import UNK
from danlu.errors import DataError, count, some, wrong

PARTS = ("train", "valid", "test")
_DIGESTED = 1 << 20  # bytes of rows digested at once: the steps of it stay in the cache
_ROWS = 8192  # rows touched at once when the whole of the data is passed over


@dataclass(frozen=True)
class Raw:
    """What a source reads: all examples in one array, the official test part (if any) last."""

    x: Array
    y: Array
    schema: Schema
    official_test: int = 0
    official_valid: int = 0  # just before the test part
    missing: dict[str, int] = field(
        default_factory=dict
    )  # cells a column lacked, in rows that were left out
    cut: bool = False  # whether these are all the parts there are to be
    encode: Callable[[Array], tuple[Array, Array, Schema]] | None = (
        None  # of text: all of it, once the training part is known
    )


@dataclass(frozen=True, eq=False)
class Data:
    """Examples x [N, *input_shape] (uint8, float32, or int32 for tokens) and targets y [N] (of each token [N, T]).

    A part is an index into them.

    `source` says how to load the same again.
    """

    x: Tensor
    y: Tensor
    parts: dict[str, Tensor]
    schema: Schema
    source: dict[str, Any] = field(default_factory=dict)
    mapped: bool = False
    in_memory: bool = False  # made from arrays: cannot be loaded again by name
    missing: dict[str, int] = field(
        default_factory=dict
    )  # cells a column lacked, in rows that were left out
    _fitted: dict[str, normalize.Normalizer] = field(default_factory=dict, repr=False)
    _placed: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        shape, sizes = (
            "×".join(map(str, self.schema.input_shape)),
            ", ".join(f"{self.size(p):,} {p}" for p in PARTS),
        )
        return f"<Data {self.source.get('source', '')}: {self.schema.task}, examples of {shape}, {sizes}>"

    def size(self, part: str) -> int:
        """Number of examples in "train", "valid" or "test"."""
        return len(self.parts[part])

    def targets(self, part: str) -> int:
        """Number of targets in a part: of its examples, or of their tokens where each has one."""
        return (
            int((self.y[self.parts[part]] >= 0).sum())
            if self.schema.each_token
            else self.size(part)
        )

    def unknown(self, part: str) -> int:
        """Of text, number of tokens in a part ("all": the whole) that the vocabulary does not hold."""
        return int((self.x if part == "all" else self.x[self.parts[part]]).eq(UNK).sum())

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """(x, y) of one part, gathered."""
        index = self.parts[name]
        return self.x[index], self.y[index]

    def chunks(self, part: str) -> Iterator[Tensor]:
        """The part's x, some thousand rows at a time."""
        for index in self.parts[part].split(_ROWS):
            yield self.x.index_select(0, index)  # several times the speed of x[index]

    def normalizer(self, kind: str) -> normalize.Normalizer:
        """The normaliser of that kind, fitted on the training part (once)."""
        kind = self.schema.normalization(kind)
        if kind not in self._fitted:
            self._fitted[kind] = normalize.fit(kind, self.chunks("train"), self.schema.input_shape)
        return self._fitted[kind]

    def adopt(self, fitted: normalize.Normalizer) -> None:
        """Take a normaliser that was fitted on these data before: fitted anew its last bits may be others."""
        self._fitted[fitted.kind] = fitted

    def placed(self, device: torch.device) -> Tensor:
        """All examples on a device, moved there once; those that are mapped from disk stay."""
        if self.mapped or device.type == "cpu":
            return self.x
        if str(device) not in self._placed:
            self._placed[str(device)] = self.x.to(device)
        return self._placed[str(device)]

    def class_counts(self, part: str) -> Tensor:
        """Examples per class [K] in a part."""
        y = self.y[self.parts[part]].flatten()
        return torch.bincount(y[y >= 0], minlength=self.schema.outputs)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of examples, targets and split: equal data, equal digest."""
        digest = hashlib.blake2b(repr((tuple(self.x.shape), self.x.dtype)).encode(), digest_size=16)
        for rows in self.x.split(_ROWS):
            digest.update(rows.contiguous().numpy().data.cast("B"))
        for t in (self.y, *(self.parts[p] for p in PARTS)):
            digest.update(t.contiguous().numpy().data.cast("B") if len(t) else b"")
        return digest.hexdigest()

    def duplicates(self) -> dict[tuple[str, str], list[tuple[int, int]]]:
        """Pairs of equal examples lying in two different parts, by part names; indices into x."""
        rows = np.concatenate(
            [_row_digests(r.numpy()) for r in self.x.split(max(1, _DIGESTED // self.x[0].nbytes))]
        )
        owner = np.full(len(rows), -1)
        for k, p in enumerate(PARTS):
            owner[self.parts[p].numpy()] = k
        order = np.argsort(rows, kind="stable")
        edges = np.flatnonzero(np.concatenate(([1], rows[order][1:] != rows[order][:-1], [1])))
        equal = np.diff(edges) > 1
        groups = (order[i:j] for i, j in zip(edges[:-1][equal], edges[1:][equal], strict=True))
        found: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for group in (g for g in groups if len(set(owner[g]) - {-1}) > 1):
            first = {
                k: int(group[owner[group] == k][0]) for k in range(3) if (owner[group] == k).any()
            }
            for i in group:
                for k in range(owner[i]):
                    if (
                        k in first
                        and owner[i] > k
                        and torch.equal(self.x[first[k]], self.x[int(i)])
                    ):
                        found.setdefault((PARTS[k], PARTS[owner[i]]), []).append((first[k], int(i)))
        return {pair: sorted(both) for pair, both in found.items()}

    @classmethod
    def from_raw(
        cls,
        raw: Raw,
        source: dict[str, Any],
        split_as: str | tuple[float, ...] | None = None,
        valid: bool = True,
        seed: int = 0,
        limit: int | None = None,
        in_memory: bool = False,
        whole: bool = False,
    ) -> Data:
        """Split, check and wrap what a source read; whole: all of it is to be scored, so it may lack classes."""
        labels = raw.y if raw.schema.task == "classification" else None
        if not whole:
            _check_values(raw)
        none, every = np.arange(0), np.arange(len(raw.x))
        parts = (
            {"train": none, "valid": none, "test": every}
            if whole
            else _parts(raw, labels, split_as, valid, seed)
        )
        if limit is not None:
            parts["train"] = _limited(
                parts["train"], labels, limit, seed, raw.schema.task == "language"
            )
        if labels is not None and not whole:
            split.check(parts, labels, raw.schema.classes)
        if raw.encode:
            encoded = raw.encode(parts["train"])
            raw = replace(raw, x=encoded[0], y=encoded[1], schema=encoded[2])
        schema = raw.schema
        if schema.task == "regression":
            known = raw.y[parts["train"]].astype(np.float64)
            schema = Schema(
                **{**schema.__dict__, "scale": (float(known.mean()), float(known.std()) or 1.0)}
            )
        y = torch.from_numpy(
            raw.y.astype(
                np.float32 if schema.is_regression else np.int64 if labels is not None else np.int32
            )
        )
        index = {k: torch.from_numpy(v) for k, v in parts.items()}
        return cls(
            torch.from_numpy(raw.x),
            y,
            index,
            schema,
            source,
            is_mapped(raw.x),
            in_memory,
            raw.missing,
        )


def _row_digests(rows: Array) -> np.ndarray[Any, Any]:
    """A number per row, equal for equal rows: the sum over its mixed 64-bit words modulo 2⁶⁴."""
    rows = rows if rows.dtype == np.uint8 else rows + 0  # −0.0 equals 0.0
    octets = np.ascontiguousarray(rows.reshape(len(rows), -1)).view(np.uint8)
    octets = np.pad(octets, ((0, 0), (0, -octets.shape[1] % 8)))
    words = octets.view(np.uint64)
    rng = np.random.default_rng(0)
    offsets, factors = (
        rng.integers(2**64, size=words.shape[1], dtype=np.uint64) | np.uint64(1) for _ in range(2)
    )
    mixed = (
        words + offsets
    )  # every bit must reach the upper half before and after the product: floats differ only there
    mixed ^= mixed >> np.uint64(32)
    mixed *= factors
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    numbers: np.ndarray[Any, Any] = mixed.sum(1, dtype=np.uint64)
    return numbers


def _check_values(raw: Raw) -> None:
    """Refuse what nothing can be learnt from."""
    n, classes = len(raw.x), raw.schema.classes
    if n != len(raw.y):
        raise DataError(
            f"the data have {count(n, 'example')}, but {count(len(raw.y), 'label')}; each example needs one"
        )
    if n < 3:
        raise DataError(
            f"the data have {count(n, 'example')}, but training, validation and test parts need at least one each"
        )
    if raw.x.dtype == np.float32:
        for start in range(0, n, _ROWS):
            bad = ~np.isfinite(raw.x[start : start + _ROWS]).reshape(min(_ROWS, n - start), -1).all(
                1
            )
            if bad.any():
                row = start + int(np.flatnonzero(bad)[0])
                raise DataError(
                    f"example {row} holds NaN or an infinite value; remove or fill such values before loading"
                )
    if raw.schema.task == "regression":
        if not np.isfinite(raw.y).all():
            row = int(np.flatnonzero(~np.isfinite(raw.y))[0])
            raise DataError(
                f"the target of example {row} is {raw.y[row]}, but must be a finite number"
            )
        return
    if raw.schema.task != "classification":
        return
    low, high = int(raw.y.min()), int(raw.y.max())
    if low < 0 or high >= len(classes):
        worst = low if low < 0 else high
        raise DataError(
            wrong("label", worst, f"must lie in 0…{len(classes) - 1} ({len(classes)} classes)")
        )
    if len(classes) < 2 or low == high:
        raise DataError(
            f"every example is of the one class {classes[low]!r}; classification needs at least two"
        )
    if n < len(classes):
        raise DataError(
            f"the data have {count(n, 'example')} of {len(classes)} classes, but each class needs at least one per part"
        )


def _parts(
    raw: Raw, labels: Array | None, split_as: str | tuple[float, ...] | None, valid: bool, seed: int
) -> dict[str, split.Index]:
    n, n_test, n_valid = len(raw.x), raw.official_test, raw.official_valid
    if split_as is not None:
        shares = split.parse(split_as)
        if not valid:
            shares = (shares[0], 0.0, shares[1] + shares[2])
        rest, test = split.draw(labels, n, shares[2], seed, "split test")
    else:
        shares = split.rule(n, valid) if not raw.cut else (1.0, 0.0, 0.0)
        if n_test or raw.cut:
            rest, test = np.arange(n - n_test), np.arange(n - n_test, n)
        else:  # an official validation part, which lies last, stays whole
            free = n - n_valid
            inner = labels[:free] if labels is not None else None
            rest, test = split.draw(inner, free, min(1.0, shares[2] * n / free), seed, "split test")
            rest = np.concatenate([rest, np.arange(free, n)])
    if split_as is None and n_valid:
        train, held = rest[:-n_valid], rest[-n_valid:]
        if not valid:
            train, held = rest, rest[:0]
    else:
        within = min(1.0, shares[1] * n / len(rest)) if len(rest) else 0.0
        inner = labels[rest] if labels is not None else None
        a, b = split.draw(inner, len(rest), within, seed, "split valid")
        train, held = rest[a], rest[b]
    parts = {"train": train, "valid": held, "test": test}
    wanted = {"train": shares[0], "valid": shares[1] if valid else 0.0, "test": shares[2]}
    empty = [k for k, v in parts.items() if len(v) == 0 and wanted[k] > 0]
    if empty or not len(train):
        raise DataError(
            f"the data have {count(n, 'example')}, too few for {some(PARTS)} parts: {some(empty or ['train'])} would be empty"
        )
    return parts


def _limited(
    train: split.Index, labels: Array | None, limit: int, seed: int, running: bool
) -> split.Index:
    """A stratified, seeded `limit` of the training part; of running text its beginning."""
    if limit < 1:
        raise DataError(wrong("limit", limit, "must be at least 1"))
    kinds = len(np.unique(labels[train])) if labels is not None else 1
    if limit < kinds:
        raise DataError(wrong("limit", limit, f"must be at least {kinds}, one example per class"))
    if limit >= len(train):
        return train
    if running:
        return train[:limit]
    inner = labels[train] if labels is not None else None
    return train[split.draw(inner, len(train), limit / len(train), seed, "limit")[1]]
