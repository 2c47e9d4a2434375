"""danlu as a guest: public functions compute by their own settings, and leave the host's as found.

A program may call them with gradients off, another default type or device, under autocast or in
inference mode; none of it changes a result. What they or the libraries they import change, random
states, warning filters, `sys.path`, the environment, is put back when they return.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

Given = ParamSpec("Given")
Result = TypeVar("Result")

_inside = threading.local()  # whether this thread is within a public function


def guest(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Have a public function leave its host as it found it; a generator at each of its steps."""

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with as_guest():
            result = function(*args, **kwargs)
        if isinstance(result, types.GeneratorType):
            return cast(Result, _step_by_step(result))
        return result

    return call


def _step_by_step(steps: Iterator[Any]) -> Iterator[Any]:
    while True:
        with as_guest():
            try:
                step = next(steps)
            except StopIteration:
                return
        yield step


@contextlib.contextmanager
def as_guest() -> Iterator[None]:
    """Compute by danlu's own settings within, and put back the host's."""
    if getattr(_inside, "is_so", False):
        yield
        return
    _inside.is_so = True
    try:
        with _process_restored(), _own_settings():
            yield
    finally:
        _inside.is_so = False


@contextlib.contextmanager
def _process_restored() -> Iterator[None]:
    """Put back what belongs to the whole process."""
    import numpy as np
    import torch

    path = sys.path[:]
    filters = list(warnings.filters)
    variables = dict(os.environ)
    of_python = random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002
    of_torch = torch.get_rng_state()
    of_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        torch.set_rng_state(of_torch)
        if of_cuda is not None:
            torch.cuda.set_rng_state_all(of_cuda)
        if sys.path != path:
            sys.path[:] = path
        if list(warnings.filters) != filters:
            _restore_filters(filters)
        if os.environ != variables:
            _restore_environment(variables)


def _restore_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    # Which has the library forget what it decided by the others.
    with warnings.catch_warnings():
        pass


def _restore_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    """Set what results depend on, whatever the host computes by."""
    import torch

    dtype = torch.get_default_dtype()
    was_flushing = float(torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 1.0) == 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        # Such a context costs a little in every operation, so there is none without need.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        torch.set_flush_denormal(False)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_flush_denormal(was_flushing)
