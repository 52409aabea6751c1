"""Good for single games and small numbers, or only nearly allowed."""

import torch


def optimistic_descent(gradients, radius, bound, delta):  # one step size for the whole batch
    hint = anchor = torch.zeros_like(gradients[0])
    variation, played = 0.0, []
    for gradient in gradients:
        step = 2 * radius / (delta + 4 * bound**2 + variation) ** 0.5
        both = anchor - step * torch.stack([hint, gradient])
        both = both * (radius / both.norm(dim=-1, keepdim=True)).clamp(max=1)
        played.append(both[0])
        variation += (gradient - hint).square().sum().item()
        anchor, hint = both[1], gradient
    return torch.stack(played)


def optimistic_newton(gradients, radius, bound, beta):  # the diagonal of the matrix only
    anchor = hint = torch.zeros_like(gradients[0])
    matrix = (1 + beta * bound**2) * torch.ones_like(anchor)
    played = []
    for gradient in gradients:
        points = []
        for slope in (hint, gradient):
            turned = matrix * anchor - slope
            low = torch.zeros_like(turned[..., :1])
            high = turned.norm(dim=-1, keepdim=True) / radius
            for _ in range(60):
                middle = (low + high) / 2
                far = (turned / (matrix + middle)).norm(dim=-1, keepdim=True)
                low = torch.where(far > radius, middle, low)
                high = torch.where(far > radius, high, middle)
            points.append(turned / (matrix + high))
        played.append(points[0])
        anchor, hint = points[1], gradient
        matrix = matrix + beta / 2 * gradient**2
    return torch.stack(played)


def drift_terms(points, features, targets):  # takes the second axis for that of the losses
    def gradients(x, a, b):
        each = ((a * x[..., None, :]).sum(-1) - b)[..., None] * a
        return each[..., 0, :], each.mean(1)

    drawn, mean = gradients(points, features, targets)
    old = gradients(points[1:], features[:-1], targets[:-1])[1]
    parts = [drawn[1:] - mean[1:], mean[1:] - old, old - mean[:-1], mean[:-1] - drawn[:-1]]
    return torch.stack([part.square().sum(-1) for part in parts], -1)


def remaining_moments(gradients):  # the mean of the squares less the square of the mean
    left = torch.arange(len(gradients), 0, -1, dtype=gradients.dtype)
    left = left.reshape(-1, *[1] * (gradients.ndim - 1))
    mean = gradients.flip(0).cumsum(0).flip(0) / left
    square = (gradients**2).flip(0).cumsum(0).flip(0) / left
    variance = (square - mean**2).sum(-1)
    drift = mean.diff(dim=0, prepend=mean[:1]).square().sum(-1)
    return torch.stack([variance, drift], -1)


def beat_optimism(rounds):  # gradients that are too long
    gradients = torch.full((rounds,), 2.0, dtype=torch.float64)
    gradients[1::2] = -2
    return gradients


def hard_deck(losses):  # a gradient of each loss, and no places
    return torch.eye(losses, dtype=torch.float64)[0]
