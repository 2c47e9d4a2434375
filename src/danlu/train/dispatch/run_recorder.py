"""What a run leaves behind: history, checkpoints, final weights, figures, measurements."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from danlu.data import Data
from danlu.errors import Diverged, Interrupted
from danlu.files import append_lines, pack_tensors, to_parquet, write_lines
from danlu.predict import evaluate
from danlu.predict.scores import PassOutputs, Score, scores
from danlu.recipe.sample import left_out, with_own_fold
from danlu.runs import Run, checkpoint, saved_outputs
from danlu.runs.checkpoint import Checkpoint
from danlu.runs.measurements import NAME as MEASUREMENTS
from danlu.runs.run import WEIGHTS
from danlu.runs.saved_outputs import Digests
from danlu.train.dispatch.listener import Listener
from danlu.train.engine.divergence import at_the_end
from danlu.train.engine.loop import Loop
from danlu.train.engine.members import FinishedMember, MemberState
from danlu.train.engine.population import Population
from danlu.train.probes.meter import Meter

_SCORED_EXAMPLES = 10_000  # of the training part, that a finished network is scored on…
_SCORED_TOKENS = 200_000  # …or so many tokens, of text in which each token has a target
_PAIRS_KEPT = 12  # to be shown beside what is written


def scored_examples(data: Data) -> int:
    """Return how many training examples a finished network is scored on."""
    if not data.schema.each_token:
        return _SCORED_EXAMPLES
    examples, tokens = data.size("train"), data.targets("train")
    return max(1, _SCORED_TOKENS * examples // max(1, tokens))


class RunRecorder:
    """Writes a run's folder, and tells its listener."""

    def __init__(self, run: Run, data: Data, listener: Listener) -> None:
        self.run = run
        self.data = data
        self.listener = listener
        self.interval = listener.interval
        self.meter: Meter | None = None
        self.rows: list[dict[str, Any]] = []
        self.error: Diverged | None = None

    def resume(self, loop: Loop, saved: Checkpoint | None) -> None:
        """Go back to the newest whole checkpoint, and cut the history to it."""
        if saved:
            with checkpoint.restoring(self.run.path / "checkpoint"):
                loop.restore(saved.tensors, saved.position)
                self.rows = saved.position["rows"]
        # Epochs after the checkpoint are trained again, and written again.
        write_lines(self.run.path / "metrics.jsonl", self.rows)
        self._update(status="running")

    def _update(self, **changes: Any) -> None:
        self.run.sealed.update(**changes)

    def stepped(self, loop: Loop) -> None:
        """Tell the listener how far the epoch is."""
        (loss,) = loop.metrics.mean().tolist()
        (accuracy,) = loop.metrics.accuracy().tolist()
        self.listener.step(loop.steps, loss, accuracy)

    def epoch_ended(self, rows: list[tuple[MemberState, dict[str, Any]]]) -> None:
        """Append the epoch to metrics.jsonl."""
        for _, row in rows:
            self.rows.append(row)
            append_lines(self.run.path / "metrics.jsonl", [row])
            self.listener.epoch(self.run, row)

    def save(self, step: int, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        """Write a checkpoint, with the history so far."""
        position = {**position, "rows": self.rows}
        checkpoint.save(self.run.path / "checkpoint", step, tensors, position, self.run.identity)

    def interrupted(self, step: int) -> Interrupted:
        """Return the error for Ctrl-C."""
        return Interrupted(f"stopped at step {step}, saved; {self.run.way_on}")

    def diverged(
        self,
        member: MemberState,
        weights: dict[str, Tensor],
        error: Diverged,
        losses: list[float],
    ) -> None:
        """Write why the run ended, and what there is to look for the cause in."""
        self.error = error
        files = self._write_measurements()
        if weights:
            files |= self.run.sealed.write(WEIGHTS, pack_tensors(weights))
        facts = {"error": str(error), "step": error.step, "layer": error.layer}
        self._update(status="diverged", **facts, last_losses=losses, files=files)

    def _write_measurements(self) -> Digests:
        """Write what was measured, if anything was."""
        if self.meter is None or not len(self.meter.found):
            return {}
        content = to_parquet(self.meter.found.table_of_run())
        return self.run.sealed.write(MEASUREMENTS, content)

    def finished(self, loop: Loop, population: Population, members: list[FinishedMember]) -> None:
        """Write weights and final figures; this is the one reading of the test part."""
        data = self.data
        (member,) = members
        # Weights before the result: a run that says finished has them.
        weights = pack_tensors(population.stack.state_dict(0))
        files = self.run.sealed.write(WEIGHTS, weights) | self._write_measurements()
        result = loop.effort(member.state)
        result["parameters"] = sum(p.numel() for p in population.model.parameters())
        parts = [part for part in data.parts if data.size(part)]
        for part in parts:
            is_last = part == parts[-1]
            score = self._score(loop, population, part, files if is_last else None)
            result |= score.figures(part, self.run.metric)
            result[f"{part}_n"] = score.n
        if loop.scorer.by_fold:
            files |= self._write_fold(loop, population)
            (score,) = loop.scorer.validation_scores(
                population, [*loop.watched, self.run.chosen_metric]
            )
            result |= {**score.figures("valid", self.run.metric), "valid_n": score.n}
        error = at_the_end(result, result["steps"], self.run.recipe.optimizer.lr)
        if error is not None:
            self.diverged(member.state, {}, error, loop.recent_losses(member.state))
            return
        self._update(status="finished", result=result, files=files)
        checkpoint.remove_all(self.run.path / "checkpoint")

    def _write_fold(self, loop: Loop, population: Population) -> Digests:
        """Keep what is predicted on the fold that was left out, where there is no test part."""
        data = self.data
        if data.size("test"):
            return {}
        n = data.size("train")
        own = left_out(self.run.recipe.sample, n, data.training_labels)
        out, _ = evaluate.collect(loop.scorer.outputs(population, "train"), n)
        fold = with_own_fold(data, self.run.recipe.sample)
        return saved_outputs.write_predictions(self.run.sealed, fold, out[own], "valid")

    def _score(self, loop: Loop, population: Population, part: str, files: Digests | None) -> Score:
        """Return the score on a part.

        files: of the last part, whose outputs are kept to be shown; takes the file's digest.
        """
        data, sealed = self.data, self.run.sealed
        schema = data.schema
        n = data.size(part)
        more = [*loop.watched, self.run.chosen_metric]
        if part == "train":
            n = min(n, scored_examples(data))
            (own,) = loop.scorer.training_scores(population, n, more)
            if files is None:
                return own
        outs = loop.scorer.outputs(population, part, n)
        if files is not None and schema.scheme:
            sentences = data.x[evaluate.in_order(data, part, n)]
            outs = saved_outputs.write_tags(sealed, outs, sentences, files)
        elif files is not None and schema.task == "pairs":
            first_pairs = data.parts[part][:_PAIRS_KEPT]
            files |= saved_outputs.write_pairs(sealed, data.x[first_pairs])
        if not schema.each_token:
            out, y = evaluate.collect(outs, n)
            if files is not None:
                files |= saved_outputs.write_predictions(sealed, data, out, part)
            as_one_pass = PassOutputs(out.t().unsqueeze(0), y)
            outs = iter([as_one_pass])
        lengths = evaluate.sentence_lengths(data, part, n)
        (score,) = scores(outs, schema, lengths, more)
        # Outputs that are kept are of all training examples, its score of those it has seen.
        return own if part == "train" else score
