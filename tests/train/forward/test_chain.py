"""Chains: every known layer's passes against autograd, and what is no chain."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from danlu import Recipe, load
from danlu.nn.layers import ACTIVATIONS, Dropout, ExplicitLinear, dropout_source
from danlu.recipe.build import build_model
from danlu.rng import stream
from danlu.train.engine.networks import TrainingSpec
from danlu.train.engine.population import Population
from danlu.train.forward import chain
from danlu.train.forward.interface import MemberLayout
from danlu.train.forward.layer_rules import COLUMN_RULES
from danlu.train.forward.stack import Stack


def chains() -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """One small chain per known layer, enrolled from the table itself."""
    made: dict[type[nn.Module], Any] = {
        nn.Linear: lambda: nn.Linear(8, 8),
        ExplicitLinear: lambda: ExplicitLinear(8, 8),
        nn.Conv2d: lambda: nn.Conv2d(2, 2, 3, stride=2, padding=1),
        nn.MaxPool2d: lambda: nn.MaxPool2d(2),
        nn.BatchNorm1d: lambda: nn.BatchNorm1d(8),
        nn.BatchNorm2d: lambda: nn.BatchNorm2d(2),
        nn.LayerNorm: lambda: nn.LayerNorm(8),
        Dropout: lambda: Dropout(0.3),
    }
    out: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    for kind in COLUMN_RULES:
        if kind in (nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.Flatten, Dropout):
            for c in (1, 300):  # 300 channels in are too many to be unfolded: the library's layout
                layer = nn.Identity() if kind is nn.Flatten else made.get(kind, kind)()
                body = nn.Sequential(
                    nn.Conv2d(c, 2, 3, padding=1), layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
                )
                out.append((f"{kind.__name__} {c}", body, (c, 8, 6)))
        if kind not in (nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.Flatten):
            layer = made.get(kind, kind)()
            out.append(
                (
                    kind.__name__,
                    nn.Sequential(nn.Flatten(), nn.Linear(8, 8), layer, nn.Linear(8, 3)),
                    (8,),
                )
            )
    for k, stride, padding in (
        (3, 2, 1),
        ((3, 2), (1, 3), (0, 2)),
        (5, 1, 2),
    ):  # convolutions with a gradient by their input
        body = nn.Sequential(
            nn.Conv2d(2, 3, 3),
            nn.Tanh(),
            nn.Conv2d(3, 4, k, stride, padding),
            nn.Flatten(),
            nn.LazyLinear(3),
        )
        out.append((f"unfolded {k} {stride} {padding}", body, (2, 9, 10)))
    off = nn.Sequential(
        nn.Linear(8, 8), Dropout(0.0), nn.Linear(8, 8), Dropout(0.5), nn.Linear(8, 3)
    )
    out.append(("dropout that is off draws nothing", off, (8,)))
    out.append(
        (
            "ReLU on the batch",
            nn.Sequential(nn.Flatten(), nn.Identity(), nn.ReLU(), nn.Linear(8, 3)),
            (8,),
        )
    )
    for _, body, shape in out:
        body.double()(torch.zeros(4, *shape, dtype=torch.float64))
    return out


def compiled(
    models: list[nn.Module], shape: tuple[int, ...], segments: list[tuple[int, int]]
) -> tuple[chain.Chain, Stack, MemberLayout]:
    """The chain of several networks of one kind."""
    layout = chain.chain_layout(models[0], shape, 6)
    assert layout is not None
    stack, crowd = Stack(models, torch.device("cpu")), MemberLayout(len(models), segments)
    tensors = {**stack.parameters, **stack.buffers}
    made = chain.Chain(models[0], layout == "columns", crowd, tensors, stack.grads, {})
    return made, stack, crowd


GROUPS = {
    "alone": [(0, 1)],
    "one batch": [(0, 3)],
    "own batches": [(0, 1), (1, 2), (2, 3)],
    "mixed": [(0, 2), (2, 3)],
}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(
    ("name", "model", "shape"), chains(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_known_layer_equals_autograd(
    name: str, model: nn.Module, shape: tuple[int, ...], group: str
) -> None:
    """Of one network, and of three that share their batch, have their own, or both."""
    segments = GROUPS[group]
    several = segments[-1][1]
    if several > 1 and shape[0] == 300:
        assert chain.chain_layout(model, shape, 6) == "pictures"
        pytest.skip("pictures in the library's layout go one network at a time")
    made = torch.Generator().manual_seed(3)
    models = [copy.deepcopy(model) for _ in range(several)]
    for m in models:
        m.train()
        for p in m.parameters():
            nn.init.normal_(p, std=0.5)  # some are made without values
    x = torch.randn(len(segments), 6, *shape, generator=made, dtype=torch.float64)
    g = torch.randn(several, 6, 3, generator=made, dtype=torch.float64)
    of = [s for s, (a, z) in enumerate(segments) for _ in range(a, z)]
    start, want, wanted, buffers = [copy.deepcopy(m.state_dict()) for m in models], [], [], []
    for i, m in enumerate(models):
        m.zero_grad()
        with dropout_source(stream(i, "t")):
            out = m(x[of[i]])
        out.backward(g[i])
        wanted.append(out.detach().T)
        want.append({k: p.grad.clone() for k, p in m.named_parameters()})
        buffers.append({k: v.clone() for k, v in m.named_buffers()})
        m.load_state_dict(start[i])
    whole, stack, crowd = compiled(models, shape, segments)
    assert whole.columns == (shape[0] != 300)
    stack.grad.fill_(7)
    crowd.generators = [stream(i, "t") for i in range(several)]
    crowd.stream_of = torch.arange(several) if several > 1 else None
    given = x.clone()
    with torch.inference_mode():
        (out,), kept = whole.forward(x)
        whole.backward((g.mT.clone(),), kept)
    assert torch.equal(x, given), "others see the same batch"
    torch.testing.assert_close(out.clone(), torch.stack(wanted))
    for i in range(several):
        for k, w in want[i].items():
            torch.testing.assert_close(stack.grads[k][i], w)
        for k, b in buffers[i].items():
            torch.testing.assert_close(stack.buffers[k][i], b)
    models[0].eval()
    with torch.no_grad():
        (evaluated,), _ = whole.forward(x)
        for i, m in enumerate(models):
            m.load_state_dict(stack.state_dict(i))
            torch.testing.assert_close(evaluated[i], m.eval()(x[of[i]]).T)


@pytest.mark.parametrize("channels", [1, 300])
def test_among_equal_maxima_the_first_gets_the_gradient(channels: int) -> None:
    model = nn.Sequential(
        nn.Conv2d(channels, 3, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 3)
    ).double()
    x = torch.randint(
        0, 2, (5, channels, 8, 8), generator=torch.Generator().manual_seed(0)
    ).double()
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight.sign())  # whole numbers: ties everywhere
        model[0].bias.zero_()
    model(x).square().sum().backward()
    want = {k: p.grad.clone() for k, p in model.named_parameters()}
    whole, stack, _ = compiled([model], x.shape[1:], [(0, 1)])
    with torch.inference_mode():
        (out,), kept = whole.forward(x[None])
        whole.backward((2 * out,), kept)
    for k, w in want.items():
        torch.testing.assert_close(stack.grads[k][0], w)


def shared() -> nn.Module:
    layer = nn.Linear(8, 8)
    return nn.Sequential(layer, nn.Tanh(), layer)


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].register_forward_hook(lambda m, a, o: 2 * o)
    return model


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    return model


def overridden() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].forward = lambda x: 2 * x
    return model


def hooked_parameter() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].weight.register_hook(lambda g: 0 * g)
    return model


NO_CHAINS: dict[str, Any] = {
    "a layer twice": shared,
    "a weight twice": tied,
    "a hook": hooked,
    "a forward of its own": overridden,
    "a hook on a parameter": hooked_parameter,
    "weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 8))),
    "a parametrisation": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    ),
    "two flattens": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(16, 8), nn.Flatten()
    ),
    "no flatten": lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()),
    "pooling with indices": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.MaxPool2d(2, return_indices=True)
    ),
    "a product over pictures": lambda: nn.Sequential(ExplicitLinear(4, 4), nn.Flatten()),
    "an unknown layer": lambda: nn.Sequential(nn.Linear(8, 8), nn.Softplus()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", NO_CHAINS)
def test_models_that_are_no_chain_are_left_to_autograd(name: str) -> None:
    model = NO_CHAINS[name]()
    shape = (1, 2, 4) if any(isinstance(m, (nn.Conv2d, nn.Flatten)) for m in model) else (8,)
    assert chain.chain_layout(model, shape, 4) is None


def test_an_activation_used_twice_is_still_a_chain() -> None:
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(8, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 2))
    assert chain.chain_layout(model, (8,), 4) == "columns"
    recipe = Recipe(batch_size=4)
    spec = TrainingSpec((8,), 90, 23, True, torch.device("cpu"))
    population = Population([recipe], lambda r: model, spec)
    assert population.uses_chain
    x = torch.randn(4, 8)
    out, _ = population.outputs(x.unsqueeze(0), [(0, 1)])
    torch.testing.assert_close(out.squeeze(0).t(), model.eval()(x))


def test_convolutions_are_unfolded_only_while_their_patches_are_small() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 5), nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, 3, 64, 64))
    assert [chain.chain_layout(model, (3, 64, 64), n) for n in (8, 64)] == [
        "columns",
        "pictures",
    ]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_of_the_zoo_is_a_chain(activation: str) -> None:
    data = load("iris")
    recipe = Recipe(
        model={"name": "dense", "activation": activation, "batch_norm": "before", "dropout": 0.1}
    )
    spec = TrainingSpec((4,), 90, 2, True, torch.device("cpu"))
    population = Population([recipe], lambda r: build_model(r, data.schema), spec)
    assert population.uses_chain
