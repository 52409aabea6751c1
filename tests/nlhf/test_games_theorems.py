"""The labelled statements of the chapter 'Games': bound, equality, mutants.

Every bound is checked on many random games at once. A mutant is the same check run on a plausible
mistake; it must fail.
"""

import math

import pytest
import torch

from mdtheory.nlhf import games
from tests.refused import bound, differ, fails, identity

F64 = torch.float64
SKEW = identity("lem-game-operator")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(11)


@pytest.fixture(scope="module")
def many():
    payoff = torch.rand(500, 4, 5, generator=torch.Generator().manual_seed(12), dtype=F64)
    return games.MatrixGame(2 * payoff - 1)


@pytest.fixture(scope="module")
def inner():
    """Games whose equilibrium has full support, with it."""
    g = torch.Generator().manual_seed(13)
    noise = 2 * torch.rand(500, 4, 4, generator=g, dtype=F64) - 1
    x, y = (torch.randn(500, 4, generator=g, dtype=F64).softmax(-1) for _ in range(2))
    noise = noise - noise @ y[..., None]
    noise = noise - x[..., None, :] @ noise
    game = games.MatrixGame(noise / noise.abs().amax((-2, -1), keepdim=True))
    return game, (x.log(), y.log())


@pytest.fixture(scope="module")
def kuhn():
    return games.kuhn_poker()


def draw(game, generator, spread=2.0):
    return tuple(
        (spread * torch.randn(side.shape, generator=generator, dtype=F64)).log_softmax(-1)
        for side in game.uniform()
    )


def behave(game, generator, batch, spread=1.5):
    return tuple(
        (spread * torch.randn(*batch, *legal.shape, generator=generator, dtype=F64))
        .masked_fill(~legal, -math.inf)
        .log_softmax(-1)
        for legal in game.legal
    )


def kl(p, q):
    """By its definition, on log-probabilities."""
    terms = torch.where(p > -math.inf, p.exp() * (p - q), 0.0)
    return terms.sum(-1)


def far(one, two):
    return kl(one[0], two[0]) + kl(one[1], two[1])


def step(game, start, gradient, eta, tau=0.0, magnet=None):
    """The magnetic step by its formula, one player after the other: the place for mutants."""
    magnet = game.uniform() if magnet is None else magnet
    return tuple(
        ((z + eta * tau * rho - eta * g) / (1 + eta * tau)).log_softmax(-1)
        for z, rho, g in zip(start, magnet, gradient, strict=True)
    )


def operator(game, pair):
    x, y = (side.exp() for side in pair)
    return (
        -torch.einsum("...ij,...j->...i", game.payoff, y),
        torch.einsum("...ij,...i->...j", game.payoff, x),
    )


def wide(pair, count):
    return tuple(side.expand(count, *side.shape) for side in pair)


# ------------------------------------------------------------------------------- lem-game-operator


def length(pair):
    return (pair[0].abs().sum(-1) ** 2 + pair[1].abs().sum(-1) ** 2).sqrt()


def product(one, two):
    return (one[0] * two[0]).sum(-1) + (one[1] * two[1]).sum(-1)


def less(one, two):
    return tuple(a - b for a, b in zip(one, two, strict=True))


@pytest.mark.theorem("lem-game-operator", "equality")
def test_the_operator_is_skew_and_the_gradient_of_the_payoff(many, generator):
    z, other = draw(many, generator), draw(many, generator)
    turned = less(operator(many, z), operator(many, other))
    apart = less([s.exp() for s in z], [s.exp() for s in other])
    assert product(turned, apart).abs().max() < 1e-13
    x, y = (side.exp().requires_grad_(True) for side in z)
    value = torch.einsum("bi,bij,bj->b", x, many.payoff, y).sum()
    up, down = torch.autograd.grad(value, (x, y))
    found = many.split(many.losses(torch.cat([x, y], -1).detach()))
    torch.testing.assert_close(found[0], -up)
    torch.testing.assert_close(found[1], down)


@pytest.mark.theorem("lem-game-operator", "bound")
def test_the_operator_is_smooth_and_the_constant_is_attained(many, generator):
    z, other, third = (draw(many, generator) for _ in range(3))
    points = [[s.exp() for s in pair] for pair in (z, other, third)]
    turned = less(operator(many, z), operator(many, other))
    w, apart = less(points[2], points[1]), less(points[0], points[1])
    right = games.smoothness(many) * length(apart) * length(w)
    assert (product(turned, w).abs() <= right + 1e-12).all()
    pennies = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    a, d = torch.tensor([1.0, -1.0], dtype=F64), torch.tensor([1.0, -1.0], dtype=F64)
    assert (a @ pennies @ d) == games.smoothness(games.MatrixGame(pennies)) * 2 * 2


@pytest.mark.theorem("lem-game-operator", "bound")
def test_the_operator_of_a_tree_is_smooth(kuhn, generator):
    parts = [kuhn.reach(kuhn.join(behave(kuhn, generator, (300,)))) for _ in range(3)]
    turned = kuhn.losses(parts[0]) - kuhn.losses(parts[1])
    sizes = games.complexity(kuhn)

    def norm(difference):
        both = kuhn.split(difference.abs() * kuhn.ends())
        return sum(side.sum((-2, -1)) ** 2 / k for side, k in zip(both, sizes, strict=True)).sqrt()

    left = (turned * (parts[2] - parts[1])).sum(-1).abs()
    right = games.smoothness(kuhn) * norm(parts[0] - parts[1]) * norm(parts[2] - parts[1])
    assert (left <= right + 1e-12).all()
    assert (turned * (parts[0] - parts[1])).sum(-1).abs().max() < 1e-13


@pytest.mark.theorem("lem-game-operator", "mutant")
@pytest.mark.parametrize("mutant", ["wrong sign of the column player", "half the constant"])
def test_another_operator_is_not_skew(many, generator, mutant):
    z, other = draw(many, generator, 6.0), draw(many, generator, 6.0)
    turned = less(operator(many, z), operator(many, other))
    apart = less([s.exp() for s in z], [s.exp() for s in other])
    if mutant == "wrong sign of the column player":
        true, zero = product(turned, apart), torch.zeros(500, dtype=F64)
        fails(SKEW, product((turned[0], -turned[1]), apart), zero, true=(true, zero))
    else:
        pure = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]], dtype=F64)
        game = games.MatrixGame(torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64))
        turned = less(*(operator(game, (pure[i], pure[i])) for i in (0, 1)))
        apart = less(*((pure[i].exp(), pure[i].exp()) for i in (0, 1)))
        w = (apart[0], -apart[1])
        left, right = product(turned, w).abs(), games.smoothness(game) * length(apart) * length(w)
        fails(bound("lem-game-operator"), left, right / 2, true=(left, right))


# --------------------------------------------------------------------------------- prop-spiral-out


@pytest.mark.theorem("prop-spiral-out", "equality")
@pytest.mark.parametrize("eta", [0.01, 0.5, 5.0])
def test_the_plain_step_leads_away_by_what_it_moves(inner, generator, eta):
    game, centre = inner
    before = draw(game, generator)
    after = games.magnetic_mirror_descent(game, 1, 0.0, eta, start=before)
    for mine, theirs in zip(after, step(game, before, operator(game, before), eta), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    assert not differ(
        "prop-spiral-out", far(centre, after), far(centre, before) + far(before, after)
    )


@pytest.mark.theorem("prop-spiral-out", "mutant")
@pytest.mark.parametrize("mutant", ["alternating", "reversed divergence", "another centre"])
def test_the_identity_belongs_to_this_step_and_this_point(inner, generator, mutant):
    game, centre = inner
    before = draw(game, generator)
    after = step(game, before, operator(game, before), 0.5)
    true = far(centre, after), far(centre, before) + far(before, after)
    if mutant == "alternating":
        gradient = operator(game, (after[0], before[1]))
        after = (after[0], step(game, before, gradient, 0.5)[1])
    if mutant == "another centre":
        centre = draw(game, generator)
    moved = far(after, before) if mutant == "reversed divergence" else far(before, after)
    right = far(centre, before) + moved
    fails(identity("prop-spiral-out"), far(centre, after), right, true=true, tolerance=1e-9)


# --------------------------------------------------------------------------- prop-quantal-response


@pytest.mark.theorem("prop-quantal-response", "equality")
@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0])
def test_the_equilibrium_answers_itself_by_softmax(many, generator, tau):
    magnet = draw(many, generator)
    point = games.quantal_response(many, tau, magnet)
    gradient = operator(many, point)
    for mine, rho, g in zip(point, magnet, gradient, strict=True):
        torch.testing.assert_close(mine, (rho - g / tau).log_softmax(-1), rtol=0, atol=1e-9)
    u = draw(many, generator)
    apart = less([s.exp() for s in u], [s.exp() for s in point])
    left = product(gradient, apart) + tau * (far(u, magnet) - far(point, magnet))
    assert not differ("prop-quantal-response", left, tau * far(u, point), 1e-10)
    # The gap in closed form: at the best vertex the divergences are logarithms.
    gain = sum((z - rho).amax(-1) for z, rho in zip(point, magnet, strict=True))
    assert not differ(
        "prop-quantal-response",
        games.nash_conv(many, point), tau * (gain - far(point, magnet)), 1e-9,
    )  # fmt: skip


@pytest.mark.theorem("prop-quantal-response", "equality")
def test_the_published_quantal_responses_to_six_digits():
    """The figures of the authors' code; the game is theirs, scaled to [0, 1]."""
    stakes = torch.tensor([[0, -3, 3], [3, 0, -1], [-3, 1, 0]], dtype=F64)
    game = games.MatrixGame((stakes + 3) / 6)
    tau = torch.tensor([0.05, 0.1, 0.2, 0.5], dtype=F64)
    wanted = torch.tensor(
        [
            [0.1517447, 0.46794775, 0.38030755],
            [0.17347803, 0.48630324, 0.34021873],
            [0.22364492, 0.47798817, 0.29836691],
            [0.29813319, 0.41382045, 0.28804635],
        ],
        dtype=F64,
    )
    for x in (
        games.quantal_response(game, tau)[0],
        games.magnetic_mirror_descent(game, 13_000, tau, tau)[0],
    ):
        torch.testing.assert_close(x.exp(), wanted, rtol=0, atol=1e-6)


@pytest.mark.theorem("prop-quantal-response", "bound")
@pytest.mark.parametrize("tau", [0.01, 0.1, 1.0])
def test_a_low_temperature_is_near_an_equilibrium(many, tau):
    gap = games.nash_conv(many, games.quantal_response(many, tau))
    assert (gap <= tau * (math.log(4) + math.log(5))).all()


@pytest.mark.theorem("prop-quantal-response", "mutant")
@pytest.mark.parametrize("mutant", ["column player climbs", "no magnet", "half the temperature"])
def test_other_fixed_points_are_not_it(many, generator, mutant):
    magnet, tau = draw(many, generator), 0.3
    point = games.quantal_response(many, tau, magnet)
    up, down = operator(many, point)
    true = tuple((rho - g / tau).log_softmax(-1) for rho, g in zip(magnet, (up, down), strict=True))
    if mutant == "column player climbs":
        down = -down
    elif mutant == "no magnet":
        magnet = many.uniform()
    else:
        tau = 0.15
    answer = tuple(
        (rho - g / tau).log_softmax(-1) for rho, g in zip(magnet, (up, down), strict=True)
    )
    left = torch.cat(point, -1)
    right, wrong = torch.cat(true, -1), torch.cat(answer, -1)
    fails(identity("prop-quantal-response"), left, wrong, true=(left, right), tolerance=1e-9)


# ------------------------------------------------------------------------------- thm-magnetic-rate


def identity_sides(game, before, after, goal, tau, eta):
    """Both sides of eq-magnetic-identity."""
    turned = less(operator(game, before), operator(game, goal))
    apart = less([s.exp() for s in goal], [s.exp() for s in after])
    right = far(goal, before) - far(after, before) - eta * tau * far(after, goal)
    return (1 + eta * tau) * far(goal, after), right + eta * product(turned, apart)


@pytest.mark.theorem("thm-magnetic-rate", "equality")
@pytest.mark.parametrize(("tau", "eta"), [(0.05, 0.01), (0.3, 0.3), (1.0, 4.0)])
def test_the_identity_of_the_proof_holds_for_every_step(many, generator, tau, eta):
    magnet = draw(many, generator)
    goal = games.quantal_response(many, tau, magnet)
    before = draw(many, generator)
    after = games.magnetic_mirror_descent(many, 1, tau, eta, magnet=magnet, start=before)
    for mine, theirs in zip(
        after, step(many, before, operator(many, before), eta, tau, magnet), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    sides = identity_sides(many, before, after, goal, tau, eta)
    assert not differ("thm-magnetic-rate", *sides, 1e-10)


@pytest.mark.theorem("thm-magnetic-rate", "bound")
@pytest.mark.parametrize("tau", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("part", [0.3, 1.0])
def test_magnetic_descent_contracts_at_least_at_its_rate(many, generator, tau, part):
    magnet = draw(many, generator)
    goal = games.quantal_response(many, tau, magnet)
    eta = part * games.guaranteed_step(many, tau)
    run = games.magnetic_iterates(many, 20, tau, eta, magnet=magnet, start=draw(many, generator))
    path = torch.stack([games.divergence(many, goal, now) for now in run])
    assert (path[1:] <= path[:-1] / (1 + eta * tau) + 1e-13).all()


@pytest.mark.theorem("thm-magnetic-rate", "bound")
@pytest.mark.parametrize("name", ["kuhn", "leduc"])
def test_the_same_in_sequence_form(name, generator, kuhn):
    game, tau = (kuhn, 0.2) if name == "kuhn" else (games.leduc_poker(), 0.5)
    bold = tau / game.largest_payoff().item() ** 2 / 3
    goal = games.magnetic_mirror_descent(game, 1500, tau, bold)
    again = games.magnetic_mirror_descent(game, 1, tau, bold, start=goal)
    assert games.divergence(game, goal, again) < 1e-12
    count = 50 if name == "kuhn" else 3
    eta = games.guaranteed_step(game, tau).item()
    run = games.magnetic_iterates(game, 10, tau, eta, start=behave(game, generator, (count,)))
    path = torch.stack([games.divergence(game, wide(goal, count), now) for now in run])
    assert (path[1:] <= path[:-1] / (1 + eta * tau) + 1e-9).all()


@pytest.mark.parametrize("name", ["kuhn", "leduc"])
def test_on_poker_the_rate_also_holds_at_a_longer_step(name, generator, kuhn):
    """Not proved: the step is longer than the guaranteed one."""
    game, tau = (kuhn, 0.2) if name == "kuhn" else (games.leduc_poker(), 0.5)
    bold = tau / game.largest_payoff().item() ** 2 / 3
    goal = games.magnetic_mirror_descent(game, 1500, tau, bold)
    count = 50 if name == "kuhn" else 3
    eta = bold / 10
    assert eta > games.guaranteed_step(game, tau).item() or name == "kuhn"
    run = games.magnetic_iterates(game, 10, tau, eta, start=behave(game, generator, (count,)))
    path = torch.stack([games.divergence(game, wide(goal, count), now) for now in run])
    assert (path[1:] <= path[:-1] / (1 + eta * tau) + 1e-9).all()


@pytest.mark.theorem("thm-magnetic-rate", "mutant")
@pytest.mark.parametrize(
    "mutant", ["longer step", "no magnet", "wrong sign of the column player", "reversed divergence"]
)
def test_the_rate_needs_its_step_its_magnet_and_its_signs(generator, mutant):
    pennies = games.MatrixGame(torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64))
    tau = 0.2
    eta = 0.5 if mutant == "longer step" else tau
    even = wide(pennies.uniform(), 100)
    goal = tuple(even)
    magnet = even
    before = draw(games.MatrixGame(pennies.payoff.expand(100, 2, 2)), generator, 1.0)
    if mutant == "reversed divergence":
        magnet = (torch.tensor([0.9, 0.1], dtype=F64).log().expand(100, 2), even[1])
        goal = wide(games.quantal_response(pennies, tau, (magnet[0][0], magnet[1][0])), 100)

    def sides(mutant, eta):
        path = [before]
        for _ in range(30):
            now = path[-1]
            up, down = operator(pennies, now)
            if mutant == "wrong sign of the column player":
                down = -down
            weight = 0.0 if mutant == "no magnet" else tau
            path.append(step(pennies, now, (up, down), eta, weight, magnet))
        distance = torch.stack(
            [far(now, goal) if mutant == "reversed divergence" else far(goal, now) for now in path]
        )
        return distance[1:], distance[:-1] / (1 + eta * tau)

    fails(bound("thm-magnetic-rate"), *sides(mutant, eta), true=sides("none", tau))


@pytest.mark.theorem("thm-magnetic-rate", "mutant")
@pytest.mark.parametrize("mutant", ["magnet not mixed in", "alternating"])
def test_the_identity_notices_another_step(many, generator, mutant):
    tau, eta = 0.3, 0.4
    goal, before = games.quantal_response(many, tau), draw(many, generator)
    after = step(many, before, operator(many, before), eta, tau)
    true = identity_sides(many, before, after, goal, tau, eta)
    if mutant == "magnet not mixed in":
        after = tuple(
            (z - eta / (1 + eta * tau) * g).log_softmax(-1)
            for z, g in zip(before, operator(many, before), strict=True)
        )
    else:
        new = operator(many, (after[0], before[1]))
        after = (after[0], step(many, before, new, eta, tau)[1])
    wrong = identity_sides(many, before, after, goal, tau, eta)
    fails(identity("thm-magnetic-rate"), *wrong, true=true, tolerance=1e-9)


# --------------------------------------------------------------------------------- prop-sharp-rate

PENNIES = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)


def pennies_step(state, tau, eta):
    """The step in the two differences of logits, through the library."""
    pair = tuple(torch.stack([s / 2, -s / 2]).log_softmax(0) for s in state)
    x, y = games.magnetic_mirror_descent(games.MatrixGame(PENNIES), 1, tau, eta, start=pair)
    return torch.stack([x[0] - x[1], y[0] - y[1]])


@pytest.mark.theorem("prop-sharp-rate", "equality")
@pytest.mark.parametrize(("tau", "eta"), [(0.1, 0.1), (0.3, 0.9), (0.5, 0.2)])
def test_the_step_in_matching_pennies(tau, eta):
    state = torch.tensor([0.8, -1.7], dtype=F64)
    u, v = state
    wanted = torch.stack(
        [
            (u + 2 * eta * torch.tanh(v / 2)) / (1 + eta * tau),
            (v - 2 * eta * torch.tanh(u / 2)) / (1 + eta * tau),
        ]
    )
    torch.testing.assert_close(pennies_step(state, tau, eta), wanted, rtol=0, atol=1e-14)
    # The derivative by central differences.
    h = 1e-4
    columns = [
        (pennies_step(h * e, tau, eta) - pennies_step(-h * e, tau, eta)) / (2 * h)
        for e in torch.eye(2, dtype=F64)
    ]
    growth = torch.linalg.eigvals(torch.stack(columns, -1)).abs() ** 2
    local = (1 + eta**2) / (1 + eta * tau) ** 2
    assert (growth - local).abs().max() < 1e-6


@pytest.mark.theorem("prop-sharp-rate", "equality")
def test_the_rate_is_attained_and_the_best_step_is_the_guaranteed_one():
    game = games.MatrixGame(PENNIES)
    tau = torch.tensor([0.05, 0.3, 0.8], dtype=F64)
    start = tuple(torch.tensor([[0.501, 0.499]], dtype=F64).log().expand(3, 2) for _ in range(2))
    after = games.magnetic_mirror_descent(game, 1, tau, start=start)
    even = wide(game.uniform(), 3)
    ratio = games.divergence(game, even, after) / games.divergence(game, even, start)
    assert (ratio * (1 + tau**2) - 1).abs().max() < 1e-5
    etas = torch.linspace(0.01, 3, 600, dtype=F64)[:, None]
    local = (1 + etas**2) / (1 + etas * tau) ** 2
    best = etas[local.argmin(0), 0]
    assert (best - tau).abs().max() < 0.01


@pytest.mark.theorem("prop-sharp-rate", "bound")
def test_beyond_the_second_limit_the_equilibrium_repels():
    game = games.MatrixGame(PENNIES)
    start = tuple(torch.tensor([0.51, 0.49], dtype=F64).log() for _ in range(2))
    for tau in (0.1, 0.5):
        limit = 2 * tau / (1 - tau**2)
        for eta, repels in ((0.9 * limit, False), (1.1 * limit, True)):
            last = games.magnetic_mirror_descent(game, 400, tau, eta, start=start)
            grew = games.divergence(game, game.uniform(), last) > games.divergence(
                game, game.uniform(), start
            )
            assert bool(grew) == repels


@pytest.mark.theorem("prop-sharp-rate", "mutant")
@pytest.mark.parametrize("factor", [1.05, 1.5, 3.0])
def test_a_longer_step_misses_the_rate(factor):
    game, tau = games.MatrixGame(PENNIES), torch.tensor([0.05, 0.3, 0.8], dtype=F64)
    even = wide(game.uniform(), 3)
    start = tuple(torch.tensor([[0.5001, 0.4999]], dtype=F64).log().expand(3, 2) for _ in range(2))

    def sides(factor):
        after = games.magnetic_mirror_descent(game, 1, tau, factor * tau, start=start)
        shrunk = games.divergence(game, even, after) / games.divergence(game, even, start)
        return shrunk, 1 / (1 + factor * tau**2)

    fails(bound("prop-sharp-rate"), *sides(factor), true=sides(1.0))


# ------------------------------------------------------------------------------ prop-extragradient


def trial_sides(game, before, trial, after, goal, tau, eta):
    """Both sides of eq-extragradient-identity, braces written with the equilibrium."""
    turned = less(operator(game, trial), operator(game, before))
    apart = less([s.exp() for s in trial], [s.exp() for s in after])
    left = (1 + eta * tau) * (far(goal, after) + far(after, trial))
    right = far(goal, before) - far(trial, before) - eta * tau * far(trial, goal)
    return left, right + eta * product(turned, apart)


@pytest.mark.theorem("prop-extragradient", "equality")
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_the_identity_of_two_steps(inner, generator, tau):
    game, centre = inner
    goal = games.quantal_response(game, tau) if tau else centre
    before, eta = draw(game, generator), 0.8
    trial = step(game, before, operator(game, before), eta, tau)
    after = step(game, before, operator(game, trial), eta, tau)
    found = games.magnetic_mirror_descent(game, 1, tau, eta, start=before, extragradient=True)
    for mine, theirs in zip(found, after, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    sides = trial_sides(game, before, trial, after, goal, tau, eta)
    assert not differ("prop-extragradient", *sides, 1e-10)


@pytest.mark.theorem("prop-extragradient", "bound")
@pytest.mark.parametrize("tau", [0.0, 0.3])
@pytest.mark.parametrize("part", [0.5, 1.0])
def test_a_trial_step_contracts(inner, generator, tau, part):
    game, centre = inner
    goal = games.quantal_response(game, tau) if tau else centre
    eta = part * games.guaranteed_step(game, tau, extragradient=True)
    now = draw(game, generator)
    for _ in range(10):
        trial = games.magnetic_mirror_descent(game, 1, tau, eta, start=now)
        new = games.magnetic_mirror_descent(game, 1, tau, eta, start=now, extragradient=True)
        saved = (1 - part) * (far(trial, now) + far(new, trial))
        assert ((1 + eta * tau) * far(goal, new) <= far(goal, now) - saved + 1e-12).all()
        now = new


@pytest.mark.theorem("prop-extragradient", "bound")
def test_an_equilibrium_on_the_border_also_attracts(generator):
    payoff = torch.tensor([[0.3, 0.5, 0.4], [0.1, -1.0, 1.0], [-0.2, 1.0, -1.0]], dtype=F64)
    game = games.MatrixGame(payoff)
    _, goal = games.linear_program(game)
    now = draw(game, generator)
    for _ in range(30):
        new = games.magnetic_mirror_descent(game, 1, 0.0, 1.0, start=now, extragradient=True)
        assert far(goal, new) <= far(goal, now) + 1e-12
        now = new


@pytest.mark.theorem("prop-extragradient", "mutant")
@pytest.mark.parametrize("mutant", ["from the trial point", "no trial", "longer step"])
def test_the_second_half_starts_where_the_first_did(inner, generator, mutant):
    game, centre = inner
    first = draw(game, generator)

    def sides(mutant, eta):
        now, path = first, [far(centre, first)]
        for _ in range(20):
            trial = step(game, now, operator(game, now), eta)
            base = trial if mutant == "from the trial point" else now
            at = now if mutant == "no trial" else trial
            now = step(game, base, operator(game, at), eta)
            path.append(far(centre, now))
        return torch.stack(path[1:]), torch.stack(path[:-1])

    eta = 4.0 if mutant == "longer step" else 1.0
    fails(bound("prop-extragradient"), *sides(mutant, eta), true=sides("none", 1.0))


# ------------------------------------------------------------------------------- prop-dilated-step


def plan_cost(game, pair, costs, tau, eta, magnet, start):
    weights = game.reach(game.join(pair))
    cost = (costs * weights)[..., 2:].sum(-1)
    count = pair[0].shape[0] if pair[0].ndim == 3 else 0
    around = [wide(p, count) if count else p for p in (magnet, start)]
    return (
        cost
        + tau * games.divergence(game, pair, around[0])
        + games.divergence(game, pair, around[1]) / eta
    )


@pytest.mark.theorem("prop-dilated-step", "equality")
@pytest.mark.parametrize(("tau", "eta"), [(0.3, 0.7), (0.0, 2.0), (1.0, 0.1)])
def test_the_step_minimises_its_objective(kuhn, generator, tau, eta):
    start, magnet = behave(kuhn, generator, ()), behave(kuhn, generator, ())
    moved = games.magnetic_mirror_descent(kuhn, 1, tau, eta, magnet=magnet, start=start)
    costs = kuhn.losses(kuhn.reach(kuhn.join(start)))
    others = behave(kuhn, generator, (200,))
    least = plan_cost(kuhn, moved, costs, tau, eta, magnet, start)
    excess = plan_cost(kuhn, others, costs, tau, eta, magnet, start) - least
    wanted = (tau + 1 / eta) * games.divergence(kuhn, others, wide(moved, 200))
    assert not differ("prop-dilated-step", excess, wanted, 1e-10)


@pytest.mark.theorem("prop-dilated-step", "equality")
def test_the_divergence_is_bregmans(kuhn, generator):
    """By its definition, with the gradient from autograd in the weights of the sequences."""

    def potential(weights):
        rows = weights[2:].unflatten(-1, (-1, kuhn.actions))
        above = weights.index_select(-1, kuhn.above)[:, None]
        return (rows * (rows / above).log()).sum()

    one, two = behave(kuhn, generator, ()), behave(kuhn, generator, ())
    x, z = (kuhn.reach(kuhn.join(pair)) for pair in (one, two))
    z = z.requires_grad_(True)
    (slope,) = torch.autograd.grad(potential(z), z)
    bregman = potential(x) - potential(z.detach()) - slope @ (x - z.detach())
    assert abs(bregman - games.divergence(kuhn, one, two)) < 1e-12


@pytest.mark.theorem("prop-dilated-step", "mutant")
@pytest.mark.parametrize("mutant", ["rows by themselves", "old behaviour goes up", "wrong sign"])
def test_a_row_must_know_what_follows_it(kuhn, generator, mutant):
    tau, eta = 0.3, 0.7
    start, magnet = behave(kuhn, generator, ()), behave(kuhn, generator, ())
    costs = kuhn.losses(kuhn.reach(kuhn.join(start)))
    logs, rho = kuhn.join(start), kuhn.join(magnet)
    b = 1 / (1 / eta + tau)
    others = behave(kuhn, generator, (200,))

    def sides(moved):
        excess = plan_cost(kuhn, others, costs, tau, eta, magnet, start) - plan_cost(
            kuhn, moved, costs, tau, eta, magnet, start
        )
        return excess, (tau + 1 / eta) * games.divergence(kuhn, others, wide(moved, 200))

    dual = logs / (1 + eta * tau) + tau * b * rho - b * costs
    true = sides(kuhn.split(kuhn.normalize(dual.clone())))
    if mutant == "wrong sign":
        dual = logs / (1 + eta * tau) + tau * b * rho + b * costs
        moved = kuhn.split(kuhn.normalize(dual))
    elif mutant == "rows by themselves":
        moved = kuhn.split(kuhn.normalize_rows(dual))
    else:
        for begin, end in reversed(kuhn.levels[1:]):
            mean = (kuhn.level(costs, begin, end) * kuhn.level(logs, begin, end).exp()).sum(-1)
            dual.index_add_(-1, kuhn.above[begin:end], -b * mean)
        moved = kuhn.split(kuhn.normalize_rows(dual))
    fails(identity("prop-dilated-step"), *sides(moved), true=true, tolerance=1e-9)


# ---------------------------------------------------------------------------- lem-dilated-convexity


def both_sides(game, one, two, constants):
    found = []
    for player in (0, 1):
        mixed = list(one)
        mixed[1 - player] = two[1 - player]
        change = game.reach(game.join(one)) - game.reach(game.join(two))
        size = game.split(change.abs() * game.ends())[player].sum((-2, -1))
        found.append((size**2 / (2 * constants[player]), games.divergence(game, tuple(mixed), two)))
    return found


@pytest.mark.theorem("lem-dilated-convexity", "bound")
@pytest.mark.parametrize("spread", [0.1, 1.5, 5.0])
def test_the_dilated_entropy_is_strongly_convex(kuhn, generator, spread):
    for game in (kuhn, games.leduc_poker()):
        one, two = (behave(game, generator, (200,), spread) for _ in range(2))
        for left, right in both_sides(game, one, two, games.complexity(game)):
            assert (left <= right + 1e-12).all()


@pytest.mark.theorem("lem-dilated-convexity", "equality")
def test_the_constant_by_hand_and_by_brute_force(kuhn):
    # First: three cards, each with two rows on the way check, bet: 3 (2^2 + 1). Second: six rows.
    assert games.complexity(kuhn).tolist() == [15.0, 6.0]
    # One row with one payoff behind each action: Pinsker's inequality itself.
    single = games.ExtensiveGame.from_tree(
        0,
        lambda s: games.Decision(0, "a", [("l", 1), ("r", 2)]) if s == 0 else games.Terminal(s),
    )
    assert games.complexity(single).tolist() == [1.0, 0.0]
    near = torch.tensor([[0.5 + 1e-4, 0.5 - 1e-4]], dtype=F64).log()
    even = (near.exp() * 0 + 0.5).log()
    pair = (near, single.uniform()[1]), (even, single.uniform()[1])
    left, right = both_sides(single, *pair, games.complexity(single))[0]
    assert abs(left / right - 1) < 1e-6
    # All pure plans of Kuhn poker: K is the largest of their sums.
    for player in (0, 1):
        legal = kuhn.legal[player]
        best = 0.0
        rows, width = legal.shape
        for code in range(width**rows):
            choice = torch.tensor([code // width**k % width for k in range(rows)])
            pure = torch.full(legal.shape, -math.inf, dtype=F64)
            pure[torch.arange(rows), choice] = 0
            pair = list(kuhn.uniform())
            pair[player] = pure
            above = kuhn.row_weights(kuhn.reach(kuhn.join(tuple(pair))))[kuhn.position]
            mine = above[:rows] if player == 0 else above[-rows:]
            mass = torch.tensor(
                [2.0 if player == 0 and len(str(name[2])) == 0 else 1.0
                 for name in kuhn.information[player]], dtype=F64,
            )  # fmt: skip
            best = max(best, float((mine * mass**2).sum()))
        assert best == games.complexity(kuhn)[player]


@pytest.mark.theorem("lem-dilated-convexity", "mutant")
@pytest.mark.parametrize("mutant", ["no constant", "what follows a choice forgotten"])
def test_a_tree_is_less_convex_than_a_simplex(kuhn, generator, mutant):
    one, two = (behave(kuhn, generator, (2000,), 0.03) for _ in range(2))
    # All M_j at one leaves the number of rows: three cards with two rows each, and six rows.
    constant = 1.0 if mutant == "no constant" else 6.0
    wrong = both_sides(kuhn, one, two, torch.full((2,), constant, dtype=F64))
    true = both_sides(kuhn, one, two, games.complexity(kuhn))
    fails(
        bound("lem-dilated-convexity"), *map(torch.cat, zip(*wrong, strict=True)),
        true=tuple(map(torch.cat, zip(*true, strict=True))),
        scaled="what is dropped is the constant itself, which depends on the tree",
    )  # fmt: skip
