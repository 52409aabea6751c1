"""Nash-MD on every device present against float64 on the CPU, and elsewhere."""

from pathlib import Path

import pytest
import torch

from mdtheory.nlhf import nash_md as nm
from tests.everywhere import DEVICES, agrees_with_the_cpu, numbers, stays

B, N = 2, 3


def preference(device, dtype, n=N):
    x = numbers(device, dtype, B, n, n)
    return (x - x.mT).sigmoid()


def policy(device, dtype, shift=0.0):
    return (numbers(device, dtype, B, N) + shift * numbers(device, dtype, N)).log_softmax(-1)


def tau(device, dtype):
    return torch.full((B,), 0.5, dtype=dtype, device=device)


def core(device, dtype):
    p, mu, q = preference(device, dtype), policy(device, dtype), policy(device, dtype, 1.0)
    heat = tau(device, dtype)
    game = nm.PreferenceGame(p, mu, heat)
    return (
        game.value(q, mu), game.policy(), game.exploitability(q),
        nm.best_response(game, q), nm.magnetic_step(game, q, mu, heat),
        nm.kl(q, mu), nm.span(q), nm.mixture(q, mu, 0.3),
        nm.exploitability(game, q), nm.regularized_nash(game),
    )  # fmt: skip


def runs(device, dtype):
    p, mu, heat = preference(device, dtype), policy(device, dtype), tau(device, dtype)
    game = nm.PreferenceGame(p, mu, heat)
    return (
        nm.nash_md(game, 3), nm.nash_md(game.at(0.5), 3, heat),
        *nm.nash_md_iterates(game, 2), *nm.self_play_iterates(game, 2),
        nm.nash_md_rate(heat, 3), nm.shifted_temperature(heat, heat),
    )  # fmt: skip


def models(device, dtype):
    reward = numbers(device, dtype, B, N)
    return (
        nm.bradley_terry_preference(reward),
        nm.criteria_preference(numbers(device, dtype, 4, 3)),
    )


def sequences(device, dtype):
    space = nm.SequenceSpace(3, 1)
    logits, other = numbers(device, dtype, B, 1, N), numbers(device, dtype, 1, N)
    tokens = space.token_log_probs(logits)
    return (
        tokens, space.log_probs(logits), space.logits(policy(device, dtype)),
        space.token_mixture(logits, other, 0.3),
        nm.policy_gradient_surrogate(tokens, tokens, policy(device, dtype), 0.5),
    )  # fmt: skip


CASES = {"core": core, "runs": runs, "models": models, "sequences": sequences}


def fitted(device, dtype):
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    return (nm.bradley_terry(preference(device, dtype), None, tolerance),)


def gradients(device, dtype):
    space = nm.SequenceSpace(3, 1)
    p = preference(device, dtype)
    logits, other = numbers(device, dtype, B, 1, N), numbers(device, dtype, 1, N)
    won = policy(device, dtype).exp()
    text = nm.PreferenceGame(p, space.log_probs(other), 0.5)
    return (
        nm.expected_gradient(space, logits, other, won, 0.5),
        nm.objective_gradient(space, logits, other, won, 0.5),
        nm.nash_md_pg(space, text, 3), nm.nash_ema_pg(space, text, 3),
        nm.reward_pg(space, won, other, 0.5, 3),
    )  # fmt: skip


# What differentiates, or tests its own progress, has no stand-in device.
VALUES = {**CASES, "gradients": gradients, "fit": fitted}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_results_agree_with_the_cpu_in_double_precision(name, device, dtype):
    agrees_with_the_cpu(VALUES[name], device, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_on_another_device(name, elsewhere):
    stays(CASES[name], elsewhere)


@pytest.mark.parametrize("device", DEVICES)
def test_what_draws_or_learns_stays_on_its_device(device):
    generator = torch.Generator(device).manual_seed(0)
    drawn = nm.random_preference(4, generator, (2,))
    circle = nm.cyclic_preference(0.3, device=torch.device(device))
    dice = nm.dice_preference([[1, 6], [2, 5], [3, 4]], device=torch.device(device))
    cycles = nm.three_cycles(circle)
    space = nm.SequenceSpace(2, 3)
    logits = torch.zeros(space.prefixes, 2, device=device)
    picks = space.sample(logits, 5, generator)
    for result in (drawn, circle, dice, cycles, picks):
        assert result.device.type == device
    model = nm.NeuralPreference(2, 3, torch.Generator().manual_seed(0)).to(device)
    answers = torch.eye(2, device=device)
    pairs = nm.Comparisons(answers, answers.flip(0), torch.ones(2, device=device) / 2)
    nm.fit_preference(model, pairs, torch.Generator().manual_seed(0), steps=2)
    assert model(answers).device.type == device


def test_every_public_function_has_a_case():
    source = Path(__file__).read_text("utf-8")
    for name in nm.__all__:
        assert f"nm.{name}(" in source, name
