"""Bias and variance, measured over resampled training sets."""
