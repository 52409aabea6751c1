"""Games on every device present against float64 on the CPU, and elsewhere."""

from pathlib import Path

import pytest
import torch

from mdtheory.nlhf import games
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays

B, M, N = 3, 2, 4


def matrix(device, dtype):
    return games.MatrixGame(numbers(device, dtype, B, M, N))


def pair(device, dtype, shift=0):
    shape = (B, M), (B, N)
    first, second = (numbers(device, dtype, *s).roll(shift, -1).log_softmax(-1) for s in shape)
    return first, second


def temperatures(device, dtype):
    return torch.arange(1, B + 1, dtype=dtype, device=device) / 5


def measures(device, dtype):
    game, here = matrix(device, dtype), pair(device, dtype)
    return (
        games.nash_conv(game, here), games.exploitability(game, here), game.value(here),
        games.divergence(game, here, pair(device, dtype, 1)), *game.best_response(here),
        games.smoothness(game), games.guaranteed_step(game, temperatures(device, dtype)),
        games.guaranteed_step(game, 0.3, extragradient=True), *game.uniform(),
    )  # fmt: skip


def descents(device, dtype):
    game, tau = matrix(device, dtype), temperatures(device, dtype)
    run = games.magnetic_iterates(game, 2, games.inverse_root(0.3), 0.2, magnet_rate=0.1)
    return (
        *games.magnetic_mirror_descent(game, 3, tau),
        *games.magnetic_mirror_descent(game, 3, tau, tau / 2, extragradient=True),
        *games.magnetic_mirror_descent(game, 3, 0.2, 0.1, magnet=pair(device, dtype)),
        *(side for now in run for side in now),
    )


def responses(device, dtype):
    game = matrix(device, dtype)
    return (
        *games.quantal_response(game, temperatures(device, dtype)),
        *games.quantal_response(game, 0.4, pair(device, dtype), 1e-6),
    )


CASES = {
    "measures": measures,
    "descents": descents,
    "quantal responses": responses,
    "solver": lambda d, t: games.solve_matrix_game(numbers(d, t, B, M, N), 1e-2),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype, torch.exp)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_trees_stay_on_their_device(device, dtype):
    exact, game = games.kuhn_poker(), games.kuhn_poker(dtype=dtype, device=device)
    for form in ("dilated", "behavioural"):
        found, wanted = (
            games.magnetic_mirror_descent(g, 20, 0.2, 0.2, form=form) for g in (game, exact)
        )
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours.device.type == device
            assert ours.dtype == dtype
            torch.testing.assert_close(ours.cpu().double(), theirs, rtol=1e-4, atol=1e-4)
    here = game.uniform()
    step = games.guaranteed_step(game, 0.2)
    results = (
        games.nash_conv(game, here), game.value(here), *game.action_values(here), step,
        *game.best_response(here), games.divergence(game, here, found), games.complexity(game),
        games.leduc_poker(dtype=dtype, device=device).payoff, *games.linear_program(game)[1],
    )  # fmt: skip
    for result in results:
        assert result.device.type == device
        assert result.dtype == dtype


def test_every_public_function_has_a_case():
    """What makes no tensors, or needs another library, is named here."""
    source = Path(__file__).read_text("utf-8")
    elsewhere = {"Chance", "Decision", "Terminal", "ExtensiveGame", "from_openspiel"}
    for name in set(games.__all__) - elsewhere:
        assert f"games.{name}(" in source, name
