"""Training the notes' two MNIST networks: danlu against its peers, same networks, same batches, one run.

    python benchmarks/fit.py [--net dense|cnn] [--epochs 10] [--repeats 5] [--peers danlu,loop,…] [--out benchmarks/RESULTS.md]

Every measurement is a process of its own; repeats are interleaved, so that a slow minute of the machine hits all
alike. The clock starts after imports and covers reading the files, normalising, training and one reading of the
test part. SGD with momentum 0.5, lr 0.01, batch 64 (the notes' setting). Only the ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

from measure import faster, interleaved, machine

LR, MOMENTUM, BATCH = 0.01, 0.5, 64
NAMES = {
    "danlu": "danlu",
    "loader": "(a) the notes' per-sample loader",
    "loop": "(b) careful PyTorch tensor loop",
    "lightning": "(c) Lightning",
    "skorch": "(d) skorch",
    "keras": "(e) Keras on JAX",
}


def arrays():
    """MNIST's files as uint8 arrays."""
    import gzip

    import numpy as np

    folder = Path(os.environ["DANLU_DATA"]) / "mnist"
    out = []
    for part in ("train", "t10k"):
        x = np.frombuffer(
            gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()),
            np.uint8,
            offset=16,
        )
        y = np.frombuffer(
            gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()),
            np.uint8,
            offset=8,
        )
        out += [x.reshape(-1, 1, 28, 28), y.astype(np.int64)]
    return out


def torch_net(net):
    from torch import nn

    if net == "dense":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10)
        )
    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 50),
        nn.ReLU(),
        nn.Linear(50, 10),
    )


def torch_accuracy(model, x, y):
    import torch

    model.eval()
    with torch.no_grad():
        return sum(
            int((model(a).argmax(1) == b).sum())
            for a, b in zip(x.split(1000), y.split(1000), strict=True)
        ) / len(y)


def scaled(x):
    import torch

    return (torch.from_numpy(x.copy()).float() / 255 - 0.1307) / 0.3081


def run_danlu(net, epochs, seed):
    import danlu

    model = {"name": "dense", "hidden": (8, 8)} if net == "dense" else {"name": "cnn"}
    recipe = danlu.Recipe(
        model=model,
        init="torch",
        optimizer={"name": "momentum", "lr": LR, "momentum": MOMENTUM},
        batch_size=BATCH,
        epochs=epochs,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        import danlu.train

        start = time.perf_counter()
        run = danlu.fit(recipe, danlu.load("mnist", valid=False), out=Path(folder) / "run")
        return time.perf_counter() - start, run.result["test_accuracy"]


def run_loader(net, epochs, seed):
    import numpy as np
    import torch
    import torch.nn.functional as F
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    class Mnist(Dataset):
        """What torchvision's MNIST with ToTensor and Normalize does for each example."""

        def __init__(self, x, y):
            self.x, self.y = torch.from_numpy(x[:, 0].copy()), torch.from_numpy(y)
            self.mean, self.std = (
                torch.tensor([0.1307]).view(-1, 1, 1),
                torch.tensor([0.3081]).view(-1, 1, 1),
            )

        def __len__(self):
            return len(self.x)

        def __getitem__(self, i):
            image = Image.fromarray(self.x[i].numpy(), mode="L")
            t = (
                torch.from_numpy(np.array(image, np.uint8, copy=True))
                .view(28, 28, 1)
                .permute(2, 0, 1)
                .contiguous()
            )
            return t.to(torch.float32).div(255).sub_(self.mean).div_(self.std), int(self.y[i])

    torch.manual_seed(seed)
    start = time.perf_counter()
    x, y, xt, yt = arrays()
    loader = DataLoader(Mnist(x, y), batch_size=BATCH, shuffle=True)
    model = torch_net(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    for _ in range(epochs):
        model.train()
        for data, target in loader:
            optimizer.zero_grad()
            loss = F.nll_loss(F.log_softmax(model(data), 1), target)
            loss.backward()
            optimizer.step()
    accuracy = torch_accuracy(model, scaled(xt), torch.from_numpy(yt))
    return time.perf_counter() - start, accuracy


def run_loop(net, epochs, seed):
    import torch
    import torch._dynamo  # torch.optim imports it at its first step; imports are not timed
    import torch.nn.functional as F

    torch.manual_seed(seed)
    start = time.perf_counter()
    x, y, xt, yt = arrays()
    x, y = scaled(x), torch.from_numpy(y)
    model = torch_net(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    for _ in range(epochs):
        total, correct = 0.0, 0
        for batch in torch.randperm(len(x)).split(BATCH):
            target = y[batch]
            out = model(x[batch])
            loss = F.cross_entropy(out, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
            correct += int((out.argmax(1) == target).sum())
    accuracy = torch_accuracy(model, scaled(xt), torch.from_numpy(yt))
    return time.perf_counter() - start, accuracy


def run_lightning(net, epochs, seed):
    import logging
    import warnings

    import lightning as L
    import torch
    import torch._dynamo
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Net(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch_net(net)

        def training_step(self, batch, _):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=LR, momentum=MOMENTUM)

    torch.manual_seed(seed)
    start = time.perf_counter()
    x, y, xt, yt = arrays()
    loader = DataLoader(
        TensorDataset(scaled(x), torch.from_numpy(y)), batch_size=BATCH, shuffle=True
    )
    model = Net()
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)
    accuracy = torch_accuracy(model.net, scaled(xt), torch.from_numpy(yt))
    return time.perf_counter() - start, accuracy


def run_skorch(net, epochs, seed):
    import torch
    import torch._dynamo
    from skorch import NeuralNetClassifier

    torch.manual_seed(seed)
    start = time.perf_counter()
    x, y, xt, yt = arrays()
    clf = NeuralNetClassifier(
        torch_net(net),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=epochs,
        lr=LR,
        batch_size=BATCH,
        train_split=None,
        optimizer=torch.optim.SGD,
        optimizer__momentum=MOMENTUM,
        iterator_train__shuffle=True,
        verbose=0,
    )
    clf.fit(scaled(x), torch.from_numpy(y))
    accuracy = torch_accuracy(clf.module_, scaled(xt), torch.from_numpy(yt))
    return time.perf_counter() - start, accuracy


def run_keras(net, epochs, seed):
    os.environ["KERAS_BACKEND"] = "jax"
    import jax  # noqa: F401
    import keras
    import numpy as np

    layers = keras.layers
    keras.utils.set_random_seed(seed)
    start = time.perf_counter()
    x, y, xt, yt = arrays()
    x, xt = ((a.transpose(0, 2, 3, 1).astype(np.float32) / 255 - 0.1307) / 0.3081 for a in (x, xt))
    if net == "dense":
        body = [
            layers.Flatten(),
            layers.Dense(8, "relu"),
            layers.Dense(8, "relu"),
            layers.Dense(10),
        ]
    else:
        body = [
            layers.Conv2D(6, 5, activation="relu"),
            layers.MaxPool2D(2),
            layers.Conv2D(6, 5, activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(50, "relu"),
            layers.Dense(10),
        ]
    model = keras.Sequential([keras.Input((28, 28, 1)), *body])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(LR, MOMENTUM), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    accuracy = float((model.predict(xt, batch_size=1000, verbose=0).argmax(1) == yt).mean())
    return time.perf_counter() - start, accuracy


def table(net, epochs, repeats, peers):
    found = interleaved(__file__, peers, repeats, seeds=True, net=net, epochs=epochs)
    title = {"dense": "784–8–8–10", "cnn": "conv5(6)–pool–conv5(6)–pool–50–10"}[net]
    lines = [
        f"### {title}, {epochs} epochs, median of {repeats}",
        "",
        "| | seconds | danlu is faster by | test accuracy (mean) | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    mid = {p: statistics.median(m["seconds"] for m in ms) for p, ms in found.items()}
    for p in peers:
        accuracy = statistics.mean(m["accuracy"] for m in found[p])
        spread = statistics.stdev(m["accuracy"] for m in found[p]) if repeats > 1 else 0.0
        peak = statistics.median(m["peak_mb"] for m in found[p])
        lines.append(
            f"| {NAMES[p]} | {mid[p]:.2f} | {faster(found, p)} | {accuracy:.4f} ± {spread:.4f} | {peak:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", default="dense,cnn")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", default=",".join(NAMES))
    parser.add_argument("--worker")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    if a.worker:
        seconds, accuracy = globals()[f"run_{a.worker}"](a.net, a.epochs, a.seed)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "accuracy": accuracy, "peak_mb": peak}))
        return
    print(machine() + "\n")
    for net in a.net.split(","):
        print(table(net, a.epochs, a.repeats, a.peers.split(",")), flush=True)


if __name__ == "__main__":
    main()
