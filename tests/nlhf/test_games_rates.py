"""Statements about the rates of magnetic descent and of its look ahead."""

import pytest
import torch

from mdtheory.nlhf import games
from tests.nlhf.games_theorem_cases import (
    F64,
    behave,
    draw,
    far,
    less,
    operator,
    product,
    step,
    wide,
)
from tests.refused import bound, differ, fails, identity


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(11)


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
