"""Games at the edges: masks, units, degenerate games, memory, gradients, precision."""

import contextlib
import math

import numpy as np
import pytest
import torch

from mdtheory.nlhf import games
from mdtheory.nlhf.games.references import GAP

F64 = torch.float64


def uneven(unit=1.0, offset=0.0, dtype=F64):
    """Two rounds with two to four moves and a move of chance; most rows have illegal actions."""

    def describe(path):
        if not path:
            return games.Chance([(0.25, "a"), (0.75, "b"), (0.0, "never")])
        if len(path) == 4:
            return games.Terminal(offset + unit * math.sin(sum(3**i * ord(c) for i, c in
                                                               enumerate(path))))  # fmt: skip
        turn = len(path) - 1
        seen = path if turn % 2 == 0 else path[1:]
        moves = ("xyz", "xy", "wxyz" if path[1:2] == "x" else "xy")[turn]
        return games.Decision(turn % 2, (turn, seen), [(m, path + m) for m in moves])

    return games.ExtensiveGame.from_tree("", describe, dtype=dtype)


@pytest.fixture(scope="module")
def tree():
    return uneven()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(31)


def behave(game, generator, batch=()):
    return tuple(
        torch.randn(*batch, *legal.shape, generator=generator, dtype=F64)
        .masked_fill(~legal, -math.inf)
        .log_softmax(-1)
        for legal in game.legal
    )


def off_legal(game, pair):
    return max(
        side.exp().masked_fill(legal, 0).max().item()
        for side, legal in zip(pair, game.legal, strict=True)
    )


def apart(one, other):
    return max((a.exp() - b.exp()).abs().max().item() for a, b in zip(one, other, strict=True))


# ------------------------------------------------------------------------------ illegal actions

STEPS = {
    "infinite": (1.0, math.inf),
    "overflowing product": (1e300, 1e300),
    "nearly overflowing": (1e-3, 1e308),
    "tiny temperature": (1e-300, math.inf),
    "a batch": (torch.tensor([0.5, 2.0], dtype=F64), torch.tensor([math.inf, 1e308], dtype=F64)),
    "plain": (0.0, 0.1),
}
MAGNETS = {
    "entropy": {},
    "moving": {"magnet_rate": 0.3},
    "replaced": {"magnet_rate": 1.0},
    "slow": {"magnet_rate": 1e-300},
    "given": {"magnet": "uniform"},
    "given, moving": {"magnet": "uniform", "magnet_rate": 0.5},
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("magnet", MAGNETS)
@pytest.mark.parametrize("form", ["dilated", "behavioural"])
@pytest.mark.parametrize("extragradient", [False, True])
def test_illegal_actions_keep_probability_0(tree, step, magnet, form, extragradient):
    tau, eta = STEPS[step]
    more = dict(MAGNETS[magnet])
    if "magnet" in more:
        more["magnet"] = tree.uniform()
    if step == "tiny temperature":
        # The inverse of the temperature is a step that still holds in double precision.
        eta = 1e300
    found = games.magnetic_mirror_descent(
        tree, 3, tau, eta, form=form, extragradient=extragradient, **more
    )
    assert off_legal(tree, found) == 0
    for side in found:
        torch.testing.assert_close(side.exp().sum(-1), torch.ones_like(side[..., 0]))


def test_an_endless_step_on_poker():
    game = games.leduc_poker()
    found = games.magnetic_mirror_descent(game, 1, 1.0, math.inf)
    assert off_legal(game, found) == 0
    long = games.magnetic_mirror_descent(game, 1, 1.0, 1e14)
    assert apart(found, long) < 1e-10


def test_an_endless_step_answers_softly_from_anywhere(tree, generator):
    """It forgets where it starts: the next strategies are the soft best responses."""
    costs = tree.losses(tree.reach(tree.join(tree.uniform())))
    wanted = tree.split(tree.normalize(tree.legal_logs() - costs / 0.3))
    found = games.magnetic_mirror_descent(tree, 1, 0.3, math.inf)
    assert apart(found, wanted) < 1e-14
    matrix = games.MatrixGame(torch.randn(3, 4, generator=generator, dtype=F64))
    corner = torch.tensor([0.0, -math.inf, -math.inf], dtype=F64), matrix.uniform()[1]
    x, y = games.magnetic_mirror_descent(matrix, 1, 0.3, math.inf, start=corner)
    torch.testing.assert_close(x, (matrix.payoff.mean(1) / 0.3).log_softmax(-1))
    torch.testing.assert_close(y, (-matrix.payoff[0] / 0.3).log_softmax(-1))


def test_a_moving_magnet_is_the_geometric_mixture_of_every_row(tree, generator):
    start = behave(tree, generator)
    first = games.magnetic_mirror_descent(tree, 1, 0.4, 0.3, start=start, magnet_rate=0.25)
    magnet = tuple(
        (0.75 * even.masked_fill(~legal, 0) + 0.25 * now.masked_fill(~legal, 0))
        .masked_fill(~legal, -math.inf)
        .log_softmax(-1)
        for even, now, legal in zip(tree.uniform(), first, tree.legal, strict=True)
    )
    wanted = games.magnetic_mirror_descent(tree, 1, 0.4, 0.3, start=first, magnet=magnet)
    found = games.magnetic_mirror_descent(tree, 2, 0.4, 0.3, start=start, magnet_rate=0.25)
    assert apart(found, wanted) < 1e-14


# ------------------------------------------------------------------------------ units

UNITS = [1e-300, 1e-14, 1e14, 1e300]


def degenerate():
    generator = torch.Generator().manual_seed(5)
    whole = torch.randint(-3, 4, (7, 9), generator=generator).double()
    return {
        "random": 2 * torch.rand(6, 8, generator=generator, dtype=F64) - 1,
        "whole numbers": whole,
        "one action": torch.randn(1, 5, generator=generator, dtype=F64),
        "zero": torch.zeros(3, 2, dtype=F64),
        "constant": torch.full((2, 3), 7.0, dtype=F64),
        "twins": torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=F64),
        "dominated": torch.tensor([[2.0, 3.0], [1.0, -4.0]], dtype=F64),
        "small stakes": torch.tensor([[1.0, 1 - 1e-6], [1 - 1e-6, 1.0]], dtype=F64),
        "rare": torch.tensor([[1.0, 0.0], [0.0, 1e-3]], dtype=F64),
    }


@pytest.mark.parametrize("name", degenerate())
@pytest.mark.parametrize("unit", UNITS)
def test_a_linear_programme_does_not_mind_units(name, unit):
    payoff = degenerate()[name]
    value, pair = games.linear_program(games.MatrixGame(payoff))
    scaled, other = games.linear_program(games.MatrixGame(unit * payoff))
    spread = max(payoff.max().item() - payoff.min().item(), 1e-300)
    assert abs(scaled / unit - value) <= 1e-12 * payoff.abs().max().item()
    assert apart(pair, other) < 1e-9
    for mine, players in ((payoff, pair), (payoff, other)):
        assert games.nash_conv(games.MatrixGame(mine), players) <= GAP * spread + 1e-15


@pytest.mark.parametrize("offset", [1e3, -1e6, 1e12])
def test_nor_where_payoffs_are_counted_from(offset, generator):
    # Sixteenths keep their digits beside the offset, so both games are one game.
    payoff = torch.randint(-8, 9, (5, 6), generator=generator).double() / 16
    value, pair = games.linear_program(games.MatrixGame(payoff))
    moved, other = games.linear_program(games.MatrixGame(payoff + offset))
    assert abs(moved - offset - value) <= 4e-16 * abs(offset)
    assert apart(pair, other) < 1e-9
    tau = 0.3
    both = (games.quantal_response(games.MatrixGame(p), tau) for p in (payoff, payoff + offset))
    assert apart(*both) < 1e-10
    both = (games.solve_matrix_game(p, gap=1e-4) for p in (payoff, payoff + offset))
    assert apart(*both) < 1e-10


def test_the_stakes_of_small_differences_are_solved_exactly():
    stakes = 1e-9
    payoff = torch.tensor([[1 + 2 * stakes, 1 - stakes], [1 - stakes, 1.0]], dtype=F64)
    _, (x, y) = games.linear_program(games.MatrixGame(payoff))
    # a = 3, b = 1 units of stakes in the differences: x = y = (1/4, 3/4).
    wanted = torch.tensor([0.25, 0.75], dtype=F64)
    torch.testing.assert_close(x.exp(), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(y.exp(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("unit", "offset"), [(1e-300, 0.0), (1e300, 0.0), (1e-6, 1e3)])
def test_nor_in_extensive_form(tree, unit, offset):
    value, pair = games.linear_program(tree)
    assert games.nash_conv(tree, pair) <= 2 * GAP
    scaled, other = games.linear_program(uneven(unit, offset))
    assert abs((scaled - offset) / unit - value) < (1e-9 if offset == 0 else 1e-6)
    assert games.nash_conv(tree, other) < (2 * GAP if offset == 0 else 1e-6)
    if offset == 0:
        assert apart(pair, other) < 1e-9
    assert off_legal(tree, other) == 0


@pytest.mark.parametrize("unit", UNITS)
def test_neither_do_the_solver_and_the_quantal_response(unit, generator):
    payoff = 2 * torch.rand(4, 5, 6, generator=generator, dtype=F64) - 1
    plain, scaled = games.MatrixGame(payoff), games.MatrixGame(unit * payoff)
    tau = torch.tensor([1e-6, 0.01, 0.3, 10.0], dtype=F64)
    one, other = games.quantal_response(plain, tau), games.quantal_response(scaled, unit * tau)
    assert apart(one, other) < 1e-9
    one, other = games.solve_matrix_game(payoff), games.solve_matrix_game(unit * payoff)
    # A thousand rounds may amplify what the rounding of `unit * payoff` changes.
    assert apart(one, other) < 1e-6
    half = (payoff.amax((-2, -1)) - payoff.amin((-2, -1))) / 2
    assert (games.nash_conv(plain, other) <= 1e-3 * half * (1 + 1e-9)).all()
    steps = games.guaranteed_step(plain, 0.1), games.guaranteed_step(scaled, 0.1 * unit)
    torch.testing.assert_close(steps[1] * unit, steps[0])
    one = games.magnetic_mirror_descent(plain, 9, 0.1)
    assert apart(one, games.magnetic_mirror_descent(scaled, 9, 0.1 * unit)) < 1e-9


@pytest.mark.parametrize("tau", [1e-300, 1e-15, 1e-9, 1e9, 1e300])
def test_quantal_responses_at_any_temperature(tau, generator):
    game = games.MatrixGame(2 * torch.rand(20, 5, 4, generator=generator, dtype=F64) - 1)
    found = games.quantal_response(game, tau)
    if tau < 1:
        assert games.nash_conv(game, found).max() <= tau * math.log(20) + 1e-11
    else:
        assert apart(found, game.uniform()) < 2 / tau + 1e-15
    never = games.MatrixGame(torch.tensor([[1e300, 0.0], [0.0, 1e300]], dtype=F64))
    with pytest.raises(ValueError, match="temperature"):
        games.quantal_response(never, 1e-300)


def test_a_quantal_response_that_cannot_be_told_is_refused():
    """At 1e-300 what tells the answer from its neighbours is lost in the rounding of payoffs."""
    game = games.MatrixGame(torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=F64))
    found = None
    with contextlib.suppress(ArithmeticError):
        found = games.quantal_response(game, 1e-300)
    assert found is None or games.nash_conv(game, found) < 1e-11
    assert games.nash_conv(game, games.quantal_response(game, 1e-9)) < 1e-11


# ------------------------------------------------------------------------------ chance

LAWS = {
    "negative": [-0.2, 0.6, 0.6],
    "above 1": [1.5],
    "too little": [0.3, 0.3],
    "nothing": [],
    "a NaN": [math.nan, 0.5, 0.5],
    "an infinity": [math.inf, -math.inf],
    "all 0": [0.0, 0.0],
}


@pytest.mark.parametrize("name", LAWS)
def test_chances_that_are_no_law_are_refused(name):
    with pytest.raises(ValueError, match="chances: expected"):
        games.ExtensiveGame.from_tree(
            0,
            lambda state: (
                games.Chance([(p, 1) for p in LAWS[name]]) if state == 0 else games.Terminal(0.0)
            ),
        )
    with pytest.raises(TypeError, match="chances"):
        games.Chance([("half", 1), (0.5, 2)])


def test_numbers_of_numpy_and_chances_of_0_are_chances():
    tenths = games.Chance([(p, k) for k, p in enumerate(np.full(10, 0.1))])
    assert tenths == (tenths.outcomes,)
    assert len(games.Chance([(0.0, 1), (np.float32(1.0), 2)]).outcomes) == 2


# ------------------------------------------------------------------------------ memory


def spoilt(pair):
    for side in pair:
        side.exp_()


@pytest.mark.parametrize("more", [{}, {"magnet_rate": 1.0}, {"extragradient": True}])
@pytest.mark.parametrize("kind", ["matrix", "dilated", "behavioural"])
def test_iterates_own_their_memory(tree, kind, more, generator):
    if kind == "matrix":
        game, form = games.MatrixGame(torch.randn(3, 4, generator=generator, dtype=F64)), "dilated"
        start = tuple(torch.randn(2, k, generator=generator, dtype=F64).log_softmax(-1)
                      for k in (3, 4))  # fmt: skip
    else:
        game, form, start = tree, kind, behave(tree, generator, (2,))
    kept = [side.clone() for side in start]
    settings = {"temperature": 0.3, "step_size": 0.2, "form": form, "start": start, **more}
    wanted = [tuple(side.clone() for side in now)
              for now in games.magnetic_iterates(game, 4, **settings)]  # fmt: skip
    for now, then in zip(games.magnetic_iterates(game, 4, **settings), wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(now, then, strict=True))
        spoilt(now)
    for count in (0, 1):
        spoilt(games.magnetic_mirror_descent(game, count, **settings))
    assert all(torch.equal(a, b) for a, b in zip(start, kept, strict=True))


def test_a_start_for_many_settings_is_written_once_for_each(tree):
    tau = torch.tensor([0.1, 0.2, 0.3], dtype=F64)
    found = games.magnetic_mirror_descent(tree, 0, tau, 0.1)
    found[0][0].fill_(0)
    assert torch.equal(found[0][1], tree.uniform()[0])
    reply = games.quantal_response(games.MatrixGame(torch.zeros(2, 2, dtype=F64)), tau)
    reply[0][0].fill_(0)
    assert (reply[0][1] != 0).all()


def test_games_copy_what_they_are_given():
    buffer = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=F64)
    game = games.MatrixGame(buffer)
    before = games.nash_conv(game, game.uniform())
    buffer.fill_(math.nan)
    assert torch.equal(games.nash_conv(game, game.uniform()), before)
    arrays = (
        (torch.tensor([-1]), torch.tensor([-1])),
        (torch.ones(1, 2, dtype=torch.bool), torch.tensor([[True, False]])),
        torch.tensor([[0, 0], [1, 0]]),
        torch.tensor([1.0, -1.0], dtype=F64),
        torch.ones(2, dtype=F64),
    )
    small = games.ExtensiveGame(*arrays)
    value = small.value(small.uniform()).clone()
    arrays[1][1].fill_(True)
    for array in (*arrays[0], *arrays[2:]):
        array.zero_()
    assert torch.equal(small.value(small.uniform()), value)
    assert small.uniform()[1][0, 1] == -math.inf


# ------------------------------------------------------------------------------ gradients


def test_gradients_flow_through_trees(tree, generator):
    raw = tuple(
        torch.randn(legal.shape, generator=generator, dtype=F64).requires_grad_()
        for legal in tree.legal
    )

    def through(function):
        def call(*logits):
            pair = [
                z.masked_fill(~legal, -math.inf).log_softmax(-1)
                for z, legal in zip(logits, tree.legal, strict=True)
            ]
            found = function(tuple(pair))
            sides = found if isinstance(found, tuple) else (found,)
            return tuple(side.exp() if isinstance(found, tuple) else side for side in sides)

        return call

    for function in (
        tree.value,
        tree.nash_conv,
        tree.action_values,
        lambda pair: games.divergence(tree, pair, tree.uniform()),
        lambda pair: games.divergence(tree, tree.uniform(), pair),
        lambda pair: games.magnetic_mirror_descent(tree, 2, 0.3, 0.4, start=pair),
        lambda pair: games.magnetic_mirror_descent(tree, 1, 0.3, 0.4, start=pair, form=B),
    ):
        assert torch.autograd.gradcheck(through(function), raw)


B = "behavioural"


def test_gradients_are_finite_where_a_probability_is_0(tree):
    pair = tuple(side.clone().requires_grad_() for side in tree.uniform())
    total = tree.value(pair) + games.nash_conv(tree, pair)
    total = total + games.divergence(tree, pair, tree.uniform())
    for slope in torch.autograd.grad(total, pair):
        assert slope.isfinite().all()
    matrix = games.MatrixGame(torch.eye(2, dtype=F64))
    corner = torch.tensor([0.0, -math.inf], dtype=F64).requires_grad_()
    far = games.divergence(matrix, (corner, corner), matrix.uniform())
    assert abs(far.item() - 2 * math.log(2)) < 1e-15
    assert torch.autograd.grad(far, corner)[0].isfinite().all()


def test_the_derivative_of_an_equilibrium_is_that_of_its_equation(generator):
    payoff = torch.randn(2, 3, generator=generator, dtype=F64).requires_grad_()
    tau = torch.tensor(0.4, dtype=F64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, t: games.quantal_response(games.MatrixGame(a), t), (payoff, tau)
    )
    for answer in (games.solve_matrix_game(payoff), games.linear_program(games.MatrixGame(payoff))):
        assert not any(side.requires_grad for side in answer if isinstance(side, torch.Tensor))


# ------------------------------------------------------------------------------ numbers, dtypes


def test_numbers_of_numpy_are_numbers_and_arrays_are_refused_by_name(tree):
    payoff = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    game = games.MatrixGame(payoff)
    calls = {
        "step_size": lambda x: games.magnetic_mirror_descent(tree, 2, 0.5, x),
        "temperature": lambda x: games.magnetic_mirror_descent(tree, 2, x, 0.5),
        "magnet_rate": lambda x: games.magnetic_mirror_descent(tree, 2, 0.5, 0.5, magnet_rate=x),
        "tolerance": lambda x: games.quantal_response(game, 0.5, tolerance=x),
        "gap": lambda x: games.solve_matrix_game(payoff, x),
        "scale": lambda x: games.inverse_root(x),
    }
    calls |= {
        "temperature ": lambda x: games.quantal_response(game, x),
        "temperature  ": lambda x: games.guaranteed_step(game, x),
    }
    for name, call in calls.items():
        for number in (np.float64(0.5), np.float32(0.5), np.int64(1)):
            call(number)
        for array in (np.array(0.5), np.array([0.5, 0.5])):
            with pytest.raises(TypeError, match=f"{name.strip()}: expected a number"):
                call(array)
    assert games.magnetic_mirror_descent(tree, np.int64(1), 0.5, 0.5)


@pytest.mark.parametrize("name", ["random", "whole numbers", "zero", "one action", "dominated"])
def test_float32_is_kept_and_met(name):
    payoff = degenerate()[name].float()
    game = games.MatrixGame(payoff)
    answers = {
        "programme": games.linear_program(game)[1],
        "solver": games.solve_matrix_game(payoff),
        "quantal": games.quantal_response(game, 1e-3),
        "descent": games.magnetic_mirror_descent(game, 5, 0.5, math.inf),
    }
    for which, pair in answers.items():
        assert all(side.dtype == torch.float32 for side in pair)
        assert all(not side.isnan().any() for side in pair)
        limit = {"programme": 1e-5, "solver": 4e-3, "quantal": 1e-2, "descent": math.inf}[which]
        assert games.nash_conv(game, pair) <= limit * max(payoff.abs().max().item(), 1)
    small = uneven(dtype=torch.float32)
    found = games.linear_program(small)[1]
    assert found[0].dtype == torch.float32
    assert games.nash_conv(small, found) < 1e-5


@pytest.mark.parametrize("tau", [1e-3, 1.0])
@pytest.mark.parametrize("step", [1e30, math.inf])
def test_float32_masks(tau, step):
    small = uneven(dtype=torch.float32)
    assert off_legal(small, games.magnetic_mirror_descent(small, 2, tau, step)) == 0
