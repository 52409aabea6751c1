"""The labelled statements of the chapter 'Mirror descent policy optimisation'.

A mutant is the same check run on a plausible mistake; it must fail.
"""

import math

import pytest
import torch

from mdtheory.agents.policies import Policy
from mdtheory.convex.mirror_maps import Entropy, Tsallis, mirror_step
from mdtheory.environments import CartPole, Pendulum
from mdtheory.rl.mdpo import (
    Categorical,
    Gaussian,
    generalized_advantages,
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

float64 = torch.float64
N, D = 200, 4


class Tabular:
    """Random finite Markov decision processes, evaluated by linear systems."""

    def __init__(self, generator, problems=200, states=5, actions=3, discount=0.9):
        def draw(*shape):
            return torch.rand(problems, *shape, generator=generator, dtype=float64)

        self.discount = discount
        self.transition = draw(states, actions, states) ** 4
        self.transition = self.transition / self.transition.sum(-1, keepdim=True)
        self.reward = draw(states, actions)
        self.start = draw(states) + 0.1
        self.start = self.start / self.start.sum(-1, keepdim=True)

    def policy(self, generator, sharpness=1.0):
        shape = self.reward.shape
        return (sharpness * torch.randn(*shape, generator=generator, dtype=float64)).softmax(-1)

    def kernel(self, policy):
        return torch.einsum("bsa,bsat->bst", policy, self.transition)

    def values(self, policy):
        system = torch.eye(policy.shape[1], dtype=float64) - self.discount * self.kernel(policy)
        return torch.linalg.solve(system, (policy * self.reward).sum(-1))

    def advantages(self, policy):
        value = self.values(policy)
        ahead = torch.einsum("bsat,bt->bsa", self.transition, value)
        return self.reward + self.discount * ahead - value[..., None]

    def visits(self, policy):
        """Discounted law of the states, which sums to 1."""
        system = torch.eye(policy.shape[1], dtype=float64) - self.discount * self.kernel(policy).mT
        return (1 - self.discount) * torch.linalg.solve(system, self.start)

    def worth(self, policy):
        return (self.start * self.values(policy)).sum(-1)


@pytest.fixture
def tabular():
    return Tabular


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


def equal(left, right, tolerance=1e-10):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def draws(seed=11):
    """Normal numbers that begin anew with every call, so that two checks meet the same."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=float64)


@pytest.fixture
def normal(generator):
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=float64)


def kl(x, y):
    return (x * (x.log() - y.log())).sum(-1)


# ----------------------------------------------------------------------------- prop-mdpo-tabular


def objective(p, old, advantage, t):
    return (advantage * p).sum(-1) - kl(p, old) / t


def closed_form(old, advantage, t):
    weights = old * (t * advantage).exp()
    return weights / weights.sum(-1, keepdim=True)


def check_completed_square(best, p, old, advantage, t):
    """The objective is log Z / t minus the divergence from the maximiser over t."""
    normaliser = (old * (t[:, None] * advantage).exp()).sum(-1).log()
    equal(objective(p, old, advantage, t), (normaliser - kl(p, best)) / t)


@pytest.fixture
def step_problem(normal):
    t = normal(N).exp()
    return normal(N, D).softmax(-1), normal(N, D).softmax(-1), normal(N, D), t


@pytest.mark.theorem("prop-mdpo-tabular", "equality")
def test_the_objective_is_a_divergence_from_its_maximiser(step_problem):
    p, old, advantage, t = step_problem
    check_completed_square(closed_form(old, advantage, t[:, None]), p, old, advantage, t)


@pytest.mark.theorem("prop-mdpo-tabular", "equality")
def test_the_closed_form_is_the_mirror_step_of_the_entropy(step_problem):
    _, old, advantage, t = step_problem
    step = mirror_step(Entropy(), old, -advantage, t)
    equal(step, closed_form(old, advantage, t[:, None]), 1e-12)


@pytest.mark.theorem("prop-mdpo-tabular", "equality")
def test_many_gradient_steps_on_the_loss_reach_the_closed_form(normal):
    """Softmax logits, exact advantages, every action weighted by the old policy."""
    states, actions, t = 6, 4, 0.7
    old = normal(states, actions)
    advantage = normal(states, actions)
    logits = old.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=400, tolerance_grad=1e-12, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    every = torch.arange(actions).expand(states, actions)
    weight = old.softmax(-1)

    def closure():
        optimizer.zero_grad()
        logs, old_logs = logits.log_softmax(-1), old.log_softmax(-1)
        divergence = Categorical(logits).kl(Categorical(old))[:, None].expand_as(every)
        loss = mdpo_loss(logs, old_logs, advantage, divergence, t, weight=weight).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = closed_form(old.softmax(-1), advantage, t)
    equal(logits.detach().softmax(-1), expected, 1e-6)


@pytest.mark.theorem("prop-mdpo-tabular", "mutant")
@pytest.mark.parametrize("mutant", ["sign", "half the step", "no old policy", "KL reversed"])
def test_another_step_is_no_maximiser(step_problem, mutant):
    p, old, advantage, t = step_problem
    wide = t[:, None]
    wrong = {
        "sign": closed_form(old, -advantage, wide),
        "half the step": closed_form(old, advantage, wide / 2),
        "no old policy": (wide * advantage).softmax(-1),
        "KL reversed": reversed_step(old, advantage, wide),
    }[mutant]
    true = (closed_form(old, advantage, wide), p, old, advantage, t)
    fails(check_completed_square, wrong, p, old, advantage, t, true=true)


# ------------------------------------------------------------------------------ prop-first-step


def laws(kind, normal):
    """A law with parameters, and a copy without; random actions and advantages."""
    if kind == "categorical":
        logits = normal(3, 50, D).requires_grad_()
        law = Categorical(logits)
        action = torch.arange(50).remainder(D).expand(3, 50)
        return [logits], law, action
    mean, log_std = normal(3, 50, 2).requires_grad_(), normal(3, 1, 2).requires_grad_()
    law = Gaussian(mean, log_std)
    return [mean, log_std], law, (mean + normal(3, 50, 2)).detach()


def gradient(loss, parameters):
    found = torch.autograd.grad(loss.sum(), parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def policy_gradient(law, action, advantage, parameters):
    """Of the mean of -A log pi: no ratio, no divergence."""
    return gradient(-(law.log_prob(action) * advantage).mean(-1), parameters)


def check_first_step(kind, normal, t, divergence):
    parameters, law, action = laws(kind, normal)
    old, advantage = law.detach(), normal(3, 50)
    loss = mdpo_loss(law.log_prob(action), old.log_prob(action), advantage, divergence(law, old), t)
    for mine, its in zip(
        gradient(loss, parameters), policy_gradient(law, action, advantage, parameters), strict=True
    ):
        equal(mine, its, 1e-10)


DIVERGENCES = {
    "KL(new, old)": lambda new, old: new.kl(old),
    "KL(old, new)": lambda new, old: old.kl(new),
    "Tsallis 1.5": lambda new, old: new.divergence(old, 1.5),
    "Tsallis 2": lambda new, old: new.divergence(old, 2.0),
}


@pytest.mark.theorem("prop-first-step", "equality")
@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("t", [1e-3, 1.0, math.inf])
def test_the_first_gradient_is_the_policy_gradient(kind, normal, name, t):
    check_first_step(kind, normal, t, DIVERGENCES[name])


@pytest.mark.theorem("prop-first-step", "mutant")
@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_an_entropy_in_place_of_a_divergence_moves_the_first_step(kind):
    def check(divergence):
        check_first_step(kind, draws(), 1.0, divergence)

    fails(check, lambda new, old: -new.entropy(), true=(DIVERGENCES["KL(new, old)"],))


@pytest.mark.theorem("prop-first-step", "mutant")
@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_second_step_is_none_of_the_policy_gradient(name):
    def check(divergence):
        check_first_step("categorical", draws(), 1.0, divergence)

    def later(law, old):
        moved = Categorical(old.logits + torch.linspace(0, 1, D, dtype=float64))
        return DIVERGENCES[name](law, moved)

    fails(check, later, true=(DIVERGENCES[name],))


# --------------------------------------------------------------------------- prop-two-directions


def reversed_step(old, advantage, t):
    """Maximiser of <A, p> - KL(old, p) / t, by bisection for the multiplier."""
    top = advantage.amax(-1, keepdim=True)
    low, high = torch.zeros_like(top), (1 / t).expand_as(top)
    for _ in range(200):
        middle = (low + high) / 2
        total = (old / (t * (top + middle - advantage))).sum(-1, keepdim=True)
        low, high = torch.where(total > 1, middle, low), torch.where(total > 1, high, middle)
    return old / (t * (top + high - advantage))


def check_floor(new, old, advantage, t):
    gap = advantage.amax(-1, keepdim=True) - advantage
    at_most(old / (1 + t * gap), new, tolerance=1e-12)


@pytest.mark.theorem("prop-two-directions", "bound")
def test_the_reversed_step_never_falls_below_a_fraction(step_problem):
    _, old, advantage, t = step_problem
    check_floor(reversed_step(old, advantage, t[:, None]), old, advantage, t[:, None])


@pytest.mark.theorem("prop-two-directions", "equality")
def test_the_reversed_step_maximises_its_objective(step_problem):
    p, old, advantage, t = step_problem
    best = reversed_step(old, advantage, t[:, None])
    equal(best.sum(-1), torch.ones_like(t))
    value = (advantage * best).sum(-1) - kl(old, best) / t
    at_most((advantage * p).sum(-1) - kl(old, p) / t, value)
    # Stationary: the derivative along the simplex vanishes.
    slope = advantage + old / (best * t[:, None])
    equal(slope - slope.mean(-1, keepdim=True), torch.zeros_like(slope), 1e-6)


@pytest.mark.theorem("prop-two-directions", "equality")
def test_the_floor_is_attained_where_all_other_advantages_are_alike(normal):
    """As the step grows, the bad actions share out 1 / (1 + t gap) of what they had."""
    old = torch.tensor([[1e-9, 0.5, 0.5 - 1e-9]], dtype=float64)
    advantage = torch.tensor([[1.0, 0.0, 0.0]], dtype=float64)
    t = torch.tensor([[1e-3]], dtype=float64)
    new = reversed_step(old, advantage, t)
    floor = old / (1 + t * (1 - advantage))
    equal((new / floor)[:, 1:], torch.ones(1, 2, dtype=float64), 2e-3)


@pytest.mark.theorem("prop-two-directions", "equality")
@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_both_directions_are_the_same_quadratic_near_by(kind, normal):
    parameters, law, _ = laws(kind, normal)
    moves = [normal(*p.shape) for p in parameters]
    size = 1e-4
    near = type(law)(*(p + size * m for p, m in zip(law, moves, strict=True)))
    # Half of the move times the Fisher matrix times the move.
    image = law.metric(*moves)
    model = sum((m * i).sum(-1) for m, i in zip(moves, image, strict=True)) / 2
    equal(near.kl(law) / size**2, model, 2e-3)
    equal(law.kl(near) / size**2, model, 2e-3)


@pytest.mark.theorem("prop-two-directions", "mutant")
def test_the_step_of_the_right_direction_does_fall_below(step_problem):
    _, old, advantage, t = step_problem
    wide = 9 * t[:, None]
    true = (reversed_step(old, advantage, wide), old, advantage, wide)
    fails(check_floor, closed_form(old, advantage, wide), old, advantage, wide, true=true)


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


# -------------------------------------------------------------------------------------- prop-gae


def trajectory(normal, steps=30, copies=8, ends=0.15):
    rewards, values = normal(steps, copies), normal(steps + 1, copies)
    ended = normal(steps, copies) > -math.log(ends)
    terminated = ended & (normal(steps, copies) > 0)
    return rewards, values, terminated, ended & ~terminated


def advantages(rewards, values, terminated, truncated, trace, discount=0.9):
    return generalized_advantages(
        rewards, values, terminated, truncated, discount=discount, gae_lambda=trace
    )[0]


def n_step(rewards, values, terminated, truncated, t, c, n, discount):
    """Reward of at most n steps, then the value of where they led, less V(s_t)."""
    total = -values[t, c]
    for k in range(n):
        total = total + discount**k * rewards[t + k, c]
        if terminated[t + k, c]:
            return total
        if truncated[t + k, c] or k == n - 1 or t + k + 1 == len(rewards):
            return total + discount ** (k + 1) * values[t + k + 1, c]
    raise AssertionError("unreachable")


def mixed(rewards, values, terminated, truncated, trace, discount=0.9):
    """The weighted mean of n-step estimates, written without the recursion."""
    steps, copies = rewards.shape
    found = torch.empty_like(rewards)
    for t in range(steps):
        for c in range(copies):
            left = steps - t
            parts = [
                n_step(rewards, values, terminated, truncated, t, c, n, discount)
                for n in range(1, left + 1)
            ]
            weights = [(1 - trace) * trace ** (n - 1) for n in range(1, left)]
            weights.append(trace ** (left - 1))
            found[t, c] = sum(w * p for w, p in zip(weights, parts, strict=True))
    return found


@pytest.mark.theorem("prop-gae", "equality")
@pytest.mark.parametrize("trace", [0.0, 0.4, 0.95, 1.0])
def test_the_recursion_is_the_weighted_mean_of_n_step_estimates(normal, trace):
    played = trajectory(normal)
    assert played[2].any()
    assert played[3].any()
    equal(advantages(*played, trace), mixed(*played, trace), 1e-10)


@pytest.mark.theorem("prop-gae", "equality")
def test_a_truncation_taken_for_a_termination_costs_the_value_of_the_rest(normal):
    rewards, values, none, _ = trajectory(normal, steps=12, ends=1e-9)
    last = torch.zeros_like(none)
    last[-1] = True
    discount, trace = 0.9, 0.8
    right = advantages(rewards, values, none, last, trace, discount)
    wrong = advantages(rewards, values, last, none, trace, discount)
    power = torch.arange(11, -1, -1, dtype=float64)[:, None]
    equal(right - wrong, (discount * trace) ** power * discount * values[-1], 1e-10)


@pytest.mark.theorem("prop-gae", "mutant")
@pytest.mark.parametrize("mutant", ["truncation ends", "nothing ends", "trace without discount"])
def test_other_recursions_are_found_out(normal, mutant):
    rewards, values, terminated, truncated = trajectory(normal)
    none = torch.zeros_like(terminated)
    wrong = {
        "truncation ends": (rewards, values, terminated | truncated, none, 0.8),
        "nothing ends": (rewards, values, none, none, 0.8),
        "trace without discount": (rewards, values, terminated, truncated, 0.8 / 0.9),
    }[mutant]
    right = (rewards, values, terminated, truncated, 0.8)
    fails(equal, advantages(*wrong), mixed(*right), true=(advantages(*right), mixed(*right)))


# ------------------------------------------------------------------------------- thm-improvement


def improvement_sides(problem, old, new, constant=2.0):
    """Gain, and the surrogate less the penalty of the theorem."""
    advantage, gamma = problem.advantages(old), problem.discount
    surrogate = (problem.visits(old) * (new * advantage).sum(-1)).sum(-1) / (1 - gamma)
    largest = advantage.abs().flatten(1).amax(-1)
    worst = kl(new, old).amax(-1)
    penalty = constant * gamma * largest * worst / (1 - gamma) ** 2
    return surrogate - penalty, problem.worth(new) - problem.worth(old)


@pytest.mark.theorem("thm-improvement", "bound")
@pytest.mark.parametrize("sharpness", [0.05, 1.0, 3.0])
def test_the_gain_is_at_least_the_penalised_surrogate(tabular, generator, sharpness):
    problem = tabular(generator)
    old = problem.policy(generator)
    new = (old.log() + sharpness * problem.policy(generator, 3.0)).softmax(-1)
    at_most(*improvement_sides(problem, old, new))


@pytest.mark.theorem("thm-improvement", "bound")
def test_the_bound_in_total_variation(tabular, generator):
    problem = tabular(generator)
    old, new = problem.policy(generator), problem.policy(generator, 2.0)
    advantage, gamma = problem.advantages(old), problem.discount
    gain = (new * advantage).sum(-1)
    visits = problem.visits(old)
    moved = (visits * (new - old).abs().sum(-1)).sum(-1)
    drift = (problem.visits(new) - visits).abs().sum(-1)
    at_most(drift, gamma / (1 - gamma) * moved)
    lower = (visits * gain).sum(-1) / (1 - gamma)
    lower = lower - gamma / (1 - gamma) ** 2 * gain.abs().amax(-1) * moved
    at_most(lower, problem.worth(new) - problem.worth(old))


@pytest.mark.theorem("thm-improvement", "equality")
def test_the_drift_of_the_visits_is_attained(tabular, generator):
    """Two states that keep what enters them: one action leads to either, all drift is kept."""
    problem = tabular(generator, 1, 3, 2)
    problem.transition = torch.zeros(1, 3, 2, 3, dtype=float64)
    problem.transition[0, 0] = torch.tensor([[0.0, 1, 0], [0, 0, 1]])
    problem.transition[0, 1, :, 1] = 1
    problem.transition[0, 2, :, 2] = 1
    problem.start = torch.tensor([[1.0, 0, 0]], dtype=float64)
    old = torch.tensor([[0.5, 0.5]] * 3, dtype=float64)[None]
    new = old.clone()
    new[0, 0] = torch.tensor([0.9, 0.1])
    gamma = problem.discount
    drift = (problem.visits(new) - problem.visits(old)).abs().sum(-1)
    moved = (problem.visits(old) * (new - old).abs().sum(-1)).sum(-1)
    equal(drift, gamma / (1 - gamma) * moved, 1e-10)


@pytest.mark.theorem("thm-improvement", "equality")
def test_the_gain_is_the_advantage_over_the_new_visits(tabular, generator):
    problem = tabular(generator)
    old, new = problem.policy(generator), problem.policy(generator, 2.0)
    gain = (problem.visits(new) * (new * problem.advantages(old)).sum(-1)).sum(-1)
    equal(problem.worth(new) - problem.worth(old), gain / (1 - problem.discount))


@pytest.mark.theorem("thm-improvement", "mutant")
def test_without_the_penalty_the_surrogate_promises_too_much(tabular, generator):
    problem = tabular(generator)
    old, new = problem.policy(generator), problem.policy(generator, 3.0)
    wrong, true = (improvement_sides(problem, old, new, constant=c) for c in (0.0, 2.0))
    fails(at_most, *wrong, true=true)
