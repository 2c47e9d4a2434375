"""What benchmarks/population.py measures, each in a process of its own: population_peers.py PEER CASE MEMBERS."""

from __future__ import annotations

import functools
import itertools
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

CASES = {
    "a": {"hidden": (8, 8), "batch": 64, "macs": 784 * 8 + 8 * 8 + 8 * 10, "first": 784 * 8},
    "b": {
        "hidden": (100,) * 5,
        "batch": 100,
        "macs": 784 * 100 + 4 * 100 * 100 + 100 * 10,
        "first": 784 * 100,
    },
    "c": {
        "hidden": None,
        "batch": 64,
        "macs": 24 * 24 * 6 * 25 + 8 * 8 * 36 * 25 + 96 * 50 + 50 * 10,
    },
}
LR, EPOCHS = 0.05, 3
SHORT, SECONDS = (
    6400,
    4.0,
)  # examples, and about how long, where cost is measured against size, depth and width


def shape(case):
    """A net of the table, or WIDTHxDEPTHbBATCH."""
    if case not in CASES:
        width, depth, batch = map(int, re.fullmatch(r"(\d+)x(\d+)b(\d+)", case).groups())
        macs = 784 * width + (depth - 1) * width * width + width * 10
        CASES[case] = {
            "hidden": (width,) * depth,
            "batch": batch,
            "macs": macs,
            "first": 784 * width,
        }
    return CASES[case]


def pictures():
    """MNIST's training pictures, scaled, and labels, as float32 and int64 arrays."""
    import danlu

    data = danlu.load("mnist", valid=False)
    x, y = data.part("train")
    return ((x.float() / 255 - 0.1307) / 0.3081).numpy(), y.numpy()


def net(case):
    from torch import nn

    if case == "c":
        return nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(96, 50), nn.ReLU(), nn.Linear(50, 10),
        )  # fmt: skip
    sizes = (784, *shape(case)["hidden"], 10)
    layers = [nn.Flatten()]
    for n, q in itertools.pairwise(sizes):
        layers += [nn.Linear(n, q), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train_torch(case, x, y, steps, seed=0, lr=LR, weight_decay=0.0):
    """A careful loop over tensors: batches by index, no loader."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(seed)
    model, batch = net(case), shape(case)["batch"]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)
    done = 0
    while done < steps:
        for index in torch.randperm(len(x)).split(batch):
            loss = F.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    return model


def measure_loop(case, members, short=False):
    import torch

    x, y = map(torch.from_numpy, pictures())
    if short:
        x, y = x[:SHORT], y[:SHORT]
    train_torch(case, x, y, 20)
    start = time.perf_counter()
    train_torch(case, x, y, 20)
    pace = (time.perf_counter() - start) / 20
    steps = max(50, int(SECONDS / pace)) if short else len(x) // shape(case)["batch"]
    start = time.perf_counter()
    train_torch(case, x, y, steps)
    return (time.perf_counter() - start) / steps


def one_of_two(case, x, y, steps):
    import torch

    torch.set_num_threads(1)
    train_torch(case, torch.from_numpy(x), torch.from_numpy(y), steps)


def measure_joblib(case, members):
    from joblib import Parallel, delayed

    x, y = pictures()
    steps = len(x) // shape(case)["batch"]
    with Parallel(n_jobs=2) as pool:
        pool(
            delayed(one_of_two)(case, x, y, 5) for _ in range(2)
        )  # start the processes, import PyTorch
        start = time.perf_counter()
        pool(delayed(one_of_two)(case, x, y, steps) for _ in range(2))
        return (time.perf_counter() - start) / steps / 2


def one_sklearn(case, x, y):
    import warnings

    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore")
    c = shape(case)
    with threadpool_limits(1):
        MLPClassifier(
            c["hidden"],
            solver="sgd",
            momentum=0,
            batch_size=c["batch"],
            learning_rate_init=LR,
            alpha=0,
            max_iter=1,
        ).fit(x, y)


def measure_sklearn(case, members):
    from joblib import Parallel, delayed

    x, y = pictures()
    x, steps = x.reshape(len(x), -1), len(x) // shape(case)["batch"]
    with Parallel(n_jobs=2) as pool:
        pool(delayed(one_sklearn)(case, x[:500], y[:500]) for _ in range(2))
        start = time.perf_counter()
        pool(delayed(one_sklearn)(case, x, y) for _ in range(2))
        return (time.perf_counter() - start) / steps / 2


def measure_jax(case, members):
    """Parameters stacked by hand; an epoch is one compiled scan, compiled before the clock starts."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    x, y = pictures()
    batch = shape(case)["batch"]
    steps = len(x) // batch
    rng = np.random.default_rng(0)

    def weight(*shape):
        return jnp.asarray(
            rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), (members, *shape)), jnp.float32
        )

    if case == "c":
        p = [
            (weight(6, 1, 5, 5), weight(6)),
            (weight(6, 6, 5, 5), weight(6)),
            (weight(50, 96), weight(50)),
            (weight(10, 50), weight(10)),
        ]
    else:
        sizes = (784, *shape(case)["hidden"], 10)
        p = [(weight(q, n), weight(q)) for n, q in itertools.pairwise(sizes)]
        x = x.reshape(len(x), -1)

    def forward(p, v):
        p = list(p)
        while v.ndim == 4:
            w, b = p.pop(0)
            v = jax.nn.relu(jax.lax.conv(v, w, (1, 1), "VALID") + b[:, None, None])
            v = jax.lax.reduce_window(v, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
            v = v.reshape(len(v), -1) if len(p) == 2 else v
        for k, (w, b) in enumerate(p):
            v = v @ w.T + b
            v = v if k == len(p) - 1 else jax.nn.relu(v)
        return v

    def loss(p, v, t):
        return -jnp.take_along_axis(jax.nn.log_softmax(forward(p, v)), t[:, None], 1).mean()

    lr = jnp.linspace(0.5 * LR, LR, members)

    @jax.jit
    def epoch(p, index):
        def step(p, i):
            v, t = jnp.asarray(x)[i], jnp.asarray(y)[i]
            g = jax.vmap(jax.grad(loss), (0, None, None))(p, v, t)
            return jax.tree.map(lambda w, d: w - lr.reshape(-1, *[1] * (w.ndim - 1)) * d, p, g), 0

        return jax.lax.scan(step, p, index)[0]

    index = jnp.asarray(rng.permutation(len(x))[: steps * batch].reshape(steps, batch))
    few = steps if members <= 32 else steps // 4
    jax.block_until_ready(epoch(p, index[:few]))
    start = time.perf_counter()
    jax.block_until_ready(epoch(p, index[:few]))
    return (time.perf_counter() - start) / few / members


def recipe(case, **fields):
    import danlu

    model = {"name": "cnn"} if case == "c" else {"name": "dense", "hidden": shape(case)["hidden"]}
    rule = {"name": "sgd", "lr": LR}
    return danlu.Recipe(
        model=model,
        init="torch",
        optimizer=rule,
        batch_size=shape(case)["batch"],
        epochs=EPOCHS,
        **fields,
    )


def measure_danlu(case, members, own=False, short=False):
    """own: an order of the data for each network; short: few examples, as many epochs as take some seconds."""
    import danlu
    from danlu.train import train

    data = danlu.load("mnist", valid=False, limit=SHORT if short else None)
    steps, epochs = -(-data.size("train") // shape(case)["batch"]), EPOCHS
    if short:
        pace = max(15e-6, 6 * shape(case)["batch"] * shape(case)["macs"] / 150e9)
        epochs = max(1, min(100, round(SECONDS / (members * steps * pace))))
    base = recipe(case).with_(epochs=epochs)
    recipes = [
        base.with_(
            **{"optimizer.lr": LR * (0.5 + 0.5 * i / members), **({"data_seed": i} if own else {})}
        )
        for i in range(members)
    ]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        study = train(recipes, data, out=Path(folder) / "study", parts=())
        seconds = time.perf_counter() - start
        way = study.info["plans"][0]
    return seconds / (epochs * steps) / members, f"{way['workers']} × {way['population_size']}"


def products(case, members):
    """Seconds of a network and step in its matrix products alone, on one thread: the layout and calls of the engine."""
    import torch

    torch.set_num_threads(1)
    c = shape(case)
    sizes = (784, *c["hidden"], 10)
    weights = [torch.randn(members, q, n) for n, q in itertools.pairwise(sizes)]
    slopes = [torch.empty_like(w) for w in weights]
    acts = [torch.randn(784, c["batch"]), *(torch.randn(members, n, c["batch"]) for n in sizes[1:])]
    outs = [torch.empty_like(a) for a in acts]

    def step():
        torch.mm(weights[0].flatten(0, 1), acts[0], out=outs[1].flatten(0, 1))
        torch.mm(acts[1].flatten(0, 1), acts[0].t(), out=slopes[0].flatten(0, 1))
        for k in range(1, len(weights)):
            torch.bmm(weights[k], acts[k], out=outs[k + 1])
            torch.bmm(acts[k + 1], acts[k].mT, out=slopes[k])
            torch.bmm(weights[k].mT, acts[k + 1], out=outs[k])

    times = []
    for _ in range(max(30, 3000 // members)):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / members


def measure_products(case, members):
    """The limit: two processes that do nothing but the products."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=2) as pool:
        return statistics.mean(pool(delayed(products)(case, members) for _ in range(2))) / 2


def measure_gemm(case, members):
    import torch

    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    times = []
    for _ in range(60):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * 1024**3 / statistics.median(times) / 1e9


def measure_search(strategy):
    import danlu

    data = danlu.load("mnist", limit=48_000)
    base = recipe("a").with_(epochs=2)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        space = ["optimizer.lr=1e-6..1e-2:log", "optimizer.weight_decay=1e-8..1e-4:log"]
        found = danlu.tune(
            data, space, recipe=base, trials=100, strategy=strategy, out=Path(folder) / "study"
        )
        return time.perf_counter() - start, max(t.figure for t in found.ranked)


def measure_search_optuna():
    import optuna
    import torch

    import danlu

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = danlu.load("mnist", limit=48_000)
    (x, y), (vx, vy) = (
        ((u.float() / 255 - 0.1307) / 0.3081, t) for u, t in map(data.part, ("train", "valid"))
    )
    steps = 2 * -(-len(x) // 64)

    def objective(trial):
        lr, decay = (
            trial.suggest_float("lr", 1e-6, 1e-2, log=True),
            trial.suggest_float("decay", 1e-8, 1e-4, log=True),
        )
        model = train_torch("a", x, y, steps, trial.number, lr, decay)
        with torch.no_grad():
            return float((model(vx).argmax(1) == vy).float().mean())

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/s.db",
            sampler=optuna.samplers.RandomSampler(seed=0),
            direction="maximize",
        )
        study.optimize(objective, n_trials=100)
        return time.perf_counter() - start, study.best_value


def measure_search_skorch():
    import numpy as np
    import torch
    from scipy.stats import loguniform
    from sklearn.model_selection import PredefinedSplit, RandomizedSearchCV
    from skorch import NeuralNetClassifier

    import danlu

    data = danlu.load("mnist", limit=48_000)
    (x, y), (vx, vy) = (
        ((u.float() / 255 - 0.1307) / 0.3081, t) for u, t in map(data.part, ("train", "valid"))
    )
    torch.set_num_threads(1)
    model = NeuralNetClassifier(
        net("a"),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=2,
        batch_size=64,
        train_split=None,
        verbose=0,
        iterator_train__shuffle=True,
    )
    space = {"lr": loguniform(1e-6, 1e-2), "optimizer__weight_decay": loguniform(1e-8, 1e-4)}
    fold = PredefinedSplit(np.r_[np.full(len(x), -1), np.zeros(len(vx))])
    trials = 10  # its time per trial is constant: ten are measured and counted as a hundred (the best is of ten)
    search = RandomizedSearchCV(
        model, space, n_iter=trials, cv=fold, n_jobs=2, refit=False, random_state=0
    )
    start = time.perf_counter()
    search.fit(torch.cat([x, vx]).numpy(), torch.cat([y, vy]).numpy())
    return (time.perf_counter() - start) * 100 / trials, float(search.best_score_)


SEARCHES = {
    "danlu": lambda: measure_search("random"),
    "danlu-halving": lambda: measure_search("halving"),
    "optuna": measure_search_optuna,
    "skorch": measure_search_skorch,
}

MEASURES = {
    "danlu": measure_danlu,
    "danlu-own": functools.partial(measure_danlu, own=True),
    "danlu-short": functools.partial(measure_danlu, short=True),
    "products": measure_products,
    "loop": measure_loop,
    "loop-short": functools.partial(measure_loop, short=True),
    "joblib": measure_joblib,
    "sklearn": measure_sklearn,
    "jax": measure_jax,
    "gemm": measure_gemm,
}

if __name__ == "__main__":
    peer, case, members = sys.argv[1:]
    print(json.dumps(SEARCHES[peer]() if case == "d" else MEASURES[peer](case, int(members))))
