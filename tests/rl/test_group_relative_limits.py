"""Where group-relative losses stop on old data: stale REINFORCE, AsymRE, RED, OPMD."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Entropy, kl, mirror_step
from mdtheory.rl import group_relative as gr
from mdtheory.rl.group_relative import bounds
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound, breaks, differ, fails, identity
from tests.rl.group_relative_cases import BANDIT, F64, laws, mean, normal, source

# Stale REINFORCE is Hedge, or mirror ascent on a parabola.


def stale(seed, count=100, n=5, shift=None):
    """Behaviours, weights, a, b, and starts."""
    g = source(seed)
    mu, rewards = laws(g, count, n), normal(g, count, n)
    beta = (normal(g, count, 1) - 0.5).exp() if shift is None else shift
    weight = rewards - mean(mu, rewards) + beta
    a = mu * weight
    return mu, weight, a, a.sum(-1), normal(g, count, n).log_softmax(-1)


def play(log_policy, mu, weight, eta, steps):
    for _ in range(steps):
        log_policy = gr.stale_step(log_policy, mu, weight, eta)
    return log_policy


def height(policy, a, b):
    return (a * policy).sum(-1) - b / 2 * policy.square().sum(-1)


@pytest.mark.theorem("thm-stale-hedge", "equality")
@pytest.mark.theorem("thm-stale-hedge", "mutant")
def test_the_expected_step_is_a_mirror_step():
    mu, weight, a, b, start = stale(0)
    logits = start.clone().requires_grad_()
    loss = -(mu * weight * logits.log_softmax(-1)).sum()
    expected = (start - 0.3 * torch.autograd.grad(loss, logits)[0]).softmax(-1)
    stepped = gr.stale_step(start, mu, weight, 0.3).exp()
    slope = a - b[:, None] * start.exp()
    check_identity("thm-stale-hedge", stepped, mirror_step(Entropy(), start.exp(), -slope, 0.3))
    # Mutant: a without the part that pulls back; right only where b = 0.
    fails(
        identity("thm-stale-hedge"), expected, (start + 0.3 * a).softmax(-1),
        true=(expected, stepped),
    )  # fmt: skip


@pytest.mark.theorem("thm-stale-hedge", "equality")
def test_without_a_shift_it_is_hedge_on_a_constant_gain():
    mu, weight, a, _, start = stale(1, shift=0.0)
    after = play(start, mu, weight, 0.7, 50).exp()
    check_identity("thm-stale-hedge", after, (start + 0.7 * 50 * a).softmax(-1), tolerance=1e-11)
    far = play(start, mu, weight, 1e5, 1).exp()
    torch.testing.assert_close(far, gr.stale_limit(mu, weight), atol=1e-6, rtol=0)


@pytest.mark.theorem("thm-stale-hedge", "bound")
@pytest.mark.theorem("thm-stale-hedge", "mutant")
@pytest.mark.parametrize("share", [0.3, 1.0, 2.0])
def test_with_a_shift_it_converges_to_the_projection(share):
    mu, weight, a, b, log_policy = stale(2)
    limit, eta = gr.stale_limit(mu, weight), share / b
    first = divergence = kl(limit.log(), log_policy)
    positive = a.clamp(min=0)
    mutant = positive / positive.sum(-1, keepdim=True)
    for t in range(1, 401):
        log_policy = gr.stale_step(log_policy, mu, weight, eta)
        now = kl(limit.log(), log_policy)
        check_bound("thm-stale-hedge", now, divergence)
        divergence = now
        if t in (1, 2, 5, 20, 100, 400):
            policy = log_policy.exp()
            gap = height(limit, a, b) - height(policy, a, b)
            check_bound("thm-stale-hedge", gap, bounds.stale_gap_bound(first, eta, t))
            far = (policy - limit).square().sum(-1)
            right = bounds.stale_distance_bound(first, eta, b, t)
            check_bound("thm-stale-hedge", far, right)
    # Mutant: the normalised positive part in place of the projection.
    away = (policy - mutant).square().sum(-1)
    assert breaks("thm-stale-hedge", away, right)


@pytest.mark.theorem("thm-stale-hedge", "equality")
def test_the_limit_is_the_euclidean_projection():
    mu, weight, a, b, _ = stale(3, count=500)
    limit, target = gr.stale_limit(mu, weight), a / b[:, None]
    # Optimality: no corner is better against target - limit than the limit itself.
    pull = target - limit
    check_identity("thm-stale-hedge", pull.amax(-1), (pull * limit).sum(-1), tolerance=1e-11)


@pytest.mark.theorem("thm-stale-hedge", "bound")
@pytest.mark.parametrize(
    ("name", "weight", "steps"), [("gap", [1.001, -1.0], 93), ("distance", [2.0, 0.0], 49)]
)
def test_the_rates_are_nearly_attained(name, weight, steps):
    """Two answers, from next to the wrong corner; b small, or as large as lets the corner win."""
    mu, weight = torch.full((2,), 0.5, dtype=F64), torch.tensor(weight, dtype=F64)
    start = torch.tensor([-100.0, 0.0], dtype=F64).log_softmax(-1)
    a = mu * weight
    b, limit = a.sum(), gr.stale_limit(mu, weight)
    assert limit.tolist() == [1, 0]
    policy, first = play(start, mu, weight, 1.0, steps).exp(), kl(limit.log(), start)
    if name == "gap":
        left = height(limit, a, b) - height(policy, a, b)
        right = bounds.stale_gap_bound(first, 1.0, steps)
    else:
        left = (policy - limit).square().sum()
        right = bounds.stale_distance_bound(first, 1.0, b, steps)
    assert 1 / 3 < left / right <= 1


@pytest.mark.theorem("thm-stale-hedge", "mutant")
def test_too_long_a_step_does_not_converge():
    mu, weight = torch.full((1, 2), 0.5, dtype=F64), torch.ones(1, 2, dtype=F64)
    start = torch.tensor([[0.4, 0.6]], dtype=F64).log()
    first = kl(torch.full((1, 2), 0.5, dtype=F64).log(), start)

    def far(eta):
        return (play(start, mu, weight, eta, 200).exp() - 0.5).square().sum(-1)

    one = torch.ones(1, dtype=F64)
    fails(
        bound("thm-stale-hedge"), far(5.0), bounds.stale_distance_bound(first, 5.0, one, 200),
        true=(far(2.0), bounds.stale_distance_bound(first, 2.0, one, 200)),
    )  # fmt: skip


@pytest.mark.theorem("thm-stale-hedge", "equality")
def test_with_a_shift_below_0_the_start_decides():
    mu = torch.full((2, 3), 1 / 3, dtype=F64)
    weight = torch.tensor([0.1, 0.0, -0.1], dtype=F64).expand(2, -1) - 1.0
    a = mu * weight
    b = a.sum(-1)
    policy = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], dtype=F64).log()
    before = height(policy.exp(), a, b)
    for _ in range(200):
        policy = gr.stale_step(policy, mu, weight, 1.0)
        assert (height(policy.exp(), a, b) >= before).all()
        before = height(policy.exp(), a, b)
    check_identity("thm-stale-hedge", policy.exp(), torch.eye(3, dtype=F64)[[0, 2]], tolerance=1e-9)
    with pytest.raises(ValueError, match="weight"):
        gr.stale_limit(mu, weight)


# What AsymRE and RED-Weight settle for.


@pytest.mark.theorem("cor-asymre", "equality")
@pytest.mark.theorem("cor-asymre", "mutant")
def test_value_of_asymre():
    g = source(5)
    mu, rewards = laws(g, 300, 5), normal(g, 300, 5)
    middle = mean(mu, rewards)
    beta = middle - rewards.amin(-1, keepdim=True) + normal(g, 300, 1).exp()
    variance = mean(mu, (rewards - middle) ** 2)
    limit = gr.stale_limit(mu, rewards - middle + beta)
    value = mean(limit, rewards)
    # Mutant: the standard deviation in place of the variance.
    fails(
        identity("cor-asymre"), value, middle + variance.sqrt() / beta,
        true=(value, middle + variance / beta),
    )  # fmt: skip


@pytest.mark.theorem("cor-asymre", "equality")
@pytest.mark.theorem("cor-asymre", "mutant")
def test_value_of_asymre_with_rewards_0_and_1():
    g = source(6)
    mu = laws(g, 300, 5)
    rewards = (normal(g, 300, 5) > 0).to(F64)
    rewards[:, 0], rewards[:, 1] = 1.0, 0.0
    success, beta = mean(mu, rewards), normal(g, 300, 1).exp()
    value = mean(gr.stale_limit(mu, rewards - success + beta), rewards)
    right = gr.asymmetric_value(success, beta)
    assert (beta < success).any()
    assert (beta > success).any()
    # Mutant: the formula beyond p used everywhere.
    wrong = success + success * (1 - success) / beta
    fails(identity("cor-asymre"), value, wrong, true=(value, right))


@pytest.mark.theorem("cor-red", "equality")
@pytest.mark.theorem("cor-red", "bound")
@pytest.mark.theorem("cor-red", "mutant")
def test_red_weights_always_pull_to_a_mixture():
    g = source(7)
    mu, rewards = laws(g, 300, 5), normal(g, 300, 5)
    temperature = normal(g, 300, 1).exp()
    away = rewards - mean(mu, rewards)
    factor = (away / temperature).exp()
    total = (mu * factor * away).sum(-1)
    covariance = mean(mu, (factor - mean(mu, factor)) * away)[..., 0]
    # Mutant: the weighted mean as the baseline, for which the sum is 0.
    centred = (mu * factor * (rewards - mean(mu * factor, rewards) / mean(mu, factor))).sum(-1)
    fails(identity("cor-red"), centred, covariance, true=(total, covariance))
    check_bound("cor-red", torch.zeros_like(total), total)
    equal = (mu * (away * 0).exp() * away * 0).sum(-1)  # equal rewards attain it
    check_identity("cor-red", equal, torch.zeros_like(equal))


@pytest.mark.theorem("cor-red", "equality")
def test_cold_red_weights_imitate_the_best_answers():
    mu, rewards = laws(source(8), 50, 4), torch.tensor([1.0, 0.2, 1.0, 0.5], dtype=F64)
    away = rewards - mean(mu, rewards)
    limit = gr.stale_limit(mu, ((away - away.amax(-1, keepdim=True)) / 0.005).exp() * away)
    best = mu * (rewards == 1)
    check_identity("cor-red", limit, best / best.sum(-1, keepdim=True))


def test_the_bandit_of_the_paper():
    mu, rewards = BANDIT
    away = rewards - (mu * rewards).sum()

    def limit(weight):
        return gr.stale_limit(mu, weight).tolist()

    assert limit(away) == [0, 1, 0]
    assert limit(away + 0.1) == pytest.approx([0, 1, 0])
    assert limit(away + 1) == pytest.approx((mu * (away + 1)).tolist())
    assert limit(away.exp() * away) == pytest.approx([0, 0.8839, 0.1161], abs=1e-4)
    assert limit((away / 0.05).exp() * away) == pytest.approx([0, 0.0544, 0.9456], abs=1e-4)


def test_equal_gains_share_the_limit():
    mu = torch.full((4,), 0.25, dtype=F64)
    weight = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=F64)
    assert gr.stale_limit(mu, weight).tolist() == [0.5, 0.5, 0, 0]
    assert gr.stale_limit(mu, 0 * weight).tolist() == [0.25] * 4


# The direction.


def ascent(policy, mu, rewards):
    """Derivative of the value along the expected step, by automatic differentiation."""
    s = torch.zeros(policy.shape[0], dtype=F64, requires_grad=True)
    a = mu * (rewards - mean(mu, rewards))
    value = ((policy.log() + s[:, None] * a).softmax(-1) * rewards).sum(-1)
    return torch.autograd.grad(value.sum(), s)[0]


def binary(seed, count=2000, n=5):
    g = source(seed)
    rewards = (normal(g, count, n) > 0).to(F64)
    rewards[:, 0], rewards[:, 1] = 1.0, 0.0
    return laws(g, count, n), laws(g, count, n), rewards


@pytest.mark.theorem("prop-direction", "equality")
@pytest.mark.theorem("prop-direction", "bound")
@pytest.mark.theorem("prop-direction", "mutant")
def test_old_answers_point_the_right_way():
    policy, mu, rewards = binary(0)
    rate = ascent(policy, mu, rewards)
    value, success = mean(policy, rewards)[:, 0], mean(mu, rewards)[:, 0]
    right = (policy * rewards * mu).sum(-1) / value
    wrong = (policy * (1 - rewards) * mu).sum(-1) / (1 - value)
    formula = value * (1 - value) * ((1 - success) * right + success * wrong)
    swapped = value * (1 - value) * (success * right + (1 - success) * wrong)
    fails(identity("prop-direction"), rate, swapped, true=(rate, formula))
    least = bounds.ascent_bound(policy, mu, rewards)
    check_bound("prop-direction", least, rate)
    # Tight: behaviours that are constant within each class.
    flat = rewards * 0.6 / rewards.sum(-1, keepdim=True)
    other = 1 - rewards
    flat = flat + other * 0.4 / other.sum(-1, keepdim=True)
    rate = ascent(policy, flat, rewards)
    check_identity("prop-direction", bounds.ascent_bound(policy, flat, rewards), rate)


@pytest.mark.theorem("prop-direction", "mutant")
def test_with_graded_rewards_they_need_not():
    mu, rewards = BANDIT
    policy = torch.tensor([[1e-9, 0.5, 0.5]], dtype=F64)
    rate = ascent(policy / policy.sum(), mu[None], rewards[None])
    assert rate.item() == pytest.approx(-0.0045, abs=1e-6)
    # With the right one alone rewarded the same data point up.
    binary_rewards = torch.tensor([[0.0, 0.0, 1.0]], dtype=F64)
    assert ascent(policy / policy.sum(), mu[None], binary_rewards) > 0


def test_offline_training_of_a_table_reaches_value_1():
    _, mu, rewards = binary(1, count=50)
    weight = rewards - mean(mu, rewards)
    best = (gr.stale_limit(mu, weight) * rewards).sum(-1)
    torch.testing.assert_close(best, torch.ones_like(best))


# OPMD.


def square(policy, anchor, rewards, mu, tau):
    gap = rewards - mean(mu, rewards) - tau * (policy.log() - anchor.log())
    return (mu * gap**2).sum(-1)


@pytest.mark.theorem("thm-opmd", "equality")
@pytest.mark.theorem("thm-opmd", "mutant")
def test_where_opmd_stops():
    g = source(9)
    anchor, rewards = laws(g, 200, 5), normal(g, 200, 5)
    tau = normal(g, 200).exp()
    limit, kappa = gr.opmd_limit(anchor, rewards, tau)
    away = tau[:, None] * (limit / anchor).log()
    left = away + kappa[:, None] * limit / anchor
    check_identity("thm-opmd", left, rewards - mean(anchor, rewards), tolerance=1e-11)
    # Mutant: the divergence the other way round.
    backward = tau * kl(limit.log(), anchor.log())
    forward = tau * kl(anchor.log(), limit.log())
    check_identity("thm-opmd", kappa, forward, tolerance=1e-11)
    assert differ("thm-opmd", kappa, backward, tolerance=1e-6)
    # The optimum of the regularised objective is another.
    best = (anchor.log() + rewards / tau[:, None]).softmax(-1)
    assert differ("thm-opmd", limit, best, tolerance=1e-3)


@pytest.mark.theorem("thm-opmd", "bound")
def test_no_policy_has_a_smaller_square():
    g = source(10)
    anchor, rewards, mu = laws(g, 200, 4), normal(g, 200, 4), laws(g, 200, 4)
    tau = 0.5
    size = (anchor * ((rewards - mean(mu, rewards)) / tau).exp()).sum(-1)
    keep = size >= 1
    anchor, rewards, mu = anchor[keep], rewards[keep], mu[keep]
    limit, kappa = gr.opmd_limit(anchor, rewards, tau, mu)
    assert (kappa >= 0).all()
    check_identity("thm-opmd", kappa, tau * (mu * (anchor / limit).log()).sum(-1), tolerance=1e-10)
    least = square(limit, anchor, rewards, mu, tau)
    worst = 0.0
    for spread in (1e-3, 1e-2, 0.1, 1.0):
        other = (limit.log() + spread * normal(g, *limit.shape)).softmax(-1)
        worst = max(worst, check_bound("thm-opmd", least, square(other, anchor, rewards, mu, tau)))
    assert worst > 0.999
    other = laws(g, *limit.shape)
    check_bound("thm-opmd", least, square(other, anchor, rewards, mu, tau))


@pytest.mark.theorem("thm-opmd", "equality")
def test_opmd_has_no_gradient_at_its_limit():
    mu, rewards = BANDIT
    limit = gr.opmd_limit(mu, rewards, 0.1).policy
    logits = limit.log().requires_grad_()
    # Expectation of the loss: every answer of the bandit, as often as its probability says.
    log_prob = logits.log_softmax(-1)[:, None, None]
    each = gr.opmd_loss(
        log_prob, mu.log()[:, None, None], (rewards - (mu * rewards).sum())[:, None],
        coefficient=0.1, form="paper",
    )  # fmt: skip
    gradient = torch.autograd.grad((mu * each).sum(), logits)[0]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)
    assert limit.tolist() == pytest.approx([0.0009, 0.7742, 0.2249], abs=1e-4)


def test_opmd_by_lambert():
    special = pytest.importorskip("scipy.special")
    g = source(11)
    anchor, rewards = laws(g, 50, 4), normal(g, 50, 4)
    limit, kappa = gr.opmd_limit(anchor, rewards, 0.7)
    size = (kappa / 0.7)[:, None]
    inside = size * ((rewards - mean(anchor, rewards)) / 0.7).exp()
    right = anchor / size * torch.as_tensor(special.lambertw(inside.numpy()).real)
    torch.testing.assert_close(limit, right, atol=1e-10, rtol=0)


def test_opmd_of_equal_rewards_stays():
    anchor = laws(source(12), 3, 4)
    limit, kappa = gr.opmd_limit(anchor, torch.ones(3, 4, dtype=F64), 0.3)
    torch.testing.assert_close(limit, anchor)
    assert kappa.abs().max() < 1e-12
    with pytest.raises(ValueError, match="behaviour"):
        gr.opmd_limit(*(torch.tensor(row, dtype=F64) for row in ([0.5, 0.5], [0.0, 3.0])), 1.0,
                      torch.tensor([0.1, 0.9], dtype=F64))  # fmt: skip
    assert math.isfinite(gr.opmd_limit(anchor, 1000 * anchor, 1e-3).curvature.max())
