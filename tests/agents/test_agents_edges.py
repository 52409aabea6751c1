"""At the edges: masked logits, near laws, overflow behind a clip, units, buffers."""

import math

import pytest
import torch

from mdtheory.agents import (
    Categorical,
    Gaussian,
    Replay,
    Transitions,
    clip_gradients,
    generalized_advantages,
    standardize,
)
from mdtheory.convex import mirror_maps as mm
from tests.refused import close

float64 = torch.float64
INF = math.inf


def source(seed=3):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize("dtype", [torch.float32, float64])
@pytest.mark.parametrize("what", ["entropy", "log_prob", "kl", 0.5, 1.5, 2.0])
def test_masked_logits_are_actions_that_are_not_there(dtype, what):
    short = torch.tensor([[0.0, 0.5]], dtype=dtype, requires_grad=True)
    past = torch.tensor([[1.0, -0.3]], dtype=dtype)
    value = {
        "entropy": lambda law, old: law.entropy(),
        "log_prob": lambda law, old: law.log_prob(torch.zeros(1, dtype=torch.int64)),
        "kl": lambda law, old: law.kl(old),
    }.get(what, lambda law, old: law.divergence(old, what))
    masked = torch.cat([short.detach(), torch.full((1, 1), -INF, dtype=dtype)], -1)
    masked.requires_grad_()
    long_past = torch.cat([past, torch.full((1, 1), -INF, dtype=dtype)], -1)
    mine = value(Categorical(masked), Categorical(long_past))
    right = value(Categorical(short), Categorical(past))
    close(mine, right, tolerance=1e-6)
    slope = torch.autograd.grad(mine.sum(), masked)[0]
    close(slope[:, :2], torch.autograd.grad(right.sum(), short)[0], tolerance=1e-6)
    assert (slope[:, 2] == 0).all()
    assert mine.dtype == dtype


def test_the_entropy_of_two_actions_of_three():
    law = Categorical(torch.tensor([[0.0, 0.0, -INF]]))
    close(law.entropy(), torch.tensor([math.log(2)]), tolerance=1e-7)
    drawn = Categorical(law.logits.expand(10_000, 3)).sample(source())
    assert drawn.max() == 1
    (moved,) = law.metric(torch.tensor([[1.0, 0.0, math.nan]]))
    close(moved, torch.tensor([[0.25, -0.25, 0.0]]))


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6])
def test_the_divergence_of_near_laws_keeps_its_digits(size):
    old = torch.randn(50, 6, generator=source())
    new = old + size * torch.randn(50, 6, generator=source(4))
    logs = [x.double().log_softmax(-1) for x in (new, old)]
    found = Categorical(new).kl(Categorical(old))
    assert found.dtype == torch.float32
    close(found.double(), mm.kl(*logs), (), tolerance=1e-6)
    assert (found > 0).all()
    # The same from the quadratic model, of which it is the limit.
    change = logs[0] - logs[1]
    p = logs[0].exp()
    model = 0.5 * (p * change.square()).sum(-1)
    close(found.double(), model, (), tolerance=10 * size + 1e-6)


def gaussian_pair(dtype, size):
    old = Gaussian(torch.randn(20, 3, generator=source(), dtype=dtype),
                   torch.randn(3, generator=source(1), dtype=dtype) / 2)  # fmt: skip
    mean = old.mean + size * torch.randn(20, 3, generator=source(2), dtype=dtype)
    return Gaussian(mean, old.log_std + size * torch.tensor([0.5, -1.0, 0.7], dtype=dtype)), old


def by_integrals(new, old, order):
    """The definition, one integral for each coordinate: those of independent ones multiply."""
    z = torch.linspace(-15, 15, 20_001, dtype=float64)[:, None]
    products = [1.0, 1.0, 1.0]
    for d in range(new.mean.shape[-1]):
        x, y = (
            Gaussian(law.mean[:, None, d, None], law.log_std[d]).log_prob(z).exp()
            for law in (new, old)
        )
        for k, terms in enumerate((x**order, y**order, x * y ** (order - 1))):
            products[k] = products[k] * torch.trapezoid(terms, z[:, 0])
    mine, its, cross = products
    return (mine - order * cross) / (order - 1) + its


@pytest.mark.parametrize("order", [1.2, 1.5, 2.0])
def test_the_gaussian_divergence_is_its_integral(order):
    new, old = gaussian_pair(float64, 0.3)
    close(new.divergence(old, order), by_integrals(new, old, order), tolerance=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, float64])
@pytest.mark.parametrize("order", [1.0, 1 + 1e-9, 1.01, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-7])
def test_near_gaussians_keep_their_digits(dtype, order, size):
    """Against the quadratic form that the divergence has near 0, and float32 against float64."""
    new, old = gaussian_pair(dtype, size)
    found = new.divergence(old, order)
    assert (found > 0).all()
    assert found.dtype == dtype
    wide = [Gaussian(law.mean.double(), law.log_std.double()) for law in (new, old)]
    close(found.double(), wide[0].divergence(wide[1], order), (), tolerance=2e-5)
    far = [Gaussian(law.mean, law.log_std) for law in gaussian_pair(float64, size)]
    ratio = far[0].divergence(far[1], order) / gaussian_quadratic(*far, order)
    # The model's own error is of the order of its step, 1e-3.
    close(ratio, torch.ones_like(ratio), tolerance=20 * size + 2e-3)


def gaussian_quadratic(new, old, order):
    """Second derivative of the divergence at the old law, by autograd, applied to the move."""
    moves = (new.mean - old.mean, (new.log_std - old.log_std).expand_as(new.mean))

    def along(t):
        moved = Gaussian(old.mean + t * moves[0], old.log_std + t * moves[1])
        return moved.divergence(old, order)

    scale = 1e-3 / moves[0].abs().max()
    return along(scale) / scale**2


def test_a_shared_deviation_counts_for_every_coordinate():
    old = Gaussian(torch.zeros(1, 3, dtype=float64), torch.tensor([0.2], dtype=float64))
    new = Gaussian(torch.full((1, 3), 0.2, dtype=float64), torch.tensor([0.1], dtype=float64))
    whole = [Gaussian(law.mean, law.log_std.expand(3)) for law in (new, old)]
    for order in (1.0, 1.5, 2.0):
        close(new.divergence(old, order), whole[0].divergence(whole[1], order), (), tolerance=1e-12)
    close(new.log_prob(old.mean), whole[0].log_prob(old.mean))
    close(new.entropy(), whole[0].entropy())
    _, scale = new.metric(torch.zeros(1, 3, dtype=float64), torch.ones(1, dtype=float64))
    assert scale.tolist() == [6.0]
    deviation = new.log_std.clone().requires_grad_()
    wider = Gaussian(new.mean, deviation).kl(new)
    slope = torch.autograd.grad(wider.sum(), deviation, create_graph=True)[0]
    assert torch.autograd.grad(slope.sum(), deviation)[0].item() == pytest.approx(6.0)


@pytest.mark.parametrize("order", [1.5, 2.0])
def test_far_gaussians_have_finite_gradients(order):
    log_std = torch.tensor([[50.0, -2.0, 0.0]], requires_grad=True)
    zero = torch.zeros(1, 3)
    found = Gaussian(zero, log_std).divergence(Gaussian(zero, zero), order)
    assert found.isfinite().all()
    assert torch.autograd.grad(found.sum(), log_std)[0].isfinite().all()


# -------------------------------------------------------------------------- advantages and buffers


@pytest.mark.parametrize("unit", [1e-30, 1e-14, 1.0, 1e14, 1e30])
def test_standardised_advantages_have_no_unit(unit):
    raw = torch.randn(2, 40, generator=source())
    weight = (torch.rand(2, 40, generator=source(1)) < 0.7).float()
    expected = standardize(raw.double(), weight.double()).float()
    close(standardize(raw * unit, weight), expected, tolerance=1e-4)
    close(standardize(raw, 0.01 * weight), expected, tolerance=1e-4)
    silenced = torch.where(weight > 0, raw, math.nan)
    close(standardize(silenced, weight), expected, tolerance=1e-4)
    assert (standardize(torch.full_like(raw, 0.1 * unit), weight) == 0).all()


def test_what_follows_a_termination_plays_no_part():
    rewards, values = torch.ones(3, 1), torch.tensor([[1.0], [1.0], [math.nan], [1.0]])
    ended = torch.tensor([[False], [True], [False]])
    none = torch.zeros(3, 1, dtype=torch.bool)
    found, _ = generalized_advantages(rewards, values, ended, none, discount=0.9, gae_lambda=0.5)
    assert found[1].item() == 0.0
    assert math.isnan(found[2].item())


def test_large_gradients_are_clipped_to_the_length():
    parameter = torch.zeros(2, 3, requires_grad=True)
    parameter.grad = torch.tensor([[3e30, 4e30, 0.0], [0.3, 0.4, 0.0]])
    norms = clip_gradients([parameter], 1.0)
    close(norms, torch.tensor([5e30, 0.5]), (), tolerance=1e-6)
    close(parameter.grad, torch.tensor([[0.6, 0.8, 0.0], [0.3, 0.4, 0.0]]), tolerance=1e-5)


def test_lengths_of_tiny_gradients_are_exact():
    parameter = torch.zeros(2, 3, requires_grad=True)
    parameter.grad = torch.tensor([[3e-30, 4e-30, 0.0], [0.0, 0.0, 0.0]])
    before = parameter.grad.clone()
    norms = clip_gradients([parameter], 1.0)
    close(norms, torch.tensor([5e-30, 0.0]), (), tolerance=1e-6)
    assert torch.equal(parameter.grad, before)


def rows(first, number, seeds=2):
    count = torch.arange(first, first + number).float()
    wide = count[None, :, None].expand(seeds, number, 1)
    flat = count.expand(seeds, number)
    return Transitions(wide, -wide, 2 * flat, wide + 1, 0 * flat, torch.ones(seeds, number))


def test_the_buffer_is_a_ring():
    generator = source(7)
    replay = Replay(2, 10, 1, 1, torch.zeros(()))
    for first in range(0, 16, 4):
        replay.add(rows(first, 4))
    assert len(replay) == 10
    drawn = replay.sample(400, generator)
    assert set(drawn.observation.flatten().tolist()) == set(range(6, 16))
    torch.testing.assert_close(drawn.after, drawn.observation + 1)
    torch.testing.assert_close(drawn.reward, 2 * drawn.observation[..., 0])
    torch.testing.assert_close(drawn.action, -drawn.observation)
    assert not torch.equal(drawn.reward[0], drawn.reward[1])
    again = Replay(2, 10, 1, 1, torch.zeros(()))
    again.load(replay.state())
    assert torch.equal(again.rows, replay.rows)


def test_a_buffer_keeps_copies_and_of_too_many_steps_the_last():
    replay = Replay(1, 3, 1, 1, torch.zeros(1))
    numbers = torch.arange(7.0)[None]
    steps = Transitions(numbers[..., None], numbers[..., None], numbers, numbers[..., None],
                        torch.zeros(1, 7), torch.ones(1, 7))  # fmt: skip
    replay.add(steps)
    numbers.fill_(-1)
    drawn = replay.sample(200, source())
    assert set(drawn.reward.flatten().tolist()) == {4.0, 5.0, 6.0}
    drawn.reward.zero_()
    assert set(replay.sample(200, source()).reward.flatten().tolist()) == {4.0, 5.0, 6.0}
