"""Which examples a training step sees, and how often each counts."""

from danlu.train.batches.batch_stream import BatchStream, StepBatch

__all__ = ["BatchStream", "StepBatch"]
