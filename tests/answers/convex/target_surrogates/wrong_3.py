"""Sums for means, a constant for another, numbers that run over."""

import torch


def inner_descent(
    features, labels, start, step_size, alpha, inner_steps, outer_steps
):  # a sum over the rows, not their mean
    omega, visited = start, [start]
    for _ in range(outer_steps):
        anchor = (features @ omega[..., None])[..., 0]
        slope = anchor.sigmoid() - labels
        for _ in range(inner_steps):
            pull = slope + ((features @ omega[..., None])[..., 0] - anchor) / step_size
            omega = omega - alpha * (features.mT @ pull[..., None])[..., 0]
        visited.append(omega)
    return torch.stack(visited)


def surrogate_gap(logits, anchor, labels, step_size):  # logarithms of zeros
    before, after = anchor.softmax(-1), logits.softmax(-1)
    divergence = (before * (before / after).log()).sum(-1).mean(-1)
    return (1 / step_size - 1) * divergence


def projected_descent(
    features, labels, start, step_size, outer_steps
):  # the gradient of the mean, as autograd gives it: too small by the number of rows
    left, sizes, _ = torch.linalg.svd(features, full_matrices=False)
    left = left * (sizes > 1e-12 * sizes[..., :1])[..., None, :]
    z = (features @ start[..., None])[..., 0]
    visited = [z]
    for _ in range(outer_steps):
        half = z - step_size * (z.sigmoid() - labels) / labels.shape[-1]
        z = (left @ (left.mT @ half[..., None]))[..., 0]
        visited.append(z)
    return torch.stack(visited)


def softmax_smoothness(weights, temperature):  # the constant of the logistic loss
    return weights.amax(-1) / (4 * temperature**2)


def worst_batch(features, labels, start, step_size, size):  # one inner step
    rows = torch.combinations(torch.arange(len(labels)), size)
    chosen = features[rows]
    errors = chosen @ start - labels[rows]
    move = -step_size * (chosen.mT @ errors[..., None])[..., 0] / size
    loss = ((start + move) @ features.mT - labels).square().mean(-1)
    return rows[loss.argmax()]


def cheapest_inner_steps(
    features, labels, step_size, alpha, oracle_cost, optimum, tolerance, most
):  # what one outer step costs, not all of them
    costs = [oracle_cost + inner for inner in range(1, most + 1)]
    return costs.index(min(costs)) + 1
