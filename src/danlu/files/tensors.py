"""Tensors in safetensors files: no pickle, so opening a stranger's runs no code."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from danlu.errors import RunError
from danlu.files.reading import open_file, read_bytes
from danlu.files.writing import write

if TYPE_CHECKING:
    import torch


def pack_tensors(
    tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> bytes:
    """Return tensors as the content of a safetensors file."""
    from safetensors.torch import save

    plain = {}
    for name, tensor in tensors.items():
        # The format takes no two tensors that share memory, as views of a stack do.
        plain[name] = tensor.detach().cpu().contiguous().clone()
    return save(plain, metadata)


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all."""
    write(path, pack_tensors(tensors, metadata))


def parse_tensors(content: bytes, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in a file's content. Raises RunError when it is damaged."""
    from safetensors.torch import load

    with _reading_tensors(path):
        return load(content)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file. Raises RunError when it is missing or damaged."""
    return parse_tensors(read_bytes(path), path)


def read_row(path: Path, row: int) -> dict[str, torch.Tensor]:
    """Return one network's tensors of a file in which those of several are stacked.

    The rest of the file is not read. Raises RunError when it is missing or damaged.
    """
    from safetensors import safe_open

    tensors = {}
    # No link and no pipe; as only a part is read, it may be larger than the memory.
    open_file(path, share=math.inf).close()
    with _reading_tensors(path), safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (it is no dictionary)
            rows = file.get_slice(name)[row : row + 1]
            tensors[name] = rows[0].clone()
    return tensors


@contextlib.contextmanager
def _reading_tensors(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, IndexError, ValueError, KeyError) as e:
        # KeyError: of a type of number that PyTorch does not have.
        raise RunError(f"{path} is damaged or not a safetensors file ({e})") from e


def digest_of(tensors: Mapping[str, torch.Tensor], beginning: str = "") -> str:
    """Return a digest of names, types, shapes and values, whatever device they are on."""
    import torch

    digest = hashlib.blake2b(beginning.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        if tensor.numel():
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
