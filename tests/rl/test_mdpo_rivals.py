"""Statements about PPO, TRPO, SAC and the Tsallis divergence."""

import math

import pytest
import torch

from mdtheory.agents.policies import Policy
from mdtheory.convex.mirror_maps import Entropy, Tsallis, mirror_step
from mdtheory.environments import CartPole, Pendulum
from mdtheory.rl.mdpo import (
    Categorical,
    Gaussian,
    log_q,
    mdpo_loss,
    off_policy_actor_loss,
    ppo_loss,
    tsallis_divergence,
)
from mdtheory.rl.mdpo.trust_region import (
    conjugate_gradients,
    fisher_product,
    flatten,
    unflatten,
)
from tests.refused import at_most, fails
from tests.rl.mdpo_cases import D, N, draws, equal, float64, kl


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


# ------------------------------------------------------------------------------ prop-ppo-region


def in_region(ratio, advantage, epsilon):
    return ((advantage >= 0) & (ratio <= 1 + epsilon)) | ((advantage <= 0) & (ratio >= 1 - epsilon))


def check_region(normal, region):
    old, advantage = normal(N, 1) - 1, normal(N, 1)
    log_prob = (old + 0.4 * normal(N, 1)).requires_grad_()
    ratio = (log_prob - old).exp().detach()
    loss = ppo_loss(log_prob, old, advantage, 0.2)
    expected = -advantage * ratio * region(ratio, advantage, 0.2)
    equal(torch.autograd.grad(loss.sum(), log_prob)[0], expected, 1e-12)


@pytest.mark.theorem("prop-ppo-region", "equality")
def test_the_gradient_of_ppo_lives_on_its_region(normal):
    check_region(normal, in_region)


@pytest.mark.theorem("prop-ppo-region", "equality")
def test_inside_the_region_ppo_is_the_surrogate_without_a_divergence(normal):
    old, advantage = normal(20, 9), normal(20, 9)
    log_prob = (old + 0.05 * normal(20, 9).clamp(-1, 1)).requires_grad_()
    zero = torch.zeros_like(old)
    ours = mdpo_loss(log_prob, old, advantage, zero, math.inf)
    equal(ppo_loss(log_prob, old, advantage, 0.2), ours, 1e-12)


@pytest.mark.theorem("prop-ppo-region", "mutant")
@pytest.mark.parametrize("mutant", ["two-sided", "sides swapped"])
def test_other_regions_are_found_out(mutant):
    def region(ratio, advantage, epsilon):
        if mutant == "two-sided":
            return (ratio - 1).abs() <= epsilon
        return in_region(ratio, -advantage, epsilon)

    fails(lambda where: check_region(draws(), where), region, true=(in_region,))


# -------------------------------------------------------------------------------- prop-trpo-step


@pytest.fixture(params=[CartPole(), Pendulum()], ids=["categorical", "gaussian"])
def small_policy(generator, request):
    """A network in float64, with states and their weights."""
    policy = Policy(request.param, 2, (3,), generator, dtype=float64)
    with torch.no_grad():
        for parameter in policy.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=float64) / 2)
    seen = torch.randn(2, 30, request.param.observed, generator=generator, dtype=float64)
    weight = (torch.rand(2, 30, generator=generator) < 0.8).to(float64)
    return policy, seen, weight


def brute_fisher(policy, seen, weight):
    """Second derivative of the mean KL(old, new) at the old parameters, by autograd."""
    old = policy.law(seen).detach()
    share = weight / weight.sum(-1, keepdim=True)
    number = len(policy.network.parameters)

    def mean_kl(vector):
        parts = unflatten(vector, policy.parameters)
        output = policy.network(seen, parts[:number])
        new = Categorical(output) if number == len(parts) else Gaussian(output, parts[-1])
        return (share * old.kl(new)).sum()

    origin = flatten([p.detach() for p in policy.parameters])
    full = torch.autograd.functional.hessian(mean_kl, origin)
    return torch.stack([full[k, :, k] for k in range(2)])


@pytest.mark.theorem("prop-trpo-step", "equality")
def test_the_fisher_product_is_the_second_derivative_of_the_divergence(small_policy, normal):
    policy, seen, weight = small_policy
    matrix = brute_fisher(policy, seen, weight)
    vector = normal(2, matrix.shape[-1])
    expected = (matrix @ vector[..., None])[..., 0]
    equal(fisher_product(policy, seen, weight)(vector), expected, 1e-9)


def natural(matrix, slope):
    return torch.linalg.solve(matrix, slope)


def check_trust_step(direction, matrix, slope, delta):
    """The step has length delta and gains the square root of 2 delta g F^-1 g."""
    size = (direction * (matrix @ direction[..., None])[..., 0]).sum(-1)
    step = (2 * delta / size).sqrt()[:, None] * direction
    best = (2 * delta * (slope * natural(matrix, slope)).sum(-1)).sqrt()
    equal((slope * step).sum(-1), best, 1e-8)


@pytest.fixture
def metric(normal):
    root = normal(N, D, D)
    return root @ root.mT + 0.1 * torch.eye(D, dtype=float64), normal(N, D)


@pytest.mark.theorem("prop-trpo-step", "bound")
def test_no_step_within_the_radius_gains_more(metric, normal):
    matrix, slope = metric
    step = normal(N, D)
    size = (step * (matrix @ step[..., None])[..., 0]).sum(-1) / 2
    best = (2 * size * (slope * natural(matrix, slope)).sum(-1)).sqrt()
    at_most((slope * step).sum(-1), best)


@pytest.mark.theorem("prop-trpo-step", "equality")
def test_conjugate_gradients_give_the_natural_gradient(metric):
    matrix, slope = metric
    direction = conjugate_gradients(lambda v: (matrix @ v[..., None])[..., 0], slope, 3 * D)
    equal(direction, natural(matrix, slope), 1e-6)
    check_trust_step(natural(matrix, slope), matrix, slope, 0.01)


@pytest.mark.theorem("prop-trpo-step", "equality")
def test_the_quadratic_model_of_mdpo_has_the_same_direction(metric):
    matrix, slope = metric
    delta = 0.01
    t = (2 * delta / (slope * natural(matrix, slope)).sum(-1)).sqrt()
    step = t[:, None] * natural(matrix, slope)
    # Stationary for <g, x> - x F x / (2 t), and of length delta.
    equal((matrix @ step[..., None])[..., 0] / t[:, None], slope, 1e-8)
    equal(
        (step * (matrix @ step[..., None])[..., 0]).sum(-1) / 2,
        torch.full((N,), delta, dtype=float64),
    )


@pytest.mark.theorem("prop-trpo-step", "mutant")
def test_the_plain_gradient_is_no_trust_region_step(metric):
    matrix, slope = metric
    true = (natural(matrix, slope), matrix, slope, 0.01)
    fails(check_trust_step, slope, matrix, slope, 0.01, true=true)


# -------------------------------------------------------------------------------------- prop-sac


@pytest.mark.theorem("prop-sac", "equality")
@pytest.mark.parametrize("order", [1.0, 1.4, 2.0])
def test_with_equal_coefficients_the_loss_is_that_of_sac(normal, order):
    log_prob, old, value = normal(5, 40), normal(5, 40), normal(5, 40)
    for tensor in (log_prob, old, value):
        tensor.requires_grad_()
    ours = off_policy_actor_loss(log_prob, old, value, 0.3, 0.3, order=order)
    sac = (0.3 * log_q(log_prob.exp(), order) - value).mean(-1)
    equal(ours, sac, 1e-12)
    mine = torch.autograd.grad(ours.sum(), (log_prob, old, value))
    equal(mine[0], torch.autograd.grad(sac.sum(), log_prob, retain_graph=True)[0], 1e-12)
    assert (mine[1] == 0).all()
    equal(mine[2], torch.autograd.grad(sac.sum(), value)[0], 1e-12)


def off_policy_best(old, value, c, bonus):
    weights = (1 - bonus / c) * old.log() + value / c
    return weights.softmax(-1)


def off_policy_tabular(p, old, value, c, bonus):
    """Expectation of the loss over p, one state."""
    return (p * (c * p.log() + (bonus - c) * old.log() - value)).sum(-1)


def check_off_policy_best(best, p, old, value, c, bonus):
    gap = off_policy_tabular(p, old, value, c, bonus) - off_policy_tabular(
        best, old, value, c, bonus
    )
    equal(gap, c * kl(p, best), 1e-9)


@pytest.mark.theorem("prop-sac", "equality")
@pytest.mark.parametrize(("c", "bonus"), [(1.0, 0.2), (0.5, 0.5), (0.3, 0.0)])
def test_the_tabular_minimiser_is_a_mirror_step_towards_the_uniform_policy(normal, c, bonus):
    p, old, value = normal(N, D).softmax(-1), normal(N, D).softmax(-1), normal(N, D)
    best = off_policy_best(old, value, c, bonus)
    check_off_policy_best(best, p, old, value, c, bonus)
    uniform = torch.full_like(old, 1 / D)
    step = math.inf if c == bonus else 1 / (c - bonus)
    magnet = (uniform, bonus) if bonus > 0 else ()
    equal(mirror_step(Entropy(), old, -value, step, *magnet), best, 1e-12)


@pytest.mark.theorem("prop-sac", "mutant")
@pytest.mark.parametrize("mutant", ["bonus as weight", "no pull back", "sign"])
def test_another_use_of_the_coefficients_is_no_minimiser(normal, mutant):
    p, old, value = normal(N, D).softmax(-1), normal(N, D).softmax(-1), normal(N, D)
    wrong = {
        "bonus as weight": off_policy_best(old, value, 0.2, 1.0),
        "no pull back": (value / 1.0).softmax(-1),
        "sign": off_policy_best(old, -value, 1.0, 0.2),
    }[mutant]
    true = (off_policy_best(old, value, 1.0, 0.2), p, old, value, 1.0, 0.2)
    fails(check_off_policy_best, wrong, p, old, value, 1.0, 0.2, true=true)


# ---------------------------------------------------------------------------------- prop-tsallis


def written_out(x, y, q):
    logs = (x ** (q - 1) - 1) / (q - 1), (y ** (q - 1) - 1) / (q - 1)
    return (x * (logs[0] - q * logs[1])).sum(-1) + (y**q).sum(-1) - 1


@pytest.fixture
def two_points(normal):
    return (2 * normal(N, D)).softmax(-1), (2 * normal(N, D)).softmax(-1)


@pytest.mark.theorem("prop-tsallis", "bound")
@pytest.mark.parametrize("q", [1.0, 1.2, 1.7, 2.0])
def test_the_divergence_is_at_least_a_squared_distance(two_points, q):
    x, y = two_points
    at_most(q / 2 * (x - y).square().sum(-1), tsallis_divergence(x, y, q))


@pytest.mark.theorem("prop-tsallis", "equality")
@pytest.mark.parametrize("q", [0.5, 1.3, 2.0, 3.0])
def test_the_divergence_is_the_formula_and_the_mirror_map(two_points, q):
    x, y = two_points
    equal(tsallis_divergence(x, y, q), written_out(x, y, q), 1e-9)
    equal(tsallis_divergence(x, y, q), Tsallis(q).divergence(x, y), 1e-12)
    assert tsallis_divergence(x, x, q).abs().max() < 1e-12
    # The definition: the height above the tangent.
    y = y.clone().requires_grad_()
    psi = Tsallis(q).potential(y)
    slope = torch.autograd.grad(psi.sum(), y)[0]
    height = Tsallis(q).potential(x) - psi - (slope * (x - y)).sum(-1)
    equal(tsallis_divergence(x, y.detach(), q), height.detach(), 1e-9)


@pytest.mark.theorem("prop-tsallis", "equality")
def test_the_two_ends_of_the_family(two_points):
    x, y = two_points
    equal(tsallis_divergence(x, y, 2.0), (x - y).square().sum(-1), 1e-12)
    equal(tsallis_divergence(x, y, 1.0), kl(x, y), 1e-12)
    near = tsallis_divergence(x, y, 1 + 1e-6)
    torch.testing.assert_close(near, kl(x, y), rtol=1e-4, atol=1e-4)


@pytest.mark.theorem("prop-tsallis", "equality")
@pytest.mark.parametrize("q", [1.5, 2.0])
def test_the_gaussian_form_agrees_with_an_integral(q):
    new = Gaussian(torch.tensor([[0.3]]).double(), torch.tensor([[-0.4]]).double())
    old = Gaussian(torch.tensor([[-0.2]]).double(), torch.tensor([[0.1]]).double())
    z = torch.linspace(-12, 12, 200_001, dtype=float64)[:, None]
    x, y = (law.log_prob(z[:, None]).exp()[:, 0] for law in (new, old))
    terms = (x**q - y**q) / (q - 1) - q / (q - 1) * (x - y) * y ** (q - 1)
    expected = torch.trapezoid(terms, z[:, 0])
    equal(new.divergence(old, q)[0], expected, 1e-8)


@pytest.mark.theorem("prop-tsallis", "mutant")
@pytest.mark.parametrize("mutant", ["no factor q", "no constant", "difference of logarithms"])
def test_other_formulas_are_no_divergence(two_points, mutant):
    x, y = two_points
    q = 1.5
    logs = [(z ** (q - 1) - 1) / (q - 1) for z in (x, y)]
    wrong = {
        "no factor q": (x * (logs[0] - logs[1])).sum(-1) + (y**q).sum(-1) - 1,
        "no constant": (x * (logs[0] - q * logs[1])).sum(-1),
        "difference of logarithms": (x * (logs[0] - logs[1])).sum(-1),
    }[mutant]
    found = tsallis_divergence(x, y, q)
    fails(equal, wrong, found, true=(written_out(x, y, q), found))
