"""In what order examples come."""

from __future__ import annotations

import torch

from danlu.rng import stream
from danlu.train.batches.order import (
    balanced_draw,
    bucketed_by_length,
    contiguous_lanes,
    shuffle_of,
)


def test_each_lane_continues_where_its_last_step_ended() -> None:
    order = contiguous_lanes(23, 4).indices(0, 3)
    steps = order.view(-1, 4)
    assert steps.shape == (5, 4)
    assert (steps.diff(dim=0) == 1).all()  # each reader goes on where it was
    assert len(set(order.tolist())) == 20
    assert {int(contiguous_lanes(23, 4).indices(0, e)[0]) for e in range(30)} == {0, 1, 2, 3}


def test_examples_of_like_length_share_a_batch() -> None:
    lengths = torch.randint(1, 100, (1003,), generator=stream(0, "test"))
    shuffle = shuffle_of(1003)
    arrange = bucketed_by_length(lengths, 10, 1003, shuffle).indices
    order = arrange(0, 0)
    assert sorted(order.tolist()) == list(range(1003))
    spread = lengths[order[:1000]].view(100, 10).float()
    assert (spread.amax(1) - spread.amin(1)).mean() < 8
    assert not torch.equal(order, arrange(0, 1))
    first = torch.stack([lengths[arrange(0, e)[:10]].float().mean() for e in range(20)])
    assert first.max() - first.min() > 30  # batches, too, come in any order
    assert torch.equal(bucketed_by_length(lengths, 10, 1001, shuffle).indices(0, 0), order[:1001])


def test_a_balanced_draw_takes_every_class_equally_often() -> None:
    labels = torch.tensor([0] * 90 + [2] * 9 + [3])  # of class 1 there is none
    draw = balanced_draw(labels)
    drawn = draw(stream(0, "order", 0))
    assert torch.bincount(labels[drawn]).tolist() == [34, 0, 33, 33]
    rare = torch.cat([draw(stream(0, "order", epoch)) for epoch in range(40)])
    counts = torch.bincount(rare[(rare >= 90) & (rare < 99)] - 90)
    assert counts.min() > 100  # of about 147: every example of a class has its turn
    assert not torch.equal(drawn, draw(stream(0, "order", 1)))
