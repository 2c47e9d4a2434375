"""`Run`: the evidence a training left on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from danlu import models
from danlu.data import Data, Normalizer, Schema
from danlu.data.sources import tagged
from danlu.data.vocabulary import PAD
from danlu.errors import RunError, some, wrong
from danlu.figures import curves
from danlu.models.recurrent import TextSpec
from danlu.nn.layers import Dropout, noise
from danlu.predict import evaluate
from danlu.recipe import Recipe
from danlu.recipe.sections import Model
from danlu.rng import stream
from danlu.runs import folder
from danlu.runs.data_source import TrainedOnData
from danlu.runs.weights import frozen, load_weights, read_weights, start_file

if TYPE_CHECKING:
    from danlu.predict.text import SentenceScore, Tagged


@dataclass(frozen=True)
class Prediction:
    """For N examples: `values` [N] (class numbers, or predicted numbers), and for classes `probabilities` [N, K].

    With Monte-Carlo dropout `spread` holds the standard deviation over the passes, of the same shape as
    `probabilities` (or `values`).
    """

    values: Tensor
    probabilities: Tensor | None
    spread: Tensor | None
    classes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """Class names of the predictions."""
        return [self.classes[int(k)] for k in self.values]


class Run(TrainedOnData):
    """A training on disk; opening one runs no code but danlu's (an imported model only when asked for).

    trust: whether a network that the recipe imports (`package.module:factory`) may be; that runs its code.
    Raises RunError when the folder is no run.
    """

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        self.path, self.trust = Path(path), trust
        if not self.path.is_dir():
            raise RunError(
                f"{str(path)!r} is no run folder: it does not exist; `danlu runs` lists those that do"
            )
        info = self.info
        version = info.get("format") if isinstance(info, dict) else None
        if isinstance(version, int) and version != folder.FORMAT:
            what = (
                "update danlu"
                if version > folder.FORMAT
                else "it was made by an earlier danlu, so train it again"
            )
            raise RunError(
                f"{str(path)!r} has format {version}, but this danlu reads format {folder.FORMAT}; {what}"
            )
        if not isinstance(version, int) or not {"status", "environment"} <= set(info):
            raise RunError(f"{str(path)!r} is no run folder: its run.json is foreign")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})"

    @property
    def info(self) -> dict[str, Any]:
        """`run.json` as it is now: format, status, environment, result."""
        return folder.read_json(self.path / "run.json")  # type: ignore[no-any-return]

    @property
    def status(self) -> str:
        """running, interrupted, finished or diverged."""
        return str(self.info["status"])

    @property
    def result(self) -> dict[str, Any]:
        """Final figures: losses and accuracies of the parts, seconds, epochs; empty until finished."""
        return dict(self.info.get("result") or {})

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe it trained."""
        path = self.path / "recipe.toml"
        try:
            return Recipe.from_toml(path.read_text(encoding="utf-8"), str(path))
        except OSError as e:
            raise RunError(f"{str(self.path)!r} is no run folder: recipe.toml is missing") from e

    @cached_property
    def identity(self) -> str:
        """What its checkpoints must belong to: this recipe on these data."""
        return f"{self.recipe.to_toml()}\n{self.data_info['fingerprint']}"

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row per epoch: epoch, step, lr, train_loss, train_accuracy, valid_loss, valid_accuracy, seconds."""
        return folder.read_lines(self.path / "metrics.jsonl")

    def build(self, start: bool = True, fixed: bool = True) -> nn.Module:
        """A fresh network of the recipe; start, fixed: as in `build_model`."""
        name = self.recipe.model.name
        if ":" in name and not self.trust:
            raise RunError(
                f"{str(self.path)!r} imports its network, {name!r}, and that runs code; if you trust it, use --trust (trust=True)"
            )
        return build_model(self.recipe, self.schema, start, fixed)

    def model(self) -> nn.Module:
        """The trained network, a plain `nn.Module` in evaluation mode. Raises RunError where it diverged."""
        if self.status == "diverged":
            raise RunError(
                f"{str(self.path)!r} diverged, so it tells nothing; train it again with a smaller optimizer.lr"
            )
        model = self.build(start=False, fixed=False)
        load_weights(model, folder.read_tensors(self.path / "weights.safetensors"), str(self.path))
        return model.eval()

    @cached_property
    def normalizer(self) -> Normalizer:
        """The normaliser fitted in training."""
        return read_normalizer(self.path / "normalizer.safetensors", self.recipe, self.schema)

    def predict(self, x: Any, samples: int = 0, seed: int = 0) -> Prediction:
        """Predict raw examples x [N, *input_shape] (normalised here as in training), or texts.

        samples: that many passes with dropout left on, averaged, with their spread (Monte-Carlo dropout,
        Gal and Ghahramani 2016). Raises RunError when the shape does not fit or nothing is dropped.
        """
        if self.schema.each_token:
            ways = {
                "tagging": "run.tag(texts)",
                "pairs": "run.translate(texts)",
                "language": "run.score or run.generate",
            }
            way = ways[self.schema.task]
            raise RunError(f"{str(self.path)!r} says something of every token; use {way}")
        raw = self._raw(x)
        model = self.model()
        batches = raw.split(evaluate.rows_per_pass(self.schema))
        if not samples:
            out = evaluate.outputs(model, iter(batches), self.normalizer)
            return self._prediction(out[None])
        every = [(k, m) for k, m in model.named_modules() if isinstance(m, (Dropout, nn.Dropout))]
        drops = [
            m for k, m in every if not k.startswith("aux")
        ]  # auxiliary classifiers are run in training only
        if not any(m.p for m in drops):
            way = (
                "train with model.dropout=0.5"
                if self.recipe.model.dropout is not None
                else "train one that can have it"
            )
            raise RunError(f"`samples` needs a network with dropout, but this one has none; {way}")
        for m in drops:
            m.train()
        passes = []
        with torch.no_grad():
            for k in range(samples):
                with noise(stream(seed, "predict", k)), torch.random.fork_rng(devices=[]):
                    torch.default_generator.manual_seed(seed + k)
                    passes.append(torch.cat([model(self.normalizer(b)) for b in batches]))
        return self._prediction(torch.stack(passes))

    def _raw(self, x: Any) -> Tensor:
        """Examples as a tensor of the network's shape; of texts, which may be of any length, their token numbers [N, T]."""
        from danlu.predict import text

        schema = self.schema
        if (
            schema.is_text
            and not isinstance(x, Tensor)
            and (not isinstance(x, np.ndarray) or x.dtype.kind in "UO")
        ):
            return text.encode(self, x.tolist() if isinstance(x, np.ndarray) else x)
        raw = torch.as_tensor(x)
        raw = raw[None] if raw.shape == schema.input_shape else raw
        if tuple(raw.shape[1:]) != schema.input_shape and not (schema.is_text and raw.ndim == 2):
            raise RunError(
                wrong(
                    "x",
                    tuple(raw.shape),
                    f"must have the shape (N, {', '.join(map(str, schema.input_shape))})",
                )
            )
        if not raw.numel():
            raise RunError("`x` holds no example; give at least one")
        if schema.is_text and (
            raw.is_floating_point() or not bool(((raw >= 0) & (raw < schema.tokens)).all())
        ):
            raise RunError(
                f"`x` must hold numbers of tokens, whole and below {schema.tokens:,}; give texts"
            )
        return raw

    def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """The tags of each text, by a tagger (`danlu.runs.reading.tag`)."""
        from danlu.predict import text

        return text.tag(self, texts)

    def translate(self, texts: Sequence[str], **how: int) -> list[tuple[str, float]]:
        """The second text of each pair by its first, and its log P; how: as of `danlu.runs.reading.translate`."""
        from danlu.predict import text

        return text.translate(self, texts, **how)

    def score(self, texts: Sequence[str]) -> list[SentenceScore]:
        """log P of each text, by a language model (`danlu.runs.reading.score`)."""
        from danlu.predict import text

        return text.score(self, texts)

    def generate(self, prompt: str = "", **how: Any) -> Iterator[str]:
        """What a language model writes on from a prompt, piece by piece; how: as of `danlu.runs.reading.generate`."""
        from danlu.predict import text

        return text.generate(self, prompt, **how)

    def _prediction(self, passes: Tensor) -> Prediction:
        """Mean and spread over passes [S, N, K]."""
        several = len(passes) > 1
        if self.schema.task == "regression":
            mean, spread = self.schema.scale
            values = passes[..., 0] * spread + mean
            return Prediction(values.mean(0), None, values.std(0) if several else None, ())
        p = passes.softmax(-1)
        average = p.mean(0)
        return Prediction(
            average.argmax(1), average, p.std(0) if several else None, self.schema.classes
        )

    def evaluate(self, data: Data | None = None, part: str = "test") -> evaluate.Score:
        """Loss and accuracy on a part ("all" for the whole) of the run's own data, or of other data of the same schema."""
        data = self.load_data() if data is None else data
        ours, theirs = self.schema, data.schema
        if (ours.task, ours.is_text) != (theirs.task, theirs.is_text):
            what = (f"{s.task} of {'text' if s.is_text else 'numbers'}" for s in (ours, theirs))
            raise RunError("the run was trained for {}, but these data are for {}".format(*what))
        if ours.columns != theirs.columns and ours.input_shape == theirs.input_shape:
            names = (
                some(
                    [c.name + (f" ({'/'.join(c.levels)})" if c.levels else "") for c in s.columns],
                    6,
                )
                for s in (theirs, ours)
            )
            raise RunError(
                "the data have the columns {}, but the run was trained on {}".format(*names)
            )
        if ours.is_text and ours.vocabulary != theirs.vocabulary:
            raise RunError(
                "the data were read with another vocabulary than the run's; use danlu.load(…, like=run.schema)"
            )
        shapes = [
            () if s.is_text else s.input_shape for s in (ours, theirs)
        ]  # texts may be of any length
        if (shapes[0], ours.classes, ours.task) != (shapes[1], theirs.classes, theirs.task):
            raise RunError(
                f"the data have shape {theirs.input_shape} and classes {some(theirs.classes)}, but the run was trained on "
                f"{ours.input_shape} and {some(ours.classes)}"
            )
        if part != "all" and not data.size(part):
            raise RunError(f"the data have no {part} part")
        carries, model = bool(self.recipe.model.carry), cast(Any, self.model())
        if ours.source:
            model.reading = _reading(theirs)
        found = evaluate.part_outputs(
            evaluate.alone(model), data, part, [self.normalizer], carries=carries
        )
        return evaluate.scores(found, ours, evaluate.sentences(data, part))[0]

    def plot(self) -> Any:
        """The curves as a Plotly figure (shown by notebooks)."""
        import plotly.graph_objects as go

        return go.Figure(curves.figure(self.history, self.metric))


def read_normalizer(file: Path, recipe: Recipe, schema: Schema) -> Normalizer:
    """The normaliser that a training kept, in its precision."""
    return read_fitted(file, schema.normalization(recipe.normalize)).to("cpu", recipe.weights_dtype)


def read_fitted(file: Path, kind: str) -> Normalizer:
    """The same as it was fitted."""
    t = folder.read_tensors(file)
    return Normalizer(kind, t["shift"], t["scale"], t.get("matrix"))


def write_predictions(path: Path, data: Data, out: Tensor, part: str) -> None:
    """Outputs [N, K] and targets of the last part read (the test part), and the most confidently wrong examples."""
    index = data.parts[part]
    kept = {"outputs": out, "targets": data.y[index], "index": index}
    if data.schema.task == "classification":
        p, guess = out.softmax(1).max(1)
        wrong_ones = torch.where(guess != data.y[index])[0]
        worst = wrong_ones[p[wrong_ones].argsort(descending=True)][:24]
        kept |= {"worst": worst, "worst_x": data.x[index[worst]]}
    folder.write_tensors(path / "test.safetensors", kept, {"part": part})


def write_tags(path: Path, outs: evaluate.Outputs, x: Tensor) -> evaluate.Outputs:
    """Pass outputs on, and keep what is told of every token [n] beside what is there; x: the sentences [N, T] in that order."""
    told, there = [], []
    for out, y, *chosen in outs:
        told.append((chosen[0] if chosen else out.argmax(1))[0].cpu())
        there.append(y.cpu())
        yield (out, y, *chosen)
    kept = {
        "tags": torch.cat(told),
        "targets": torch.cat(there),
        "sizes": (x != PAD).sum(1),
        "tokens": x[x != PAD],
    }
    folder.write_tensors(path / "test.safetensors", kept)


def build_model(
    recipe: Recipe, schema: Schema, start: bool = True, fixed: bool = True
) -> nn.Module:
    """The recipe's network for examples of that schema, in its precision.

    start: with the weights of `init.from_run`; fixed: those of `init.frozen` need no gradient.
    """
    init = recipe.init.model_dump()
    model = models.build(*_described(recipe.model, schema), init, recipe.seed, _reading(schema)).to(
        recipe.weights_dtype
    )
    if recipe.init.from_run and start:
        file = start_file(recipe.init.from_run)
        if (
            file.name == "weights.safetensors" and file.with_name("run.json").is_file()
        ):  # a run, which may refuse to be read
            _refuse_other_tokens(Run(file.parent).schema, schema, recipe.init.prefix)
        load_weights(model, read_weights(file), recipe.init.from_run, recipe.init.prefix)
    if recipe.init.frozen and fixed:
        frozen(model, recipe.init.prefix)
    return model


def _refuse_other_tokens(theirs: Schema, ours: Schema, prefix: Sequence[str]) -> None:
    """Weights that are of tokens, a row each, mean other tokens by another vocabulary."""
    tokens = ("embedding", "output") if ours.task in ("language", "pairs") else ("embedding",)
    taken = not prefix or any(t.startswith(p) or p.startswith(t) for t in tokens for p in prefix)
    if ours.is_text and theirs.is_text and ours.vocabulary != theirs.vocabulary and taken:
        raise RunError(
            "the weights of `init.from_run` are for another vocabulary than these data have; take those of the layers alone, "
            "with init.prefix=layers"
        )


def outline(section: Model, schema: Schema) -> nn.Module:
    """A network of the zoo without its initial values."""
    return models.outline(*_described(section, schema), _reading(schema))


def _described(section: Model, schema: Schema) -> tuple[str, tuple[int, ...], int, dict[str, Any]]:
    """A network's name, what goes in, how much comes out, its fields."""
    fields = {k: v for k, v in section.model_dump(exclude_none=True).items() if k != "name"}
    return section.name, schema.input_shape, schema.outputs, fields


def _reading(schema: Schema) -> TextSpec | None:
    if not schema.is_text:
        return None
    return TextSpec(
        schema.task, schema.tokens, schema.source, tagged.order(schema.classes, schema.scheme)
    )


def list_runs(root: Path | None = None) -> list[Run]:
    """Every run under a folder (default: `DANLU_RUNS` or ./runs), oldest first."""
    found = []
    for path in (root or folder.runs_root()).glob("*/run.json"):
        try:
            run = Run(path.parent)
            found.append((run.info.get("created", 0.0), path.parent.name, run))
        except RunError:
            continue
    return [run for _, _, run in sorted(found, key=lambda f: f[:2])]
