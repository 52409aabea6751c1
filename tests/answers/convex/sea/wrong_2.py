"""Something is left out, or put in the place of something dearer."""

import torch


def optimistic_descent(gradients, radius, bound, delta):  # one sequence: no anchor of its own
    hint = point = torch.zeros_like(gradients[0])
    variation = torch.zeros_like(gradients[0, ..., :1])
    played = []
    for gradient in gradients:
        played.append(point)
        variation = variation + (gradient - hint).square().sum(-1, keepdim=True)
        step = 2 * radius / (delta + 4 * bound**2 + variation).sqrt()
        point = point - step * (2 * gradient - hint)
        point = point * (radius / point.norm(dim=-1, keepdim=True)).clamp(max=1)
        hint = gradient
    return torch.stack(played)


def optimistic_newton(gradients, radius, bound, beta):  # Euclidean projection, not the matrix's
    anchor = hint = torch.zeros_like(gradients[0])
    eye = torch.eye(gradients.shape[-1], dtype=gradients.dtype)
    matrix = (1 + beta * bound**2) * eye
    played = []
    for gradient in gradients:
        both = torch.stack([hint, gradient], -1)
        both = anchor[..., None] - torch.linalg.solve(matrix.expand(*both.shape[:-1], -1), both)
        both = both * (radius / both.norm(dim=-2, keepdim=True)).clamp(max=1)
        point, anchor = both.unbind(-1)
        played.append(point)
        matrix = matrix + beta / 2 * gradient[..., :, None] * gradient[..., None, :]
        hint = gradient
    return torch.stack(played)


def drift_terms(points, features, targets):  # the squares
    def gradients(x, a, b):
        each = ((a * x[..., None, :]).sum(-1) - b)[..., None] * a
        return each[..., 0, :], each.mean(-2)

    drawn, mean = gradients(points, features, targets)
    old = gradients(points[1:], features[:-1], targets[:-1])[1]
    parts = [drawn[1:] - mean[1:], mean[1:] - old, old - mean[:-1], mean[:-1] - drawn[:-1]]
    return torch.stack([part.norm(dim=-1) for part in parts], -1)


def remaining_moments(gradients):  # the round's own loss
    rows, before = [], None
    for t in range(len(gradients)):
        left = gradients[t + 1 :] if t + 1 < len(gradients) else gradients[t:]
        mean = left.mean(0)
        variance = (left - mean).square().sum(-1).mean(0)
        drift = 0 * variance if before is None else (mean - before).square().sum(-1)
        rows.append(torch.stack([variance, drift], -1))
        before = mean
    return torch.stack(rows)


def beat_optimism(rounds):  # too slow a rhythm: every second hint is right
    return torch.tensor([1.0, 1.0, -1.0, -1.0]).double().repeat(rounds)[:rounds]


def hard_deck(losses):  # the signs alternate, the same at all places
    signs = (-1.0) ** torch.arange(losses, dtype=torch.float64)
    return signs[:, None].expand(losses, 20).clone()
