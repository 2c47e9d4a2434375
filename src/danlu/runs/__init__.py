"""What a training leaves on disk, and reading it back."""

from danlu.runs.run import Prediction, Run, list_runs

__all__ = ["Prediction", "Run", "list_runs"]
