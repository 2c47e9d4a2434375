"""What a training leaves on disk, and reading it back."""

from danlu.predict.predictions import Prediction
from danlu.runs.members import Member
from danlu.runs.run import Run, list_runs
from danlu.runs.study import Study, list_studies

__all__ = ["Member", "Prediction", "Run", "Study", "list_runs", "list_studies"]
