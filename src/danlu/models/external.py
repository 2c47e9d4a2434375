"""Anyone's own network: `model=package.module:factory`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from danlu.errors import ModelError
from danlu.rng import seed_of


def find(path: str) -> Callable[..., Any]:
    """The factory at `package.module:name`; the working folder counts as importable."""
    module_name, _, name = path.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
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
    path: str, input_shape: tuple[int, ...], outputs: int, args: dict[str, Any], seed: int
) -> nn.Module:
    """Call the factory with `args`, and with `input_shape` and `outputs` if it takes arguments of those names.

    Its own initial values are kept; they are drawn under a seed of their own, so equal recipes give equal networks.
    """
    factory = find(path)
    try:
        takes = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        takes = {}  # type: ignore[assignment]
    offered = {"input_shape": input_shape, "outputs": outputs}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, "init", path))
        try:
            model = factory(**{k: v for k, v in offered.items() if k in takes}, **args)
        except Exception as e:  # anyone's code may raise anything
            raise ModelError(
                f"`model.name` is {path!r}, but calling it failed: {e}; give its arguments in `model.args`"
            ) from e
    if isinstance(model, nn.Module) and not any(True for _ in model.parameters()):
        raise ModelError(
            f"`model.name` is {path!r}, but the network has no parameters; there is nothing to train"
        )
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"`model.name` is {path!r}, but it makes a {type(model).__name__}, not a torch.nn.Module"
        )
    _check(model, path, input_shape, outputs)
    return model


def _check(model: nn.Module, path: str, input_shape: tuple[int, ...], outputs: int) -> None:
    """Run two zero examples through and hold the output's shape."""
    was = model.training
    try:
        with torch.no_grad():
            out = model.eval()(torch.zeros(2, *input_shape))
    except Exception as e:  # anyone's code may raise anything
        raise ModelError(
            f"{path!r} cannot take examples of shape {input_shape}: {str(e).splitlines()[0]}"
        ) from e
    finally:
        model.train(was)
    got = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if got != (2, outputs):
        raise ModelError(f"{path!r} gives {got} for two examples, but must give (2, {outputs})")
