"""The plain PyTorch loop that a recipe stands for, as a script that runs and gives the same numbers.

The functions in it are the very ones the engine uses, copied by `inspect`, so nothing is written twice.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, cast

from torch import Tensor, nn

from danlu import rng
from danlu.data import augment, load
from danlu.errors import RecipeError
from danlu.models import MODELS
from danlu.nn import init, layers, losses, penalties
from danlu.optim import clip, optimizers, schedules
from danlu.optim.optimizers import OPTIMIZERS
from danlu.recipe import Recipe
from danlu.runs.run import build_model
from danlu.train.batches import sampling
from danlu.train.dispatch.preflight import check, threads_for

_OWN: tuple[type[nn.Module], ...] = (layers.Dropout, layers.PHMLinear, layers.ExplicitLinear)


def as_code(recipe: Recipe, source: str) -> str:
    """The script for a source that goes by a name. Raises RecipeError where the recipe needs more than a script."""
    if ":" in recipe.model.name or recipe.init.from_run:
        field = "init.from_run" if recipe.init.from_run else "model.name"
        raise RecipeError(
            f"`{field}` brings in weights or code from outside, but a plain loop can only be written for models of the zoo"
        )
    never = "is not written into plain loops"
    more = {
        f"`average.name` is {recipe.average.name!r}, which {never}; try average=none": recipe.average.name
        != "none",
        f"`accumulate` is {recipe.accumulate}, which {never}; try accumulate=1": recipe.accumulate
        > 1,
        f"`dtype` is {recipe.dtype!r}, which {never}; try dtype=float32": recipe.dtype
        == "bf16-mixed",
        f"`model.auxiliary` is {recipe.model.auxiliary}, which {never}; try model.auxiliary=0": bool(
            recipe.model.auxiliary
        ),
        f"`model.name` is {recipe.model.name!r}, and what reads text {never}; try model=dense": MODELS[
            recipe.model.name
        ].reads,
    }
    if any(more.values()):
        raise RecipeError(*(said for said, on in more.items() if on))
    data = load(source)
    check(recipe, data)
    model = build_model(recipe, data.schema)
    classes = data.schema.task == "classification"
    drops = any(isinstance(m, layers.Dropout) for m in model.modules())
    parts = [
        _HEAD.format(
            source=source,
            threads=threads_for(recipe, data),
            does="reads and scales the data"
            if _flat(model)
            else "reads and scales the data, and builds the network,",
        ),
        *_helpers(recipe, model, classes, drops),
        _data(recipe, source, classes),
        _model(recipe, model),
        _update(recipe, classes),
        _loop(recipe, model, data, classes, drops),
        _TEST.format(
            count="(out.argmax(1) == y).sum() / len(y)"
            if classes
            else "1 - loss / y.var(correction=0)",
            metric="accuracy" if classes else "R²",
        ),
    ]
    return "\n\n\n".join(p.strip("\n") for p in parts if p) + "\n"


_HEAD = '''"""A plain PyTorch loop, written by danlu. danlu itself only {does} below."""

import contextlib
import hashlib
import math
from collections import OrderedDict
from contextvars import ContextVar
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import danlu

torch.set_num_threads({threads})
State, Hyper, Any, Sample = dict, dict, object, object
'''


def _source(thing: Any) -> str:
    """Its source, with type names that need no imports."""
    text = (
        inspect.getsource(thing)
        .replace("Iterator[None]", "object")
        .replace("Callable[[str], torch.Generator]", "object")
    )
    # Columns have beside β what a rounded β would spoil; of a number it is made as one would write it.
    return re.sub(
        r"exact\(h, (\w+)\)", r"h[\1]", re.sub(r"rest\(h, ([\w\"]+)\)", r"1 - h[\1]", text)
    )


def _helpers(recipe: Recipe, model: nn.Module, classes: bool, drops: bool) -> list[str]:
    used: list[Any] = [rng.seed_of, rng.stream, *_draws(recipe, model)]
    text = [_source(f) for f in used]
    if not _flat(model):
        text += ["from danlu.nn.layers import noise"] if drops else []
    else:
        text += (
            ['_noise = ContextVar("noise", default=None)', _source(layers.noise)] if drops else []
        )
        text += [
            _source(kind) for kind in _OWN if any(isinstance(m, kind) for m in model.modules())
        ]
    name = losses.chosen(recipe.loss.name, classes)
    if name == "cross-entropy-explicit":
        text += [_source(losses.smooth_labels), _source(losses._CrossEntropy)]
    if recipe.loss.class_weights == "balanced" or not recipe.sample.whole:
        text.append(_source(losses.shares))
    if not recipe.sample.whole:
        text.append(_source(sampling.counts))
    text.append(_source(losses.LOSSES[name]))
    if classes and name != "cross-entropy":
        text.append(_source(losses.cross_entropy))
    if recipe.loss.class_weights == "balanced":
        text.append(_source(losses.balanced_weights))
    update = OPTIMIZERS[recipe.optimizer.name].update
    text += [
        _source(getattr(optimizers, name))
        for name in ("subtract", "accumulate", "root", "descend")
        if name in update.__code__.co_names
    ]
    text.append(_source(update))
    if recipe.schedule.name != "constant":
        text.append(_source(schedules.SCHEDULES[recipe.schedule.name].factor))
    p, c = recipe.penalty, recipe.clip
    extra: list[Any] = [(p.l1, penalties.l1_gradient), (p.l2, penalties.l2_gradient)]
    extra += [(c.norm, clip.norm_factor), (c.norm, clip.clip_norm), (c.value, clip.clip_value)]
    text += [_source(f) for on, f in extra if on]
    if any(recipe.augment.model_dump().values()):
        text += [
            "from dataclasses import dataclass",
            *(_source(f) for f in (augment.Augmenter, augment.flip, augment.crop, augment.warp)),
        ]
    return text


def _draws(recipe: Recipe, model: nn.Module) -> list[Any]:
    chosen = {rule for _, _, rule in init.plan(model, *_init(recipe)[:2])}
    return [
        *([init._randn] if chosen - {"uniform", "zeros"} else []),
        *(init.INITS[r] for r in sorted(chosen)),
    ]


def _init(recipe: Recipe) -> tuple[str, str, float]:
    """(rule, activation, std) after the model's own preference."""
    own = MODELS[recipe.model.name].init if recipe.init.name == "auto" else {}
    return (
        own.get("name", recipe.init.name),
        recipe.model.activation or "relu",
        own.get("std", recipe.init.std) or 0.0,
    )


def _data(recipe: Recipe, source: str, classes: bool) -> str:
    target = (
        "" if classes else "mean, spread = data.schema.scale\ny_all = (data.y - mean) / spread\n"
    )
    y = "data.y" if classes else "y_all"
    return f"""# ---- data
data = danlu.load({source!r})
normalize = data.normalizer({recipe.normalize!r}).to("cpu", torch.{recipe.dtype})
{target}train, valid, test = (data.parts[p] for p in ("train", "valid", "test"))
x_train, y_train = data.x[train], {y}[train]
x_valid, y_valid = data.x[valid], {y}[valid]
x_test, y_test = data.x[test], {y}[test]"""


def _model(recipe: Recipe, model: nn.Module) -> str:
    if not _flat(model):
        return "\n".join(["# ---- model", _built(recipe), *_sorted_parameters(recipe)])
    lines = ["# ---- model", "model = nn.Sequential(OrderedDict(["]
    for name, layer in model.named_children():
        own = isinstance(layer, _OWN)
        lines.append(f"    ({name!r}, {'' if own else 'nn.'}{layer!r}),")
    lines += ["]))", "with torch.no_grad():"]
    rule, activation, std = _init(recipe)
    for name, layer, chosen in init.plan(model, rule, activation):
        shape = tuple(cast(Tensor, layer.weight).shape)
        n, q = init.fans(shape)
        draw = f'{chosen}({shape}, {n}, {q}, {std}, stream({recipe.seed}, "init", "{name}.weight"))'
        lines.append(f"    model.{name}.weight.copy_({draw})")
        lines.append(f"    model.{name}.bias.fill_({recipe.init.bias})")
    for name, layer in model.named_children():
        if isinstance(layer, layers.PHMLinear):
            lines.append(
                f'    model.{name}.initialise(lambda part: stream({recipe.seed}, "init", f"{name}.{{part}}"))'
            )
    return "\n".join([*lines, *_sorted_parameters(recipe)])


def _flat(model: nn.Module) -> bool:
    return all(not list(layer.children()) for layer in model.children())


def _built(recipe: Recipe) -> str:
    """A network of many blocks, as the zoo builds it."""
    fields = {k: v for k, v in recipe.model.model_dump(exclude_none=True).items() if k != "name"}
    init_of = {k: v for k, v in recipe.init.model_dump().items() if k in ("name", "std", "bias")}
    asked = f"{recipe.model.name!r}, data.schema.input_shape, data.schema.outputs, {fields}, {init_of}, {recipe.seed}"
    return f"from danlu.models import build\n\nmodel = build({asked})"


def _sorted_parameters(recipe: Recipe) -> list[str]:
    return [
        f"model = model.to(torch.{recipe.dtype})",
        "weights = [p for p in model.parameters() if p.ndim >= 2]  # what decay and penalties act on",
        "parameters = weights + [p for p in model.parameters() if p.ndim < 2]",
    ]


def _update(recipe: Recipe, classes: bool) -> str:
    rule = OPTIMIZERS[recipe.optimizer.name]
    hyper = recipe.optimizer.model_dump(exclude_none=True, exclude={"name"})
    shape = recipe.schedule.model_dump(exclude_none=True, exclude={"name", "warmup"})
    warm, factor = recipe.schedule.warmup, schedules.SCHEDULES[recipe.schedule.name].factor.__name__
    since = f"k / steps - {warm}" if warm else "k / steps"
    rate = "1.0" if factor == "constant" else f"{factor}({since}, {recipe.epochs - warm}, {shape})"
    if warm:
        rate = f"min(1.0, (k + 1) / ({warm} * steps)) if k < {warm} * steps else {rate}"
    balanced = recipe.loss.class_weights == "balanced"
    return f"""# ---- update
hyper = {hyper}
state = [{{{", ".join(f'"{s}": torch.zeros_like(p, requires_grad=False)' for s in rule.state)}}} for p in parameters]
class_weights = {f"balanced_weights(data.class_counts('train')).to(torch.{recipe.dtype})" if balanced else None}
counts = {None if recipe.sample.whole else f"counts(SimpleNamespace(whole=False, **{recipe.sample.model_dump()}), len(train))"}


def lr(k):
    return {recipe.optimizer.lr} * ({rate})"""


def _step(recipe: Recipe, classes: bool, drops: bool) -> list[str]:
    """The lines of one step."""
    a, p, c = recipe.augment, recipe.penalty, recipe.clip
    body = ["raw, y = x_train[batch], y_train[batch]"]
    if any(a.model_dump().values()):
        body += [
            f'g = stream({recipe.order_seed}, "augment", k)',
            f"augment = Augmenter(**{a.model_dump()})",
            f"raw = augment.move(raw.to(torch.{recipe.dtype}), g) if augment.moves else raw",
            "x = augment.add_noise(normalize(raw), g)",
        ]
    else:
        body.append("x = normalize(raw)")
    if drops:
        body.append(f'with noise(stream({recipe.seed}, "dropout", k)):')
    body.append(("    " if drops else "") + "out = model(x)")
    name, part = losses.chosen(recipe.loss.name, classes), not recipe.sample.whole
    weighted = part or recipe.loss.class_weights == "balanced"
    per = f"shares(y, class_weights, {'counts[batch]' if part else None})[0]" if weighted else None
    m = "counts.sum()" if part else "len(train)"
    body += [
        f"loss = {losses.LOSSES[name].__name__}(out, y, {recipe.loss.label_smoothing}, {per})",
        "model.zero_grad()",
        "loss.backward()",
        "with torch.no_grad():",
    ]
    inner = []
    if p.l2:
        inner += ["for w in weights:", f"    w.grad += l2_gradient(w, {p.l2}, {m})"]
    if p.l1:
        inner += ["for w in weights:", f"    w.grad += l1_gradient(w, {p.l1}, {m}, {p.eps})"]
    if c.norm:
        inner += [
            "whole = torch.cat([p.grad.flatten() for p in parameters])",
            f"clip_norm(whole, {c.norm})",
            "for p, g in zip(parameters, whole.split([p.numel() for p in parameters])):",
            "    p.grad = g.view(p.shape)",
        ]
    if c.value:
        inner += ["for p in parameters:", f"    clip_value(p.grad, {c.value})"]
    inner.append('hyper["lr"] = lr(k)')
    if recipe.optimizer.weight_decay:
        inner += ["for w in weights:", '    w.mul_(1 - hyper["lr"] * hyper["weight_decay"])']
    inner += [
        "for p, s in zip(parameters, state):",
        f"    {RULES[recipe.optimizer.name].update.__name__}(p, p.grad, s, hyper, k + 1)",
    ]
    body += ["    " + line for line in inner] + ["k += 1"]
    return body


def _loop(recipe: Recipe, model: nn.Module, data: Any, classes: bool, drops: bool) -> str:
    cut = "[:-1]" if recipe.normed and data.size("train") % recipe.batch_size == 1 else ""
    seen, each = (
        ("len(order)", "len(y)")
        if recipe.sample.whole
        else ("counts[order].sum()", "counts[batch].sum()")
    )
    right = "(out.argmax(1) == y)" + ("" if recipe.sample.whole else " * counts[batch]")
    count = f"correct += int(({right}).sum())" if classes else "pass"
    score = f"correct / {seen}" if classes else f"1 - total / {seen}"
    stop, patience = recipe.early_stopping, recipe.early_stopping.patience
    start = "best_loss, best_epoch, best = math.inf, 0, None\n" if patience else ""
    text = f"""# ---- training
n = len(train)
steps = math.ceil({"(n - 1)" if cut else "n"} / {recipe.batch_size})
{start}k = 0
for epoch in range({recipe.epochs}):
    model.train()
    order = torch.randperm(n, generator=stream({recipe.order_seed}, "order", epoch)){cut}
    total, correct = 0.0, 0
    for batch in order.split({recipe.batch_size}):
{chr(10).join("        " + line for line in _step(recipe, classes, drops))}
        total += loss.item() * {each}
        {count}
    model.eval()
    line = f"epoch {{epoch + 1}}: train {{total / {seen}:.6f}} {{{score}:.6f}}"
    if len(valid):
        with torch.no_grad():
            valid_loss = {"cross_entropy" if classes else "squared_error"}(model(normalize(x_valid)), y_valid).item()
        line += f", valid {{valid_loss:.6f}}"
    print(line)
"""
    if patience:
        text += f"""    if valid_loss < best_loss - {stop.min_delta}:
        best_loss, best_epoch, best = valid_loss, epoch + 1, {{name: t.clone() for name, t in model.state_dict().items()}}
    if best_epoch and epoch + 1 - best_epoch >= {patience}:
        break
model.load_state_dict(best)
"""
    return text


_TEST = """model.eval()
with torch.no_grad():
    out, y = model(normalize(x_test)), y_test
    loss = F.mse_loss(out.squeeze(1), y) if out.shape[1] == 1 else F.cross_entropy(out, y)
    print(f"test loss {{loss.item():.6f}}, {metric} {{float({count}):.6f}}")"""
