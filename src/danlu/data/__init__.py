"""What to learn from: examples in three parts, their schema, normalisers, augmentation."""

from danlu.data.augment import Augmenter
from danlu.data.column import Column
from danlu.data.data import Data
from danlu.data.normalize import KINDS, Normalizer
from danlu.data.parts import PARTS
from danlu.data.schema import Schema
from danlu.data.sources.load import load, names

__all__ = ["KINDS", "PARTS", "Augmenter", "Column", "Data", "Normalizer", "Schema", "load", "names"]
