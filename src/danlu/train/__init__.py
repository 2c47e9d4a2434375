"""The engine: recipes × data → runs."""

from danlu.train.listener import Listener, StudyListener
from danlu.train.many import create, estimate_seconds, extend, mistakes_in, resume_study, train
from danlu.train.ready import check
from danlu.train.single import CHECKPOINT_EVERY, fit, resume

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
