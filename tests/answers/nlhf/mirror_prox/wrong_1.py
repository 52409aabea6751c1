"""Steps from the wrong point, divergences in the wrong direction."""

import torch


def magnetic(preference, policy, opponent, reference, temperature, gamma, error=0.0):
    pull = gamma * temperature[..., None]
    won = (preference @ opponent.exp()[..., None])[..., 0] + error
    return ((policy + pull * reference + gamma * won) / (1 + pull)).log_softmax(-1)


def two_calls(preference, reference, temperature, step_size, iterations):
    now = reference
    for _ in range(iterations):
        half = magnetic(preference, now, now, reference, temperature, step_size)
        # The second step starts at the half step.
        now = magnetic(preference, half, half, reference, temperature, step_size)
    return now


def step_ratios(policies, star):  # KL(policy | star)
    far = (policies.exp() * (policies - star)).sum(-1)
    return far[1:] / far[:-1]


def longest_step(preference, reference, temperature, star, steps, iterations):
    best = torch.full_like(temperature, float(steps[0]))
    alive = torch.ones_like(temperature, dtype=torch.bool)
    for gamma in steps.tolist():  # the single call
        now = reference
        far = (star.exp() * (star - now)).sum(-1)
        for _ in range(iterations):
            now = magnetic(preference, now, now, reference, temperature, gamma)
            nearer = (star.exp() * (star - now)).sum(-1)
            alive = alive & (nearer * (1 + gamma * temperature) <= far)
            far = nearer
        best = torch.where(alive, gamma, best)
    return best


def exploitability(preference, policy, reference, temperature):  # KL(response | policy)
    won = (preference @ policy.exp()[..., None])[..., 0]
    response = (reference + won / temperature[..., None]).log_softmax(-1)
    return temperature * (response.exp() * (response - policy)).sum(-1)


def queries(temperature, accuracy):  # iterations, not queries
    folds = (1 / (2 * temperature * accuracy)).log()
    prox = (folds / torch.log1p(2 * temperature)).ceil()
    single = (folds / torch.log1p(4 * temperature**2)).ceil()
    schedule = (8 / (temperature**2 * accuracy) - 1).ceil()
    return torch.stack([prox, single, schedule], -1)


def inexact_run(preference, reference, temperature, step_size, errors):
    now = reference
    for pair in errors:  # one error for both steps
        half = magnetic(preference, now, now, reference, temperature, step_size, pair[0])
        now = magnetic(preference, now, half, reference, temperature, step_size, pair[0])
    return now
