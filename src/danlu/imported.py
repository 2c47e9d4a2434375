"""Anyone's own code by its name, `package.module:name`: networks and losses."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from danlu.errors import ModelError
from danlu.host import importable_working_folder


def is_path(name: str) -> bool:
    """Whether a name of a recipe means something to import."""
    module, colon, thing = name.partition(":")
    return bool(colon and module.strip() and thing.strip())


def find(path: str, field: str) -> Callable[..., Any]:
    """Return the callable at `package.module:name`; the working folder counts as importable.

    field: of the recipe, which names it. Raises ModelError where there is none.
    """
    module_name, _, name = path.partition(":")
    try:
        with importable_working_folder():
            module = importlib.import_module(module_name)
    except ImportError as e:
        raise ModelError(
            f"`{field}` is {path!r}, but {module_name!r} cannot be imported: {e}"
        ) from e
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ModelError(f"`{field}` is {path!r}, but {module_name!r} has no callable {name!r}")
    return found  # type: ignore[no-any-return]


def parameters_of(function: Callable[..., Any]) -> Any:
    """Return the parameters of a callable by name; none where they are not known."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some builtins
        return {}
