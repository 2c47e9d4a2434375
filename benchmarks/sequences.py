"""Recurrent networks: danlu against plain PyTorch, Lightning and Keras on JAX; populations; cost; generation.

    python benchmarks/sequences.py [--what language,tagger,population,cost,generation] [--repeats 3] [--units 32,128]

Every measurement is a process of its own; repeats are interleaved. `language`: a character LSTM (embedding 64, 128 units,
windows of 128, batches of 32, Adam) over tiny Shakespeare. `tagger`: an LSTM both ways (2×128 units) over
ResumeNER, batches of 16; danlu puts sentences of like length together, as does one of the peers; the others pad each
batch to its longest sentence, in shuffled order. The clock starts when the data
are token numbers in memory, and covers one epoch of training. `limit`: the language model's `nn.LSTM` forwards and
backwards and nothing else, as often. `population`: 32 such language models with learning rates
and seeds of their own, on 3,000 windows, each scored once; danlu's time holds choosing a way, starting processes and
writing the study. Only the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measure import faster, interleaved, machine

NAMES = {
    "danlu": "danlu",
    "loop": "plain PyTorch (`nn.LSTM`)",
    "loop1": "plain PyTorch on one thread",
    "bucketed": "plain PyTorch, sentences of like length together",
    "lightning": "Lightning",
    "keras": "Keras on JAX",
    "limit": "PyTorch's LSTM alone",
}
BATCH = {"language": 32, "tagger": 16, "population": 32}
LR = 0.002


def load(what, hidden=128):
    import danlu

    if what == "tagger":
        return danlu.load("resume-ner", valid=False)
    return danlu.load(
        "tinyshakespeare", limit=None if what == "language" else 3000, valid=what != "language"
    )


def recipe(what, hidden=128, **fields):
    import danlu

    model = {
        "name": "lstm",
        "hidden": (hidden,),
        "embedding": 64,
        "bidirectional": what == "tagger",
    }
    return danlu.Recipe(
        model=model,
        optimizer={"name": "adam", "lr": LR},
        batch_size=BATCH[what],
        epochs=1,
        **fields,
    )


def run_danlu(what, hidden):
    import danlu
    import danlu.train

    data = load(what)
    with tempfile.TemporaryDirectory() as folder:
        run = danlu.fit(recipe(what, hidden), data, out=Path(folder) / "run")
        return run.history[-1]["seconds"], data.targets("train")


def torch_net(tokens, outputs, hidden, both):
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(tokens, 64, padding_idx=0)
            self.lstm = nn.LSTM(64, hidden, batch_first=True, bidirectional=both)
            self.output = nn.Linear(hidden * (1 + both), outputs)

        def forward(self, x):
            if not both:
                return self.output(self.lstm(self.embedding(x))[0])
            lengths = (x != 0).sum(1)
            packed = nn.utils.rnn.pack_padded_sequence(
                self.embedding(x), lengths, batch_first=True, enforce_sorted=False
            )
            out, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
            return self.output(out)

    torch.manual_seed(0)
    return Net()


def run_loop(what, hidden, bucketed=False):
    import torch
    import torch._dynamo  # torch.optim imports it at its first step; imports are not timed
    import torch.nn.functional as F

    data = load(what)
    x, y = (t.long() for t in data.part("train"))
    net = torch_net(data.schema.tokens, data.schema.outputs, hidden, what == "tagger")
    optimizer = torch.optim.Adam(net.parameters(), LR)
    start = time.perf_counter()
    order = torch.randperm(len(x))
    if bucketed:  # sorted within pools of 50 batches, as danlu does
        pools = [pool[(x[pool] != 0).sum(1).argsort()] for pool in order.split(50 * BATCH[what])]
        order = torch.cat(pools)
    batches = order.split(BATCH[what])
    for k in torch.randperm(len(batches)).tolist():
        batch = batches[k]
        bx, by = x[batch], y[batch]
        if what == "tagger":
            longest = int((bx != 0).sum(1).max())
            bx, by = bx[:, :longest], by[:, :longest]
        loss = F.cross_entropy(net(bx).flatten(0, 1), by.flatten(), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start, data.targets("train")


def run_bucketed(what, hidden):
    return run_loop(what, hidden, True)


def run_loop1(what, hidden):
    import torch

    torch.set_num_threads(1)
    return run_loop(what, hidden)


def run_limit(what, hidden):
    """The LSTM of `run_loop` forwards and backwards and nothing else, on noise."""
    import torch

    data = load(what)
    n = data.size("train")
    net = torch_net(data.schema.tokens, data.schema.outputs, hidden, False).lstm
    x = torch.randn(BATCH[what], data.schema.input_shape[0], 64, requires_grad=True)
    g = torch.randn(BATCH[what], data.schema.input_shape[0], hidden)
    wanted = [x, *net.parameters()]
    torch.autograd.grad(net(x)[0], wanted, g)  # imports what it needs
    start = time.perf_counter()
    for _ in range(-(-n // BATCH[what])):
        torch.autograd.grad(net(x)[0], wanted, g)
    return time.perf_counter() - start, data.targets("train")


def run_lightning(what, hidden):
    import logging
    import warnings

    import lightning as L
    import torch
    import torch._dynamo
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = load(what)
    x, y = (t.long() for t in data.part("train"))

    class Net(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch_net(data.schema.tokens, data.schema.outputs, hidden, what == "tagger")

        def training_step(self, batch, _):
            bx, by = batch
            if what == "tagger":
                longest = int((bx != 0).sum(1).max())
                bx, by = bx[:, :longest], by[:, :longest]
            return F.cross_entropy(self.net(bx).flatten(0, 1), by.flatten(), ignore_index=-1)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), LR)

    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH[what], shuffle=True)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer, net = L.Trainer(max_epochs=1, accelerator="cpu", **quiet), Net()
    start = time.perf_counter()
    trainer.fit(net, loader)
    return time.perf_counter() - start, data.targets("train")


def run_keras(what, hidden):
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    import jax  # noqa: F401
    import keras

    data = load(what)
    x, y = (t.numpy() for t in data.part("train"))
    layers = keras.layers
    lstm = layers.LSTM(hidden, return_sequences=True)
    both = what == "tagger"
    body = [
        layers.Embedding(data.schema.tokens, 64, mask_zero=both),
        layers.Bidirectional(lstm) if both else lstm,
    ]
    net = keras.Sequential(
        [keras.Input((x.shape[1],), dtype="int32"), *body, layers.Dense(data.schema.outputs)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1 if both else None
    )
    net.compile(keras.optimizers.Adam(LR), loss)
    net.fit(x[: BATCH[what]], y[: BATCH[what]], batch_size=BATCH[what], verbose=0)  # compiles
    start = time.perf_counter()
    net.fit(x, y, batch_size=BATCH[what], epochs=1, verbose=0)
    return time.perf_counter() - start, data.targets("train")


def run_population(what, hidden):
    """32 networks together; seconds of training, all told."""
    from danlu.train import train

    data = load("population")
    recipes = [
        recipe("population", hidden, seed=k).with_(**{"optimizer.lr": LR * (1 + k / 32)})
        for k in range(32)
    ]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        study = train(recipes, data, out=Path(folder) / "study", parts=("valid",))
        seconds = time.perf_counter() - start
        way = study.info["plans"][0]
    print(
        f"{way['population_size']} at once, {way['workers']} workers, {way['threads']} threads: {way['reason']}",
        file=sys.stderr,
    )
    return seconds, 32 * data.targets("train")


def run_sequential(what, hidden):
    """The same by `nn.LSTM`, one after another, scored once on the validation part."""
    import torch
    import torch._dynamo
    import torch.nn.functional as F

    data = load("population")
    x, y = (t.long() for t in data.part("train"))
    vx, vy = (t.long() for t in data.part("valid"))
    start = time.perf_counter()
    for k in range(32):
        net = torch_net(data.schema.tokens, data.schema.outputs, hidden, False)
        optimizer = torch.optim.Adam(net.parameters(), LR * (1 + k / 32))
        for batch in torch.randperm(len(x)).split(BATCH["population"]):
            loss = F.cross_entropy(net(x[batch]).flatten(0, 1), y[batch].flatten(), ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            for a, b in zip(vx.split(64), vy.split(64), strict=True):
                F.cross_entropy(net(a).flatten(0, 1), b.flatten(), ignore_index=-1)
    return time.perf_counter() - start, 32 * data.targets("train")


def run_sequential1(what, hidden):
    import torch

    torch.set_num_threads(1)
    return run_sequential(what, hidden)


def run_generation(what, hidden):
    """Characters written one by one."""
    import danlu
    from danlu.predict.generate import generate

    with tempfile.TemporaryDirectory() as folder:
        run = danlu.fit(recipe("population", hidden), load("population"), out=Path(folder) / "run")
        next(iter(generate(run, "A", seed=1)))
        start = time.perf_counter()
        n = len("".join(generate(run, "A", length=3000)))
        return time.perf_counter() - start, n


def table(title, what, hidden, repeats, peers):
    found = interleaved(__file__, peers, repeats, what=what, hidden=hidden)
    lines = [
        f"### {title}, median of {repeats}",
        "",
        "| | seconds | tokens/s | danlu is faster by |",
        "|---|---|---|---|",
    ]
    for p in peers:
        seconds = statistics.median(m["seconds"] for m in found[p])
        name = {
            **NAMES,
            "population": "danlu, 32 networks",
            "sequential": "plain PyTorch, one after another",
            "sequential1": "the same on one thread",
        }.get(p, p)
        pace = found[p][0]["tokens"] / seconds
        lines.append(f"| {name} | {seconds:.2f} | {pace:,.0f} | {faster(found, p, peers[0])} |")
    return "\n".join(lines) + "\n"


def cost(repeats):
    """Milliseconds of a training step by length, width and depth."""
    import torch

    import danlu
    from danlu.host import freed_memory_kept
    from danlu.recipe.build import build_model

    lines = [
        "### Milliseconds of a step (forward, backward) of an LSTM, batches of 32",
        "",
        "| | ms |",
        "|---|---|",
    ]
    torch.set_num_threads(1)
    rows = [(f"{n} tokens, 128 units", n, (128,)) for n in (32, 64, 128, 256, 512)]
    rows += [(f"128 tokens, {h} units", 128, (h,)) for h in (32, 64, 256, 512)]
    rows += [(f"128 tokens, {d} layers of 128 units", 128, (128,) * d) for d in (2, 3, 4)]
    for name, n, hidden in rows:
        schema = danlu.data.Schema("language", (n,), tokens=68)
        net = build_model(danlu.Recipe(model={"name": "lstm", "hidden": hidden}), schema)
        x, times = torch.randint(3, 68, (32, n)), []
        with freed_memory_kept():  # as danlu does while it trains
            for _ in range(repeats + 2):
                start = time.perf_counter()
                net(x).square().mean().backward()
                times.append(time.perf_counter() - start)
        lines.append(f"| {name} | {1e3 * statistics.median(times[2:]):.1f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", default="language,tagger,population,cost,generation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=",".join(NAMES))
    parser.add_argument("--worker")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--units", default="32,128")
    a = parser.parse_args()
    if a.worker:
        seconds, tokens = globals()[f"run_{a.worker}"](a.what, a.hidden)
        print(json.dumps({"seconds": seconds, "tokens": tokens}))
        return
    print(machine() + "\n")
    peers, what = a.peers.split(","), a.what.split(",")
    if "language" in what:
        every = [p for p in peers if p != "bucketed"]
        print(
            table("A character LSTM on tiny Shakespeare", "language", 128, a.repeats, every),
            flush=True,
        )
    if "tagger" in what:
        most = [p for p in peers if p != "limit"]
        print(table("A tagger both ways on ResumeNER", "tagger", 128, a.repeats, most), flush=True)
    for hidden in map(int, a.units.split(",")) if "population" in what else ():
        pair = ["population", "sequential", "sequential1"]
        print(
            table(f"32 character LSTMs of {hidden} units", "population", hidden, a.repeats, pair),
            flush=True,
        )
    if "cost" in what:
        print(cost(5 * a.repeats), flush=True)
    if "generation" in what:
        print(
            table(
                "Characters written one by one, 128 units",
                "generation",
                128,
                a.repeats,
                ["generation"],
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
