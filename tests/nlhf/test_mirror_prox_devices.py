"""Nash mirror prox on every device present against float64 on the CPU, and elsewhere."""

from pathlib import Path

import pytest
import torch

from mdtheory.nlhf import mirror_prox as mp
from mdtheory.nlhf import nash_md as nash
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays

B, N = 3, 4


def games(device, dtype):
    raw = numbers(device, dtype, B, N, N)
    preference = (raw - raw.mT).sigmoid()
    temperature = (1 + torch.arange(B, dtype=dtype, device=device)) / 5
    return preference, numbers(device, dtype, B, N).log_softmax(-1), temperature


def iterations(device, dtype):
    every = games(device, dtype)
    step = 1 + every[2]
    run = mp.nash_mirror_prox_iterates(
        nash.PreferenceGame(*every), 2, step, payoff_error=lambda e: 0.1 * e
    )
    game = nash.PreferenceGame(*every)
    return (
        mp.nash_mirror_prox(game, 3), mp.nash_mirror_prox(game, 3, step),
        mp.preference_mirror_descent(game, 3), mp.preference_mirror_descent(game, 3, step),
        *(part for now in run for part in now),
        *mp.preference_mirror_descent_iterates(game, 2),
    )  # fmt: skip


def right_sides(device, dtype):
    tau = games(device, dtype)[2]
    start = tau + 1
    return (
        mp.largest_step(tau), mp.bounds.start_distance(tau),
        mp.bounds.kl_rate(start, tau, 2.0, 3), mp.bounds.span_rate(start, start, tau, 2.0, 3),
        mp.bounds.span_rate(start, start, 0.5, 2.0, 3),
        mp.bounds.exploitability_rate(start, tau, 2.0, 3),
        mp.bounds.inexact_rate(start, 0.1, tau, 2.0, 3), mp.bounds.noise_floor(0.1, tau),
        mp.bounds.single_call_rate(start, tau, 4 * tau, 3), mp.bounds.cycle_modulus(tau, 2.0, 2),
    )  # fmt: skip


def policy_gradients(device, dtype):
    space = nash.SequenceSpace(2, 2)
    preference = games(device, dtype)[0]
    tables = [numbers(device, dtype, B, space.prefixes, 2) / k for k in (1, 2, 3, 4)]
    game = nash.PreferenceGame(preference, space.log_probs(tables[3]), 0.2)
    return (
        mp.proximal_gradient(space, game, *tables[:3], 2.0),
        mp.proximal_ascent(space, game, *tables[:2], 2.0, steps=2, learning_rate=0.5),
        *mp.practical_mirror_prox(space, game, 2),
    )  # fmt: skip


CASES = {"iterations": iterations, "bounds": right_sides, "policy gradients": policy_gradients}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(CASES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_samples_stay_on_their_device(device):
    space = nash.SequenceSpace(2, 2)
    generator = torch.Generator(device).manual_seed(1)
    preference = games(device, torch.float32)[0]
    table = numbers(device, torch.float32, B, space.prefixes, 2)
    found = mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(table), 0.2),
        table,
        table,
        table,
        2.0,
        samples=5,
        generator=generator,
    )
    assert found.device.type == device
    assert found.dtype == torch.float32
    assert bool(found.isfinite().all())


def test_every_public_function_has_a_case():
    source = Path(__file__).read_text("utf-8")
    for name in set(mp.__all__) - {"bounds", "MirrorProxIterate"}:
        assert f"mp.{name}(" in source, name
