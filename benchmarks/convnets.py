"""Convolutional networks on 32-pixel pictures: danlu against plain PyTorch, Lightning and Keras on JAX; memory of ResNet-50.

    python benchmarks/convnets.py [--what vgg-narrow,resnet18,memory] [--repeats 3] [--peers danlu,loop,…] [--dtype float32]

Images per second of training on CIFAR-10 (crops and flips where a peer has them for whole batches: danlu, and the plain
loops, which use danlu's functions for it; Lightning and Keras train on the pictures as they are). Every measurement is a
process of its own; repeats are interleaved; the clock starts after three steps. `memory`: the largest resident memory of a
process that trains ResNet-50 for three steps on 16 pictures of 224 pixels. `limit`: the network's convolutions forwards and
backwards and nothing else, on noise. Only the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time

from measure import faster, interleaved, machine

NAMES = {
    "danlu": "danlu",
    "loop": "plain PyTorch",
    "last": "plain PyTorch, channels-last",
    "lightning": "Lightning",
    "keras": "Keras on JAX",
    "limit": "PyTorch's convolutions alone",
}
BATCH = {"vgg-narrow": 128, "resnet18": 64, "memory": 16}
STEPS = {"vgg-narrow": 12, "resnet18": 8}
WARM = 3
MIXED = "bf16-mixed"


def recipe(what, dtype):
    import danlu

    name = "resnet50" if what == "memory" else what
    augment = {} if what == "memory" else {"flip": True, "crop": 4}
    rule = {"name": "nesterov", "lr": 0.01}
    return danlu.Recipe(
        model=name, optimizer=rule, batch_size=BATCH[what], augment=augment, dtype=dtype
    )


def pictures(what):
    import numpy as np

    import danlu

    if what != "memory":
        return danlu.load("cifar10", limit=(WARM + STEPS[what]) * BATCH[what], valid=False)
    x = np.random.default_rng(0).integers(0, 256, (96, 3, 224, 224)).astype(np.uint8)
    return danlu.load((x, np.arange(96) % 4), split="70/30")


def run_danlu(what, dtype):
    """The engine's own steps, from its own feed of batches."""
    import torch

    from danlu.host import compute_threads
    from danlu.recipe.build import build_model
    from danlu.train.batches import BatchStream
    from danlu.train.dispatch.device import memory_reused, threads_for
    from danlu.train.dispatch.fit import make_population

    data, r = pictures(what), recipe(what, dtype)
    batches_of = BatchStream([r], data, torch.device("cpu"))
    with memory_reused([r], data), compute_threads(threads_for(r, data)):
        p = make_population(
            [r], lambda q: build_model(q, data.schema), data, batches_of, torch.device("cpu")
        )
        p.set_batch_layout([(0, 1)])
        start = time.perf_counter()
        for k, batch in enumerate(batches_of.epoch([r], [0], 0), 1):
            p.step(batch, k - 1)
            if k == WARM:
                start = time.perf_counter()
            if what == "memory" and k == WARM:
                break
    return time.perf_counter() - start


def net_of(what, data):
    """The same network as a plain module."""
    from danlu.recipe.build import build_model

    return build_model(recipe(what, "float32"), data.schema).train()


def batches(data, what, augmented=True):
    import torch

    from danlu.data.augment import crop, flip

    x, y = data.part("train")
    scale = data.normalizer("zscore")
    for batch in torch.randperm(len(x)).split(BATCH[what]):
        raw = x[batch]
        if augmented and what != "memory":
            raw = flip(raw, torch.rand(len(batch)) < 0.5)
            raw = crop(raw, torch.randint(0, 9, (len(batch), 2)), 4)
        yield scale(raw), y[batch]


def run_loop(what, dtype, last=False):
    import torch
    import torch._dynamo
    import torch.nn.functional as F

    data = pictures(what)
    net = net_of(what, data)
    if last:
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, nesterov=True)
    for k, (x, y) in enumerate(batches(data, what), 1):
        x = x.contiguous(memory_format=torch.channels_last) if last else x
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == MIXED):
            loss = F.cross_entropy(net(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if k == WARM:
            start = time.perf_counter()
            if what == "memory":
                break
    return time.perf_counter() - start


def run_last(what, dtype):
    return run_loop(what, dtype, True)


def run_limit(what, dtype):
    """What no program that calls these kernels can be faster than."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    net, calls = net_of(what, pictures(what)), []

    def met(layer, inputs, out):
        x = torch.randn_like(inputs[0]).requires_grad_(bool(calls))  # pictures need no gradient
        calls.append((layer, x, torch.randn_like(out)))

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(met)
    with torch.no_grad():
        net(torch.randn(BATCH[what], 3, 32, 32))
    for k in range(WARM + STEPS[what]):
        if k == WARM:
            start = time.perf_counter()
        for layer, x, g in calls:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == MIXED):
                out = F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)
            wanted = [t for t in (x, layer.weight, layer.bias) if t is not None and t.requires_grad]
            torch.autograd.grad(out, wanted, g.to(out.dtype))
    return time.perf_counter() - start


def run_lightning(what, dtype):
    import logging
    import warnings

    import lightning as L
    import torch
    import torch._dynamo
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = pictures(what)
    x, y = data.part("train")
    loader = DataLoader(
        TensorDataset(data.normalizer("zscore")(x), y), batch_size=BATCH[what], shuffle=True
    )
    clock = []

    class Net(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net_of(what, data)

        def training_step(self, batch, k):
            if k == WARM:
                clock.append(time.perf_counter())
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01, 0.9, nesterov=True)

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    precision = MIXED if dtype == MIXED else "32-true"
    L.Trainer(max_epochs=1, accelerator="cpu", precision=precision, **quiet).fit(Net(), loader)
    return time.perf_counter() - clock[0]


def run_keras(what, dtype):
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    import jax  # noqa: F401
    import keras

    layers = keras.layers
    if dtype == MIXED:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    data = pictures(what)
    x, y = data.part("train")
    x, y = data.normalizer("zscore")(x).permute(0, 2, 3, 1).numpy(), y.numpy()
    inputs = keras.Input((32, 32, 3))
    if what == "vgg-narrow":
        h = inputs
        for q in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
            if q == "M":
                h = layers.MaxPool2D(2)(h)
            else:
                h = layers.ReLU()(
                    layers.BatchNormalization()(layers.Conv2D(q, 3, padding="same")(h))
                )
        h = layers.Flatten()(h)
    else:

        def conv(h, q, k, stride):
            return layers.BatchNormalization()(
                layers.Conv2D(q, k, stride, padding="same", use_bias=False)(h)
            )

        h = layers.ReLU()(conv(inputs, 64, 3, 1))
        for stage, q in enumerate((64, 128, 256, 512)):
            for i in range(2):
                stride = 2 if stage and not i else 1
                out = conv(layers.ReLU()(conv(h, q, 3, stride)), q, 3, 1)
                h = layers.ReLU()(layers.Add()([out, h if stride == 1 else conv(h, q, 1, stride)]))
        h = layers.GlobalAveragePooling2D()(h)
    net = keras.Model(inputs, layers.Dense(10, dtype="float32")(h))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.01, 0.9, nesterov=True), loss)
    clock = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, k, logs=None):
            if k == WARM:
                clock.append(time.perf_counter())

    net.fit(x, y, batch_size=BATCH[what], epochs=1, verbose=0, callbacks=[Clock()])
    return time.perf_counter() - clock[0]


def table(what, dtype, repeats, peers):
    found = interleaved(__file__, peers, repeats, what=what, dtype=dtype)
    if what == "memory":
        head = [
            f"### ResNet-50 at 224 pixels, batches of 16, {dtype}, median of {repeats}",
            "",
            "| | peak memory, MB |",
            "|---|---|",
        ]
        rows = [
            f"| {NAMES[p]} | {statistics.median(m['peak_mb'] for m in found[p]):.0f} |"
            for p in peers
        ]
        return "\n".join([*head, *rows]) + "\n"
    lines = [f"### {what} on 32-pixel pictures, {dtype}, median of {repeats}", ""]
    lines += ["| | images/s | danlu is faster by |", "|---|---|---|"]
    for p in peers:
        pace = STEPS[what] * BATCH[what] / statistics.median(m["seconds"] for m in found[p])
        lines.append(f"| {NAMES[p]} | {pace:.0f} | {faster(found, p)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", default="vgg-narrow,resnet18,memory")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=",".join(NAMES))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--worker")
    a = parser.parse_args()
    if a.worker:
        seconds = globals()[f"run_{a.worker}"](a.what, a.dtype)
        print(
            json.dumps(
                {
                    "seconds": seconds,
                    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                }
            )
        )
        return
    print(machine() + "\n")
    for what in a.what.split(","):
        peers = [
            p for p in a.peers.split(",") if what != "memory" or p in ("danlu", "loop", "last")
        ]
        print(table(what, a.dtype, a.repeats, peers), flush=True)


if __name__ == "__main__":
    main()
