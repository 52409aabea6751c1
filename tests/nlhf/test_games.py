"""Games: what the functions do, against brute force, other solvers and other libraries."""

import itertools
import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mdtheory.nlhf import games

F64 = torch.float64
UNIFORM_GAPS = {"kuhn": 11 / 12, "leduc": 4.7472222222}
VALUES = {"kuhn": -1 / 18, "leduc": -0.0856064240}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(21)


@pytest.fixture(scope="module")
def poker():
    return {"kuhn": games.kuhn_poker(), "leduc": games.leduc_poker()}


def behave(game, generator, batch=(), spread=1.5):
    return tuple(
        (spread * torch.randn(*batch, *legal.shape, generator=generator, dtype=F64))
        .masked_fill(~legal, -math.inf)
        .log_softmax(-1)
        for legal in game.legal
    )


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


# ------------------------------------------------------------------------------- extensive games


@pytest.mark.parametrize("name", ["kuhn", "leduc"])
def test_the_constants_of_poker(poker, name):
    game = poker[name]
    value, pair = games.linear_program(game)
    assert abs(value - VALUES[name]) < 1e-9
    assert games.nash_conv(game, pair).abs() < 1e-9
    assert abs(games.nash_conv(game, game.uniform()) - UNIFORM_GAPS[name]) < 1e-9
    assert sum(game.rows) == {"kuhn": 12, "leduc": 936}[name]


def walk(rows, describe, state, pair, seen):
    """Expected payoff by plain recursion, and how many decisions there are: no sequences here."""
    here = describe(state)
    if isinstance(here, games.Terminal):
        return here.payoff
    if isinstance(here, games.Chance):
        return sum(p * walk(rows, describe, s, pair, seen) for p, s in here.outcomes)
    seen.append(here.player)
    chosen = pair[here.player][rows[here.player][here.information]]
    return sum(
        chosen[a] * walk(rows, describe, s, pair, seen) for a, (_, s) in enumerate(here.moves)
    )


@pytest.mark.parametrize(("name", "decisions"), [("kuhn", 24), ("leduc", 3780)])
def test_values_by_recursion(poker, generator, name, decisions):
    from mdtheory.nlhf.games import poker as rules

    game, stakes = poker[name], {"kuhn": rules.KUHN, "leduc": rules.LEDUC}[name]
    count = 20 if name == "kuhn" else 2
    pairs = behave(game, generator, (count,))
    found = game.value(pairs)
    rows = [{key: row for row, key in enumerate(names)} for names in game.information]
    for k in range(count):
        one, seen = tuple(side[k].exp().tolist() for side in pairs), []
        wanted = walk(rows, lambda hand: rules._describe(stakes, hand), rules._Hand(), one, seen)
        assert abs(wanted - found[k].item()) < 1e-12
        assert len(seen) == decisions


def test_best_responses_by_trying_all_pure_plans(poker, generator):
    game = poker["kuhn"]
    pair = behave(game, generator)
    gains = []
    for player in (0, 1):
        rows, width = game.legal[player].shape
        best = -math.inf
        plans = torch.full((width**rows, rows, width), -math.inf, dtype=F64)
        for code in range(width**rows):
            for k in range(rows):
                plans[code, k, code // width**k % width] = 0
        both = [side.expand(width**rows, *side.shape) for side in pair]
        both[player] = plans
        best = (game.value(tuple(both)) * (1 if player == 0 else -1)).max()
        gains.append(best - game.value(pair) * (1 if player == 0 else -1))
        answer = list(pair)
        answer[player] = game.best_response(pair)[player]
        sign = 1 if player == 0 else -1
        assert abs(game.value(tuple(answer)) * sign - best) < 1e-12
    assert abs(games.nash_conv(game, pair) - sum(gains)) < 1e-12


def test_action_values_are_means_given_the_row(poker, generator):
    """By taking an action in one row for sure, and comparing what that changes."""
    game = poker["kuhn"]
    pair = behave(game, generator)
    found = game.action_values(pair)
    for player in (0, 1):
        sign = 1 if player == 0 else -1
        for row in range(game.rows[player]):
            values = []
            for action in range(game.actions):
                changed = [side.clone() for side in pair]
                changed[player][row] = -math.inf
                changed[player][row, action] = 0
                values.append(sign * game.value(tuple(changed)).item())
            slope = values[1] - values[0]
            # The change is the difference of the values times the reach of the row by all.
            weights = game.reach(game.join(pair))
            own = game.row_weights(weights)[game.position][row + player * game.rows[0]]
            card, _, said = game.information[player][row]
            others = 0.0
            for other in range(3):
                if other == card:
                    continue
                led = 1 / 6
                for turn, move in enumerate(said):
                    if turn % 2 != player:
                        key = (other, None, said[:turn])
                        there = list(game.information[1 - player]).index(key)
                        names = game.moves[1 - player][there]
                        led *= pair[1 - player][there, names.index(move)].exp().item()
                others += led
            wanted = (found[player][row, 1] - found[player][row, 0]) * own * others
            assert abs(slope - wanted.item()) < 1e-12


def test_a_row_that_is_never_reached_has_values_of_zero(poker):
    game = poker["kuhn"]
    pair = list(game.uniform())
    # The second player never bets, so the first never has to answer a bet.
    first = pair[1].clone()
    for row, names in enumerate(game.moves[1]):
        if "r" in names:
            first[row] = torch.tensor([0.0, -math.inf], dtype=F64)
    q = game.action_values((pair[0], first))[0]
    answers = [row for row, name in enumerate(game.information[0]) if name[2] == "cr"]
    assert len(answers) == 3
    assert (q[answers] == 0).all()


def test_many_strategies_at_once(poker, generator):
    game = poker["leduc"]
    pairs = behave(game, generator, (2, 3))
    gaps, values = games.nash_conv(game, pairs), game.value(pairs)
    q = game.action_values(pairs)
    moved = {
        form: games.magnetic_mirror_descent(game, 2, 0.3, 0.5, start=pairs, form=form)
        for form in ("dilated", "behavioural")
    }
    for i, j in ((0, 0), (1, 2)):
        one = tuple(side[i, j] for side in pairs)
        torch.testing.assert_close(games.nash_conv(game, one), gaps[i, j])
        torch.testing.assert_close(game.value(one), values[i, j])
        torch.testing.assert_close(game.action_values(one)[1], q[1][i, j])
        for form, whole in moved.items():
            single = games.magnetic_mirror_descent(game, 2, 0.3, 0.5, start=one, form=form)
            torch.testing.assert_close(single[0], whole[0][i, j])


def test_joining_and_splitting_are_inverse(poker, generator):
    for game in poker.values():
        pair = behave(game, generator, (2,))
        for a, b in zip(game.split(game.join(pair)), pair, strict=True):
            assert torch.equal(a, b)


def matching_in_a_tree(state):
    """Matching pennies, move after move: the second player does not see the first move."""
    if len(state) == 2:
        return games.Terminal(1.0 if state[0] == state[1] else -1.0)
    player = len(state)
    return games.Decision(player, "?", [(m, state + m) for m in "ht"])


def test_a_matrix_game_in_a_tree_descends_alike(generator):
    tree = games.ExtensiveGame.from_tree("", matching_in_a_tree)
    matrix = games.MatrixGame(torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64))
    assert games.smoothness(tree) == games.smoothness(matrix) == 1
    start = tuple(
        torch.randn(1, 2, generator=generator, dtype=F64).log_softmax(-1) for _ in range(2)
    )
    flat = tuple(side[0] for side in start)
    for extragradient in (False, True):
        wanted = games.magnetic_mirror_descent(
            matrix, 20, 0.3, 0.2, start=flat, extragradient=extragradient
        )
        for form in ("dilated", "behavioural"):
            found = games.magnetic_mirror_descent(
                tree, 20, 0.3, 0.2, start=start, extragradient=extragradient, form=form
            )
            for a, b in zip(found, wanted, strict=True):
                torch.testing.assert_close(a[0], b, rtol=0, atol=1e-13)


def test_a_player_who_never_moves():
    def describe(state):
        if state == 0:
            return games.Chance([(0.25, 1), (0.75, 2)])
        if state in (1, 2):
            return games.Decision(1, state, [("a", 10 * state), ("b", 10 * state + 1)])
        return games.Terminal({10: 1.0, 11: 2.0, 20: -4.0, 21: 0.0}[state])

    game = games.ExtensiveGame.from_tree(0, describe)
    assert game.rows == (1, 2)
    value, pair = games.linear_program(game)
    assert abs(value - (0.25 * 1 - 0.75 * 4)) < 1e-9
    assert abs(games.nash_conv(game, pair)) < 1e-9
    even = game.uniform()
    assert abs(game.value(even) - (0.25 * 1.5 - 0.75 * 2)) < 1e-12
    assert abs(games.nash_conv(game, even) - (game.value(even) - value)) < 1e-9
    moved = games.magnetic_mirror_descent(game, 600, 0.1, 0.5)
    answer = torch.tensor([[-1.0, -2.0], [4.0, 0.0]], dtype=F64)
    weight = torch.tensor([[0.25], [0.75]], dtype=F64)
    torch.testing.assert_close(moved[1], (weight * answer / 0.1).log_softmax(-1), rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------ the descent


def test_iterates_and_the_last_strategies(poker):
    game = poker["kuhn"]
    settings = {"temperature": games.inverse_root(1.0), "step_size": games.inverse_root(0.5)}
    run = list(games.magnetic_iterates(game, 6, form="behavioural", **settings))
    last = games.magnetic_mirror_descent(game, 6, form="behavioural", **settings)
    assert len(run) == 7
    assert torch.equal(run[-1][0], last[0])
    assert torch.equal(run[0][0], game.uniform()[0])
    assert torch.equal(games.magnetic_mirror_descent(game, 0, 0.1, 0.1)[1], game.uniform()[1])
    by_hand = game.uniform()
    for t in range(1, 7):
        tau, eta = 1 / math.sqrt(t), 0.5 / math.sqrt(t)
        q = game.action_values(by_hand)
        by_hand = tuple(
            ((z + eta * v) / (1 + eta * tau)).log_softmax(-1)
            for z, v in zip(by_hand, q, strict=True)
        )
    torch.testing.assert_close(last[0], by_hand[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_the_new_strategies_pull_the_magnet(rate, generator):
    game = games.MatrixGame(torch.randn(3, 3, generator=generator, dtype=F64) / 3)
    found = games.magnetic_mirror_descent(game, 5, 0.5, 0.3, magnet_rate=rate)
    mutant = {"new": None, "old": None}
    for pulled_by in mutant:
        now, magnet = game.uniform(), game.uniform()
        for _ in range(5):
            g = game.split(game.losses(game.join(now).exp()))
            new = tuple(
                ((z + 0.15 * rho - 0.3 * c) / 1.15).log_softmax(-1)
                for z, rho, c in zip(now, magnet, g, strict=True)
            )
            puller = new if pulled_by == "new" else now
            magnet = tuple(
                ((1 - rate) * rho + rate * z).log_softmax(-1)
                for rho, z in zip(magnet, puller, strict=True)
            )
            now = new
        mutant[pulled_by] = now
    torch.testing.assert_close(found[0], mutant["new"][0], rtol=0, atol=1e-13)
    assert (found[0] - mutant["old"][0]).abs().max() > 1e-5


def test_the_schedules_of_the_authors_code_on_kuhn(poker):
    """Measured figures: rounded, so that another machine agrees."""
    game = poker["kuhn"]
    root = games.inverse_root(1.0)
    falling = games.magnetic_mirror_descent(game, 1000, root, root, form="behavioural")
    moving = games.magnetic_mirror_descent(
        game, 1000, 1.0, 0.1, magnet_rate=0.05, form="behavioural"
    )
    assert abs(games.exploitability(game, falling) - 0.00506) < 1e-5
    assert abs(games.exploitability(game, moving) - 0.00366) < 1e-5


def test_the_default_pull_is_the_dilated_entropy(poker):
    """Not the divergence from uniform rows: they differ where the numbers of actions do."""
    game = poker["leduc"]
    plain = games.magnetic_mirror_descent(game, 3, 0.5, 0.5)
    rows = games.magnetic_mirror_descent(game, 3, 0.5, 0.5, magnet=game.uniform())
    assert (plain[0] - rows[0]).nan_to_num().abs().max() > 1e-3
    game = poker["kuhn"]  # two actions everywhere, but plans of unequal length
    again = [games.magnetic_mirror_descent(game, 3, 0.5, 0.5, form="behavioural", magnet=m)
             for m in (None, game.uniform())]  # fmt: skip
    torch.testing.assert_close(again[0][0], again[1][0], rtol=0, atol=1e-13)


def test_counterfactual_values_would_be_another_step(poker, generator):
    game = poker["kuhn"]
    pair = behave(game, generator)
    q = game.action_values(pair)[0]
    gradient = -game.split(game.losses(game.reach(game.join(pair))))[0]
    assert (q - gradient).abs().max() > 0.1


# ------------------------------------------------------------------------------------- OpenSpiel


@pytest.mark.parametrize("name", ["kuhn_poker", "leduc_poker"])
def test_openspiel_agrees(name, generator):
    pyspiel = pytest.importorskip("pyspiel")
    from open_spiel.python.algorithms import mmd_dilated

    loaded = pyspiel.load_game(name)
    game = games.from_openspiel(loaded)
    ours = games.kuhn_poker() if name == "kuhn_poker" else games.leduc_poker()
    assert game.rows == ours.rows
    gaps = [games.nash_conv(g, g.uniform()).item() for g in (game, ours)]
    assert abs(gaps[0] - gaps[1]) < 1e-12
    theirs = mmd_dilated.MMDDilatedEnt(loaded, 0.1, 0.5)
    count = 20 if name == "kuhn_poker" else 3
    for _ in range(count):
        theirs.update_sequences()
    found, policy = games.magnetic_mirror_descent(game, count, 0.1, 0.5), theirs.get_policies()
    for player in (0, 1):
        for row, key in enumerate(game.information[player]):
            wanted = policy.policy_for_key(key)
            for action, move in enumerate(game.moves[player][row]):
                assert abs(wanted[int(move)] - found[player][row, action].exp()) < 1e-10


def test_openspiel_is_an_extra():
    try:
        import pyspiel  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ImportError, match=r"mdtheory\[games\]"):
            games.from_openspiel("kuhn_poker")
    else:
        with pytest.raises(ValueError, match="expected moves one after the other"):
            games.from_openspiel("matrix_rps")
        with pytest.raises(ValueError, match="expected two players"):
            games.from_openspiel("kuhn_poker(players=3)")
        with pytest.raises(ValueError, match="expected a zero-sum game"):
            games.from_openspiel("tiny_hanabi")


@pytest.mark.parametrize("name", ["dark_hex(board_size=2,gameversion=adh)"])
def test_any_game_of_openspiel_can_be_loaded(name):
    """The figure was measured with the authors' code."""
    pytest.importorskip("pyspiel")
    game, root = games.from_openspiel(name), games.inverse_root(1.0)
    found = games.magnetic_mirror_descent(game, 100, root, root, form="behavioural")
    assert abs(games.exploitability(game, found) - 0.0302) < 1e-4


class Stage:
    """A state as OpenSpiel has it: chance deals a card, then both choose, the second blindly."""

    def __init__(self, *path):
        self.path = path

    def is_terminal(self):
        return len(self.path) == 3

    def is_chance_node(self):
        return not self.path

    def chance_outcomes(self):
        return [(0, 0.25), (1, 0.75)]

    def child(self, action):
        return Stage(*self.path, action)

    def current_player(self):
        return len(self.path) - 1

    def legal_actions(self):
        return [3, 7]

    def information_state_string(self, player):
        return f"player {player}, card {self.path[0]}" if player == 0 else "player 1"

    def player_return(self, player):
        assert player == 0
        card, first, second = self.path
        return (1.0 + card) * (1 if first == second else -1)


def stand_in(**changed):
    """As much of ``pyspiel`` as the loader uses."""
    kinds = {
        "Utility": SimpleNamespace(ZERO_SUM=0, GENERAL_SUM=1),
        "Dynamics": SimpleNamespace(SEQUENTIAL=0, SIMULTANEOUS=1),
        "ChanceMode": SimpleNamespace(SAMPLED_STOCHASTIC=1),
    }
    kind = {
        "utility": 0, "dynamics": 0, "chance_mode": 0, "short_name": "cards",
        "provides_information_state_string": True, "players": 2, **changed,
    }  # fmt: skip
    game = SimpleNamespace(
        get_type=lambda: SimpleNamespace(**kind),
        num_players=lambda: kind["players"],
        new_initial_state=Stage,
    )
    module = ModuleType("pyspiel")
    module.GameType = SimpleNamespace(**kinds)
    module.load_game = lambda name: game
    return module


def test_the_loader_on_a_stand_in_for_openspiel(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspiel", stand_in())
    game = games.from_openspiel("cards", dtype=torch.float32)
    assert repr(game).startswith("ExtensiveGame(2 and 1 information sets, 8 pairs")
    assert game.information == (["player 0, card 0", "player 0, card 1"], ["player 1"])
    assert list(game.moves[1][0]) == ["3", "7"]
    assert game.payoff.dtype == torch.float32
    assert game.value(game.uniform()) == 0
    for changed, words in (
        ({"players": 3}, "two players"),
        ({"utility": 1}, "zero-sum"),
        ({"dynamics": 1}, "one after the other"),
        ({"chance_mode": 1}, "explicit chance"),
        ({"provides_information_state_string": False}, "information states"),
    ):
        monkeypatch.setitem(sys.modules, "pyspiel", stand_in(**changed))
        with pytest.raises(ValueError, match=words):
            games.from_openspiel(sys.modules["pyspiel"].load_game("cards"))


def test_references_that_fail_say_so(monkeypatch):
    from scipy import optimize

    from mdtheory.nlhf.games import newton

    game = games.MatrixGame(torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=F64))
    assert repr(game) == "MatrixGame(2 x 2)"
    assert repr(games.MatrixGame(game.payoff.expand(3, 2, 2))).startswith("MatrixGame((3,) games")
    found = SimpleNamespace(status=4, message="numerical difficulties")
    monkeypatch.setattr(optimize, "linprog", lambda *arguments, **options: found)
    with pytest.raises(ArithmeticError, match="solver says numerical"):
        games.linear_program(game)
    even = [0.5, 0.5, 0.0]
    found = SimpleNamespace(
        status=0, fun=0.0, x=torch.tensor(even).numpy(),
        ineqlin=SimpleNamespace(marginals=-torch.tensor(even[:2]).numpy()),
    )  # fmt: skip
    # Even play is no equilibrium: it loses half a unit against the better of the two actions.
    with pytest.raises(ArithmeticError, match=r"gap of the solver's answer is 0\.5"):
        games.linear_program(game)
    monkeypatch.setattr(newton, "NEWTON_STEPS", 1)
    with pytest.raises(ArithmeticError, match="Newton"):
        games.quantal_response(game, 0.3)
