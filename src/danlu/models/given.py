"""Networks given as Python objects: a module, a class, or a function that makes one.

A recipe is text, so it names them, `package.module:name`. While the program runs the name stands
for the object itself. Another program imports what lies in a module; of a module that was given it
makes a new one, where that has the same structure, as its weights come from the run's folder.
"""

from __future__ import annotations

import copy
import hashlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from danlu.errors import ModelError, reason_of

Network = nn.Module | Callable[..., nn.Module]

_DIGEST = "@"  # before what an object is more than its name
_ONLY_HERE = "here"  # of functions that no other program can import

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))  # attributes of PyTorch's own
_DEEPEST = 3  # objects within objects that are looked into

_given: dict[str, Callable[..., Any]] = {}


def name_of(network: Network) -> str:
    """Return the name under which a recipe has a network, and keep the object for it.

    A module stands for itself with the weights it has now, so its name has a digest of them.
    Raises ModelError for what makes no network.
    """
    if isinstance(network, nn.Module):
        try:
            original = copy.deepcopy(network)
        except Exception as e:  # a module may hold anything
            raise ModelError(
                f"`network` cannot be copied ({reason_of(e)}); give a function that makes it"
            ) from e
        digest = f"{structure_of(original)}.{_weights_of(original)}"
        path = f"{_path_of(type(network))}{_DIGEST}{digest}"
        _given[path] = lambda: copy.deepcopy(original)
        return path
    if not callable(network):
        kind = type(network).__name__
        raise ModelError(
            f"`network` is a {kind}, but must be a torch.nn.Module, or a function that makes one"
        )
    path = _path_of(network)
    if _named_object(path) is network:
        return path
    number = 1
    # Two functions may have one name, such as those made in a loop.
    kept = f"{path}{_DIGEST}{_ONLY_HERE}"
    while _given.get(kept, network) is not network:
        number += 1
        kept = f"{path}{_DIGEST}{_ONLY_HERE}{number}"
    _given[kept] = network
    return kept


def is_object(path: str) -> bool:
    """Whether a name stands for an object that was given, rather than for what a module holds."""
    return _DIGEST in path


def find_given(path: str) -> Callable[..., Any] | None:
    """Return what makes the network of that name, where it was given to this program."""
    return _given.get(path)


def keep(path: str, network: nn.Module) -> None:
    """Let a network stand for a name that another program gave to one like it."""
    _given[path] = lambda: copy.deepcopy(network)


def drawn_by(path: str) -> str:
    """Return the name that initial values are drawn by: of functions of one name, the same."""
    name, digest, kept = path.partition(_DIGEST)
    return f"{name}{digest}{_ONLY_HERE}" if kept.startswith(_ONLY_HERE) else path


def importable_part(path: str) -> str:
    """Return the name to import: without what an object is more.

    Raises ModelError for what cannot be imported.
    """
    name, _, kept = path.partition(_DIGEST)
    if kept.startswith(_ONLY_HERE):
        raise ModelError(_elsewhere(path))
    return name


def check_structure(path: str, network: nn.Module) -> None:
    """Raise ModelError where a network is not like the module that was given under a name."""
    structure = path.partition(_DIGEST)[2].partition(".")[0]
    if structure and structure != structure_of(network):
        raise ModelError(_elsewhere(path))


def _elsewhere(path: str) -> str:
    name = path.partition(_DIGEST)[0]
    return (
        f"{name!r} was given as an object to another program, which this one cannot make again; "
        "give it one of the same structure, with run.model(network)"
    )


def _path_of(thing: Any) -> str:
    function = getattr(thing, "func", thing)  # of functools.partial
    name = getattr(function, "__qualname__", type(function).__qualname__)
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}:{name}"


def _named_object(path: str) -> Any:
    """Return what a module that is loaded has under a name; None where that is nothing."""
    module_name, _, name = path.partition(":")
    # What stands in the program itself, another cannot import.
    if module_name == "__main__":
        return None
    found: Any = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def structure_of(module: nn.Module) -> str:
    """Return a digest of what a module is beside its weights: its layers and their attributes."""
    digest = hashlib.blake2b(repr(module).encode(), digest_size=4)
    for path, layer in module.named_modules():
        digest.update(f"{path} {type(layer).__qualname__}".encode())
        for name, value in sorted(vars(layer).items()):
            if name not in _OF_EVERY_MODULE and not name.startswith("_danlu"):
                digest.update(f"{name}={_described(value)}".encode())
        for name in sorted(layer._non_persistent_buffers_set):
            digest.update(f"{name}={_described(getattr(layer, name))}".encode())
    return digest.hexdigest()


def _described(value: Any, depth: int = 0) -> str:
    """Return what an attribute is, the same in every program."""
    if isinstance(value, Tensor):
        return f"tensor{tuple(value.shape)}{value.detach().cpu().flatten().tolist()}"
    if isinstance(value, Mapping):
        return _described(sorted((str(k), v) for k, v in value.items()), depth)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_described(item, depth) for item in value)}]"
    if isinstance(value, (set, frozenset)):
        return _described(sorted(map(str, value)), depth)
    code = getattr(value, "__code__", None)
    if code is not None:
        return f"{value.__module__}.{value.__qualname__} {code.co_code!r} {code.co_consts!r}"
    if hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', None)}.{value.__qualname__}"
    inner = getattr(value, "__dict__", None)
    if inner is None or depth == _DEEPEST:
        # Addresses differ from program to program.
        return re.sub(r"0x[0-9a-f]+", "", repr(value))
    return f"{type(value).__qualname__}{_described(inner, depth + 1)}"


def _weights_of(module: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        # A lazy layer's shape is told by the first batch.
        if isinstance(tensor, Tensor) and not is_lazy(tensor) and tensor.numel():
            octets = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(octets.numpy().tobytes())
    return digest.hexdigest()
