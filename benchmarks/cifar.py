"""The notes' two CIFAR-10 networks, by the notes' own settings and by danlu's presets: accuracy by epoch and time.

    python benchmarks/cifar.py [--net small,vgg] [--which preset,notes] [--dtype float32|bf16-mixed] [--seed 0]

The notes' settings: Adam at 0.001, batches of 64 (small; no augmentation) or 128 (VGG; crops and flips), ten epochs,
PyTorch's initial values. All learn from the same training part and are validated on the same examples; the test part
is read once, at the end.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from measure import machine

NETS = {
    "small": ("cnn-wide", {"batch_size": 64, "normalize": "minmax-symmetric"}),
    "vgg": ("vgg-narrow", {"batch_size": 128, "augment": {"flip": True, "crop": 4}}),
}


def train(recipe, data):
    import danlu

    with tempfile.TemporaryDirectory() as folder:
        run = danlu.fit(recipe, data, out=Path(folder) / "run")
        rows = [(h["epoch"], h["seconds"], h["valid_accuracy"]) for h in run.history]
        return rows, run.result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", default="small,vgg")
    parser.add_argument("--which", default="preset,notes")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    import danlu

    data = danlu.load("cifar10")
    print(machine() + "\n")
    for net in a.net.split(","):
        model, fields = NETS[net]
        preset = danlu.Recipe.read(f"cifar10-{net}").with_(seed=a.seed, dtype=a.dtype)
        own = danlu.Recipe(
            model=model, init="torch", optimizer={"name": "adam", "lr": 1e-3}, epochs=10, **fields
        )
        todo = {
            "preset": {f"preset `cifar10-{net}`": preset},
            "notes": {"the notes' settings": own.with_(seed=a.seed, dtype=a.dtype)},
        }
        if preset.epochs > 10:
            todo["preset"]["the preset in ten epochs"] = preset.with_(epochs=10)
        print(f"### {model}, {data.size('train'):,} training examples, {a.dtype}\n")
        print(
            "| | epochs | seconds | validation accuracy by epoch | test accuracy |\n|---|---|---|---|---|"
        )
        for name, recipe in (pair for which in a.which.split(",") for pair in todo[which].items()):
            rows, result = train(recipe, data)
            curve = " ".join(f"{100 * v:.1f}" for _, _, v in rows)
            print(
                f"| {name} | {len(rows)} | {rows[-1][1]:.0f} | {curve} | {result['test_accuracy']:.4f} |",
                flush=True,
            )
        print(flush=True)


if __name__ == "__main__":
    main()
