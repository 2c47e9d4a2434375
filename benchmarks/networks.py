"""Every network, checked while you wait: the table of docs/networks.md.

    python benchmarks/networks.py [--only NAME,…] > docs/networks.md

- parameters: of the full-size network (1000 classes at 224 pixels, auxiliary classifiers aside; the notes' own as in the
  notes, without number where they give none), beside what is published.
- forward: the largest difference of any logit from a second implementation written from the papers' tables and the
  notes' formulas (tests/models/oracles.py, tests/cell_formulas.py), relative to the largest logit; in float64, at full
  size for pictures, text by text for recurrent networks.
- learns: training loss of the first epoch and of the last, on 600 CIFAR-10 pictures at an eighth of the filters and
  without dropout, which such narrow networks cannot bear, or on 400 sentences or windows; and what telling each target by
  its frequency would cost. Right is at most nine tenths of that.
- exact: four networks with rates and seeds of their own trained together, in float64; the largest difference of any
  weight from the network trained alone, relative to that network's largest weight. (Not to the largest of its tensor: a
  bias before a batch normalisation has no gradient but rounding, and is itself of the order of 1e-19.) Three epochs of
  60 examples (of pictures six steps); of the two deepest networks one, as rounding grows from step to step, and faster
  the deeper: after three it was 1e-3 in ResNet-101 and 3e-2 in ResNet-152.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests" / part) for part in ("", "models", "train")]

DIGITS, PICTURES = (1, 28, 28), (3, 32, 32)
SMALL = {  # the notes' own, of ten classes
    "softmax": DIGITS,
    "softmax-explicit": DIGITS,
    "dense": DIGITS,
    "table": DIGITS,
    "cnn": DIGITS,
    "cnn-wide": PICTURES,
    "vgg-narrow": PICTURES,
}
NOTES = {"softmax": 7850, "softmax-explicit": 7850, "dense": 6442, "cnn": 6422, "cnn-wide": 62006}
DEEPEST = ("resnet101", "resnet152")
NOTES_FIELDS = {"dense": {"hidden": (8, 8)}}
CELLS = {  # title: model fields
    "rnn": {"cell": ("rnn",)},
    "rnn-relu": {"cell": ("rnn-relu",)},
    "gru": {"cell": ("gru",)},
    "gru-reset-before": {"cell": ("gru",), "reset_after": False},
    "lstm": {"cell": ("lstm",)},
    "lstm-peephole": {"cell": ("lstm-peephole",)},
}
READ = {  # title: data, model section
    **{k: ("resume-ner", {"bidirectional": True, **cell}) for k, cell in CELLS.items()},
    "GRU above LSTM": (
        "resume-ner",
        {"cell": ("lstm", "gru"), "hidden": (32, 32), "bidirectional": True},
    ),
    "LSTM tagger with CRF": ("resume-ner", {"cell": ("lstm",), "bidirectional": True, "crf": True}),
    "LSTM language model with its state carried": (
        "tinyshakespeare",
        {"cell": ("lstm",), "stateful": True},
    ),
    "LSTM classifier": ("agreement", {"cell": ("lstm",)}),
    "encoder–decoder": ("dates", {"cell": ("lstm",)}),
    "encoder–decoder with attention": (
        "dates",
        {"cell": ("lstm",), "bidirectional": True, "attention": True},
    ),
}


def largest(a, b):
    """The largest difference, relative to the largest value."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-300))


def parameters(name):
    import torch
    from oracles import PUBLISHED

    from danlu.models import MODELS

    if name in SMALL:
        fields = {**MODELS[name].defaults, **NOTES_FIELDS.get(name, {})}
        net = MODELS[name].build(SMALL[name], 10, **fields)
        return sum(p.numel() for p in net.parameters()), NOTES.get(name)
    with torch.device("meta"):
        net = MODELS[name].build((3, 224, 224), 1000, **MODELS[name].defaults)
    return sum(
        p.numel() for k, p in net.named_parameters() if not k.startswith("aux")
    ), PUBLISHED.get(name)


def forward(name):
    """At full size, every classifier's logits."""
    import torch
    from oracles import VGG, outputs, small

    from danlu.models import MODELS, build
    from danlu.nn.layers import Dropout

    torch.manual_seed(0)
    auto = {"name": "auto", "std": None, "bias": 0.0}
    shape = SMALL.get(name, (3, 224, 224))
    net = build(
        name,
        shape,
        10 if name in SMALL else 1000,
        {**MODELS[name].defaults, **NOTES_FIELDS.get(name, {})},
        auto,
        1,
    )
    net = net.double().eval()
    for m in net.modules():
        if isinstance(m, Dropout):
            m.p = 0.0
        if isinstance(m, torch.nn.BatchNorm2d):  # as after some training
            m.running_mean.normal_(std=0.1)
            m.running_var.uniform_(0.5, 2)
    x = torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        if name in SMALL:
            second = (
                outputs(name, dict(net.state_dict()), x, True)[0]
                if name in VGG
                else small(dict(net.state_dict()), x)
            )
            return largest(net(x), second)
        expected = outputs(name, dict(net.state_dict()), x, False)
        net.training = (
            len(expected) > 1
        )  # the whole, not its layers: auxiliary classifiers speak in training only
        found = net(x)
    return max(
        largest(a, b)
        for a, b in zip(found if len(expected) > 1 else (found,), expected, strict=True)
    )


def forward_read(data, recipe):
    """Text by text, without padding; a CRF by its paths' scores is in tests/nn/test_crf.py."""
    import torch
    from cell_formulas import reader, translator

    from danlu.recipe.build import build_model

    net = build_model(recipe.with_(dtype="float64"), data.schema).eval()
    cells = recipe.model.cell * (len(recipe.model.hidden) // len(recipe.model.cell))
    worst, w, x = 0.0, net.state_dict(), data.x[:8].long()
    net.train()  # without dropout: a CRF tells its units' values in training only
    with torch.no_grad():
        out = net(x)
        out = out[0] if isinstance(out, tuple) else out
        for row, own in zip(x, out, strict=True):
            if data.schema.task == "pairs":
                s = data.schema.source
                expected = translator(cells, w, row[:s][row[:s] != 0], row[s:][row[s:] != 0])
            else:
                expected = reader(cells, w, row[row != 0])
            own = own[None] if own.ndim == 1 else own
            worst = max(worst, largest(own[: len(expected)], expected[-len(own) :]))
    return worst


def learns(recipe, data):
    import danlu

    with tempfile.TemporaryDirectory() as folder:
        history = danlu.fit(recipe, data, out=Path(folder) / "run").history
    p = data.class_counts("train").double()
    p = p[p > 0] / p.sum()
    return history[0]["train_loss"], history[-1]["train_loss"], float(-(p * p.log()).sum())


def exact(recipe, data, epochs=3):
    import torch

    import danlu
    from danlu.train import train
    from danlu.train.dispatch import choose

    choose._TOO_SHORT = math.inf  # all together, whichever way is the fastest
    recipes = [
        recipe.with_(
            dtype="float64", epochs=epochs, seed=k // 2, **{"optimizer.lr": recipe.optimizer.lr * f}
        )
        for k, f in enumerate((1, 0.5, 0.2, 0.1))
    ]
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        study = train(recipes, data, out=Path(folder) / "study")
        assert [p["population_size"] for p in study.info["plans"]] == [4]
        for k, own in enumerate(recipes):
            alone = danlu.fit(own, data, out=Path(folder) / str(k)).model().state_dict()
            floats = [n for n, v in alone.items() if v.is_floating_point()]
            both = (torch.cat([w[n].flatten() for n in floats]) for w in (study.weights(k), alone))
            worst = max(worst, largest(*both))
    return worst


def row(name, count, published, difference, losses, together):
    told = "–" if published is None else f"{published:,}"
    first, last, chance = losses
    fell = f"{first:.2f} → {last:.2f} | {chance:.2f}"
    print(
        f"| {name} | {count:,} | {told} | {difference:.0e} | {fell} | {together:.0e} |", flush=True
    )
    return (
        (published in (None, count))
        and difference < 1e-9
        and last < 0.9 * chance
        and together < 1e-8
    )


def picture_recipe(name):
    """For the loss while learning."""
    import danlu
    from danlu.models import MODELS

    fields = MODELS[name].defaults
    section = {"name": name}
    if "width" in fields:
        section |= {
            "width": 1 / 8,
            "stem": "small",
            **({"hidden": (64, 64)} if fields.get("hidden") else {}),
        }
        section |= {"dropout": 0.0} if "dropout" in fields else {}
    rule = {
        "name": "adam",
        "lr": 1e-3 if "width" in fields and not MODELS[name].has_batch_norm else 3e-3,
    }
    return danlu.Recipe(
        model=section,
        optimizer=rule,
        batch_size=50,
        epochs=20 if {"width", "dropout"} <= set(fields) else 12,
    )


def picture_row(name):
    import danlu
    from danlu.models import MODELS

    recipe, fields = picture_recipe(name), MODELS[name].defaults
    calm = recipe.with_(optimizer={"name": "sgd", "lr": 1e-3}, batch_size=30)
    if "width" in fields:
        calm = calm.with_(
            **{
                "model.width": 1 / 32,
                **({"model.dropout": fields["dropout"]} if "dropout" in fields else {}),
            }
        )
    lost, few = learns(recipe, danlu.load("cifar10", limit=600)), danlu.load("cifar10", limit=60)
    return row(
        f"`{name}`",
        *parameters(name),
        forward(name),
        lost,
        exact(calm, few, 1 if name in DEEPEST else 3),
    )


def read_row(title):
    import danlu
    from danlu.recipe.build import build_model

    source, section = READ[title]
    data = danlu.load(source, limit=400)
    model = {"name": "lstm", "hidden": (64,), "embedding": 32, **section}
    recipe = danlu.Recipe(
        model=model, optimizer={"name": "adam", "lr": 5e-3}, batch_size=20, epochs=6
    )
    count = sum(p.numel() for p in build_model(recipe, data.schema).parameters())
    few = danlu.load(source, limit=60)
    return row(
        title, count, None, forward_read(data, recipe), learns(recipe, data), exact(recipe, few)
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    a = parser.parse_args()
    import torch

    from danlu.models import MODELS

    torch.set_num_threads(2)
    only = (
        a.only.split(",")
        if a.only
        else [*(k for k, m in MODELS.items() if not m.reads_text), *READ]
    )
    print(
        "# Networks\n\nMade by `python benchmarks/networks.py`, whose head says what each column is.\n"
    )
    print(
        "| network | parameters | published | forward | loss while learning | by frequency | exact |"
    )
    print("|---|---|---|---|---|---|---|")
    good = [name for name in only if (read_row if name in READ else picture_row)(name)]
    print(
        "\n`vgg-narrow` of the notes has 9,291,648 parameters: a head of 128 outputs. Ours has one of as many as classes."
    )
    print(
        "\nGoogLeNet has a ninth of the parameters of AlexNet as counted here; its paper says a twelfth."
    )
    if set(DEEPEST) & set(only):
        print(
            f"\nThe last column is after three epochs; for {' and '.join(f'`{k}`' for k in DEEPEST)} after one, as rounding grows"
            " from step to step,\nand faster the deeper."
        )
    print(
        f"\n{len(good)} of {len(only)} networks have every check right"
        + (
            "."
            if len(good) == len(only)
            else f"; not: {', '.join(k for k in only if k not in good)}."
        )
    )


if __name__ == "__main__":
    main()
