"""The library's own functions, which are the answer itself."""

import torch

from mdtheory.convex import double_descent as dd


def descent(features, targets, step_size, steps, initial):
    return dd.gradient_descent_solution(features, targets, step_size, steps, initial)


def first_above(features, targets, test_features, test_targets, marks, level):
    step = torch.linalg.matrix_norm(features, 2) ** -2
    count = marks.reshape(-1, *(1,) * step.ndim)
    beta = dd.gradient_descent_solution(features, targets, step, count)
    fitted = (test_features @ beta[..., None])[..., 0]
    above = (fitted - test_targets).square().mean(-1) > level
    return torch.where(above.any(0), marks[above.double().argmax(0)], torch.inf)


def noise_norms(singular_values, step_size, steps):
    exact = dd.bounds.noise_norm(singular_values, step_size, steps)
    return torch.stack([exact, dd.noise_bound(singular_values.shape[-1], step_size, steps)], -1)


def ridge_distance(features, targets, step_size, steps):
    ridge = dd.ridge_solution(features, targets, 1 / (step_size * steps))
    early = dd.gradient_descent_solution(features, targets, step_size, steps)
    return torch.linalg.vector_norm((features @ (early - ridge)[..., None])[..., 0], dim=-1)


def gaussian_risk(rows, columns, noise, signal):
    price = [dd.bounds.gaussian_noise_risk(rows, int(p), noise) for p in columns]
    return torch.tensor(price) + signal * (1 - rows / columns).clamp(min=0)


def heavy_ball(features, targets, step_size, momentum, steps):
    return dd.heavy_ball_solution(features, targets, step_size, momentum, steps)
