"""Which examples a training step sees, and how often each counts."""
