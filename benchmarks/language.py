"""A character model of tiny Shakespeare: danlu's LSTM beside a small transformer with nanoGPT's settings for a CPU.

    python benchmarks/language.py [--epochs 4] [--hidden 256] [--repeats 3]

nanoGPT's README gives 1.88 nats on the validation part after about three minutes of CPU: 4 layers of 4 heads, 128 wide,
windows of 64, batches of 12, 2,000 steps of AdamW (lr 0.001 with warm-up and cosine to a tenth, β₂ 0.99, decay 0.1,
clipping at 1). That network is written out below in plain PyTorch and trained the same way on the same cores: the first 90 %
of the characters, validated on the last 10 %, whole. danlu trains `--recipe language` for as many epochs as are told;
both in a process of their own, interleaved, the clock on training alone. Only the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

from measure import interleaved, machine

WINDOW, BATCH, WIDTH, HEADS, LAYERS, STEPS, LR = 64, 12, 128, 4, 4, 2000, 1e-3


def run_danlu(epochs, hidden, seed):
    import danlu
    import danlu.train
    from danlu.predict.generate import generate

    data = danlu.load("tinyshakespeare", split="90/10/0")
    recipe = danlu.Recipe.read("language").with_(
        epochs=epochs, seed=seed, **{"model.hidden": (hidden,)}
    )
    with tempfile.TemporaryDirectory() as folder:
        run = danlu.fit(recipe, data, out=Path(folder) / "run")
        text = "".join(generate(run, "ROMEO:", temperature=0.8, length=300, seed=1))
        parameters = sum(p.numel() for p in run.model().parameters())
        return run.history[-1]["seconds"], run.result["valid_loss"], parameters, text


def transformer(tokens):
    """nanoGPT's network: pre-norm blocks without biases, the output tied to the embedding."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = (
                nn.LayerNorm(WIDTH, bias=False),
                nn.LayerNorm(WIDTH, bias=False),
            )
            self.qkv, self.join = (
                nn.Linear(WIDTH, 3 * WIDTH, bias=False),
                nn.Linear(WIDTH, WIDTH, bias=False),
            )
            self.up, self.down = (
                nn.Linear(WIDTH, 4 * WIDTH, bias=False),
                nn.Linear(4 * WIDTH, WIDTH, bias=False),
            )

        def forward(self, x):
            b, t, _ = x.shape
            q, k, v = (
                p.view(b, t, HEADS, -1).transpose(1, 2) for p in self.qkv(self.norm1(x)).chunk(3, 2)
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.join(y.transpose(1, 2).flatten(2))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.place = nn.Embedding(tokens, WIDTH), nn.Embedding(WINDOW, WIDTH)
            self.blocks, self.norm = (
                nn.Sequential(*(Block() for _ in range(LAYERS))),
                nn.LayerNorm(WIDTH, bias=False),
            )
            for name, p in self.named_parameters():
                if p.ndim == 2:
                    residual = name.endswith(("join.weight", "down.weight"))
                    nn.init.normal_(p, std=0.02 / (math.sqrt(2 * LAYERS) if residual else 1))

        def forward(self, x):
            h = self.embedding(x) + self.place(torch.arange(x.shape[1]))
            return F.linear(self.norm(self.blocks(h)), self.embedding.weight)

    return Net()


def run_gpt(epochs, hidden, seed):
    import os

    import torch
    import torch._dynamo  # torch.optim imports it at its first step; imports are not timed
    import torch.nn.functional as F

    text = (Path(os.environ["DANLU_DATA"]) / "text" / "tinyshakespeare.txt").read_text()
    known = {c: k for k, c in enumerate(sorted(set(text)))}
    every = torch.tensor([known[c] for c in text])
    train, valid = every[: int(0.9 * len(every))], every[int(0.9 * len(every)) :]
    torch.manual_seed(seed)
    net = transformer(len(known))
    groups = [
        {"params": [p for p in net.parameters() if (p.ndim == 2) == two], "weight_decay": 0.1 * two}
        for two in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, LR, (0.9, 0.99))
    reach = torch.arange(WINDOW + 1)
    start = time.perf_counter()
    for k in range(STEPS):
        rate = (
            LR * (k + 1) / 101
            if k < 100
            else LR * (0.1 + 0.45 * (1 + math.cos(math.pi * (k - 100) / (STEPS - 100))))
        )
        for g in optimizer.param_groups:
            g["lr"] = rate
        rows = train[torch.randint(len(train) - WINDOW - 1, (BATCH, 1)) + reach]
        loss = F.cross_entropy(net(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - start
    windows = (len(valid) - 1) // WINDOW * WINDOW
    x, y = valid[:windows].view(-1, WINDOW), valid[1 : windows + 1].view(-1, WINDOW)
    with torch.no_grad():
        total = sum(
            float(F.cross_entropy(net(a).flatten(0, 1), b.flatten(), reduction="sum"))
            for a, b in zip(x.split(64), y.split(64), strict=True)
        )
    return seconds, total / windows, sum(p.numel() for p in net.parameters()), ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    if a.worker:
        seconds, nats, parameters, text = globals()[f"run_{a.worker}"](a.epochs, a.hidden, a.seed)
        print(
            json.dumps({"seconds": seconds, "nats": nats, "parameters": parameters, "text": text})
        )
        return
    found = interleaved(
        __file__, ("danlu", "gpt"), a.repeats, seeds=True, epochs=a.epochs, hidden=a.hidden
    )
    print(machine() + "\n")
    print(f"### Characters of tiny Shakespeare, validation loss, median of {a.repeats}\n")
    print(
        "| | parameters | seconds of training | nats a character | perplexity |\n|---|---|---|---|---|"
    )
    names = {
        "danlu": f"danlu, `--recipe language`, {a.hidden} units, {a.epochs} epochs",
        "gpt": "nanoGPT's settings, plain PyTorch",
    }
    for p, ms in found.items():
        seconds, nats = (statistics.median(m[k] for m in ms) for k in ("seconds", "nats"))
        print(
            f"| {names[p]} | {ms[0]['parameters']:,} | {seconds:.0f} | {nats:.3f} | {math.exp(nats):.2f} |"
        )
    print(
        f"\nWritten by danlu's after `ROMEO:` at temperature 0.8:\n\n```\n{found['danlu'][0]['text']}\n```"
    )


if __name__ == "__main__":
    main()
