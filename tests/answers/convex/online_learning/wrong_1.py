"""Signs, and rounds counted wrongly."""

import torch


def hedge_rounds(losses, step_size):  # knows the loss of the round that it plays
    return (-step_size * losses.cumsum(0)).softmax(-1)


def adagrad_box(gradients, low, high):  # the energy of the rounds before, not of this one
    energy = (gradients**2).cumsum(0) - gradients**2
    steps = torch.where(energy > 0, (high - low) / (2 * energy).sqrt(), torch.zeros_like(energy))
    point = ((low + high) / 2).expand(gradients.shape[1:])
    played = []
    for step, gradient in zip(steps, gradients, strict=True):
        played.append(point)
        point = (point - step * gradient).clamp(low, high)
    return torch.stack(played)


def best_rebalanced(relatives):  # the best single stock
    best = relatives.log().sum(0).argmax(-1)
    return torch.nn.functional.one_hot(best, relatives.shape[-1]).to(relatives.dtype)


def newton_terms(gradients, epsilon):  # the matrix of the round before
    d = gradients.shape[-1]
    outer = gradients[..., :, None] * gradients[..., None, :]
    matrices = epsilon * torch.eye(d, dtype=gradients.dtype) + outer.cumsum(0) - outer
    return (gradients * torch.linalg.solve(matrices, gradients)).sum(-1)


def optimistic_hedge(losses, hints, step_size):  # runs away from the hint
    before = losses.cumsum(0) - losses
    played = (-step_size * (before - hints)).softmax(-1)
    return (played * losses).sum((0, -1)) - losses.sum(0).amin(-1)


def beat_the_leader(rounds):  # good against one way of breaking ties only
    losses = torch.zeros(rounds, 2, dtype=torch.float64)
    losses[0::2, 0] = 1
    losses[1::2, 1] = 1
    return losses
