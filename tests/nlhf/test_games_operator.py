"""Statements about the operator of a game and its regularised equilibrium."""

import math

import pytest
import torch

from mdtheory.nlhf import games
from tests.nlhf.games_theorem_cases import F64, behave, draw, far, less, operator, product, step
from tests.refused import bound, differ, fails, identity

SKEW = identity("lem-game-operator")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(11)


# ------------------------------------------------------------------------------- lem-game-operator


def length(pair):
    return (pair[0].abs().sum(-1) ** 2 + pair[1].abs().sum(-1) ** 2).sqrt()


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
