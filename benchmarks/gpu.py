"""Many networks at once on a GPU, against the same networks one after another in plain PyTorch.

    python benchmarks/gpu.py [--cases a,b,c,resnet,lstm] [--out gpu.json] [--budget 220]

a, b, c: the three nets of population.py on MNIST; resnet: ResNet-18 at 32 pixels on CIFAR-10; lstm: a classifier of DNA
sequences (made by danlu). Every network has a seed and a learning rate of its own, and all see the same batches.

danlu's time is that of a whole study: choosing how to train, training, scoring, writing. Plain PyTorch trains the same
modules from the same initial values, with the examples on the device, in two ways: step by step (eager), and with a step
captured as a CUDA graph; the faster counts. Its time per network does not depend on how many follow, so it trains two. HFTA (Wang et al. 2021), which fuses networks by hand, reports
up to 15.1 times a network's own speed.

Measurements are interleaved; what no longer fits the budget (seconds) is left out and said. Without a GPU there is
nothing to measure. `--device cpu` tries the script itself.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F

import danlu
from danlu.recipe.build import build_model
from danlu.train import train

HANGS = 120  # seconds after which a job's traceback is printed


@dataclass(frozen=True)
class Case:
    """A network, what it learns from, and how many train at once."""

    source: str
    recipe: list[str]
    members: tuple[int, ...]
    examples: int
    load: dict = field(default_factory=dict)


SGD = ["optimizer=sgd", "lr=0.05", "epochs=2", "data_seed=0"]
CASES = {
    "a": Case("mnist", ["model.hidden=8,8", "batch_size=64", *SGD], (8, 64, 256, 1024), 12_800),
    "b": Case("mnist", ["model.hidden=100,100,100,100,100", "batch_size=100", *SGD], (8, 64, 256, 1024), 12_800),
    "c": Case("mnist", ["model=cnn", "batch_size=64", *SGD], (8, 64, 256, 1024), 6_400),
    "resnet": Case("cifar10", ["model=resnet18", "batch_size=64", *SGD, "lr=0.02"], (8, 32), 3_200),
    "lstm": Case("dna", ["model=lstm", "model.hidden=64", "model.embedding=16", "batch_size=50", "optimizer=adam",
                         "lr=0.003", "epochs=2", "data_seed=0"], (8, 64, 256), 2_000),
}  # fmt: skip


def recipes_of(case: Case, members: int) -> list[danlu.Recipe]:
    base = danlu.Recipe().with_(case.recipe)
    lr = base.optimizer.lr
    return [
        base.with_(seed=k, **{"optimizer.lr": lr * (0.8 + 0.4 * k / members)})
        for k in range(members)
    ]


def accuracy_of(results: list[dict]) -> float:
    return statistics.fmean(result["test_accuracy"] for result in results)


def measure_danlu(case: Case, data: danlu.Data, members: int, device: str) -> dict:
    """Seconds of a network's step, the mean test accuracy, and the way it chose."""
    recipes = recipes_of(case, members)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        study = train(recipes, data, out=Path(folder) / "study", device=device)
        seconds = time.perf_counter() - began
        steps = study.results[0]["steps"]
        (plan,) = study.info["plans"]
        size = plan["population_size"]
        return {"seconds": seconds / (members * steps), "accuracy": accuracy_of(study.results),
                "way": f"{size} at once" if size > 1 else f"one by one: {plan['reason']}"}  # fmt: skip


class Plain:
    """One network in plain PyTorch, all of its data on the device."""

    def __init__(self, recipe: danlu.Recipe, data: danlu.Data, device: str, graph: bool) -> None:
        self.model = build_model(recipe, data.schema).to(device).train()
        self.text = data.schema.is_text
        self.normalizer = data.normalizer(recipe.normalize).to(device, torch.float32)
        self.x, self.y = (self.on(t, device) for t in data.part("train"))
        self.test = tuple(self.on(t, device) for t in data.part("test"))
        self.size, self.epochs = recipe.batch_size, recipe.epochs
        self.orders = [torch.randperm(len(self.x), device=device) for _ in range(self.epochs)]
        name, lr = recipe.optimizer.name, recipe.optimizer.lr
        if name == "adam":
            options = {"fused": device == "cuda", "capturable": graph}
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=lr, **options)
        else:
            self.optimizer = torch.optim.SGD(
                self.model.parameters(), lr=lr, foreach=device == "cuda"
            )
        self.index = self.orders[0][: self.size].clone()

    def on(self, tensor: torch.Tensor, device: str) -> torch.Tensor:
        moved = tensor.to(device)
        if moved.ndim == 1:
            return moved.long()
        return moved if self.text else self.normalizer(moved)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        out = self.model(self.x.index_select(0, self.index))
        loss = F.cross_entropy(out, self.y.index_select(0, self.index))
        loss.backward()
        self.optimizer.step()

    def batches(self):
        whole = len(self.x) // self.size * self.size
        for order in self.orders:
            yield from order[:whole].view(-1, self.size)

    @torch.no_grad()
    def accuracy(self) -> float:
        self.model.eval()
        x, y = self.test
        right = sum(
            int((self.model(a).argmax(1) == b).sum())
            for a, b in zip(x.split(500), y.split(500), strict=True)
        )
        return right / len(y)

    def capture(self) -> torch.cuda.CUDAGraph:
        """A step as a CUDA graph; steps before it warm up, and are taken back."""
        saved = {k: v.clone() for k, v in self.model.state_dict().items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        self.model.load_state_dict(saved)
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()
        return graph


def finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def eager(recipes, data, device):
    networks = [Plain(recipe, data, device, graph=False) for recipe in recipes[:2]]
    networks[0].step()  # starts the libraries
    networks[0] = Plain(recipes[0], data, device, graph=False)
    finish(device)
    began, steps = time.perf_counter(), 0
    for network in networks:
        for index in network.batches():
            network.index = index
            network.step()
            steps += 1
    finish(device)
    return (time.perf_counter() - began) / steps, networks


def graphs(recipes, data, device):
    networks = [Plain(recipe, data, device, graph=True) for recipe in recipes[:2]]
    captured = [network.capture() for network in networks]
    finish(device)
    began, steps = time.perf_counter(), 0
    for network, graph in zip(networks, captured, strict=True):
        for index in network.batches():
            network.index.copy_(index)
            graph.replay()
            steps += 1
    finish(device)
    return (time.perf_counter() - began) / steps, networks


def measure_plain(case: Case, data: danlu.Data, device: str) -> dict:
    """The fastest way of plain PyTorch: seconds of a network's step, accuracy, and what each way took."""
    recipes = recipes_of(case, 8)[3:5]  # learning rates of the population's middle
    ways = {"eager": lambda: eager(recipes, data, device)}
    if device == "cuda":
        ways["CUDA graph"] = lambda: graphs(recipes, data, device)
    seconds, accuracies = {}, {}
    for name, way in ways.items():
        print(f"{case.recipe[0]}, plain PyTorch: {name} …", file=sys.stderr, flush=True)
        try:
            seconds[name], networks = way()
        except RuntimeError as e:  # what cannot be captured is said, and the other ways count
            print(f"plain PyTorch, {name}: {str(e).splitlines()[0]}", file=sys.stderr)
            continue
        accuracies[name] = statistics.fmean(network.accuracy() for network in networks)
    best = min(seconds, key=seconds.__getitem__)
    return {"seconds": seconds[best], "accuracy": accuracies[best], "way": best, "ways": seconds}


def table(found: dict, machine: str) -> str:
    lines = [machine, "", "| net | networks | µs a network and step | × plain PyTorch | test accuracy | way |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for name, case in found.items():
        plain = case["plain"]
        lines.append(f"| {name} | one by one, plain PyTorch | {1e6 * plain['seconds']:.1f} | 1 | "
                     f"{plain['accuracy']:.4f} | {plain['way']} |")  # fmt: skip
        for members, row in case["danlu"].items():
            ratio = plain["seconds"] / row["seconds"]
            lines.append(f"| {name} | {members} | {1e6 * row['seconds']:.1f} | {ratio:.1f} | "
                         f"{row['accuracy']:.4f} | {row['way']} |")  # fmt: skip
    return "\n".join(lines)


def write(out: str, machine: str, found: dict, left_out: list[str]) -> None:
    Path(out).write_text(
        json.dumps({"machine": machine, "found": found, "left_out": left_out}, indent=1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--out", default="gpu.json")
    parser.add_argument("--budget", type=float, default=220, help="seconds")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--most", type=int, default=1024, help="networks at once")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU that PyTorch can use here, so there is nothing to measure")
        return
    began = time.perf_counter()
    faulthandler.dump_traceback_later(HANGS, repeat=True)
    cases = {name: CASES[name] for name in given.cases.split(",")}
    data = {name: danlu.load(case.source, limit=case.examples) for name, case in cases.items()}
    found = {
        name: {"plain": measure_plain(case, data[name], given.device), "danlu": {}}
        for name, case in cases.items()
    }
    jobs = sorted(
        ((m, name) for name, case in cases.items() for m in case.members if m <= given.most)
    )
    left_out: list[str] = []
    gpu = torch.cuda.get_device_name() if given.device == "cuda" else platform.machine()
    machine = f"{gpu}; Python {platform.python_version()}, PyTorch {torch.__version__}, danlu {danlu.__version__}"
    for members, name in jobs:  # the small ones of every net first, so that no net is left out
        if time.perf_counter() - began > given.budget:
            left_out.append(f"{name} {members}")
            continue
        faulthandler.dump_traceback_later(
            HANGS, repeat=True
        )  # of each job anew: says where it hangs
        found[name]["danlu"][members] = measure_danlu(
            cases[name], data[name], members, given.device
        )
        print(f"{name} {members}: {found[name]['danlu'][members]}", file=sys.stderr, flush=True)
        write(given.out, machine, found, left_out)  # what is measured stays, whatever comes
    print(table(found, machine))
    if left_out:
        print(f"\nleft out, as the budget of {given.budget:.0f} s was spent: {', '.join(left_out)}")
    write(given.out, machine, found, left_out)
    print(f"\n{given.out}")


if __name__ == "__main__":
    main()
