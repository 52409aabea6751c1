"""Matrix games: batches, units, certificates and extreme temperatures."""

import itertools
import math

import pytest
import torch

from mdtheory.nlhf import games
from tests.nlhf.games_cases import F64


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(21)


# ---------------------------------------------------------------------------------- matrix games


def test_a_batch_of_matrix_games_is_each_of_them(generator):
    payoff = torch.randn(2, 3, 4, 5, generator=generator, dtype=F64)
    many = games.MatrixGame(payoff)
    pair = tuple(
        torch.randn(side.shape, generator=generator, dtype=F64).log_softmax(-1)
        for side in many.uniform()
    )
    descend = {"temperature": 0.3, "step_size": 0.1, "iterations": 5}
    whole = games.magnetic_mirror_descent(many, start=pair, **descend)
    for i, j in itertools.product(range(2), range(3)):
        one, mine = games.MatrixGame(payoff[i, j]), tuple(side[i, j] for side in pair)
        x, y = (side.exp() for side in mine)
        gap = (payoff[i, j] @ y).max() - (payoff[i, j].T @ x).min()
        torch.testing.assert_close(games.nash_conv(many, pair)[i, j], gap)
        torch.testing.assert_close(games.exploitability(one, mine), gap / 2)
        torch.testing.assert_close(many.value(pair)[i, j], x @ payoff[i, j] @ y)
        single = games.magnetic_mirror_descent(one, start=mine, **descend)
        for a, b in zip(whole, single, strict=True):
            torch.testing.assert_close(a[i, j], b)
        best = one.best_response(mine)
        assert best[0].argmax() == (payoff[i, j] @ y).argmax()
        assert best[1].argmax() == (payoff[i, j].T @ x).argmin()


def test_one_game_and_many_temperatures(generator):
    game = games.MatrixGame(torch.randn(3, 4, generator=generator, dtype=F64) / 4)
    tau = torch.tensor([[0.1], [0.4]], dtype=F64)
    eta = torch.tensor([0.05, 0.1, 0.2], dtype=F64)
    whole = games.magnetic_mirror_descent(game, 7, tau, eta)
    assert whole[0].shape == (2, 3, 3)
    for i, j in itertools.product(range(2), range(3)):
        one = games.magnetic_mirror_descent(game, 7, tau[i, 0].item(), eta[j].item())
        for a, b in zip(whole, one, strict=True):
            torch.testing.assert_close(a[i, j], b)


def test_the_two_conventions_of_exploitability(poker):
    game = games.MatrixGame(torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=F64))
    pair = game.uniform()
    assert games.nash_conv(game, pair) == 0.5
    assert games.exploitability(game, pair) == 0.25
    even = poker["kuhn"].uniform()
    assert games.exploitability(poker["kuhn"], even) * 2 == games.nash_conv(poker["kuhn"], even)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 2), (6, 6)])
def test_linear_programme_solver_and_descent_find_the_same_value(shape, generator):
    game = games.MatrixGame(2 * torch.rand(shape, generator=generator, dtype=F64) - 1)
    value, pair = games.linear_program(game)
    assert abs(games.nash_conv(game, pair)) < 1e-9
    assert abs(game.value(pair) - value) < 1e-9
    solved = games.solve_matrix_game(game.payoff, gap=1e-5)
    assert games.nash_conv(game, solved) <= 1e-5
    assert abs(game.value(solved) - value) < 1e-5
    cold = games.magnetic_mirror_descent(game, 3000, 0.0, 0.9, extragradient=True)
    assert abs(game.value(cold) - value) < 1e-2


def test_pure_equilibria_dominated_actions_and_equal_payoffs():
    saddle = torch.tensor([[2.0, 3.0], [1.0, -4.0]], dtype=F64)
    x, y = games.solve_matrix_game(saddle, gap=1e-6)
    assert x.exp()[0] > 0.999
    assert y.exp()[0] > 0.999
    flat = torch.full((3, 2, 4), 7.0, dtype=F64)
    x, _ = games.solve_matrix_game(flat, gap=1e-12)
    assert games.nash_conv(games.MatrixGame(flat), (x, _)).abs().max() < 1e-12
    nothing = games.MatrixGame(torch.zeros(2, 3, dtype=F64))
    start = torch.tensor([0.1, 0.9], dtype=F64).log(), nothing.uniform()[1]
    moved = games.magnetic_mirror_descent(nothing, 5, 0.3, 1.0, start=start)
    away = math.log(0.9 / 0.1) / 1.3**5
    assert abs((moved[0][1] - moved[0][0]).item() - away) < 1e-12


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1e3, 1e200])
def test_the_solver_does_not_mind_units(scale, generator):
    payoff = 2 * torch.rand(2, 20, 30, generator=generator, dtype=F64) - 1
    plain = games.solve_matrix_game(payoff, gap=1e-3)
    scaled = games.solve_matrix_game(scale * payoff, gap=scale * 1e-3)
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(a.exp(), b.exp())


def test_the_certificate_is_the_gap_of_the_answer(generator):
    kinds = {
        "uniform": 2 * torch.rand(60, 60, generator=generator, dtype=F64) - 1,
        "signs": torch.randint(0, 2, (60, 60), generator=generator).double() * 2 - 1,
        "low rank": torch.randn(60, 3, generator=generator, dtype=F64)
        @ torch.randn(3, 60, generator=generator, dtype=F64)
        / 10,
        "cycle": torch.eye(60, dtype=F64).roll(1, 0) - torch.eye(60, dtype=F64).roll(-1, 0),
    }
    for payoff in kinds.values():
        x, y = (side.exp() for side in games.solve_matrix_game(payoff, gap=1e-3))
        assert (payoff @ y).max() - (payoff.T @ x).min() <= 1e-3
        torch.testing.assert_close(x.sum(), torch.ones((), dtype=F64))
    single = kinds["uniform"].float()
    assert games.solve_matrix_game(single)[0].dtype == torch.float32


def test_the_solver_says_when_it_does_not_get_there(generator):
    payoff = torch.rand(30, 30, generator=generator, dtype=F64)
    with pytest.raises(ArithmeticError, match="was not reached in 3 rounds"):
        games.solve_matrix_game(payoff, gap=1e-9, iterations=3)


def test_quantal_response_at_extreme_temperatures(generator):
    game = games.MatrixGame(2 * torch.rand(50, 6, 5, generator=generator, dtype=F64) - 1)
    cold, hot = games.quantal_response(game, 1e-4), games.quantal_response(game, 1e6)
    assert games.nash_conv(game, cold).max() < 1e-3
    for side, even in zip(hot, game.uniform(), strict=True):
        torch.testing.assert_close(side, even, rtol=0, atol=1e-5)
    tau = torch.rand(50, generator=generator, dtype=F64) + 0.01
    tensor = games.quantal_response(game, tau)
    for k in (0, 17):
        one = games.quantal_response(games.MatrixGame(game.payoff[k]), tau[k].item())
        torch.testing.assert_close(tensor[0][k], one[0], rtol=0, atol=1e-9)


def test_probabilities_of_1e_minus_300_stay_exact():
    game = games.MatrixGame(torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64))
    start = (torch.tensor([-700.0, 0.0], dtype=F64), torch.tensor([0.0, -2000.0], dtype=F64))
    one = games.magnetic_mirror_descent(game, 1, 0.0, 0.5, start=start)
    assert abs((one[0][0] - one[0][1]).item() - (-700 + 0.5 * 2)) < 1e-12
    assert abs((one[1][0] - one[1][1]).item() - (2000 + 0.5 * 2)) < 1e-9
    last = games.magnetic_mirror_descent(game, 1500, 0.2, 0.2, start=start)
    assert games.nash_conv(game, last) < 1e-3
    never = (torch.tensor([-math.inf, 0.0], dtype=F64), game.uniform()[1])
    assert games.magnetic_mirror_descent(game, 3, 0.1, 0.1, start=never)[0][0] == -math.inf


def test_divergence_near_and_far():
    game = games.MatrixGame(torch.zeros(2, 2, dtype=F64))
    even = game.uniform()
    near = tuple(torch.tensor([0.5 + 1e-9, 0.5 - 1e-9], dtype=F64).log() for _ in range(2))
    assert abs(games.divergence(game, near, even).item() / 4e-18 - 1) < 1e-6
    pure = tuple(torch.tensor([0.0, -math.inf], dtype=F64) for _ in range(2))
    assert abs(games.divergence(game, pure, even).item() - 2 * math.log(2)) < 1e-14
    assert games.divergence(game, even, pure) == math.inf
    assert games.divergence(game, pure, pure) == 0
