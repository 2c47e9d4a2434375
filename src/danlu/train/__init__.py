"""The engine: recipes × data → runs."""

from danlu.train.dispatch.fit import CHECKPOINT_EVERY, fit, resume
from danlu.train.dispatch.listener import Listener, StudyListener
from danlu.train.dispatch.preflight import check
from danlu.train.dispatch.train import (
    create,
    estimate_seconds,
    extend,
    mistakes_in,
    resume_study,
    train,
)

__all__ = [
    "CHECKPOINT_EVERY",
    "Listener",
    "StudyListener",
    "check",
    "create",
    "estimate_seconds",
    "extend",
    "fit",
    "mistakes_in",
    "resume",
    "resume_study",
    "train",
]
