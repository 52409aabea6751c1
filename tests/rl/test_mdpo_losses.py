"""Losses and schedules of MDPO."""

import math

import pytest
import torch

from mdtheory.rl.mdpo import (
    SCHEDULES,
    log_q,
    mdpo_loss,
    off_policy_actor_loss,
    ppo_loss,
    schedule,
    tsallis_divergence,
)
from tests.rl.mdpo_training_cases import float64, source


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


# ----------------------------------------------------------------------------------------- losses


def test_losses_of_leading_indices_do_not_meet(generator):
    parts = [torch.randn(3, 2, 20, generator=generator, dtype=float64) for _ in range(4)]
    steps = torch.rand(3, 2, generator=generator, dtype=float64) + 0.1
    together = mdpo_loss(*parts, steps)
    assert together.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            alone = mdpo_loss(*(part[i, j] for part in parts), steps[i, j].item())
            torch.testing.assert_close(together[i, j], alone)


def test_samples_without_weight_do_not_count(generator):
    parts = [torch.randn(5, 12, generator=generator, dtype=float64) for _ in range(4)]
    weight = torch.ones(5, 12, dtype=float64)
    weight[:, 7:] = 0
    kept = [part[:, :7] for part in parts]
    torch.testing.assert_close(mdpo_loss(*parts, 0.5, weight=weight), mdpo_loss(*kept, 0.5))
    torch.testing.assert_close(ppo_loss(*parts[:3], weight=weight), ppo_loss(*kept[:3]))
    torch.testing.assert_close(
        off_policy_actor_loss(*parts[:3], 1.0, 0.2, weight=weight),
        off_policy_actor_loss(*kept[:3], 1.0, 0.2),
    )
    with pytest.raises(ValueError, match="weight: expected a weight > 0 in every problem"):
        mdpo_loss(*parts, 0.5, weight=0 * weight)


def test_a_tiny_step_freezes_the_policy_and_an_infinite_one_forgets_the_divergence(generator):
    log_prob = torch.randn(40, generator=generator, dtype=float64, requires_grad=True)
    old, advantage = (torch.randn(40, generator=generator, dtype=float64) for _ in range(2))
    divergence = (log_prob - old).square()
    surrogate = -((log_prob - old).exp() * advantage).mean()
    free = mdpo_loss(log_prob, old, advantage, divergence, math.inf)
    torch.testing.assert_close(free, surrogate)
    slopes = [
        torch.autograd.grad(loss, log_prob, retain_graph=True)[0]
        for loss in (1e-9 * mdpo_loss(log_prob, old, advantage, divergence, 1e-9),
                     divergence.mean())
    ]  # fmt: skip
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-6)


def test_tsallis_logarithms():
    x = torch.tensor([1e-8, 0.3, 1.0, 7.0], dtype=float64)
    torch.testing.assert_close(log_q(x, 1.0), x.log())
    torch.testing.assert_close(log_q(x, 2.0), x - 1)
    torch.testing.assert_close(log_q(x, 1.5), 2 * (x.sqrt() - 1))
    near = log_q(x.clone().requires_grad_(), 1 + 1e-12)
    torch.testing.assert_close(near.detach(), x.log())
    x.requires_grad_()
    assert torch.autograd.grad(log_q(x, 1.0).sum(), x)[0].isfinite().all()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: mdpo_loss(x, x, x, x, 0.0), "step_size"),
        (lambda x: mdpo_loss(x, x, x, x, -x.new_ones(2)), "step_size"),
        (lambda x: mdpo_loss(x, x, x, x, x.new_ones(7)), "step_size"),
        (lambda x: mdpo_loss(x, x[:, :2], x, x, 1.0), "old_log_prob"),
        (lambda x: mdpo_loss(x, x, x[:, :2], x, 1.0), "advantage"),
        (lambda x: ppo_loss(x, x, x, 1.0), "clip_range"),
        (lambda x: ppo_loss(x, x, x, 0.0), "clip_range"),
        (lambda x: off_policy_actor_loss(x, x, x, -1.0, 0.0), "divergence_weight"),
        (lambda x: off_policy_actor_loss(x, x, x, 1.0, -x.new_ones(2)), "entropy_weight"),
        (lambda x: off_policy_actor_loss(x, x, x, 1.0, 0.0, order=0.0), "order"),
        (lambda x: tsallis_divergence(x.softmax(-1), x.softmax(-1), 0.0), "order"),
        (lambda x: tsallis_divergence(x.softmax(-1) * 2, x.softmax(-1)), "x"),
        (lambda x: log_q(x, -1.0), "order"),
        (lambda x: schedule("annealed", 0.0, 0, 1), "initial"),
        (lambda x: schedule("steep", 1.0, 0, 1), "schedule"),
        (lambda x: schedule("constant", 1.0, -1, 1), "iteration"),
    ],
)
def test_losses_refuse_by_name(call, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call(torch.randn(2, 5, generator=source(), dtype=float64))


def test_losses_refuse_other_types():
    x = torch.zeros(3)
    with pytest.raises(TypeError, match=r"^old_log_prob: expected"):
        mdpo_loss(x, x.double(), x, x, 1.0)
    with pytest.raises(TypeError, match=r"^advantage: expected"):
        ppo_loss(x, x, torch.zeros(3, dtype=torch.int64))


def test_schedules():
    assert [schedule("annealed", 2.0, k, 4) for k in range(4)] == [2.0, 1.5, 1.0, 0.5]
    assert schedule("annealed", 2.0, 4, 4) == pytest.approx(2e-3)
    assert schedule("square-root", 2.0, 3, 4) == 1.0
    assert {schedule("constant", 2.0, k, 4) for k in range(4)} == {2.0}
    assert set(SCHEDULES) == {"annealed", "constant", "square-root"}
