"""Games in extensive form and the descent: values by other means, batches, magnets."""

import math

import pytest
import torch

from mdtheory.nlhf import games
from tests.nlhf.games_cases import F64

UNIFORM_GAPS = {"kuhn": 11 / 12, "leduc": 4.7472222222}
VALUES = {"kuhn": -1 / 18, "leduc": -0.0856064240}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(21)


def behave(game, generator, batch=(), spread=1.5):
    return tuple(
        (spread * torch.randn(*batch, *legal.shape, generator=generator, dtype=F64))
        .masked_fill(~legal, -math.inf)
        .log_softmax(-1)
        for legal in game.legal
    )


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
