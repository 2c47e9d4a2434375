"""Writing files whole or not at all, and reading them with errors in words."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from danlu.errors import RunError, StorageError

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the system's refusals into a StorageError."""
    try:
        yield
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise StorageError(
            f"{path} cannot be written: {reason}; what was saved before is intact, "
            "make room or name another folder"
        ) from e


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears whole or not at all.

    It is written beside its place, flushed to the disk, then renamed. Raises StorageError.
    """
    with storing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            # Temporary files are their owner's alone.
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:  # also an interrupt must leave no half-written file
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        # A rename is safe only once the folder itself is on the disk.
        _sync_folder(path.parent)


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all. Raises StorageError."""
    with writing(path) as f:
        f.write(content.encode() if isinstance(content, str) else content)


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all."""
    plain = json.dumps(with_nulls(value), indent=1, ensure_ascii=False, allow_nan=False)
    write(path, plain + "\n")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file. Raises RunError when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise RunError(f"{str(path.parent)!r} is not a run folder: {path.name} is missing") from e
    except (OSError, ValueError) as e:
        raise RunError(f"{path} is damaged ({e}); the run cannot be read") from e


def with_nulls(value: Any) -> Any:
    """Return a value with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: with_nulls(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_nulls(inner) for inner in value]
    return value


def with_nan(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures with NaN for None, as which they were written."""
    return {name: math.nan if value is None else value for name, value in figures.items()}


def append_lines(path: Path, values: list[Any]) -> None:
    """Append JSON lines to a file; a line torn by a crash is left out when reading."""
    with storing(path), path.open("a", encoding="utf-8") as f:
        f.write(_as_lines(values))
        f.flush()


def _as_lines(values: list[Any]) -> str:
    lines = [json.dumps(with_nulls(value), allow_nan=False) + "\n" for value in values]
    return "".join(lines)


def write_lines(path: Path, values: list[Any]) -> None:
    """Write all the lines of a JSON-lines file anew."""
    write(path, _as_lines(values))


def read_lines(path: Path) -> list[Any]:
    """Return the values of a JSON-lines file, up to the first torn line."""
    rows: list[Any] = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                # Lines after a torn one cannot be trusted.
                break
    return rows


def write_tensors(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.torch import save

    plain = {}
    for name, tensor in tensors.items():
        # The format takes no two tensors that share memory, as views of a stack do.
        plain[name] = tensor.detach().cpu().contiguous().clone()
    write(path, save(plain, metadata))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file. Raises RunError when it is missing or damaged."""
    from safetensors.torch import load

    with _reading_tensors(path):
        return load(path.read_bytes())


def read_row(path: Path, row: int) -> dict[str, torch.Tensor]:
    """Return one network's tensors of a file in which those of several are stacked.

    The rest of the file is not read. Raises RunError when it is missing or damaged.
    """
    from safetensors import safe_open

    tensors = {}
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
    except FileNotFoundError as e:
        raise RunError(f"{path} is missing; the run has not got that far") from e
    except (OSError, SafetensorError, IndexError) as e:
        raise RunError(f"{path} is damaged or not a safetensors file ({e})") from e
