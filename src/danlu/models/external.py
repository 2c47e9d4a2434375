"""Anyone's own network: `model=package.module:factory`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from danlu.errors import ModelError, reason_of
from danlu.host import importable_working_folder
from danlu.rng import seed_of


def find(path: str) -> Callable[..., Any]:
    """Return the factory at `package.module:name`; the working folder counts as importable.

    Raises ModelError where there is none.
    """
    module_name, _, name = path.partition(":")
    try:
        with importable_working_folder():
            module = importlib.import_module(module_name)
    except ImportError as e:
        raise ModelError(
            f"`model.name` is {path!r}, but {module_name!r} cannot be imported: {e}"
        ) from e
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ModelError(f"`model.name` is {path!r}, but {module_name!r} has no callable {name!r}")
    return factory  # type: ignore[no-any-return]


def build(
    path: str,
    input_shape: tuple[int, ...],
    outputs: int,
    args: dict[str, Any],
    seed: int,
) -> nn.Module:
    """Call the factory with `args`, and with `input_shape` and `outputs` if it takes them.

    Its own initial values are kept; they are drawn under a seed of their own, so equal recipes give
    equal networks. Raises ModelError where the call fails or what it returns cannot be trained.
    """
    factory = find(path)
    # A factory may know its own sizes.
    taken = _parameters(factory)
    offered = {"input_shape": input_shape, "outputs": outputs}
    accepted = {name: value for name, value in offered.items() if name in taken}
    with torch.random.fork_rng(devices=[]), importable_working_folder():
        torch.default_generator.manual_seed(seed_of(seed, "init", path))
        try:
            model: nn.Module = factory(**accepted, **args)
        except Exception as e:  # anyone's code may raise anything
            raise ModelError(
                f"`model.name` is {path!r}, but calling it failed: {reason_of(e)}; "
                "give its arguments in `model.args`"
            ) from e
        _check(model, path, input_shape, outputs)  # here lazy layers draw their weights
    return model


def _check(model: nn.Module, path: str, input_shape: tuple[int, ...], outputs: int) -> None:
    """Raise ModelError for what is not a network that fits the examples."""
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ModelError(f"`model.name` is {path!r}, but it makes a {kind}, not a torch.nn.Module")
    if not any(True for _ in model.parameters()):
        raise ModelError(
            f"`model.name` is {path!r}, but the network has no parameters; "
            "there is nothing to train"
        )
    _check_output(model, path, input_shape, outputs)


def _parameters(factory: Callable[..., Any]) -> Any:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # of some builtins none is known
        return {}


def _check_output(model: nn.Module, path: str, input_shape: tuple[int, ...], outputs: int) -> None:
    """Pass two zero examples through and check the output's shape."""
    was_training = model.training
    try:
        with torch.no_grad():
            out = model.eval()(torch.zeros(2, *input_shape))
    except Exception as e:  # anyone's code may raise anything
        reason = reason_of(e)
        raise ModelError(f"{path!r} cannot take examples of shape {input_shape}: {reason}") from e
    finally:
        model.train(was_training)
    given = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if given != (2, outputs):
        raise ModelError(f"{path!r} gives {given} for two examples, but must give (2, {outputs})")
