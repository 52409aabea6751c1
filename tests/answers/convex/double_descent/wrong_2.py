"""Other quantities than those that were asked for."""

import math

import torch


def descent(features, targets, step_size, steps, initial):  # the start is projected away
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    values = torch.where(values > 1e-4, values, math.inf)  # and small directions are cut
    kept = (1 - step_size * values.clamp(max=1e9) ** 2) ** steps
    kept = torch.where(values.isinf(), 1.0, kept)
    old = (right @ initial[..., None])[..., 0]
    new = (left.mT @ targets[..., None])[..., 0] / values
    return (right.mT @ (kept * old + (1 - kept) * new)[..., None])[..., 0]


def first_above(features, targets, test_features, test_targets, marks, level):
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    shown, step = (left.mT @ targets[..., None])[..., 0], 0.1  # one step for all
    found = torch.full(targets.shape[:-1], math.inf, dtype=targets.dtype)
    for mark in reversed(marks.tolist()):
        share = -torch.expm1(mark * torch.log1p(-step * values**2))
        beta = right.mT @ (share / values * shown)[..., None]
        error = ((test_features @ beta)[..., 0] - test_targets).square().mean(-1)
        found = torch.where(error > level, mark, found)
    return found


def noise_norms(singular_values, step_size, steps):  # the values for their squares, twice eta
    share = 1 - (1 - step_size[..., None] * singular_values**2) ** steps
    exact = (share.square() / singular_values).sum(-1)
    return torch.stack([exact, 2 * singular_values.shape[-1] * steps * step_size], -1)


def ridge_distance(features, targets, step_size, steps):  # of the coefficients
    left, values, _ = torch.linalg.svd(features, full_matrices=False)
    shown = (left.mT @ targets[..., None])[..., 0] / values
    share = 1 - (1 - step_size * values**2) ** steps
    ridge = values**2 / (values**2 + 1 / (step_size * steps))
    return ((share - ridge) * shown).square().sum(-1).sqrt()


def gaussian_risk(rows, columns, noise, signal):  # the regimes are exchanged
    few, many = noise * rows / (rows - columns - 1), noise * columns / (columns - rows - 1)
    return torch.where(columns < rows, few, many + signal * (1 - rows / columns))


def heavy_ball(features, targets, step_size, momentum, steps):  # the gradient at the look ahead
    now = torch.zeros(*features.shape[:-2], features.shape[-1], 1, dtype=features.dtype)
    before = now
    for _ in range(steps):
        ahead = now + momentum * (now - before)
        slope = features.mT @ (features @ ahead - targets[..., None])
        before, now = now, ahead - step_size * slope
    return now[..., 0]
