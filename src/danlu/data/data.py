"""`Data`: the examples, their three parts, and what they are. Legend: N examples, K classes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.data import normalize, split, target_scale
from danlu.data.checks import check_values
from danlu.data.column import FAR
from danlu.data.duplicates import Digests, equal_groups, first_of_each_part, row_digests
from danlu.data.memmap import Array, is_mapped
from danlu.data.partition import limited, partition
from danlu.data.parts import PARTS
from danlu.data.raw import ColumnNote, Raw
from danlu.data.schema import Schema
from danlu.data.vocabulary import UNK

_DIGESTED_BYTES = 1 << 20  # of rows digested at once: the steps of it stay in the cache
_ROWS = 8192  # rows touched at once when all of the data is passed over

VALIDATION_IN_TRAINING = "validation_in_training"  # in a source: what was done to its parts

Pair = tuple[int, int]  # indices of two equal examples


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
    """Cells that each column lacks, or lacked in rows that were left out."""
    notices: tuple[str, ...] = ()
    """What was decided in reading them, a line each."""
    columns: tuple[ColumnNote, ...] = ()
    """Of a table: what each column but the target was taken for."""
    origins: Sequence[str] = field(default=(), repr=False)
    """Where each example lies; empty where that is not known."""
    digests: Array | None = field(default=None, repr=False)
    """Of texts, a number each [N], equal for equal texts."""
    _fitted: dict[str, normalize.Normalizer] = field(default_factory=dict, repr=False)
    _on_devices: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        name = self.source.get("source", "")
        task = self.schema.task
        shape = "×".join(map(str, self.schema.input_shape))
        sizes = ", ".join(f"{self.size(part):,} {part}" for part in PARTS)
        return f"<Data {name}: {task}, examples of {shape}, {sizes}>"

    def size(self, part: str) -> int:
        """Return the number of examples in "train", "valid" or "test"."""
        return len(self.parts[part])

    def targets(self, part: str) -> int:
        """Return the number of targets in a part: of examples, or of tokens where each has one."""
        if not self.schema.each_token:
            return self.size(part)
        y = self.y[self.parts[part]]
        return int((y >= 0).sum())

    def unknown(self, part: str) -> int:
        """Return how many tokens of a part ("all": of the whole) the vocabulary does not hold."""
        x = self.x
        if part != "all":
            x = x[self.parts[part]]
        return int(x.eq(UNK).sum())

    def origin(self, example: int) -> str:
        """Return where an example lies in the source: a file's name, or a row, counted from 1.

        Without either, its number in the order in which all were read.
        """
        return self.origins[example] if len(self.origins) else f"example {example + 1}"

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
            # Fitted on the training part alone: nothing of the others may leak.
            chunks = self.chunks("train")
            shape = self.schema.input_shape
            fitted = normalize.fit(kind, chunks, shape, self.schema.is_measured)
            self._fitted[kind] = fitted
        return self._fitted[kind]

    def set_normalizer(self, fitted: normalize.Normalizer) -> None:
        """Use a normaliser fitted on these data before: fitted anew, last bits may differ."""
        self._fitted[fitted.kind] = fitted

    def on_device(self, device: torch.device) -> Tensor:
        """Return all examples on a device, moved there once; those mapped from disk stay there."""
        if self.mapped or device.type == "cpu":
            return self.x
        name = str(device)
        if name not in self._on_devices:
            self._on_devices[name] = self.x.to(device)
        return self._on_devices[name]

    def class_counts(self, part: str) -> Tensor:
        """Return the examples per class [K] in a part."""
        y = self.y[self.parts[part]].flatten()
        labels = y[y >= 0]  # tokens of padding have none
        return torch.bincount(labels, minlength=self.schema.outputs)

    @property
    def training_labels(self) -> Tensor | None:
        """The class of each training example; None where examples have no class of their own."""
        if self.schema.task != "classification":
            return None
        return self.y[self.parts["train"]]

    def with_validation_in_training(self) -> Data:
        """Return the same data with the validation part's examples in the training part."""
        if not self.size("valid"):
            return self
        merged, _ = torch.cat([self.parts["train"], self.parts["valid"]]).sort()
        parts = {**self.parts, "train": merged, "valid": merged[:0]}
        source = {**self.source, VALIDATION_IN_TRAINING: True}
        # Normalisers are fitted anew, on more examples.
        return replace(self, parts=parts, source=source, _fitted={})

    @property
    def training_class_counts(self) -> list[int]:
        """The training examples (or targets) of each class; empty for a target of numbers."""
        if self.schema.is_regression:
            return []
        counts: list[int] = self.class_counts("train").tolist()
        return counts

    @cached_property
    def fingerprint(self) -> str:
        """A digest of examples, targets and split: equal data, equal digest."""
        shape = tuple(self.x.shape)
        kind = repr((shape, self.x.dtype))
        digest = hashlib.blake2b(kind.encode(), digest_size=16)
        # Piece by piece: data mapped from disk may be larger than memory.
        for rows in self.x.split(_ROWS):
            digest.update(_bytes_of(rows))
        in_order = [self.parts[part] for part in PARTS]
        for tensor in (self.y, *in_order):
            if len(tensor):
                digest.update(_bytes_of(tensor))
        return digest.hexdigest()

    def duplicates(self) -> dict[tuple[str, str], list[Pair]]:
        """Return pairs of equal examples that lie in two different parts.

        Keys name the parts, such as ("train", "test"); values are pairs of indices into `x`, the
        earlier part's first. Texts are compared as they were read; where that is not known, those
        with tokens that the vocabulary does not hold are left out, as they may differ there.
        """
        part_of = self._part_numbers()
        pairs: dict[tuple[str, str], list[Pair]] = defaultdict(list)
        digests = self._digests() if self.digests is None else self.digests
        for group in equal_groups(digests):
            originals = first_of_each_part(group, part_of)
            # Within one part, equal examples flatter nobody.
            if len(originals) < 2:
                continue
            for example in map(int, group):
                own_part = part_of[example]
                if not self._shows_all(example):
                    continue
                for part, original in originals.items():
                    if part >= own_part:
                        continue
                    # Digests can collide: values are compared before anything is called equal.
                    if self.digests is not None or torch.equal(self.x[original], self.x[example]):
                        names = (PARTS[part], PARTS[own_part])
                        pairs[names].append((original, example))
        return {names: sorted(examples) for names, examples in pairs.items()}

    def _shows_all(self, example: int) -> bool:
        """Whether equal examples are equal in their source, too."""
        if self.digests is not None or not self.schema.is_text:
            return True
        return not bool((self.x[example] == UNK).any())

    def duplicate_counts(self) -> dict[str, int]:
        """Return how many examples two parts have in common, by "first/second"."""
        counts = {}
        for (first, second), pairs in self.duplicates().items():
            counts[f"{first}/{second}"] = len(pairs)
        return counts

    def _part_numbers(self) -> Array:
        """Return the number of each example's part [N], −1 for an example in no part."""
        numbers = np.full(len(self.x), -1)
        for number, part in enumerate(PARTS):
            numbers[self.parts[part].numpy()] = number
        return numbers

    def _digests(self) -> Digests:
        rows_at_once = max(1, _DIGESTED_BYTES // self.x[0].nbytes)
        digests = []
        for rows in self.x.split(rows_at_once):
            digests.append(row_digests(rows.numpy()))
        return np.concatenate(digests)

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
        if all_test:
            nothing = np.arange(0)
            everything = np.arange(len(raw.x))
            parts = {"train": nothing, "valid": nothing, "test": everything}
        else:
            check_values(raw.x, raw.y, raw.schema)
            parts = partition(raw, split_as, valid, seed)
        if limit is not None:
            parts["train"] = limited(raw, parts["train"], limit, seed)
        if raw.labels is not None and not all_test:
            absent = split.absent_classes(parts, raw.labels, raw.schema.classes)
            raw = replace(raw, notices=(*raw.notices, *absent))
        if raw.encode:
            # Vocabularies and medians come from the training part, which is known only now.
            x, y, schema, notices = raw.encode(parts["train"])
            raw = replace(raw, x=x, y=y, schema=schema, notices=(*raw.notices, *notices))
        schema = raw.schema
        if schema.is_regression and not all_test:
            schema = target_scale.fitted(schema, raw.y[parts["train"]])
        y = raw.y.astype(_target_type(schema))
        return cls(
            x=torch.from_numpy(raw.x),
            y=torch.from_numpy(y),
            parts={part: torch.from_numpy(index) for part, index in parts.items()},
            schema=schema,
            source=source,
            mapped=is_mapped(raw.x),
            reloadable=reloadable,
            missing=raw.missing,
            notices=raw.notices,
            columns=raw.columns,
            origins=raw.origins,
            digests=raw.digests,
        )


def _bytes_of(tensor: Tensor) -> memoryview:
    values = tensor.contiguous().numpy()
    return values.data.cast("B")


def _target_type(schema: Schema) -> Any:
    if schema.is_regression:
        mean, std = schema.scale
        # What varies far from 0, such as time stamps, would vanish in float32.
        return np.float64 if abs(mean) > FAR * std else np.float32
    if schema.task == "classification":
        return np.int64
    # Numbers of tokens or tags: there are many, and half the bytes hold them.
    return np.int32
