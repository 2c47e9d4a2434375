"""Anyone's own network: `model=package.module:factory`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from danlu.data.inputs import Input
from danlu.errors import DataNotice, ModelError, notify, reason_of
from danlu.host import importable_working_folder
from danlu.imported import check_call, find, parameters_of
from danlu.models.adapt import are_probabilities, drop_channel, fits, give_outputs, take_inputs
from danlu.models.given import check_structure, drawn_by, find_given, importable_part
from danlu.models.recurrent_parts import TextSpec
from danlu.rng import drawn_apart, seed_of


def build(
    path: str,
    input_shape: tuple[int, ...],
    outputs: int,
    args: dict[str, Any],
    seed: int,
    text: TextSpec | None = None,
    inputs: Sequence[Input] = (),
) -> nn.Module:
    """Call the factory with `args`, and with `input_shape` and `outputs` if it takes them.

    Its own initial values are kept; they are drawn under a seed of their own, so equal recipes give
    equal networks. text: what is read, where examples are rows of tokens. inputs: of examples that
    have several. Raises ModelError where the call fails or what it returns cannot be trained.
    """
    factory = _factory(path)
    # A factory may know its own sizes.
    taken = parameters_of(factory)
    offered = {"input_shape": input_shape, "outputs": outputs}
    accepted = {name: value for name, value in offered.items() if name in taken}
    with drawn_apart(seed_of(seed, "init", drawn_by(path))), importable_working_folder():
        try:
            check_call(factory, {**accepted, **args})
            model: nn.Module = factory(**accepted, **args)
        except Exception as e:  # anyone's code may raise anything
            raise ModelError(
                f"`model.name` is {path!r}, but calling it failed: {reason_of(e)}; "
                "give its arguments in `model.args`"
            ) from e
        _check(model, path)
        if find_given(path) is None:
            check_structure(path, model)
        take_inputs(model, inputs)
        # Here lazy layers draw their weights.
        _check_output(model, path, _examples(input_shape, text), _expected(outputs, text))
    return model


def _factory(path: str) -> Callable[..., Any]:
    """Return what makes the network: what was given to this program, or what is imported."""
    given = find_given(path)
    if given is not None:
        return given
    return find(importable_part(path), "model.name")


def _examples(input_shape: tuple[int, ...], text: TextSpec | None) -> Tensor:
    """Return two examples of zeros; of text, of token numbers."""
    dtype = torch.int32 if text else torch.float32
    return torch.zeros(2, *input_shape, dtype=dtype)


def _expected(outputs: int, text: TextSpec | None) -> tuple[int, ...]:
    """Return the shape of the outputs for two examples; −1 for the number of their tokens."""
    if text and text.task != "classification":
        return 2, -1, outputs
    return 2, outputs


def _check(model: nn.Module, path: str) -> None:
    """Raise ModelError for what is not a network with something to train."""
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise ModelError(f"`model.name` is {path!r}, but it makes a {kind}, not a torch.nn.Module")
    if not any(True for _ in model.parameters()):
        raise ModelError(
            f"`model.name` is {path!r}, but the network has no parameters; "
            "there is nothing to train"
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError(
            f"`model.name` is {path!r}, but all of its parameters are frozen; let some of them "
            "learn, with requires_grad_(True)"
        )


def _pass(model: nn.Module, examples: Tensor, expected: tuple[int, ...]) -> Any:
    """Return the outputs for examples; of one channel, also for a network that knows none."""
    is_grey = examples.ndim == 4 and examples.shape[1] == 1
    knows_channels = not is_grey or fits(model, examples, expected)
    if not knows_channels and fits(model, examples.squeeze(1), expected):
        drop_channel(model)
    return give_outputs(model, examples, expected)


def _way_out(model: nn.Module, error: Exception) -> str:
    """Return what to do where a network wants whole numbers, as nn.Embedding does."""
    if "scalar types: Long, Int" not in str(error):
        return ""
    name = next(iter(parameters_of(model.forward)), "x")
    return (
        f'; whole numbers reach it as they are by the name of an input: ({{"{name}": x}}, y) '
        "instead of (x, y)"
    )


def _other_task(given: Any, wanted: tuple[int, ...]) -> str:
    """Return what to do where a network gives a number and the targets are classes, or reverse."""
    if len(wanted) != 2 or not isinstance(given, tuple) or len(given) != 2:
        return ""
    if given[1] == 1:
        return f': the target is {wanted[1]} classes; task="regression" takes it as numbers'
    if wanted[1] == 1:
        return ': the target is numbers; task="classification" takes each as a class'
    return ""


def _check_output(model: nn.Module, path: str, examples: Tensor, expected: tuple[int, ...]) -> None:
    """Pass two zero examples through and check the output's shape."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            out = _pass(model, examples, expected)
    except Exception as e:  # anyone's code may raise anything
        shape = tuple(examples.shape[1:])
        raise ModelError(
            f"{path!r} cannot take examples of shape {shape}: {reason_of(e)}{_way_out(model, e)}"
        ) from e
    finally:
        model.train(was_training)
    given = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    wanted = tuple(examples.shape[1] if size == -1 else size for size in expected)
    if given != wanted:
        raise ModelError(
            f"{path!r} gives {given} for two examples, but must give {wanted}"
            f"{_other_task(given, wanted)}"
        )
    last = list(model.modules())[-1]
    ends_in_sigmoid = isinstance(last, nn.Sigmoid) and wanted[-1] > 1
    if are_probabilities(out) or ends_in_sigmoid:
        notify(
            f"{path!r} gives probabilities, but logits are expected: leave out the last "
            f"{'sigmoid' if ends_in_sigmoid else 'softmax'}",
            DataNotice,
        )
