"""By powers of affine maps, eigenvalues and bisection instead of singular values."""

import math

import torch


def power(matrix, shift, count):
    """(I + matrix)^count - I and the shift of that many affine maps, by repeated squaring."""
    done, reached = torch.zeros_like(matrix), torch.zeros_like(shift)
    while count:
        if count % 2:
            reached = reached + shift + matrix @ reached
            done = done + matrix + matrix @ done
        shift = 2 * shift + matrix @ shift
        matrix = 2 * matrix + matrix @ matrix
        count //= 2
    return done, reached


def descent(features, targets, step_size, steps, initial):
    gram = -step_size * features.mT @ features
    push = step_size * features.mT @ targets[..., None]
    done, reached = power(gram, push, steps)
    return initial + (done @ initial[..., None] + reached)[..., 0]


def first_above(features, targets, test_features, test_targets, marks, level):
    found = torch.full(targets.shape[:-1], math.inf, dtype=targets.dtype)
    step = torch.linalg.matrix_norm(features, 2, keepdim=True) ** -2
    for mark in marks.tolist():
        gram, push = -step * features.mT @ features, step * features.mT @ targets[..., None]
        _, beta = power(gram, push, int(mark))
        error = ((test_features @ beta)[..., 0] - test_targets).square().mean(-1)
        found = torch.where(found.isinf() & (error > level), mark, found)
    return found


def noise_norms(singular_values, step_size, steps):
    reach = (step_size[..., None] * singular_values**2).clamp(max=1)
    share = 1 - (steps * torch.log1p(-reach)).exp()
    small = -torch.expm1(steps * torch.log1p(-reach))
    share = torch.where(share < 0.5, small, share)
    low, high = 0.0, 1.0
    for _ in range(200):  # where 2ta(1 - a)^(t - 1) = 1 - (1 - a)^t
        a = (low + high) / 2
        left = math.exp((steps - 1) * math.log1p(-a)) if a < 1 else 0.0
        rises = 2 * steps * a * left > -math.expm1(steps * math.log1p(-a))
        low, high = (a, high) if rises and steps > 1 else (low, a)
    top = 1.0 if steps == 1 else high
    kept = math.exp(steps * math.log1p(-top)) if top < 1 else 0.0
    bound = (1 - kept) ** 2 / (steps * top) * singular_values.shape[-1] * steps * step_size
    return torch.stack([(share**2 / singular_values**2).sum(-1), bound], -1)


def ridge_distance(features, targets, step_size, steps):
    gram = features @ features.mT
    values, axes = torch.linalg.eigh(gram)
    shown = (axes.mT @ targets[..., None])[..., 0]
    values = values.clamp(min=0)
    kept = (steps * torch.log1p(-(step_size * values).clamp(max=1))).exp()
    penalty = 1 / (step_size * steps)
    return torch.linalg.vector_norm((penalty / (values + penalty) - kept) * shown, dim=-1)


def gaussian_risk(rows, columns, noise, signal):
    results = []
    for p in columns.tolist():
        if p < rows - 1:
            results.append(noise * p / (rows - p - 1))
        elif p > rows + 1:
            results.append(noise * rows / (p - rows - 1) + signal * (p - rows) / p)
        else:
            results.append(math.inf)
    return torch.tensor(results, dtype=torch.float64)


def heavy_ball(features, targets, step_size, momentum, steps):
    beta = torch.zeros(*features.shape[:-2], features.shape[-1], dtype=features.dtype)
    speed = torch.zeros_like(beta)
    for _ in range(steps):
        residual = targets - (features @ beta[..., None])[..., 0]
        speed = momentum * speed + step_size * (features.mT @ residual[..., None])[..., 0]
        beta = beta + speed
    return beta
