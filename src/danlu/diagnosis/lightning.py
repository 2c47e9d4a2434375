"""A callback that watches a training by Lightning: `Trainer(callbacks=[DanluWatch(classes=10)])`.

Lightning is no part of danlu; this module needs it when it is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from danlu.diagnosis.watching import Watch, name_of_figure, watch
from danlu.errors import ModelError, RunNotice, notify

try:
    from lightning.pytorch.callbacks import Callback
except ImportError as no_lightning:
    try:
        from pytorch_lightning.callbacks import Callback  # type: ignore[assignment]
    except ImportError:
        needs = "danlu.diagnosis.lightning needs Lightning; install it: pip install lightning"
        raise ModelError(needs) from no_lightning

if TYPE_CHECKING:
    from danlu.diagnosis.diagnosing import Diagnosis


class DanluWatch(Callback):
    """Measures a training as `danlu.watch` does, and changes nothing of it.

    classes, every: as of `danlu.watch`. Figures that the module logs as `val_loss`, `val_acc`,
    `train_loss` and the like become those of the epochs. Of several optimisers the first is
    watched.
    """

    def __init__(self, classes: int | None = None, every: int = 100) -> None:
        super().__init__()
        self.classes = classes
        self.every = every
        self._watch: Watch | None = None
        self._steps = 0
        self._is_automatic = True

    @property
    def watch(self) -> Watch:
        """What was watched. Raises ModelError before a training began."""
        if self._watch is None:
            raise ModelError("nothing was watched yet; call trainer.fit(module) first")
        return self._watch

    def diagnose(self) -> Diagnosis:
        """Return what is wrong, as far as it can be seen without recipe and data."""
        return self.watch.diagnose()

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Put hooks on the network and its optimiser."""
        self._is_automatic = bool(getattr(pl_module, "automatic_optimization", True))
        if not self._is_automatic:
            notify(
                "DanluWatch cannot see the steps of manual optimisation; call "
                "watch.step(loss) of the callback after each optimizer.step()",
                RunNotice,
            )
        optimizers = trainer.optimizers
        network = _network_of(pl_module)
        self._watch = watch(
            network, optimizers[0] if optimizers else None, self.classes, self.every
        )
        self._steps = trainer.global_step
        self._watch.__enter__()

    def on_train_batch_end(
        self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note a step, where this batch ended one: of accumulated gradients only the last does."""
        if not self._is_automatic or trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is not None:
            # Lightning has divided it by the batches of a step.
            self.watch.step(loss.detach() * trainer.accumulate_grad_batches)

    def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Note the figures of an epoch."""
        figures = {}
        for name, value in trainer.callback_metrics.items():
            known = name_of_figure(name)
            if known is not None:
                figures[known] = float(value)
        self.watch.epoch(**figures)

    def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Take the hooks off."""
        self.watch.__exit__(None, None, None)

    def on_exception(self, trainer: Any, pl_module: nn.Module, exception: BaseException) -> None:
        """Take the hooks off."""
        if self._watch is not None:
            self._watch.__exit__(None, None, None)


def _network_of(module: nn.Module) -> nn.Module:
    """Return the one submodule that has all the weights, else the module itself.

    Many a module calls `self.model(x)` and is never called itself.
    """
    if list(module.parameters(recurse=False)):
        return module
    with_weights = [child for child in module.children() if list(child.parameters())]
    return with_weights[0] if len(with_weights) == 1 else module
