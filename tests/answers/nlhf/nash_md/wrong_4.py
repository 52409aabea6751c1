"""The library's own solutions, under several names."""

import torch

import mdtheory.nlhf.nash_md as nm
from mdtheory.nlhf.nash_md import PreferenceGame
from mdtheory.nlhf.nash_md import nash_md as run
from mdtheory.nlhf.nash_md.judges import criteria_preference, three_cycles
from mdtheory.nlhf.nash_md.models import bradley_terry as fit


def step_against(preference, policy, opponent, reference, temperature, step_size):
    return nm.magnetic_step(
        nm.PreferenceGame(preference, reference, temperature), policy, opponent, step_size
    )


def nash_run(preference, reference, temperature, iterations, step_size):
    return run(preference, reference, temperature, iterations, step_size or None)


def exploitable(preference, policy, reference, temperature):
    return PreferenceGame(preference, reference, temperature).exploitability(policy)


def divergence_gradient(first, second, reference_first, reference_second):
    space = nm.SequenceSpace(first.shape[-1], 2)
    logits = torch.cat([first[..., None, :], second], -2)
    reference = torch.cat([reference_first[..., None, :], reference_second], -2)
    zero = torch.zeros(space.count, dtype=first.dtype)
    return -nm.objective_gradient(space, logits, reference, zero, 1.0)[..., 0, :]


def cycle_equilibria(ratings):
    votes = criteria_preference(ratings)
    out = torch.zeros(len(ratings), len(ratings), len(ratings), dtype=ratings.dtype)
    for i, j, k in three_cycles(votes).tolist():
        for a, b, c in ((i, j, k), (j, k, i), (k, i, j)):
            total = votes[a, b] + votes[b, c] + votes[c, a] - 1.5
            out[a, b, c] = (votes[b, c] - 0.5) / total
    return out


def fitted_reward(preference, weights):
    return fit(preference, weights)
