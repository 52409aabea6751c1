"""OpenSpiel's games, and a stand-in for it."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mdtheory.nlhf import games
from tests.nlhf.games_cases import F64


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(21)


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
