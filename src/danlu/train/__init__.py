"""The engine: recipes × data → runs."""

from danlu.train.listener import Listener
from danlu.train.train import check, fit, resume, train

__all__ = ["Listener", "check", "fit", "resume", "train"]
