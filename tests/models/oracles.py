"""The zoo's networks a second time, as plain functions of named tensors, written from the papers' tables.

Legend: t tensors by their public names, x pictures [B, C, H, W]; all in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = dict[str, Tensor]
BOTTLENECK = {
    "resnet18": False,
    "resnet34": False,
    "resnet50": True,
    "resnet101": True,
    "resnet152": True,
}
STAGES = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
VGG = {  # filters, M for pooling
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
    "vgg-narrow": "64 M 128 M 256 256 M 512 512 M 512 512 M",
}
PUBLISHED = {  # parameters at 224 pixels and 1000 classes
    "alexnet": 60_965_224,
    "alexnet-ungrouped": 62_378_344,
    "alexnet-torch": 61_100_840,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "googlenet": 6_998_552,  # without the auxiliary classifiers, as the framework of its authors' time counts it
    "googlenet-torch": 6_624_904,  # without the auxiliary classifiers
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}


def norm(t: Tensors, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    mean, var, w, b = (
        t[f"{name}.{k}"].view(1, -1, 1, 1)
        for k in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + eps).sqrt() * w + b


def dense(t: Tensors, name: str, x: Tensor) -> Tensor:
    return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]


def resnet(name: str, t: Tensors, x: Tensor, small: bool) -> Tensor:
    x = F.conv2d(x, t["conv1.weight"], stride=1 if small else 2, padding=1 if small else 3)
    x = norm(t, "bn1", x).relu()
    x = x if small else F.max_pool2d(x, 3, 2, 1)
    for stage, blocks in enumerate(STAGES[name], 1):
        for i in range(blocks):
            at, stride, out = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1, x
            convs = (
                [(1, 1, 0), (2, stride, 1), (3, 1, 0)]
                if BOTTLENECK[name]
                else [(1, stride, 1), (2, 1, 1)]
            )
            for k, step, padding in convs:
                out = norm(
                    t,
                    f"{at}.bn{k}",
                    F.conv2d(out, t[f"{at}.conv{k}.weight"], stride=step, padding=padding),
                )
                out = out.relu() if k < len(convs) else out
            if f"{at}.downsample.0.weight" in t:
                x = norm(
                    t,
                    f"{at}.downsample.1",
                    F.conv2d(x, t[f"{at}.downsample.0.weight"], stride=stride),
                )
            x = (out + x).relu()
    return dense(t, "fc", x.mean((2, 3)))


def classifier(t: Tensors, x: Tensor) -> Tensor:
    names = sorted(
        {k.rpartition(".")[0] for k in t if k.startswith("classifier")},
        key=lambda k: int(k.rpartition(".")[2]),
    )
    for name in names[:-1]:
        x = dense(t, name, x).relu()
    return dense(t, names[-1], x)


def vgg(name: str, t: Tensors, x: Tensor, small: bool) -> Tensor:
    k = 0
    for what in VGG[name].split():
        if what == "M":
            if min(x.shape[2:]) < 2 and small:
                continue
            x, k = F.max_pool2d(x, 2), k + 1
            continue
        x = F.conv2d(x, t[f"features.{k}.weight"], t[f"features.{k}.bias"], padding=1)
        if name == "vgg-narrow":
            x, k = norm(t, f"features.{k + 1}", x), k + 1
        x, k = x.relu(), k + 2
    return classifier(t, (x if small else F.adaptive_avg_pool2d(x, 7)).flatten(1))


def alexnet(name: str, t: Tensors, x: Tensor, small: bool) -> Tensor:
    zf = name.startswith("zf")
    first = {
        (False, False): (4, 2),
        (False, True): (1, 2),
        (True, False): (2, 1),
        (True, True): (1, 1),
    }[zf, small]
    second = (2, 0) if zf and not small else (1, 2)
    groups = 2 if name == "alexnet" else 1
    for k, (stride, padding) in zip(
        (0, 3, 6, 8, 10), (first, second, (1, 1), (1, 1), (1, 1)), strict=True
    ):
        g = groups if k in (3, 8, 10) else 1
        x = F.conv2d(
            x, t[f"features.{k}.weight"], t[f"features.{k}.bias"], stride, padding, 1, g
        ).relu()
        x = F.max_pool2d(x, 3, 2, 1 if zf and k < 10 else 0) if k in (0, 3, 10) else x
    return classifier(t, (x if small else F.adaptive_avg_pool2d(x, 6)).flatten(1))


def googlenet(name: str, t: Tensors, x: Tensor, small: bool) -> tuple[Tensor, ...]:
    """Its own logits, and those of its auxiliary classifiers without their dropout."""

    def conv(at: str, x: Tensor, stride: int = 1) -> Tensor:
        w = t[f"{at}.conv.weight"]
        x = F.conv2d(x, w, t.get(f"{at}.conv.bias"), stride, w.shape[2] // 2)
        return (norm(t, f"{at}.bn", x, 0.001) if f"{at}.bn.weight" in t else x).relu()

    def inception(at: str, x: Tensor) -> Tensor:
        branches = [conv(f"{at}.branch1", x)]
        for k in (2, 3):
            y = x
            for j in range(3):
                y = conv(f"{at}.branch{k}.{j}", y) if f"{at}.branch{k}.{j}.conv.weight" in t else y
            branches.append(y)
        y = F.max_pool2d(x, 3, 1, 1)
        branches.append(conv(f"{at}.branch4.1", y) if f"{at}.branch4.1.conv.weight" in t else y)
        return torch.cat(branches, 1)

    def auxiliary(at: str, x: Tensor) -> Tensor:
        x = conv(f"{at}.conv", F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return dense(t, f"{at}.fc2", dense(t, f"{at}.fc1", x).relu())

    halve: Callable[[Tensor], Tensor] = lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)  # noqa: E731
    x = conv("conv1", x, 1 if small else 2)
    x = halve(conv("conv3", conv("conv2", x if small else halve(x))))
    x = halve(inception("inception3b", inception("inception3a", x)))
    aside = []
    for k in "abcde":
        x = inception(f"inception4{k}", x)
        if k in "ad":
            aside.append(auxiliary(f"aux{len(aside) + 1}", x))
    x = F.max_pool2d(x, 2, 2, ceil_mode=True) if name == "googlenet-torch" else halve(x)
    x = inception("inception5b", inception("inception5a", x))
    return dense(t, "fc", x.mean((2, 3))), *aside


def small(t: Tensors, x: Tensor) -> Tensor:
    """Logits of the notes' small networks: dense layers, or convolutions before them, ReLU between all."""
    conv = sorted({k.partition(".")[0] for k in t if k.startswith("conv")})
    for at in conv:
        x = F.max_pool2d(F.conv2d(x, t[f"{at}.weight"], t[f"{at}.bias"]).relu(), 2)
    x = x.flatten(1)
    for at in sorted({k.partition(".")[0] for k in t if k.startswith("dense")}):
        x = dense(t, at, x).relu()
    return dense(t, "output", x)


def outputs(name: str, t: Tensors, x: Tensor, small: bool) -> tuple[Tensor, ...]:
    """The logits of every classifier of a network of the zoo."""
    family = name.partition("-")[0].rstrip("0123456789").replace("zfnet", "alexnet")
    if family == "googlenet":
        return googlenet(name, t, x, small)
    return ({"alexnet": alexnet, "vgg": vgg, "resnet": resnet}[family](name, t, x, small),)
