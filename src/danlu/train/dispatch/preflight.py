"""Refusing, before a training, what cannot be trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from danlu.data import Data, Schema
from danlu.data.inputs import Input, unpacked
from danlu.errors import (
    Mistake,
    ModelError,
    RecipeError,
    RunError,
    reason_of,
    some,
    unknown,
    wrong,
)
from danlu.imported import is_path
from danlu.memory import as_bytes, total_memory
from danlu.nn.losses import LOSSES, resolve_loss
from danlu.nn.own_loss import check_own_loss
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.train.dispatch.cost import network_cost
from danlu.train.engine.scorer import evaluates_by_fold

_MOST_TAGS = 1_000  # with a CRF: more would take seconds for each step
# What each augmentation needs the examples to be; pictures for those not named.
_AUGMENT_NEEDS = {"noise": "numbers", "mixup": "numbers", "word_dropout": "text"}


def check(recipe: Recipe, data: Data) -> None:
    """Raise RecipeError for a recipe that does not fit the data, with all mistakes at once."""
    recipe.check_trust()
    mistakes = [
        *_part_mistakes(recipe, data),
        *_input_mistakes(recipe, data),
        *_loss_mistakes(recipe, data),
        *_smoothing_mistakes(recipe, data),
        *_sample_mistakes(recipe, data),
        *_text_mistakes(recipe, data),
    ]
    try:
        if is_path(recipe.loss.name):
            loss, schema = recipe.loss, data.schema
            is_weighted = loss.class_weights != "none" or not recipe.sample.whole
            check_own_loss(
                loss.name,
                loss.args or {},
                not schema.is_regression,
                schema.outputs,
                is_weighted or schema.each_token,
            )
        # What depends on files or on anyone's code shows only when it is built.
        if recipe.init.weights or recipe.is_imported:
            model = build_model(recipe, data.schema)
            _check_whole_numbers(model, data)
        else:
            network_cost(recipe.model, data.schema)
    except (ModelError, RunError) as e:
        if not mistakes:
            raise
        mistakes += e.mistakes
    if mistakes:
        raise RecipeError(*mistakes)


def _check_whole_numbers(model: nn.Module, data: Data) -> None:
    """Raise ModelError where a network has no place for some of its whole numbers."""
    whole = [part for part in data.schema.inputs if part.whole]
    if not whole:
        return
    # Examples that exist: of each column, those with the least and the largest number.
    examples = data.x[torch.cat([data.x.argmin(0), data.x.argmax(0)]).unique()]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(examples)
    except Exception as e:  # anyone's code may raise anything
        raise ModelError(
            f"the network cannot take {_ranges(data.schema.inputs, examples)}: {reason_of(e)}; "
            "what looks numbers up, such as nn.Embedding, needs a row for each from 0 to the "
            "largest"
        ) from e
    finally:
        model.train(was_training)


def _ranges(inputs: Sequence[Input], examples: Tensor) -> str:
    ranges = []
    for part, columns in zip(inputs, unpacked(examples, inputs), strict=True):
        if part.whole:
            name = "the numbers" if part.name is None else repr(part.name)
            ranges.append(f"{name} of {int(columns.min()):,} to {int(columns.max()):,}")
    return some(ranges)


def _part_mistakes(recipe: Recipe, data: Data) -> list[Mistake]:
    mistakes = []
    n = data.size("train")
    if recipe.batch_size > n:
        rule = f"must be at most the {n} training examples"
        mistakes.append(wrong("batch_size", recipe.batch_size, rule, f"try {min(64, n)}"))
    patience = recipe.early_stopping.patience
    if patience and not data.size("valid") and not evaluates_by_fold([recipe], data):
        rule = "needs a validation part, and these data have none"
        mistakes.append(wrong("early_stopping.patience", patience, rule))
    metric = recipe.early_stopping.metric
    if not data.schema.has_metric(metric):
        mistakes.append(unknown("early_stopping.metric", metric, data.schema.metrics))
    return mistakes


def _input_mistakes(recipe: Recipe, data: Data) -> list[Mistake]:
    """Return what is wrong with augmentation and normalisation for these data."""
    schema = data.schema
    mistakes = []
    given = _kind_of_examples(schema)
    for name, value in recipe.augment.model_dump().items():
        needed = _AUGMENT_NEEDS.get(name, "pictures")
        takes_all_numbers = needed == "numbers" and given != "text"
        if value and needed != given and not takes_all_numbers:
            rule = f"needs {needed}, and these data are {given}"
            mistakes.append(wrong(f"augment.{name}", value, rule))
    if schema.is_text and recipe.normalize != Recipe().normalize:
        rule = "must be left out: text is read token by token"
        mistakes.append(wrong("normalize", recipe.normalize, rule))
    if recipe.augment.mixup and not recipe.sample.whole:
        rule = "must be 0 for a share, fold or bootstrap: what is left out would be mixed in"
        mistakes.append(wrong("augment.mixup", recipe.augment.mixup, rule))
    crop = recipe.augment.crop
    if crop and schema.is_image:
        side = min(schema.input_shape[1:])
        if crop >= side:
            mistakes.append(wrong("augment.crop", crop, f"must be less than the side {side}"))
    return mistakes


def _kind_of_examples(schema: Schema) -> str:
    if schema.is_text:
        return "text"
    return "pictures" if schema.is_image else "a table"


def _loss_mistakes(recipe: Recipe, data: Data) -> list[Mistake]:
    loss = recipe.loss
    schema = data.schema
    mistakes = []
    takes_classes = not schema.is_regression
    name = resolve_loss(loss.name, takes_classes)
    if name in LOSSES and LOSSES[name].classes != takes_classes:
        fitting = [other for other, rule in LOSSES.items() if rule.classes == takes_classes]
        targets = "classes" if takes_classes else "a target of numbers"
        rule = f"must be auto, {', '.join(fitting)} or a function of yours for {targets}"
        mistakes.append(wrong("loss.name", loss.name, rule))
    if schema.is_regression:
        rule = "needs classes, and the target is a number"
        for field in ("label_smoothing", "class_weights"):
            value = getattr(loss, field)
            if value not in (None, 0, "none"):
                mistakes.append(wrong(f"loss.{field}", value, rule))
    elif not isinstance(loss.class_weights, str) and len(loss.class_weights) != schema.outputs:
        listed = some(schema.classes, 8)
        rule = f"must be {schema.outputs} numbers, one for each class ({listed})"
        mistakes.append(wrong("loss.class_weights", loss.class_weights, rule))
    if recipe.model.crf:
        rule = "must be left out with model.crf, whose loss is of whole sentences"
        for name, value in loss.model_dump().items():
            is_default = value in (None, 0, type(loss).model_fields[name].default)
            if not is_default:
                mistakes.append(wrong(f"loss.{name}", value, rule))
    return mistakes


def _smoothing_mistakes(recipe: Recipe, data: Data) -> list[Mistake]:
    smoothing, classes = recipe.loss.label_smoothing, data.schema.outputs
    if data.schema.is_regression or not smoothing:
        return []
    uniform = (classes - 1) / classes  # from here on another class gets as much as the true one
    if smoothing < uniform:
        return []
    rule = f"must be less than {uniform:.4g}, at which the labels of {classes} classes say nothing"
    return [wrong("loss.label_smoothing", smoothing, rule, "try 0.1")]


def _sample_mistakes(recipe: Recipe, data: Data) -> list[Mistake]:
    mistakes, schema = [], data.schema
    if recipe.sample.resample and not (recipe.sample.whole and not recipe.sample.balanced):
        rule = "must stand alone, without bootstrap, share, folds and balanced"
        mistakes.append(wrong("sample.resample", True, rule))
    if recipe.sample.resample and recipe.model.stateful:
        rule = "must be left out: the text would not go on from window to window"
        mistakes.append(wrong("sample.resample", True, rule))
    if recipe.sample.balanced and schema.task != "classification":
        rule = f"needs examples of classes, and the task is {schema.task}"
        mistakes.append(wrong("sample.balanced", True, rule))
    return mistakes


def _text_mistakes(recipe: Recipe, data: Data) -> list[Mistake]:
    tags, tokens = data.schema.outputs, data.schema.input_shape[0]
    if recipe.model.crf and data.schema.task == "tagging":
        # The forward algorithm and its gradient keep a number for each pair of tags at each token.
        size = 8 * recipe.batch_size * tokens * tags**2
        hint = "try model.crf=false, or fewer kinds of tags"
        if tags > _MOST_TAGS:
            rule = f"needs at most {_MOST_TAGS:,} tags, and the data have {tags:,}"
            return [wrong("model.crf", True, rule, hint)]
        if size > total_memory() / 2:
            rule = (
                f"needs {as_bytes(size)} for sums over pairs of {tags:,} tags in each step, and "
                f"may take {as_bytes(total_memory() / 2)}"
            )
            return [wrong("model.crf", True, rule, f"{hint}, or a smaller batch_size")]
    if not recipe.model.stateful or not data.schema.lines:
        return []
    rule = "must be false for lines that are texts of their own"
    return [wrong("model.stateful", True, rule, "try model.stateful=false")]
