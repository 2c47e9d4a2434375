"""What to learn from: sources, splits, normalisers, augmentations."""

from danlu.data.augment import Augmenter
from danlu.data.data import PARTS, Data
from danlu.data.normalize import KINDS, Normalizer
from danlu.data.schema import Column, Schema
from danlu.data.sources.load import load, names

__all__ = ["KINDS", "PARTS", "Augmenter", "Column", "Data", "Normalizer", "Schema", "load", "names"]
