"""The plain PyTorch loop that a recipe stands for, as a script that gives the same numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import indent
from typing import cast

from torch import Tensor, nn

from danlu.data import Data, load
from danlu.errors import Mistake, RecipeError
from danlu.export.sources import (
    OWN_LAYERS,
    augments,
    has_dropout,
    initial_values,
    is_chain,
    sources,
)
from danlu.export.templates import BEFORE_STOPPING, HEAD, STOPPING, TEST, TRAINING, TYPES
from danlu.models import MODELS
from danlu.nn import init, layers
from danlu.nn.losses import LOSSES, resolve_loss
from danlu.optim.optimizers import OPTIMIZERS
from danlu.optim.schedules import SCHEDULES
from danlu.recipe import Recipe
from danlu.recipe.build import build_model
from danlu.train import check
from danlu.train.dispatch.device import threads_for


def as_code(recipe: Recipe, source: str) -> str:
    """Return the script for a source that goes by a name.

    Raises RecipeError where the recipe needs more than a script.
    """
    _refuse_unwritable(recipe)
    # Before anything is written: a script that could not run helps nobody.
    data = load(source)
    check(recipe, data)
    loop = _PlainLoop(recipe, source, data, build_model(recipe, data.schema))
    blocks = [
        *sources(recipe, loop.model, loop.loss),
        loop.data_section(),
        loop.model_section(),
        loop.update_section(),
        loop.training_section(),
        loop.test_section(),
    ]
    body = "\n\n\n".join(block.strip("\n") for block in blocks)
    return f"{loop.head(body)}\n\n{body}\n"


def _refuse_unwritable(recipe: Recipe) -> None:
    """Raise RecipeError for what a script does not write."""
    if recipe.imports or recipe.init.weights:
        path = "model.name" if recipe.is_imported else "loss.name"
        if recipe.init.weights:
            path = "init.weights"
        raise RecipeError(
            f"`{path}` brings in weights or code from outside, "
            "but a plain loop can only be written for models of the zoo"
        )
    values = {
        "average.name": (recipe.average.name, "none"),
        "accumulate": (recipe.accumulate, 1),
        "model.auxiliary": (recipe.model.auxiliary or 0, 0),
        "sample.balanced": (recipe.sample.balanced, False),
        "augment.mixup": (recipe.augment.mixup, 0.0),
        "sample.resample": (recipe.sample.resample, False),
    }
    if SCHEDULES[recipe.schedule.name].follows_loss:
        values["schedule.name"] = (recipe.schedule.name, "constant")
    if recipe.dtype == "bf16-mixed":
        values["dtype"] = (recipe.dtype, "float32")
    mistakes = []
    for path, (value, only) in values.items():
        if value != only:
            rule = "is not written into plain loops"
            sentence = (
                f"`{path}` is {value!r}, which {rule}; try {path.removesuffix('.name')}={only}"
            )
            mistakes.append(Mistake(sentence))
    # Its batches, masks and cells are most of the engine, and no plain loop any more.
    if MODELS[recipe.model.name].reads_text:
        mistakes.append(
            Mistake(
                f"`model.name` is {recipe.model.name!r}, "
                "and what reads text is not written into plain loops; try model=dense"
            )
        )
    if mistakes:
        raise RecipeError(*mistakes)


@dataclass(frozen=True)
class _PlainLoop:
    """Writes each section of the script."""

    recipe: Recipe
    source: str
    data: Data
    model: nn.Module

    @property
    def is_classification(self) -> bool:
        return not self.data.schema.is_regression

    @property
    def loss(self) -> str:
        return resolve_loss(self.recipe.loss.name, self.is_classification)

    @property
    def plain_loss(self) -> str:
        """The function that scores: the loss without smoothing and weights."""
        return "cross_entropy" if self.is_classification else "squared_error"

    @property
    def is_sampled(self) -> bool:
        """Whether training examples count differently."""
        return not self.recipe.sample.whole

    @property
    def is_weighted(self) -> bool:
        """Whether classes count differently."""
        return self.recipe.loss.class_weights != "none"

    def head(self, body: str) -> str:
        """Return the imports, and the types that the rest of the script names."""
        task = "reads and scales the data"
        # A network of blocks is built by danlu itself: its code is a file of its own.
        if not is_chain(self.model):
            task += ", and builds the network,"
        lines = [HEAD.format(task=task, threads=threads_for(self.recipe, self.data))]
        for name, definition in TYPES.items():
            if re.search(rf"\b{name}\b", body):
                lines.append(f"{name} = {definition}\n")
        if has_dropout(self.model) and is_chain(self.model):
            lines.append('_dropout_source = ContextVar("dropout_source", default=None)\n')
        elif has_dropout(self.model):
            lines.append("from danlu.nn.layers import dropout_source\n")
        return "".join(lines)

    def data_section(self) -> str:
        """Return the lines that load, scale and split."""
        lines = [
            "# ---- data",
            f"data = danlu.load({self.source!r})",
            f"normalize = data.normalizer({self.recipe.normalize!r})"
            f'.to("cpu", torch.{self.recipe.dtype})',
        ]
        # Targets of numbers are scaled to mean 0 and spread 1, as in the engine.
        target = "data.y"
        if not self.is_classification:
            target = "y_all"
            logarithm = ".log()" if self.data.schema.log_target else ""
            lines += [
                "mean, spread = data.schema.scale",
                f"y_all = (data.y{logarithm} - mean) / spread",
            ]
        lines.append('train, valid, test = (data.parts[p] for p in ("train", "valid", "test"))')
        for part in ("train", "valid", "test"):
            lines.append(f"x_{part}, y_{part} = data.x[{part}], {target}[{part}]")
        return "\n".join(lines)

    def model_section(self) -> str:
        """Return the lines that build the network and name its parameters."""
        lines = self._chain() if is_chain(self.model) else self._built_by_danlu()
        return "\n".join(
            [
                "# ---- model",
                *lines,
                f"model = model.to(torch.{self.recipe.dtype})",
                # As in the stack: matrices before biases, so that sums are in the same order.
                "# What decay and penalties act on, and the rest.",
                "weights = [p for p in model.parameters() if p.ndim >= 2]",
                "parameters = weights + [p for p in model.parameters() if p.ndim < 2]",
            ]
        )

    def _chain(self) -> list[str]:
        lines = ["model = nn.Sequential()"]
        for name, layer in self.model.named_children():
            # danlu's own layers stand in the script itself.
            library = "" if isinstance(layer, OWN_LAYERS) else "nn."
            lines.append(f"model.add_module({name!r}, {library}{layer!r})")
        return [*lines, "with torch.no_grad():", *self._draws()]

    def _draws(self) -> list[str]:
        """Return the lines that draw the initial weights, each from its own stream."""
        seed, lines = self.recipe.seed, []
        rule, activation, std = initial_values(self.recipe)
        for name, layer, chosen in init.plan(self.model, rule, activation):
            shape = tuple(cast(Tensor, layer.weight).shape)
            n, q = init.fans(shape)
            generator = f'stream({seed}, "init", "{name}.weight")'
            draw = f"{init.INITS[chosen].__name__}({shape}, {n}, {q}, {std}, {generator})"
            lines.append(f"    model.{name}.weight.copy_({draw})")
            lines.append(f"    model.{name}.bias.fill_({self.recipe.init.bias})")
        for name, layer in self.model.named_children():
            if isinstance(layer, layers.PHMLinear):
                generator = f'stream({seed}, "init", f"{name}.{{part}}")'
                lines.append(f"    model.{name}.initialise(lambda part: {generator})")
        return lines

    def _built_by_danlu(self) -> list[str]:
        """Return the lines for a network of many blocks."""
        # Only what is said: `build` has no defaults, and refuses what a row does not read.
        fields = self.recipe.model.model_dump(exclude_none=True, exclude={"name"})
        initial = self.recipe.init.model_dump(include={"name", "std", "bias"})
        return [
            "from danlu.models import build",
            "",
            "model = build(",
            f"    {self.recipe.model.name!r},",
            "    data.schema.input_shape,",
            "    data.schema.outputs,",
            f"    {fields},",
            f"    {initial},",
            f"    {self.recipe.seed},",
            ")",
        ]

    def update_section(self) -> str:
        """Return the lines on state, hyper-parameters, weights of examples, learning rate."""
        recipe = self.recipe
        hyper = recipe.optimizer.model_dump(exclude_none=True, exclude={"name"})
        names = OPTIMIZERS[recipe.optimizer.name].state
        zeros = ", ".join(f'"{name}": torch.zeros_like(p, requires_grad=False)' for name in names)
        class_weights = counts = "None"
        given = recipe.loss.class_weights
        if given == "balanced":
            weights = "balanced_weights(data.class_counts('train'))"
            class_weights = f"{weights}.to(torch.{recipe.dtype})"
        elif self.is_weighted:
            class_weights = f"torch.tensor({list(given)}, dtype=torch.{recipe.dtype})"
        if self.is_sampled:
            sample = f"SimpleNamespace(whole=False, **{recipe.sample.model_dump()})"
            labels = ", y_train" if self.is_classification else ""
            counts = f"example_counts({sample}, len(train){labels})"
        return "\n".join(
            [
                "# ---- update",
                f"hyper = {hyper}",
                f"state = [{{{zeros}}} for p in parameters]",
                f"class_weights = {class_weights}",
                f"counts = {counts}",
                *self._mean_weight(),
                "",
                "",
                "def lr(k):",
                f"    return {recipe.optimizer.lr} * {self._schedule()}",
            ]
        )

    def _mean_weight(self) -> list[str]:
        """Return the lines on what an example of the training part weighs on average."""
        if not self.is_sampled and not self.is_weighted:
            return []
        counts = "counts" if self.is_sampled else "None"
        weights = f"example_weights(y_train, 1, class_weights, {counts})"
        return [f"mean_weight = {weights}.double().mean().to(torch.{self.recipe.dtype})"]

    def _schedule(self) -> str:
        """Return the factor of the learning rate at step k, as an expression."""
        recipe = self.recipe
        warmup, name = recipe.schedule.warmup, recipe.schedule.name
        factor = "1.0"
        if name != "constant":
            fields = recipe.schedule.model_dump(exclude_none=True, exclude={"name", "warmup"})
            # The schedule itself begins after the warm-up.
            epochs_done = f"k / steps - {warmup}" if warmup else "k / steps"
            call = SCHEDULES[name].factor.__name__
            factor = f"{call}({epochs_done}, {recipe.epochs - warmup}, {fields})"
        if warmup:
            climb = f"min(1.0, (k + 1) / ({warmup} * steps))"
            return f"({climb} if k < {warmup} * steps else {factor})"
        return factor

    def _forward(self) -> list[str]:
        """Return the lines from a batch's examples to the network's outputs."""
        recipe = self.recipe
        lines = ["raw, y = x_train[batch], y_train[batch]"]
        if augments(recipe):
            lines += [
                f'g = stream({recipe.order_seed}, "augment", k)',
                f"augment = Augmenter(**{recipe.augment.model_dump()})",
                "if augment.moves:",
                f"    raw = augment.move(raw.to(torch.{recipe.dtype}), g)",
                "x = augment.add_noise(augment.hide(normalize(raw), g), g)",
            ]
        else:
            lines.append("x = normalize(raw)")
        if has_dropout(self.model):
            lines.append(f'with dropout_source(stream({recipe.seed}, "dropout", k)):')
            lines.append("    out = model(x)")
        else:
            lines.append("out = model(x)")
        return lines

    def _backward(self) -> list[str]:
        """Return the lines from the outputs to the gradients."""
        per_example = "None"
        # Where every example counts alike, plain means are easier to read.
        if self.is_sampled or self.is_weighted:
            counts = "counts[batch]" if self.is_sampled else "None"
            average = "len(y) * mean_weight"
            per_example = f"example_weights(y, {average}, class_weights, {counts})"
        rule = LOSSES[self.loss]
        parameter = getattr(self.recipe.loss, rule.parameter.name) if rule.parameter else 0.0
        return [
            f"loss = {rule.value.__name__}(out, y, {parameter}, {per_example})",
            "model.zero_grad()",
            "loss.backward()",
        ]

    def _update(self) -> list[str]:
        """Return the lines from the gradients to new weights."""
        recipe, lines = self.recipe, []
        penalty, clip = recipe.penalty, recipe.clip
        m = "counts.sum()" if self.is_sampled else "len(train)"
        if penalty.l2:
            lines += ["for w in weights:", f"    w.grad += l2_gradient(w, {penalty.l2}, {m})"]
        if penalty.l1:
            call = f"l1_gradient(w, {penalty.l1}, {m}, {penalty.eps})"
            lines += ["for w in weights:", f"    w.grad += {call}"]
        if clip.norm:
            lines += [
                "gradient = torch.cat([p.grad.flatten() for p in parameters])",
                f"clip_norm(gradient, {clip.norm})",
                "pieces = gradient.split([p.numel() for p in parameters])",
                "for p, g in zip(parameters, pieces):",
                "    p.grad = g.view(p.shape)",
            ]
        if clip.value:
            lines += ["for p in parameters:", f"    clip_value(p.grad, {clip.value})"]
        # After clipping, before decay: the order of danlu's engine.
        lines.append('hyper["lr"] = lr(k)')
        if recipe.optimizer.weight_decay:
            decay = 'w.mul_(1 - hyper["lr"] * hyper["weight_decay"])'
            lines += ["for w in weights:", f"    {decay}"]
        rule = OPTIMIZERS[recipe.optimizer.name].update.__name__
        lines.append("for p, s in zip(parameters, state):")
        lines.append(f"    {rule}(p, p.grad, s, hyper, k + 1)")
        return lines

    def training_section(self) -> str:
        """Return the loop over epochs and batches."""
        recipe, stopping = self.recipe, self.recipe.early_stopping
        # A single example has no variance for batch normalisation.
        drops_last = recipe.has_batch_norm and self.data.size("train") % recipe.batch_size == 1
        update = [f"    {line}" for line in self._update()]
        step = [*self._forward(), *self._backward(), "with torch.no_grad():", *update, "k += 1"]
        hits, seen = "(out.argmax(1) == y)", "len(order)"
        if self.is_sampled:
            hits += " * counts[batch]"
            seen = "counts[order].sum()"
        # Of scaled numbers the variance is 1, so R² is 1 minus the loss.
        correct, score = "", "1 - total / len(order)"
        if self.is_classification:
            correct = f"        correct += int(({hits}).sum())\n"
            score = f"correct / {seen}"
        text = TRAINING.format(
            examples="(n - 1)" if drops_last else "n",
            batch_size=recipe.batch_size,
            before=BEFORE_STOPPING if stopping.patience else "",
            epochs=recipe.epochs,
            order_seed=recipe.order_seed,
            cut="[:-1]" if drops_last else "",
            step=indent("\n".join(step), " " * 8),
            correct=correct,
            score=score,
            valid_loss=self.plain_loss,
        )
        if stopping.patience:
            text += STOPPING.format(min_delta=stopping.min_delta, patience=stopping.patience)
        return text

    def test_section(self) -> str:
        """Return the lines that score the test part."""
        if self.is_classification:
            score, metric = "(out.argmax(1) == y).sum() / len(y)", "accuracy"
        else:
            score, metric = "1 - loss / y.var(correction=0)", "R²"
        return TEST.format(loss=self.plain_loss, score=score, metric=metric)
