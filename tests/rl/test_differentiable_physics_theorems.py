"""The labelled statements about gradients through physics: equality, bound, mutant, tight case."""

import math

import pytest
import torch

from mdtheory.environments import Pendulum
from mdtheory.rl import differentiable_physics as dp
from mdtheory.runs import check_bound, check_identity
from tests.refused import bound, fails, identity
from tests.rl.physics_cases import F64, WORLDS, Line, draws, normal, steered

# The adjoint recursion.


def closed_loop(world, theta, start, steps):
    return dp.rollout(
        world, lambda seen: steered(seen, theta), start, steps, truncation=None,
        step_clip=math.inf,
    )  # fmt: skip


def loss_of(world, states, shown):
    return dp.chamfer_loss(world.features(states), shown)


def both_gradients(name, steps=30, change=None):
    """By autograd and by the recursion, for a random policy; ``change`` spoils the linear parts."""
    world = WORLDS[name]()
    generator = draws(3)
    theta = 0.3 * normal(generator, world.observed * world.actions)
    theta.requires_grad_()
    start = world.reset((4,), generator)
    shown = world.features(dp.demonstrate(world).states)
    states = closed_loop(world, theta, start, steps)
    [automatic] = torch.autograd.grad(loss_of(world, states, shown).sum(), theta)
    still = states.detach().requires_grad_()
    [slopes] = torch.autograd.grad(loss_of(world, still, shown).sum(), still)
    parts = dp.linearise(world, steered, theta.detach(), still.detach()[:, :-1])
    if change is not None:
        parts = change(world, theta.detach(), still.detach()[:, :-1], parts)
    return automatic, dp.adjoint_gradient(parts, slopes).sum(0)


@pytest.mark.theorem("thm-adjoint", "equality")
@pytest.mark.parametrize("name", WORLDS)
def test_the_recursion_is_the_gradient(name):
    automatic, by_hand = both_gradients(name)
    assert automatic.abs().max() > 1e-4
    check_identity("thm-adjoint", automatic, by_hand, tolerance=1e-9)


@pytest.mark.theorem("thm-adjoint", "mutant")
@pytest.mark.parametrize("name", ["pendulum", "puck", "rope"])
def test_without_the_way_through_the_policy(name):
    """The mutant takes f_s for A: what the policy makes of a moved state is forgotten."""

    def forget(world, theta, states, parts):
        def held(state, action):
            return world.step(state, action)

        actions = steered(world.observe(states), theta)
        alone = torch.func.vmap(torch.func.jacrev(held))
        rows = alone(states.reshape(-1, world.width), actions.reshape(-1, world.actions))
        return dp.Linearisation(rows.reshape(parts.transitions.shape), parts.influences)

    automatic, by_hand = both_gradients(name)
    _, wrong = both_gradients(name, change=forget)
    fails(identity("thm-adjoint"), automatic, wrong, true=[automatic, by_hand], tolerance=1e-9)


@pytest.mark.theorem("thm-adjoint", "mutant")
def test_with_the_matrices_of_the_step_before():
    def late(world, theta, states, parts):
        return dp.Linearisation(parts.transitions.roll(1, -3), parts.influences)

    automatic, by_hand = both_gradients("cartpole")
    _, wrong = both_gradients("cartpole", change=late)
    fails(identity("thm-adjoint"), automatic, wrong, true=[automatic, by_hand], tolerance=1e-9)


# Products that explode.


def free_fall(state, steps):
    world = Pendulum(F64)
    for _ in range(steps):
        state = world.step(state, state.new_zeros(1))
    return state


@pytest.mark.theorem("prop-exploding", "bound")
def test_the_product_of_norms_bounds_the_derivative():
    world = Pendulum(F64)
    start = world.reset((50,), draws(1), 2.0)
    path = [start]
    for _ in range(30):
        path.append(world.step(path[-1], start.new_zeros(50, 1)))
    steps = torch.func.vmap(torch.func.jacrev(lambda s: world.step(s, s.new_zeros(1))))
    matrices = torch.stack([steps(state) for state in path[:-1]])
    whole = torch.func.vmap(torch.func.jacrev(lambda s: free_fall(s, 30)))(start)
    norms = torch.linalg.matrix_norm(matrices, 2).prod(0)
    check_bound("prop-exploding", torch.linalg.matrix_norm(whole, 2), norms)
    # The mutant multiplies spectral radii, which bound no product of different matrices.
    radii = torch.linalg.eigvals(matrices).abs().amax(-1).prod(0)
    fails(bound("prop-exploding"), torch.linalg.matrix_norm(whole, 2), radii,
          true=[torch.linalg.matrix_norm(whole, 2), norms])  # fmt: skip


@pytest.mark.theorem("prop-exploding", "equality")
@pytest.mark.theorem("prop-exploding", "mutant")
def test_growth_of_the_upright_pendulum():
    steps = torch.tensor([0.01, 0.05, 0.1, 0.3], dtype=F64)
    rate = math.sqrt(15)
    matrices = torch.stack([dp.upright_matrix(rate, h) for h in steps.tolist()])
    top = torch.linalg.eigvals(matrices).real.amax(-1)
    formula = torch.tensor([dp.upright_growth(rate, h) for h in steps.tolist()], dtype=F64)
    check_identity("prop-exploding", top, formula, tolerance=1e-10)
    check_identity("prop-exploding", torch.linalg.det(matrices), torch.ones(4, dtype=F64))
    # The mutant: explicit Euler, whose eigenvalue is 1 + h w and whose determinant is no 1.
    explicit = torch.stack([dp.upright_matrix(rate, h, "explicit") for h in steps.tolist()])
    other = torch.linalg.eigvals(explicit).real.amax(-1)
    check_identity("prop-exploding", other, 1 + rate * steps, tolerance=1e-10)
    fails(identity("prop-exploding"), other, formula, true=[top, formula], tolerance=1e-10)
    # And it is what the world itself does, upright and at rest.
    world = torch.func.jacrev(lambda s: free_fall(s, 1))(torch.zeros(2, dtype=F64))
    check_identity("prop-exploding", world, dp.upright_matrix(rate, 0.05))


@pytest.mark.theorem("prop-exploding", "equality")
def test_the_bound_is_attained_in_balanced_coordinates():
    rate, h = math.sqrt(15), 0.05
    balanced = dp.upright_matrix(rate, h, balanced=True)
    raw = dp.upright_matrix(rate, h)
    growth = dp.upright_growth(rate, h)
    for steps in (1, 10, 40):
        power = torch.linalg.matrix_power(balanced, steps)
        check_identity("prop-exploding", torch.linalg.matrix_norm(power, 2) / growth**steps,
                       torch.ones((), dtype=F64), tolerance=1e-9)  # fmt: skip
    power = torch.linalg.matrix_norm(torch.linalg.matrix_power(raw, 40), 2)
    loose = torch.linalg.matrix_norm(raw, 2) ** 40
    assert 2.0 < power / growth**40 < 2.1
    assert loose / power > 1000


# What a cut loses.


def line_gradient(rho, states, every):
    """Autograd through s' = rho s + theta, cut as a rollout is, for the mean of all but s_0."""
    theta = torch.tensor(0.7, dtype=F64, requires_grad=True)
    state, total = torch.zeros((), dtype=F64), 0.0
    for t in range(1, states):
        state = rho * state + theta
        total = total + state / (states - 1)
        if every and t % every == 0:
            state = state.detach()
    return torch.autograd.grad(total, theta)[0]


def slopes_of(states):
    slopes = torch.full((states,), 1 / (states - 1), dtype=F64)
    slopes[0] = 0
    return slopes


@pytest.mark.theorem("prop-truncation", "equality")
@pytest.mark.theorem("prop-truncation", "mutant")
@pytest.mark.parametrize(
    ("rho", "states", "every"),
    [(0.9, 101, 10), (0.5, 30, 3), (0.99, 50, 7), (1.0, 30, 4), (1.1, 40, 6)],
)
def test_what_a_cut_takes_from_a_line(rho, states, every):
    full, cut = line_gradient(rho, states, 0), line_gradient(rho, states, every)
    lost = dp.truncation_bound(rho, 1.0, slopes_of(states), every)
    check_identity("prop-truncation", full - cut, lost, tolerance=1e-12)
    # The mutant counts from the other side of the cut: r_t = t mod k.
    t = torch.arange(states, dtype=F64)
    powers = rho ** torch.arange(states, dtype=F64)
    sums = torch.stack([powers[int(i) % every : int(i)].sum() for i in t])
    wrong = (slopes_of(states) * sums).sum()
    fails(identity("prop-truncation"), full - cut, wrong, true=[full - cut, lost])


@pytest.mark.theorem("prop-truncation", "equality")
def test_more_than_half_of_a_stable_gradient():
    full, cut = line_gradient(0.9, 101, 0).item(), line_gradient(0.9, 101, 10).item()
    assert full == pytest.approx(9.10002, abs=1e-5)
    assert cut == pytest.approx(4.13811, abs=1e-5)


@pytest.mark.theorem("prop-truncation", "bound")
def test_the_bound_on_random_contractions():
    generator = draws(5)
    matrices = normal(generator, 200, 39, 3, 3)
    norms = torch.linalg.matrix_norm(matrices, 2)[..., None, None]
    matrices = 0.9 * matrices / norms
    influences = normal(generator, 200, 39, 3, 2)
    influences = influences / torch.linalg.matrix_norm(influences, 2)[..., None, None]
    slopes = normal(generator, 200, 40, 3)
    full = dp.adjoint_gradient(dp.Linearisation(matrices, influences), slopes)
    # A cut after step t lets no costate come from the state t + 1 on.
    held = matrices.clone()
    held[:, 6::6] = 0
    cut = dp.adjoint_gradient(dp.Linearisation(held, influences), slopes)
    lost = (full - cut).norm(dim=-1)
    assert lost.min() > 0.01
    check_bound("prop-truncation", lost, dp.truncation_bound(0.9, 1.0, slopes.norm(dim=-1), 6))


def test_no_gradient_crosses_a_cut():
    world = WORLDS["pendulum"]()
    push = torch.zeros(19, 1, dtype=F64, requires_grad=True)
    orders = iter(push)
    states = dp.rollout(world, lambda seen: next(orders), world.home(), 20, truncation=5)
    for t in range(1, 20):
        [reach] = torch.autograd.grad(states[t].sum(), push, retain_graph=True)
        since = t - int(dp.kept_steps(20, 5)[t])
        assert (reach[since:t, 0] != 0).all()
        assert (reach[:since] == 0).all()
        assert (reach[t:] == 0).all()


# Sampling.


def ratio_draws(c, theta, sigma, generator, draws_=200_000, baseline=None):
    drawn = theta + sigma * normal(generator, draws_, len(c), 1)
    last = drawn[..., 0] @ c
    centre = theta * c.sum() if baseline is None else baseline
    means = torch.full_like(drawn, theta)
    return dp.likelihood_ratio_gradient(means, drawn, (last - centre)[:, None], sigma).sum((1, 2))


@pytest.mark.theorem("prop-ratio-variance", "equality")
@pytest.mark.theorem("prop-ratio-variance", "mutant")
@pytest.mark.parametrize("growth", [0.9, 1.0, 1.1])
def test_variance_of_a_likelihood_ratio(growth):
    c = growth ** torch.arange(19, -1, -1, dtype=F64)
    exact = dp.likelihood_ratio_variance(c)
    if growth == 1.0:
        assert exact.item() == pytest.approx(800)
    # Gaussian moments by Isserlis: E (sum e)^2 (c e)^2, pair by pair.
    eye = torch.eye(20, dtype=F64)
    ones = torch.ones(20, dtype=F64)
    pairs = (torch.einsum("ij,kl->ijkl", eye, eye) + torch.einsum("ik,jl->ijkl", eye, eye)
             + torch.einsum("il,jk->ijkl", eye, eye))  # fmt: skip
    second = torch.einsum("ijkl,i,j,k,l->", pairs, ones, ones, c, c)
    check_identity("prop-ratio-variance", exact, second - c.sum() ** 2, tolerance=1e-12)
    # The mutant treats the two factors as independent.
    fails(identity("prop-ratio-variance"), exact, 20 * c.square().sum(),
          true=[exact, second - c.sum() ** 2], tolerance=1e-10)  # fmt: skip


@pytest.mark.theorem("prop-ratio-variance", "equality")
def test_sampled_variance_with_and_without_a_baseline():
    c = 0.9 ** torch.arange(9, -1, -1, dtype=F64)
    for baseline, mean in ((None, 0.0), (0.0, 0.4 * c.sum())):
        found = ratio_draws(c, 0.4, 0.5, draws(2), baseline=baseline)
        exact = dp.likelihood_ratio_variance(c, mean, 0.5)
        assert found.var().item() == pytest.approx(exact.item(), rel=0.03)
        error = 4 * (exact / len(found)).sqrt().item()
        assert found.mean().item() == pytest.approx(c.sum().item(), abs=error)


def test_both_gradients_of_a_feedback_have_one_mean():
    """a = theta s + sigma epsilon on a line, for the square of the last state."""
    world, sigma, theta = Line(), 0.5, torch.tensor(0.3, dtype=F64)
    noise = normal(draws(6), 5, 100_000, 1)
    each = theta.expand(100_000, 1).clone().requires_grad_()
    state = torch.ones(100_000, 1, dtype=F64)
    means, seen = [], []
    for wind in noise:
        seen.append(state)
        means.append(each * state)
        state = world.step(state, means[-1] + sigma * wind)
    loss = state[:, 0].square()
    pathwise = torch.autograd.grad(loss.sum(), each)[0][:, 0]
    seen, means = torch.stack(seen, -2).detach(), torch.stack(means, -2).detach()
    drawn = means + sigma * noise.movedim(0, -2)
    centred = (loss - 2.0).detach()[:, None]

    def gap(slopes):
        apart = (slopes * seen).sum((1, 2)) - pathwise
        return (apart.mean() / (apart.std() / math.sqrt(len(apart)))).abs()

    found = dp.likelihood_ratio_gradient(means, drawn, centred, sigma)
    assert gap(found) < 4
    # The mutant divides by sigma once: epsilon in place of epsilon / sigma.
    assert gap(found * sigma) > 10


def quadrature(function, nodes=4001, edge=9.0):
    x = torch.linspace(-edge, edge, nodes, dtype=F64)
    weight = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    return (weight * function(x)).sum(-1)


@pytest.mark.theorem("prop-jump", "equality")
@pytest.mark.theorem("prop-jump", "mutant")
def test_what_the_pathwise_gradient_misses_at_a_jump():
    theta = torch.linspace(-1, 1, 9, dtype=F64)
    a, high, place, sigma = 0.7, 2.0, 0.1, 0.4
    z = (place - theta) / sigma

    # The derivative of the mean in closed form, a theta + high (1 - Phi(z)), by differences.
    def mean(t):
        return a * t + high * (1 - torch.special.ndtr((place - t) / sigma))

    h = 1e-5
    slope = (mean(theta + h) - mean(theta - h)) / (2 * h)
    exact = dp.jump_slope(theta, a, high, place, sigma)
    check_identity("prop-jump", exact, slope, tolerance=1e-8)
    # The likelihood ratio by quadrature on both sides of the jump.
    for k in range(len(theta)):
        part = torch.linspace(z[k].item(), 9, 20001, dtype=F64)
        density = torch.exp(-part.square() / 2) / math.sqrt(2 * math.pi)
        jumped = torch.trapezoid(density * part * high / sigma, part)
        line = quadrature(lambda x, k=k: x / sigma * a * (theta[k] + sigma * x))
        check_identity("prop-jump", exact[k], line + jumped, tolerance=1e-6)
    # The mean of the pathwise gradient, by autograd at the nodes of a quadrature.
    nodes = torch.linspace(-9, 9, 20_001, dtype=F64)
    x = (theta[:, None] + sigma * nodes).requires_grad_()
    [pathwise] = torch.autograd.grad((a * x + high * (x >= place)).sum(), x)
    weight = torch.exp(-nodes.square() / 2) / math.sqrt(2 * math.pi) * (nodes[1] - nodes[0])
    mean_slope = (weight * pathwise).sum(-1)
    line_slope = torch.full_like(theta, a)
    check_identity("prop-jump", mean_slope, line_slope, tolerance=1e-9)
    # The mutant: that this were the derivative of the mean.
    fails(identity("prop-jump"), mean_slope, exact, true=[mean_slope, line_slope], tolerance=1e-9)
    # The mutant forgets to divide by sigma: the density of the noise, not of the state.
    wrong = a + high * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    fails(identity("prop-jump"), slope, wrong, true=[slope, exact], tolerance=1e-8)


# Contact.


@pytest.mark.theorem("thm-bounce", "equality")
@pytest.mark.theorem("thm-bounce", "mutant")
@pytest.mark.parametrize("step", [0.01, 0.0025])
def test_derivatives_of_a_bounce(step):
    height = torch.linspace(0.4013, 0.5987, 23, dtype=F64).requires_grad_()
    n = round(2 / step)
    minus = -torch.ones(23, dtype=F64)
    for collision, slope in (("flip", 1.0), ("impact", -1.0)):
        end = dp.bounce(height, collision, steps=n, step=step)
        [found] = torch.autograd.grad(end.sum(), height)
        check_identity("thm-bounce", found, torch.full((23,), slope, dtype=F64))
        if collision == "impact":
            check_identity("thm-bounce", end, 2 - height, tolerance=1e-12)
            right = found
    # The mutant believes autograd of the flipped speed.
    end = dp.bounce(height, "flip", steps=n, step=step)
    [wrong] = torch.autograd.grad(end.sum(), height)
    fails(identity("thm-bounce"), wrong, minus, true=[right, minus])


@pytest.mark.theorem("thm-bounce", "bound")
def test_the_value_of_a_flipped_bounce_is_right_all_the_same():
    height = 0.3 + 0.4 * torch.rand(500, generator=draws(4), dtype=F64)
    for step, speed in ((0.01, 1.0), (0.002, 1.0), (0.01, 0.5)):
        end = dp.bounce(height, "flip", steps=round(2 / step), step=step, speed=speed)
        early = (2 * speed - height) - end
        assert early.min() > -1e-12
        ratio = check_bound("thm-bounce", early, torch.full_like(early, 2 * speed * step))
        assert ratio > 0.97  # sharp: the ball is below by almost a whole step


def test_soft_ground_needs_a_width_of_a_step():
    height = torch.linspace(0.45, 0.55, 41, dtype=F64).requires_grad_()

    def spread(collision, **options):
        end = dp.bounce(height, collision, **options)
        [slope] = torch.autograd.grad(end.sum(), height)
        return (slope + 1).abs().max()

    assert spread("soft", width=0.01) < 0.02
    assert spread("soft", width=0.003, steps=800, step=0.0025) < 0.02
    assert spread("soft", width=0.003) > 0.3
    assert spread("spring") > 1.5
    end = dp.bounce(height.detach(), "soft", width=0.01)
    assert ((end[-1] - end[0]) / 0.1).item() == pytest.approx(-1, abs=0.02)
