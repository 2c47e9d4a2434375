"""The parts of a plain loop that do not depend on the recipe, with gaps for what does."""

HEAD = '''"""A plain PyTorch loop, written by danlu. danlu itself only {task} below."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import danlu

torch.set_num_threads({threads})
'''

TYPES = {
    "DrawsOwnWeights": "object  # danlu's mark of layers with initial weights of their own",
    "Hyper": "dict[str, Any]",
    "Number": "float | Tensor",
    "Sample": "SimpleNamespace  # danlu's section of a recipe",
    "Shape": "tuple[int, ...]",
    "State": "dict[str, Tensor]",
}
"""Types that danlu's functions name, each defined where a script uses it."""

TEST = """model.eval()
with torch.no_grad():
    out, y = model(normalize(x_test)), y_test
    loss = {loss}(out, y)
    print(f"test loss {{loss.item():.6f}}, {metric} {{float({score}):.6f}}")"""

TRAINING = """# ---- training
n = len(train)
steps = math.ceil({examples} / {batch_size})
{before}k = 0
for epoch in range({epochs}):
    model.train()
    order = torch.randperm(n, generator=stream({order_seed}, "order", epoch)){cut}
    total, correct = 0.0, 0
    for batch in order.split({batch_size}):
{step}
        total += loss.item() * len(y)
{correct}    model.eval()
    line = f"epoch {{epoch + 1}}: train {{total / len(order):.6f}} {{{score}:.6f}}"
    if len(valid):
        with torch.no_grad():
            valid_loss = {valid_loss}(model(normalize(x_valid)), y_valid).item()
        line += f", valid {{valid_loss:.6f}}"
    print(line)
"""

BEFORE_STOPPING = """best_loss, best = math.inf, None
loss_to_beat, improved = math.inf, 0
"""

STOPPING = """    if valid_loss < best_loss:
        best_loss = valid_loss
        best = {{name: t.clone() for name, t in model.state_dict().items()}}
    if valid_loss < loss_to_beat - {min_delta}:
        loss_to_beat, improved = valid_loss, epoch + 1
    if improved and epoch + 1 - improved >= {patience}:
        break
model.load_state_dict(best)
"""
