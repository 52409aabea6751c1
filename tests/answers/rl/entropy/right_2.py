"""Loops over turns, autograd, running sums, the turn of the top by the logistic function."""

import math

import torch


def mean_of_means(entropy, mask):
    turns, tokens = entropy.shape[-2:]
    flat, there = entropy.reshape(-1, turns, tokens), mask.reshape(-1, turns, tokens)
    out = []
    for rows, marks in zip(flat, there, strict=True):
        means = [row[mark].mean() for row, mark in zip(rows, marks, strict=True) if mark.any()]
        out.append(torch.stack(means).mean())
    return torch.stack(out).reshape(entropy.shape[:-2])


def push(entropy, reference, low, high, coefficient, strength):
    inside = torch.full_like(entropy, float(coefficient))
    up, down = inside * (1 + strength), inside * (1 - strength)
    found = torch.where(entropy > high * reference, down, inside)
    return torch.where(entropy < low * reference, up, found)


def smallest_alpha(step, steps, decay):
    x = decay * step / math.floor(steps / 2)
    return torch.tensor(math.exp(x) / (1 + math.exp(x)), dtype=torch.float64)


def smoothing_gradient(logits, reference, low, high, alpha):
    z = torch.nn.Parameter(logits.clone())
    h = torch.distributions.Categorical(logits=z).entropy()
    nearest = h.detach().clamp(low * reference, high * reference)
    (alpha * (h - nearest).abs().mean()).backward()
    return z.grad


def ride(factor, updates, window):
    rows, total = [1.0], 1.0
    for k in range(1, updates):
        length = min(k, window) if window else k
        rows.append(factor * total / length)
        total += rows[-1]
        if window and k >= window:
            total = sum(rows[k - window + 1 :])
    return torch.tensor(rows, dtype=torch.float64)


def drift(reference, slope, turns, largest):
    room = largest - reference
    early = torch.arange(1, min(turns, 200) + 1, dtype=torch.float64)
    path = torch.minimum(slope[..., None] * early, room[..., None])
    return path.sum(-1) + max(0, turns - 200) * room
