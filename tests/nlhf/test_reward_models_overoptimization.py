"""Overoptimisation: curves, their shape, estimates of a divergence, the world and the climb."""

import math

import pytest
import torch

from mdtheory.nlhf import reward_models as rm
from mdtheory.runs import check_identity
from tests.nlhf.reward_models_cases import F64, draws, laws, normal
from tests.refused import at_most, close, fails, identity

# ------------------------------------------------------------------ prop-conditional-gold

GRID = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000
N = torch.tensor([1.0, 2.0, 5.0, 40.0, 3000.0], dtype=F64)


def attained(m):
    """The mean of m(u) under the density n u^(n - 1), for every n."""
    logs = N[:, None].log() + (N[:, None] - 1) * GRID.log()
    return (logs.exp() * m).mean(-1)


@pytest.mark.theorem("prop-conditional-gold", "equality")
def test_the_gold_of_the_best_of_n_is_an_integral_over_the_quantile():
    """Answers without ties: their law, and the integral over steps of m, which is exact."""
    generator = draws(1)
    log_policy, gold = laws(generator, 40, 9), normal(generator, 40, 9)
    scores = torch.arange(9, dtype=F64).expand(40, 9)
    edges = torch.cat([torch.zeros(40, 1, dtype=F64), log_policy.exp().cumsum(-1)], -1)
    for n in (1.0, 2.0, 30.0):
        integral = (edges**n).diff(dim=-1)  # of n u^(n-1), over each answer's stretch of ranks
        law = rm.best_of_n_policy(log_policy, scores, n).exp()
        check_identity("prop-conditional-gold", (law * gold).sum(-1), (integral * gold).sum(-1),
                       tolerance=1e-11)  # fmt: skip


@pytest.mark.theorem("prop-conditional-gold", "bound")
def test_a_rising_m_gives_a_rising_curve_and_the_top_is_its_end():
    generator = draws(2)
    steps = normal(generator, 50, 20).square().cumsum(-1)
    m = steps[:, (GRID * 20).long()]
    curves = torch.stack([attained(row) for row in m])
    assert bool((curves.diff(dim=-1) >= -1e-9).all())
    # At n = 3000 the best answer is of the uppermost stretch.
    close(curves[:, -1], steps[:, -1], tolerance=1e-4)
    # A Gaussian pair never overoptimises: m is correlation times the quantile.
    gaussian = 0.2 * torch.special.ndtri(GRID)
    assert bool((attained(gaussian).diff() > 0).all())


@pytest.mark.theorem("prop-conditional-gold", "mutant")
def test_accuracy_and_correlation_do_not_decide():
    """Two worlds with the same correlation of proxy and gold; one turns down at the top."""
    quantile = torch.special.ndtri(GRID)
    turned = torch.where(GRID > 0.99, -1.0, quantile)
    correlation = lambda m: (m * quantile).mean() / quantile.square().mean()  # noqa: E731
    plain = quantile * correlation(turned)
    assert correlation(turned) > 0.8
    close(correlation(plain), correlation(turned), tolerance=1e-6)
    # Mutant: 'a positive correlation gives a rising curve'.
    rising = lambda curve: at_most(curve[:-1], curve[1:])  # noqa: E731
    fails(rising, attained(turned), true=[attained(plain)])
    # Mutant of the integral: the density of the best of n + 1.
    m = quantile * correlation(turned)
    more = (torch.exp((N[:, None] + 1).log() + N[:, None] * GRID.log()) * m).mean(-1)
    known = 0 * N
    known[1] = correlation(turned) / math.sqrt(math.pi)  # E max of two standard normals
    fails(identity("prop-conditional-gold"), more[1:2], known[1:2],
          true=[attained(m)[1:2], known[1:2]], tolerance=1e-4)  # fmt: skip


def test_conditional_gold_by_hand():
    proxy = torch.tensor([3.0, 1.0, 4.0, 2.0], dtype=F64)
    gold = torch.tensor([30.0, 10.0, 40.0, 20.0], dtype=F64)
    edges = torch.tensor([0.0, 0.5, 0.75, 1.0], dtype=F64)
    found = rm.conditional_gold(proxy, gold, edges)
    close(found, torch.tensor([15.0, 30.0, 40.0], dtype=F64))
    batch = rm.conditional_gold(torch.stack([proxy, -proxy]), gold, edges)
    close(batch[1], torch.tensor([35.0, 20.0, 10.0], dtype=F64))
    with pytest.raises(ValueError, match="edges: expected intervals with at least one answer"):
        rm.conditional_gold(proxy, gold, torch.tensor([0.0, 0.01, 1.0], dtype=F64))
    with pytest.raises(ValueError, match="edges: expected quantiles"):
        rm.conditional_gold(proxy, gold, torch.tensor([0.0, 2.0], dtype=F64))


# ------------------------------------------------------------------ prop-kl-estimates


def quadrature(divergence):
    """Nodes and weights of the log-ratio under the policy, N(KL, 2 KL)."""
    z = torch.linspace(-12, 12, 200_001, dtype=F64)
    weights = (-z.square() / 2).exp()
    return divergence + math.sqrt(2 * divergence) * z, weights / weights.sum()


@pytest.mark.theorem("prop-kl-estimates", "equality")
@pytest.mark.parametrize("divergence", [0.01, 1.0, 16.35])
def test_the_mean_of_k2_for_gaussian_policies(divergence):
    log_ratio, weights = quadrature(divergence)
    k2 = (weights * log_ratio.square() / 2).sum()
    wanted = torch.tensor(divergence + divergence**2 / 2, dtype=F64)
    check_identity("prop-kl-estimates", k2, wanted, tolerance=1e-9)
    k1 = (weights * log_ratio).sum()
    check_identity("prop-kl-estimates", k1, torch.tensor(divergence, dtype=F64), tolerance=1e-9)
    if divergence <= 1:
        k3 = (weights * (torch.expm1(-log_ratio) + log_ratio)).sum()
        check_identity("prop-kl-estimates", k3, torch.tensor(divergence, dtype=F64),
                       tolerance=1e-9)  # fmt: skip


@pytest.mark.theorem("prop-kl-estimates", "mutant")
def test_k2_is_not_the_divergence():
    divergence = torch.tensor([0.5, 4.0, 16.35], dtype=F64)
    log_ratio, weights = map(torch.stack, zip(*(quadrature(d) for d in divergence.tolist()),
                                              strict=True))  # fmt: skip
    k2 = (weights * log_ratio.square() / 2).sum(-1)
    right = divergence + divergence.square() / 2
    fails(identity("prop-kl-estimates"), k2, divergence, true=[k2, right], tolerance=1e-9)
    # Nor is it half of the variance alone.
    variance = k2 - (weights * log_ratio).sum(-1).square() / 2
    fails(identity("prop-kl-estimates"), variance, right, true=[k2, right], tolerance=1e-9)


def test_estimates_from_samples():
    generator = draws(3)
    mean = torch.tensor([1.0, 0.5], dtype=F64)
    x = mean + normal(generator, 200_000, 2)
    log_ratio = (x * mean).sum(-1) - mean.square().sum() / 2
    k1, k2, k3 = rm.kl_estimates(log_ratio)
    exact = mean.square().sum() / 2
    assert abs(k1 - exact) < 0.02
    assert abs(k3 - exact) < 0.02
    assert abs(k2 - exact - exact**2 / 2) < 0.03
    # Far away almost no sample of the policy shows k3's rare large terms.
    far = 16.35 + math.sqrt(32.7) * normal(generator, 4000)
    assert rm.kl_estimates(far).k3 < 0.99 * 16.35 + 1


# ------------------------------------------------------------------ the world


def test_the_world_likes_a_direction_and_no_extremes():
    generator = draws(4)
    world = rm.AnswerWorld(3, generator, features=16, dtype=F64)
    x = world.draw(4, 20_000, generator=generator)
    assert x.shape == (3, 4, 20_000, 16)
    gold = world.gold(x)
    assert gold.mean((1, 2)).abs().max() < 0.05
    assert (gold.std((1, 2)) - 1).abs().max() < 0.05
    assert 0.03 < world.is_odd(x).double().mean() < 0.08
    assert world.is_odd(world.draw(2000, generator=generator, odd=0.0)).double().mean() < 1e-2
    close(world.direction.norm(dim=-1), torch.ones(1, dtype=F64))
    u = world.direction[:, None]
    along = world.gold(torch.cat([u, 2 * u, 3 * u, 10 * u, 20 * u], 1)) * world.deviation[:, None]
    close(along.diff(dim=-1)[:, :2], torch.ones(3, 2, dtype=F64))
    # Beyond the allowed norm the gain along the direction is eaten up.
    close(along.diff(dim=-1)[:, -1], torch.zeros(3, dtype=F64), tolerance=1e-9)


def test_judgements_are_flipped_and_biased_as_told():
    generator = draws(5)
    world = rm.AnswerWorld(2, generator, features=4)
    data = world.compare(20_000, generator, noise=(0.0, 0.25, 1.0))
    assert data.first.shape == (2, 1, 20_000, 4)
    assert data.won.shape == (2, 3, 20_000)
    truth = (world.gold(data.first) > world.gold(data.second)).float()
    assert torch.equal(data.won[:, :1], truth)
    assert torch.equal(data.won[:, 2:], 1 - truth)
    flipped = (data.won[:, 1:2] != truth).float().mean()
    assert abs(flipped - 0.25) < 0.01
    long = world.compare(20_000, generator, length_bias=1e3)
    longer = (long.first.norm(dim=-1) > long.second.norm(dim=-1)).float()
    assert (long.won == longer).float().mean() > 0.99


# ------------------------------------------------------------------ curves and the climb


def test_single_is_the_mean_of_what_each_member_attains_alone():
    generator = draws(6)
    rewards, gold = normal(generator, 2, 3, 4, 30), normal(generator, 2, 1, 30)
    kinds = {"single": ("single", 0.0), "mean": ("mean", 0.0), "careful": ("UWO", 0.5)}
    curves = rm.best_of_n_curves(rewards, gold, [1, 5, 30], kinds)
    each = torch.stack([
        rm.best_of_n_estimate(rewards[:, :, k], gold, [1, 5, 30]) for k in range(4)
    ])  # fmt: skip
    close(curves["single"].gold, each.mean(0))
    mean = rewards.mean(2)
    close(curves["mean"].gold, rm.best_of_n_estimate(mean, gold, [1, 5, 30]))
    close(curves["mean"].proxy, rm.best_of_n_estimate(mean, mean, [1, 5, 30]))
    assert bool((curves["careful"].proxy.diff(dim=-1) > 0).all())
    close(rm.drop_from_peak(torch.tensor([[0.0, 2.0, 0.5], [0.0, 1.0, 3.0]], dtype=F64)),
          torch.tensor([1.5, 0.0], dtype=F64))  # fmt: skip


def test_a_gaussian_policy_climbs_to_where_the_divergence_holds_it():
    generator = draws(7)
    slope = torch.tensor([[1.0, 0.0, 0.5], [0.0, -2.0, 0.0]], dtype=F64)
    weight = torch.tensor([0.5, 1.0], dtype=F64)
    means = rm.climb_objective(
        lambda x: (x * slope[:, None]).sum(-1), torch.zeros(2, 3, dtype=F64), kl_weight=weight,
        steps=300, step_size=0.2, samples=400, generator=generator, every=100,
    )  # fmt: skip
    assert means.shape == (4, 2, 3)
    assert means[0].abs().max() == 0
    # The best trade of a linear reward: m = slope / weight.
    assert (means[-1] - slope / weight[:, None]).abs().max() < 0.2
    # Without a weight it goes on for ever, at the step size a step.
    free = rm.climb_objective(
        lambda x: (x * slope[:, None]).sum(-1), torch.zeros(2, 3, dtype=F64), kl_weight=0.0,
        steps=50, step_size=0.2, samples=4000, generator=generator, every=50,
    )  # fmt: skip
    assert (free[-1] - 10 * slope).abs().max() < 0.5


def test_one_step_of_the_climb_is_a_mirror_step_with_the_score_as_its_gradient():
    start = normal(draws(8), 2, 3)
    objective = lambda x: x.square().sum(-1)  # noqa: E731
    found = rm.climb_objective(objective, start, kl_weight=0.3, steps=1, step_size=0.1, samples=5,
                               generator=draws(9))  # fmt: skip
    noise = torch.randn(2, 5, 3, generator=draws(9), dtype=F64)
    value = objective(start[:, None] + noise)
    # Leave-one-out baselines say the same as the mean with its factor.
    others = (value.sum(-1, keepdim=True) - value) / 4
    gradient = ((value - others)[..., None] * noise).mean(1)
    # The implicit pull towards the start, which is the magnet, changes only the step here.
    close(found[1], start + gradient / (1 / 0.1 + 0.3))
