"""Search on every device present against float64 on the CPU, and elsewhere."""

from pathlib import Path

import pytest
import torch

from mdtheory.nlhf import decision_time_planning as dtp
from mdtheory.nlhf import games
from mdtheory.nlhf.decision_time_planning import bounds
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays


def tiny(device, dtype):
    game = dtp.TinyHanabi(numbers(device, dtype, 4, 2, 3, 2, 2))
    law = (numbers(device, dtype, 4, 2, 2), numbers(device, dtype, 4, 3, 2, 2))
    return game, tuple(side.log_softmax(-1) for side in law)


def team(device, dtype):
    rows = torch.tensor([[0, 1]] * 4, device=device)
    acts = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], device=device)
    game = dtp.CommonPayoffGame(
        numbers(device, dtype, 3, 4), torch.ones(4, dtype=dtype, device=device), rows, acts,
        torch.tensor([0, 1], device=device),
    )  # fmt: skip
    law = tuple(numbers(device, dtype, 3, 1, 2).roll(k, 0).log_softmax(-1) for k in (0, 1))
    return game, law


def searches(device, dtype):
    law = numbers(device, dtype, 5, 3).log_softmax(-1)
    values, magnet = numbers(device, dtype, 5, 3).roll(1, 0), law.roll(2, 0)
    step = torch.arange(1, 6, dtype=dtype, device=device)
    return (
        dtp.mirror_descent_search(law, values, step),
        dtp.mirror_descent_search(law, values, 2.0, play="argmax"),
        dtp.magnetic_search(law, values, step, step / 5, magnet),
    )


def tiny_games(device, dtype):
    game, law = tiny(device, dtype)
    return (
        game.value(law), *game.action_values(law), game.reward_range, *dtp.action_values(game, law),
        *dtp.exact_search_policy(game, law, 2.0), *game.uniform(),
        dtp.safe_step(game.reward_range, 2),
    )  # fmt: skip


def team_games(device, dtype):
    game, law = team(device, dtype)
    played = dtp.exact_search_policy(game, law, 2.0, temperature=0.1)
    first = bounds.search_gain(game, law, played, law, 2.0)
    return (
        game.value(law), *game.action_values(law), *game.reach(law), *played, first,
        bounds.simultaneous_gain_bound(first, 2.0, 1.0, 2), bounds.chi_square(game, law, played),
        bounds.sequential_gain_bound(first, 0.5, game.reward_range, 2),
        bounds.sampling_loss(law[0], 0.3), bounds.jeffreys(*law),
        bounds.argmax_loss(law[0], torch.zeros(3, 1, dtype=torch.int64, device=device), 2.0),
    )  # fmt: skip


CASES = {"searches": searches, "tiny games": tiny_games, "team games": team_games}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_cpu(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype, torch.exp)


@pytest.mark.parametrize("name", ["searches", "tiny games"])
def test_stays_where_it_is(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_drawn_stays_on_its_device(device):
    generator = torch.Generator(device).manual_seed(1)
    for game, law in (tiny(device, torch.float32), team(device, torch.float32)):
        if isinstance(game, dtp.TinyHanabi):
            assert game.optimum().device.type == device
        for values in dtp.sampled_action_values(game, law, 3, generator):
            assert values.device.type == device
            assert values.dtype == torch.float32
    kuhn = games.kuhn_poker(device=device)
    values = dtp.sampled_action_values(kuhn, kuhn.uniform(), 2, generator)
    assert values[0].device.type == device
    hanabi = dtp.SmallHanabi()
    state = hanabi.deal(4, generator)
    assert dtp.roll_out(hanabi, state, generator).device.type == device
    belief = dtp.Belief(hanabi, state, 0)
    values = dtp.hanabi_action_values(hanabi, state, belief, 2, generator)
    assert values.device.type == device
    record = dtp.play_hanabi(hanabi, state, generator, samples=2)
    assert isinstance(record, dtp.HanabiRecord)
    assert isinstance(state, dtp.HanabiState)
    assert record.score.device.type == device


def test_every_public_function_has_a_case():
    """What makes no tensors of its own is named here."""
    source = Path(__file__).read_text("utf-8")
    for name in set(dtp.__all__) - {"bounds", "HanabiRecord", "HanabiState"}:
        assert f"dtp.{name}(" in source, name
