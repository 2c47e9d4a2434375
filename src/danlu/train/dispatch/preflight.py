"""Before a training: what cannot be trained is refused; device and threads are chosen."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable, Iterator

import torch

from danlu.data import Data, Schema
from danlu.errors import ModelError, RecipeError, RunError, wrong
from danlu.models.summary import summarise
from danlu.nn.recurrent import has_bfloat16
from danlu.recipe import Recipe
from danlu.recipe.sections import Model
from danlu.runs.run import build_model, outline
from danlu.train.dispatch.memory import keep_freed_memory

_ONE_THREAD = (
    20_000_000  # multiply-adds of a step below which a second thread costs more than it brings
)
_LARGE = 1 << 29  # bytes that the layers of a step give
_ONE_THREAD_A_TOKEN = 1_000_000  # of recurrent networks: those of a token of every example


def check(recipe: Recipe, data: Data) -> None:
    """Refuse a recipe that these data cannot be trained with. All mistakes at once."""
    mistakes, n = [], data.size("train")
    if recipe.batch_size > n:
        mistakes.append(
            wrong(
                "batch_size",
                recipe.batch_size,
                f"must be at most the {n} training examples",
                f"try {min(64, n)}",
            )
        )
    if recipe.early_stopping.patience and not data.size("valid"):
        mistakes.append(
            wrong(
                "early_stopping.patience",
                recipe.early_stopping.patience,
                "needs a validation part, and these data have none",
            )
        )
    mistakes += _augmented(recipe, data)
    if data.schema.is_text and recipe.normalize != Recipe().normalize:
        mistakes.append(
            wrong("normalize", recipe.normalize, "must be left out: text is read token by token")
        )
    regression = data.schema.task == "regression"
    if recipe.loss.name not in ("auto", "squared-error") and regression:
        mistakes.append(
            wrong(
                "loss.name",
                recipe.loss.name,
                "must be auto or squared-error for a target of numbers",
            )
        )
    if recipe.loss.name == "squared-error" and not regression:
        mistakes.append(
            wrong("loss.name", recipe.loss.name, "must be auto or cross-entropy for classes")
        )
    for name in ("label_smoothing", "class_weights"):
        value = getattr(recipe.loss, name)
        if regression and value not in (0, "none"):
            mistakes.append(
                wrong(f"loss.{name}", value, "needs classes, and the target is a number")
            )
    if recipe.model.crf and (
        recipe.loss.label_smoothing
        or recipe.loss.class_weights != "none"
        or recipe.loss.name != "auto"
    ):
        of = {"label_smoothing": 0.0, "class_weights": "none", "name": "auto"}
        told = [(k, v) for k, default in of.items() if (v := getattr(recipe.loss, k)) != default]
        mistakes += [
            wrong(
                f"loss.{k}", v, "must be left out with model.crf, whose loss is of whole sentences"
            )
            for k, v in told
        ]
    if recipe.model.carry and data.schema.lines:
        mistakes.append(
            wrong(
                "model.carry",
                True,
                "must be false for lines that are texts of their own",
                "try model.carry=false",
            )
        )
    if (
        recipe.augment.crop
        and data.schema.is_image
        and recipe.augment.crop >= min(data.schema.input_shape[1:])
    ):
        mistakes.append(
            wrong(
                "augment.crop",
                recipe.augment.crop,
                f"must be less than the side {min(data.schema.input_shape[1:])}",
            )
        )
    try:
        if recipe.init.from_run or ":" in recipe.model.name:
            build_model(recipe, data.schema)
        else:
            _cost(recipe.model, data.schema)
    except (ModelError, RunError) as e:
        if not mistakes:
            raise
        mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)


def _augmented(recipe: Recipe, data: Data) -> list[str]:
    """What is wrong with augmentations that these data cannot have."""
    are = "text" if data.schema.is_text else "pictures" if data.schema.is_image else "a table"
    needs = dict.fromkeys(recipe.augment.model_dump(), "pictures") | {
        "noise": "numbers",
        "unknown": "text",
    }
    given = {k: (v, needs[k]) for k, v in recipe.augment.model_dump().items() if v}
    return [
        wrong(f"augment.{k}", v, f"needs {need}, and these data are {are}")
        for k, (v, need) in given.items()
        if need != are and not (need == "numbers" and are != "text")
    ]


def choose_device(name: str, has: bool | None = None) -> str:
    """ "cpu" or "cuda" for auto, cpu or cuda; has: whether there is a GPU (default: on this machine).

    Raises RunError for another name, and where there is none.
    """
    why = (
        "this machine has no CUDA device that PyTorch can use"
        if has is None
        else "the cluster has no GPU"
    )
    has = torch.cuda.is_available() if has is None else has
    if name not in ("auto", "cpu", "cuda"):
        raise RunError(wrong("device", name, "must be auto, cpu or cuda"))
    if name == "cuda" and not has:
        raise RunError(wrong("device", name, f"must be cpu: {why}"))
    return ("cuda" if has else "cpu") if name == "auto" else name


def is_emulated(recipe: Recipe, device: str) -> bool:
    """Whether arithmetic in bfloat16 is asked of a processor that has no instructions for it."""
    return recipe.dtype == "bf16-mixed" and device == "cpu" and not has_bfloat16()


def threads_for(recipe: Recipe, data: Data) -> int:
    """Threads to train with: one for small steps, else all.

    A fixed rule, not a measurement: the number of threads changes the last bits of sums.
    """
    if ":" in recipe.model.name:
        return torch.get_num_threads()  # of anyone's network the cost is not known
    cost = 3 * recipe.batch_size * _cost(recipe.model, data.schema)[0]
    least = _ONE_THREAD
    if data.schema.is_text:
        cost, least = cost // (3 * data.schema.input_shape[0]), _ONE_THREAD_A_TOKEN
    return 1 if cost < least else torch.get_num_threads()


@functools.lru_cache(maxsize=256)
def _cost(model: Model, schema: Schema) -> tuple[int, int]:
    """Of one example by a network of the zoo: multiply-adds, and values that layers give. Raises ModelError if it cannot be."""
    rows = summarise(outline(model, schema), schema.input_shape)
    return sum(r.multiply_adds for r in rows), sum(math.prod(r.output) for r in rows)


def reuse_memory(recipes: Iterable[Recipe], data: Data) -> None:
    """Have the allocator keep what is freed, unless a step is large: then little time is saved, and holes between blocks grow."""
    known = (r for r in recipes if ":" not in r.model.name)
    if all(4 * r.batch_size * _cost(r.model, data.schema)[1] < _LARGE for r in known):
        keep_freed_memory()


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Within, train on n threads. What decays towards 0, such as a dead unit's momentum, becomes 0 instead of one of the
    numbers below 10⁻³⁸ that processors take ten times as long for.
    """
    before, flushed = torch.get_num_threads(), float(torch.tensor(1e-40) * 1.0) == 0
    torch.set_num_threads(n)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(flushed)
