"""What the tests of searches search."""

from __future__ import annotations

from danlu import Recipe

BASE = Recipe(model={"name": "dense", "hidden": [8]}, epochs=2, batch_size=32)
SPACE = [
    "optimizer.lr=1e-5..1e-1:log",
    "weight_decay=1e-8..1e-4:log",
    "model.hidden=8,16",
    "epochs=1..3",
]
LONG, LONG_SPACE = BASE.with_(batch_size=16, data_seed=1), ["lr=1e-4..1e-1:log", "epochs=9..12"]
