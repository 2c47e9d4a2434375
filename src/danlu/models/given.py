"""Networks given as Python objects: a module, a class, or a function that makes one.

A recipe is text, so it names them, `package.module:name`. While the program runs the name stands
for the object itself; another program imports it from there, where that can be done.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from danlu.errors import ModelError

Network = nn.Module | Callable[..., nn.Module]

_DIGEST = "@"  # before what distinguishes several objects of one name

_given: dict[str, Callable[..., Any]] = {}


def name_of(network: Network) -> str:
    """Return the name under which a recipe has a network, and keep the object for it.

    A module stands for itself with the weights it has now, so its name has a digest of them.
    Raises ModelError for what makes no network.
    """
    if isinstance(network, nn.Module):
        original = copy.deepcopy(network)
        path = f"{_path_of(type(network))}{_DIGEST}{_digest(original)}"
        _given[path] = lambda: copy.deepcopy(original)
        return path
    if not callable(network):
        kind = type(network).__name__
        raise ModelError(
            f"`network` is a {kind}, but must be a torch.nn.Module, or a function that makes one"
        )
    path = _path_of(network)
    number = 2
    unnumbered = path
    # Two functions may have one name, such as those made in a loop.
    while _given.get(path, network) is not network:
        path = f"{unnumbered}{_DIGEST}{number}"
        number += 1
    if _named_object(path) is not network:
        _given[path] = network
    return path


def is_kept(path: str) -> bool:
    """Whether a name stands for an object of this program, which no other can import."""
    return path in _given


def find_given(path: str) -> Callable[..., Any] | None:
    """Return what makes the network of that name, where it was given to this program."""
    return _given.get(path)


def importable_part(path: str) -> str:
    """Return the name to import: without what distinguishes objects."""
    return path.partition(_DIGEST)[0]


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


def _digest(module: nn.Module) -> str:
    digest = hashlib.blake2b(repr(module).encode(), digest_size=4)
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        if is_lazy(tensor):
            continue  # a lazy layer's, whose shape the first batch tells
        digest.update(tensor.detach().cpu().contiguous().flatten().numpy().tobytes())
    return digest.hexdigest()
