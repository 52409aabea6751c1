"""Opponents that are no policies, and what was forgotten."""

import torch


def two_calls(preference, reference, temperature, step_size, iterations):
    pull = step_size * temperature[..., None]

    def raw(policy, opponent):
        won = (preference @ opponent.exp()[..., None])[..., 0]
        return (policy + pull * reference + step_size * won) / (1 + pull)

    now = reference
    for _ in range(iterations):  # the half step is not normalised
        now = raw(now, raw(now, now)).log_softmax(-1)
    return now


def step_ratios(policies, star):  # upside down
    far = (star.exp() * (star - policies)).sum(-1)
    return far[:-1] / far[1:]


def longest_step(preference, reference, temperature, star, steps, iterations):
    return torch.full_like(temperature, 2.0)  # the theorem's


def exploitability(preference, policy, reference, temperature):  # without 1/2
    won = (preference @ policy.exp()[..., None])[..., 0]
    best = (reference + won / temperature[..., None]).logsumexp(-1)
    return temperature * (best + (policy.exp() * (policy - reference)).sum(-1))


def queries(temperature, accuracy):  # the single call with the step of mirror prox
    folds = (1 / (2 * temperature * accuracy)).log()
    prox = 2 * (folds / torch.log1p(2 * temperature)).ceil()
    single = (folds / torch.log1p(2 * temperature)).ceil()
    schedule = (8 / (temperature * accuracy) - 1).ceil()
    return torch.stack([prox, single, schedule], -1)


def inexact_run(preference, reference, temperature, step_size, errors):
    pull = step_size * temperature[..., None]

    def step(policy, opponent, error):
        won = (preference @ opponent.exp()[..., None])[..., 0]
        raw = (policy + pull * reference + step_size * won) / (1 + pull)
        return (raw + error).log_softmax(-1)  # an error of the policy, not of its payoffs

    now = reference
    for first, second in errors:
        now = step(now, step(now, now, first), second)
    return now
