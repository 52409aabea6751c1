"""Double descent: the two-layer networks against automatic differentiation and one by one."""

import pytest
import torch

from mdtheory.convex.double_descent import train_two_layer
from mdtheory.convex.double_descent.networks import VARIANCE_GUARD, _gradients

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def train(widths=(3, 7), steps=20, marks=None, optimizer="descent", step_size=0.5, **more):
    x, y = normal(2, 12, 5) / 2, normal(2, 12, 3, seed=1)
    return x, y, train_two_layer(
        x, y, widths, optimizer=optimizer, step_size=step_size, steps=steps,
        marks=(0, steps) if marks is None else marks,
        generator=torch.Generator().manual_seed(0), **more,
    )  # fmt: skip


@pytest.mark.parametrize("normalize", [False, True])
def test_gradients_are_those_of_autograd(normalize):
    x, y = normal(2, 9, 4), normal(2, 9, 3, seed=1)
    weights = [normal(2, 4, 6, seed=2), normal(2, 7, 3, seed=3)]
    leaves = [weight.clone().requires_grad_() for weight in weights]
    before = x @ leaves[0]
    if normalize:
        variance = before.var(-2, correction=0, keepdim=True) + VARIANCE_GUARD
        before = (before - before.mean(-2, keepdim=True)) / variance.sqrt()
    out = before.relu() @ leaves[1][:, :-1] + leaves[1][:, -1:]
    loss = (out - y).square().sum((-2, -1)).sum() / 2 / 9
    exact = torch.autograd.grad(loss, leaves)
    for found, right in zip(_gradients(x, y, weights, normalize), exact, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["descent", "momentum", "adam"])
def test_optimizers_are_those_of_pytorch(optimizer):
    x, y, record = train((6,), 15, (0, 15), optimizer, 0.05)
    first, end = record.networks
    for seed in range(2):
        leaves = [w[0, seed].clone().requires_grad_() for w in (first.hidden, first.output)]
        units = (torch.cat([x[seed], torch.ones(12, 1, dtype=F64)], -1) @ leaves[0]).relu()
        sharp = torch.linalg.matrix_norm(units.detach(), 2).square().item() / 12
        if optimizer == "adam":
            solver = torch.optim.Adam(leaves, lr=0.05)
        else:
            rate = 0.05 / (1 + sharp)
            solver = torch.optim.SGD(leaves, lr=rate, momentum=0.9 * (optimizer == "momentum"))
        for _ in range(15):
            rows = torch.cat([x[seed], torch.ones(12, 1, dtype=F64)], -1)
            out = (rows @ leaves[0]).relu() @ leaves[1][:-1] + leaves[1][-1:]
            solver.zero_grad()
            ((out - y[seed]).square().sum() / 24).backward()
            solver.step()
        for found, right in zip((end.hidden, end.output), leaves, strict=True):
            torch.testing.assert_close(found[0, seed], right.detach(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("batch", [None, 4])
def test_a_padded_unit_stays_at_zero_and_changes_nothing(normalize, batch):
    _, _, record = train((2, 7), 30, optimizer="adam", normalize=normalize, batch=batch)
    end = record.networks[-1]
    assert not end.hidden[0, ..., 2:].any()
    assert not end.output[0, :, 2:7].any()
    assert end.output[0, :, 7].any()  # the bias
    assert end.parameter_counts(record.widths) == [2 * 9 + 3, 7 * 9 + 3]


def test_a_width_is_trained_as_if_it_were_alone():
    """The first units of the widest start all of them, so a pair ends like its widest alone."""
    _, _, both = train((3, 7), 25)
    _, _, alone = train((7,), 25)
    torch.testing.assert_close(
        both.train_losses[:, 1], alone.train_losses[:, 0], rtol=1e-10, atol=0
    )


def test_losses_fall_and_are_those_of_the_networks():
    x, y, record = train((3, 20), 400, (0, 10, 400), "momentum", 1.0)
    assert record.marks == (0, 10, 400)
    assert record.widths == (3, 20)
    assert (record.train_losses.diff(dim=0) < 0).all()
    assert (record.train_losses[-1, 1] < 0.1).all()
    for network, losses in zip(record.networks, record.train_losses, strict=True):
        again = (network(x) - y).square().sum(-1).mean(-1)
        torch.testing.assert_close(again, losses)


def test_standardised_units_are_standard():
    x, _, record = train((6,), 10, normalize=True)
    end = record.networks[-1]
    rows = torch.cat([x, torch.ones(2, 12, 1, dtype=F64)], -1)
    units = (rows @ end.hidden - end.location) / end.scale
    assert units.mean(-2).abs().max() < 1e-10
    assert (units.var(-2, correction=0) - 1).abs().max() < 1e-4


def test_batches_are_drawn_by_the_generator():
    runs = [train(batch=4)[2].train_losses for _ in range(2)]
    assert torch.equal(*runs)
    assert not torch.equal(runs[0], train()[2].train_losses)


def test_the_start_has_the_sizes_that_are_said():
    x, y = normal(4, 6, 5), normal(4, 6, 2, seed=1)
    record = train_two_layer(
        x, y, (50, 400), optimizer="adam", step_size=1e-3, steps=0, marks=(0,),
        generator=torch.Generator().manual_seed(0), output_scale=0.5,
    )  # fmt: skip
    start = record.networks[0]
    assert start.hidden[1, :, :-1].square().mean().item() == pytest.approx(2, rel=0.1)
    assert not start.hidden[:, :, -1].any()
    assert start.output[1, :, :-1].std().item() == pytest.approx(0.5 / 20, rel=0.1)
    assert torch.equal(start.hidden[0, ..., :50], start.hidden[1, ..., :50])


def test_what_is_kept_is_not_the_trainers_memory():
    _, _, record = train((3,), 20, (0, 10, 20))
    first, second, third = (network.hidden for network in record.networks)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
