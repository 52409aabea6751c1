"""Step by step, with mixtures of logarithms and divergences as sums of positive terms."""

import math
from itertools import pairwise

import torch


def magnetic(preference, policy, opponent, reference, temperature, gamma, extra=0.0):
    kept = (1 / (1 + gamma * temperature))[..., None]
    payoff = torch.einsum("...ij,...j->...i", preference, opponent.exp()) + extra
    logs = kept * (policy + gamma * payoff) + (1 - kept) * reference
    return logs - torch.logsumexp(logs, -1, keepdim=True)


def divergence(p, q):
    # p (r - 1 - log r) with r = q/p; for r near 1 by its series.
    x = torch.expm1(q - p)
    series = x**2 / 2 - x**3 / 3 + x**4 / 4
    return (p.exp() * torch.where(x.abs() < 1e-4, series, x - (q - p))).sum(-1)


def two_calls(preference, reference, temperature, step_size, iterations):
    now = reference.clone()
    for _ in range(iterations):
        half = magnetic(preference, now, now, reference, temperature, step_size)
        now = magnetic(preference, now, half, reference, temperature, step_size)
    return now


def step_ratios(policies, star):
    far = [divergence(star, policy) for policy in policies]
    return torch.stack([b / a for a, b in pairwise(far)])


def longest_step(preference, reference, temperature, star, steps, iterations):
    # All steps at once, along a new first axis.
    gamma = steps.reshape(-1, *(1,) * temperature.ndim)
    now = reference.expand(len(steps), *reference.shape)
    good = torch.ones(len(steps), *temperature.shape, dtype=torch.bool)

    def step(start, opponent):
        kept = (1 / (1 + gamma * temperature))[..., None]
        payoff = (preference @ opponent.exp()[..., None])[..., 0]
        logs = kept * (start + gamma[..., None] * payoff) + (1 - kept) * reference
        return logs.log_softmax(-1)

    far = divergence(star, now)
    for _ in range(iterations):
        now = step(now, step(now, now))
        nearer = divergence(star, now)
        good &= nearer * (1 + gamma * temperature) <= far
        far = nearer
    count = good.long().cumprod(0).sum(0)
    return steps[(count - 1).clamp(min=0)]


def exploitability(preference, policy, reference, temperature):
    payoff = torch.einsum("...ij,...j->...i", preference, policy.exp())
    tau = temperature[..., None]
    best = temperature * torch.logsumexp(reference + payoff / tau, -1)
    return best + temperature * (policy.exp() * (policy - reference)).sum(-1) - 0.5


def queries(temperature, accuracy):
    rows = []
    for tau in temperature.flatten().tolist():
        need = math.log(1 / (2 * tau * accuracy))
        rows.append(
            [
                2 * math.ceil(need / math.log(1 + 2 * tau)),
                math.ceil(need / math.log(1 + 4 * tau**2)),
                math.ceil(8 / (tau**2 * accuracy)) - 1,
            ]
        )
    return torch.tensor(rows, dtype=torch.float64).reshape(*temperature.shape, 3)


def inexact_run(preference, reference, temperature, step_size, errors):
    now = reference
    for k in range(len(errors)):
        game = (preference, now)
        half = magnetic(*game, now, reference, temperature, step_size, errors[k, 0])
        now = magnetic(*game, half, reference, temperature, step_size, errors[k, 1])
    return now
