"""Something is left out."""

import torch


def inner_descent(
    features, labels, start, step_size, alpha, inner_steps, outer_steps
):  # the proximity: the old gradient again and again
    omega, visited = start, [start]
    for _ in range(outer_steps):
        slope = (features @ omega[..., None])[..., 0].sigmoid() - labels
        move = (features.mT @ slope[..., None])[..., 0] / labels.shape[-1]
        omega = omega - alpha * inner_steps * move
        visited.append(omega)
    return torch.stack(visited)


def surrogate_gap(logits, anchor, labels, step_size):  # the loss is not linear
    before, after = anchor.log_softmax(-1), logits.log_softmax(-1)
    divergence = (before.exp() * (before - after)).sum(-1).mean(-1)
    return divergence / step_size


def projected_descent(
    features, labels, start, step_size, outer_steps
):  # that the columns may depend on each other: normal equations
    z = (features @ start[..., None])[..., 0]
    visited = [z]
    for _ in range(outer_steps):
        half = z - step_size * (z.sigmoid() - labels)
        weights = torch.linalg.solve(features.mT @ features, features.mT @ half[..., None])
        z = (features @ weights)[..., 0]
        visited.append(z)
    return torch.stack(visited)


def softmax_smoothness(weights, temperature):  # the square
    return weights.amax(-1) / (2 * temperature)


def worst_batch(features, labels, start, step_size, size):  # where descent began
    rows = torch.combinations(torch.arange(len(labels)), size)
    chosen = features[rows]
    half = chosen @ start - step_size * (chosen @ start - labels[rows])
    omega = (torch.linalg.pinv(chosen) @ half[..., None])[..., 0]
    loss = (omega @ features.mT - labels).square().mean(-1)
    return rows[loss.argmax()]


def cheapest_inner_steps(
    features, labels, step_size, alpha, oracle_cost, optimum, tolerance, most
):  # the price of a gradient
    return 1
