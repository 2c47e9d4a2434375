"""Anyone's own code by its name, `package.module:name`: networks and losses."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from danlu.errors import ModelError, reason_of
from danlu.host import importable_working_folder


def is_path(name: str) -> bool:
    """Whether a name of a recipe means something to import."""
    module, colon, thing = name.partition(":")
    return bool(colon and module.strip() and thing.strip())


def find(path: str, field: str) -> Callable[..., Any]:
    """Return the class or function at `package.module:name`, without calling it.

    The working folder counts as importable. field: of the recipe, which names it. Raises ModelError
    where there is none, and for what is neither a network's class nor a function of anyone's own:
    Python's library has no networks, but functions that delete files.
    """
    module_name, _, name = path.partition(":")
    try:
        with importable_working_folder():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as e:  # a module may do anything when it is imported
        raise ModelError(
            f"`{field}` is {path!r}, but {module_name!r} cannot be imported: {reason_of(e)}"
        ) from e
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ModelError(f"`{field}` is {path!r}, but {module_name!r} has no callable {name!r}")
    _look_at(found, path, field)
    return found  # type: ignore[no-any-return]


def _look_at(found: Any, path: str, field: str) -> None:
    from torch import nn

    while isinstance(found, functools.partial):
        found = found.func
    is_network = isinstance(found, type) and issubclass(found, nn.Module)
    if not is_network and not inspect.isroutine(found):
        kind = f"the class {found.__name__}" if isinstance(found, type) else type(found).__name__
        rule = "must be a function, or a class of torch.nn.Module"
        raise ModelError(f"`{field}` is {path!r}, which is {kind}, but {rule}")
    if _is_python_s_own(getattr(found, "__module__", None)):
        raise ModelError(
            f"`{field}` is {path!r}, which is of Python's own library, but must be of a module for "
            "training networks"
        )


def _is_python_s_own(module_name: str | None) -> bool:
    """Whether a module is of the standard library, and not one of the user's that has its name."""
    if module_name is None or module_name.partition(".")[0] not in sys.stdlib_module_names:
        return module_name is None or module_name == "builtins"
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return file is None or Path(file).is_relative_to(sysconfig.get_path("stdlib"))


def check_call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise TypeError where a function does not take these arguments; it is not called."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some builtins
        return
    signature.bind(**arguments)


def parameters_of(function: Callable[..., Any]) -> Any:
    """Return the parameters of a callable by name; none where they are not known."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some builtins
        return {}
