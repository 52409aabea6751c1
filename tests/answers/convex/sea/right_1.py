"""Loops over rounds and games, numbers one by one."""

import math

import torch


def games(gradients):
    """Every game of a batch as (T, d), with what to put them together again."""
    return gradients.flatten(1, -2).unbind(1) if gradients.ndim > 2 else [gradients]


def optimistic_descent(gradients, radius, bound, delta):
    def project(y):
        length = math.sqrt(float(y @ y))
        return y if length <= radius else radius / length * y

    results = []
    for game in games(gradients):
        anchor = torch.zeros(game.shape[-1], dtype=game.dtype)
        variation, played = 0.0, []
        for t in range(len(game)):
            hint = game[t - 1] if t else 0 * anchor
            eta = 2 * radius / math.sqrt(delta + 4 * bound**2 + variation)
            played.append(project(anchor - eta * hint))
            anchor = project(anchor - eta * game[t])
            variation += float((game[t] - hint) @ (game[t] - hint))
        results.append(torch.stack(played))
    return torch.stack(results, 1).reshape(gradients.shape)


def optimistic_newton(gradients, radius, bound, beta):
    def project(matrix, y):
        # The multiplier by bisection, with a linear system for each.
        eye = torch.eye(len(y), dtype=y.dtype)
        if y.norm() <= radius:
            return y
        low, high = 0.0, float((matrix @ y).norm()) / radius
        for _ in range(50):
            middle = (low + high) / 2
            x = torch.linalg.solve(matrix + middle * eye, matrix @ y)
            if x.norm() > radius:
                low = middle
            else:
                high = middle
        return x

    results = []
    for game in games(gradients):
        d = game.shape[-1]
        matrix = (1 + beta * bound**2) * torch.eye(d, dtype=game.dtype)
        anchor = hint = torch.zeros(d, dtype=game.dtype)
        played = []
        for g in game:
            played.append(project(matrix, anchor - torch.linalg.solve(matrix, hint)))
            anchor = project(matrix, anchor - torch.linalg.solve(matrix, g))
            matrix = matrix + beta / 2 * torch.outer(g, g)
            hint = g
        results.append(torch.stack(played))
    return torch.stack(results, 1).reshape(gradients.shape)


def drift_terms(points, features, targets):
    def gradient(x, a, b):
        return ((a * x).sum(-1) - b)[..., None] * a

    rows = []
    for t in range(1, len(points)):
        now, before = points[t].unsqueeze(-2), points[t - 1].unsqueeze(-2)
        each = gradient(now, features[t], targets[t])
        moved = gradient(now, features[t - 1], targets[t - 1]).mean(-2)
        old = gradient(before, features[t - 1], targets[t - 1])
        parts = (
            each.select(-2, 0) - each.mean(-2),
            each.mean(-2) - moved,
            moved - old.mean(-2),
            old.mean(-2) - old.select(-2, 0),
        )
        rows.append(torch.stack([part.norm(dim=-1) ** 2 for part in parts], -1))
    return torch.stack(rows)


def remaining_moments(gradients):
    rows, before = [], None
    for t in range(len(gradients)):
        left = gradients[t:]
        mean = left.mean(0)
        variance = (left - mean).pow(2).sum(-1).mean(0)
        drift = 0 * variance if before is None else (mean - before).pow(2).sum(-1)
        rows.append(torch.stack([variance, drift], -1))
        before = mean
    return torch.stack(rows)


def beat_optimism(rounds):
    return torch.tensor([(-1.0) ** t for t in range(1, rounds + 1)], dtype=torch.float64)


def hard_deck(losses):
    # Each loss is alone at a place of its own; shifts of a place change no variance.
    deck = torch.full((losses, losses), -3.0, dtype=torch.float64)
    return deck + 2 * torch.eye(losses, dtype=torch.float64)
