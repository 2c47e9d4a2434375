"""What a training leaves on disk, and reading it back."""

from danlu.runs.run import Prediction, Run, list_runs
from danlu.runs.study import Study, list_studies

__all__ = ["Prediction", "Run", "Study", "list_runs", "list_studies"]
