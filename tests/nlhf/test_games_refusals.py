"""Games: what cannot be meant is refused, with the name of what was wrong."""

import math

import pytest
import torch

from mdtheory.nlhf import games

F64 = torch.float64
MATRIX = games.MatrixGame(torch.tensor([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.0]], dtype=F64))
X, Y = MATRIX.uniform()
KUHN = games.kuhn_poker()
FIRST, SECOND = KUHN.uniform()
ARRAYS = {
    "parents": (torch.tensor([-1]), torch.tensor([-1, 0])),
    "legal": (torch.ones(1, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)),
    "terminals": torch.tensor([[0, 0], [1, 2]]),
    "payoff": torch.tensor([1.0, -1.0], dtype=F64),
    "chance": torch.tensor([1.0, 1.0], dtype=F64),
}


def tree(**changed):
    return games.ExtensiveGame(**{**ARRAYS, **changed})


def descend(game=MATRIX, iterations=2, temperature=0.1, step_size=0.1, **more):
    return games.magnetic_mirror_descent(game, iterations, temperature, step_size, **more)


def told(states):
    return games.ExtensiveGame.from_tree(0, lambda state: states[state])


END = games.Terminal(0.0)


def decide(player, information, *following):
    return games.Decision(player, information, [(str(i), s) for i, s in enumerate(following)])


def number(*shape):
    return torch.ones(*shape, dtype=F64)


CASES = {
    "a payoff that is a list": (lambda: games.MatrixGame([[1.0]]), TypeError, "payoff"),
    "a payoff of whole numbers": (
        lambda: games.MatrixGame(torch.ones(2, 2, dtype=torch.int64)), TypeError, "payoff",
    ),
    "a payoff of one axis": (lambda: games.MatrixGame(number(3)), ValueError, "payoff"),
    "an empty payoff": (lambda: games.MatrixGame(number(0, 3)), ValueError, "payoff"),
    "a payoff with a NaN": (
        lambda: games.MatrixGame(MATRIX.payoff * math.nan), ValueError, "payoff",
    ),
    "an infinite payoff": (lambda: games.MatrixGame(MATRIX.payoff / 0), ValueError, "payoff"),
    "no game": (lambda: games.nash_conv(MATRIX.payoff, (X, Y)), TypeError, "game"),
    "one strategy": (lambda: games.exploitability(MATRIX, X), TypeError, "strategies"),
    "three strategies": (
        lambda: games.exploitability(MATRIX, (X, Y, Y)), TypeError, "length 3",
    ),
    "strategies the wrong way round": (
        lambda: games.exploitability(MATRIX, (Y, X)), ValueError, r"strategies\[0\]",
    ),
    "a strategy in float32": (
        lambda: games.exploitability(MATRIX, (X.float(), Y)), TypeError, r"strategies\[0\]",
    ),
    "probabilities": (
        lambda: games.exploitability(MATRIX, (X.exp(), Y.exp())), ValueError, r"\.log\(\)",
    ),
    "a strategy that sums to 2": (
        lambda: games.exploitability(MATRIX, (X, Y + math.log(2))), ValueError,
        r"strategies\[1\].*sum of 2",
    ),
    "a strategy with a NaN": (
        lambda: games.exploitability(MATRIX, (X * math.nan, Y)), ValueError, r"strategies\[0\]",
    ),
    "a strategy of no action": (
        lambda: games.exploitability(MATRIX, (X - math.inf, Y)), ValueError, "sum to 1",
    ),
    "batches that do not fit": (
        lambda: games.exploitability(MATRIX, (X.expand(2, 2), Y.expand(3, 3))), ValueError,
        "broadcast",
    ),
    "an illegal action": (
        lambda: games.nash_conv(tree(legal=(torch.tensor([[True, True]]), torch.tensor(
            [[True, True], [True, False]]))), (FIRST[:1], FIRST[:2])),
        ValueError, r"strategies\[1\].*not legal",
    ),
    "rows of another game": (
        lambda: games.nash_conv(KUHN, (FIRST[:3], SECOND)), ValueError, r"strategies\[0\]",
    ),
    "two batch shapes in a tree": (
        lambda: games.nash_conv(KUHN, (FIRST.expand(2, 6, 2), SECOND)), ValueError, "batch shape",
    ),
    "probabilities in a tree": (
        lambda: games.nash_conv(KUHN, (FIRST.exp(), SECOND)), ValueError, r"\.log\(\)",
    ),
    "a negative temperature": (lambda: descend(temperature=-0.1), ValueError, "temperature"),
    "an infinite temperature": (lambda: descend(temperature=math.inf), ValueError, "temperature"),
    "a temperature in words": (lambda: descend(temperature="0.1"), TypeError, "temperature"),
    "temperatures in float32": (
        lambda: descend(temperature=torch.ones(2)), TypeError, "temperature",
    ),
    "temperatures with a NaN": (
        lambda: descend(temperature=number(2) * math.nan), ValueError, "temperature",
    ),
    "a temperature that falls below 0": (
        lambda: descend(temperature=lambda t: 1.5 - t), ValueError, r"temperature\(2\)",
    ),
    "a step of 0": (lambda: descend(step_size=0.0), ValueError, "step_size"),
    "a step that falls to 0": (
        lambda: descend(step_size=lambda t: 2.0 - t), ValueError, r"step_size\(2\)",
    ),
    "steps of 0": (lambda: descend(step_size=0 * number(2)), ValueError, "step_size"),
    "an infinite step without a magnet": (
        lambda: descend(temperature=0.0, step_size=math.inf), ValueError, "step_size",
    ),
    "a step that overflows": (
        lambda: descend(games.MatrixGame(1e300 * MATRIX.payoff), temperature=0.0, step_size=1e300),
        ValueError, "step_size",
    ),
    "no step, no temperature": (
        lambda: descend(temperature=0.0, step_size=None), ValueError, "step_size",
    ),
    "no step for a schedule": (
        lambda: descend(temperature=games.inverse_root(1.0), step_size=None), ValueError,
        "step_size",
    ),
    "no step for the behavioural form": (
        lambda: descend(KUHN, step_size=None, form="behavioural"), ValueError, "step_size",
    ),
    "batches of settings that do not fit": (
        lambda: descend(temperature=number(2), step_size=number(3)), ValueError, "broadcast",
    ),
    "settings that do not fit the games": (
        lambda: descend(games.MatrixGame(number(4, 2, 2)), temperature=number(3)), ValueError,
        "broadcast",
    ),
    "another form": (lambda: descend(form="normal"), ValueError, "form"),
    "a negative number of steps": (lambda: descend(iterations=-1), ValueError, "iterations"),
    "half a step": (lambda: descend(iterations=1.5), TypeError, "iterations"),
    "a magnet rate above 1": (lambda: descend(magnet_rate=1.5), ValueError, "magnet_rate"),
    "a magnet that excludes an action": (
        lambda: descend(magnet=(torch.tensor([0.0, -math.inf], dtype=F64), Y)), ValueError,
        "magnet",
    ),
    "a start that is none": (lambda: descend(start=(X, X)), ValueError, r"start\[1\]"),
    "iterates are checked at the call": (
        lambda: games.magnetic_iterates(MATRIX, 2, -1.0, 0.1), ValueError, "temperature",
    ),
    "a scale of 0": (lambda: games.inverse_root(0.0), ValueError, "scale"),
    "a gap of 0": (lambda: games.solve_matrix_game(MATRIX.payoff, 0.0), ValueError, "gap"),
    "no rounds": (
        lambda: games.solve_matrix_game(MATRIX.payoff, iterations=0), ValueError, "iterations",
    ),
    "solve a vector": (lambda: games.solve_matrix_game(number(3)), ValueError, "payoff"),
    "solve a NaN": (
        lambda: games.solve_matrix_game(MATRIX.payoff * math.nan), ValueError, "payoff",
    ),
    "quantal response of a tree": (
        lambda: games.quantal_response(KUHN, 0.1), TypeError, "game",
    ),
    "quantal response at 0": (
        lambda: games.quantal_response(MATRIX, 0.0), ValueError, "temperature",
    ),
    "quantal responses at 0": (
        lambda: games.quantal_response(MATRIX, 0 * number(2)), ValueError, "temperature",
    ),
    "quantal responses in float32": (
        lambda: games.quantal_response(MATRIX, torch.ones(2)), TypeError, "temperature",
    ),
    "quantal responses that do not fit": (
        lambda: games.quantal_response(games.MatrixGame(number(4, 2, 2)), number(3)), ValueError,
        "temperature",
    ),
    "quantal response with half a magnet": (
        lambda: games.quantal_response(
            MATRIX, 0.1, (torch.tensor([0.0, -math.inf], dtype=F64), Y)
        ),
        ValueError, "magnet",
    ),
    "a linear programme of many": (
        lambda: games.linear_program(games.MatrixGame(number(2, 2, 2))), ValueError, "game",
    ),
    "the complexity of a matrix": (lambda: games.complexity(MATRIX), TypeError, "game"),
    "the smoothness of a matrix of numbers": (
        lambda: games.smoothness(MATRIX.payoff), TypeError, "game",
    ),
    "a guaranteed step below 0": (
        lambda: games.guaranteed_step(MATRIX, -1.0), ValueError, "temperature",
    ),
    "guaranteed steps below 0": (
        lambda: games.guaranteed_step(MATRIX, -number(2)), ValueError, "temperature",
    ),
    "payoffs with a NaN": (
        lambda: tree(payoff=ARRAYS["payoff"] * math.nan), ValueError, "payoff",
    ),
    "a chance of 0": (lambda: tree(chance=0 * ARRAYS["chance"]), ValueError, "chance"),
    "chances in float32": (lambda: tree(chance=torch.ones(2)), TypeError, "chance"),
    "terminals that are no numbers": (
        lambda: tree(terminals=number(2, 2)), TypeError, "terminals",
    ),
    "too few terminals": (
        lambda: tree(terminals=ARRAYS["terminals"][:1]), ValueError, "terminals",
    ),
    "a sequence that is not there": (
        lambda: tree(terminals=torch.tensor([[0, 0], [2, 2]])), ValueError, "terminals",
    ),
    "a parent that is not there": (
        lambda: tree(parents=(torch.tensor([-2]), torch.tensor([-1, 0]))), ValueError,
        r"parents\[0\]",
    ),
    "a row that is its own parent": (
        lambda: tree(parents=(torch.tensor([-1]), torch.tensor([-1, 2]))), ValueError, "parents",
    ),
    "legal that is no truth": (
        lambda: tree(legal=(number(1, 2), ARRAYS["legal"][1])), TypeError, r"legal\[0\]",
    ),
    "legal of another length": (
        lambda: tree(legal=(ARRAYS["legal"][1], ARRAYS["legal"][1])), ValueError, r"legal\[0\]",
    ),
    "legal of another width": (
        lambda: tree(legal=(ARRAYS["legal"][0], torch.ones(2, 3, dtype=torch.bool))), ValueError,
        r"legal\[1\]",
    ),
    "a row without an action": (
        lambda: tree(legal=(~ARRAYS["legal"][0], ARRAYS["legal"][1])), ValueError, r"legal\[0\]",
    ),
    "an end behind an illegal action": (
        lambda: tree(legal=(torch.tensor([[True, False]]), ARRAYS["legal"][1])), ValueError,
        "terminals",
    ),
    "chances that do not sum to 1": (
        lambda: told({0: games.Chance([(0.5, 1), (0.4, 1)]), 1: END}), ValueError, "chances",
    ),
    "a third player": (lambda: told({0: decide(2, "a", 1), 1: END}), ValueError, "player"),
    "no move": (lambda: told({0: decide(0, "a")}), ValueError, "move"),
    "a player who forgets": (
        lambda: told({0: decide(0, "a", 1, 2), 1: decide(0, "b", 3), 2: decide(0, "b", 3),
                      3: END}),
        ValueError, "perfect recall",
    ),
    "moves that tell": (
        lambda: told({0: games.Chance([(0.5, 1), (0.5, 2)]), 1: decide(0, "a", 3),
                      2: decide(0, "a", 3, 3), 3: END}),
        ValueError, "moves",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_meant_is_refused_by_name(name):
    call, error, words = CASES[name]
    with pytest.raises(error, match=words):
        call()


def test_extremes_that_are_meant_work():
    full = descend(temperature=0.2, step_size=math.inf)
    again = descend(iterations=1, temperature=0.2, step_size=math.inf, start=descend(
        iterations=1, temperature=0.2, step_size=math.inf))  # fmt: skip
    torch.testing.assert_close(full[0], again[0])
    wild = descend(temperature=1e-300, step_size=1e300)
    assert all(not bool(side.isnan().any()) for side in wild)
    hot = descend(temperature=1e300, step_size=1.0)
    torch.testing.assert_close(hot[0], X)
    assert descend(KUHN, 3, 1e-3, 1e6)[0].exp().sum(-1).allclose(number(6))


def test_a_game_without_payoffs_bounds_no_step():
    nothing = games.MatrixGame(torch.zeros(2, 2, dtype=torch.float64))
    assert games.guaranteed_step(nothing, 0.0).item() == math.inf
    pair = games.magnetic_mirror_descent(nothing, 3, 0.5)
    assert games.nash_conv(nothing, pair).item() == 0


def test_iterates_that_run_out_of_numbers_are_refused():
    huge = games.MatrixGame(1e10 * torch.eye(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="step_size: expected steps that keep"):
        list(games.magnetic_iterates(huge, 3, 0.0, 1e308))
