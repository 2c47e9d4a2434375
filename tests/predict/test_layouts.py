"""Pictures to predict may lie as those to load may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from danlu import Recipe, fit, load


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_predicted_however_their_axes_lie(channels: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, channels, 6, 5), dtype=np.uint8)
    run = fit(Recipe(epochs=1, batch_size=8), load((x, np.arange(40) % 2)), out=tmp_path / "run")
    plain = run.predict(x).probabilities
    last = np.moveaxis(x, 1, -1)
    layouts = [(last, plain), (x[7], plain[7:8]), (last[7], plain[7:8])]
    if channels == 1:
        layouts += [(x[:, 0], plain), (x[7, 0], plain[7:8])]
    for layout, expected in layouts:
        torch.testing.assert_close(run.predict(layout).probabilities, expected)
