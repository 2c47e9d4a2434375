"""`Run`: the evidence a training left on disk."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from danlu.data import Normalizer
from danlu.errors import ModelError, RunError, wrong
from danlu.figures import curves
from danlu.files import is_file, parse_parquet, parse_tensors, read_lines, refuse_links, with_nan
from danlu.formats import check_run_format
from danlu.guest import guest
from danlu.metrics import default
from danlu.models.given import keep
from danlu.models.weights import load_weights
from danlu.predict import evaluate, predictions, text
from danlu.predict import generate as generating
from danlu.predict import translate as translating
from danlu.predict.scores import Score, scores
from danlu.recipe import Recipe
from danlu.recipe.build import build_model, text_spec
from danlu.recipe.recipe import recipe_of_run
from danlu.runs import checkpoint, folder
from danlu.runs.data_source import TrainedOnData, readable
from danlu.runs.facts import RunFacts, check_facts
from danlu.runs.measurements import NAME as MEASUREMENTS
from danlu.runs.measurements import Measurements, as_frame, check_columns
from danlu.runs.normalizers import read_normalizer
from danlu.runs.saved_outputs import has_outputs, read_outputs

if TYPE_CHECKING:
    import pandas as pd

WEIGHTS, NORMALIZER = "weights.safetensors", "normalizer.safetensors"
# What a training begins with: were one of these another, it would come to other weights.
BEGUN_WITH = ("recipe.toml", "data.json", NORMALIZER)


class Run(TrainedOnData):
    """A training on disk; opening one runs no code but danlu's.

    trust: whether a network that the recipe imports (`package.module:factory`) may be imported,
    which runs its code, and whether its data may be fetched over the network. Raises RunError when
    the folder is not a run, or is damaged.
    """

    index = "run.json"

    def __init__(self, path: str | Path, trust: bool = False) -> None:
        super().__init__(path, trust)
        if not os.path.isdir(self.path):
            raise RunError(
                f"{str(path)!r} is not a run folder: it does not exist; "
                "`danlu runs` lists those that do"
            )
        if not is_file(self.path / self.index) and not os.path.lexists(self.path / self.index):
            raise RunError(f"{str(path)!r} is not a run folder: run.json is missing")
        refuse_links(self.path)
        # First, so that the run of an earlier danlu is not called damaged.
        version = self.sealed.facts().get("format")
        check_run_format(self.path, version)
        if not isinstance(version, int):
            raise RunError(f"{str(path)!r} is not a run folder: its run.json is foreign")
        check_facts(self.info, RunFacts, self.path / self.index)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.status})"

    @property
    def status(self) -> str:
        """running, interrupted, finished or diverged; what a crash left running is interrupted."""
        status = str(self.info["status"])
        if status == "running" and not folder.is_locked(self.path):
            return "interrupted"
        return status

    @property
    def chosen_metric(self) -> str:
        """The figure that counts: what was asked for, or what suits the task and its classes."""
        asked = self.info.get("metric")
        return str(asked or default(self.schema.metrics, self.data_info["class_counts"]))

    @property
    def result(self) -> dict[str, Any]:
        """Final figures of the parts, seconds, epochs; empty until finished."""
        return with_nan(self.info.get("result") or {})

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe it trained."""
        file = str(self.path / "recipe.toml")
        return Recipe.from_toml(recipe_of_run(self.path), file).from_file(file, self.trust)

    @cached_property
    def identity(self) -> str:
        """What its checkpoints must belong to: this recipe on these data, begun in this way."""
        info = self.info
        begun_with = [info["files"][name] for name in BEGUN_WITH]
        return repr((begun_with, info["environment"], info.get("starts", {})))

    @property
    def history(self) -> list[dict[str, Any]]:
        """One row per epoch.

        epoch, step, lr, train_loss, train_accuracy, valid_loss, valid_accuracy, seconds.
        """
        file = self.path / "metrics.jsonl"
        rows = read_lines(file)
        if self.info["status"] != "finished":
            # After a loss of power a checkpoint may know more.
            rows = max(rows, checkpoint.rows_in(self.path / "checkpoint"), key=len)
        epochs = [row.get("epoch") for row in rows]
        last = self.info["result"]["epochs"] if self.info["status"] == "finished" else len(rows)
        if epochs != list(range(1, last + 1)):
            raise RunError(f"{file} is damaged: epochs are missing")
        return rows

    @property
    @guest
    def measurements(self) -> pd.DataFrame:
        """What the probes found: a row for the network as a whole (layer "") and for each layer.

        Columns: step, epoch, layer, and those of `danlu.train.probes.table`. Empty where nothing
        was measured.
        """
        return as_frame(self.measured())

    def measured(self) -> Any:
        """Return the measurements as an Arrow table, as far as the training has got."""
        if self.sealed.vouches_for(MEASUREMENTS):
            file = self.path / MEASUREMENTS
            return check_columns(parse_parquet(self.sealed.read(MEASUREMENTS), file), file)
        found = Measurements()
        with checkpoint.restoring(self.path / "checkpoint"):
            found.restore(checkpoint.tensors_in(self.path / "checkpoint"))
            return found.table_of_run()

    @guest
    def build(self, load_start: bool = True, apply_frozen: bool = True) -> nn.Module:
        """Return a fresh network of the recipe; arguments as of `build_model`."""
        return build_model(self.recipe, self.schema, load_start, apply_frozen)

    @guest
    def model(self, network: nn.Module | None = None, check: bool = True) -> nn.Module:
        """Return the trained network, a plain `nn.Module` in evaluation mode.

        network: one of the same structure to give the weights to, where the run cannot make it: its
        network was given as an object of another program. check: whether one of somebody's own must
        give the outputs that are kept. Raises RunError where it diverged.
        """
        if network is not None and not isinstance(network, nn.Module):
            rule = "must be a module to give the weights to"
            raise RunError(wrong("network", type(network).__name__, rule, "make one of it first"))
        if self.status == "diverged":
            raise RunError(
                f"{str(self.path)!r} diverged, so it has nothing to predict with; "
                "train it again with a smaller optimizer.lr"
            )
        # All weights are those of the training's end, whatever it began from.
        model = network
        if model is None:
            model = self.build(load_start=False, apply_frozen=False)
        file = self.path / WEIGHTS
        tensors = parse_tensors(self.sealed.read(WEIGHTS), file)
        load_weights(model, tensors, str(self.path))
        if self.recipe.is_imported and check:
            self._check_answers(model.eval())
        if network is not None:
            # From now on it stands for the one that was trained, in predictions as well.
            keep(self.recipe.model.name, network)
        return model.eval()

    def _check_answers(self, model: nn.Module) -> None:
        """Raise ModelError for a network that does not say what the trained one said.

        Of the examples that are kept with their outputs: the most confident mistakes.
        """
        # Texts are padded otherwise beside others.
        has_kept = has_outputs(self.sealed) and not self.schema.is_text
        kept = read_outputs(self.sealed) if has_kept else {}
        if "worst" not in kept or not len(kept["worst"]):
            return
        with torch.no_grad():
            outputs = model(self.normalizer(kept["worst_x"]))
        if not torch.allclose(outputs, kept["outputs"][kept["worst"]], rtol=1e-2, atol=1e-2):
            raise ModelError(
                f"the network does not give the outputs of {str(self.path)!r}, though the weights "
                "fit it; something that is no weight differs: give one made as the trained one was "
                "(or its answers depend on chance, or on the batch: danlu diagnose tells)"
            )

    @cached_property
    def normalizer(self) -> Normalizer:
        """The normaliser fitted in training."""
        return read_normalizer(self.sealed, NORMALIZER, self.recipe, self.schema)

    @guest
    def predict(self, x: Any, samples: int = 0, seed: int = 0) -> predictions.Prediction:
        """Predict raw examples or texts; see `danlu.predict.predictions.predict`."""
        return predictions.predict(self, x, samples, seed)

    @guest
    def tag(self, texts: Sequence[str]) -> list[text.Tagged]:
        """Return the tags of each text, by a tagger; see `danlu.predict.text.tag`."""
        return text.tag(self, texts)

    @guest
    def score(self, texts: Sequence[str]) -> list[text.SentenceScore]:
        """Return log P of each text, by a language model; see `danlu.predict.text.score`."""
        return text.score(self, texts)

    @guest
    def translate(self, texts: Sequence[str], **options: int) -> list[tuple[str, float]]:
        """Return the second text of each pair by its first, and its log P.

        options: of `danlu.predict.translate.translate`.
        """
        return translating.translate(self, texts, **options)

    @guest
    def generate(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """Continue a prompt with a language model, piece by piece.

        options: of `danlu.predict.generate.generate`.
        """
        return generating.generate(self, prompt, **options)

    @guest
    def evaluate(self, data: Any = None, part: str = "test") -> Score:
        """Return loss, accuracy and the other figures of the task on a part ("all" for the whole).

        data: other data of the same schema instead of the run's own, or what `load` takes. Raises
        RunError for another schema or an empty part.
        """
        data = self.data_to_score(data, part)
        model = self.model()
        if self.schema.source:  # other pairs may have longer sources
            model.text = text_spec(data.schema)  # type: ignore[assignment]
        outs = evaluate.part_outputs(
            evaluate.forward_of(model),
            data,
            part,
            [self.normalizer],
            stateful=bool(self.recipe.model.stateful),
        )
        sizes = evaluate.sentence_lengths(data, part)
        (score,) = scores(outs, self.schema, sizes, self.schema.metrics)
        return score

    @guest
    def diagnose(self, data: Any = None, target_error: float | None = None) -> Any:
        """Return what is wrong with this training: a `danlu.diagnosis.Diagnosis`.

        data: of a run on arrays in memory, the same again. target_error: that can be reached, where
        it is known.
        """
        # The room that reads runs lies above this one.
        return importlib.import_module("danlu.diagnosis").diagnose(self, data, target_error)

    @guest
    def plot(self) -> Any:
        """Return the curves as a Plotly figure (shown by notebooks)."""
        import plotly.graph_objects as go

        return go.Figure(curves.figure(self.history, self.metric))


def list_runs(root: Path | None = None) -> list[Run]:
    """Return every run under a folder (default: `DANLU_RUNS` or ./runs), oldest first.

    Those that cannot be read are left out.
    """
    return readable(Run, root)
