"""What search does not take: the message names the argument."""

import math

import pytest
import torch

from mdtheory.nlhf import decision_time_planning as dtp
from mdtheory.nlhf import games
from mdtheory.nlhf.decision_time_planning import bounds
from tests.nlhf.decision_time_planning_cases import F64, draws, relay

LAW = torch.full((2,), 0.5, dtype=F64).log()
ONE = torch.ones(2, dtype=F64)
PAYOFF = torch.rand(2, 2, 2, 2, generator=draws(), dtype=F64)
TINY = dtp.TinyHanabi(PAYOFF)
EVEN = TINY.uniform()
TEAM = relay(2, 1, 2, draws())
SURE = torch.tensor([0.0, -math.inf], dtype=F64)
HANABI = dtp.SmallHanabi()
STATE = HANABI.deal(2, draws())
PART = torch.tensor([0.25] * 4, dtype=F64)
ROWS = torch.tensor([[0, 1]] * 4)
ACTS = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
OWNER = torch.tensor([0, 1])
CHANCE = torch.ones(4, dtype=F64)


def team(payoff=PART, chance=CHANCE, rows=ROWS, actions=ACTS, owner=OWNER):
    return dtp.CommonPayoffGame(payoff, chance, rows, actions, owner)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: dtp.mirror_descent_search(ONE, ONE, 1.0), ValueError, "log_policy: "),
        (lambda: dtp.mirror_descent_search(LAW, ONE.float(), 1.0), TypeError, "action_values: "),
        (lambda: dtp.mirror_descent_search(LAW, ONE * math.nan, 1.0), ValueError,
         "action_values: "),
        (lambda: dtp.mirror_descent_search(LAW, torch.ones(3, dtype=F64), 1.0), ValueError,
         "action_values: "),
        (lambda: dtp.mirror_descent_search(LAW, ONE, 0.0), ValueError, "step_size: "),
        (lambda: dtp.mirror_descent_search(LAW, ONE, "1"), TypeError, "step_size: "),
        (lambda: dtp.mirror_descent_search(LAW, ONE, 1.0, play="best"), ValueError, "play: "),
        (lambda: dtp.mirror_descent_search([0.0], ONE, 1.0), TypeError, "log_policy: "),
        (lambda: dtp.magnetic_search(LAW, ONE, 1.0, -1.0), ValueError, "temperature: "),
        (lambda: dtp.magnetic_search(LAW, ONE, 1.0, math.inf), ValueError, "temperature: "),
        (lambda: dtp.magnetic_search(LAW, ONE, 1.0, 1.0, ONE), ValueError, "magnet: "),
        (lambda: dtp.magnetic_search(LAW, ONE, 1.0, 1.0, LAW.float()), TypeError, "magnet: "),
        (lambda: dtp.magnetic_search(LAW, ONE, 1.0, 1.0, SURE), ValueError, "magnet: "),
        (lambda: dtp.magnetic_search(LAW, ONE, 1.0, 1.0, torch.zeros(1, dtype=F64)), ValueError,
         "magnet: "),
        (lambda: dtp.exact_search_policy(None, EVEN, 1.0), TypeError, "game: "),
        (lambda: dtp.exact_search_policy(TINY, EVEN[0], 1.0), TypeError, "log_policy: "),
        (lambda: dtp.exact_search_policy(TINY, EVEN[:1], 1.0), TypeError, "log_policy: "),
        (lambda: dtp.exact_search_policy(TINY, EVEN, 1.0, players="first"), ValueError,
         "players: "),
        (lambda: dtp.exact_search_policy(TINY, EVEN, 1.0, players=2), ValueError, "players: "),
        (lambda: dtp.exact_search_policy(TINY, EVEN, 1.0, players=[0.5]), TypeError, "players: "),
        (lambda: dtp.exact_search_policy(TINY, EVEN, 1.0, temperature=0.1, magnet=EVEN[:1]),
         TypeError, "magnet: "),
        (lambda: dtp.sampled_action_values(TINY, EVEN, 0, draws()), ValueError, "samples: "),
        (lambda: dtp.sampled_action_values(games.MatrixGame(PAYOFF[0, 0]), EVEN, 2, draws()),
         TypeError, "game: "),
        (lambda: dtp.TinyHanabi(PAYOFF[0]), ValueError, "payoff: "),
        (lambda: dtp.TinyHanabi(PAYOFF * math.inf), ValueError, "payoff: "),
        (lambda: dtp.TinyHanabi([1.0]), TypeError, "payoff: "),
        (lambda: dtp.TinyHanabi(PAYOFF, PAYOFF[0, 0]), ValueError, "prior: "),
        (lambda: dtp.TinyHanabi(PAYOFF, ONE), ValueError, "prior: "),
        (lambda: dtp.TinyHanabi(PAYOFF, PAYOFF[0, 0].float()), TypeError, "prior: "),
        (lambda: dtp.TinyHanabi(PAYOFF.expand(3, 2, 2, 2, 2),
                                torch.full((2, 2, 2), 0.25, dtype=F64)), ValueError, "prior: "),
        (lambda: TINY.value((EVEN[0], EVEN[1][0])), ValueError, r"log_policy\[1\]: "),
        (lambda: TINY.value((EVEN[0].exp(), EVEN[1])), ValueError, r"log_policy\[0\]: "),
        (lambda: TINY.value((EVEN[0].float(), EVEN[1])), TypeError, r"log_policy\[0\]: "),
        (lambda: TINY.value((EVEN[0].expand(3, 2, 2), EVEN[1].expand(2, 2, 2, 2))), ValueError,
         "log_policy: "),
        (lambda: team(payoff=PART[:3]), ValueError, "rows: "),
        (lambda: team(payoff=PART * math.nan), ValueError, "payoff: "),
        (lambda: team(chance=CHANCE * 2), ValueError, "chance: "),
        (lambda: team(chance=CHANCE / 2), ValueError, "chance: "),
        (lambda: team(chance=CHANCE.float()), TypeError, "chance: "),
        (lambda: team(rows=ROWS.double()), TypeError, "rows: "),
        (lambda: team(rows=ROWS + 1), ValueError, "rows: "),
        (lambda: team(rows=ROWS * 0), ValueError, "rows: "),
        (lambda: team(actions=ACTS - 1), ValueError, "actions: "),
        (lambda: team(actions=ACTS[:, :1]), ValueError, "actions: "),
        (lambda: team(owner=torch.tensor([1, 0])), ValueError, "owner: "),
        (lambda: team(owner=OWNER[:0]), ValueError, "owner: "),
        (lambda: TEAM.value((LAW[None], LAW[None])), ValueError, r"log_policy\[1\]: "),
        (lambda: team().value((SURE[None], LAW[None, :1])), ValueError, r"log_policy\[1\]: "),
        (lambda: team().value((LAW.expand(3, 1, 2), LAW.expand(2, 1, 2))), ValueError,
         "log_policy: "),
        (lambda: dtp.safe_step(-1.0, 2), ValueError, "reward_range: "),
        (lambda: dtp.safe_step(ONE * -1, 2), ValueError, "reward_range: "),
        (lambda: dtp.safe_step(1.0, 0), ValueError, "decisions: "),
        (lambda: dtp.safe_step(1.0, 3, players=2), ValueError, "players: "),
        (lambda: bounds.search_gain(team(), (LAW[None],) * 2, (LAW[None],) * 2, (LAW[None],) * 2,
                                    0.0), ValueError, "step_size: "),
        (lambda: bounds.sequential_gain_bound(ONE, 1.0, 1.0, 0), ValueError, "decisions: "),
        (lambda: bounds.simultaneous_gain_bound(ONE, 1.0, 1.0, 0), ValueError, "players: "),
        (lambda: bounds.sampled_search_loss(1.0, 1, 1, 0, 1.0), ValueError, "samples: "),
        (lambda: dtp.SmallHanabi(0), ValueError, "colours: "),
        (lambda: dtp.SmallHanabi(2, 1), ValueError, "ranks: "),
        (lambda: dtp.SmallHanabi(hints=1.5), TypeError, "hints: "),
        (lambda: HANABI.deal(0, draws()), ValueError, "games: "),
        (lambda: HANABI.apply(STATE, torch.tensor([0, 9])), ValueError, "move: "),
        (lambda: HANABI.apply(STATE, torch.tensor([0.0, 1.0])), TypeError, "move: "),
        (lambda: HANABI.blueprint(STATE, 1.5), ValueError, "noise: "),
        (lambda: dtp.play_hanabi(HANABI, STATE, draws(), samples=0), ValueError, "samples: "),
        (lambda: dtp.play_hanabi(HANABI, STATE, draws(), rollouts="best"), ValueError,
         "rollouts: "),
        (lambda: dtp.play_hanabi(HANABI, STATE, draws(), play="best"), ValueError, "play: "),
        (lambda: dtp.play_hanabi(HANABI, STATE, draws(), searchers=(2,)), ValueError,
         "searchers: "),
    ],
)  # fmt: skip
def test_refused(call, error, words):
    with pytest.raises(error, match=f"^{words}"):
        call()


def test_an_illegal_action_is_refused():
    """Here the second player may do two things after one move and three after the other."""
    rows = torch.tensor([[0, 1], [0, 1], [0, 2], [0, 2], [0, 2]])
    acts = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]])
    game = team(torch.rand(5, dtype=F64), torch.ones(5, dtype=F64), rows, acts,
                torch.tensor([0, 1, 1]))  # fmt: skip
    law = game.uniform()
    assert (game.value(law) > 0).all()
    third = torch.full((2, 3), 1 / 3, dtype=F64).log()
    with pytest.raises(ValueError, match=r"^log_policy\[1\]: expected -inf where"):
        game.value((law[0], third))
