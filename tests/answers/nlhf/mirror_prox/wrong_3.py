"""The library's own solutions."""

import torch

from mdtheory.nlhf import mirror_prox as mp
from mdtheory.nlhf import nash_md as nash


def two_calls(preference, reference, temperature, step_size, iterations):
    return mp.nash_mirror_prox(
        nash.PreferenceGame(preference, reference, temperature), iterations, step_size
    )


def step_ratios(policies, star):
    far = nash.kl(star, policies)
    return far[1:] / far[:-1]


def longest_step(preference, reference, temperature, star, steps, iterations):
    best = torch.full_like(temperature, float(steps[0]))
    alive = torch.ones_like(temperature, dtype=torch.bool)
    for gamma in steps.tolist():
        far = torch.stack(
            [
                nash.kl(star, now.policy)
                for now in mp.nash_mirror_prox_iterates(
                    nash.PreferenceGame(preference, reference, temperature), iterations, gamma
                )
            ]
        )
        alive = alive & (far[1:] * (1 + gamma * temperature) <= far[:-1]).all(0)
        best = torch.where(alive, gamma, best)
    return best


def exploitability(preference, policy, reference, temperature):
    return nash.exploitability(nash.PreferenceGame(preference, reference, temperature), policy)


def queries(temperature, accuracy):
    count = 10_000
    start = 1 / (2 * temperature)
    prox = (mp.bounds.kl_rate(start, temperature, 2.0, count) > accuracy).sum(0)
    bound = mp.bounds.single_call_rate(start, temperature, 4 * temperature, count)
    schedule = (8 / (temperature**2 * accuracy) - 1).ceil()
    return torch.stack([2.0 * prox, 1.0 * (bound > accuracy).sum(0), schedule], -1)


def inexact_run(preference, reference, temperature, step_size, errors):
    flat = iter([*errors.flatten(0, 1), torch.zeros_like(reference)])
    run = mp.nash_mirror_prox_iterates(
        nash.PreferenceGame(preference, reference, temperature),
        len(errors),
        step_size,
        payoff_error=lambda exact: next(flat),
    )
    return list(run)[-1].policy
