"""What a training leaves on disk, and reading it back."""

from danlu.runs.run import Prediction, Run, list_runs
from danlu.runs.study import Study, higher_is_better, list_studies

__all__ = ["Prediction", "Run", "Study", "higher_is_better", "list_runs", "list_studies"]
