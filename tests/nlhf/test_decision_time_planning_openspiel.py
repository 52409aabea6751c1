"""OpenSpiel's games with a common payoff, and its Hanabi beside ours."""

import pytest
import torch

from mdtheory.nlhf import decision_time_planning as dtp
from mdtheory.nlhf import games
from mdtheory.nlhf.decision_time_planning.playing import draw
from mdtheory.nlhf.games.openspiel import _describe
from tests.nlhf.decision_time_planning_cases import F64, draws, policy

pyspiel = pytest.importorskip("pyspiel")


def test_the_tiny_hanabi_of_openspiel():
    """Its tree, its own expected returns, and the optimum that the suite states, 10."""
    loaded = pyspiel.load_game("tiny_hanabi")
    tree = dtp.CommonPayoffGame.from_tree(loaded.new_initial_state(), _describe)
    payoff = tree.payoff.reshape(2, 2, 3, 3)
    game = dtp.TinyHanabi(payoff)
    assert abs(game.optimum() - 10) < 1e-12
    generator = draws(1)
    for _ in range(3):
        law = policy(tree, generator)
        table = {}
        state = loaded.new_initial_state()
        rows = [{}, {}]
        stack = [state]
        while stack:  # in the order of our walk
            here = stack.pop(0)
            if here.is_terminal():
                continue
            if not here.is_chance_node():
                player = here.current_player()
                key = here.information_state_string(player)
                row = rows[player].setdefault(key, len(rows[player]))
                chosen = law[player][row].exp().tolist()
                table[key] = list(zip(here.legal_actions(), chosen, strict=True))
            stack = [here.child(action) for action in here.legal_actions()] + stack
        theirs = pyspiel.expected_returns(state, pyspiel.TabularPolicy(table), -1, True)
        assert abs(theirs[0] - tree.value(law)) < 1e-12
        order = (law[0], law[1].reshape(2, 3, 3))
        # The second player's rows are found in the order of cards and moves.
        flat = game.action_values(order)
        for ours, exact in zip((flat[0], flat[1].flatten(0, 1)), tree.action_values(law),
                               strict=True):  # fmt: skip
            assert sorted(ours.flatten().tolist()) == pytest.approx(
                sorted(exact.flatten().tolist()), abs=1e-12
            )


@pytest.mark.parametrize("name", ["dark_hex(board_size=2,gameversion=adh)",
                                  "liars_dice(numdice=1,dice_sides=3)"])  # fmt: skip
def test_search_in_games_of_openspiel_is_one_magnetic_step(name):
    game = games.from_openspiel(name)
    law = policy(game, draws(2))
    wanted = games.magnetic_mirror_descent(game, 1, 0.2, 3.0, start=law, form="behavioural")
    found = dtp.exact_search_policy(game, law, 3.0, temperature=0.2)
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.exp() - theirs.exp()).abs().max() < 1e-12
    many = tuple(side.expand(200, *side.shape) for side in law)
    sampled = dtp.sampled_action_values(game, many, 30, draws(3))
    for ours, theirs in zip(sampled, game.action_values(law), strict=True):
        gap = (ours.mean(0) - theirs).abs() - 5 * ours.std(0) / 200**0.5
        assert gap.max() < 1e-9


def test_ours_and_openspiels_hanabi_go_the_same_way():
    """The same decks and moves: turns, legal moves, ends and scores agree.

    OpenSpiel's moves are discards, plays, colours, ranks; its hand closes up, and the new card
    comes last; it counts nothing when the lives are gone.
    """
    ours = dtp.SmallHanabi()
    loaded = pyspiel.load_game("hanabi", {
        "players": 2, "colors": 2, "ranks": 3, "hand_size": 2, "max_information_tokens": 4,
        "max_life_tokens": 2,
    })  # fmt: skip
    generator, moves = draws(3), 0
    for _ in range(60):
        state, theirs = ours.deal(1, generator), loaded.new_initial_state()
        order, dealt = [[0, 1], [0, 1]], 0
        while True:
            while theirs.is_chance_node():
                theirs.apply_action(int(state.deck[0, dealt]))
                dealt += 1
            assert theirs.is_terminal() == bool(state.over)
            if theirs.is_terminal():
                break
            places = order[int(state.turn)]

            def translated(move, places=places):
                return move if move >= 4 else places.index(move % 2) + (2 if move < 2 else 0)

            legal = torch.nonzero(ours.legal(state)[0])[:, 0].tolist()
            assert sorted(map(translated, legal)) == sorted(theirs.legal_actions())
            assert theirs.current_player() == int(state.turn)
            number = torch.rand(1, generator=generator, dtype=F64)
            move = draw(ours.blueprint(state, 0.6), number)
            theirs.apply_action(int(translated(int(move))))
            after = ours.apply(state, move)
            if move < 4:
                places.remove(int(move) % 2)
                if after.hand[0, int(state.turn), int(move) % 2] < 6:
                    places.append(int(move) % 2)
            state, moves = after, moves + 1
        score = 0 if state.lives <= 0 else int(state.score())
        assert theirs.returns()[0] == score
    assert moves > 400
