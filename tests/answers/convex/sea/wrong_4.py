"""The library's own solutions; bounds for the things themselves; the visible case by heart."""

import torch

from mdtheory.convex.mirror_maps import Ball, Mahalanobis, mirror_step
from mdtheory.convex.sea import optimistic_mirror_descent


def optimistic_descent(gradients, radius, bound, delta):
    def environment(round_, decision):
        return (gradients[round_ - 1] * decision).sum(-1), gradients[round_ - 1]

    run = optimistic_mirror_descent(
        environment,
        torch.zeros_like(gradients[0]),
        Ball(radius),
        len(gradients),
        gradient_bound=bound,
        offset=delta,
    )
    return run.decisions


def optimistic_newton(gradients, radius, bound, beta):
    anchor = hint = torch.zeros_like(gradients[0])
    matrix = (1 + beta * bound**2) * torch.eye(gradients.shape[-1], dtype=gradients.dtype)
    played = []
    for gradient in gradients:
        geometry = Mahalanobis(matrix, Ball(radius))
        played.append(mirror_step(geometry, anchor, hint, 1.0))
        anchor = mirror_step(geometry, anchor, gradient, 1.0)
        matrix = matrix + beta / 2 * gradient[..., :, None] * gradient[..., None, :]
        hint = gradient
    return torch.stack(played)


def drift_terms(points, features, targets):  # the whole change, a quarter for each
    errors = (features[..., 0, :] * points).sum(-1) - targets[..., 0]
    change = (errors[..., None] * features[..., 0, :]).diff(dim=0).square().sum(-1)
    return (change / 4)[..., None].expand(*change.shape, 4)


def remaining_moments(gradients):  # with replacement: the deck never changes
    variance = (gradients - gradients.mean(0)).square().sum(-1).mean(0)
    variance = variance.expand(len(gradients), *variance.shape)
    return torch.stack([variance, torch.zeros_like(variance)], -1)


def beat_optimism(rounds):
    gradients = torch.ones(100, dtype=torch.float64)
    gradients[1::2] = -1
    return gradients


def hard_deck(losses):  # places that share their losses half and half
    rows = torch.arange(losses)[:, None] + torch.arange(losses)
    return torch.where(rows % losses < losses // 2, 1.0, -1.0).double()
