"""Many networks at once: danlu's populations against the same networks trained otherwise, in one run.

    python benchmarks/population.py [--cases a,b,c,d] [--members 1,8,32,128,512] [--repeats 3] [--peers danlu,loop,…]

a: 784–8–8–10, batch 64; b: 784–5×100–10, batch 100; c: the notes' small convolutional net, batch 64; all on MNIST's
60,000 training examples, SGD, every network its own learning rate, all seeing the same batches. d: random search of
100 trials (learning rate and decay log-uniform as in the notes, two epochs, 80 % of the training part, judged on the
other 20 %) on net a.

Every measurement is a process of its own; repeats are interleaved, so that a slow minute of the machine hits all alike.
The clock starts when data and imports are there, and stops when the last network is trained (danlu's time covers
choosing how to train, three epochs, and writing the study to disk). Peers whose networks do not know of each other
train a few, as their time per network does not depend on how many follow. Only the ratios mean something.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = {
    "a": {"hidden": (8, 8), "batch": 64, "macs": 784 * 8 + 8 * 8 + 8 * 10, "first": 784 * 8},
    "b": {"hidden": (100,) * 5, "batch": 100, "macs": 784 * 100 + 4 * 100 * 100 + 100 * 10, "first": 784 * 100},
    "c": {"hidden": None, "batch": 64},
}
NAMES = {
    "danlu": "danlu",
    "loop": "plain PyTorch, one after another",
    "joblib": "plain PyTorch, two processes (joblib)",
    "sklearn": "scikit-learn's MLPClassifier, two processes",
    "jax": "JAX, vmap and scan by hand",
    "optuna": "Optuna and plain PyTorch",
    "skorch": "skorch under RandomizedSearchCV, two processes",
    "danlu-halving": "danlu, halving",
    "gemm": "matrix products of 1024×1024",
}
LR, EPOCHS = 0.05, 3


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
    sizes = (784, *CASES[case]["hidden"], 10)
    layers = [nn.Flatten()]
    for n, q in itertools.pairwise(sizes):
        layers += [nn.Linear(n, q), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def train_torch(case, x, y, steps, seed=0, lr=LR, weight_decay=0.0):
    """A careful loop over tensors: batches by index, no loader."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(seed)
    model, batch = net(case), CASES[case]["batch"]
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


def measure_loop(case, members):
    import torch

    x, y = map(torch.from_numpy, pictures())
    train_torch(case, x, y, 20)
    steps = len(x) // CASES[case]["batch"]
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
    steps = len(x) // CASES[case]["batch"]
    with Parallel(n_jobs=2) as pool:
        pool(delayed(one_of_two)(case, x, y, 5) for _ in range(2))  # start the processes, import PyTorch
        start = time.perf_counter()
        pool(delayed(one_of_two)(case, x, y, steps) for _ in range(2))
        return (time.perf_counter() - start) / steps / 2


def one_sklearn(case, x, y):
    import warnings

    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore")
    c = CASES[case]
    with threadpool_limits(1):
        MLPClassifier(
            c["hidden"], solver="sgd", momentum=0, batch_size=c["batch"], learning_rate_init=LR, alpha=0, max_iter=1
        ).fit(x, y)


def measure_sklearn(case, members):
    from joblib import Parallel, delayed

    x, y = pictures()
    x, steps = x.reshape(len(x), -1), len(x) // CASES[case]["batch"]
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
    batch = CASES[case]["batch"]
    steps = len(x) // batch
    rng = np.random.default_rng(0)

    def weight(*shape):
        return jnp.asarray(rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), (members, *shape)), jnp.float32)

    if case == "c":
        p = [
            (weight(6, 1, 5, 5), weight(6)),
            (weight(6, 6, 5, 5), weight(6)),
            (weight(50, 96), weight(50)),
            (weight(10, 50), weight(10)),
        ]
    else:
        sizes = (784, *CASES[case]["hidden"], 10)
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

    model = {"name": "cnn"} if case == "c" else {"name": "dense", "hidden": CASES[case]["hidden"]}
    return danlu.Recipe(
        model=model, init="torch", optimizer={"name": "sgd", "lr": LR}, batch_size=CASES[case]["batch"], epochs=EPOCHS, **fields
    )


def measure_danlu(case, members):
    import danlu
    from danlu.train import train

    data = danlu.load("mnist", valid=False)
    recipes = [recipe(case).with_(**{"optimizer.lr": LR * (0.5 + 0.5 * i / members)}) for i in range(members)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        study = train(recipes, data, out=Path(folder) / "study", parts=())
        seconds = time.perf_counter() - start
        way = study.info["plans"][0]
    steps = EPOCHS * -(-60000 // CASES[case]["batch"])
    return seconds / steps / members, f"{way['workers']} × {way['chunk']}"


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
        found = danlu.tune(data, space, recipe=base, trials=100, strategy=strategy, out=Path(folder) / "study")
        return time.perf_counter() - start, max(found.figures.values())


def measure_search_optuna():
    import optuna
    import torch

    import danlu

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = danlu.load("mnist", limit=48_000)
    (x, y), (vx, vy) = (((u.float() / 255 - 0.1307) / 0.3081, t) for u, t in map(data.part, ("train", "valid")))
    steps = 2 * -(-len(x) // 64)

    def objective(trial):
        lr, decay = trial.suggest_float("lr", 1e-6, 1e-2, log=True), trial.suggest_float("decay", 1e-8, 1e-4, log=True)
        model = train_torch("a", x, y, steps, trial.number, lr, decay)
        with torch.no_grad():
            return float((model(vx).argmax(1) == vy).float().mean())

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/s.db", sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize"
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
    (x, y), (vx, vy) = (((u.float() / 255 - 0.1307) / 0.3081, t) for u, t in map(data.part, ("train", "valid")))
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
    trials = 10  # its time per trial is constant: ten are measured and counted as a hundred
    search = RandomizedSearchCV(model, space, n_iter=trials, cv=fold, n_jobs=2, refit=False, random_state=0)
    start = time.perf_counter()
    search.fit(torch.cat([x, vx]).numpy(), torch.cat([y, vy]).numpy())
    return (time.perf_counter() - start) * 100 / trials, float(search.best_score_)


SEARCHES = {
    "danlu": lambda: measure_search("random"),
    "danlu-halving": lambda: measure_search("halving"),
    "optuna": measure_search_optuna,
    "skorch": measure_search_skorch,
}
PEERS = {"a": ("loop", "joblib", "sklearn", "jax"), "b": ("loop", "joblib", "sklearn", "jax"), "c": ("loop", "joblib", "jax")}


def measure(peer, case, members):
    """In a process of its own."""
    words = [sys.executable, __file__, "--one", peer, case, str(members)]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    if done.returncode:
        print(f"{peer} {case} {members} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def median(values):
    found = [v for v in values if v is not None]
    return statistics.median(found) if found else float("nan")


def populations(cases, sizes, repeats, peers):
    """{(case, peer, members): [seconds per network and step]}, and danlu's ways."""
    found, ways = {}, {}
    for repeat in range(repeats):
        for case in cases:
            jobs = [(p, 128 if p == "jax" and case != "c" else 8 if p == "jax" else 1) for p in PEERS[case] if p in peers]
            jobs += [("danlu", m) for m in sizes if not (case != "a" and m > 128) and not (case == "c" and m > 32)]
            for peer, m in [*jobs, ("gemm", 1)]:
                value = measure(peer, case, m)
                if isinstance(value, list):
                    value, ways[case, m] = value
                found.setdefault((case, peer, m), []).append(value)
                print(f"{repeat + 1}/{repeats} {case} {peer} {m}: {value}", file=sys.stderr, flush=True)
    return found, ways


def report(found, ways, cases):
    import torch

    lines = [
        f"machine: {os.cpu_count()} cores, {platform.machine()}; Python {platform.python_version()}, PyTorch {torch.__version__}",
        "",
    ]
    for case in cases:
        rows = {(p, m): median(v) for (c, p, m), v in found.items() if c == case}
        loop = rows.get(("loop", 1), float("nan"))
        gemm = rows.pop(("gemm", 1))
        lines += [f"### {case}", "", "| | networks | µs a network and step | × plain PyTorch | way |", "|---|---|---|---|---|"]
        for (p, m), v in sorted(rows.items(), key=lambda r: (r[0][0] == "danlu", r[0])):
            way = ways.get((case, m), "") if p == "danlu" else ""
            lines.append(f"| {NAMES[p]} | {m if p in ('danlu', 'jax') else '–'} | {1e6 * v:.1f} | {loop / v:.1f} | {way} |")
        if "macs" in CASES[case]:
            c = CASES[case]
            useful = 2 * c["batch"] * (3 * c["macs"] - c["first"])
            best = min(v for (p, _), v in rows.items() if p == "danlu")
            rate = useful / best / 1e9
            lines += [
                "",
                f"Useful operations at best: {rate:.0f} GFLOP/s, {100 * rate / gemm:.0f} % of 1024×1024 products' {gemm:.0f}.",
            ]
        lines.append("")
    return "\n".join(lines)


def searches(repeats, peers):
    found = {}
    for repeat in range(repeats):
        for peer in (p for p in SEARCHES if p in peers or p.startswith("danlu")):
            value = measure(peer, "d", 100)
            found.setdefault(peer, []).append(value)
            print(f"{repeat + 1}/{repeats} d {peer}: {value}", file=sys.stderr, flush=True)
    base = median([v[0] for v in found.get("optuna", []) if v])
    lines = ["### d", "", "| | seconds | × Optuna and PyTorch | best validation accuracy |", "|---|---|---|---|"]
    for peer, values in found.items():
        whole = [v for v in values if v]
        lines.append(f"| {NAMES[peer]} | {median([v[0] for v in whole]):.1f} | {base / median([v[0] for v in whole]):.1f} | "
                     f"{median([v[1] for v in whole]):.4f} |")  # fmt: skip
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--cases", default="a,b,c,d")
    parser.add_argument("--members", default="1,8,32,128,512")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=",".join(NAMES))
    given = parser.parse_args()
    if given.one:
        peer, case, members = given.one
        print(json.dumps(SEARCHES[peer]() if case == "d" else globals()[f"measure_{peer}"](case, int(members))))
        return
    cases, peers = given.cases.split(","), given.peers.split(",")
    nets = [c for c in cases if c != "d"]
    if nets:
        found, ways = populations(nets, [int(m) for m in given.members.split(",")], given.repeats, peers)
        print(report(found, ways, nets))
    if "d" in cases:
        print(searches(given.repeats, peers))


if __name__ == "__main__":
    main()
